"""The rules of users: login, logout, holds, names, away texts and cursors.

Each rule returns the facts that follow from a command, or raises a ``ChatError`` if the command is
refused. It changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from chat_twisted.core import sanctions
from chat_twisted.core.commands import (
    Acknowledge,
    Arrive,
    Detach,
    Login,
    Options,
    Rename,
    SetAway,
    SetBot,
    SetOptions,
    SetRealName,
    Start,
)
from chat_twisted.core.entries import LoggedIn, Outcome
from chat_twisted.core.errors import (
    AuthenticationFailed,
    AuthenticationRequired,
    ChatError,
    HasAccount,
    NameInUse,
    NoSession,
    TextTooLong,
)
from chat_twisted.core.facts import (
    AwaySet,
    BotSet,
    CursorMoved,
    Fact,
    Held,
    Left,
    LoginNameSet,
    NumbersSkipped,
    OptionsSet,
    RealNameSet,
    SessionArrived,
    SessionCame,
    SessionGone,
    TokenAdded,
    TokenGone,
    UserCame,
    UserGone,
    UserRenamed,
)
from chat_twisted.core.message import check_user_name, fold
from chat_twisted.core.model import Model, Session, User

MAX_TOKENS = 16
"""Maximum number of a user's valid tokens. Each login to an account makes a new one."""

MAX_WHY = 200
"""Maximum characters of an away text."""

MAX_REAL_NAME = 200
"""Maximum characters of a real name."""

_LOGIN_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}\Z")
_CONTROL = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029]")


def asking(model: Model, user: int, epoch: int) -> tuple[User, Session]:
    """Return the user and the session that a command is from.

    :raises NoSession: if the session has ended.
    """
    asker = model.users.get(user)
    if asker is None or (session := asker.sessions.get(epoch)) is None:
        raise NoSession
    return asker, session


def start(model: Model, command: Start, now: int) -> Outcome:
    """End all sessions of a node that has started."""
    facts: list[Fact] = []
    if command.options is not None and command.options != model.options:
        facts.append(OptionsSet(command.options))
    if command.after > model.number:
        facts.append(NumbersSkipped(command.after))
    facts += [
        SessionGone(user.id, epoch, False, session.address)
        for user in model.users.values()
        for epoch, session in user.sessions.items()
        if session.node == command.node
    ]
    return Outcome(tuple(facts))


def set_options(model: Model, command: SetOptions, now: int) -> Outcome:
    """Change the options. Users who may not log in any more stay until they leave."""
    if command.options == model.options:
        return Outcome(())
    return Outcome((OptionsSet(command.options),))


# Logging in


def login(model: Model, command: Login, now: int) -> Outcome:
    """Log in a session, as an existing user or as a new guest."""
    check_user_name(command.name)
    user = model.find_user(command.name, b"" if command.proof else command.token)
    if user is None or not user.operator:
        # Operators who have banned themselves must be able to undo it.
        name = command.name if user is None else user.name
        sanctions.check_ban(model, name, command.host, now)
    if user is None:
        return _claim(model, command, now)
    facts: list[Fact] = []
    digest = command.token
    if command.proof:
        if user.account is None or not user.account.is_proof(command.proof):
            raise AuthenticationFailed("it was a proof when it was verified, and is none now")
        proof, digest = command.proof, command.fresh
        facts += _add_token(model, user, digest, proof)
    else:
        token = user.find_token(digest) if digest else None
        if token is None:
            if user.account is None or not command.may_authenticate:
                raise _in_use(model, user, now, command.time)
            raise AuthenticationRequired
        proof = token.proof
    facts += _described(model, command, user, now)
    rooms = tuple(user.rooms)
    facts.append(_session(command, user.id, user.epoch + 1, digest, proof, rooms))
    login = LoggedIn(user.id, user.epoch + 1, digest, False, rooms)
    return Outcome(tuple(facts), login)


def _add_token(model: Model, user: User, digest: bytes, proof: str) -> list[Fact]:
    """Return the facts by which a user has another token, and not too many."""
    facts: list[Fact] = []
    if len(user.tokens) >= MAX_TOKENS:
        facts.append(TokenGone(user.id, next(iter(user.tokens))))
    facts.append(TokenAdded(user.id, digest, proof, model.version + 1))
    return facts


def _claim(model: Model, command: Login, now: int) -> Outcome:
    if command.proof:
        raise AuthenticationFailed("there is no such account any more")
    if not model.options.guests:
        raise AuthenticationRequired if command.may_authenticate else NameInUse
    id, digest = command.id, command.fresh
    ordinal = model.version + 1
    came = UserCame(id, command.name, command.kept, model.number, ordinal, command.time)
    facts: list[Fact] = [came]
    if command.kept:
        facts.append(TokenAdded(id, digest, "", ordinal))
    nobody = User(id, command.name, command.kept, 0, 0)  # before it is there
    facts += _described(model, command, nobody, now)
    facts.append(_session(command, id, 1, digest, ""))
    return Outcome(tuple(facts), LoggedIn(id, 1, digest, True, ()))


def _described(model: Model, command: Login, user: User, now: int) -> list[Fact]:
    """Return the facts that follow from what a login says about its user."""
    facts: list[Fact] = []
    if command.real_name is not None:
        try:
            real_name = _check_real_name(model, user, command.real_name, now)
        except ChatError:  # no reason to refuse the login
            real_name = user.real_name
        if real_name != user.real_name:
            facts.append(RealNameSet(user.id, real_name))
    login_name = command.login_name
    if login_name is not None and login_name != user.login_name and _LOGIN_NAME.match(login_name):
        facts.append(LoginNameSet(user.id, login_name))
    if command.bot is not None and command.bot != user.bot:
        facts.append(BotSet(user.id, command.bot))
    return facts


def _session(
    command: Login, user: int, epoch: int, token: bytes, proof: str, rooms: tuple[int, ...] = ()
) -> SessionCame:
    node, host, present = command.node, command.host, command.present
    return SessionCame(user, epoch, node, host, token, proof, present, rooms)


def _in_use(model: Model, user: User, now: int, time: int) -> NameInUse:
    # The log's own time may lag behind the time of day.
    hold = model.holds.get(user.id)
    return NameInUse(0 if hold is None else time + max(0, hold.until - now))


def arrive(model: Model, command: Arrive, now: int) -> Outcome:
    """Mark a session as present: messages reach it from now on."""
    _, session = asking(model, command.user, command.epoch)
    if session.present:
        return Outcome(())
    return Outcome((SessionArrived(command.user, command.epoch),))


# Logging out


def detach(model: Model, command: Detach, now: int) -> Outcome:
    """End a session, if it has not ended already."""
    user = model.users.get(command.user)
    if user is None or command.epoch not in user.sessions:
        return Outcome(())
    address = user.sessions[command.epoch].address
    reason = _last_words(model, user, command.reason, now)
    return Outcome((SessionGone(user.id, command.epoch, command.for_good, address, 0, reason),))


def _last_words(model: Model, user: User, reason: str, now: int) -> str:
    """Return the reason why a user leaves, without surrounding white space; empty if it is not
    valid, or if the user may not send to one of their rooms, because the members of all read it.
    """
    try:
        if reason := sanctions.check_reason(reason):
            sanctions.check_voice(model, user, now)
            for room in user.rooms.values():
                sanctions.check_may_speak(room, user)
    except ChatError:  # a session that has ended can't be refused that
        return ""
    return reason


def dismiss(user: User, by: int, reason: str) -> list[Fact]:
    """Return the facts that end all sessions of a user."""
    return [
        SessionGone(user.id, epoch, True, session.address, by, reason)
        for epoch, session in user.sessions.items()
    ]


def after_session(model: Model, fact: SessionGone, now: int) -> Iterator[Fact]:
    """Called when a session has ended: a guest without another session is held, or ends."""
    user = model.users[fact.user]
    if user.sessions or user.account is not None:
        return
    if fact.for_good or not user.kept:
        yield from end(model, user, fact.reason)
    else:
        yield Held(user.id, now + model.options.grace, fact.address, model.version + 1)


def after_held(model: Model, fact: Held) -> Iterator[Fact]:
    """Called when a guest was added to the held ones: if there are too many, evict one."""
    yield from _make_room(model, model.options, fact.address)


def after_options(model: Model, fact: OptionsSet) -> Iterator[Fact]:
    """Called when the options have changed: if too many guests are held, evict some."""
    yield from _make_room(model, fact.options, "")


def _make_room(model: Model, options: Options, address: str) -> Iterator[Fact]:
    holds = model.holds
    while (id := holds.excess(options.held, options.address_held, address)) is not None:
        yield from end(model, model.users[id])


def end(model: Model, user: User, reason: str = "") -> list[Fact]:
    """Return the facts that end a user: they leave their rooms, and their name is free."""
    facts: list[Fact] = [Left(room, user.id, model.number, 0, reason) for room in user.rooms]
    facts.append(UserGone(user.id, user.name, reason))
    return facts


# While logged in


def rename(model: Model, command: Rename, now: int) -> Outcome:
    """Rename a guest."""
    user, session = asking(model, command.user, command.epoch)
    check_user_name(command.name)
    if user.account is not None:
        raise HasAccount("an account keeps its name")
    # Otherwise guests could escape a sanction of their name.
    sanctions.check_voice(model, user, now)
    for room in user.rooms.values():
        sanctions.check_room_ban(room, user)
    sanctions.check_ban(model, command.name, session.host, now)
    other = model.names.get(fold(command.name))
    if other is not None and other is not user:
        if other.account is not None:
            raise AuthenticationRequired
        raise _in_use(model, other, now, command.time)
    if command.name == user.name:
        return Outcome(())
    facts: list[Fact] = [UserRenamed(user.id, command.name)]
    if command.token and command.token not in model.token_users:
        facts += _add_token(model, user, command.token, "")
    return Outcome(tuple(facts))


def set_away(model: Model, command: SetAway, now: int) -> Outcome:
    """Mark a user as away, or as back."""
    user, _ = asking(model, command.user, command.epoch)
    why = command.why
    if why is not None:
        why = why.strip()
        if len(why) > MAX_WHY or len(why.splitlines()) > 1:
            raise TextTooLong("why one is away is a line")
        if why:
            sanctions.check_voice(model, user, now)
    return Outcome(() if why == user.away else (AwaySet(user.id, why),))


def set_real_name(model: Model, command: SetRealName, now: int) -> Outcome:
    """Set a user's real name."""
    user, _ = asking(model, command.user, command.epoch)
    real_name = _check_real_name(model, user, command.real_name, now)
    return Outcome(() if real_name == user.real_name else (RealNameSet(user.id, real_name),))


def _check_real_name(model: Model, user: User, real_name: str, now: int) -> str:
    """Return a real name without surrounding white space.

    :raises TextTooLong: if it is too long, or has control characters.
    :raises Muted: if the user is muted.
    """
    real_name = real_name.strip()
    if len(real_name) > MAX_REAL_NAME or _CONTROL.search(real_name):
        raise TextTooLong("a real name is a line")
    if real_name:
        sanctions.check_voice(model, user, now)
    return real_name


def set_bot(model: Model, command: SetBot, now: int) -> Outcome:
    """Mark a user as a program, or end that."""
    user, _ = asking(model, command.user, command.epoch)
    return Outcome(() if command.on == user.bot else (BotSet(user.id, command.on),))


def acknowledge(model: Model, command: Acknowledge, now: int) -> Outcome:
    """Advance acknowledgement cursors, at most to the newest message."""
    latest: dict[int, int] = {}
    for id, number in command.cursors:
        user, number = model.users.get(id), min(number, model.number)
        if user is not None and number > latest.get(id, user.cursor):
            latest[id] = number
    return Outcome(tuple(CursorMoved(id, number) for id, number in latest.items()))
