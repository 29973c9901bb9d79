"""The newest messages of users and rooms, by which most users are known to have missed nothing.

When the server restarts, thousands of users come back at once. To look for missed messages in the
archive costs each of them a walk over all messages since their last one. This module must not know
sessions, or where messages are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from chat_twisted.core.message import Message

MAX_NOTED = 200_000
"""Maximum number of users and rooms that are noted; each takes about 100 bytes."""


class Recent:
    """The numbers of the newest messages.

    :param since: all messages with higher numbers are noted.
    :param to_all: the number of the newest message to all users, or 0.
    :param users: of users, the highest number of a message to or from them, or of the last message
        that they may read in a room which they have left.
    :param rooms: of rooms, the number of the newest message.
    """

    def __init__(
        self,
        since: int,
        to_all: int = 0,
        users: Mapping[int, int] | None = None,
        rooms: Mapping[int, int] | None = None,
    ) -> None:
        self._since = since
        self._to_all = to_all
        self._users = dict(users or {})
        self._rooms = dict(rooms or {})

    def note(self, messages: Sequence[Message]) -> None:
        """Note consecutive messages with the same recipients."""
        message, number = messages[0], messages[-1].number
        if message.recipient:
            self._users[message.recipient] = self._users[message.author] = number
        elif message.room:
            self._rooms[message.room] = number
            for each in messages:  # an author need not be a member
                self._users[each.author] = each.number
        else:
            self._to_all = number
        if len(self._users) + len(self._rooms) > MAX_NOTED:
            self._users.clear()
            self._rooms.clear()
            self._since = number

    def left(self, user: int, until: int) -> None:
        """Note that a user has left a room.

        :param until: the number of the last message there that the user may read.
        """
        self._users[user] = max(until, self._users.get(user, 0))

    def has_missed_nothing(self, user: int, rooms: Iterable[int], after: int) -> bool:
        """Return whether no message with a number after ``after`` is to the user, or from the user.

        :param rooms: the rooms of the user.
        :return: False also if that is not known.
        """
        return (
            after >= self._since
            and self._to_all <= after
            and self._users.get(user, 0) <= after
            and all(self._rooms.get(room, 0) <= after for room in rooms)
        )
