"""The requests that a user can make of a chat, as methods that return their answers.

``ChatRequests`` is the common part of a session (``session.ChatSession``) and of the library for
bots. A request has a verb, an argument, headers and perhaps a body, as in docs/protocol.rst; this
module must not know how it reaches the server, or how the answer is shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from datetime import datetime
from typing import Any

from chat_twisted.core.message import check_room_name, check_user_name, parse_target
from chat_twisted.frames import HeaderIncomplete, format_time
from chat_twisted.ui.errors import as_refused
from chat_twisted.ui.values import Done, Event, Found, Marker, Profile, Received, Room, Seen

Headers = tuple[tuple[str, object], ...]


class ChatRequests:
    """The requests of a user.

    All methods raise ``Refused`` if the server refuses the request, or would refuse it, and
    ``NotConnected`` if the session has ended. They wait for the answer across any number of
    reconnections.
    """

    def ask(
        self, verb: str, argument: str = "", headers: Headers = (), body: str | None = None
    ) -> Awaitable[Any]:
        """Send a request of the protocol at once; return what waits for its answer."""
        raise NotImplementedError

    # Rooms

    async def enter(self, room: str, *, private: bool = False) -> Event:
        """Join a room, creating it if it does not exist; return its topic, modes and operators."""
        event: Event = await self.ask("JOIN", _room(room), (("Private", "yes"),) if private else ())
        return event

    async def join(self, room: str, *, private: bool = False) -> str:
        """Join a room, creating it if it does not exist; return its topic.

        :param private: if the room is created, only invited users can join it.
        :raises Refused: if the room is private and the user is not invited, the room is public
            although ``private`` is set, or the user is in too many rooms (111).
        """
        return (await self.enter(room, private=private)).topic or ""

    async def leave(self, room: str, reason: str = "") -> Event:
        """Leave a room.

        :param reason: one line of at most 200 bytes, for the other members.
        """
        event: Event = await self.ask("LEAVE", _room(room), (), reason or None)
        return event

    async def topic(self, room: str, text: str | None = None) -> str:
        """Return a room's topic, or set it first if ``text`` is given.

        :param text: one line of at most 400 characters.
        """
        return (await self.topic_event(room, text)).topic or ""

    async def topic_event(self, room: str, text: str | None = None) -> Event:
        """Set or read a room's topic, as ``topic``; return who has set it, too."""
        event: Event = await self.ask("TOPIC", _room(room), (), text)
        return event

    async def invite(self, room: str, user: str) -> Event:
        """Invite a user to a room; to a private one, as its operator."""
        event: Event = await self.ask("INVITE", _room(room), (_member(user),))
        return event

    async def set_rank(self, room: str, user: str, rank: str) -> Event:
        """Set the rank of a member of a room, as its operator.

        :param rank: ``operator``, ``voice`` (may speak in a moderated room) or ``none``.
        """
        event: Event = await self.ask("RANK", _room(room), (_member(user), ("Rank", rank)))
        return event

    async def set_mode(self, room: str, mode: str, on: bool = True) -> Event:
        """Switch a mode of a room on or off, as its operator.

        :param mode: ``private`` (both of the next two), ``invite-only`` (only invited users join),
            ``secret`` (only they and members see the room), ``moderated`` (only operators and
            voices speak) or ``topic`` (only operators set the topic).
        """
        headers = (("Mode", mode), ("On", "yes" if on else "no"))
        event: Event = await self.ask("MODE", _room(room), headers)
        return event

    async def modes(self, room: str) -> list[str]:
        """Return the modes of a room that are on."""
        event: Event = await self.ask("MODE", _room(room))
        return list(event.modes)

    async def kick(self, room: str, user: str, reason: str = "") -> Event:
        """Remove a member from a room, as its operator.

        :param reason: one line of at most 200 bytes.
        """
        event: Event = await self.ask("KICK", _room(room), (_member(user),), reason or None)
        return event

    async def ban(self, room: str, user: str, reason: str = "") -> Event:
        """Keep a user out of a room, as its operator.

        :param reason: one line of at most 200 bytes.
        """
        event: Event = await self.ask("BAN", _room(room), (_member(user),), reason or None)
        return event

    async def unban(self, room: str, user: str) -> Event:
        """End a ban from a room."""
        event: Event = await self.ask("UNBAN", _room(room), (_member(user),))
        return event

    async def bans(self, room: str = "") -> list[str]:
        """Return the bans of a room, as lines for people.

        :param room: the room; empty for the bans and mutes of the server, as its operator.
        """
        found: list[str] = await self.ask("BAN", _room(room) if room else "")
        return found

    async def rooms(self) -> list[Room]:
        """Return the rooms that are visible to the user."""
        found: list[Room] = await self.ask("ROOMS")
        return found

    async def members(self, room: str) -> list[Seen]:
        """Return the members of a room with their ranks. Members without a connection are
        ``AWAY``.
        """
        headers = (("Ranks", "yes"), ("Identities", "yes"))
        found: list[Seen] = await self.ask("WHO", _room(room), headers)
        return found

    # Names and messages

    async def rename(self, name: str) -> Event:
        """Change the user's own name, as a guest; ``name`` is then the new one.

        :raises Refused: if the name is malformed (100), in use (105), or has an account (106); if
            this user has an account (111).
        """
        with as_refused():
            check_user_name(name)
        event: Event = await self.ask("RENAME", name)
        return event

    async def delete(self, number: int) -> Event:
        """Delete the text of a message. A user can delete their own messages for an hour; the
        operators of a room can delete any message there.

        :raises Refused: if this user may not delete it (111).
        """
        event: Event = await self.ask("DELETE", "", (("Message", natural(number)),))
        return event

    async def mark_read(self, place: str, number: int) -> int:
        """Set the user's read marker in a conversation: the number up to which it was read.

        A marker never decreases. The user's other connections are told.

        :param place: as in ``history``.
        :return: the number at which the marker is now.
        """
        with as_refused():
            parse_target(place)
        event: Event = await self.ask("READ", place, (("Message", natural(number)),))
        return event.number

    async def read_markers(self) -> dict[str, int]:
        """Return the user's read markers: the number for each conversation that has one."""
        found: list[Marker] = await self.ask("READ")
        return {marker.conversation: marker.number for marker in found}

    async def unread(self) -> list[Marker]:
        """Return the conversations that have a read marker or unread messages."""
        found: list[Marker] = await self.ask("READ", "", (("Unread", "yes"),))
        return found

    async def own_messages(self, *, after: int = 0, count: int = 1000) -> list[Received]:
        """Return messages that the user has sent, oldest first.

        :param after: only messages with a greater number than this.
        :param count: the maximum number; the server returns at most 1000.
        :raises Refused: if the user has no account (111).
        """
        return (await self.own_page(after=after, count=count)).messages

    async def own_page(self, *, after: int, count: int) -> Found:
        """Return messages that the user has sent, as ``own_messages``, and where more begin."""
        headers = (("After", natural(after)), ("Count", natural(count)))
        found: Found = await self.ask("ACCOUNT", "messages", headers)
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
        :raises ValueError: if a number is negative or too large.
        """
        page = await self.history_page(
            place, count, after=after, before=before, since=since, until=until
        )
        return page.messages

    async def search(self, words: str, place: str = "", count: int = 20) -> list[Received]:
        """Return the messages that contain all of ``words``, best match first.

        :param place: as in ``history``; empty for all conversations of the user.
        :param count: the maximum number; the server returns at most 100.
        :raises Refused: also if there are no words (103) or too many (111).
        :raises ValueError: if ``count`` is negative or too large.
        """
        return (await self._find("SEARCH", place, [("Count", natural(count))], words)).messages

    async def history_page(
        self,
        place: str,
        count: int,
        *,
        after: int | None = None,
        before: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Found:
        """Return messages of a conversation, as ``history`` does, and how many there are."""
        headers: list[tuple[str, object]] = [("Count", natural(count)), ("Total", "yes")]
        for name, number in (("After", after), ("Before", before)):
            if number is not None:
                headers.append((name, natural(number)))
        return await self._find("HISTORY", place, [*headers, *_times(since, until)])

    async def search_page(
        self,
        words: str,
        place: str = "",
        count: int = 20,
        *,
        author: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        skip: int = 0,
    ) -> Found:
        """Return messages that contain all of ``words``, best match first, and how many there are.

        :param author: only messages of this user.
        :param since, until: times that bound them.
        :param skip: how many of the best matches to leave out.
        """
        headers: list[tuple[str, object]] = [("Count", natural(count)), ("Total", "yes")]
        if author:
            headers.append(_author(author))
        if skip:
            headers.append(("Skip", natural(skip)))
        return await self._find("SEARCH", place, [*headers, *_times(since, until)], words)

    async def _find(
        self,
        verb: str,
        place: str,
        headers: Iterable[tuple[str, object]],
        words: str | None = None,
    ) -> Found:
        """Read messages: the common part of the methods above."""
        with as_refused():
            if place:
                parse_target(place)
            if words is not None and not words.strip():
                raise HeaderIncomplete
        found: Found = await self.ask(verb, place, tuple(headers), words)
        return found

    # Presence

    async def who(self) -> list[Seen]:
        """Return the users who are present, in alphabetical order."""
        found: list[Seen] = await self.ask("WHO", "", (("Identities", "yes"),))
        return found

    async def whois(self, user: str) -> Profile:
        """Return what the server tells about a user.

        :raises Refused: if there is no such user (102).
        """
        with as_refused():
            check_user_name(user)
        profile: Profile = await self.ask("WHOIS", user)
        return profile

    async def set_away(self, why: str = "") -> None:
        """Set the user's status to away.

        :param why: a reason in one line of at most 200 characters.
        """
        await self.ask("STATUS", "away", (), why or None)

    async def set_back(self) -> None:
        """Set the user's status back to present."""
        await self.ask("STATUS", "here")

    # Accounts

    async def register(self, key: str = "", password: str = "") -> Done:
        """Make an account for a guest, with a key or a password.

        :param key: a public key, as ssh-keygen writes it.
        :raises Refused: if it is not a key, or the user has an account (111).
        """
        headers: Headers = (("Key", key),) if key else ()
        done: Done = await self.ask("ACCOUNT", "register", headers, password or None)
        return done

    async def set_password(self, password: str) -> Done:
        """Set the password of the user's account."""
        done: Done = await self.ask("ACCOUNT", "password", (), password)
        return done

    async def keys(self) -> Done:
        """Return the keys of the user's account, as its ``lines``."""
        done: Done = await self.ask("ACCOUNT", "keys")
        return done

    async def add_key(self, key: str) -> Done:
        """Add a public key to the user's account."""
        done: Done = await self.ask("ACCOUNT", "add", (("Key", key),))
        return done

    async def remove_key(self, key: str) -> Done:
        """Remove a public key from the user's account."""
        done: Done = await self.ask("ACCOUNT", "remove", (("Key", key),))
        return done

    async def unregister(self, *, erase: bool = False) -> Done:
        """Give up the user's account.

        :param erase: whether all messages of the user are deleted, too.
        """
        headers = (("Erase", "yes"),) if erase else ()
        done: Done = await self.ask("ACCOUNT", "unregister", headers)
        return done

    # For operators of the server. A subject is a user, an address or a network.

    async def disconnect(self, user: str, reason: str = "") -> Done:
        """Close all connections of a user."""
        with as_refused():
            check_user_name(user)
        done: Done = await self.ask("KICK", user, (), reason or None)
        return done

    async def impose(self, verb: str, subject: str, duration: str = "", reason: str = "") -> Done:
        """Ban or mute a subject.

        :param verb: ``BAN`` or ``MUTE``.
        :param duration: as in ``10m``; empty for ever.
        """
        headers = (("Duration", duration),) if duration else ()
        done: Done = await self.ask(verb, subject, headers, reason or None)
        return done

    async def lift(self, verb: str, subject: str) -> Done:
        """End a ban or a mute.

        :param verb: ``UNBAN`` or ``UNMUTE``.
        """
        done: Done = await self.ask(verb, subject)
        return done


def _room(name: str) -> str:
    with as_refused():
        return check_room_name(name)


def _member(user: str) -> tuple[str, object]:
    """Return the header that names a member of a room."""
    with as_refused():
        check_user_name(user)
    return ("User", user)


def _author(user: str) -> tuple[str, object]:
    with as_refused():
        check_user_name(user)
    return ("From", user)


def _times(since: datetime | None, until: datetime | None) -> list[tuple[str, object]]:
    return [
        (name, format_time(max(0, int(moment.timestamp() * 1000))))
        for name, moment in (("Since", since), ("Until", until))
        if moment is not None
    ]


def natural(number: int) -> int:
    """Return a number of messages, or of one.

    :raises ValueError: if the protocol can't express it.
    """
    if not 0 <= number < 10**18:
        raise ValueError(f"{number} is not a number of messages or of one")
    return number
