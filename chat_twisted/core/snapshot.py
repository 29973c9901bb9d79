"""Converts the state to rows of tables, and back.

A server loads its state from the rows in the archive (``load``); tests compare states by their rows
(``dump``). The tables and columns are those of the archive's schema. Data that can be derived from
other rows is left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from chat_twisted.core.changes import (
    add_invitation,
    add_key,
    add_member,
    add_room,
    add_sanction,
    add_token,
    add_user,
    remember,
)
from chat_twisted.core.commands import MODES, Options
from chat_twisted.core.entries import Progress
from chat_twisted.core.model import (
    Account,
    Hold,
    Marker,
    Member,
    Room,
    RoomBan,
    Sanction,
    Session,
    Token,
    User,
    user_key,
)
from chat_twisted.core.ordered import Ordered
from chat_twisted.core.state import State

Rows = list[tuple[Any, ...]]


class Snapshot(NamedTuple):
    """The rows of all tables, each in the order of loading. For the columns see ``dump``."""

    progress: Progress = Progress(0, 0, 0)
    options: Options = Options()
    users: Rows = []
    tokens: Rows = []
    sessions: Rows = []
    holds: Rows = []
    markers: Rows = []
    accounts: Rows = []
    keys: Rows = []
    rooms: Rows = []
    members: Rows = []
    invitations: Rows = []
    room_bans: Rows = []
    sanctions: Rows = []
    sent: Rows = []


def dump(state: State) -> Snapshot:
    """Return the rows of a state."""
    snapshot = Snapshot(state.progress, state.options, *([] for _ in range(13)))
    for user in state.users.values():
        _dump_user(state, user, snapshot)
    for room in state.rooms.values():
        modes = tuple(mode in room.modes for mode in MODES)
        topic = (room.topic, room.topic_author, room.topic_time)
        snapshot.rooms.append(
            (room.id, room.name, room.address, room.time, room.ordinal, *modes, *topic)
        )
        snapshot.members.extend((room.id, id, *member) for id, member in room.members.items())
        snapshot.invitations.extend((room.id, id) for id in sorted(room.invited))
        snapshot.room_bans.extend((room.id, name, *ban) for name, ban in sorted(room.bans.items()))
    snapshot.sanctions.extend(sorted(state.sanctions.values()))
    snapshot.holds.sort(key=lambda row: row[3])
    snapshot.members.sort(key=lambda row: row[4])  # a user's rooms have an order, too
    snapshot.sent.sort(key=lambda row: row[2])
    return snapshot


def _dump_user(state: State, user: User, to: Snapshot) -> None:
    id = user.id
    to.users.append(
        (
            *(id, user.name, user.kept, user.since, user.ordinal),
            *(user.cursor, user.epoch, user.away, user.time, user.real_name, user.bot),
            user.login_name,
        )
    )
    to.tokens.extend((id, digest, *token) for digest, token in user.tokens.items())
    to.sessions.extend(
        (id, epoch, s.node, s.host, s.token, s.proof, s.present)
        for epoch, s in user.sessions.items()
    )
    if (hold := state.holds.get(id)) is not None:
        to.holds.append((id, *hold))
    to.markers.extend((id, *place, *marker) for place, marker in sorted(user.markers.items()))
    if (account := user.account) is not None:
        to.accounts.append((id, account.time, account.operator, account.password))
        to.keys.extend((id, key, *what) for key, what in account.keys.items())
    to.sent.extend((id, key, *sent[:3]) for key, sent in user.remembered(state.time))


def load(snapshot: Snapshot) -> State:
    """Make a state from its rows."""
    state = State()
    state.version, state.time, state.number = snapshot.progress
    state.options = snapshot.options
    _load_users(state, snapshot)
    _load_rooms(state, snapshot)
    for row in snapshot.sanctions:
        add_sanction(state, Sanction(*row))
    for id, key, number, time, logged in snapshot.sent:
        if (author := state.users.get(id)) is not None:
            remember(state, author, key, number, time, logged)
    return state


def _load_users(state: State, snapshot: Snapshot) -> None:
    users = state.users
    for id, name, kept, since, ordinal, cursor, epoch, away, time, *about in snapshot.users:
        user = User(id, name, bool(kept), since, ordinal, time)
        user.cursor, user.epoch, user.away = cursor, epoch, away
        user.real_name, user.bot, user.login_name = about[0], bool(about[1]), about[2]
        add_user(state, user)
    for id, digest, proof, ordinal in snapshot.tokens:
        add_token(state, users[id], digest, Token(proof, ordinal))
    for id, epoch, node, host, token, proof, present in snapshot.sessions:
        users[id].sessions[epoch] = Session(node, host, token, proof, bool(present))
    state.present = Ordered(user_key, (user for user in users.values() if user.present))
    for id, until, address, ordinal in snapshot.holds:
        state.holds.add(id, Hold(until, address, ordinal))
    for id, room, name, number, time in snapshot.markers:
        users[id].markers[room, name] = Marker(number, time)
    for id, time, operator, password in snapshot.accounts:
        users[id].account = Account(time, operator=bool(operator), password=password)
    state.accounts = Ordered(user_key, (user for user in users.values() if user.account))
    for id, key, comment, ordinal in snapshot.keys:
        add_key(state, users[id], key, comment, ordinal)


def _load_rooms(state: State, snapshot: Snapshot) -> None:
    rooms, users = state.rooms, state.users
    for id, name, address, time, ordinal, *more in snapshot.rooms:
        room = Room(id, name, address, time, ordinal)
        *flags, room.topic, room.topic_author, room.topic_time = more
        room.modes = {mode for mode, on in zip(MODES, flags, strict=True) if on}
        add_room(state, room)
    for id, user, rank, since, ordinal in snapshot.members:
        add_member(state, rooms[id], users[user], Member(rank, since, ordinal))
    for id, user in snapshot.invitations:
        add_invitation(state, rooms[id], users[user])
    for id, name, author, time, reason in snapshot.room_bans:
        rooms[id].bans[name] = RoomBan(author, time, reason)
