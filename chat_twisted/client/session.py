"""The client's side of protocol version 2: one user's session with a server (docs/protocol.rst,
Version 2).

``ClientSession`` is the Twisted protocol of the connection, and of the next one after it was lost:
it resumes as the same user, repeats requests without an answer, and receives missed messages. It
numbers requests, matches answers, and reports events to a ``Listener``. It must not know the kind
of listener: a pipe, a terminal or a bot.
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
from chat_twisted.client.incoming import Event, Received, Seen
from chat_twisted.core.errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    ChatError,
    TooFast,
    Unavailable,
)
from chat_twisted.core.message import fold, parse_target
from chat_twisted.frames import (
    MAX_BODY,
    Frame,
    FrameReader,
    HeaderIncomplete,
    MessageTooLong,
    encode,
)
from chat_twisted.refusals import Refusal, refusal_of

IDLE = 60
"""Seconds of silence after which the client sends PING. After twice as long the connection counts
as lost."""

ANSWERED_WITHIN = 20
"""Seconds to wait for the server's first bytes on a connection."""

MAX_ARGUMENT = 480
MAX_TEXTS = 3500
"""Maximum bytes of a request's argument, and of its argument and headers together. The server's
limits on lines also count the names of headers."""

MAX_OWN_NUMBERS = 100_000
"""Maximum number of remembered message numbers that were sent by this user and are newer than the
last received one: after a reconnect the server sends those messages again."""

MAX_HELD_BACK = 10_000
"""Maximum number of messages under the user's own name that are held back until the client knows
whether it sent them itself."""

MAX_FOUND = 1000
"""Maximum number of messages in an answer to HISTORY or SEARCH."""

MAX_GATHERED = 20 * 1024 * 1024
"""Maximum bytes of unfinished answers. A line counts ``LEAST_LINE`` more than its length, and a
message ``LEAST_MESSAGE`` more."""

LEAST_LINE, LEAST_MESSAGE = 100, 200

MAX_CURSOR = 128
"""Maximum characters of the cursor with which the next page of a list is requested."""

GOODBYE_WITHIN = 2
"""Seconds to wait for the server to close the connection after QUIT."""

SETTLED = 2
"""Seconds that a connection must have lasted for the delay between attempts to start again at
``FIRST_RETRY``."""

LONGEST_WAIT = 60
"""Maximum seconds before a temporarily refused request is repeated, whatever ``Retry-after`` says.
"""


HEADER_INCOMPLETE = refusal_of(HeaderIncomplete).code
UNAVAILABLE = refusal_of(Unavailable).code
TOO_FAST = refusal_of(TooFast).code
AUTHENTICATION_REQUIRED = refusal_of(AuthenticationRequired).code
AUTHENTICATION_FAILED = refusal_of(AuthenticationFailed).code

FIRST_RETRY = 0.5
LONGEST_RETRY = 30
"""Seconds before the first attempt to reconnect, doubled for each further one, and the maximum.
Half of the delay is random, so that the clients of a server don't all reconnect at once."""

RECONNECT_FOR = 600
"""Default number of seconds for which a client tries to reconnect: the default time for which a
server reserves the name of a lost guest."""

_BEFORE_REGISTERED = ("REGISTERED", "ERROR", "BYE", "PING", "PONG")
_ANSWERS = {"SEND": "SENT", "JOIN": "JOINED", "LEAVE": "LEFT", "INVITE": "INVITED"}
"""The verb of the answer, for requests that are not answered with their own verb."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof of identity for a login: a signature by ``key``, or a password."""

    key: str = ""
    signature: bytes = b""
    password: str = ""


@dataclass(slots=True)
class _Request:
    """A request without a complete answer.

    :ivar frame: the encoded frame, to send it again.
    :ivar verb: its verb.
    :ivar argument: its argument.
    :ivar answer: the verb of its answer.
    :ivar gathered: the parts of the answer that have come so far.
    :ivar size: the size of ``gathered`` in bytes, see ``MAX_GATHERED``.
    :ivar after: the cursor of the requested page.
    """

    frame: bytes
    verb: str
    argument: str
    answer: str
    gathered: list[Any] = field(default_factory=list)
    size: int = 0
    after: str = ""


def draw_id() -> int:
    """Draw the first request ID of a session at random, so that sessions don't share IDs."""
    return secrets.randbelow(10**17) + 1


Listed = list[Any]
"""The entries of a list: ``Seen`` for WHO, ``Room`` for ROOMS, text lines for BAN."""


class Listener(Protocol):
    """The interface to which a session reports events.

    ``id`` is the result of the session's method that sent the request.
    """

    def registered(self, name: str) -> None:
        """Called when the user is registered as ``name``; requests can be sent now."""

    def authenticate(
        self, methods: list[str], challenge: bytes, tries: int
    ) -> Proof | Deferred[Proof | None] | None:
        """Called when the name has an account, and again after each refused proof.

        :param methods: the login methods that the server accepts.
        :param challenge: the 32 bytes to sign.
        :param tries: how many proofs were refused so far.
        :return: a proof of identity, or None if there is no further one.
        """

    def changed(self, id: int, what: str, lines: list[str]) -> None:
        """Called when a change of an account, a status or a sanction is done.

        :param what: the argument of the request.
        :param lines: the keys, if they were requested.
        """

    def noticed(self, text: str) -> None:
        """Called with a notice from the server to its users."""

    def not_registered(self, refusal: Refusal) -> None:
        """Called when the server refuses the registration; the connection is being closed."""

    def received(self, message: Received) -> None:
        """Called with each message to the user, and those that the user sent on other
        connections.
        """

    def sent(self, id: int, number: int, time: str) -> None:
        """Called when a message sent on this session is committed.

        :param number: as ``Received.number``.
        :param time: as ``Received.time``.
        """

    def delivered(self, id: int) -> None:
        """Called when a direct message sent on this session was delivered to its recipient."""

    def refused(self, id: int | None, refusal: Refusal) -> None:
        """Called when a request was refused; ``id`` is None if the server names no request."""

    def listed(self, id: int, found: Listed) -> None:
        """Called with the answer to WHO, ROOMS or BAN."""

    def found(self, id: int, messages: list[Received]) -> None:
        """Called with the answer to HISTORY or SEARCH."""

    def told(self, id: int | None, event: Event) -> None:
        """Called when something has changed in a room; ``id`` is None unless it was requested."""

    def seen(self, users: list[Seen]) -> None:
        """Called when the presence of users has changed, after a WHO that subscribed to it."""

    def disconnected(self, reason: str) -> None:
        """Called when the connection is lost. The session tries to reconnect; nothing is lost."""

    def reconnected(self) -> None:
        """Called when the session is connected again."""

    def went_back(self) -> None:
        """Called after ``reconnected`` if the server has lost messages that this client received.

        This happens when an older state of the server was restored; other messages may be lost too.
        Messages received from now on are new.
        """

    def lost(self, reason: str) -> None:
        """Called when the session has ended.

        :param reason: the server's reason, its protocol error, or empty.
        """


@implementer(IPushProducer)
class ClientSession(protocol.Protocol):
    """A session with a server, over one or more connections.

    It is a push producer of events: while it is paused, it receives nothing.

    :param user: the name to register.
    :param clock: the reactor.
    :param reconnect: connects a session again; its result fires or fails when that is done. Without
        it, the session ends with its first connection.
    :param reconnect_for: seconds for which a lost connection is tried again; 0 disables this.
    :param token: the session token of an earlier connection.
    :param chance: returns a random number from 0 to 1.
    :param first_id: the ID of the first request. A server remembers the IDs of a user's messages
        for a while, so the next session of the same user must start with another one; see
        ``draw_id``.
    :param instance: identifies this client to the server on each connection.
    """

    transport: Any  # ITCPTransport, or a substitute in tests

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
        self.where = ""  # the server's address, for messages to the user
        self.binding = b""  # the channel binding: SHA-256 of the certificate; empty without TLS
        self.max_message = MAX_BODY  # bytes; set by the server
        self.last = 0  # the number of the newest message when the session was connected
        # Whether the server had forgotten the user, or lost its newest messages, before the session
        # was resumed. It may then have forgotten the user's rooms.
        self.forgotten = False
        self._listener = listener
        self._clock = clock
        self._reconnect = reconnect if reconnect_for else None
        self._reconnect_for = reconnect_for
        self._chance = chance
        self._reader = FrameReader()
        self.token = token
        self._was_registered = False  # whether the user was ever registered
        self._is_refused = False  # whether the registration was refused
        self._last_received = 0  # the number of the last received message
        self._skips_messages = False  # whether messages are left to the server
        self._has_skipped = False  # whether messages were left on this connection
        self._unanswered: dict[int, _Request] = {}
        self._gathered = 0  # the size of all unfinished answers, in bytes
        self._unsent: set[int] = set()  # the IDs of messages among them
        self._in_doubt: set[int] = set()  # those of them that were sent on a lost connection
        self._own_numbers: set[int] = (
            set()
        )  # numbers of own messages that the server may send again
        self._own_numbers_in_order: deque[int] = deque()
        self._held_back: list[Received] = []  # from this or another connection
        self._deferred: set[int] = set()  # requests refused temporarily, and all after them
        self._deferred_timer: IDelayedCall | None = None  # the timer for sending these again
        self._refused_since: float | None = None  # since when all requests are refused temporarily
        self._instance = secrets.token_urlsafe(12) if instance is None else instance
        self._last_id = (draw_id() if first_id is None else first_id) - 1
        self._registered = False  # on this connection
        self._first_answer_timer: IDelayedCall | None = (
            None  # the timeout for the server's first bytes
        )
        self._registered_at = 0.0
        self._retry: IDelayedCall | None = None
        self._retries = 0
        self._is_lost = False
        self._unanswered_since: float | None = None  # since when no request was answered
        self._methods: list[str] = []
        self._challenge = b""  # empty until the server has sent one on this connection
        self._proving = False  # whether a proof was sent and not yet answered
        self._proven = False  # whether a proof was sent on this connection
        self._tries = 0  # how many proofs were refused on this connection
        self._over = False
        self._quit_timer: IDelayedCall | None = None
        self._reason = ""
        self._got_data = False
        self._silent_checks = 0
        self._answers_came = False  # since the last check
        self._paused = False
        self._output = _Output(self._write_postponed)
        self._postponed: dict[str, bytes] = {}  # frames to write when the server reads again
        self._watch = LoopingCall(self._check_connection)
        self._watch.clock = clock

    # Requests of the user

    def send(self, to: str, text: str) -> int:
        """Send a message; the listener gets ``sent`` or ``refused``, and later perhaps
        ``delivered``.

        :param to: a user, a ``#room`` or ``ALL``.
        :return: the ID of the request.
        :raises HeaderIncomplete, MessageTooLong: as ``check``.
        """
        id = self._request("SEND", to, (), text)
        self._unsent.add(id)
        return id

    def check(self, to: str, text: str) -> None:
        """Check a message without sending it.

        :raises UnableToSend, HeaderIncomplete: if the server would refuse it, or close the
            connection.
        :raises MessageTooLong: if it is too long.
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
        """Send any other request of the protocol.

        The listener gets ``listed``, ``found``, ``told``, ``changed`` or ``refused``.

        :return: the ID of the request.
        :raises HeaderIncomplete, MessageTooLong: if the server would close the connection for it.
        """
        return self._request(verb, argument, headers, body)

    def quit(self) -> None:
        """Send QUIT. The server closes the connection, then the listener gets ``lost``."""
        if self._quit_timer is not None or self._over:
            return
        if self.connected:
            self.transport.write(encode("QUIT"))
            self._quit_timer = self._clock.callLater(GOODBYE_WITHIN, self.transport.abortConnection)
        elif self._was_registered:
            self._end("")

    def fail(self, reason: str) -> None:
        """End the session for this reason, without further attempts to connect."""
        self._end(reason)

    def pauseProducing(self) -> None:
        """Receive nothing for now. Called when events can't be shown as fast as they come."""
        self._paused = True
        if self.connected:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Receive again."""
        self._paused = False
        if self.connected:
            self.transport.resumeProducing()

    def skip_messages(self, skip: bool) -> None:
        """Start or stop leaving messages to the server, while answers are still received.

        Messages that were left are fetched by reconnecting.
        """
        self._skips_messages = skip
        if self._has_skipped and not skip and self.connected:
            self._give_up("more was said than could be read")

    def stopProducing(self) -> None:
        """Called when output is no longer possible. The listener decides whether to quit."""
        self.resumeProducing()  # a paused session would not notice the end of the connection

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
        self._answers_came |= not self._unanswered  # starts to wait now
        self._unanswered[self._last_id] = _Request(frame, verb, argument, answer)
        if self._deferred_timer is not None:  # it must not overtake requests that wait
            self._deferred.add(self._last_id)
        elif self._registered:
            self.transport.write(frame)
        return self._last_id

    def _check_frame(
        self, argument: str, headers: tuple[tuple[str, object], ...], body: str | None
    ) -> None:
        """Raise an error for a request for which the server would close the connection."""
        texts = [argument, *(str(value) for _, value in headers)]
        try:
            "".join([*texts, body or ""]).encode()
        except UnicodeEncodeError:  # a lone surrogate
            raise HeaderIncomplete("not a text") from None
        if any(character in text for text in texts for character in "\n\r\0"):
            raise HeaderIncomplete("a line end or NUL in a header")
        if len(argument.encode()) > MAX_ARGUMENT or len("".join(texts).encode()) > MAX_TEXTS:
            raise HeaderIncomplete("too long")
        if body is not None and "\0" in body:
            raise HeaderIncomplete("a NUL")
        if body is not None and len(body.encode()) > self.max_message:
            raise MessageTooLong("over the server's limit")

    # Input

    def connectionMade(self) -> None:
        """Register. Called by Twisted when a connection is made."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # frames are small, and answered one by one
        self.transport.registerProducer(self._output, True)
        self._output.is_full = False
        self._postponed.clear()
        self._reader = FrameReader(max(self.max_message, MAX_BODY))
        self._got_data = self._answers_came = True
        self._silent_checks = 0
        self._challenge = b""
        self._proving = self._proven = False
        self._has_skipped = False
        self._reason = ""
        self._watch.start(IDLE, now=False)
        self._first_answer_timer = self._clock.callLater(
            ANSWERED_WITHIN, self._first_answer_timed_out
        )
        headers: list[tuple[str, object]] = [("Version", 2), ("Instance", self._instance)]
        if self.token:
            headers.append(("Session", self.token))
        if self._last_received:  # otherwise the server sends all unconfirmed messages
            headers.append(("Resume", self._last_received))
        self.transport.write(encode("REGISTER", self.user, headers))

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Reconnect or end. Called by Twisted when the connection is lost."""
        self.connected = 0
        if self._watch.running:
            self._watch.stop()
        self._cancel_first_answer_timer()
        if not self._reason and not reason.check(ConnectionDone, ConnectionLost):
            self._reason = reason.getErrorMessage()
        was_registered, self._registered = self._registered, False
        self._cancel_deferred()  # all requests are sent again after the next registration
        if self._quit_timer is not None or not self._was_registered or self._reconnect is None:
            self._end(self._reason)
        if self._over:
            return
        for request in self._unanswered.values():
            self._forget_gathered(request)
        now = self._clock.seconds()
        if self._unanswered_since is None:
            self._unanswered_since = now
        if was_registered and (self._has_skipped or now - self._registered_at >= SETTLED):
            self._retries = 0
        if not self._is_lost:
            self._is_lost = True
            self._listener.disconnected(self._reason)
        if not self._over:  # the listener may have ended the session
            self._try_later()

    def _try_later(self, *_: Any) -> None:
        if self._over:
            return
        assert self._unanswered_since is not None
        if self._clock.seconds() - self._unanswered_since > self._reconnect_for:
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
        if self._quit_timer is not None and self._quit_timer.active():
            self._quit_timer.cancel()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if not self._over:
            self._over = True
            self._in_doubt.clear()
            self._report_held_back()
            self._listener.lost(reason)

    def _check_connection(self) -> None:
        waits = self._waits_for_answers()
        answers_came, self._answers_came = self._answers_came, not waits
        if waits and not answers_came:
            self._give_up("the server does not answer")
        elif self._got_data or self._paused:
            self._got_data = False
            self._silent_checks = 0
        else:
            self._silent_checks += 1
            if self._silent_checks == 1:
                self._write("PING", encode("PING", "idle"))
            else:
                self._give_up("the server does not answer")

    def _waits_for_answers(self) -> bool:
        """Return whether an answer is due from the server, rather than input from the user or a
        timer.
        """
        if self._paused or self._deferred_timer is not None:
            return False
        if self._registered:
            return bool(self._unanswered)
        return self._proving or not self._challenge

    def _first_answer_timed_out(self) -> None:
        if not self._paused:  # a paused session can't hear it
            self._give_up(f"no answer from {self.where} within {ANSWERED_WITHIN} s")

    def _give_up(self, reason: str) -> None:
        self._reason = reason
        self.transport.abortConnection()

    def _cancel_first_answer_timer(self) -> None:
        if self._first_answer_timer is not None and self._first_answer_timer.active():
            self._first_answer_timer.cancel()
        self._first_answer_timer = None

    def _write(self, kind: str, frame: bytes) -> None:
        """Write an unrequested frame. While the server does not read, only the newest frame of each
        ``kind`` is kept, and written when it reads again.
        """
        if self._output.is_full:
            self._postponed[kind] = frame
        else:
            self.transport.write(frame)

    def _write_postponed(self) -> None:
        late, self._postponed = self._postponed, {}
        for kind, frame in late.items():
            self._write(kind, frame)

    def dataReceived(self, data: bytes) -> None:
        """Handle the frames in ``data``. Called by Twisted when data is received."""
        self._got_data = True
        self._cancel_first_answer_timer()
        before, sender = self._last_received, ""
        try:
            self._reader.receive_data(data)
            while (frame := self._reader.next_frame()) is not None:
                if self._over:
                    return
                self._take(frame)
                sender = frame.argument if frame.verb == "FORWARD" else sender
        except ChatError as error:
            # The same would come on another connection, so the session does not reconnect.
            self._end(f"the server broke the protocol: {error}")
            self.transport.abortConnection()
            return
        if self._last_received > before and self._registered:
            # RECEIVED is cumulative.
            self._write("RECEIVED", encode("RECEIVED", sender, [("Message", self._last_received)]))

    def _take(self, frame: Frame) -> None:
        take = self._FRAMES.get(frame.verb)
        if take is None:
            return  # a verb that only a newer server sends, or PONG
        if not self._registered:
            if frame.verb not in _BEFORE_REGISTERED:
                raise HeaderIncomplete(f"{frame.verb} before REGISTERED")
            if self._is_refused:
                return  # nothing more is expected
        take(self, frame)

    def _forwarded(self, frame: Frame) -> None:
        message = incoming.message(frame)
        if self._quit_timer is not None:
            return  # it can't be confirmed now; an account gets it again
        if message.number > self._last_received and not self._must_skip():
            self._last_received = message.number
            if fold(message.sender) != fold(self.user):
                self._listener.received(message)
            else:
                self._held_back.append(message)
                # rather show a message twice than keep an unbounded number
                if len(self._held_back) > MAX_HELD_BACK:
                    self._in_doubt.clear()
                self._report_held_back()
            self._forget_own_numbers()

    def _sent(self, frame: Frame) -> None:
        number, time = frame.number("message"), incoming.time(frame)
        if (answered := self._answered(frame)) is not None:
            self._note_own_number(number)
            self._listener.sent(answered[0], number, time)
            self._report_held_back()

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
        """Drop the parts of an answer: it is complete, or will be sent again."""
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

    def _presence_changed(self, frame: Frame) -> None:
        self._listener.seen([incoming.seen(line) for line in incoming.lines(frame)])

    def _noticed(self, frame: Frame) -> None:
        self._listener.noticed(frame.body or "")

    def _pinged(self, frame: Frame) -> None:
        self._write("PONG", encode("PONG", frame.argument))

    def _said_bye(self, frame: Frame) -> None:
        self._reason = self._reason or frame.argument
        if frame.headers.get("final", "").lower() == "yes":
            self._reconnect = None

    def _must_skip(self) -> bool:
        """Return whether a new message is left to the server, as all after the first
        left one are.
        """
        self._has_skipped = self._has_skipped or self._skips_messages
        return self._has_skipped

    def _note_own_number(self, number: int) -> None:
        if (number > self._last_received or self._held_back) and number not in self._own_numbers:
            self._own_numbers.add(number)
            self._own_numbers_in_order.append(number)
            if len(self._own_numbers) > MAX_OWN_NUMBERS:
                self._own_numbers.remove(self._own_numbers_in_order.popleft())

    def _forget_own_numbers(self) -> None:
        """Forget the numbers of own messages that the server will not send again."""
        order = self._own_numbers_in_order  # nearly sorted: the server answers SENDs in order
        while order and order[0] <= self._last_received and not self._held_back:
            self._own_numbers.remove(order.popleft())

    def _forget_lost_numbers(self, last: int) -> None:
        """Forget the numbers of own messages that the server has lost."""
        held = {message.number for message in self._held_back}
        order = [
            number for number in self._own_numbers_in_order if number <= last or number in held
        ]
        self._own_numbers, self._own_numbers_in_order = set(order), deque(order)

    def _report_held_back(self) -> None:
        """Report held messages that the user sent on other connections.

        After a reconnect the server sends both these and the messages of this session, so this
        waits until the outcome of all sent messages is known.
        """
        if self._held_back and not self._in_doubt:
            held, self._held_back = self._held_back, []
            for message in held:
                if message.number not in self._own_numbers:
                    self._listener.received(message)

    def _request_of(self, frame: Frame) -> tuple[int, _Request] | None:
        """Return the request that a frame answers, or None if it is not waiting.

        :raises HeaderIncomplete: if the frame does not match that request.
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
        """Handle the last frame of an answer; return the request's ID and the gathered parts."""
        asked = self._request_of(frame)
        if asked is None:
            return None
        id, request = asked
        found = request.gathered
        self._refused_since = None
        self._settle(id)
        return id, found

    def _settle(self, id: int) -> None:
        """Remove a request that was answered."""
        self._unsent.discard(id)
        self._in_doubt.discard(id)
        self._deferred.discard(id)
        self._forget_gathered(self._unanswered.pop(id))
        self._answers_came = True
        self._unanswered_since = None

    def _registered_as(self, frame: Frame) -> None:
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
        first, self._was_registered = not self._was_registered, True
        self._in_doubt = set() if first else set(self._unsent)
        # A new user has received nothing yet.
        other = welcome.token != self.token and not self._proven
        known = max(self._last_received, max(self._own_numbers, default=0))
        went_back = self.last < known
        if went_back:
            self._forget_lost_numbers(self.last)
        self._last_received = 0 if other else min(self._last_received, self.last)
        self.token = welcome.token
        self.forgotten = not first and (other or went_back)
        self._is_lost = False
        if not self._unanswered:
            self._unanswered_since = None
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

    def _room_changed(self, frame: Frame) -> None:
        event = incoming.event(frame)
        if not frame.id:
            self._listener.told(None, event)
        elif (answered := self._answered(frame)) is not None:
            self._listener.told(answered[0], event)

    def _refused(self, frame: Frame) -> None:
        refusal = incoming.refusal(frame)
        if self._registered:
            id = frame.number("id") if frame.id else None
            if self._defer(id, refusal.code, incoming.retry_after(frame)):
                return
            if id is None and refusal.code == HEADER_INCOMPLETE:
                # The server closes the connection; the request would be sent again on the next one.
                id = next(iter(self._unanswered), None)
            if id is None or id in self._unanswered:
                if id is not None:
                    self._settle(id)
                self._listener.refused(id, refusal)
                self._report_held_back()
        elif refusal.code in (AUTHENTICATION_REQUIRED, AUTHENTICATION_FAILED):
            self._authenticate(frame, refusal)
        elif not self._was_registered:
            self._is_refused = True
            self._listener.not_registered(refusal)
            self.quit()
        elif refusal.code in (UNAVAILABLE, TOO_FAST):
            self.transport.abortConnection()  # then it is tried again
        else:
            self._end(f"ERROR {refusal}")
            self.transport.abortConnection()

    def _defer(self, id: int | None, code: int, seconds: int | None) -> bool:
        """Repeat a temporarily refused request after ``seconds``; return whether it can be."""
        if id not in self._unanswered or seconds is None or code not in (UNAVAILABLE, TOO_FAST):
            return False
        now = self._clock.seconds()
        if self._refused_since is None:
            self._refused_since = now
        if now - self._refused_since >= self._reconnect_for:
            return False
        assert id is not None
        self._deferred.add(id)
        self._forget_gathered(self._unanswered[id])  # a list starts again with its first page
        self._answers_came = True
        self._wait(min(max(1, seconds), LONGEST_WAIT))
        return True

    def _wait(self, seconds: float) -> None:
        if self._deferred_timer is None:
            self._deferred_timer = self._clock.callLater(seconds, self._send_deferred)

    def _send_deferred(self) -> None:
        """Send the temporarily refused requests and all after them, in order."""
        self._deferred_timer = None
        if self._output.is_full:  # earlier output was not read yet
            self._wait(1)
            return
        again, self._deferred = sorted(self._deferred), set()
        if self._registered:
            for id in again:
                self.transport.write(self._unanswered[id].frame)

    def _cancel_deferred(self) -> None:
        if self._deferred_timer is not None:
            self._deferred_timer.cancel()
            self._deferred_timer = None
        self._deferred.clear()

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
            return  # meanwhile there is another connection
        if proof is None:
            if self._was_registered:
                self._end(f"ERROR {refusal}")
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
        asked = self._request_of(frame)
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
        **dict.fromkeys(("JOINED", "LEFT", "TOPIC", "INVITED", "OWNER"), _room_changed),
        "BAN": _banned,
        **dict.fromkeys(("STATUS", "ACCOUNT", "KICK", "UNBAN", "MUTE", "UNMUTE"), _changed),
        "PRESENCE": _presence_changed,
        "NOTICE": _noticed,
        "REGISTERED": _registered_as,
        "PING": _pinged,
        "BYE": _said_bye,
    }


_LINES = {"WHO": incoming.seen, "ROOMS": incoming.room, "BAN": incoming.sanction}


@implementer(IPushProducer)
class _Output:
    """A push producer that notes whether the server reads; Twisted pauses it while output waits.

    :param is_empty: called when the output buffer is empty again.
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
        """Called by Twisted when the connection is lost."""
