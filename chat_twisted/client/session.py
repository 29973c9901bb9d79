"""The client's side of version 2: one user's session with a server (docs/protocol.rst, Version 2).

``ClientSession`` is the protocol on the connection, and on the next one when that is lost: it comes
back as the same user, asks again what was not answered, and gets what it missed. It sends, numbers
its requests and matches the answers; what happens is told to a ``Listener``. It does not know who
the listener is: standard input and output (``pipe``), or a program.
"""

from __future__ import annotations

import base64
import enum
import random
import re
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted.errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    ChatError,
    HeaderIncomplete,
    MessageTooLong,
    TooFast,
    Unavailable,
)
from chat_twisted.frames import MAX_BODY, Frame, FrameReader, encode
from chat_twisted.message import parse_target

IDLE = 60
"""Seconds of a silent server after which it is asked whether it is there; past twice as many the
connection counts as lost."""

ANSWERED_WITHIN = 20
"""Seconds that a server has for its first word on a connection."""

MAX_ARGUMENT = 480
MAX_TEXTS = 3500
"""Bytes of a request's argument, and of that and its headers together: the rest of the lines that a
server takes is for their names."""

MAX_SAID = 100_000
"""Of how many of one's own messages the numbers are remembered that are newer than what one has
received: coming back brings them all again."""

GOODBYE_WITHIN = 2
"""Seconds that a server has to close the connection after QUIT."""


HEADER_INCOMPLETE = HeaderIncomplete.code
UNAVAILABLE = Unavailable.code
TOO_FAST = TooFast.code
AUTHENTICATION_REQUIRED = AuthenticationRequired.code
AUTHENTICATION_FAILED = AuthenticationFailed.code

FIRST_RETRY = 0.5
LONGEST_RETRY = 30
"""Seconds after which a lost connection is tried again at first, doubled each time, and at most. Of
each the second half is left to chance, so that not all clients of a server come back at once."""

RECONNECT_FOR = 600
"""Seconds for which that is done: the time for which a server keeps a name, if it is not told
otherwise."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it was received. ``to`` is one's own name, a ``#room`` or ``ALL``.

    ``number`` is the server's for the message, ``time`` in the form ``2026-11-23T10:00:00.123Z``.
    """

    number: int
    time: str
    sender: str
    to: str
    text: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server's ERROR: ``code`` and ``reason`` as in the protocol's table."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Proof:
    """Of who one is: a signature by ``key``, or a password."""

    key: str = ""
    signature: bytes = b""
    password: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened in a room: ``verb`` is the protocol's (JOINED, LEFT, TOPIC, INVITED, OWNER),
    ``user`` whom it befell, ``by`` who else did it, ``topic`` the room's where it was told.
    """

    verb: str
    room: str
    user: str
    by: str
    topic: str | None


class State(enum.Enum):
    """Whether somebody reads what is said to him: ``GONE`` is without a connection."""

    HERE = "here"
    AWAY = "away"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Seen:
    """Where somebody is, and what he has said about being away."""

    user: str
    state: State
    why: str = ""


def parse_seen(line: str) -> Seen:
    """Read a line of a WHO or PRESENCE frame: the name, and what is known behind it."""
    user, _, rest = line.partition(" ")
    state, _, why = rest.partition(" ")
    try:
        return Seen(user, State(state or State.HERE.value), why)
    except ValueError:  # a newer server's
        return Seen(user, State.HERE)


def draw_id() -> int:
    """Draw the first Id of a session, so that no two sessions have one in common."""
    return secrets.randbelow(10**17) + 1


class Listener(Protocol):
    """What a session tells of. ``id`` is what the session's method returned that asked for it."""

    def registered(self, name: str) -> None:
        """The server knows the user now, as ``name``: there may be sending and receiving."""

    def authenticate(
        self, methods: list[str], challenge: bytes, tries: int
    ) -> Proof | Deferred[Proof | None] | None:
        """The name has an account: return a proof of who one is, None if there is no (other) one.

        :param tries: how many were refused.
        """

    def changed(self, id: int, what: str, lines: list[str]) -> None:
        """What was asked about an account (``what``) or of an operator is done."""

    def noticed(self, text: str) -> None:
        """The server has something to say to its users."""

    def not_registered(self, refusal: Refusal) -> None:
        """The server does not take the user; the connection is being closed."""

    def received(self, message: Received) -> None:
        """Somebody said something; perhaps oneself, on another connection."""

    def sent(self, id: int, number: int, time: str) -> None:
        """A message of one's own is committed, as ``Received.number`` and at ``Received.time``."""

    def delivered(self, id: int) -> None:
        """A direct message of one's own has reached its recipient."""

    def refused(self, id: int | None, refusal: Refusal) -> None:
        """A request of one's own was refused; None if the server does not say which."""

    def listed(self, id: int, lines: list[str]) -> None:
        """Who is present, or which rooms there are: the lines of WHO or ROOMS."""

    def found(self, id: int, messages: list[Received]) -> None:
        """What HISTORY or SEARCH brought."""

    def told(self, id: int | None, event: Event) -> None:
        """Something happened in a room; ``id`` is None if it was not asked for."""

    def seen(self, users: list[Seen]) -> None:
        """Somebody came, went, or said that he is away or back, since the WHO that asked for it."""

    def disconnected(self, reason: str) -> None:
        """The connection is gone, and is being tried again; nothing is lost."""

    def reconnected(self) -> None:
        """It stands again."""

    def went_back(self) -> None:
        """The server has lost messages that were received here, and so perhaps others: an older
        file of its was put back. Told after ``reconnected``; what comes from now on is new.
        """

    def lost(self, reason: str) -> None:
        """The session is over: ``reason`` is the server's, or empty if it gave none."""


@implementer(IPushProducer)
class ClientSession(protocol.Protocol):
    """A connection to a server. As a producer it can be paused: then nothing more is received.

    :param user: the name to register.
    :param clock: the reactor.
    :param reconnect: connects a session again, and fires or fails when that is done; without
        it, the session ends with the connection.
    :param reconnect_for: seconds for which that is tried; 0: not at all.
    :param token: that proves on this connection who one was on an earlier one.
    :param chance: returns a number from 0 to 1.
    :param first_id: of its requests. A server remembers for a while under which Ids a user has
        sent; the next session of the same user must not begin with the same: see ``draw_id``.
    :param instance: tells the server, on each connection, that this is the same client.
    """

    transport: Any  # ITCPTransport, or what tests have in its place

    def __init__(
        self,
        user: str,
        listener: Listener,
        clock: IReactorTime,
        reconnect: Callable[[ClientSession], Deferred[Any]] | None = None,
        *,
        reconnect_for: float = RECONNECT_FOR,
        token: str = "",
        chance: Callable[[], float] = random.random,
        first_id: int | None = None,
        instance: str | None = None,
    ) -> None:
        self.user = user
        self.where = ""  # the server's address, for what is said of it
        self.binding = b""  # the SHA-256 of the server's certificate; empty without TLS
        self.max_message = MAX_BODY  # bytes; the server says what it is
        self.last = 0  # the number of the newest message when the connection was made
        # Whether the server had let go of the user, or had lost what was last, before the session
        # came back: then it may not know the user's rooms any more.
        self.forgotten = False
        self._listener = listener
        self._clock = clock
        self._reconnect = reconnect if reconnect_for else None
        self._reconnect_for = reconnect_for
        self._chance = chance
        self._reader = FrameReader()
        self.token = token
        self._is_known = False  # there was a registration
        self._newest = 0  # the number of the last message that was received
        self._leaves = False  # messages that come are left to the server
        self._left = False  # some were, on this connection
        self._unanswered: dict[int, bytes] = {}  # requests, as they were written
        self._unsent: set[int] = set()  # those of them that are messages
        self._doubtful: set[int] = set()  # of those: from before the connection was lost
        self._said: set[int] = set()  # the numbers of one's own messages that may come again
        self._said_oldest_first: deque[int] = deque()
        self._held: list[Received] = []  # perhaps said here, perhaps on another connection
        self._lines: dict[int, list[str]] = {}  # of a list that goes on, by the id of the first
        self._found: dict[int, list[Received]] = {}
        self._again: set[int] = set()  # requests that were refused for now, and newer ones
        self._waiting: IDelayedCall | None = None  # for the time when they may be sent again
        self._unavailable_since: float | None = None
        self._instance = secrets.token_urlsafe(12) if instance is None else instance
        self._last_id = (draw_id() if first_id is None else first_id) - 1
        self._registered = False  # on this connection
        self._unheard: IDelayedCall | None = None  # until the server has said anything
        self._retry: IDelayedCall | None = None
        self._retries = 0
        self._lost_at: float | None = None
        self._methods: list[str] = []
        self._challenge = b""
        self._proven = False  # on this connection, by other means than the token
        self._tries = 0  # of a proof of who one is that were refused
        self._over = False
        self._goodbye: IDelayedCall | None = None
        self._reason = ""
        self._heard = False
        self._quiet = 0
        self._paused = False
        self._watch = LoopingCall(self._look)
        self._watch.clock = clock

    # What the user does

    def send(self, to: str, text: str) -> int:
        """Send ``text``; return the id that the listener will hear of. The answer is ``sent`` or
        ``refused``, and ``delivered`` after ``sent`` where ``to`` is a user.
        """
        id = self._request("SEND", to, (), text)
        self._unsent.add(id)
        return id

    def check(self, to: str, text: str) -> None:
        """Look whether there is any sense in sending ``text`` to ``to``.

        :raises UnableToSend, MessageTooLong, HeaderIncomplete: the server would say no, or close.
        """
        parse_target(to)
        self._check_frame(to, (), text)

    def ask(
        self,
        verb: str,
        argument: str = "",
        headers: tuple[tuple[str, object], ...] = (),
        body: str | None = None,
    ) -> int:
        """Ask anything else that the protocol has a verb for; return the id that the listener will
        hear of. The answer is ``listed``, ``found``, ``told``, ``changed`` or ``refused``.

        :raises HeaderIncomplete, MessageTooLong: the server would close the connection for it.
        """
        return self._request(verb, argument, headers, body)

    def quit(self) -> None:
        """Say goodbye. The server closes the connection, and ``lost`` follows."""
        if self._goodbye is not None or self._over:
            return
        if self.connected:
            self.transport.write(encode("QUIT"))
            self._goodbye = self._clock.callLater(GOODBYE_WITHIN, self.transport.abortConnection)
        elif self._is_known:
            self._end("")

    def fail(self, reason: str) -> None:
        """Be over: there is no more connecting again, for this reason."""
        self._end(reason)

    def pauseProducing(self) -> None:
        """Receive nothing for now, because it can't be shown as fast as it comes."""
        self._paused = True
        if self.connected:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Receive again."""
        self._paused = False
        if self.connected:
            self.transport.resumeProducing()

    def leave_messages(self, leave: bool) -> None:
        """Take no messages for now (or take them again), while answers are still read. What is left
        is asked for by coming back on another connection.
        """
        self._leaves = leave
        if self._left and not leave and self.connected:
            self._give_up("more was said than could be read")

    def stopProducing(self) -> None:
        """What is received can't be shown any more. To ``quit`` is for the listener to say."""
        self.resumeProducing()  # else the end of the connection would not be seen

    def _request(
        self,
        verb: str,
        argument: str = "",
        headers: tuple[tuple[str, object], ...] = (),
        body: str | None = None,
    ) -> int:
        self._check_frame(argument, headers, body)
        self._last_id += 1
        frame = encode(verb, argument, [("Id", self._last_id), *headers], body)
        self._unanswered[self._last_id] = frame
        if self._waiting is not None:  # it would overtake what waits
            self._again.add(self._last_id)
        elif self._registered:
            self.transport.write(frame)
        return self._last_id

    def _check_frame(
        self, argument: str, headers: tuple[tuple[str, object], ...], body: str | None
    ) -> None:
        """Raise what the server would close the connection with."""
        texts = [argument, *(str(value) for _, value in headers)]
        try:
            "".join([*texts, body or ""]).encode()
        except UnicodeEncodeError:  # half a character
            raise HeaderIncomplete("not a text") from None
        if any(character in text for text in texts for character in "\n\r\0"):
            raise HeaderIncomplete("a line end or NUL in a header")
        if len(argument.encode()) > MAX_ARGUMENT or len("".join(texts).encode()) > MAX_TEXTS:
            raise HeaderIncomplete("too long")
        if body is not None and "\0" in body:
            raise HeaderIncomplete("a NUL")
        if body is not None and len(body.encode()) > self.max_message:
            raise MessageTooLong

    # What comes

    def connectionMade(self) -> None:
        """Twisted: the connection stands."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # frames are small, and answered one by one
        self._reader = FrameReader(max(self.max_message, MAX_BODY))
        self._heard = True
        self._quiet = 0
        self._proven = False
        self._left = False
        self._reason = ""
        self._watch.start(IDLE, now=False)
        self._unheard = self._clock.callLater(ANSWERED_WITHIN, self._is_silent)
        headers: list[tuple[str, object]] = [("Version", 2), ("Instance", self._instance)]
        if self.token:
            headers.append(("Session", self.token))
        if self._newest:  # else what the user has not confirmed comes
            headers.append(("Resume", self._newest))
        self.transport.write(encode("REGISTER", self.user, headers))

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Twisted: the connection is gone."""
        self.connected = 0
        if self._watch.running:
            self._watch.stop()
        self._is_heard()
        if not self._reason and not reason.check(ConnectionDone, ConnectionLost):
            self._reason = reason.getErrorMessage()
        was_registered, self._registered = self._registered, False
        self._wait_no_longer()  # all is sent again after the next registration
        if self._goodbye is not None or not self._is_known or self._reconnect is None:
            self._end(self._reason)
            return
        self._lines.clear()
        self._found.clear()
        if self._lost_at is None:
            self._lost_at = self._clock.seconds()
            self._listener.disconnected(self._reason)
        if was_registered:
            self._retries = 0
        if not self._over:  # the listener may have said that it is enough
            self._try_later()

    def _try_later(self, *_: Any) -> None:
        if self._over:
            return
        assert self._lost_at is not None
        if self._clock.seconds() - self._lost_at > self._reconnect_for:
            self._end(self._reason)
            return
        wait = min(LONGEST_RETRY, FIRST_RETRY * 2**self._retries) * (1 + self._chance()) / 2
        self._retries = min(self._retries + 1, 10)
        self._retry = self._clock.callLater(wait, self._try_now)

    def _try_now(self) -> None:
        self._retry = None
        assert self._reconnect is not None
        self._reconnect(self).addCallbacks(self._connected_again, self._try_later)

    def _connected_again(self, _: object) -> None:
        if self._over and self.connected:
            self.transport.abortConnection()

    def _end(self, reason: str) -> None:
        if self._goodbye is not None and self._goodbye.active():
            self._goodbye.cancel()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if not self._over:
            self._over = True
            self._doubtful.clear()
            self._pass_on()
            self._listener.lost(reason)

    def _look(self) -> None:
        if self._heard or self._paused:
            self._heard = False
            self._quiet = 0
            return
        self._quiet += 1
        if self._quiet == 1:
            self.transport.write(encode("PING", "idle"))
        else:
            self._give_up("the server does not answer")

    def _is_silent(self) -> None:
        if not self._paused:  # else it is not listened to
            self._give_up(f"no answer from {self.where} within {ANSWERED_WITHIN} s")

    def _give_up(self, reason: str) -> None:
        self._reason = reason
        self.transport.abortConnection()

    def _is_heard(self) -> None:
        if self._unheard is not None and self._unheard.active():
            self._unheard.cancel()
        self._unheard = None

    def dataReceived(self, data: bytes) -> None:
        """Twisted: bytes came."""
        self._heard = True
        self._is_heard()
        before, sender = self._newest, ""
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
                sender = frame.argument if frame.verb == "FORWARD" else sender
        except ChatError:
            self._give_up("what the server says can't be understood")
            return
        if self._newest > before and self._registered:
            # One answer says that all before it are here too.
            self.transport.write(encode("RECEIVED", sender, [("Message", self._newest)]))

    def _take(self, frame: Frame) -> None:
        listener = self._listener
        match frame.verb:
            case "FORWARD" if self._goodbye is not None:
                pass  # it is not confirmed any more, and comes again to who has an account
            case "FORWARD":
                message = _message(frame)
                if message.number > self._newest and not self._is_left():
                    self._newest = message.number
                    if message.sender.lower() != self.user.lower():
                        listener.received(message)
                    else:
                        self._held.append(message)
                        self._pass_on()
                    self._forget_said()
            case "SENT":
                self._unavailable_since = None
                if self._answered(id := frame.number("id")):
                    number = frame.number("message")
                    self._note_said(number)
                    listener.sent(id, number, frame.headers.get("time", ""))
                    self._pass_on()
            case "DELIVERED":
                listener.delivered(frame.number("id"))
            case "ERROR":
                self._refused(frame)
            case "WHO" | "ROOMS":
                self._listed(frame)
            case "MESSAGE":
                self._found.setdefault(frame.number("id"), []).append(_message(frame))
            case "HISTORY" | "SEARCH":
                if self._answered(id := frame.number("id")):
                    listener.found(id, self._found.pop(id, []))
            case "JOINED" | "LEFT" | "TOPIC" | "INVITED" | "OWNER":
                self._told(frame)
            case "BAN" if "count" in frame.headers:
                self._listed(frame)
            case "STATUS" | "ACCOUNT" | "KICK" | "BAN" | "UNBAN" | "MUTE" | "UNMUTE":
                if self._answered(id := frame.number("id")):
                    listener.changed(id, frame.argument, (frame.body or "").splitlines())
            case "PRESENCE":
                listener.seen([parse_seen(line) for line in (frame.body or "").splitlines()])
            case "NOTICE":
                listener.noticed(frame.body or "")
            case "REGISTERED":
                self._welcomed(frame)
            case "PING":
                self.transport.write(encode("PONG", frame.argument))
            case "BYE":
                self._reason = self._reason or frame.argument
                if frame.headers.get("final", "").lower() == "yes":
                    self._reconnect = None
            case _:
                pass  # what a newer server tells of, and what PONG needn't say

    def _is_left(self) -> bool:
        """Whether a new message is not taken: nothing behind one that was left may be."""
        self._left = self._left or self._leaves
        return self._left

    def _note_said(self, number: int) -> None:
        if (number > self._newest or self._held) and number not in self._said:
            self._said.add(number)
            self._said_oldest_first.append(number)
            if len(self._said) > MAX_SAID:
                self._said.remove(self._said_oldest_first.popleft())

    def _forget_said(self) -> None:
        """What is older than what one has received does not come again."""
        order = self._said_oldest_first  # nearly: SENDs are answered in the order of their numbers
        while order and order[0] <= self._newest and not self._held:
            self._said.remove(order.popleft())

    def _forget_said_after(self, last: int) -> None:
        """Forget the numbers of one's own messages that the server has lost."""
        held = {message.number for message in self._held}
        order = [number for number in self._said_oldest_first if number <= last or number in held]
        self._said, self._said_oldest_first = set(order), deque(order)

    def _pass_on(self) -> None:
        """Tell of what one has said on other connections, once it is known what of it was said
        here, on the connection that was lost: coming back brings both.
        """
        if self._held and not self._doubtful:
            held, self._held = self._held, []
            for message in held:
                if message.number not in self._said:
                    self._listener.received(message)

    def _answered(self, id: int) -> bool:
        self._unsent.discard(id)
        self._doubtful.discard(id)
        return self._unanswered.pop(id, None) is not None

    def _welcomed(self, frame: Frame) -> None:
        if self._registered:
            raise HeaderIncomplete("a second REGISTERED")
        self._registered = True
        self.max_message = frame.number("max-message")
        self.last = frame.number("last")
        self._reader.max_body = max(self.max_message, MAX_BODY)
        token = frame.headers.get("session", "")
        first, self._is_known = not self._is_known, True
        self._doubtful = set() if first else set(self._unsent)
        other = token != self.token and not self._proven  # user: of this one nothing has come yet
        known = max(self._newest, max(self._said, default=0))
        went_back = self.last < known
        if went_back:
            self._forget_said_after(self.last)
        self._newest = 0 if other else min(self._newest, self.last)
        self.token = token
        self.forgotten = not first and (other or went_back)
        self._lost_at = None
        if self._paused:
            self.transport.pauseProducing()
        for request in self._unanswered.values():
            self.transport.write(request)
        if first:
            self._listener.registered(frame.argument)
        else:
            self._listener.reconnected()
        if went_back:
            self._listener.went_back()

    def _told(self, frame: Frame) -> None:
        id = frame.number("id") if frame.id else None
        if id is not None and not self._answered(id):
            return
        headers = frame.headers
        user, by = headers.get("user", ""), headers.get("by", "")
        self._listener.told(id, Event(frame.verb, frame.argument, user, by, frame.body))

    def _refused(self, frame: Frame) -> None:
        match = re.match(r"([0-9]{3}) (.*)", frame.argument)
        refusal = Refusal(int(match[1]), match[2]) if match else Refusal(0, frame.argument)
        if why := frame.headers.get("reason"):
            refusal = Refusal(refusal.code, f"{refusal.reason}: {why}")
        if self._registered:
            id = frame.number("id") if frame.id else None
            if self._is_for_later(id, refusal, frame):
                return
            if id is None and refusal.code == HEADER_INCOMPLETE:
                # It closes, and what it is for would be sent again with the next connection.
                id = next(iter(self._unanswered), None)
            if id is None or self._answered(id):
                self._found.pop(id or 0, None)
                self._listener.refused(id, refusal)
                self._pass_on()
        elif refusal.code in (AUTHENTICATION_REQUIRED, AUTHENTICATION_FAILED):
            self._authenticate(frame, refusal)
        elif not self._is_known:
            self._listener.not_registered(refusal)
            self.quit()
        elif refusal.code in (UNAVAILABLE, TOO_FAST):
            self.transport.abortConnection()  # and it is tried again
        else:
            self._end(f"ERROR {refusal.code} {refusal.reason}")
            self.transport.abortConnection()

    def _is_for_later(self, id: int | None, refusal: Refusal, frame: Frame) -> bool:
        """Keep a request that was refused only for now, and send it again when it helps."""
        if id not in self._unanswered or "retry-after" not in frame.headers:
            return False
        now = self._clock.seconds()
        if refusal.code == UNAVAILABLE:
            self._unavailable_since = self._unavailable_since or now
            if now - self._unavailable_since >= self._reconnect_for:
                return False
        elif refusal.code != TOO_FAST:
            return False
        assert id is not None
        self._again.add(id)
        self._lines.pop(id, None)  # a list begins again with its first page
        if self._waiting is None:
            wait = max(1, frame.number("retry-after"))
            self._waiting = self._clock.callLater(wait, self._send_again)
        return True

    def _send_again(self) -> None:
        """Send what was refused for now and what was asked since, in its order."""
        self._waiting = None
        again, self._again = sorted(self._again), set()
        if self._registered:
            for id in again:
                if id in self._unanswered:
                    self.transport.write(self._unanswered[id])

    def _wait_no_longer(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._again.clear()

    def _authenticate(self, frame: Frame, refusal: Refusal) -> None:
        if refusal.code == AUTHENTICATION_REQUIRED:
            self._tries = 0
            self._methods = frame.headers.get("methods", "").split()
            try:
                self._challenge = base64.b64decode(frame.headers.get("challenge", ""))
            except ValueError:
                raise HeaderIncomplete("a challenge that is not base64") from None
        else:
            self._tries += 1
        self._proven = True
        asked = self._listener.authenticate(self._methods, self._challenge, self._tries)
        if isinstance(asked, Deferred):
            asked.addCallback(self._prove, refusal, self._challenge)
        else:
            self._prove(asked, refusal, self._challenge)

    def _prove(self, proof: Proof | None, refusal: Refusal, challenge: bytes) -> None:
        if not self.connected or challenge != self._challenge:
            return  # it took so long that this is another connection
        if proof is None:
            if self._is_known:
                self._end(f"ERROR {refusal.code} {refusal.reason}")
            else:
                self._listener.not_registered(refusal)
            self.transport.abortConnection()  # there is nothing more to say
        elif proof.key:
            signature = base64.b64encode(proof.signature).decode()
            headers = [("Key", proof.key), ("Signature", signature)]
            self.transport.write(encode("AUTH", "publickey", headers))
        else:
            self.transport.write(encode("AUTH", "password", (), proof.password))

    def _listed(self, frame: Frame) -> None:
        id = frame.number("id")
        if id not in self._unanswered:
            return
        lines = self._lines.setdefault(id, [])
        lines.extend((frame.body or "").splitlines())
        if "more" in frame.headers:
            headers = [("Id", id), ("After", frame.headers["more"])]
            self.transport.write(encode(frame.verb, frame.argument, headers))
        elif self._answered(id):
            self._listener.listed(id, self._lines.pop(id))


def _message(frame: Frame) -> Received:
    headers = frame.headers
    return Received(
        frame.number("message"),
        headers.get("time", ""),
        frame.argument,
        headers.get("to", ""),
        frame.body or "",
    )
