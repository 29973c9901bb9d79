"""How each kind of fact changes the data of the state.

The table ``APPLY`` has a function for each kind of fact. Some changes have a function of their own,
because ``snapshot.load`` makes them too. Nothing is decided here: this module must not know the
rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chat_twisted.core import commands, facts, sanctions
from chat_twisted.core.facts import Fact
from chat_twisted.core.message import Message, fold
from chat_twisted.core.model import (
    MAX_REMEMBERED,
    REMEMBER,
    Account,
    Hold,
    Marker,
    Member,
    Model,
    Room,
    RoomBan,
    Sanction,
    Session,
    Token,
    User,
    room_key,
)
from chat_twisted.core.ordered import Ordered

# Changes that ``snapshot.load`` makes too


def add_user(model: Model, user: User) -> None:
    """Add a user."""
    model.users[user.id] = model.names[user.key] = user


def add_token(model: Model, user: User, digest: bytes, token: Token) -> None:
    """Add a token of a user."""
    user.tokens[digest] = token
    model.token_users[digest] = user.id


def add_key(model: Model, user: User, key: str, comment: str, ordinal: int) -> None:
    """Add a key to the account of a user, or change its comment."""
    keys = _account(user).keys
    if key not in keys:
        model.key_users[key] = tuple(sorted((*model.key_users.get(key, ()), user.id)))
    keys[key] = comment, ordinal


def remove_key(model: Model, user: User, key: str) -> None:
    """Remove a key from the account of a user."""
    del _account(user).keys[key]
    others = tuple(id for id in model.key_users.pop(key) if id != user.id)
    if others:
        model.key_users[key] = others


def add_room(model: Model, room: Room) -> None:
    """Add a room without members."""
    model.rooms[room.id] = model.room_names[room.key] = room
    if room.address:
        model.rooms_made[room.address] += 1
    if not room.hidden:
        model.listed.put(room)


def add_member(model: Model, room: Room, user: User, member: Member) -> None:
    """Add a member to a room."""
    room.members[user.id] = member
    room.present += user.present
    user.rooms[room.id] = room
    if member.rank == commands.OPERATOR:
        room.operators.add(user.id)
    room.list_member(user)
    list_room(model, room, user.id)


def add_invitation(model: Model, room: Room, user: User) -> None:
    """Add an invitation of a user to a room."""
    room.invited[user.id] = None
    user.invitations[room.id] = room
    list_room(model, room, user.id)


def list_room(model: Model, room: Room, user: int) -> None:
    """Update the list of hidden rooms that a user may know of, after a change of ``room``."""
    rooms = model.hidden_of.get(user)
    if room.hidden and (user in room.members or user in room.invited):
        if rooms is None:
            rooms = model.hidden_of[user] = Ordered(room_key)
        rooms.put(room)
    elif rooms is not None:
        rooms.discard(room)
        if not rooms:
            del model.hidden_of[user]


def add_sanction(model: Model, sanction: Sanction) -> None:
    """Add a sanction. It replaces one of the same kind for the same subject."""
    remove_sanction(model, sanction.kind, sanction.subject)
    model.sanctions[sanction.kind, sanction.subject] = sanction
    model.sanctions_in_order.put(sanction)
    if sanction.until:
        model.sanctions_ending.put(sanction)
    if (length := sanctions.network_length(sanction.subject)) is not None:
        model.banned_networks[length] += 1


def remove_sanction(model: Model, kind: str, subject: str) -> None:
    """Remove a sanction, if there is one."""
    sanction = model.sanctions.pop((kind, subject), None)
    if sanction is None:
        return
    model.sanctions_in_order.discard(sanction)
    model.sanctions_ending.discard(sanction)
    if (length := sanctions.network_length(subject)) is not None:
        model.banned_networks[length] -= 1
        if not model.banned_networks[length]:
            del model.banned_networks[length]


def remember(model: Model, user: User, key: str, number: int, time: int, logged: int) -> None:
    """Remember the key of a sent message, to detect duplicates.

    :param time: the message's time of day.
    :param logged: the time when it was logged.
    """
    user.sent += 1
    recent = user.recent
    if not recent and not user.older:
        model.senders.append(user)
    elif len(recent) >= MAX_REMEMBERED:
        user.older = recent
        user.recent = recent = {}
    recent[key] = (number, time, logged, user.sent)
    if number % 8 == 0:
        _forget_some(model, logged)


def _forget_some(model: Model, now: int) -> None:
    """Forget the keys of one sender if they are too old. The senders take turns."""
    sender = model.senders.popleft()
    newest = next(reversed((sender.recent or sender.older).values()), None)
    if newest is None or now - newest[2] >= REMEMBER:
        sender.recent, sender.older = {}, {}
    else:
        model.senders.append(sender)


def relist(model: Model, user: User) -> None:
    """Update the list of present users, and their number in the rooms of ``user``, after a
    change of whether that user is present.
    """
    if user.present:
        change = 1 if model.present.put(user) else 0
    else:
        change = -1 if model.present.discard(user) else 0
    if change:
        for room in user.rooms.values():
            room.present += change


# The changes of each kind of fact


def apply_message(model: Model, fact: Message) -> None:
    """Apply a message. Messages are the most frequent facts, so ``State`` calls this directly."""
    model.number = fact.number
    if fact.request is not None:
        author = model.users[fact.author]
        remember(model, author, fact.request, fact.number, fact.time, fact.logged)


def _options_set(model: Model, fact: facts.OptionsSet) -> None:
    model.options = fact.options


def _numbers_skipped(model: Model, fact: facts.NumbersSkipped) -> None:
    model.number = fact.number


def _user_came(model: Model, fact: facts.UserCame) -> None:
    add_user(model, User(fact.id, fact.name, fact.kept, fact.since, fact.ordinal, fact.time))


def _user_renamed(model: Model, fact: facts.UserRenamed) -> None:
    user = model.users[fact.id]
    del model.names[user.key]
    model.present.discard(user)
    for room in user.rooms.values():
        room.unlist_member(user)
    user.name, user.key = fact.name, fold(fact.name)
    model.names[user.key] = user
    if user.present:
        model.present.put(user)
    for room in user.rooms.values():
        room.list_member(user)


def _user_gone(model: Model, fact: facts.UserGone) -> None:
    user = model.users.pop(fact.id)
    user.recent, user.older = {}, {}
    for digest in user.tokens:
        del model.token_users[digest]
    del model.names[user.key]
    model.holds.remove(user.id)
    for room in list(user.invitations.values()):
        del room.invited[user.id]
        list_room(model, room, user.id)


def _token_added(model: Model, fact: facts.TokenAdded) -> None:
    add_token(model, model.users[fact.user], fact.digest, Token(fact.proof, fact.ordinal))


def _token_gone(model: Model, fact: facts.TokenGone) -> None:
    del model.users[fact.user].tokens[fact.digest]
    del model.token_users[fact.digest]


def _session_came(model: Model, fact: facts.SessionCame) -> None:
    user = model.users[fact.user]
    user.epoch = fact.epoch
    user.sessions[fact.epoch] = Session(fact.node, fact.host, fact.token, fact.proof, fact.present)
    model.holds.remove(user.id)
    relist(model, user)


def _session_arrived(model: Model, fact: facts.SessionArrived) -> None:
    user = model.users[fact.user]
    user.sessions[fact.epoch].present = True
    relist(model, user)


def _session_gone(model: Model, fact: facts.SessionGone) -> None:
    user = model.users[fact.user]
    del user.sessions[fact.epoch]
    relist(model, user)


def _proof_renewed(model: Model, fact: facts.ProofRenewed) -> None:
    user = model.users[fact.user]
    session = user.sessions[fact.epoch]
    session.proof = fact.proof
    if (token := user.tokens.get(session.token)) is not None:
        user.tokens[session.token] = token._replace(proof=fact.proof)


def _held(model: Model, fact: facts.Held) -> None:
    model.holds.add(fact.user, Hold(fact.until, fact.address, fact.ordinal))


def _away_set(model: Model, fact: facts.AwaySet) -> None:
    model.users[fact.user].away = fact.why


def _real_name_set(model: Model, fact: facts.RealNameSet) -> None:
    model.users[fact.user].real_name = fact.real_name


def _login_name_set(model: Model, fact: facts.LoginNameSet) -> None:
    model.users[fact.user].login_name = fact.login_name


def _bot_set(model: Model, fact: facts.BotSet) -> None:
    model.users[fact.user].bot = fact.on


def _cursor_moved(model: Model, fact: facts.CursorMoved) -> None:
    model.users[fact.user].cursor = fact.number


def _marker_set(model: Model, fact: facts.MarkerSet) -> None:
    model.users[fact.user].markers[fact.room, fact.name] = Marker(fact.number, fact.time)


def _marker_gone(model: Model, fact: facts.MarkerGone) -> None:
    del model.users[fact.user].markers[fact.room, fact.name]


def _change_nothing(model: Model, fact: Fact) -> None:
    """Called for facts that change only the archive, or are only for events."""


def _room_made(model: Model, fact: facts.RoomMade) -> None:
    room = Room(fact.id, fact.name, fact.address, fact.time, fact.ordinal)
    if fact.private:
        room.modes.add(commands.PRIVATE)
    add_room(model, room)


def _room_gone(model: Model, fact: facts.RoomGone) -> None:
    room = model.rooms.pop(fact.id)
    del model.room_names[room.key]
    model.listed.discard(room)
    invited, room.invited = room.invited, {}
    for id in invited:
        del model.users[id].invitations[room.id]
        list_room(model, room, id)
    if room.address:
        model.rooms_made[room.address] -= 1
        if not model.rooms_made[room.address]:
            del model.rooms_made[room.address]


def _joined(model: Model, fact: facts.Joined) -> None:
    room, user = model.rooms[fact.room], model.users[fact.user]
    if room.invited.pop(user.id, 0) is None:
        del user.invitations[room.id]
    add_member(model, room, user, Member(fact.rank, fact.since, fact.ordinal))


def _left(model: Model, fact: facts.Left) -> None:
    room, user = model.rooms[fact.room], model.users[fact.user]
    del room.members[user.id]
    room.present -= user.present
    room.operators.discard(user.id)
    room.list_member(user)
    del user.rooms[room.id]
    list_room(model, room, fact.user)


def _rank_set(model: Model, fact: facts.RankSet) -> None:
    room = model.rooms[fact.room]
    room.members[fact.user] = room.members[fact.user]._replace(rank=fact.rank)
    if fact.rank == commands.OPERATOR:
        room.operators.add(fact.user)
    else:
        room.operators.discard(fact.user)


def _mode_set(model: Model, fact: facts.ModeSet) -> None:
    room = model.rooms[fact.room]
    if fact.on:
        room.modes.add(fact.mode)
    else:
        room.modes.discard(fact.mode)
    if fact.mode not in (commands.PRIVATE, commands.SECRET):
        return
    if room.hidden:
        model.listed.discard(room)
    else:
        model.listed.put(room)
    for id in (*room.members, *room.invited):
        list_room(model, room, id)


def _topic_set(model: Model, fact: facts.TopicSet) -> None:
    room = model.rooms[fact.room]
    room.topic, room.topic_author, room.topic_time = fact.topic, fact.author, fact.time


def _invited(model: Model, fact: facts.Invited) -> None:
    add_invitation(model, model.rooms[fact.room], model.users[fact.user])


def _uninvited(model: Model, fact: facts.Uninvited) -> None:
    room, user = model.rooms[fact.room], model.users[fact.user]
    del room.invited[user.id], user.invitations[room.id]
    list_room(model, room, user.id)


def _room_banned(model: Model, fact: facts.RoomBanned) -> None:
    model.rooms[fact.room].bans[fact.name] = RoomBan(fact.author, fact.time, fact.reason)


def _room_unbanned(model: Model, fact: facts.RoomUnbanned) -> None:
    del model.rooms[fact.room].bans[fact.name]


def _account_made(model: Model, fact: facts.AccountMade) -> None:
    user = model.users[fact.user]
    user.account = Account(fact.time)
    model.accounts.put(user)


def _account_gone(model: Model, fact: facts.AccountGone) -> None:
    user = model.users[fact.user]
    for key in list(_account(user).keys):
        remove_key(model, user, key)
    user.account = None
    model.accounts.discard(user)


def _account(user: User) -> Account:
    assert user.account is not None, "a fact about an account that there is"
    return user.account


def _key_added(model: Model, fact: facts.KeyAdded) -> None:
    add_key(model, model.users[fact.user], fact.key, fact.comment, fact.ordinal)


def _key_removed(model: Model, fact: facts.KeyRemoved) -> None:
    remove_key(model, model.users[fact.user], fact.key)


def _password_set(model: Model, fact: facts.PasswordSet) -> None:
    _account(model.users[fact.user]).password = fact.hash


def _operator_set(model: Model, fact: facts.OperatorSet) -> None:
    _account(model.users[fact.user]).operator = fact.on


def _imposed(model: Model, fact: facts.Imposed) -> None:
    add_sanction(model, Sanction(fact.kind, fact.subject, fact.until, fact.reason, fact.author))


def _lifted(model: Model, fact: facts.Lifted) -> None:
    remove_sanction(model, fact.kind, fact.subject)


APPLY: dict[type, Callable[[Model, Any], None]] = {
    Message: apply_message,
    facts.OptionsSet: _options_set,
    facts.NumbersSkipped: _numbers_skipped,
    facts.UserCame: _user_came,
    facts.UserRenamed: _user_renamed,
    facts.UserGone: _user_gone,
    facts.TokenAdded: _token_added,
    facts.TokenGone: _token_gone,
    facts.SessionCame: _session_came,
    facts.SessionArrived: _session_arrived,
    facts.SessionGone: _session_gone,
    facts.ProofRenewed: _proof_renewed,
    facts.Held: _held,
    facts.AwaySet: _away_set,
    facts.RealNameSet: _real_name_set,
    facts.LoginNameSet: _login_name_set,
    facts.BotSet: _bot_set,
    facts.CursorMoved: _cursor_moved,
    facts.MarkerSet: _marker_set,
    facts.MarkerGone: _marker_gone,
    facts.Deleted: _change_nothing,
    facts.AuthorErased: _change_nothing,
    facts.RoomMade: _room_made,
    facts.RoomGone: _room_gone,
    facts.Joined: _joined,
    facts.Left: _left,
    facts.RankSet: _rank_set,
    facts.ModeSet: _mode_set,
    facts.TopicSet: _topic_set,
    facts.Invited: _invited,
    facts.Uninvited: _uninvited,
    facts.Asked: _change_nothing,
    facts.RoomBanned: _room_banned,
    facts.RoomUnbanned: _room_unbanned,
    facts.AccountMade: _account_made,
    facts.AccountGone: _account_gone,
    facts.KeyAdded: _key_added,
    facts.KeyRemoved: _key_removed,
    facts.PasswordSet: _password_set,
    facts.OperatorSet: _operator_set,
    facts.Imposed: _imposed,
    facts.Lifted: _lifted,
}
"""The function that applies a fact, by the kind of the fact."""
