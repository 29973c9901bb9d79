"""The client's side of protocol version 2: one user's session with a server (docs/protocol.rst,
Version 2).

``ClientSession`` is the Twisted protocol of the connection, and of the next one after it was lost:
it resumes as the same user, repeats requests without an answer (``requests``), and receives missed
messages. It reports events and answers to a ``Listener``. It must not know the kind of listener: a
pipe, a terminal or a bot. It is long because it handles every frame that a server sends; what has a
state of its own has a module of its own (``requests``, ``own_messages``, ``login``,
``reconnection``).
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from typing import Any, ClassVar

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted.client import incoming, login
from chat_twisted.client.listener import Listener
from chat_twisted.client.login import Login
from chat_twisted.client.own_messages import OwnMessages
from chat_twisted.client.reconnection import Reconnection
from chat_twisted.client.requests import Repeater, Requests, check_request, draw_id, is_list
from chat_twisted.core.errors import ChatError, TooFast, Unavailable
from chat_twisted.core.message import fold, parse_target
from chat_twisted.frames import MAX_BODY, Frame, FrameReader, HeaderIncomplete, encode
from chat_twisted.refusals import Refusal, refusal_of
from chat_twisted.ui.values import Event

IDLE = 60
"""Seconds of silence after which the client sends PING. After twice as long the connection counts
as lost."""

ANSWERED_WITHIN = 20
"""Seconds to wait for the server's first bytes on a connection."""

GOODBYE_WITHIN = 2
"""Seconds to wait for the server to close the connection after QUIT."""

HEADER_INCOMPLETE = refusal_of(HeaderIncomplete).code
UNAVAILABLE = refusal_of(Unavailable).code
TOO_FAST = refusal_of(TooFast).code

RECONNECT_FOR = 600
"""Default number of seconds for which a client tries to reconnect: the default time for which a
server reserves the name of a lost guest."""

_BEFORE_REGISTERED = ("REGISTERED", "ERROR", "BYE", "PING", "PONG")


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
        self.kept: float | None = None  # as in ``Welcome``
        # Whether the server had forgotten the user, or lost its newest messages, before the session
        # was resumed. It may then have forgotten the user's rooms.
        self.forgotten = False
        self._listener = listener
        self._clock = clock
        self._reconnect = reconnect if reconnect_for else None
        self._reconnection = Reconnection(
            clock, self._connect_again, lambda: self._end(self._reason), reconnect_for, chance
        )
        self._reader = FrameReader()
        self.token = token
        self._was_registered = False  # whether the user was ever registered
        self._is_refused = False  # whether the registration was refused
        self._last_received = 0  # the number of the last received message
        self._skips_messages = False  # whether messages are left to the server
        self._has_skipped = False  # whether messages were left on this connection
        self._requests = Requests(draw_id() if first_id is None else first_id)
        self._repeater = Repeater(clock, self._send_again, reconnect_for)
        self._own = OwnMessages(listener.received)
        self._instance = secrets.token_urlsafe(12) if instance is None else instance
        self._registered = False  # on this connection
        self._first_answer_timer: IDelayedCall | None = (
            None  # the timeout for the server's first bytes
        )
        self._registered_at = 0.0
        self._is_lost = False
        self._login = Login(listener, self._write_proof, self._no_proof)
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
        id = self.ask("SEND", to, (), text)
        self._own.sending(id)
        return id

    def check(self, to: str, text: str) -> None:
        """Check a message without sending it.

        :raises UnableToSend, HeaderIncomplete: if the server would refuse it, or close the
            connection.
        :raises MessageTooLong: if it is too long.
        """
        parse_target(to)
        check_request(to, (), text, self.max_message)

    def ask(
        self,
        verb: str,
        argument: str = "",
        headers: tuple[tuple[str, object], ...] = (),
        body: str | None = None,
    ) -> int:
        """Send a request of the protocol.

        The listener gets ``listed``, ``found``, ``told``, ``changed`` or ``refused``.

        :return: the ID of the request.
        :raises HeaderIncomplete, MessageTooLong: if the server would close the connection for it.
        """
        check_request(argument, headers, body, self.max_message)
        self._answers_came |= not self._requests  # starts to wait now
        id = self._requests.add(verb, argument, headers, body)
        if self._repeater.is_waiting:  # it must not overtake requests that wait
            self._repeater.follow(id)
        elif self._registered:
            self.transport.write(self._requests.frame(id))
        return id

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
        self._login = Login(self._listener, self._write_proof, self._no_proof)
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
        self._login.cancel()
        if not self._reason and not reason.check(ConnectionDone, ConnectionLost):
            self._reason = reason.getErrorMessage()
        was_registered, self._registered = self._registered, False
        self._repeater.cancel()  # all requests are sent again after the next registration
        if self._quit_timer is not None or not self._was_registered or self._reconnect is None:
            self._end(self._reason)
        if self._over:
            return
        self._requests.forget_parts()
        lasted = self._clock.seconds() - self._registered_at if was_registered else 0
        self._reconnection.lost(lasted, progress=was_registered and self._has_skipped)
        if not self._is_lost:
            self._is_lost = True
            self._listener.disconnected(self._reason)
        if not self._over:  # the listener may have ended the session
            self._reconnection.try_later()

    def _connect_again(self) -> Deferred[Any]:
        assert self._reconnect is not None
        return self._reconnect(self).addCallback(self._connected_again)

    def _connected_again(self, _: object) -> None:
        if self._over and self.connected:
            self.transport.abortConnection()

    def _end(self, reason: str) -> None:
        if self._quit_timer is not None and self._quit_timer.active():
            self._quit_timer.cancel()
        self._reconnection.end()
        if not self._over:
            self._over = True
            self._own.end()
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
        if self._paused or self._repeater.is_waiting:
            return False
        if self._registered:
            return bool(self._requests)
        return self._login.waits_for_server

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
                self._own.hold(message)
            self._own.received(self._last_received)

    def _sent(self, frame: Frame) -> None:
        number, time = frame.number("message"), incoming.time(frame)
        if (answered := self._answered(frame)) is not None:
            self._own.sent(number, self._last_received)
            self._listener.sent(answered[0], number, time)
            self._own.report()

    def _delivered(self, frame: Frame) -> None:
        self._listener.delivered(frame.number("id"))

    def _message_found(self, frame: Frame) -> None:
        self._requests.add_message(frame, incoming.message(frame))

    def _found(self, frame: Frame) -> None:
        if (answered := self._answered(frame)) is not None:
            id, found = answered
            self._listener.found(id, found)

    def _list_or_event(self, frame: Frame) -> None:
        """Handle BAN, UNBAN and READ: a list, an event, or the answer to a ban from the server."""
        if is_list(frame.verb, frame.argument, "user" in frame.headers):
            self._listed(frame)
        elif frame.verb == "READ" or frame.argument.startswith("#"):
            self._event_came(frame)
        else:
            self._changed(frame)

    def _changed(self, frame: Frame) -> None:
        if frame.argument == "messages":
            self._found(frame)
        elif (answered := self._answered(frame)) is not None:
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

    def _answered(self, frame: Frame) -> tuple[int, list[Any]] | None:
        """Handle the last frame of an answer; return the request's ID and the gathered parts."""
        asked = self._requests.find(frame)
        if asked is None:
            return None
        return asked[0], self._settle(asked[0], done=True)

    def _settle(self, id: int, *, done: bool) -> list[Any]:
        """Remove a request that was answered; return the gathered parts of the answer."""
        self._own.settled(id)
        self._repeater.settled(id, done=done)
        self._answers_came = True
        self._reconnection.answered()
        return self._requests.settle(id)

    def _registered_as(self, frame: Frame) -> None:
        if self._registered:
            raise HeaderIncomplete("a second REGISTERED")
        welcome = incoming.welcome(frame)
        old_name = self.user if fold(welcome.name) != fold(self.user) else ""
        if old_name and (not self.token or welcome.token != self.token):
            raise HeaderIncomplete("REGISTERED with another name")
        self._registered = self._answers_came = True
        self._registered_at = self._clock.seconds()
        self.max_message = welcome.max_message
        self.last = welcome.last
        self.kept = welcome.kept
        self._reader.max_body = max(self.max_message, MAX_BODY)
        first, self._was_registered = not self._was_registered, True
        if not first:
            self._own.reconnected()
        # A new user has received nothing yet.
        other = welcome.token != self.token and not self._login.proven
        known = max(self._last_received, self._own.newest)
        went_back = self.last < known
        if went_back:
            self._own.went_back(self.last)
        self._last_received = 0 if other else min(self._last_received, self.last)
        self.token = welcome.token
        self.forgotten = not first and (other or went_back)
        self._is_lost = False
        if not self._requests:
            self._reconnection.answered()
        if self._paused:
            self.transport.pauseProducing()
        for request in self._requests.frames():
            self.transport.write(request)
        if old_name:  # the session has missed that its user was renamed
            self.user = welcome.name
            event = Event("RENAMED", "", old_name, "", None, new_name=welcome.name)
            self._listener.told(None, event)
        if first:
            self._listener.registered(welcome.name)
        else:
            self._listener.reconnected()
        if went_back:
            self._listener.went_back()

    def _event_came(self, frame: Frame) -> None:
        event = incoming.event(frame)
        id: int | None = None
        if frame.id:
            if (answered := self._answered(frame)) is None:
                return
            id = answered[0]
        if event.verb == "RENAMED" and fold(event.user) == fold(self.user):
            self.user = event.new_name
        elif event.verb == "DELETED":
            self._own.drop(event.number)
        self._listener.told(id, event)

    def _refused(self, frame: Frame) -> None:
        refusal = incoming.refusal(frame)
        if self._registered:
            id = frame.number("id") if frame.id else None
            if self._repeat(id, refusal.code, incoming.retry_after(frame)):
                return
            if id is None and refusal.code == HEADER_INCOMPLETE:
                # The server closes the connection; the request would be sent again on the next one.
                id = self._requests.oldest()
            if id is None or id in self._requests:
                if id is not None:
                    self._settle(id, done=False)
                self._listener.refused(id, refusal)
                self._own.report()
        elif refusal.code in login.CODES:
            self._login.refused(frame, refusal)
        elif not self._was_registered:
            self._is_refused = True
            self._listener.not_registered(refusal)
            self.quit()
        elif refusal.code in (UNAVAILABLE, TOO_FAST):
            self.transport.abortConnection()  # then it is tried again
        else:
            self._end(f"ERROR {refusal}")
            self.transport.abortConnection()

    def _repeat(self, id: int | None, code: int, seconds: int | None) -> bool:
        """Repeat a temporarily refused request after ``seconds``; return whether it can be."""
        if id is None or id not in self._requests:
            return False
        if seconds is None or code not in (UNAVAILABLE, TOO_FAST):
            return False
        if not self._repeater.refused(id, seconds):
            return False
        self._requests.forget_parts(id)  # a list starts again with its first page
        self._answers_came = True
        return True

    def _send_again(self, ids: list[int]) -> bool:
        """Send requests again; return False if the server has not read earlier output."""
        if self._output.is_full:
            return False
        if self._registered:
            for id in ids:
                self.transport.write(self._requests.frame(id))
        return True

    def _write_proof(self, frame: bytes) -> None:
        self._answers_came = True  # starts to wait now
        self.transport.write(frame)

    def _no_proof(self, refusal: Refusal) -> None:
        """End the session. Called when there is no further proof of who the user is."""
        if self._was_registered:
            self._end(f"ERROR {refusal}")
        else:
            self._listener.not_registered(refusal)
        self.transport.abortConnection()  # there is nothing more to say

    def _listed(self, frame: Frame) -> None:
        asked = self._requests.add_page(frame)
        if asked is None:
            return
        id, next_page = asked
        if next_page:
            self.transport.write(next_page)
        else:
            self._listener.listed(id, self._settle(id, done=True))

    _FRAMES: ClassVar[dict[str, Callable[[ClientSession, Frame], None]]] = {
        "FORWARD": _forwarded,
        "SENT": _sent,
        "DELIVERED": _delivered,
        "ERROR": _refused,
        "WHO": _listed,
        "ROOMS": _listed,
        "MESSAGE": _message_found,
        **dict.fromkeys(("HISTORY", "SEARCH"), _found),
        **dict.fromkeys(
            ("JOINED", "LEFT", "TOPIC", "INVITED", "RANK", "MODE", "RENAMED", "DELETED"),
            _event_came,
        ),
        **dict.fromkeys(("BAN", "UNBAN", "READ"), _list_or_event),
        **dict.fromkeys(("STATUS", "ACCOUNT", "KICK", "MUTE", "UNMUTE"), _changed),
        "PRESENCE": _presence_changed,
        "NOTICE": _noticed,
        "REGISTERED": _registered_as,
        "PING": _pinged,
        "BYE": _said_bye,
    }


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
