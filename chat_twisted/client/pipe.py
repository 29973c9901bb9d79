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
from collections.abc import Callable
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

from chat_twisted.client.dialogs import change_account
from chat_twisted.client.export import Export, ExportError
from chat_twisted.client.identity import Identity, IdentityError
from chat_twisted.client.listener import Proof
from chat_twisted.client.session import RECONNECT_FOR, ClientSession
from chat_twisted.core.errors import ChatError
from chat_twisted.core.message import Audience, fold, parse_target
from chat_twisted.refusals import Refusal, refusal_of
from chat_twisted.text import printable_lines
from chat_twisted.ui import commands
from chat_twisted.ui.commands import Command, Mistake, ParsedLine, Say
from chat_twisted.ui.records import Records
from chat_twisted.ui.values import Event, Listed, Received, Seen, conversation_of
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


@dataclass(slots=True)
class _Asked:
    """An unanswered request: a message or a command.

    :ivar to: the target of the message, or the subject of the command.
    :ivar mark: the user's own ID of the request, or None.
    :ivar overdue: the timer of a direct message that is sent but not delivered.
    :ivar export: the export of which a page is requested.
    """

    to: str
    mark: object = None
    command: Command | None = None
    overdue: IDelayedCall | None = None
    export: Export | None = None


@implementer(IHalfCloseableProtocol)
class Pipe(LineReceiver):
    """The protocol of standard input and output, and the listener of a session.

    :ivar done: fires with the exit code when everything has ended and was written.
    :ivar failure: why there was no session, in one line, if the exit code is ``NOT_CONNECTED``.
    :param attach: makes this the protocol of standard input and output. It is called once, when the
        user is registered, so that no input is read before it can be sent.
    :param greet: whether to print a greeting and the changes of the connection.
    :param once: the only line of input; standard input is then not read.
    :param tail: a conversation: only its messages are printed, and standard input is not read.
    :param reconnect: as in ``ClientSession``.
    :param reconnect_for: seconds, as in ``ClientSession``.
    :param token: the stored session token, if the process last ended without QUIT.
    :param remember: called with a session token to store, and with None after QUIT; not called for
        a user who has logged in with a key or password.
    :param renamed: called with the user's new name.
    :param first_id: as in ``ClientSession``.
    """

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE
    transport: Any  # StandardFiles

    def __init__(
        self,
        user: str,
        identity: Identity,
        clock: IReactorTime,
        attach: Callable[[Pipe], object],
        *,
        greet: bool,
        output_format: OutputFormat | None = None,
        once: str = "",
        tail: str = "",
        reconnect: Callable[[ClientSession], Deferred[Any]] | None = None,
        reconnect_for: float = RECONNECT_FOR,
        token: str = "",
        remember: Callable[[str | None], None] = lambda token: None,
        renamed: Callable[[str], None] = lambda name: None,
        first_id: int | None = None,
    ) -> None:
        self.done: Deferred[int] = Deferred()
        self.failure = ""
        self.session = ClientSession(
            user,
            self,
            clock,
            reconnect,
            reconnect_for=reconnect_for,
            token=token,
            first_id=first_id,
        )
        self._user = user
        self._identity = identity
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
        self._proven = False  # whether the user has logged in with a key or password
        self._interrupted = False
        self._leaving = False
        self._ignored: dict[str, str] = {}  # names as they were typed, by folded name
        self._session_over = False
        self._code = OK
        self._unanswered: dict[int, _Asked] = {}  # requests without an answer, by ID
        self._undelivered: dict[int, _Asked] = {}
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
            case Say(to, text):
                self._send(to, text, mark)
            case Command("/quit"):
                self._quitting = True
                self._leave_if_done()
            case Command("/help", topic):
                self._show(self._format.help(mark, topic))
            case Command("/ignore" | "/unignore", name):
                self._ignore(order, name or "", mark)
            case Command("/account", "export", file):
                self._export(order, file or "", mark)
            case Command("/delete", None) if not self._last_sent:
                self._complain(
                    self._format.mistake(mark, "No message was sent yet; /delete NUMBER")
                )
            case Command("/delete", None):
                self._command(replace(order, first=str(self._last_sent)), mark)
            case Command():
                self._command(order, mark)
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
            self._stuck
            or len(self._unanswered) >= WINDOW
            or len(self._undelivered) >= DELIVERY_WINDOW
        )
        if wait and not self.paused:
            self.pauseProducing()  # type: ignore[no-untyped-call]
        elif self.paused and not wait:
            self.resumeProducing()  # type: ignore[no-untyped-call]

    def _send(self, to: str, text: str, mark: object) -> None:
        try:
            self.session.check(to, text)
        except ChatError as error:
            self._complain(self._format.not_sent(mark, to, refusal_of(type(error))))
            return
        self._await(self.session.send(to, text), _Asked(to, mark))

    def _command(self, command: Command, mark: object) -> None:
        try:
            id = commands.ask(self.session, command)
        except ChatError as error:
            self._refused(command, mark, error)
            return
        if id is None:
            Deferred.fromCoroutine(self._change_account(command, mark))
        else:
            self._await(id, _Asked(commands.about(command), mark, command))

    def _export(self, command: Command, file: str, mark: object) -> None:
        try:
            export = Export(file, self._user)
        except ExportError as problem:
            self._complain(self._format.mistake(mark, str(problem)))
            return
        self._await(export.ask(self.session), _Asked("export", mark, command, export=export))

    def _exported(self, asked: _Asked, export: Export, messages: list[Received]) -> None:
        try:
            if export.add(messages):
                self._await(export.ask(self.session), asked)
            else:
                self._show(self._format.noted(asked.mark, export.done))
        except ExportError as problem:
            self._complain(self._format.mistake(asked.mark, str(problem)))

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
        """Ask the user for a password, see ``dialogs.Questions``."""
        return succeed(self._identity.ask_password(what))

    async def _change_account(self, command: Command, mark: object) -> None:
        try:
            id = await change_account(self, self._identity, self.session, command)
        except IdentityError as error:
            self._complain(self._format.mistake(mark, str(error)))
        except ChatError as error:
            self._refused(command, mark, error)
        else:
            self._await(id, _Asked(commands.about(command), mark, command))

    def _refused(self, command: Command, mark: object, error: ChatError) -> None:
        refusal = refusal_of(type(error))
        self._complain(self._format.refused(mark, command, commands.about(command), refusal))

    def _await(self, id: int, asked: _Asked) -> None:
        self._unanswered[id] = asked
        self._read_or_not()

    def _answered(self, id: int) -> _Asked:
        asked = self._unanswered.pop(id)
        self._go_on_reading()
        return asked

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
            self._command(Command("/join", self._tail), None)

    def _has_come(self) -> None:
        self._connected = True
        if not self._proven:
            self._remember(self.session.token)

    def authenticate(self, methods: list[str], challenge: bytes, tries: int) -> Proof | None:
        """Called by the session when the name has an account; see ``Listener.authenticate``."""
        self._proven = True
        identity = self._identity
        match identity.next_method(methods, tries):
            case "publickey":
                try:
                    return Proof(*identity.sign(challenge, self._user, self.session.binding))
                except IdentityError as error:
                    self.failure = str(error)
            case "password":
                if not identity.password and not self._registered:
                    identity.password = identity.ask_password(f"Password of {self._user}: ")
                return Proof(password=identity.password) if identity.password else None
        return None

    def not_registered(self, refusal: Refusal) -> None:
        """Called by the session when the server refuses the registration."""
        self.failure = self.failure or f"ERROR {refusal.code} : {refusal.reason} : {self._user}"

    def received(self, message: Received) -> None:
        """Called by the session when a message has come."""
        if fold(message.sender) in self._ignored:
            return
        if self._tail:
            conversation = conversation_of(message, self._user)
            if fold(conversation) != fold(self._tail.removeprefix("@")):
                return
        self._show(self._format.received(message))

    def sent(self, id: int, number: int, time: str) -> None:
        """Called by the session when a message of this user is committed."""
        asked = self._answered(id)
        self._last_sent = number
        if parse_target(asked.to).audience is Audience.USER:
            asked.overdue = self._clock.callLater(DELIVERY_WITHIN, self._overdue, id)
            self._undelivered[id] = asked
            self._go_on_reading()
            self._show(self._format.accepted(asked.mark, asked.to, number, time))
        else:
            self._show(self._format.sent(asked.mark, asked.to, number, time))
        self._leave_if_done()

    def delivered(self, id: int) -> None:
        """Called by the session when a direct message was delivered."""
        asked = self._undelivered.pop(id, None)
        if asked is not None and asked.overdue is not None:
            asked.overdue.cancel()
            self._go_on_reading()
            self._show(self._format.delivered(asked.mark, asked.to))
            self._leave_if_done()

    def _overdue(self, id: int) -> None:
        asked = self._undelivered.pop(id)
        self._go_on_reading()
        self._show(self._format.overdue(asked.mark, asked.to))
        self._leave_if_done()

    def refused(self, id: int | None, refusal: Refusal) -> None:
        """Called by the session when a request was refused."""
        asked = self._unanswered.get(id) if id is not None else None
        if id is None or asked is None:
            self._complain(self._format.not_sent(None, "anybody", refusal))
            return
        self._answered(id)
        if asked.export is not None:
            asked.export.abandon()
        if asked.command is None:
            self._complain(self._format.not_sent(asked.mark, asked.to, refusal))
        else:
            self._complain(self._format.refused(asked.mark, asked.command, asked.to, refusal))
            if self._tail:  # the conversation of --tail is not available
                self._leave()
        self._leave_if_done()

    def changed(self, id: int, what: str, lines: list[str]) -> None:
        """Called by the session when a change of the account, the status or a sanction is done."""
        asked = self._answered(id)
        assert asked.command is not None
        self._show(self._format.changed(asked.mark, asked.command, what, lines))
        self._leave_if_done()

    def listed(self, id: int, found: Listed) -> None:
        """Called by the session with the answer to WHO, ROOMS or BAN."""
        asked = self._answered(id)
        assert asked.command is not None
        self._show(self._format.listed(asked.mark, asked.command, asked.to, found))
        self._leave_if_done()

    def found(self, id: int, messages: list[Received]) -> None:
        """Called by the session with the answer to HISTORY, SEARCH or ACCOUNT messages."""
        asked = self._answered(id)
        assert asked.command is not None
        if asked.export is not None:
            self._exported(asked, asked.export, messages)
        else:
            self._show(self._format.found(asked.mark, asked.command, messages))
        self._leave_if_done()

    def told(self, id: int | None, event: Event) -> None:
        """Called by the session with each event."""
        if event.verb == "RENAMED" and fold(event.new_name) == fold(self.session.user):
            self._user = self._format.user = event.new_name
            self._renamed(event.new_name)
        mark = None if id is None else self._answered(id).mark
        if not self._tail:
            self._show(self._format.told(mark, event))
        elif event.verb == "LEFT" and (fold(event.user), fold(event.room)) == (
            fold(self._user),
            fold(self._tail),
        ):
            self._complain(self._format.told(mark, event))
            self._leave()
        self._leave_if_done()

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
            self._show(self._format.reconnected())
        if self.session.forgotten and self._tail.startswith("#"):
            self._command(Command("/join", self._tail), None)
        if self._leaving:
            self.session.quit()

    def went_back(self) -> None:
        """Called by the session when the server has lost the newest messages."""
        if not self._tail:
            self._show(self._format.went_back())

    def lost(self, reason: str) -> None:
        """Called by the session when it has ended."""
        for asked in self._undelivered.values():
            if asked.overdue is not None:
                asked.overdue.cancel()
        self._undelivered.clear()
        self._session_over = True
        if not self._registered:
            self._code = NOT_CONNECTED
            self.failure = self.failure or reason or Wording(self._user).over("")
        elif not self._interrupted:
            for asked in self._unanswered.values():
                if asked.export is not None:
                    asked.export.abandon()
                self._complain(self._format.unanswered(asked.mark, asked.to))
            if not self._leaving:
                self._complain(self._format.over(reason))
        if self._leaving and self._connected and not self._proven:
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
        self._pipe.session.stopProducing()
