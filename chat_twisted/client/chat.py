"""``ChatClient``, the library for bots: a method for each request that a bot can make.

A coroutine that awaits these methods may be run by Twisted (``Deferred.fromCoroutine``), or as an
asyncio task on the asyncio reactor (``waiting``). This module must not know the protocol's bytes, a
terminal, or the purpose of a bot. It is long because the protocol has many requests; each method
checks its arguments, sends one request, and returns its answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chat_twisted.client.address import PORT, parse_address
from chat_twisted.client.answers import ANSWERS, AnswerLimit
from chat_twisted.client.bot_session import BotSession
from chat_twisted.client.client_state import config_folder
from chat_twisted.client.connection import Server
from chat_twisted.client.identity import KEY_FILE, Identity
from chat_twisted.client.session import RECONNECT_FOR
from chat_twisted.client.tls import parse_fingerprint
from chat_twisted.core.errors import NotPermitted, TooFast
from chat_twisted.core.message import (
    Audience,
    check_room_name,
    check_user_name,
    fold,
    parse_target,
)
from chat_twisted.files import FilesError
from chat_twisted.frames import HeaderIncomplete, format_time
from chat_twisted.ui.errors import NotConnected, NotDelivered, Sent, as_refused, refused
from chat_twisted.ui.values import Event, Received, Room, Seen, conversation_of

DELIVERED_WITHIN = 10
"""Default number of seconds to wait for a delivery."""


class ChatClient:
    """One user's session with a server; it reconnects when the connection is lost.

    ``async for message in client`` yields the messages to the user. Each method sends a request and
    waits until the server has answered, across any number of reconnections. A client connects only
    once; after it was closed or lost, create another one.

    :param user: the user's name: 1 to 32 letters, digits, ``_`` and ``-``.
    :param host: the server's name or address, as ``chat-twisted`` accepts it: ``chat.example.org``,
        ``chat.example.org:9000``, ``[::1]:9000``.
    :param port: the TCP port, if ``host`` has none.
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
        host: str,
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
        try:
            address = parse_address(host)
        except ValueError as problem:
            raise NotConnected(str(problem)) from None
        if port is not None and address.port not in (None, port):
            raise ValueError(f"the port is given twice: {port}, and {address.port} in {host}")
        if address.user and fold(address.user) != fold(user):
            raise ValueError(f"the user is given twice: {user}, and {address.user} in {host}")
        try:
            key = config_folder() / KEY_FILE if identity is None else Path(identity)
            self._bot = BotSession(
                user,
                Identity(key, own=identity is None, password=password),
                Server(address.host, address.port or port or PORT, fingerprint, plain),
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
        with as_refused():
            session.check(to, text)
            if not text:
                raise HeaderIncomplete
            if delivered and parse_target(to).audience is not Audience.USER:
                raise ValueError("only what is to one user is confirmed")
        id = session.send(to, text)
        if not delivered:
            return await self._sent(id)
        arrival = bot.expect_delivery(id)
        try:
            sent = await self._sent(id)
            timer = self._reactor.callLater(timeout, bot.settle_delivery, id, False)
            try:
                arrived = await arrival
            finally:
                if timer.active():
                    timer.cancel()
        finally:
            bot.settle_delivery(id, False)
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

    async def _sent(self, id: int) -> Sent:
        sent: Sent = await self._bot.answer(id)
        return sent

    # Rooms. All of these raise ``Refused`` and ``NotConnected``, as ``send`` does.

    async def join(self, room: str, *, private: bool = False) -> str:
        """Join a room, creating it if it does not exist; return its topic.

        :param private: if the room is created, only invited users can join it.
        :raises Refused: if the room is private and the user is not invited, the room is public
            although ``private`` is set, or the user is in too many rooms (111).
        """
        event = await self._bot.ask("JOIN", _room(room), (("Private", "yes"),) if private else ())
        self._bot.rooms[fold(room)] = (room, private)
        return event.topic or ""

    async def leave(self, room: str, reason: str = "") -> None:
        """Leave a room.

        :param reason: one line of at most 200 bytes, for the other members.
        """
        await self._bot.ask("LEAVE", _room(room), (), reason or None)

    async def topic(self, room: str, text: str | None = None) -> str:
        """Return a room's topic, or set it first if ``text`` is given.

        :param text: one line of at most 400 characters.
        """
        event = await self._bot.ask("TOPIC", _room(room), (), text)
        return event.topic or ""

    async def invite(self, room: str, user: str) -> None:
        """Invite a user to a room; to a private one, as its operator."""
        await self._bot.ask("INVITE", _room(room), (_member(user),))

    async def set_rank(self, room: str, user: str, rank: str) -> None:
        """Set the rank of a member of a room, as its operator.

        :param rank: ``operator``, ``voice`` (may speak in a moderated room) or ``none``.
        """
        await self._bot.ask("RANK", _room(room), (_member(user), ("Rank", rank)))

    async def set_mode(self, room: str, mode: str, on: bool = True) -> None:
        """Switch a mode of a room on or off, as its operator.

        :param mode: ``private`` (only invited users join), ``moderated`` (only operators and voices
            speak) or ``topic`` (only operators set the topic).
        """
        await self._bot.ask("MODE", _room(room), (("Mode", mode), ("On", "yes" if on else "no")))

    async def modes(self, room: str) -> list[str]:
        """Return the modes of a room that are on."""
        event = await self._bot.ask("MODE", _room(room))
        return list(event.modes)

    async def kick(self, room: str, user: str, reason: str = "") -> None:
        """Remove a member from a room, as its operator.

        :param reason: one line of at most 200 bytes.
        """
        await self._bot.ask("KICK", _room(room), (_member(user),), reason or None)

    async def ban(self, room: str, user: str, reason: str = "") -> None:
        """Keep a user out of a room, as its operator.

        :param reason: one line of at most 200 bytes.
        """
        await self._bot.ask("BAN", _room(room), (_member(user),), reason or None)

    async def unban(self, room: str, user: str) -> None:
        """End a ban from a room."""
        await self._bot.ask("UNBAN", _room(room), (_member(user),))

    async def bans(self, room: str) -> list[str]:
        """Return the bans of a room, as lines for people."""
        found: list[str] = await self._bot.ask("BAN", _room(room))
        return found

    async def rooms(self) -> list[Room]:
        """Return the rooms that are visible to the user."""
        found: list[Room] = await self._bot.ask("ROOMS")
        return found

    async def members(self, room: str) -> list[Seen]:
        """Return the members of a room with their ranks. Members without a connection are
        ``AWAY``.
        """
        found: list[Seen] = await self._bot.ask("WHO", _room(room), (("Ranks", "yes"),))
        return found

    # Names and messages

    async def rename(self, name: str) -> None:
        """Change the user's own name, as a guest; ``name`` is then the new one.

        :raises Refused: if the name is malformed (100), in use (105), or has an account (106); if
            this user has an account (111).
        :raises NotConnected: as ``send``.
        """
        with as_refused():
            check_user_name(name)
        await self._bot.ask("RENAME", name)

    async def delete(self, number: int) -> None:
        """Delete the text of a message. A user can delete their own messages for an hour; the
        operators of a room can delete any message there.

        :raises Refused: if this user may not delete it (111).
        :raises NotConnected: as ``send``.
        """
        await self._bot.ask("DELETE", "", (("Message", _natural(number)),))

    async def mark_read(self, place: str, number: int) -> int:
        """Set the user's read marker in a conversation: the number up to which it was read.

        A marker never decreases. The user's other connections are told.

        :param place: as in ``history``.
        :return: the number at which the marker is now.
        :raises Refused, NotConnected: as ``send``.
        """
        with as_refused():
            parse_target(place)
        event = await self._bot.ask("READ", place, (("Message", _natural(number)),))
        marker: int = event.number
        return marker

    async def read_markers(self) -> dict[str, int]:
        """Return the user's read markers: the number for each conversation that has one.

        :raises NotConnected: if the session has ended.
        """
        return dict(await self._bot.ask("READ"))

    async def own_messages(self, *, after: int = 0, count: int = 1000) -> list[Received]:
        """Return messages that the user has sent, oldest first.

        :param after: only messages with a greater number than this.
        :param count: the maximum number; the server returns at most 1000.
        :raises Refused: if the user has no account (111).
        :raises NotConnected: as ``send``.
        """
        headers = (("After", _natural(after)), ("Count", _natural(count)))
        found: list[Received] = await self._bot.ask("ACCOUNT", "messages", headers)
        return found

    # History

    async def history(
        self,
        place: str,
        count: int = 50,
        *,
        after: int | None = None,
        before: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Received]:
        """Return messages of a conversation, oldest first.

        By default these are the last messages; with ``after`` or ``since``, the first ones from
        there.

        :param place: a room, ``ALL``, or a user for the direct messages with them.
        :param count: the maximum number; the server returns at most 1000.
        :param after: only messages with a greater number than this.
        :param before: only messages with a smaller number than this.
        :param since: only messages from this time on.
        :param until: only messages up to this time.
        :raises Refused, NotConnected: as ``send``.
        :raises ValueError: if a number is negative or too large.
        """
        with as_refused():
            parse_target(place)
        headers: list[tuple[str, object]] = [("Count", _natural(count))]
        for name, number in (("After", after), ("Before", before)):
            if number is not None:
                headers.append((name, _natural(number)))
        for name, moment in (("Since", since), ("Until", until)):
            if moment is not None:
                headers.append((name, format_time(max(0, int(moment.timestamp() * 1000)))))
        found: list[Received] = await self._bot.ask("HISTORY", place, tuple(headers))
        return found

    async def search(self, words: str, place: str = "", count: int = 20) -> list[Received]:
        """Return the messages that contain all of ``words``, best match first.

        :param place: as in ``history``; empty for all conversations of the user.
        :param count: the maximum number; the server returns at most 100.
        :raises Refused, NotConnected: as ``send``; also if there are no words (103) or too many
            (111).
        :raises ValueError: if ``count`` is negative or too large.
        """
        with as_refused():
            if place:
                parse_target(place)
            if not words.strip():
                raise HeaderIncomplete
        found: list[Received] = await self._bot.ask(
            "SEARCH", place, (("Count", _natural(count)),), words
        )
        return found

    # Presence

    async def who(self) -> list[Seen]:
        """Return the users who are present, in alphabetical order.

        :raises NotConnected: if the session has ended.
        """
        found: list[Seen] = await self._bot.ask("WHO")
        return found

    async def watch(self, seen: Callable[[Seen], object] | None) -> list[Seen]:
        """Call ``seen`` with each user who comes, leaves (``GONE``), goes away or comes back.

        It replaces an earlier callback. After a lost connection it is called with the changes
        since.

        :param seen: the callback; None to stop.
        :return: the users who are present now.
        :raises NotConnected: if the session has ended.
        """
        self._bot.live()
        self._bot.watcher = seen
        if seen is not None:
            return await self._bot.watch()
        found: list[Seen] = await self._bot.ask("WHO", "", (("Watch", "no"),))
        return found

    async def set_away(self, why: str = "") -> None:
        """Set the user's status to away.

        :param why: a reason in one line of at most 200 characters.
        :raises Refused, NotConnected: as ``send``.
        """
        await self._bot.ask("STATUS", "away", (), why or None)
        self._bot.away = why

    async def set_back(self) -> None:
        """Set the user's status back to present.

        :raises NotConnected: if the session has ended.
        """
        await self._bot.ask("STATUS", "here")
        self._bot.away = None


def _room(name: str) -> str:
    with as_refused():
        return check_room_name(name)


def _member(user: str) -> tuple[str, object]:
    """Return the header that names a member of a room."""
    with as_refused():
        check_user_name(user)
    return ("User", user)


def _natural(number: int) -> int:
    if not 0 <= number < 10**18:  # the protocol can't express others
        raise ValueError(f"{number} is not a number of messages or of one")
    return number
