"""The client's side of version 2: one user's session with a server (docs/protocol.rst, Version 2).

``ClientSession`` is the protocol on the connection, and on the next one when that is lost: it comes
back as the same user, asks again what was not answered, and gets what it missed. It sends, numbers
its requests and matches the answers; what happens is told to a ``Listener``. It does not know who
the listener is: standard input and output (``pipe``), or a program.
"""

from __future__ import annotations

import base64
import random
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted.client import incoming
from chat_twisted.client.incoming import Event, Received, Refusal, Seen
from chat_twisted.core.errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    ChatError,
    HeaderIncomplete,
    MessageTooLong,
    TooFast,
    Unavailable,
)
from chat_twisted.core.message import fold, parse_target
from chat_twisted.frames import MAX_BODY, Frame, FrameReader, encode

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

MAX_HELD = 10_000
"""How many messages of one's own name wait until it is known which of them were said here."""

MAX_FOUND = 1000
"""Messages in an answer to HISTORY or SEARCH."""

MAX_GATHERED = 20 * 1024 * 1024
"""How much is kept of answers that are not whole yet, in bytes. A line counts as ``LEAST_LINE``
more than it has, a message as ``LEAST_MESSAGE``."""

LEAST_LINE, LEAST_MESSAGE = 100, 200

MAX_CURSOR = 128
"""Characters of what a list goes on behind."""

GOODBYE_WITHIN = 2
"""Seconds that a server has to close the connection after QUIT."""

SETTLED = 2
"""Seconds that a connection must have stood for the next one to be tried as soon as the first."""

LONGEST_WAIT = 60
"""Seconds that a request which was refused for now is kept back at most, whatever is told."""


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

_BEFORE_REGISTERED = ("REGISTERED", "ERROR", "BYE", "PING", "PONG")
_ANSWERS = {"SEND": "SENT", "JOIN": "JOINED", "LEAVE": "LEFT", "INVITE": "INVITED"}
"""What answers a request that is not answered with its own verb."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Of who one is: a signature by ``key``, or a password."""

    key: str = ""
    signature: bytes = b""
    password: str = ""


@dataclass(slots=True)
class _Request:
    """What was asked and is not answered yet.

    :ivar frame: as it was written.
    :ivar answer: the verb of what answers it.
    :ivar gathered: what has come of an answer of several frames, and ``size`` what that costs.
    :ivar after: what its list goes on behind.
    """

    frame: bytes
    verb: str
    argument: str
    answer: str
    gathered: list[Any] = field(default_factory=list)
    size: int = 0
    after: str = ""


def draw_id() -> int:
    """Draw the first Id of a session, so that no two sessions have one in common."""
    return secrets.randbelow(10**17) + 1


Listed = list[Any]
"""What was asked for: ``Seen`` of WHO, ``Room`` of ROOMS, a line each of BAN."""


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
        """What was asked about an account or a status (``what`` is the request's argument) or of an
        operator is done; ``lines`` are the keys that were asked for.
        """

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

    def listed(self, id: int, found: Listed) -> None:
        """Who is present, which rooms there are, or who is kept out."""

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
        """The session is over: ``reason`` is the server's, or what it did against the protocol, or
        empty if it gave none.
        """


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
        self._is_refused = False  # there will be none
        self._newest = 0  # the number of the last message that was received
        self._leaves = False  # messages that come are left to the server
        self._left = False  # some were, on this connection
        self._unanswered: dict[int, _Request] = {}
        self._gathered = 0  # the size of what has come of answers to these
        self._unsent: set[int] = set()  # those of them that are messages
        self._doubtful: set[int] = set()  # of those: from before the connection was lost
        self._said: set[int] = set()  # the numbers of one's own messages that may come again
        self._said_oldest_first: deque[int] = deque()
        self._held: list[Received] = []  # perhaps said here, perhaps on another connection
        self._again: set[int] = set()  # requests that were refused for now, and newer ones
        self._waiting: IDelayedCall | None = None  # for the time when they may be sent again
        self._refused_since: float | None = None  # for now, all that was asked
        self._instance = secrets.token_urlsafe(12) if instance is None else instance
        self._last_id = (draw_id() if first_id is None else first_id) - 1
        self._registered = False  # on this connection
        self._unheard: IDelayedCall | None = None  # until the server has said anything
        self._registered_at = 0.0
        self._retry: IDelayedCall | None = None
        self._retries = 0
        self._is_lost = False
        self._nothing_since: float | None = None  # has come that one has waited for
        self._methods: list[str] = []
        self._challenge = b""  # empty before the server has asked for a proof on this connection
        self._proving = False  # a proof is on its way
        self._proven = False  # on this connection, by other means than the token
        self._tries = 0  # of a proof of who one is that were refused
        self._over = False
        self._goodbye: IDelayedCall | None = None
        self._reason = ""
        self._heard = False
        self._quiet = 0
        self._answers_came = False  # since it was looked last
        self._paused = False
        self._output = _Output(self._write_late)
        self._late: dict[str, bytes] = {}  # what is written when the server reads again
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
        answer = _ANSWERS.get(verb, verb)
        if verb == "KICK" and argument.startswith("#"):
            answer = "LEFT"
        self._answers_came |= not self._unanswered  # now it begins to wait
        self._unanswered[self._last_id] = _Request(frame, verb, argument, answer)
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
        self.transport.registerProducer(self._output, True)
        self._output.is_full = False
        self._late.clear()
        self._reader = FrameReader(max(self.max_message, MAX_BODY))
        self._heard = self._answers_came = True
        self._quiet = 0
        self._challenge = b""
        self._proving = self._proven = False
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
        if self._over:
            return
        for request in self._unanswered.values():
            self._forget_gathered(request)
        now = self._clock.seconds()
        if self._nothing_since is None:
            self._nothing_since = now
        if was_registered and (self._left or now - self._registered_at >= SETTLED):
            self._retries = 0
        if not self._is_lost:
            self._is_lost = True
            self._listener.disconnected(self._reason)
        if not self._over:  # the listener may have said that it is enough
            self._try_later()

    def _try_later(self, *_: Any) -> None:
        if self._over:
            return
        assert self._nothing_since is not None
        if self._clock.seconds() - self._nothing_since > self._reconnect_for:
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
        waits = self._waits_for_answers()
        answers_came, self._answers_came = self._answers_came, not waits
        if waits and not answers_came:
            self._give_up("the server does not answer")
        elif self._heard or self._paused:
            self._heard = False
            self._quiet = 0
        else:
            self._quiet += 1
            if self._quiet == 1:
                self._write("PING", encode("PING", "idle"))
            else:
                self._give_up("the server does not answer")

    def _waits_for_answers(self) -> bool:
        """Whether it is the server's turn; else it is the user's, or a time must pass."""
        if self._paused or self._waiting is not None:
            return False
        if self._registered:
            return bool(self._unanswered)
        return self._proving or not self._challenge

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

    def _write(self, kind: str, frame: bytes) -> None:
        """Write what nobody has asked for. If the server does not read, the newest of its ``kind``
        is written when it does again.
        """
        if self._output.is_full:
            self._late[kind] = frame
        else:
            self.transport.write(frame)

    def _write_late(self) -> None:
        late, self._late = self._late, {}
        for kind, frame in late.items():
            self._write(kind, frame)

    def dataReceived(self, data: bytes) -> None:
        """Twisted: bytes came."""
        self._heard = True
        self._is_heard()
        before, sender = self._newest, ""
        try:
            self._reader.receive_data(data)
            while (frame := self._reader.next_frame()) is not None:
                if self._over:
                    return
                self._take(frame)
                sender = frame.argument if frame.verb == "FORWARD" else sender
        except ChatError as error:
            # Another connection would bring the same: there is nothing to come back for.
            self._end(f"the server broke the protocol: {error}")
            self.transport.abortConnection()
            return
        if self._newest > before and self._registered:
            # One answer says that all before it are here too.
            self._write("RECEIVED", encode("RECEIVED", sender, [("Message", self._newest)]))

    def _take(self, frame: Frame) -> None:
        take = self._FRAMES.get(frame.verb)
        if take is None:
            return  # what a newer server tells of, and what PONG needn't say
        if not self._registered:
            if frame.verb not in _BEFORE_REGISTERED:
                raise HeaderIncomplete(f"{frame.verb} before REGISTERED")
            if self._is_refused:
                return  # nothing more is wanted
        take(self, frame)

    def _forwarded(self, frame: Frame) -> None:
        message = incoming.message(frame)
        if self._goodbye is not None:
            return  # it is not confirmed any more, and comes again to who has an account
        if message.number > self._newest and not self._is_left():
            self._newest = message.number
            if fold(message.sender) != fold(self.user):
                self._listener.received(message)
            else:
                self._held.append(message)
                if len(self._held) > MAX_HELD:  # rather shown twice than kept without end
                    self._doubtful.clear()
                self._pass_on()
            self._forget_said()

    def _sent(self, frame: Frame) -> None:
        number, time = frame.number("message"), incoming.time(frame)
        if (answered := self._answered(frame)) is not None:
            self._note_said(number)
            self._listener.sent(answered[0], number, time)
            self._pass_on()

    def _delivered(self, frame: Frame) -> None:
        self._listener.delivered(frame.number("id"))

    def _message_found(self, frame: Frame) -> None:
        message = incoming.message(frame)
        request = self._unanswered.get(frame.number("id"))
        if request is None:
            return
        if request.verb not in ("HISTORY", "SEARCH"):
            raise HeaderIncomplete(f"{request.verb} answered with MESSAGE")
        if len(request.gathered) >= MAX_FOUND:
            raise HeaderIncomplete("an answer of too many messages")
        size = frame.number("content-length") if message.text else 0
        self._gather(request, [message], LEAST_MESSAGE + size)

    def _found(self, frame: Frame) -> None:
        if (answered := self._answered(frame)) is not None:
            id, found = answered
            self._listener.found(id, found)

    def _gather(self, request: _Request, found: list[Any], size: int) -> None:
        request.gathered.extend(found)
        request.size += size
        self._gathered += size
        if self._gathered > MAX_GATHERED:
            raise HeaderIncomplete("an answer without an end")

    def _forget_gathered(self, request: _Request) -> None:
        """What has come of an answer was all, or comes again."""
        self._gathered -= request.size
        request.gathered, request.size, request.after = [], 0, ""

    def _banned(self, frame: Frame) -> None:
        if frame.argument:
            self._changed(frame)
        else:
            self._listed(frame)

    def _changed(self, frame: Frame) -> None:
        if (answered := self._answered(frame)) is not None:
            self._listener.changed(answered[0], frame.argument, incoming.lines(frame))

    def _seen(self, frame: Frame) -> None:
        self._listener.seen([incoming.seen(line) for line in incoming.lines(frame)])

    def _noticed(self, frame: Frame) -> None:
        self._listener.noticed(frame.body or "")

    def _pinged(self, frame: Frame) -> None:
        self._write("PONG", encode("PONG", frame.argument))

    def _goodbye_said(self, frame: Frame) -> None:
        self._reason = self._reason or frame.argument
        if frame.headers.get("final", "").lower() == "yes":
            self._reconnect = None

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

    def _asked(self, frame: Frame) -> tuple[int, _Request] | None:
        """Return which request a frame answers; None if that is none that waits.

        :raises HeaderIncomplete: it is no answer to that request.
        """
        id = frame.number("id")
        request = self._unanswered.get(id)
        if request is None:
            return None
        if frame.verb != request.answer:
            raise HeaderIncomplete(f"{request.verb} answered with {frame.verb}")
        if fold(frame.argument) != fold(request.argument):
            raise HeaderIncomplete(f"{frame.verb} about something else than was asked")
        return id, request

    def _answered(self, frame: Frame) -> tuple[int, list[Any]] | None:
        """Take the last frame of an answer; return its request, and what was gathered for it."""
        asked = self._asked(frame)
        if asked is None:
            return None
        id, request = asked
        found = request.gathered
        self._refused_since = None
        self._settle(id)
        return id, found

    def _settle(self, id: int) -> None:
        """A request is answered."""
        self._unsent.discard(id)
        self._doubtful.discard(id)
        self._again.discard(id)
        self._forget_gathered(self._unanswered.pop(id))
        self._answers_came = True
        self._nothing_since = None

    def _welcomed(self, frame: Frame) -> None:
        if self._registered:
            raise HeaderIncomplete("a second REGISTERED")
        welcome = incoming.welcome(frame)
        if fold(welcome.name) != fold(self.user):
            raise HeaderIncomplete("REGISTERED with another name")
        self._registered = self._answers_came = True
        self._registered_at = self._clock.seconds()
        self.max_message = welcome.max_message
        self.last = welcome.last
        self._reader.max_body = max(self.max_message, MAX_BODY)
        first, self._is_known = not self._is_known, True
        self._doubtful = set() if first else set(self._unsent)
        # Of another user nothing has come yet.
        other = welcome.token != self.token and not self._proven
        known = max(self._newest, max(self._said, default=0))
        went_back = self.last < known
        if went_back:
            self._forget_said_after(self.last)
        self._newest = 0 if other else min(self._newest, self.last)
        self.token = welcome.token
        self.forgotten = not first and (other or went_back)
        self._is_lost = False
        if not self._unanswered:
            self._nothing_since = None
        if self._paused:
            self.transport.pauseProducing()
        for request in self._unanswered.values():
            self.transport.write(request.frame)
        if first:
            self._listener.registered(welcome.name)
        else:
            self._listener.reconnected()
        if went_back:
            self._listener.went_back()

    def _told(self, frame: Frame) -> None:
        event = incoming.event(frame)
        if not frame.id:
            self._listener.told(None, event)
        elif (answered := self._answered(frame)) is not None:
            self._listener.told(answered[0], event)

    def _refused(self, frame: Frame) -> None:
        refusal = incoming.refusal(frame)
        if self._registered:
            id = frame.number("id") if frame.id else None
            if self._is_for_later(id, refusal.code, incoming.retry_after(frame)):
                return
            if id is None and refusal.code == HEADER_INCOMPLETE:
                # It closes, and what it is for would be sent again with the next connection.
                id = next(iter(self._unanswered), None)
            if id is None or id in self._unanswered:
                if id is not None:
                    self._settle(id)
                self._listener.refused(id, refusal)
                self._pass_on()
        elif refusal.code in (AUTHENTICATION_REQUIRED, AUTHENTICATION_FAILED):
            self._authenticate(frame, refusal)
        elif not self._is_known:
            self._is_refused = True
            self._listener.not_registered(refusal)
            self.quit()
        elif refusal.code in (UNAVAILABLE, TOO_FAST):
            self.transport.abortConnection()  # and it is tried again
        else:
            self._end(f"ERROR {refusal.code} {refusal.reason}")
            self.transport.abortConnection()

    def _is_for_later(self, id: int | None, code: int, seconds: int | None) -> bool:
        """Keep a request that was refused only for now, and send it again when it helps."""
        if id not in self._unanswered or seconds is None or code not in (UNAVAILABLE, TOO_FAST):
            return False
        now = self._clock.seconds()
        if self._refused_since is None:
            self._refused_since = now
        if now - self._refused_since >= self._reconnect_for:
            return False
        assert id is not None
        self._again.add(id)
        self._forget_gathered(self._unanswered[id])  # a list begins again with its first page
        self._answers_came = True
        self._wait(min(max(1, seconds), LONGEST_WAIT))
        return True

    def _wait(self, seconds: float) -> None:
        if self._waiting is None:
            self._waiting = self._clock.callLater(seconds, self._send_again)

    def _send_again(self) -> None:
        """Send what was refused for now and what was asked since, in its order."""
        self._waiting = None
        if self._output.is_full:  # what was written before is not read yet
            self._wait(1)
            return
        again, self._again = sorted(self._again), set()
        if self._registered:
            for id in again:
                self.transport.write(self._unanswered[id].frame)

    def _wait_no_longer(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._again.clear()

    def _authenticate(self, frame: Frame, refusal: Refusal) -> None:
        if refusal.code == AUTHENTICATION_REQUIRED:
            if self._challenge:
                raise HeaderIncomplete("a second challenge")
            self._tries = 0
            self._methods = frame.headers.get("methods", "").split()
            self._challenge = incoming.challenge(frame)
        elif not self._proving:
            raise HeaderIncomplete("an answer to a proof that was not given")
        else:
            self._tries += 1
        self._proving = False
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
            return
        self._proving = self._answers_came = True
        if proof.key:
            signature = base64.b64encode(proof.signature).decode()
            headers = [("Key", proof.key), ("Signature", signature)]
            self.transport.write(encode("AUTH", "publickey", headers))
        else:
            self.transport.write(encode("AUTH", "password", (), proof.password))

    def _listed(self, frame: Frame) -> None:
        asked = self._asked(frame)
        if asked is None:
            return
        id, request = asked
        read: Callable[[str], Any] = _LINES[frame.verb]
        lines = incoming.lines(frame)
        size = sum(map(len, lines)) + LEAST_LINE * len(lines)
        self._gather(request, [read(line) for line in lines], size)
        after = frame.headers.get("more")
        if after is None:
            found = request.gathered
            self._answered(frame)
            self._listener.listed(id, found)
        elif not lines or not after or len(after) > MAX_CURSOR or after == request.after:
            raise HeaderIncomplete("a list that goes on from nowhere")
        else:
            request.after = after
            self.transport.write(encode(frame.verb, frame.argument, [("Id", id), ("After", after)]))

    _FRAMES: ClassVar[dict[str, Callable[[ClientSession, Frame], None]]] = {
        "FORWARD": _forwarded,
        "SENT": _sent,
        "DELIVERED": _delivered,
        "ERROR": _refused,
        "WHO": _listed,
        "ROOMS": _listed,
        "MESSAGE": _message_found,
        **dict.fromkeys(("HISTORY", "SEARCH"), _found),
        **dict.fromkeys(("JOINED", "LEFT", "TOPIC", "INVITED", "OWNER"), _told),
        "BAN": _banned,
        **dict.fromkeys(("STATUS", "ACCOUNT", "KICK", "UNBAN", "MUTE", "UNMUTE"), _changed),
        "PRESENCE": _seen,
        "NOTICE": _noticed,
        "REGISTERED": _welcomed,
        "PING": _pinged,
        "BYE": _goodbye_said,
    }


_LINES = {"WHO": incoming.seen, "ROOMS": incoming.room, "BAN": incoming.sanction}


@implementer(IPushProducer)
class _Output:
    """Whether the server reads: Twisted pauses it while much waits to be written.

    :param is_empty: called when nothing waits any more.
    """

    def __init__(self, is_empty: Callable[[], None]) -> None:
        self.is_full = False
        self._is_empty = is_empty

    def pauseProducing(self) -> None:
        self.is_full = True

    def resumeProducing(self) -> None:
        self.is_full = False
        self._is_empty()

    def stopProducing(self) -> None:
        """Twisted: the connection is gone."""
