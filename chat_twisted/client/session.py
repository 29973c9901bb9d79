"""The client's side of protocol version 2: one user's session with a server (docs/protocol.rst,
Version 2).

``ClientSession`` is the Twisted protocol of the connection, and of the next one after it was lost:
it resumes as the same user, repeats requests without an answer (``requests``), and receives missed
messages. It reports events to a ``Listener``; requests return their answers. It must not know the
kind of listener: a pipe, a terminal or a bot. Here are the connection, the registration, and the
frames that nobody has asked for; requests and their answers are in ``exchange``, messages in
``inbox``.
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
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted.client import incoming, login
from chat_twisted.client.exchange import TOO_FAST, UNAVAILABLE, Exchange
from chat_twisted.client.hosts import Hosts
from chat_twisted.client.inbox import Inbox
from chat_twisted.client.liveness import Liveness
from chat_twisted.client.login import Credentials, Login
from chat_twisted.client.output import Output
from chat_twisted.client.reconnection import Reconnection
from chat_twisted.client.requests import Repeater, check_request, draw_id, is_list
from chat_twisted.client.restoration import Restoration
from chat_twisted.client.waiting import FutureLikeDeferred
from chat_twisted.core.errors import ChatError, NameInUse
from chat_twisted.core.message import check_user_name, fold, parse_target
from chat_twisted.frames import MAX_BODY, Frame, FrameReader, HeaderIncomplete, encode
from chat_twisted.refusals import refusal_of
from chat_twisted.ui.errors import ClientError, NotConnected, Refused, Sent, as_refused
from chat_twisted.ui.requests import Headers
from chat_twisted.ui.session import ChatSession, Listener
from chat_twisted.ui.values import Event, Refusal, Seen

ANSWERED_WITHIN = 20
"""Seconds to wait for the server's first bytes on a connection."""

NEXT_WITHIN = 5
"""The same while another host is to be tried instead (``Hosts.in_haste``)."""

GOODBYE_WITHIN = 2
"""Seconds to wait for the server to close the connection after QUIT."""

NAME_IN_USE = refusal_of(NameInUse).code

RECONNECT_FOR = 600
"""Default number of seconds for which a client tries to reconnect: the default time for which a
server reserves the name of a lost guest."""

_BEFORE_REGISTERED = ("REGISTERED", "ERROR", "BYE", "PING", "PONG")


@implementer(IPushProducer)
class ClientSession(ChatSession, protocol.Protocol):
    """A session with a server, over one or more connections.

    It is a push producer of events: while it is paused, it receives nothing.

    :param user: the name to register.
    :param clock: the reactor.
    :param reconnect: connects a session again; its result fires or fails when that is done. Without
        it, the session ends with its first connection.
    :param hosts: the hosts of the chat, of which ``reconnect`` takes the next one.
    :param reconnect_for: seconds for which a lost connection is tried again; 0 disables this.
    :param token: the session token of an earlier connection.
    :param chance: returns a random number from 0 to 1.
    :param first_id: the ID of the first request. A server remembers the IDs of a user's messages
        for a while, so the next session of the same user must start with another one; see
        ``draw_id``.
    :param instance: identifies this client to the server on each connection.
    :param other_name: called if the name is in use; its result is another name to register, or
        empty.
    :param token_of: returns the session token to use with another name.
    :param bot: whether the user is a program; None if this is not known.
    :param confirm: called when messages were received, with the number of the last one and whether
        one of them is a direct message; ``confirm`` must be called later. By default this is done
        at once.
    :param before_quit: called with a function that sends QUIT, which must be called within a second
        or so; by default at once.
    """

    transport: Any  # ITCPTransport, or a substitute in tests

    def __init__(
        self,
        user: str,
        listener: Listener,
        credentials: Credentials,
        clock: IReactorTime,
        reconnect: Callable[[ClientSession], Deferred[Any]] | None = None,
        *,
        hosts: Hosts | None = None,
        reconnect_for: float = RECONNECT_FOR,
        token: str = "",
        chance: Callable[[], float] = random.random,
        first_id: int | None = None,
        instance: str | None = None,
        other_name: Callable[[Refusal], Deferred[str]] | None = None,
        token_of: Callable[[str], str] = lambda name: "",
        bot: bool | None = None,
        confirm: Callable[[int, bool], None] | None = None,
        before_quit: Callable[[Callable[[], None]], None] = lambda then: then(),
    ) -> None:
        self.user = user
        self.where = ""  # the host's address, for messages to the user
        self.moved_to = ""  # as in ``ChatSession``
        self._registered_at_host = ""  # where the user was registered last
        self.binding = b""  # the channel binding: SHA-256 of the certificate; empty without TLS
        self.max_message = MAX_BODY  # bytes; set by the server
        self.last = 0  # the number of the newest message when the session was connected
        self.kept: float | None = None  # as in ``Welcome``
        # Whether the server had forgotten the user, or lost its newest messages, before the session
        # was resumed. It may then have forgotten the user's rooms.
        self.forgotten = False
        self.proven = False
        self._listener = listener
        self._credentials = credentials
        self._clock = clock
        self._connect_first = reconnect  # until the user is registered
        self._reconnect = reconnect if reconnect_for else None
        self._hosts = Hosts() if hosts is None else hosts
        self._reconnection = Reconnection(
            clock,
            self._connect_again,
            lambda: self._end(self._reason),
            reconnect_for,
            chance,
            self._hosts,
        )
        self._reader = FrameReader()
        self.token = token
        self._was_connected = False  # whether there was ever a connection
        self._was_registered = False  # whether the user was ever registered
        self._is_refused = False  # whether the registration was refused
        self._other_name = other_name
        self._token_of = token_of
        self._confirm = confirm or (lambda number, direct: self.confirm(number))
        self._before_quit = before_quit
        self._bot = bot
        self._choosing_name = False  # whether another name is awaited
        self._instance = secrets.token_urlsafe(12) if instance is None else instance
        self._registered = False  # on this connection
        self._registered_at = 0.0
        self._is_lost = False
        self._login = self._new_login()
        self._over = False
        self._quit_timer: IDelayedCall | None = None
        self._reason = ""
        self._liveness = Liveness(
            clock,
            self._waits_for_answers,
            lambda: self._paused,
            lambda: self._output.write_newest("PING", encode("PING", "idle")),
            self._give_up,
            lambda: self._hosts.has_alternative,
        )
        self._paused = False
        self._output = Output(self._write)
        self._inbox = Inbox(listener)
        self._restoration = Restoration(self, listener)
        self._exchange = Exchange(
            draw_id() if first_id is None else first_id,
            listener,
            self._inbox,
            self._restoration,
            Repeater(clock, lambda ids: self._exchange.send_again(ids), reconnect_for),
            self._liveness,
            self._reconnection,
            self._output,
            self._write,
        )

    # Requests of the user

    async def send(self, to: str, text: str, kind: str = "text") -> Sent:
        """Send a message; see ``ChatSession.send``."""
        with as_refused():
            parse_target(to)
            if not text:
                raise HeaderIncomplete("no text")
        headers: Headers = () if kind == "text" else (("Kind", kind),)
        sent: Sent = await self.ask("SEND", to, headers, text)
        return sent

    async def rename(self, name: str) -> Event:
        """Change the user's name; see ``ChatRequests.rename``. If a token is made for the new name,
        the user can return with it, too.
        """
        with as_refused():
            check_user_name(name)
        token = self._token_of(name)
        event: Event = await self.ask("RENAME", name, (("Session", token),) if token else ())
        return event

    def ask(
        self, verb: str, argument: str = "", headers: Headers = (), body: str | None = None
    ) -> FutureLikeDeferred[Any]:
        """Send a request of the protocol; the result fires with its answer.

        :raises Refused: if the server would close the connection for it.
        :raises NotConnected: if the session has ended.
        """
        if self._over:
            raise NotConnected("the session has ended")
        with as_refused():
            check_request(argument, headers, body, self.max_message)
        return self._exchange.ask(verb, argument, headers, body)

    async def watch(self) -> list[Seen]:
        """Subscribe to presence; see ``ChatSession.watch``."""
        present = await self._restoration.watch()
        self._restoration.watching = True  # before that, the request itself is repeated
        return present

    async def unwatch(self) -> list[Seen]:
        """End the subscription to presence; return the users who are present."""
        self._restoration.watching = False
        found: list[Seen] = await self.ask("WHO", "", (("Watch", "no"),))
        return found

    def next_attempt(self) -> float | None:
        """Return the seconds until the next attempt to connect; see ``ChatSession``."""
        return self._reconnection.next_attempt()

    def quit(self) -> None:
        """Send QUIT. The server closes the connection, then the listener gets ``lost``."""
        if self._quit_timer is not None or self._over:
            return
        if self.connected:
            self._quit_timer = self._clock.callLater(GOODBYE_WITHIN, self.transport.abortConnection)
            self._before_quit(self._send_quit)
        elif self._was_connected:
            self._end("")

    def _send_quit(self) -> None:
        if self.connected:
            self.transport.write(encode("QUIT"))

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
        self._inbox.leaves_messages = skip
        if self._inbox.has_left_messages and not skip and self.connected:
            self._give_up("more was said than could be read")

    def stopProducing(self) -> None:
        """Called when output is no longer possible. The listener decides whether to quit."""
        self.resumeProducing()  # a paused session would not notice the end of the connection

    # Input

    def connectionMade(self) -> None:
        """Register. Called by Twisted when a connection is made."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)  # frames are small, and answered one by one
        self._output.start(self.transport)
        self._reader = FrameReader(max(self.max_message, MAX_BODY))
        self._login = self._new_login()
        self._was_connected = True
        self._inbox.has_left_messages = False
        self._reason = ""
        self._liveness.start()
        within = NEXT_WITHIN if self._hosts.in_haste else ANSWERED_WITHIN
        self._liveness.expect_within(within, f"no answer from {self.where} within {within} s")
        self._register()

    def _register(self) -> None:
        headers: list[tuple[str, object]] = [("Version", 2), ("Instance", self._instance)]
        if self.token:
            headers.append(("Session", self.token))
        if self._inbox.last:  # otherwise the server sends all unconfirmed messages
            headers.append(("Resume", self._inbox.last))
        if self._bot is not None:
            headers.append(("Bot", "yes" if self._bot else "no"))
        self.transport.write(encode("REGISTER", self.user, headers))

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Reconnect or end. Called by Twisted when the connection is lost."""
        self.connected = 0
        self._liveness.stop()
        self._login.cancel()
        if not self._reason and not reason.check(ConnectionDone, ConnectionLost):
            self._reason = reason.getErrorMessage()
        was_registered, self._registered = self._registered, False
        self._exchange.stop()
        if self._quit_timer is not None or not self._may_go_on():
            self._end(self._reason)
        if self._over:
            return
        if not self._was_registered:
            self._reconnection.try_later()
            return
        lasted = self._clock.seconds() - self._registered_at if was_registered else 0
        self._reconnection.lost(lasted, progress=was_registered and self._inbox.has_left_messages)
        if not self._is_lost:
            self._is_lost = True
            self._listener.disconnected(self._reason)
        if not self._over:  # the listener may have ended the session
            self._reconnection.try_later()

    def _may_go_on(self) -> bool:
        """Return whether there may be another connection.

        Before the user was registered, there may be one to a host that was not tried yet, unless
        the user was refused or has been asked something.
        """
        if self._was_registered:
            return self._reconnect is not None
        if self._is_refused or self._choosing_name or not self._login.waits_for_server:
            return False
        return self._connect_first is not None and self._hosts.has_untried

    def _connect_again(self) -> Deferred[Any]:
        connect = self._reconnect if self._was_registered else self._connect_first
        assert connect is not None
        return connect(self).addCallback(self._connected_again)

    def _connected_again(self, _: object) -> None:
        if self._over and self.connected:
            self.transport.abortConnection()

    def _end(self, reason: str) -> None:
        if self._quit_timer is not None and self._quit_timer.active():
            self._quit_timer.cancel()
        self._reconnection.end()
        if not self._over:
            self._over = True
            why = " ".join(reason.split("\n")) or "the server has closed the connection"
            self._exchange.end("closed" if self._quit_timer is not None else why)
            self._listener.lost(reason)

    def _waits_for_answers(self) -> bool:
        """Return whether an answer is due from the server, rather than input from the user or a
        timer.
        """
        if self._paused or self._choosing_name:
            return False
        if self._registered:
            return self._exchange.waits
        return self._login.waits_for_server

    def _give_up(self, reason: str) -> None:
        self._reason = reason
        self.transport.abortConnection()

    def _write(self, data: bytes) -> None:
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        """Handle the frames in ``data``. Called by Twisted when data is received."""
        self._liveness.heard()
        before, self._inbox.has_direct = self._inbox.last, False
        try:
            self._reader.receive_data(data)
            while (frame := self._reader.next_frame()) is not None:
                if self._over:
                    return
                self._take(frame)
        except ChatError as error:
            # The same would come on another connection, so the session does not reconnect.
            self._end(f"the server broke the protocol: {error}")
            self.transport.abortConnection()
            return
        if self._inbox.last > before and self._registered:
            self._confirm(self._inbox.last, self._inbox.has_direct)

    def confirm(self, number: int) -> None:
        """Confirm to the server that the user has all messages up to this number."""
        if self._registered and not self._over:
            frame = encode("RECEIVED", self._inbox.last_sender, [("Message", number)])
            self._output.write_newest("RECEIVED", frame)

    def _take(self, frame: Frame) -> None:
        answer = Exchange.ANSWERS.get(frame.verb)
        take = self._FRAMES.get(frame.verb)
        if answer is None and take is None:
            return  # a verb that only a newer server sends, or PONG
        if not self._registered:
            if frame.verb not in _BEFORE_REGISTERED:
                raise HeaderIncomplete(f"{frame.verb} before REGISTERED")
            if self._is_refused:
                return  # nothing more is expected
        if answer is not None:
            answer(self._exchange, frame)
        elif take is not None:
            take(self, frame)

    def _forwarded(self, frame: Frame) -> None:
        message = incoming.message(frame)
        if self._quit_timer is not None:
            return  # it can't be confirmed now; an account gets it again
        self._inbox.received(message, self.user)

    def _delivered(self, frame: Frame) -> None:
        self._listener.delivered(frame.number("message"))

    def _list_or_event(self, frame: Frame) -> None:
        """Handle BAN, UNBAN and READ: a list, an event, or the answer to a ban from the server."""
        if is_list(frame.verb, frame.argument, "user" in frame.headers):
            self._exchange.listed(frame)
        elif frame.verb == "READ" or frame.argument.startswith("#"):
            self._event_came(frame)
        else:
            self._exchange.changed(frame)

    def _presence_changed(self, frame: Frame) -> None:
        self._listener.seen([incoming.seen(line) for line in incoming.lines(frame)])

    def _noticed(self, frame: Frame) -> None:
        text = frame.body or ""
        announced = frame.argument == "announcement"
        self._listener.noticed(f"Announcement: {text}" if announced else text)

    def _pinged(self, frame: Frame) -> None:
        self._output.write_newest("PONG", encode("PONG", frame.argument))

    def _said_bye(self, frame: Frame) -> None:
        self._reason = self._reason or frame.argument
        if frame.headers.get("final", "").lower() == "yes":
            self._connect_first = self._reconnect = None

    def _registered_as(self, frame: Frame) -> None:
        if self._registered:
            raise HeaderIncomplete("a second REGISTERED")
        welcome = incoming.welcome(frame)
        old_name = self.user if fold(welcome.name) != fold(self.user) else ""
        if old_name and (not self.token or welcome.token != self.token):
            raise HeaderIncomplete("REGISTERED with another name")
        self._registered = True
        self._registered_at = self._clock.seconds()
        self.max_message = welcome.max_message
        self.last = welcome.last
        self.kept = welcome.kept
        self._reader.max_body = max(self.max_message, MAX_BODY)
        first, self._was_registered = not self._was_registered, True
        self.moved_to = self.where if not first and self.where != self._registered_at_host else ""
        self._registered_at_host = self.where
        if not first:
            self._inbox.own.reconnected()
        went_back = self._inbox.went_back(self.last)
        other = welcome.token != self.token and not self._login.proven
        if other:
            self._inbox.last = 0  # a new user has received nothing yet
        self.token = welcome.token
        self.forgotten = not first and (other or went_back)
        self._is_lost = False
        unanswered = self._exchange.start()
        if self._paused:
            self.transport.pauseProducing()
        self.user = welcome.name
        if old_name:  # the session has missed that its user was renamed
            event = Event("RENAMED", "", old_name, "", None, new_name=welcome.name)
            self._listener.told(event)
        if not first:  # before all else, which may need the rooms
            self._restoration.reconnected(forgotten=self.forgotten)
        for request in unanswered:
            self.transport.write(request)
        if first:
            self._listener.registered(welcome.name)
        else:
            self._listener.reconnected()
        if went_back:
            self._listener.went_back()

    def _event_came(self, frame: Frame) -> None:
        event = incoming.event(frame)
        request = self._exchange.answered(frame) if frame.id else None
        if frame.id and request is None:
            return
        own = fold(event.user) == fold(self.user)
        if event.verb == "RENAMED" and own:
            self.user = event.new_name
        elif event.verb == "DELETED":
            self._inbox.own.drop(event.number)
        elif event.verb in ("JOINED", "LEFT") and own:
            self._restoration.moved(event)
        if request is None:
            self._listener.told(event)
        else:
            request.answered.callback(event)

    def _refused(self, frame: Frame) -> None:
        refusal = incoming.refusal(frame)
        if self._registered:
            self._exchange.refused(frame, refusal)
        elif refusal.code in login.CODES:
            self.proven = True
            self._login.refused(frame, refusal)
        elif not self._was_registered:
            problem = Refused(refusal.code, refusal.text, refusal)
            if refusal.code == UNAVAILABLE and self._may_go_on():
                self._give_up(str(problem))  # another host may accept the user
            elif refusal.code == NAME_IN_USE and self._other_name is not None:
                self._choosing_name = True
                Deferred.fromCoroutine(self._take_other_name(self._other_name(refusal), problem))
            else:
                self._is_not_registered(problem)
        elif refusal.code in (UNAVAILABLE, TOO_FAST):
            self.transport.abortConnection()  # then it is tried again
        else:
            self._end(f"ERROR {refusal.code} {refusal.text}")
            self.transport.abortConnection()

    def _is_not_registered(self, problem: Refused) -> None:
        self._is_refused = True
        self._listener.not_registered(problem)
        self.quit()

    async def _take_other_name(self, chosen: Deferred[str], problem: Refused) -> None:
        """Register under another name than the one that is in use."""
        name = await chosen
        self._choosing_name = False
        if not self.connected:
            return  # the session has ended
        if not name:
            self._is_not_registered(problem)
            return
        self.take_name(name)
        self._liveness.answered()  # starts to wait now
        self._register()

    def take_name(self, name: str) -> None:
        """Use another name at the next registration."""
        self.user, self.token = name, self._token_of(name)
        self._login = self._new_login()

    def _write_proof(self, frame: bytes) -> None:
        self._liveness.answered()  # starts to wait now
        self.transport.write(frame)

    def _new_login(self) -> Login:
        return Login(self._credentials, self.user, self.binding, self._write_proof, self._no_proof)

    def _no_proof(self, problem: ClientError) -> None:
        """End the session. Called when there is no further proof of who the user is."""
        if self._was_registered:
            self._end(str(problem))
        else:
            self._is_refused = True
            self._listener.not_registered(problem)
        self.transport.abortConnection()  # there is nothing more to say

    _FRAMES: ClassVar[dict[str, Callable[[ClientSession, Frame], None]]] = {
        "FORWARD": _forwarded,
        "DELIVERED": _delivered,
        "ERROR": _refused,
        **dict.fromkeys(
            ("JOINED", "LEFT", "TOPIC", "INVITED", "RANK", "MODE", "RENAMED", "DELETED"),
            _event_came,
        ),
        **dict.fromkeys(("BAN", "UNBAN", "READ"), _list_or_event),
        "PRESENCE": _presence_changed,
        "NOTICE": _noticed,
        "REGISTERED": _registered_as,
        "PING": _pinged,
        "BYE": _said_bye,
    }
