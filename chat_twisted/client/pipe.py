"""Standard input and output bridged to a session: for scripts, and for people without a wish.

A line in is a message or a command; a line out is what somebody said, or what became of what one
said oneself, in the words of the original client. It knows neither sockets nor the protocol.

At the end of input it stays until every message is answered, so that
``echo '@bob: done' | python -m chat_twisted.client ci HOST`` can tell by its exit code whether the
message was taken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
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

from chat_twisted.client.identity import Identity, IdentityError
from chat_twisted.client.session import (
    RECONNECT_FOR,
    ClientSession,
    Event,
    Proof,
    Received,
    Refusal,
)
from chat_twisted.errors import ChatError, HeaderIncomplete, MessageTooLong
from chat_twisted.message import Audience, fold, parse_target, printable

MAX_LINE = 1024 * 1024
"""Bytes of a line of input. What is longer is refused here."""

WINDOW = 64
"""How many messages may wait for the server before no more input is read."""

DELIVERY_WINDOW = 500
"""How many direct messages may wait to be delivered before no more input is read: the server
remembers the senders of the newest thousand that somebody has not confirmed."""

DELIVERY_WITHIN = 10
"""Seconds that a direct message's delivery is waited for. The server has it all the same."""

OK, REFUSED, NOT_CONNECTED, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: all was taken; something was refused or not answered; there was no session; Ctrl-C,
with the code that shells have for it."""

INTERRUPTED_WITHIN = 0.5
"""Seconds that Ctrl-C waits at most for the server's goodbye and for standard output."""

FORMAT_HELP = """\
Use the following format for sending messages:
@[RECIPIENT NAME]: Message
"""

HELP = (
    FORMAT_HELP
    + """\
@ALL: Message    to everybody
#room: Message   to a room
/who [#room]     who is here, or in a room
/history [#room|@user] [n]    the last n messages (20) to everybody, of a room, with a user
/search words    messages with all these words
/rooms           which rooms there are
/join #room [private]         be in a room, which is made if it is not there
/leave #room
/topic #room [text]           what a room is about; say so
/invite #room name            let somebody into a private room
/kick #room name              put somebody out of your room
/register        keep your name for ever: it is tied to your key
/password        have a password too, to be asked for
/keys [add FILE|remove KEY]   which keys let you in; one more; one less
/unregister      be a guest again
/ignore [name], /unignore name          don't hear somebody; hear again
/kick name [reason], /ban name|address [10m|2h|7d] [reason], /bans, /unban name|address,
/mute name [10m] [reason], /unmute name       for operators
/help            this text
/quit            leave (so does the end of input)
"""
)

_MESSAGE = re.compile(r"@([^:]*):(.*)|(#[\w-]+)\s*:(.*)", re.DOTALL)

HISTORY_COUNT = 20

_DURATION = re.compile(r"([0-9]{1,9}[smhd]?)(?:\s+|\Z)")

# What a command must look like behind its name, and how that is shown when it does not.
_ROOM = r"(#\S+)"
_COMMANDS = {
    "/who": (rf"{_ROOM}?", "/who [#room]"),
    "/history": (r"(?:([#@]?[A-Za-z_#@-]\S*))?\s*(\d{1,9})?", "/history [#room|@user] [n]"),
    "/search": (r"(.+)", "/search words"),
    "/rooms": (r"", "/rooms"),
    "/join": (rf"{_ROOM}(?:\s+(private))?", "/join #room [private]"),
    "/leave": (_ROOM, "/leave #room"),
    "/topic": (rf"{_ROOM}(?:\s+(.+))?", "/topic #room [text]"),
    "/invite": (rf"{_ROOM}\s+@?(\S+)", "/invite #room name"),
    "/kick": (r"(#\S+\s+@?\S+|[^#\s]\S*(?:\s+.+)?)", "/kick #room name, /kick name [reason]"),
    "/ban": (
        r"@?([^\s#]\S*)(?:\s+(.+))?",
        "/ban name|address|network [duration] [reason]",
    ),
    "/bans": (r"", "/bans"),
    "/unban": (r"@?([^\s#]\S*)", "/unban name|address|network"),
    "/mute": (r"@?([^\s#]\S*)(?:\s+(.+))?", "/mute name [duration] [reason]"),
    "/unmute": (r"@?([^\s#]\S*)", "/unmute name"),
    "/register": (r"", "/register"),
    "/password": (r"", "/password"),
    "/unregister": (r"", "/unregister"),
    "/keys": (r"(?:(add|remove)\s+(.+))?", "/keys [add FILE|remove KEY]"),
}

_WORDS = {102: "Unable to Send", 103: "Incomplete Header"}  # as the original client has them


@implementer(IHalfCloseableProtocol)
class Pipe(LineReceiver):
    """The protocol on standard input and output, and the listener of a session.

    :ivar done: fires with the exit code when all is over and written.
    :ivar failure: why there was no session, in one line, if the exit code is ``NOT_CONNECTED``.
    :param attach: makes this the protocol of standard input and output; called once, when the user
        is registered, so that no input is taken that could not be sent.
    :param greet: whether to say that one is registered, for somebody who looks on.
    """

    delimiter = b"\n"
    MAX_LENGTH = MAX_LINE
    transport: Any  # StandardIO

    def __init__(
        self,
        user: str,
        identity: Identity,
        clock: IReactorTime,
        attach: Callable[[Pipe], object],
        *,
        greet: bool,
        reconnect: Callable[[], Deferred[Any]] | None = None,
        reconnect_for: float = RECONNECT_FOR,
    ) -> None:
        self.done: Deferred[int] = Deferred()
        self.failure = ""
        self.session = ClientSession(user, self, clock, reconnect, reconnect_for=reconnect_for)
        self._user = user
        self._identity = identity
        self._clock = clock
        self._attach = attach
        self._greet = greet
        self._ended = False  # no more input will come
        self._stuck = False  # standard output can't take more
        self._quitting = False  # no more input is wanted
        self._registered = False
        self._leaving = False
        self._ignored: dict[str, str] = {}  # folded names, and as they were written
        self._session_over = False
        self._code = OK
        self._asked: dict[int, str] = {}  # commands by id
        self._unanswered: dict[int, str] = {}  # what the server has yet to take; recipients by id
        self._undelivered: dict[int, tuple[str, IDelayedCall]] = {}

    # Standard input and output

    def connectionMade(self) -> None:
        """Twisted: standard input and output are attached."""
        self.transport.registerProducer(_Throttle(self), True)

    def lineReceived(self, line: bytes) -> None:
        """Twisted: a line was typed."""
        if self._leaving or self._quitting:
            return
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            self._complain("Not UTF-8 : Message not sent")
            return
        message = _MESSAGE.match(text)
        command, _, rest = text.partition(" ")
        if message:
            to, said = message.group(1, 2) if message[3] is None else message.group(3, 4)
            self._send(to.strip(), said.strip())
        elif command in _COMMANDS:
            self._command(command, rest.strip())
        elif command in ("/ignore", "/unignore"):
            self._ignore(command, rest.strip().removeprefix("@"))
        elif text == "/help":
            self._show(HELP)
        elif text == "/quit":
            self._quitting = True
            self._leave_if_done()
        elif text:
            self._complain(FORMAT_HELP)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Twisted: a line is over ``MAX_LINE``. What is left of it is skipped."""
        self._complain("Message too long : Message not sent")
        self.setRawMode()  # type: ignore[no-untyped-call]
        self.rawDataReceived(line)
        # LineReceiver looks no further at what it has now.
        self._clock.callLater(0, self.dataReceived, b"")

    def rawDataReceived(self, data: bytes) -> None:
        """Twisted: more of a line that is too long came."""
        _, end, rest = data.partition(b"\n")
        if end:
            self.setLineMode(rest)  # type: ignore[no-untyped-call]

    def readConnectionLost(self) -> None:
        """Twisted: the end of input."""
        self._ended = True
        # The last line may have no end; one too many is an empty line, which says nothing.
        self.dataReceived(b"\n")  # type: ignore[no-untyped-call]
        self._leave_if_done()

    def writeConnectionLost(self) -> None:
        """Twisted: nobody reads standard output any more."""
        if not self._ended:
            self._code = REFUSED
        self.transport.loseConnection()
        self._detached()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted: all was written, and standard output is closed."""
        self._detached()

    def throttle(self, stuck: bool) -> None:
        """Standard output can't take more (or can again): nothing more is read, here or there."""
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

    def _send(self, to: str, text: str) -> None:
        if not to or not text:
            self._complain(FORMAT_HELP)
            return
        if fold(to) == fold(self._user):
            self._complain("Receiver and Username are same")
            return
        try:
            parse_target(to)
            if len(text.encode()) > self.session.max_message:
                raise MessageTooLong
            if "\0" in text:
                raise HeaderIncomplete
        except ChatError as error:
            self._not_delivered(to, Refusal(error.code, error.reason))
            return
        self._await(self.session.send(to, text), to)

    def _command(self, command: str, rest: str) -> None:
        pattern, usage = _COMMANDS[command]
        match = re.fullmatch(pattern, rest)
        if not match:
            self._complain(f"Usage: {usage}")
            return
        first, second = (*match.groups(), None, None)[:2]
        ask = self.session.ask
        about = first or ""
        match command:
            case "/history":
                about = (first or "ALL").removeprefix("@")
                id = ask("HISTORY", about, (("Count", int(second or HISTORY_COUNT)),))
            case "/search":
                about = ""
                id = ask("SEARCH", "", (), first)
            case "/join":
                id = ask("JOIN", about, (("Private", "yes"),) if second else ())
            case "/topic":
                id = ask("TOPIC", about, (), second)
            case "/register" | "/password" | "/unregister" | "/keys":
                about = ""
                asked = self._ask_about_account(command, first, second)
                if asked is None:
                    return
                id = asked
            case "/invite":
                id = ask("INVITE", about, (("User", second),))
            case "/kick":
                about, _, rest = about.partition(" ")
                rest = rest.strip()
                if about.startswith("#"):
                    id = ask("KICK", about, (("User", rest.removeprefix("@")),))
                else:
                    about = about.removeprefix("@")
                    id = ask("KICK", about, (), rest or None)
            case "/bans":
                id = ask("BAN")
            case "/ban" | "/mute":
                duration = _DURATION.match(second or "")
                headers = (("Duration", duration[1]),) if duration else ()
                reason = (second or "")[duration.end() if duration else 0 :]
                id = ask(command[1:].upper(), about, headers, reason or None)
            case _:
                id = ask(command[1:].upper(), about)
        self._asked[id] = command
        self._await(id, about)

    def _ignore(self, command: str, name: str) -> None:
        if not name:
            self._show(" ".join(["Ignored:", *self._ignored.values()]))
            return
        if command == "/unignore":
            self._ignored.pop(fold(name), None)
            self._show(printable(f"{name} is heard"))
            return
        self._ignored[fold(name)] = name
        self._show(printable(f"{name} is not heard any more"))

    def _ask_about_account(self, command: str, action: str | None, what: str | None) -> int | None:
        ask = self.session.ask
        try:
            match command:
                case "/register":
                    return ask("ACCOUNT", "register", (("Key", self._identity.public()),))
                case "/unregister":
                    return ask("ACCOUNT", "unregister")
                case "/password":
                    password = self._identity.ask_password("New password: ")
                    if not password:
                        self._complain("No password was given")
                        return None
                    if self._identity.ask_password("Again: ") != password:
                        self._complain("The two are not the same")
                        return None
                    self._identity.password = password
                    return ask("ACCOUNT", "password", (), password)
            if action == "add":
                with open(os.path.expanduser(what or "")) as file:
                    what = file.readline().strip()
        except IdentityError as error:
            self._complain(str(error))
            return None
        except (OSError, UnicodeDecodeError) as error:
            self._complain(f"{what}: {getattr(error, 'strerror', None) or 'not a public key'}")
            return None
        key = (("Key", what),) if action else ()
        return ask("ACCOUNT", action or "keys", key)

    def _await(self, id: int, to: str) -> None:
        self._unanswered[id] = to
        self._read_or_not()

    def _answered(self, id: int) -> str:
        to = self._unanswered.pop(id, "")
        self._go_on_reading()
        return to

    def _go_on_reading(self) -> None:
        if self.transport is not None:
            self._read_or_not()

    def _show(self, text: str) -> None:
        if self.transport is not None:
            self.transport.write(f"{text}\n".encode())

    def _complain(self, text: str) -> None:
        self._code = REFUSED
        self._show(text)

    def _not_delivered(self, to: str, refusal: Refusal) -> None:
        words = _WORDS.get(refusal.code, printable(refusal.reason))
        self._complain(f"ERROR {refusal.code} : {words} : Message not delivered to {printable(to)}")

    # The session

    def registered(self, name: str) -> None:
        """Session: there may be sending and receiving."""
        self._registered = True
        self._attach(self)
        if self._greet:
            self._show(f"{printable(name)} : REGISTERED (/help tells what can be typed)")

    def authenticate(self, methods: list[str], challenge: bytes, tries: int) -> Proof | None:
        """Session: the name has an account; the key first, unless there is a password."""
        identity = self._identity
        ways: list[Callable[[], Proof | None]] = []

        def by_key() -> Proof:
            return Proof(*identity.sign(challenge, self._user, self.session.binding))

        def by_password() -> Proof | None:
            password = identity.password
            if not password and not self._registered:
                password = identity.ask_password(f"Password of {self._user}: ")
                identity.password = password  # for when the connection is lost
            return Proof(password=password) if password else None

        if "publickey" in methods and identity.has_key():
            ways.append(by_key)
        if "password" in methods:
            ways.insert(0 if identity.password else len(ways), by_password)
        try:
            return ways[tries]() if tries < len(ways) else None
        except IdentityError as error:
            self.failure = str(error)
            return None

    def changed(self, id: int, what: str, lines: list[str]) -> None:
        """Session: the account is changed, or an operator's wish fulfilled."""
        command = self._asked.pop(id, "")
        self._answered(id)
        words = {
            "register": f"{self._user} is yours from now on",
            "unregister": f"{self._user} has no account any more",
            "password": "The password is set",
            "add": "The key is added",
            "remove": "The key is removed",
        }
        if what == "keys":
            for line in lines or ["No keys"]:
                self._show(printable(line))
        else:
            self._show(words.get(what) or printable(f"Done: {command} {what}"))
        self._leave_if_done()

    def noticed(self, text: str) -> None:
        """Session: the server has something to say."""
        for line in text.splitlines():
            self._show(printable(line))

    def not_registered(self, refusal: Refusal) -> None:
        """Session: the server does not take the user."""
        self.failure = (
            self.failure or f"ERROR {refusal.code} : {printable(refusal.reason)} : {self._user}"
        )

    def received(self, message: Received) -> None:
        """Session: somebody said something."""
        if fold(message.sender) in self._ignored:
            return
        direct = fold(message.to) == fold(self._user)
        self._show_message(
            message.sender if direct else f"{message.sender} to {message.to}", message
        )

    def found(self, id: int, messages: list[Received]) -> None:
        """Session: what was said."""
        self._asked.pop(id, None)
        self._answered(id)
        for message in messages:
            when = message.time[:16].replace("T", " ")
            self._show_message(f"{when} {message.sender} to {message.to}", message)
        if not messages:
            self._show("Nothing found")
        self._leave_if_done()

    def _show_message(self, who: str, message: Received) -> None:
        # Each line has its sender, so that nobody can make a line look like somebody else's.
        for line in message.text.removesuffix("\n").split("\n"):
            self._show(printable(f"{who}: {line.removesuffix(chr(13))}"))

    def sent(self, id: int) -> None:
        """Session: the server has a message."""
        to = self._answered(id)
        if _is_user(to):
            overdue = self._clock.callLater(DELIVERY_WITHIN, self._overdue, id)
            self._undelivered[id] = (to, overdue)
            self._go_on_reading()
        else:
            self._show(f"Message delivered to {to}")
        self._leave_if_done()

    def delivered(self, id: int) -> None:
        """Session: the recipient has a message."""
        to, overdue = self._undelivered.pop(id, ("", None))
        if overdue is not None:
            overdue.cancel()
            self._go_on_reading()
            self._show(f"Message delivered to {to}")
            self._leave_if_done()

    def _overdue(self, id: int) -> None:
        to, _ = self._undelivered.pop(id)
        self._go_on_reading()
        self._show(f"Message sent to {to}, not yet delivered")
        self._leave_if_done()

    def refused(self, id: int | None, refusal: Refusal) -> None:
        """Session: the server did not do what was asked."""
        to = self._answered(id) if id is not None else ""
        command = self._asked.pop(id, None) if id is not None else None
        if command is None:
            self._not_delivered(to or "anybody", refusal)
        else:
            about = f" {to}" if to else ""
            self._complain(printable(f"ERROR {refusal.code} : {refusal.reason} : {command}{about}"))
        self._leave_if_done()

    def listed(self, id: int, lines: list[str]) -> None:
        """Session: who is here, or which rooms there are."""
        room = self._answered(id)
        command = self._asked.pop(id, "/who")
        if command == "/bans":
            for line in lines or ["Nobody is banned or muted"]:
                self._show(printable(line))
        elif command == "/rooms":
            for line in lines:
                name, count, *flags = line.split(" ")
                members = "1 member" if count == "1" else f"{count} members"
                own = ["you are in it" if flag == "member" else flag for flag in flags]
                self._show(printable(", ".join([name, members, *own])))
            if not lines:
                self._show("No rooms")
        else:
            names = " ".join(line.replace(" away", " (away)", 1) for line in lines)
            self._show(printable(f"{len(lines)} {f'in {room}' if room else 'here'}: {names}"))
        self._leave_if_done()

    def told(self, id: int | None, event: Event) -> None:
        """Session: something happened in a room."""
        if id is not None:
            self._asked.pop(id, None)
            self._answered(id)
        room, user, by = event.room, event.user, event.by
        topic = f" ({event.topic})" if event.topic else ""
        match event.verb:
            case "JOINED":
                words = f"{user} joined {room}{topic}"
            case "LEFT":
                words = f"{user} was put out of {room} by {by}" if by else f"{user} left {room}"
            case "INVITED" if fold(user) == fold(self._user):
                words = f"{by} invites you to {room} (/join {room})"
            case "INVITED":
                words = f"{user} is invited to {room}"
            case _ if user:
                words = f"{user} set the topic of {room}: {event.topic or ''}"
            case _:
                words = f"{room}: {event.topic or 'no topic'}"
        self._show(printable(words))
        self._leave_if_done()

    def disconnected(self, reason: str) -> None:
        """Session: the connection is gone, and is being tried again."""
        if self._greet:
            self._show("Connection lost, trying again")

    def reconnected(self) -> None:
        """Session: the connection stands again."""
        if self._greet:
            self._show("Connected again")
        if self._leaving:
            self.session.quit()

    def lost(self, reason: str) -> None:
        """Session: the connection is gone."""
        for _, overdue in self._undelivered.values():
            overdue.cancel()
        self._undelivered.clear()
        self._session_over = True
        if not self._registered:
            self._code = NOT_CONNECTED
            self.failure = self.failure or _inactive(reason)
        elif self._code != INTERRUPTED:
            for to in self._unanswered.values():
                self._complain(f"Server Inactive : Message not delivered to {to}")
            if not self._leaving:
                self._complain(_inactive(reason))
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
        if self._quitting or (self._ended and not self._undelivered):
            self._leave()

    def _leave(self) -> None:
        if not self._leaving:
            self._leaving = True
            self.session.quit()

    def interrupt(self) -> Deferred[int]:
        """Leave without waiting for answers; return ``done``, which fires in half a second."""
        self._code = INTERRUPTED
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
    """What standard output pauses while it can't take more."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def pauseProducing(self) -> None:
        self._pipe.throttle(True)

    def resumeProducing(self) -> None:
        self._pipe.throttle(False)

    def stopProducing(self) -> None:
        self._pipe.session.stopProducing()


def _inactive(reason: str) -> str:
    return f"Server Inactive : {printable(reason)}" if reason else "Server Inactive"


def _is_user(to: str) -> bool:
    return to != "" and parse_target(to).audience is Audience.USER
