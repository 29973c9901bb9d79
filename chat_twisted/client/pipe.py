"""Connects standard input and output to a session: for scripts, and for simple terminals.

Each line of input is a message or a command. Each line of output is a message or the answer to a
request. An ``OutputFormat`` parses and formats them: as plain text, or as JSON. This module must
not know sockets or the wire protocol. It is long because it stands between two partners, standard
input and output and the session, and answers the calls of both.

After the end of input, the client stays until every message is answered. So the exit code of ``echo
'@bob: done' | python -m chat_twisted.client ci HOST`` tells whether the server took the message.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted.core.message import Audience, fold, parse_target
from chat_twisted.logs import Logger
from chat_twisted.text import printable_lines
from chat_twisted.ui.asking import Answer, Asker, UserFiles, about
from chat_twisted.ui.commands import Command, Mistake, ParsedLine, Say
from chat_twisted.ui.errors import ClientError, IdentityError, NotConnected, Refused, Sent
from chat_twisted.ui.records import Records
from chat_twisted.ui.session import ChatSession
from chat_twisted.ui.values import (
    Done,
    Event,
    Found,
    Profile,
    Received,
    Seen,
    conversation_of,
)
from chat_twisted.ui.wording import Wording

MAX_LINE = 1024 * 1024
"""Maximum bytes of a line of input; longer lines are refused."""

WINDOW = 64
"""Maximum number of unanswered requests before reading of input is paused."""

DELIVERY_WINDOW = 500
"""Maximum number of undelivered direct messages before reading of input is paused. The server
remembers the senders of only the newest 1000 messages that a user has not confirmed."""

DELIVERY_WITHIN = 10
"""Seconds to wait for the delivery of a direct message. After that it is still stored on the
server."""

OK, REFUSED, NOT_CONNECTED, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: every request succeeded; a request was refused or not answered; there was no session;
Ctrl-C. The last is 128 plus the number of the signal, as in shells."""

INTERRUPTED_WITHIN = 0.5
"""Maximum seconds to wait for the server's BYE, and for standard output, after a signal."""

OutputFormat = Wording | Records


@dataclass(frozen=True, slots=True)
class _Undelivered:
    """A direct message that is sent and not yet delivered.

    :ivar mark: the user's own ID of the request, or None.
    """

    to: str
    mark: object
    overdue: IDelayedCall


@implementer(IHalfCloseableProtocol)
class Pipe(LineReceiver):
    """The protocol of standard input and output, and the listener of a session.

    :ivar done: fires with the exit code when everything has ended and was written.
    :ivar failure: why there was no session, in one line, if the exit code is ``NOT_CONNECTED``.
    :ivar session: the session; to be set before it is connected.
    :param files: the user's key and files.
    :param attach: makes this the protocol of standard input and output. It is called once, when the
        user is registered, so that no input is read before it can be sent.
    :param greet: whether to print a greeting and the changes of the connection.
    :param once: the only line of input; standard input is then not read.
    :param tail: a conversation: only its messages are printed, and standard input is not read.
    :param ask_password: asks the user for a password; the result is empty if nobody can be asked.
    :param remember: called with a session token to store, and with None after QUIT; not called for
        a user who has logged in with a key or password.
    :param renamed: called with the user's new name.
    """

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE
    transport: Any  # StandardFiles
    session: ChatSession

    _log = Logger()

    def __init__(
        self,
        user: str,
        files: UserFiles,
        clock: IReactorTime,
        attach: Callable[[Pipe], object],
        *,
        greet: bool,
        output_format: OutputFormat | None = None,
        once: str = "",
        tail: str = "",
        ask_password: Callable[[str], str] = lambda what: "",
        remember: Callable[[str | None], None] = lambda token: None,
        renamed: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.done: Deferred[int] = Deferred()
        self.failure = ""
        self._user = user
        self._files = files
        self._ask_password = ask_password
        self._clock = clock
        self._attach = attach
        self._greet = greet
        self._format: OutputFormat = output_format or Wording(user)
        self._once = once
        self._tail = tail
        self._begun = False  # whether a line of input was read
        self._ended = False  # whether input has ended
        self._stuck = False  # whether standard output is blocked
        self._quitting = False  # whether the user has quit
        self._remember = remember
        self._renamed = renamed
        self._registered = False
        self._connected = False  # whether there is a registered connection
        self._interrupted = False
        self._leaving = False
        self._ignored: dict[str, str] = {}  # names as they were typed, by folded name
        self._session_over = False
        self._code = OK
        self._unanswered = 0  # the number of requests without an answer
        self._undelivered: dict[int, _Undelivered] = {}  # by the numbers of the messages
        self._last_sent = 0  # the number of the message that was sent last

    # Standard input and output

    def connectionMade(self) -> None:
        """Called by Twisted when standard input and output are attached."""
        self.transport.registerProducer(_Throttle(self), True)

    def lineReceived(self, line: bytes) -> None:
        """Handle a line of input. Called by Twisted."""
        if self._leaving or self._quitting:
            return
        if not self._begun:
            self._begun = True
            line = line.removeprefix(codecs.BOM_UTF8)
        try:
            self._take(*self._format.parse(line.decode()))
        except UnicodeDecodeError:
            self._complain(self._format.mistake(None, "Not UTF-8 : Message not sent"))

    def _take(self, order: ParsedLine | None, mark: object) -> None:
        match order:
            case Say():
                self._start(self._send(order, mark))
            case Command("/quit"):
                self._quitting = True
                self._leave_if_done()
            case Command("/help", topic):
                self._show(self._format.help(mark, topic))
            case Command("/ignore" | "/unignore", name):
                self._ignore(order, name or "", mark)
            case Command("/delete", None) if not self._last_sent:
                self._complain(
                    self._format.mistake(mark, "No message was sent yet; /delete NUMBER")
                )
            case Command("/delete", None):
                self._start(self._command(replace(order, first=str(self._last_sent)), mark))
            case Command():
                self._start(self._command(order, mark))
            case Mistake(text):
                self._complain(self._format.mistake(mark, text))

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line longer than ``MAX_LINE`` and skip its rest. Called by Twisted."""
        self._complain(self._format.mistake(None, "Message too long : Message not sent"))
        self.setRawMode()  # type: ignore[no-untyped-call]
        self.rawDataReceived(line)
        # LineReceiver does not parse the rest of its buffer by itself.
        self._clock.callLater(0, self.dataReceived, b"")

    def rawDataReceived(self, data: bytes) -> None:
        """Skip more of a line that is too long. Called by Twisted."""
        _, end, rest = data.partition(b"\n")
        if end:
            self.setLineMode(rest)  # type: ignore[no-untyped-call]

    def readConnectionLost(self) -> None:
        """Handle the end of input. Called by Twisted."""
        self._ended = True
        # End the last line, which may lack a line end; otherwise this is an ignored empty line.
        self.dataReceived(b"\n")  # type: ignore[no-untyped-call]
        self._leave_if_done()

    def writeConnectionLost(self) -> None:
        """Leave, because standard output was closed by its reader. Called by Twisted."""
        if not self._ended or self._tail:
            self._code = REFUSED
        self.transport.loseConnection()
        self._detached()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by Twisted when all output is written and standard output is closed."""
        self._detached()

    def throttle(self, stuck: bool) -> None:
        """Pause or resume input and session, because standard output blocks or no longer does."""
        self._stuck = stuck
        if stuck:
            self.session.pauseProducing()
        else:
            self.session.resumeProducing()
        self._read_or_not()

    def _read_or_not(self) -> None:
        wait = (
            self._stuck or self._unanswered >= WINDOW or len(self._undelivered) >= DELIVERY_WINDOW
        )
        if wait and not self.paused:
            self.pauseProducing()  # type: ignore[no-untyped-call]
        elif self.paused and not wait:
            self.resumeProducing()  # type: ignore[no-untyped-call]

    def _start(self, request: Coroutine[Any, Any, None]) -> None:
        """Send a request, and handle its answer when it comes."""
        self._unanswered += 1
        Deferred.fromCoroutine(request).addBoth(self._answered)
        self._go_on_reading()

    def _answered(self, result: object) -> None:
        self._unanswered -= 1
        self._go_on_reading()
        self._leave_if_done()
        if isinstance(result, Failure):
            self._log.failure("while a request was handled", result)

    async def _send(self, message: Say, mark: object) -> None:
        to = message.to
        try:
            sent = await self.session.send(to, message.text, message.kind)
        except Refused as problem:
            self._complain(self._format.not_sent(mark, to, problem.refusal))
        except NotConnected:
            self._is_unanswered(mark, to)
        else:
            self._sent(to, mark, sent)

    def _is_unanswered(self, mark: object, to: str) -> None:
        """Called when the session has ended without an answer to a request."""
        if not self._interrupted:
            self._complain(self._format.unanswered(mark, to))

    def _sent(self, to: str, mark: object, sent: Sent) -> None:
        self._last_sent = sent.number
        if parse_target(to).audience is Audience.USER:
            overdue = self._clock.callLater(DELIVERY_WITHIN, self._overdue, sent.number)
            self._undelivered[sent.number] = _Undelivered(to, mark, overdue)
            self._show(self._format.accepted(mark, to, sent.number, sent.time))
        else:
            self._show(self._format.sent(mark, to, sent.number, sent.time))

    async def _command(self, command: Command, mark: object) -> None:
        subject = "export" if command.first == "export" else about(command)
        try:
            answer = await Asker(self.session, self, self._files).perform(command)
        except Refused as problem:
            self._complain(self._format.refused(mark, command, subject, problem.refusal))
            if self._tail:  # the conversation of --tail is not available
                self._leave()
        except NotConnected:
            self._is_unanswered(mark, subject)
        except IdentityError as problem:
            self._complain(self._format.mistake(mark, str(problem)))
        else:
            self._show(self._describe(command, mark, answer))

    def _describe(self, command: Command, mark: object, answer: Answer | str) -> str:
        """Return the text of an answer."""
        match answer:
            case str():
                return self._format.noted(mark, answer)
            case Done(what, lines):
                return self._format.changed(mark, command, what, lines)
            case Event():
                return self._take_event(answer, mark)
            case Found(messages):
                return self._format.found(mark, command, messages)
            case Profile():
                return self._format.described(mark, answer)
        return self._format.listed(mark, command, about(command), answer)

    def _ignore(self, command: Command, name: str, mark: object) -> None:
        if not name:
            words = " ".join(["Ignored:", *self._ignored.values()])
        elif command.name == "/unignore":
            self._ignored.pop(fold(name), None)
            words = f"{name} is not ignored any more"
        else:
            self._ignored[fold(name)] = name
            words = f"{name} is ignored"
        self._show(self._format.noted(mark, words))

    def ask(self, what: str, *, secret: bool) -> Deferred[str]:
        """Ask the user for a password, see ``asking.Questions``."""
        return succeed(self._ask_password(what))

    def _go_on_reading(self) -> None:
        if self.transport is not None:
            self._read_or_not()

    def _show(self, text: str) -> None:
        if text and self.transport is not None:
            self.transport.write(f"{printable_lines(text)}\n".encode())

    def _complain(self, text: str) -> None:
        self._code = REFUSED
        self._show(text)

    # Events of the session

    def registered(self, name: str) -> None:
        """Called by the session when the user is registered."""
        self._registered = True
        self._has_come()
        self._attach(self)
        if self._greet:
            self._show(self._format.greeting(name, self.session.kept))
        if self._once:
            self._take(*self._format.parse_once(self._once))
        if self._tail.startswith("#"):
            self._start(self._command(Command("/join", self._tail), None))

    def _has_come(self) -> None:
        self._connected = True
        if not self.session.proven:
            self._remember(self.session.token)

    def ask_password(self, what: str) -> Deferred[str]:
        """Ask for the password of the login; not at a reconnect, when nobody may be there."""
        return succeed("" if self._registered else self._ask_password(what))

    def not_registered(self, problem: ClientError) -> None:
        """Called by the session when the user can't be registered."""
        if isinstance(problem, Refused):
            self.failure = f"ERROR {problem.code} : {problem.reason} : {self._user}"
        else:
            self.failure = str(problem)

    def received(self, message: Received) -> None:
        """Called by the session when a message has come."""
        if fold(message.sender) in self._ignored:
            return
        if self._tail:
            conversation = conversation_of(message, self._user)
            if fold(conversation) != fold(self._tail.removeprefix("@")):
                return
        self._show(self._format.received(message))

    def delivered(self, number: int) -> None:
        """Called by the session when a direct message was delivered."""
        message = self._undelivered.pop(number, None)
        if message is not None:
            message.overdue.cancel()
            self._go_on_reading()
            self._show(self._format.delivered(message.mark, message.to))
            self._leave_if_done()

    def _overdue(self, number: int) -> None:
        message = self._undelivered.pop(number)
        self._go_on_reading()
        self._show(self._format.overdue(message.mark, message.to))
        self._leave_if_done()

    def refused(self, problem: Refused) -> None:
        """Called by the session when something was refused that is not known here."""
        self._complain(self._format.not_sent(None, "anybody", problem.refusal))

    def told(self, event: Event) -> None:
        """Called by the session with each event that was not asked for."""
        self._show(self._take_event(event, None))

    def _take_event(self, event: Event, mark: object) -> str:
        """Follow an event; return its text."""
        if event.verb == "RENAMED" and fold(event.new_name) == fold(self.session.user):
            self._user = self._format.user = event.new_name
            self._renamed(event.new_name)
        text = self._format.told(mark, event)
        if not self._tail:
            return text
        if event.verb == "LEFT" and (fold(event.user), fold(event.room)) == (
            fold(self._user),
            fold(self._tail),
        ):
            self._complain(text)
            self._leave()
        return ""

    def present(self, users: list[Seen]) -> None:
        """Called by the session after a reconnect, if presence is watched."""

    def seen(self, users: list[Seen]) -> None:
        """Called by the session when the presence of users has changed."""
        self._show(self._format.seen(users))

    def noticed(self, text: str) -> None:
        """Called by the session with a notice from the server."""
        if not self._tail:
            self._show(self._format.noticed(text))

    def disconnected(self, reason: str) -> None:
        """Called by the session when the connection is lost; the session tries to connect again."""
        self._connected = False
        if self._greet:
            self._show(self._format.disconnected(reason))

    def reconnected(self) -> None:
        """Called by the session when it is connected again."""
        self._has_come()
        if self._greet:
            self._show(self._format.reconnected(self.session.moved_to))
        if self._leaving:
            self.session.quit()

    def went_back(self) -> None:
        """Called by the session when the server has lost the newest messages."""
        if not self._tail:
            self._show(self._format.went_back())

    def lost(self, reason: str) -> None:
        """Called by the session when it has ended."""
        for message in self._undelivered.values():
            message.overdue.cancel()
        self._undelivered.clear()
        self._session_over = True
        if not self._registered:
            self._code = NOT_CONNECTED
            self.failure = self.failure or reason or Wording(self._user).over("")
        elif not self._interrupted and not self._leaving:
            self._complain(self._format.over(reason))
        if self._leaving and self._connected and not self.session.proven:
            self._remember(None)  # otherwise the server reserves the name for a return
        self._leaving = True
        if self.transport is None:
            self._done_if_over()
        else:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    # The end

    def _leave_if_done(self) -> None:
        if self.paused or self._unanswered:
            return
        if self._quitting or (self._ended and not self._undelivered and not self._tail):
            self._leave()

    def _leave(self) -> None:
        if not self._leaving:
            self._leaving = True
            self.session.quit()

    def interrupt(self, code: int = INTERRUPTED) -> Deferred[int]:
        """Leave without waiting for answers.

        :return: ``done``, which fires with ``code`` within ``INTERRUPTED_WITHIN`` seconds.
        """
        self._interrupted = True
        self._code = code
        self._leave()
        self._clock.callLater(INTERRUPTED_WITHIN, self._finish)
        return self.done

    def _detached(self) -> None:
        self.transport = None
        self._leave()
        self._done_if_over()

    def _done_if_over(self) -> None:
        if self._session_over and self.transport is None:
            self._finish()

    def _finish(self) -> None:
        if not self.done.called:
            self.done.callback(self._code)


@implementer(IPushProducer)
class _Throttle:
    """The producer that Twisted pauses while standard output blocks."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def pauseProducing(self) -> None:
        self._pipe.throttle(True)

    def resumeProducing(self) -> None:
        self._pipe.throttle(False)

    def stopProducing(self) -> None:
        self._pipe.session.resumeProducing()  # a paused session would not notice its end
