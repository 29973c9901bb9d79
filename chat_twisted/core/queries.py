"""Queries: reading the state and the stored messages for sessions.

Queries of the state are answered at once. Queries of stored messages first wait until all earlier
requests are committed, so that users see the effects of their own requests. This module must not
know protocols, or where messages are stored.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from chat_twisted.core import messages, room_rules, sanctions
from chat_twisted.core.commands import Command, Turn
from chat_twisted.core.entries import Result
from chat_twisted.core.errors import (
    NoAccount,
    NoSession,
    NoSuchRoom,
    NotYours,
    SearchTooBroad,
    TookTooLong,
    UnableToSend,
)
from chat_twisted.core.message import (
    EVERYBODY,
    PUBLIC,
    Audience,
    Conversation,
    Message,
    fold,
    parse_target,
    seen_by,
)
from chat_twisted.core.model import NO_MARKER, Account, Room, RoomBan, Sanction, User, room_key
from chat_twisted.core.ordered import Listing
from chat_twisted.core.reads import Found, Newest, Reads, RoomMarker, Search, Span, Times
from chat_twisted.core.sessions import Session
from chat_twisted.core.state import State
from chat_twisted.core.usage import Usage


class Queries:
    """Answers queries of sessions.

    Lists are in the order of the folded names of their items, and have the items after the name
    ``after``.

    :param state: returns the state, which may be ahead of the delivery.
    :param reads: reads stored messages.
    :param ask: proposes a command (``Hub.ask``).
    """

    def __init__(
        self,
        state: Callable[[], State],
        reads: Reads,
        usage: Usage,
        ask: Callable[[Command], Deferred[Result]],
    ) -> None:
        self._state = state
        self._reads = reads
        self._usage = usage
        self._ask = ask

    # Stored messages

    async def _turn(self, session: Session) -> User:
        """Wait until all earlier requests are committed; return the user of the session.

        :raises NoSession: if the session has ended.
        """
        await self._ask(Turn())
        user = self._state().users.get(session.user)
        if session.ended or user is None:
            raise NoSession
        return user

    def history(self, session: Session, argument: str, span: Span) -> Deferred[Found]:
        """Read a part of a conversation of the session's user.

        :param argument: the other user, a room or ALL.
        :return: fires with the result of ``lookup.history``; fails with a ``ChatError`` if the
            argument is not valid or the user is not a member of the room.
        :raises TooFast: if the session has read too much.
        """
        asker = self._usage.checked_asker(session)

        async def read() -> Found:
            user = await self._turn(session)
            within = self._conversation(user, argument)
            found = await self._reads.history(within, span, asker)
            return found._replace(messages=seen_by(user.id, user.name, found.messages))

        return Deferred.fromCoroutine(read())

    def sent(
        self, session: Session, after: int, count: int
    ) -> Deferred[tuple[list[Message], int | None]]:
        """Read messages that the session's user has sent, oldest first.

        :return: fires with the result of ``lookup.sent_by``.
        :raises TooFast: if the session has read too much.
        """
        asker = self._usage.checked_asker(session)

        async def read() -> tuple[list[Message], int | None]:
            user = await self._turn(session)
            found, more = await self._reads.sent_by(user.id, after, count, asker)
            return seen_by(user.id, user.name, found), more

        return Deferred.fromCoroutine(read())

    def search(
        self, session: Session, argument: str, author: str | None, search: Search
    ) -> Deferred[Found]:
        """Search the messages that the session's user may read.

        :param argument: the conversation, as for ``history``; all if it is empty.
        :param author: the name of the user whose messages are searched; None for all.
        :return: fires with the result of ``lookup.search``; fails as ``history`` does, and with
            ``SearchTooBroad`` if it takes too long.
        :raises TooFast: if the session has read too much.
        """
        asker = self._usage.checked_asker(session)

        async def read() -> Found:
            user = await self._turn(session)
            within = self._conversation(user, argument) if argument else None
            of_author = search._replace(author=None if author is None else self._author(author))
            try:
                found = await self._reads.search(
                    user.id, list(user.rooms), within, of_author, asker
                )
            except TookTooLong:
                raise SearchTooBroad from None
            return found._replace(messages=seen_by(user.id, user.name, found.messages))

        return Deferred.fromCoroutine(read())

    def unread(
        self, session: Session, after: str
    ) -> Deferred[tuple[list[tuple[str, int, int]], str]]:
        """Count the unread messages in the conversations of the session's user.

        :param after: only conversations with folded names after this.
        :return: fires with the name, the marker and the number of unread messages of each
            conversation on a page, and the name after which there may be more, or an empty one.
        :raises TooFast: if the session has read too much.
        """
        asker = self._usage.checked_asker(session)

        async def read() -> tuple[list[tuple[str, int, int]], str]:
            user = await self._turn(session)
            rooms, names = {}, {EVERYBODY.key: EVERYBODY.name}
            if marker := user.markers.get((0, ""), NO_MARKER).number:
                rooms[EVERYBODY.key] = RoomMarker(0, marker, marker)
            for room in user.rooms.values():
                marker = user.markers.get((room.id, ""), NO_MARKER).number
                after_number = marker or room.members[user.id].since
                rooms[room.key] = RoomMarker(room.id, marker, after_number)
                names[room.key] = room.name
            direct = {key: marker.number for (_, key), marker in user.markers.items() if key}
            page = await self._reads.unread(user.id, after, rooms, direct, asker)
            users = self._state().names

            def name(key: str) -> str:
                return names.get(key) or (users[key].name if key in users else key)

            return [
                (name(key), marker, number) for key, marker, number in page.conversations
            ], name(page.more)

        return Deferred.fromCoroutine(read())

    def newest(self, session: Session, times: Times) -> Deferred[list[Newest]]:
        """Find the conversations of the session's user of which the newest message is of some
        time.

        :return: fires with the result of ``lookup.newest``.
        :raises TooFast: if the session has read too much.
        """
        asker = self._usage.checked_asker(session)

        async def read() -> list[Newest]:
            user = await self._turn(session)
            return await self._reads.newest(user.id, list(user.rooms), times, asker)

        return Deferred.fromCoroutine(read())

    def message(self, session: Session, number: int) -> Deferred[Message]:
        """Read one message, even if the user may not read it: the caller must not show it.

        :return: fires with the message; fails with ``NotYours`` if there is none.
        :raises TooFast: if the session has read too much.
        """
        asker = self._usage.checked_asker(session)

        async def read() -> Message:
            await self._turn(session)
            message = await self._reads.message(number, asker)
            if message is None:
                raise NotYours
            return message

        return Deferred.fromCoroutine(read())

    def _conversation(self, user: User, argument: str) -> Conversation:
        target = parse_target(argument)
        if target.audience is Audience.ALL:
            return PUBLIC
        if target.audience is Audience.ROOM:
            return Conversation(messages.joined(self._state(), target.key, user).id, "")
        other = self._state().names.get(target.key)
        return Conversation(user.id, target.key, 0 if other is None else other.id)

    def _author(self, name: str) -> tuple[str, int]:
        target = parse_target(name)
        if target.audience is not Audience.USER:
            raise UnableToSend("no user can have that name")
        user = self._state().names.get(target.key)
        return target.key, 0 if user is None else user.id

    # The state

    def user(self, session: Session) -> User:
        """Return the user of a session.

        :raises NoSession: if the session has ended.
        """
        user = self._state().users.get(session.user)
        if user is None:
            raise NoSession
        return user

    def account(self, session: Session) -> Account:
        """Return the account of the session's user.

        :raises NoAccount: if there is none.
        """
        account = self.user(session).account
        if account is None:
            raise NoAccount
        return account

    def named(self, session: Session, name: str) -> tuple[User, list[Room]]:
        """Return the user of a name, with the rooms that they have in common with the session's
        user, by name.

        :raises UnableToSend: if nobody has the name.
        """
        user, asker = self._state().names.get(fold(name)), self.user(session)
        if user is None:
            raise UnableToSend("nobody has the name")
        fewer, more = sorted((user.rooms, asker.rooms), key=len)
        return user, sorted((room for id, room in fewer.items() if id in more), key=room_key)

    def room(self, session: Session, name: str) -> Room:
        """Return a room that the session's user may know of.

        :raises NoSuchRoom: if there is no such room.
        """
        room = self._state().room_names.get(fold(name))
        if room is None or not room.visible(session.user):
            raise NoSuchRoom
        return room

    def rooms(self, session: Session, after: str = "") -> Listing[Room]:
        """Return the rooms that the session's user may know of."""
        return self._state().rooms_seen_by(session.user, after)

    def members(self, session: Session, name: str, after: str = "") -> Listing[User]:
        """Return the members of a room.

        :raises NoSuchRoom: if the session's user may not know of such a room.
        """
        members = self.room(session, name).list_members(self._state().users)
        return Listing(len(members), members.after(after))

    def sanctions(self, session: Session, after: str = "") -> Listing[Sanction]:
        """Return the sanctions, in the order of their keys.

        :raises OperatorRequired: if the session's user is not an operator.
        """
        state = self._state()
        sanctions.operating(state, session.user, session.epoch)
        return Listing(len(state.sanctions_in_order), state.sanctions_in_order.after(after))

    def room_bans(
        self, session: Session, name: str, after: str = ""
    ) -> Listing[tuple[str, RoomBan]]:
        """Return the names that are banned from a room.

        :raises RoomOperatorRequired: if the session's user is not an operator of the room.
        """
        _, room = room_rules.in_charge(self._state(), session.user, session.epoch, name)
        bans = sorted(room.bans.items())
        return Listing(len(bans), (item for item in bans if item[0] > after))

    def markers(self, session: Session, after: str = "") -> Listing[tuple[str, int]]:
        """Return the read markers of the session's user, by the names of the conversations."""
        state, found = self._state(), []
        for (room, key), (number, _) in self.user(session).markers.items():
            if not number:
                continue
            if not room:
                other = state.names.get(key)
                found.append((EVERYBODY.name if not key else other.name if other else key, number))
            elif room in state.rooms and session.user in state.rooms[room].members:
                found.append((state.rooms[room].name, number))
        found.sort(key=lambda marker: fold(marker[0]))
        return Listing(len(found), (marker for marker in found if fold(marker[0]) > after))
