"""How events look on IRC: the lines that a client gets when something happens.

What a client sees of an event depends on its ``View`` only, so lines are encoded once for all
clients with the same view. This module must not know connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from chat_twisted.core import events
from chat_twisted.core.commands import (
    INVITE_ONLY,
    MODERATED,
    NONE,
    OPERATOR,
    PRIVATE,
    SECRET,
    TOPIC_LOCKED,
    VOICE,
)
from chat_twisted.core.events import Event
from chat_twisted.core.message import fold
from chat_twisted.core.model import User
from chat_twisted.core.state import State
from chat_twisted.doors.irc.capabilities import (
    ACCOUNT_NOTIFY,
    ACCOUNT_TAG,
    AWAY_NOTIFY,
    EXTENDED_JOIN,
    EXTENDED_MONITOR,
    INVITE_NOTIFY,
    REDACTION,
    SETNAME,
)
from chat_twisted.doors.irc.messages import Out
from chat_twisted.doors.irc.numerics import ALL, SERVER, prefix
from chat_twisted.doors.irc.splitting import harmless

MODE_LETTERS = {
    INVITE_ONLY: "i",
    MODERATED: "m",
    PRIVATE: "p",
    SECRET: "s",
    TOPIC_LOCKED: "t",
}
"""The letters of the modes of rooms. ``n`` is always on: only members can send."""

RANK_LETTERS = {OPERATOR: "o", VOICE: "v"}
RANK_SIGNS = {OPERATOR: "@", VOICE: "+", NONE: ""}

EVERYBODY = fold(ALL)


class View(NamedTuple):
    """What decides how a client sees an event.

    :ivar caps: its capabilities.
    :ivar nick: the name of its user, if the event may be shown with it; else empty, so that the
        lines are the same for several clients.
    :ivar own: whether the event is about its own user.
    :ivar channels: the channels which it shares with the user whom the event is about.
    :ivar monitored: the folded names of that user, before and after the event, that it monitors.
    """

    caps: int
    nick: str
    own: bool
    channels: tuple[str, ...]
    monitored: tuple[str, ...]

    def notices(self, capability: int) -> bool:
        """Return whether the client sees a change of the user that needs a capability."""
        if not self.caps & capability:
            return False
        return bool(self.channels) or bool(self.monitored and self.caps & EXTENDED_MONITOR)


def by(name: str) -> str:
    """Return the source of what a user, or the console if ``name`` is empty, does."""
    return prefix(name) if name else SERVER


def rank_change(before: int, after: int) -> str:
    """Return the mode change from a rank to another one, for example ``-o+v``."""
    off, on = RANK_LETTERS.get(before), RANK_LETTERS.get(after)
    return (f"-{off}" if off else "") + (f"+{on}" if on else "")


def join_line(channel: str, name: str, user: User | None, caps: int) -> Out:
    """Return the line that says that a user has joined a channel."""
    if not caps & EXTENDED_JOIN:
        return Out("JOIN", (channel,), prefix(name))
    account = "*" if user is None or user.account is None else name
    real_name = name if user is None else real_name_of(user)
    return Out("JOIN", (channel, account, real_name), prefix(name))


def real_name_of(user: User) -> str:
    """Return the real name of a user, or the name without one: on IRC it can't be empty."""
    return user.real_name or user.name


def login_name_of(user: User) -> str:
    """Return the name of a user on their own machine, or the name if it is not known."""
    return user.login_name or user.name


def with_account(state: State, line: Out, caps: int) -> Out:
    """Return a line with the account of its source, if the client wants that (account-tag)."""
    name, is_user, _ = line.source.partition("!")
    if not caps & ACCOUNT_TAG or not is_user:
        return line
    user = state.names.get(fold(name))
    if user is None or user.account is None:
        return line
    return line._replace(tags={**line.tags, "account": user.name})


def _arrived(state: State, event: events.UserArrived, view: View) -> Iterator[Out]:
    user = state.names.get(fold(event.user))
    for channel in view.channels:
        yield join_line(channel, event.user, user, view.caps)
        room = state.room_names.get(fold(channel))
        if room is not None and user is not None and user.id in room.members:
            mode = rank_change(NONE, room.members[user.id].rank)
            if mode:
                yield Out("MODE", (channel, mode, event.user), SERVER)
    if view.channels and user is not None and user.away is not None and view.caps & AWAY_NOTIFY:
        yield Out("AWAY", (user.away or "Away",), prefix(event.user))
    if view.monitored:
        yield Out("730", (view.nick, prefix(event.user)), SERVER)


def _left(state: State, event: events.UserLeft, view: View) -> Iterator[Out]:
    if view.channels:
        reason = event.reason or ("Connection lost" if event.lost else "Quit")
        if event.by:
            reason = f"Disconnected by {event.by}" + (f": {event.reason}" if event.reason else "")
        yield Out("QUIT", (reason,), prefix(event.user))
    if view.monitored:
        yield Out("731", (view.nick, event.user), SERVER)


def _joined(state: State, event: events.MemberJoined, view: View) -> Iterator[Out]:
    if view.own:
        return  # the session gets the names too: see ``IRCDoor.tell``
    user = state.names.get(fold(event.user))
    yield join_line(event.room, event.user, user, view.caps)
    if user is not None and user.away is not None and view.caps & AWAY_NOTIFY:
        yield Out("AWAY", (user.away or "Away",), prefix(event.user))
    mode = rank_change(NONE, event.rank)
    if mode:
        yield Out("MODE", (event.room, mode, event.user), SERVER)


def _parted(state: State, event: events.MemberLeft, view: View) -> Iterator[Out]:
    reason = (event.reason,) if event.reason else ()
    if event.by and (event.present or view.own):
        yield Out("KICK", (event.room, event.user, *(reason or (event.by,))), by(event.by))
    elif event.present or view.own:
        yield Out("PART", (event.room, *reason), prefix(event.user))


def _ranked(state: State, event: events.RankChanged, view: View) -> Iterator[Out]:
    change = rank_change(event.before, event.rank)
    names = [event.user] * sum(letter in "ov" for letter in change)
    user = state.names.get(fold(event.user))
    if user is not None and user.present:
        yield Out("MODE", (event.room, change, *names), by(event.by))


def _mode(state: State, event: events.ModeChanged, view: View) -> Iterator[Out]:
    change = ("+" if event.on else "-") + MODE_LETTERS[event.mode]
    yield Out("MODE", (event.room, change), by(event.by))


def _topic(state: State, event: events.TopicChanged, view: View) -> Iterator[Out]:
    yield Out("TOPIC", (event.room, event.topic), by(event.by))


def _invited(state: State, event: events.Invitation, view: View) -> Iterator[Out]:
    yield Out("INVITE", (event.user, event.room), by(event.by))


def _member_invited(state: State, event: events.MemberInvited, view: View) -> Iterator[Out]:
    if view.caps & INVITE_NOTIFY:
        yield Out("INVITE", (event.user, event.room), by(event.by))


def _banned(state: State, event: events.BanChanged, view: View) -> Iterator[Out]:
    change = "+b" if event.on else "-b"
    yield Out("MODE", (event.room, change, f"{event.name}!*@*"), by(event.by))


def _renamed(state: State, event: events.NameChanged, view: View) -> Iterator[Out]:
    if view.own or view.channels:
        yield Out("NICK", (event.after,), prefix(event.before))
    before, after = fold(event.before), fold(event.after)
    if before != after and before in view.monitored:
        yield Out("731", (view.nick, event.before), SERVER)
    if before != after and after in view.monitored:
        yield Out("730", (view.nick, prefix(event.after)), SERVER)


def _away(state: State, event: events.AwayChanged, view: View) -> Iterator[Out]:
    if view.notices(AWAY_NOTIFY) and not view.own:
        why = () if event.why is None else (event.why or "Away",)
        yield Out("AWAY", why, prefix(event.user))


def _account(state: State, event: events.AccountChanged, view: View) -> Iterator[Out]:
    if view.notices(ACCOUNT_NOTIFY):
        account = event.user if event.has_account else "*"
        yield Out("ACCOUNT", (account,), prefix(event.user))


def _deleted(state: State, event: events.MessageDeleted, view: View) -> Iterator[Out]:
    if not view.caps & REDACTION:
        return
    target = event.conversation
    if target == "ALL":
        if ALL not in view.channels:
            return
        target = ALL
    elif target == event.by:  # by the other user, so the message was to this one
        target = view.nick
    reason = (event.reason,) if event.reason else ()
    yield Out("REDACT", (target, str(event.number), *reason), by(event.by))


def _real_name(state: State, event: events.RealNameChanged, view: View) -> Iterator[Out]:
    if view.notices(SETNAME) or (view.own and view.caps & SETNAME):
        yield Out("SETNAME", (event.real_name or event.user,), prefix(event.user))


def _announced(state: State, event: events.Announcement, view: View) -> Iterator[Out]:
    yield Out("NOTICE", (view.nick, event.text), SERVER)


_LINES: dict[type, Callable[[State, Any, View], Iterator[Out]]] = {
    events.UserArrived: _arrived,
    events.UserLeft: _left,
    events.MemberJoined: _joined,
    events.MemberLeft: _parted,
    events.RankChanged: _ranked,
    events.ModeChanged: _mode,
    events.TopicChanged: _topic,
    events.Invitation: _invited,
    events.MemberInvited: _member_invited,
    events.BanChanged: _banned,
    events.NameChanged: _renamed,
    events.AwayChanged: _away,
    events.AccountChanged: _account,
    events.MessageDeleted: _deleted,
    events.RealNameChanged: _real_name,
    events.Announcement: _announced,
}


_WITH_ROOMS = (
    events.NameChanged,
    events.AwayChanged,
    events.AccountChanged,
    events.RealNameChanged,
    events.UserArrived,
    events.UserLeft,
)


def subjects_of(event: Event) -> tuple[str, ...]:
    """Return the folded name of the user whom an event is about, and the one that they had before
    it; nothing if it is about a room.
    """
    if isinstance(event, events.NameChanged):
        return fold(event.after), fold(event.before)
    if isinstance(event, (*_WITH_ROOMS, events.MemberJoined, events.MemberLeft)):
        return (fold(event.user),)
    return ()


@lru_cache(maxsize=1000)
def distant_view(caps: int, sees_all: bool) -> View:
    """Return the view of a client that shares at most ``&ALL`` with the user whom an event is
    about. When many users come or go at once, nearly all views are such.
    """
    return View(caps, "", False, (ALL,) if sees_all else (), ())


def is_of_others(event: Event) -> bool:
    """Return whether no client sees an event as one about its own user."""
    return isinstance(event, events.UserArrived | events.UserLeft)


def is_named(event: Event) -> bool:
    """Return whether clients see an event with their own names, whatever they monitor: so it is
    encoded for each of them.
    """
    return isinstance(event, events.MessageDeleted | events.Announcement)


_AMONG_MEMBERS = (
    events.MemberJoined,
    events.MemberLeft,
    events.RankChanged,
    events.ModeChanged,
    events.TopicChanged,
    events.MemberInvited,
    events.BanChanged,
)


def channel_of(event: Event) -> str:
    """Return the folded name of the channel that a client must have joined to see an event; empty
    if it need not.
    """
    return fold(event.room) if isinstance(event, _AMONG_MEMBERS) else ""


def rooms_of(event: Event) -> list[tuple[str, str]]:
    """Return the rooms of the user whom an event is about, with their folded names."""
    if isinstance(event, _WITH_ROOMS):
        return [(fold(room), room) for room in event.rooms]
    return []


def lines_of(state: State, event: Event, view: View) -> list[Out]:
    """Return the lines for an event."""
    announce = _LINES.get(type(event))
    if announce is None:
        return []
    lines = (with_account(state, line, view.caps) for line in announce(state, event, view))
    return [
        # The last parameter may be a text of another door.
        Out(verb, (*params[:-1], *map(harmless, params[-1:])), source, tags)
        for verb, params, source, tags in lines
    ]
