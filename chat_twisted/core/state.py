"""The state of the chat, a deterministic state machine: entries in, outcomes out.

``State.apply`` is the only method that changes a state. The rule of the entry's command computes
facts from the state, or refuses. Each fact is then applied, followed by its consequences: a guest
is held, another one is evicted, a room gets a new operator or ends. A refusal changes nothing; an
accepted entry changes what its facts say, and increments the version. The ledger stores the facts,
so a state that is loaded from the archive decides like the one that was stored.

This module has the tables of rules and the functions that apply facts, which makes it long. The
rules are in ``names``, ``messages``, ``room_rules``, ``accounts`` and ``sanctions``. Nothing here
may read a clock or use random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from chat_twisted.core import (
    accounts,
    commands,
    entries,
    facts,
    messages,
    names,
    room_rules,
    sanctions,
)
from chat_twisted.core.entries import Entry, Outcome
from chat_twisted.core.errors import ChatError
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

Rule = Callable[[Model, Any, int], Outcome]


def _sweep(model: Model, command: commands.Sweep, now: int) -> Outcome:
    ends = sanctions.due(model, now, command.limit)
    count = len(ends)
    held = model.holds.due(now, command.limit - count)
    for id in held:
        ends += names.end(model, model.users[id])
    return Outcome(tuple(ends), entries.Swept(count + len(held)))


def _turn(model: Model, command: commands.Turn, now: int) -> Outcome:
    return Outcome(())


_RULES: dict[type, Rule] = {
    commands.Start: names.start,
    commands.SetOptions: names.set_options,
    commands.Login: names.login,
    commands.Arrive: names.arrive,
    commands.Detach: names.detach,
    commands.Rename: names.rename,
    commands.SetAway: names.set_away,
    commands.SetRealName: names.set_real_name,
    commands.SetBot: names.set_bot,
    commands.Acknowledge: names.acknowledge,
    commands.MarkRead: messages.mark_read,
    commands.Send: messages.send,
    commands.Signal: messages.signal,
    commands.DuplicateQuery: messages.duplicate_query,
    commands.Delete: messages.delete,
    commands.Join: room_rules.join,
    commands.Part: room_rules.part,
    commands.RemoveMember: room_rules.remove_member,
    commands.Invite: room_rules.invite,
    commands.SetTopic: room_rules.set_topic,
    commands.SetRank: room_rules.set_rank,
    commands.SetMode: room_rules.set_mode,
    commands.BanFromRoom: room_rules.ban,
    commands.MakeAccount: accounts.make,
    commands.DropAccount: accounts.drop,
    commands.AddKey: accounts.add_key,
    commands.RemoveKey: accounts.remove_key,
    commands.SetPassword: accounts.set_password,
    commands.SetOperator: accounts.set_operator,
    commands.Disconnect: sanctions.disconnect,
    commands.Impose: sanctions.impose,
    commands.Lift: sanctions.lift,
    commands.Sweep: _sweep,
    commands.Turn: _turn,
}


class State(Model):
    """The state of the chat. It starts empty, or is loaded (``snapshot.load``)."""

    def apply(self, entry: Entry) -> Outcome:
        """Decide an entry, and change the state accordingly.

        :return: the outcome, whose facts include all consequences.
        """
        time, command = entry
        now = time if time > self.time else self.time
        try:
            outcome = _RULES[type(command)](self, command, now)
        except ChatError as refusal:
            return Outcome((), refusal)
        changes, result = outcome
        if not changes:
            return outcome
        if len(changes) == 1 and type(changes[0]) is Message:
            _take_message(self, changes[0])
        else:
            taken: list[Fact] = []
            for fact in changes:
                self._take(fact, now, taken)
            outcome = Outcome(tuple(taken), result)
        self.time = now
        self.version += 1
        return outcome

    def check(self, command: commands.Command, time: int) -> None:
        """Check that a command would be accepted, without changing anything.

        :param time: the time of the entry, in milliseconds of the log's clock.
        :raises ChatError: if it would be refused.
        """
        _RULES[type(command)](self, command, max(time, self.time))

    def _take(self, fact: Fact, now: int, taken: list[Fact]) -> None:
        taken.append(fact)
        _TAKE[type(fact)](self, fact)
        follow = _FOLLOW.get(type(fact))
        if follow is not None:
            for further in follow(self, fact, now):
                self._take(further, now, taken)

    # Changes that ``snapshot.load`` makes too

    def add_user(self, user: User) -> None:
        """Add a user."""
        self.users[user.id] = self.names[user.key] = user

    def add_token(self, user: User, digest: bytes, token: Token) -> None:
        """Add a token of a user."""
        user.tokens[digest] = token
        self.token_users[digest] = user.id

    def add_key(self, user: User, key: str, comment: str, ordinal: int) -> None:
        """Add a key to the account of a user, or change its comment."""
        keys = _account(user).keys
        if key not in keys:
            self.key_users[key] = tuple(sorted((*self.key_users.get(key, ()), user.id)))
        keys[key] = comment, ordinal

    def remove_key(self, user: User, key: str) -> None:
        """Remove a key from the account of a user."""
        del _account(user).keys[key]
        others = tuple(id for id in self.key_users.pop(key) if id != user.id)
        if others:
            self.key_users[key] = others

    def add_room(self, room: Room) -> None:
        """Add a room without members."""
        self.rooms[room.id] = self.room_names[room.key] = room
        if room.address:
            self.rooms_made[room.address] += 1
        if not room.hidden:
            self.listed.put(room)

    def add_member(self, room: Room, user: User, member: Member) -> None:
        """Add a member to a room."""
        room.members[user.id] = member
        room.present += user.present
        user.rooms[room.id] = room
        if member.rank == commands.OPERATOR:
            room.operators.add(user.id)
        room.list_member(user)
        self.list_room(room, user.id)

    def add_invitation(self, room: Room, user: User) -> None:
        """Add an invitation of a user to a room."""
        room.invited[user.id] = None
        user.invitations[room.id] = room
        self.list_room(room, user.id)

    def list_room(self, room: Room, user: int) -> None:
        """Update the list of hidden rooms that a user may know of, after a change of ``room``."""
        rooms = self.hidden_of.get(user)
        if room.hidden and (user in room.members or user in room.invited):
            if rooms is None:
                rooms = self.hidden_of[user] = Ordered(room_key)
            rooms.put(room)
        elif rooms is not None:
            rooms.discard(room)
            if not rooms:
                del self.hidden_of[user]

    def add_sanction(self, sanction: Sanction) -> None:
        """Add a sanction. It replaces one of the same kind for the same subject."""
        self.remove_sanction(sanction.kind, sanction.subject)
        self.sanctions[sanction.kind, sanction.subject] = sanction
        self.sanctions_in_order.put(sanction)
        if sanction.until:
            self.sanctions_ending.put(sanction)
        if (length := sanctions.network_length(sanction.subject)) is not None:
            self.banned_networks[length] += 1

    def remove_sanction(self, kind: str, subject: str) -> None:
        """Remove a sanction, if there is one."""
        sanction = self.sanctions.pop((kind, subject), None)
        if sanction is None:
            return
        self.sanctions_in_order.discard(sanction)
        self.sanctions_ending.discard(sanction)
        if (length := sanctions.network_length(subject)) is not None:
            self.banned_networks[length] -= 1
            if not self.banned_networks[length]:
                del self.banned_networks[length]

    def remember(self, user: User, key: str, number: int, time: int, logged: int) -> None:
        """Remember the key of a sent message, to detect duplicates.

        :param time: the message's time of day.
        :param logged: the time when it was logged.
        """
        user.sent += 1
        recent = user.recent
        if not recent and not user.older:
            self.senders.append(user)
        elif len(recent) >= MAX_REMEMBERED:
            user.older = recent
            user.recent = recent = {}
        recent[key] = (number, time, logged, user.sent)
        if number % 8 == 0:
            self._forget_some(logged)

    def _forget_some(self, now: int) -> None:
        """Forget the keys of one sender if they are too old. The senders take turns."""
        sender = self.senders.popleft()
        newest = next(reversed((sender.recent or sender.older).values()), None)
        if newest is None or now - newest[2] >= REMEMBER:
            sender.recent, sender.older = {}, {}
        else:
            self.senders.append(sender)

    def relist(self, user: User) -> None:
        """Update the list of present users, and their number in the rooms of ``user``, after a
        change of whether that user is present.
        """
        if user.present:
            change = 1 if self.present.put(user) else 0
        else:
            change = -1 if self.present.discard(user) else 0
        if change:
            for room in user.rooms.values():
                room.present += change


# One function for each kind of fact applies it to the state. Nothing is decided here.


def _take_message(state: State, fact: Message) -> None:
    state.number = fact.number
    if fact.request is not None:
        author = state.users[fact.author]
        state.remember(author, fact.request, fact.number, fact.time, fact.logged)


def _take_options(state: State, fact: facts.OptionsSet) -> None:
    state.options = fact.options


def _take_numbers(state: State, fact: facts.NumbersSkipped) -> None:
    state.number = fact.number


def _take_user(state: State, fact: facts.UserCame) -> None:
    state.add_user(User(fact.id, fact.name, fact.kept, fact.since, fact.ordinal, fact.time))


def _take_name(state: State, fact: facts.UserRenamed) -> None:
    user = state.users[fact.id]
    del state.names[user.key]
    state.present.discard(user)
    for room in user.rooms.values():
        room.unlist_member(user)
    user.name, user.key = fact.name, fold(fact.name)
    state.names[user.key] = user
    if user.present:
        state.present.put(user)
    for room in user.rooms.values():
        room.list_member(user)


def _take_user_gone(state: State, fact: facts.UserGone) -> None:
    user = state.users.pop(fact.id)
    user.recent, user.older = {}, {}
    for digest in user.tokens:
        del state.token_users[digest]
    del state.names[user.key]
    state.holds.remove(user.id)
    for room in list(user.invitations.values()):
        del room.invited[user.id]
        state.list_room(room, user.id)


def _take_token(state: State, fact: facts.TokenAdded) -> None:
    state.add_token(state.users[fact.user], fact.digest, Token(fact.proof, fact.ordinal))


def _take_token_gone(state: State, fact: facts.TokenGone) -> None:
    del state.users[fact.user].tokens[fact.digest]
    del state.token_users[fact.digest]


def _take_session(state: State, fact: facts.SessionCame) -> None:
    user = state.users[fact.user]
    user.epoch = fact.epoch
    user.sessions[fact.epoch] = Session(fact.node, fact.host, fact.token, fact.proof, fact.present)
    state.holds.remove(user.id)
    state.relist(user)


def _take_arrival(state: State, fact: facts.SessionArrived) -> None:
    user = state.users[fact.user]
    user.sessions[fact.epoch].present = True
    state.relist(user)


def _take_session_gone(state: State, fact: facts.SessionGone) -> None:
    user = state.users[fact.user]
    del user.sessions[fact.epoch]
    state.relist(user)


def _take_proof(state: State, fact: facts.ProofRenewed) -> None:
    user = state.users[fact.user]
    session = user.sessions[fact.epoch]
    session.proof = fact.proof
    if (token := user.tokens.get(session.token)) is not None:
        user.tokens[session.token] = token._replace(proof=fact.proof)


def _take_hold(state: State, fact: facts.Held) -> None:
    state.holds.add(fact.user, Hold(fact.until, fact.address, fact.ordinal))


def _take_away(state: State, fact: facts.AwaySet) -> None:
    state.users[fact.user].away = fact.why


def _take_real_name(state: State, fact: facts.RealNameSet) -> None:
    state.users[fact.user].real_name = fact.real_name


def _take_login_name(state: State, fact: facts.LoginNameSet) -> None:
    state.users[fact.user].login_name = fact.login_name


def _take_bot(state: State, fact: facts.BotSet) -> None:
    state.users[fact.user].bot = fact.on


def _take_cursor(state: State, fact: facts.CursorMoved) -> None:
    state.users[fact.user].cursor = fact.number


def _take_marker(state: State, fact: facts.MarkerSet) -> None:
    state.users[fact.user].markers[fact.room, fact.name] = Marker(fact.number, fact.time)


def _take_marker_gone(state: State, fact: facts.MarkerGone) -> None:
    del state.users[fact.user].markers[fact.room, fact.name]


def _take_nothing(state: State, fact: Fact) -> None:
    """Called for facts that change only the archive, or are only for events."""


def _take_room(state: State, fact: facts.RoomMade) -> None:
    room = Room(fact.id, fact.name, fact.address, fact.time, fact.ordinal)
    if fact.private:
        room.modes.add(commands.PRIVATE)
    state.add_room(room)


def _take_room_gone(state: State, fact: facts.RoomGone) -> None:
    room = state.rooms.pop(fact.id)
    del state.room_names[room.key]
    state.listed.discard(room)
    invited, room.invited = room.invited, {}
    for id in invited:
        del state.users[id].invitations[room.id]
        state.list_room(room, id)
    if room.address:
        state.rooms_made[room.address] -= 1
        if not state.rooms_made[room.address]:
            del state.rooms_made[room.address]


def _take_joined(state: State, fact: facts.Joined) -> None:
    room, user = state.rooms[fact.room], state.users[fact.user]
    if room.invited.pop(user.id, 0) is None:
        del user.invitations[room.id]
    state.add_member(room, user, Member(fact.rank, fact.since, fact.ordinal))


def _take_left(state: State, fact: facts.Left) -> None:
    room, user = state.rooms[fact.room], state.users[fact.user]
    del room.members[user.id]
    room.present -= user.present
    room.operators.discard(user.id)
    room.list_member(user)
    del user.rooms[room.id]
    state.list_room(room, fact.user)


def _take_rank(state: State, fact: facts.RankSet) -> None:
    room = state.rooms[fact.room]
    room.members[fact.user] = room.members[fact.user]._replace(rank=fact.rank)
    if fact.rank == commands.OPERATOR:
        room.operators.add(fact.user)
    else:
        room.operators.discard(fact.user)


def _take_mode(state: State, fact: facts.ModeSet) -> None:
    room = state.rooms[fact.room]
    if fact.on:
        room.modes.add(fact.mode)
    else:
        room.modes.discard(fact.mode)
    if fact.mode not in (commands.PRIVATE, commands.SECRET):
        return
    if room.hidden:
        state.listed.discard(room)
    else:
        state.listed.put(room)
    for id in (*room.members, *room.invited):
        state.list_room(room, id)


def _take_topic(state: State, fact: facts.TopicSet) -> None:
    room = state.rooms[fact.room]
    room.topic, room.topic_author, room.topic_time = fact.topic, fact.author, fact.time


def _take_invitation(state: State, fact: facts.Invited) -> None:
    state.add_invitation(state.rooms[fact.room], state.users[fact.user])


def _take_uninvited(state: State, fact: facts.Uninvited) -> None:
    room, user = state.rooms[fact.room], state.users[fact.user]
    del room.invited[user.id], user.invitations[room.id]
    state.list_room(room, user.id)


def _take_room_ban(state: State, fact: facts.RoomBanned) -> None:
    state.rooms[fact.room].bans[fact.name] = RoomBan(fact.author, fact.time, fact.reason)


def _take_room_unban(state: State, fact: facts.RoomUnbanned) -> None:
    del state.rooms[fact.room].bans[fact.name]


def _take_account(state: State, fact: facts.AccountMade) -> None:
    user = state.users[fact.user]
    user.account = Account(fact.time)
    state.accounts.put(user)


def _take_account_gone(state: State, fact: facts.AccountGone) -> None:
    user = state.users[fact.user]
    for key in list(_account(user).keys):
        state.remove_key(user, key)
    user.account = None
    state.accounts.discard(user)


def _account(user: User) -> Account:
    assert user.account is not None, "a fact about an account that there is"
    return user.account


def _take_key(state: State, fact: facts.KeyAdded) -> None:
    state.add_key(state.users[fact.user], fact.key, fact.comment, fact.ordinal)


def _take_key_gone(state: State, fact: facts.KeyRemoved) -> None:
    state.remove_key(state.users[fact.user], fact.key)


def _take_password(state: State, fact: facts.PasswordSet) -> None:
    _account(state.users[fact.user]).password = fact.hash


def _take_operator(state: State, fact: facts.OperatorSet) -> None:
    _account(state.users[fact.user]).operator = fact.on


def _take_sanction(state: State, fact: facts.Imposed) -> None:
    state.add_sanction(Sanction(fact.kind, fact.subject, fact.until, fact.reason, fact.author))


def _take_lifted(state: State, fact: facts.Lifted) -> None:
    state.remove_sanction(fact.kind, fact.subject)


_TAKE: dict[type, Callable[[State, Any], None]] = {
    Message: _take_message,
    facts.OptionsSet: _take_options,
    facts.NumbersSkipped: _take_numbers,
    facts.UserCame: _take_user,
    facts.UserRenamed: _take_name,
    facts.UserGone: _take_user_gone,
    facts.TokenAdded: _take_token,
    facts.TokenGone: _take_token_gone,
    facts.SessionCame: _take_session,
    facts.SessionArrived: _take_arrival,
    facts.SessionGone: _take_session_gone,
    facts.ProofRenewed: _take_proof,
    facts.Held: _take_hold,
    facts.AwaySet: _take_away,
    facts.RealNameSet: _take_real_name,
    facts.LoginNameSet: _take_login_name,
    facts.BotSet: _take_bot,
    facts.CursorMoved: _take_cursor,
    facts.MarkerSet: _take_marker,
    facts.MarkerGone: _take_marker_gone,
    facts.Deleted: _take_nothing,
    facts.AuthorErased: _take_nothing,
    facts.RoomMade: _take_room,
    facts.RoomGone: _take_room_gone,
    facts.Joined: _take_joined,
    facts.Left: _take_left,
    facts.RankSet: _take_rank,
    facts.ModeSet: _take_mode,
    facts.TopicSet: _take_topic,
    facts.Invited: _take_invitation,
    facts.Uninvited: _take_uninvited,
    facts.Asked: _take_nothing,
    facts.RoomBanned: _take_room_ban,
    facts.RoomUnbanned: _take_room_unban,
    facts.AccountMade: _take_account,
    facts.AccountGone: _take_account_gone,
    facts.KeyAdded: _take_key,
    facts.KeyRemoved: _take_key_gone,
    facts.PasswordSet: _take_password,
    facts.OperatorSet: _take_operator,
    facts.Imposed: _take_sanction,
    facts.Lifted: _take_lifted,
}

_FOLLOW: dict[type, Callable[[State, Any, int], Iterator[Fact]]] = {
    facts.OptionsSet: lambda state, fact, now: names.after_options(state, fact),
    facts.SessionGone: names.after_session,
    facts.Held: lambda state, fact, now: names.after_held(state, fact),
    facts.Left: lambda state, fact, now: room_rules.after_left(state, fact),
}
"""Functions that return the further facts that follow from an applied fact."""
