"""``ChatClient``, the library for bots: a method for each request that a bot can make.

A coroutine that awaits these methods may be run by Twisted (``Deferred.fromCoroutine``), or as an
asyncio task on the asyncio reactor (``waiting``). This module must not know the protocol's bytes, a
terminal, or the purpose of a bot. The methods for the other requests are in ``ui.requests``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from twisted.internet.defer import Deferred

from chat_twisted.client.address import PORT, parse_address, parse_host
from chat_twisted.client.answers import ANSWERS, AnswerLimit
from chat_twisted.client.bot_session import BotSession
from chat_twisted.client.client_state import config_folder
from chat_twisted.client.connection import Server
from chat_twisted.client.identity import KEY_FILE, Identity
from chat_twisted.client.session import RECONNECT_FOR
from chat_twisted.client.tls import parse_fingerprint
from chat_twisted.client.waiting import FutureLikeDeferred, future_like
from chat_twisted.core.errors import NotPermitted, TooFast
from chat_twisted.core.message import (
    Audience,
    fold,
    parse_target,
)
from chat_twisted.files import FilesError
from chat_twisted.ui.errors import NotConnected, NotDelivered, Sent, as_refused, refused
from chat_twisted.ui.requests import ChatRequests, Headers
from chat_twisted.ui.values import Event, Received, Seen, conversation_of

DELIVERED_WITHIN = 10
"""Default number of seconds to wait for a delivery."""


class ChatClient(ChatRequests):
    """One user's session with a server; it reconnects when the connection is lost.

    ``async for message in client`` yields the messages to the user. Each method sends a request and
    waits until the server has answered, across any number of reconnections. A client connects only
    once; after it was closed or lost, create another one.

    :param user: the user's name: 1 to 32 letters, digits, ``_`` and ``-``.
    :param host: the server's name or address, as ``chat-twisted`` accepts it: ``chat.example.org``,
        ``chat.example.org:9000``, ``[::1]:9000``. Or a list of the hosts of one chat: the client
        connects to the first that it can reach, and to the next one when the connection is lost.
    :param port: the TCP port of a host that names none.
    :param reactor: Twisted's reactor, as ``twisted.internet.task.react`` passes it to ``main``.
    :param identity: the user's private key file, as ssh-keygen writes it; None for the key that the
        bundled client creates. It is used only if the name has an account.
    :param password: the account's password; empty if it has none.
    :param fingerprint: the SHA-256 fingerprint that the server's certificate must have, as the
        server logs it. Without it, the certificate must be vouched for by an authority, or be the
        one seen at the first connection.
    :param plain: whether to connect without encryption.
    :param reconnect_for: seconds for which a lost connection is tried again; 0 disables this.
    :param listen: whether messages are queued. A bot that only sends can disable this.
    :param tell: called with lines of text for people: that the server is new, and the server's
        notices. By default they are logged.
    :param on_event: called with changes in rooms, and with invitations.
    :raises ValueError: if ``fingerprint`` is invalid, or ``host`` contradicts ``port`` or ``user``.
    :raises NotConnected: if ``host`` is not an address, or the folder of the user's keys and
        certificates is not known.
    """

    def __init__(
        self,
        user: str,
        host: str | Sequence[str],
        port: int | None = None,
        *,
        reactor: Any,
        identity: Path | str | None = None,
        password: str = "",
        fingerprint: str | None = None,
        plain: bool = False,
        reconnect_for: float = RECONNECT_FOR,
        listen: bool = True,
        tell: Callable[[str], object] | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        if fingerprint is not None:
            fingerprint = parse_fingerprint(fingerprint)
        first, *others = [host] if isinstance(host, str) else host
        try:
            address = parse_address(first)
            more = tuple(parse_host(other, port or PORT) for other in others)
        except ValueError as problem:
            raise NotConnected(str(problem)) from None
        if port is not None and not more and address.port not in (None, port):
            raise ValueError(f"the port is given twice: {port}, and {address.port} in {first}")
        if address.user and fold(address.user) != fold(user):
            raise ValueError(f"the user is given twice: {user}, and {address.user} in {first}")
        try:
            key = config_folder() / KEY_FILE if identity is None else Path(identity)
            self._bot = BotSession(
                user,
                Identity(key, own=identity is None, password=password),
                Server(address.host, address.port or port or PORT, fingerprint, plain, more),
                reactor,
                reconnect_for=reconnect_for,
                listen=listen,
                tell=tell,
                on_event=on_event,
            )
        except FilesError as problem:
            raise NotConnected(str(problem)) from None
        self._reactor = reactor
        self._listen = listen
        self._answer_limit = AnswerLimit(reactor)

    @property
    def name(self) -> str:
        """The user's own name as others see it; empty before the client is connected."""
        return self._bot.name

    @property
    def kept(self) -> float | None:
        """For how many seconds the server keeps messages: ``math.inf`` for ever, 0 if it does not
        keep them, None if it does not say, or the client is not connected.
        """
        session = self._bot.session
        return None if session is None else session.kept

    # Connecting and closing

    async def connect(self) -> None:
        """Connect and register.

        :raises Refused: if the server does not accept the user: the name is malformed (100), in use
            (105), or belongs to an account that the client can't log in to (106, 107); or the
            server is full (112).
        :raises NotConnected: if there is no such server, its certificate is not the expected one,
            or the key can't be read.
        :raises RuntimeError: if the client was connected before.
        """
        await self._bot.connect()

    async def close(self) -> None:
        """Close the session, and return when the connection is closed: after two seconds at most.

        Queued messages can still be read. Requests without an answer raise ``NotConnected``. A
        client is closed automatically when the reactor stops.
        """
        await self._bot.close()

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # Receiving

    def __aiter__(self) -> AsyncIterator[Received]:
        if not self._listen:
            raise RuntimeError("this client was told not to listen")
        return self

    async def __anext__(self) -> Received:
        """Return the next message, oldest first.

        The iteration ends when the client is closed. Two tasks that iterate get different messages.

        :raises NotConnected: if the session was lost.
        """
        bot = self._bot
        while (message := bot.take()) is None:
            if bot.session is None:
                raise NotConnected("not connected")
            if bot.over:
                if bot.problem is None:
                    raise StopAsyncIteration
                raise bot.closed_error()
            await bot.notifier.wait()
        return message

    # Sending

    async def send(
        self, to: str, text: str, *, delivered: bool = False, timeout: float = DELIVERED_WITHIN
    ) -> Sent:
        """Send ``text`` to a user, a ``#room`` that this user has joined, or ``ALL``.

        Returns when the message is committed: it was sent exactly once, and will not be lost. If
        the call is cancelled, the message may or may not have been sent.

        :param delivered: also wait until the recipient's client has the message.
        :param timeout: seconds to wait for that.
        :raises Refused: if nobody can receive it (102), the text is empty or contains NUL (103), it
            is too long (108), there is no such room (110), or the user is not a member or is muted
            (111).
        :raises NotDelivered: if it was sent, but not confirmed within ``timeout``.
        :raises NotConnected: if the session has ended.
        :raises ValueError: if ``delivered`` is set for a room or ``ALL``.
        """
        bot = self._bot
        session = bot.live()
        if delivered:
            with as_refused():
                if parse_target(to).audience is not Audience.USER:
                    raise ValueError("only what is to one user is confirmed")
        arrival: FutureLikeDeferred[bool] | None = None

        def is_sent(sent: Sent) -> Sent:
            nonlocal arrival
            arrival = bot.expect_delivery(sent.number)  # at once: DELIVERED may follow in one read
            return sent

        sending = Deferred.fromCoroutine(session.send(to, text))
        if not delivered:
            return await bot.answer(future_like(sending))
        sent = await bot.answer(future_like(sending.addCallback(is_sent)))
        assert arrival is not None
        timer = self._reactor.callLater(timeout, bot.settle_delivery, sent.number, False)
        try:
            arrived = await arrival
        finally:
            if timer.active():
                timer.cancel()
            bot.settle_delivery(sent.number, False)
        if not arrived:
            raise NotDelivered(sent)
        return sent

    async def answer(self, message: Received, text: str) -> Sent:
        """Send ``text`` to the conversation of ``message``: its sender, its room, or ``ALL``.

        One user gets 20 answers at once, and one more every 10 seconds, so that two bots that
        answer each other fall silent. ``send`` has no such limit.

        :raises Refused: as ``send``; also if the sender got too many answers (109), or ``message``
            is from this user (111).
        :raises NotConnected: as ``send``.
        """
        self._bot.live()
        if fold(message.sender) == fold(self.name):
            raise refused(NotPermitted, "this user has sent the message")
        if not self._answer_limit.spend(message.sender):
            raise refused(TooFast, f"{message.sender} had {ANSWERS} answers already")
        return await self.send(conversation_of(message, self.name), text)

    # Requests

    def ask(
        self, verb: str, argument: str = "", headers: Headers = (), body: str | None = None
    ) -> Awaitable[Any]:
        """Send a request; see ``ChatRequests.ask``."""
        return self._bot.answer(self._bot.live().ask(verb, argument, headers, body))

    async def watch(self, seen: Callable[[Seen], object] | None) -> list[Seen]:
        """Call ``seen`` with each user who comes, leaves (``GONE``), goes away or comes back.

        It replaces an earlier callback. After a lost connection it is called with the changes
        since.

        :param seen: the callback; None to stop.
        :return: the users who are present now.
        :raises NotConnected: if the session has ended.
        """
        session = self._bot.live()
        self._bot.watcher = seen
        return await (self._bot.watch() if seen else self._bot.answer(session.unwatch()))
