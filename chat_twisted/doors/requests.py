"""The requests of version 2 (docs/protocol.rst): for each verb, its command and its answer.

Each verb has a function in the table ``VERBS``. Most functions make a command from the frame and
propose it (``Version2.ask``). The answer is the event that others get too, or the verb of the
request, or a frame of the function's own. Requests that only read are answered at once, or in their
turn. This module must not decide anything, or know how connections are read.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from collections.abc import Callable
from functools import partial
from heapq import nsmallest

from chat_twisted.auth.keys import parse_key
from chat_twisted.core import commands
from chat_twisted.core.commands import BAN, KINDS, MODES, MUTE, NONE, TEXT, new_id
from chat_twisted.core.entries import Disconnected, InRoom, Read, Result
from chat_twisted.core.errors import EncryptionRequired, MalformedName, NotPermitted
from chat_twisted.core.events import (
    BanChanged,
    Event,
    MemberJoined,
    ModeChanged,
    NameChanged,
    RankChanged,
)
from chat_twisted.core.hub import Hashing
from chat_twisted.core.logins import digest_of
from chat_twisted.core.message import fold
from chat_twisted.core.model import Room
from chat_twisted.core.ordered import Listing
from chat_twisted.core.presence import presence_of
from chat_twisted.core.sanctions import parse_duration, parse_subject
from chat_twisted.core.sessions import Request
from chat_twisted.doors import reading
from chat_twisted.doors.encoding import (
    RANKS,
    T,
    describe_room_ban,
    describe_sanction,
    describe_user,
    encode_event,
    encode_page,
)
from chat_twisted.doors.version2 import Answer, Version2
from chat_twisted.frames import (
    Frame,
    HeaderIncomplete,
    encode,
    format_time,
    reply_headers,
)
from chat_twisted.refusals import UnknownCommand

MAX_OPERATORS = 20
"""Maximum number of operators in the answer to JOIN."""

MAX_COMMON = 100
"""Maximum number of rooms in the answer to WHOIS; headers are limited."""

VERSION_1 = ("TOSEND", "TORECV")
"""The first words after REGISTER in version 1; they are not valid as names."""


def take(session: Version2, frame: Frame) -> None:
    """Process a request with a verb of ``VERBS``, and count it.

    :raises ChatError: if it is refused at once.
    """
    verb = frame.verb
    handle = VERBS[verb]
    session.door.hub.usage.spend(session)
    if verb in ("WHO", "ROOMS") or (verb in ("BAN", "READ") and _is_list(frame)):
        session.handle_in_turn(frame, lambda: handle(session, frame))
    else:
        handle(session, frame)


def _is_list(frame: Frame) -> bool:
    if frame.verb == "READ":  # unread messages are counted elsewhere
        return not frame.argument and not frame.flag("unread")
    return not frame.argument or (frame.argument.startswith("#") and "user" not in frame.headers)


# Messages


def send(session: Version2, frame: Frame) -> None:
    """Send a message. The hub counts it.

    :raises ChatError: if it is refused at once.
    """
    if not frame.argument or not frame.body:
        raise HeaderIncomplete("no recipient or no text")
    kind = _KINDS_OF_MESSAGES.get(frame.headers.get("kind", "text"))
    if kind is None:
        raise HeaderIncomplete("no such kind of message")
    # The connection has checked that the Id is a token.
    id = frame.headers.get("id")
    key = deduplication_key(session.instance, frame.argument, frame.body, id, kind)
    session.door.hub.send(session, frame.argument, frame.body, id, key, kind)
    session.pending += 1


_KINDS_OF_MESSAGES = {name: kind for kind, name in KINDS.items()}


def deduplication_key(
    instance: str, to: str, text: str, id: str | None, kind: int = TEXT
) -> str | None:
    """Return the deduplication key of a message (``commands.Send``).

    It has the client's instance and the Id. Without an instance it has the Id, the recipient, the
    text and the kind, because another client of the same user may use the same Id.

    :return: None if the message has no Id.
    """
    if id is None:
        return None
    if instance:
        return f"{id}\n{instance}"  # neither has a line end
    of_kind = KINDS[kind].encode() if kind else b""
    said = f"{fold(to)}\n{text}".encode()
    digest = hashlib.blake2b(said, digest_size=9, person=of_kind).digest()
    return f"{id}\n\n{b2a_base64(digest, newline=False).decode()}"


def received(session: Version2, frame: Frame) -> None:
    """Note that messages were received, which is not counted.

    :raises HeaderIncomplete: if it isn't said which.
    """
    session.door.hub.received(session, frame.number("message"))


def _delete(session: Version2, frame: Frame) -> None:
    session.ask_to_delete(frame)


def _read(session: Version2, frame: Frame) -> None:
    if not frame.argument and frame.flag("unread"):
        unread = session.door.hub.queries.unread(session, _after(frame))
        session.answer_with(frame, unread.addCallback(_encode_unread, frame))
        return
    if not frame.argument:
        markers = session.door.hub.queries.markers(session, _after(frame))
        _list(session, frame, "", markers, lambda marker: marker[0], lambda m: f"{m[0]} {m[1]}")
        return
    number = frame.number("message")
    command = commands.MarkRead(session.user, session.epoch, frame.argument, number)
    session.ask(frame, command, _answer_read)


def _encode_unread(page: tuple[list[tuple[str, int, int]], str], frame: Frame) -> bytes:
    conversations, more = page
    headers = reply_headers(frame.id, ("Count", len(conversations)))
    if more:
        headers.append(("More", more))
    lines = "".join(f"{name} {marker} {count}\n" for name, marker, count in conversations)
    return encode("READ", "", headers, lines)


def _answer_read(session: Version2, request: Request, result: Result, event: Event | None) -> bytes:
    assert isinstance(result, Read)
    where = reply_headers(request.label, ("Message", result.number))
    return encode("READ", request.argument, where)


# Users


def _who(session: Version2, frame: Frame) -> None:
    hub, name, watches = session.door.hub, "", frame.flag("watch")
    with_ranks, ranked = frame.flag("ranks"), None
    identities = frame.flag("identities") or False
    if frame.argument:
        room = hub.queries.room(session, frame.argument)
        name, ranked = room.name, room if with_ranks else None
        users = hub.queries.members(session, name, _after(frame))
    else:
        users = hub.who(_after(frame))
    if watches is not None:
        hub.watch(session, watches=watches)
        session.identities = identities
    _list(
        session,
        frame,
        name,
        users,
        lambda user: user.name,
        lambda user: describe_user(user, ranked, identities=identities),
    )


def _whois(session: Version2, frame: Frame) -> None:
    user, rooms = session.door.hub.queries.named(session, frame.argument)
    account = user.account
    came = user.time if account is None else account.time
    headers = reply_headers(frame.id, ("Account", "no" if account is None else "yes"))
    if came:
        headers.append(("Since", format_time(came)))
    if user.operator:
        headers.append(("Operator", "yes"))
    name, state, why, *_ = presence_of(user)
    headers.append(("State", state))
    if user.real_name:
        headers.append(("Real-name", user.real_name))
    if user.bot:
        headers.append(("Bot", "yes"))
    if rooms:
        headers.append(("Rooms", " ".join(room.name for room in rooms[:MAX_COMMON])))
    session.connection.write(encode("WHOIS", name, headers, why or None))


def _status(session: Version2, frame: Frame) -> None:
    why = {"here": None, "away": frame.body or ""}
    if frame.argument not in why:
        raise UnknownCommand("no such status")
    session.ask(frame, commands.SetAway(session.user, session.epoch, why[frame.argument]))


def _list(
    session: Version2,
    frame: Frame,
    argument: str,
    listing: Listing[T],
    name: Callable[[T], str],
    line: Callable[[T], str],
) -> None:
    page = encode_page(frame, argument, listing, name, line)
    session.connection.write(page)
    session.door.hub.usage.charge(session, len(page))  # a short request may have a long answer


def _after(frame: Frame) -> str:
    return fold(frame.headers.get("after", ""))


def _rename(session: Version2, frame: Frame) -> None:
    if frame.argument in VERSION_1:
        raise MalformedName("nobody could register under that name")
    time = _time_of_day(session)
    token = frame.headers.get("session") if session.connection.channel.inside else None
    digest = digest_of(token) if token else b""
    command = commands.Rename(session.user, session.epoch, frame.argument, time, digest)
    session.ask(frame, command, _event_or(lambda: NameChanged(name_of(session), name_of(session))))


def name_of(session: Version2) -> str:
    """Return the name of a session's user."""
    return session.door.hub.name_of(session)


def _event_or(unchanged: Callable[[], Event]) -> Answer:
    """Make a function that answers with the event that others get too.

    :param unchanged: returns the event for the answer if nothing has changed.
    """

    def answer(session: Version2, request: Request, result: Result, event: Event | None) -> bytes:
        return encode_event(event or unchanged(), reply_headers(request.label))

    return answer


# Rooms


def _join(session: Version2, frame: Frame) -> None:
    private = frame.flag("private") or False
    command = commands.Join(session.user, session.epoch, frame.argument, new_id(), private)
    session.ask(frame, command, _answer_join)


def _answer_join(session: Version2, request: Request, result: Result, event: Event | None) -> bytes:
    assert isinstance(result, InRoom)
    state = session.door.hub.state
    room = state.rooms.get(result.room)
    headers = reply_headers(request.label)
    if room is None:  # it has ended meanwhile
        return encode_event(
            event or MemberJoined(request.argument, name_of(session), NONE), headers
        )
    if event is None:  # the asker was a member
        member = room.members.get(session.user)
        rank = NONE if member is None else member.rank
        event = MemberJoined(room.name, name_of(session), rank)
    first = nsmallest(MAX_OPERATORS, room.operators, key=lambda id: room.members[id].ordinal)
    more: list[tuple[str, object]] = [("Operators", " ".join(state.users[id].name for id in first))]
    if modes := modes_of(room):
        more.append(("Modes", modes))
    return encode_event(event, headers, more, room.topic)


def modes_of(room: Room) -> str:
    """Return the names of the modes of a room that are on."""
    return " ".join(mode for mode in MODES if mode in room.modes)


def _leave(session: Version2, frame: Frame) -> None:
    reason = frame.body or ""
    session.ask(frame, commands.Part(session.user, session.epoch, frame.argument, reason))


def _rank(session: Version2, frame: Frame) -> None:
    whom, rank = frame.text("user"), _RANKS.get(frame.text("rank"))
    if rank is None:
        raise NotPermitted("no such rank")
    command = commands.SetRank(session.user, session.epoch, frame.argument, whom, rank)
    there = _event_or(lambda: RankChanged(frame.argument, whom, rank, name_of(session), rank))
    session.ask(frame, command, there)


_RANKS = {name: rank for rank, name in RANKS.items()}


def _mode(session: Version2, frame: Frame) -> None:
    if "mode" not in frame.headers:
        room = session.door.hub.queries.room(session, frame.argument)
        headers = reply_headers(frame.id, ("Modes", modes_of(room)))
        session.connection.write(encode("MODE", room.name, headers))
        return
    mode, on = frame.text("mode"), frame.flag("on")
    if on is None:
        raise HeaderIncomplete("on or off")
    command = commands.SetMode(session.user, session.epoch, frame.argument, mode, on)
    there = _event_or(lambda: ModeChanged(frame.argument, mode, on, name_of(session)))
    session.ask(frame, command, there)


def _ban_from_room(session: Version2, frame: Frame) -> None:
    user, epoch, room = session.user, session.epoch, frame.argument
    on = frame.verb == "BAN"
    if on and "user" not in frame.headers:
        bans = session.door.hub.queries.room_bans(session, room, _after(frame))
        _list(session, frame, room, bans, lambda item: item[0], lambda i: describe_room_ban(*i))
        return
    whom, reason = frame.text("user"), frame.body or ""
    time = _time_of_day(session)
    command = commands.BanFromRoom(user, epoch, room, whom, on, reason, time)
    there = _event_or(lambda: BanChanged(room, fold(whom), on, name_of(session), reason))
    session.ask(frame, command, there)


def _time_of_day(session: Version2) -> int:
    # The log's own time may lag behind for an hour after the server did not run.
    return int(session.door.hub.settled() * 1000)


def _invite(session: Version2, frame: Frame) -> None:
    whom = frame.text("user")
    session.ask(frame, commands.Invite(session.user, session.epoch, frame.argument, whom))


def _topic(session: Version2, frame: Frame) -> None:
    if frame.body is not None:
        user, epoch, time = session.user, session.epoch, _time_of_day(session)
        session.ask(frame, commands.SetTopic(user, epoch, frame.argument, frame.body, time))
        return
    room = session.door.hub.queries.room(session, frame.argument)
    session.connection.write(encode("TOPIC", room.name, reply_headers(frame.id), room.topic))


def _rooms(session: Version2, frame: Frame) -> None:
    me = session.user

    def line(room: Room) -> str:
        member = " member" if me in room.members else ""
        return f"{room.name} {len(room.members)}{member}{' private' if room.private else ''}"

    rooms = session.door.hub.queries.rooms(session, _after(frame))
    _list(session, frame, "", rooms, lambda room: room.name, line)


# Operators


def _kick(session: Version2, frame: Frame) -> None:
    user, epoch, whom = session.user, session.epoch, frame.argument
    if whom.startswith("#"):
        room, whom = whom, frame.text("user")
        session.ask(frame, commands.RemoveMember(user, epoch, room, whom, frame.body or ""))
    else:
        command = commands.Disconnect(user, epoch, whom, frame.body or "")
        session.ask(frame, command, _answer_kick)


def _answer_kick(session: Version2, request: Request, result: Result, event: Event | None) -> bytes:
    assert isinstance(result, Disconnected)
    return encode("KICK", result.name, reply_headers(request.label))


def _ban(session: Version2, frame: Frame) -> None:
    if frame.argument.startswith("#"):
        _ban_from_room(session, frame)
    elif frame.verb == "UNBAN":
        _lift(session, frame)
    else:
        _impose(session, frame)


def _impose(session: Version2, frame: Frame) -> None:
    if frame.verb == "BAN" and not frame.argument:
        found = session.door.hub.queries.sanctions(session, _after(frame))
        _list(session, frame, "", found, lambda sanction: sanction.key, describe_sanction)
        return
    kind = _KINDS[frame.verb]
    subject = parse_subject(frame.argument)
    until = parse_duration(frame.headers.get("duration", ""), session.door.hub.settled())
    reason = frame.body or ""
    command = commands.Impose(session.user, session.epoch, kind, subject, until, reason)
    session.ask(frame, command)


def _lift(session: Version2, frame: Frame) -> None:
    subject = parse_subject(frame.argument)
    session.ask(frame, commands.Lift(session.user, session.epoch, _KINDS[frame.verb], subject))


_KINDS = {"BAN": BAN, "UNBAN": BAN, "MUTE": MUTE, "UNMUTE": MUTE}


# Accounts


def _account(session: Version2, frame: Frame) -> None:
    hub, user, epoch = session.door.hub, session.user, session.epoch
    text = frame.headers.get("key", "")
    match frame.argument:
        case "register":
            key, comment = parse_key(text) if text else ("", "")
            time = _time_of_day(session)
            making = commands.MakeAccount(user, epoch, key, comment, time=time)
            session.ask_hashed(frame, making, _hashing(session, frame))
        case "password":
            setting = commands.SetPassword(user, epoch, "")
            session.ask_hashed(frame, setting, _hashing(session, frame))
        case "add":
            hub.queries.account(session)
            session.ask(frame, commands.AddKey(user, epoch, *parse_key(text)))
        case "remove":
            hub.queries.account(session)
            session.ask(frame, commands.RemoveKey(user, epoch, parse_key(text)[0]))
        case "unregister":
            erase = frame.flag("erase") or False
            session.ask(frame, commands.DropAccount(user, epoch, erase))
        case "messages":
            hub.queries.account(session)
            reading.sent(session, frame)
        case "keys":
            keys = hub.queries.account(session).keys.items()
            lines = "".join(f"{key} {comment}".rstrip() + "\n" for key, (comment, _) in keys)
            session.connection.write(encode("ACCOUNT", "keys", reply_headers(frame.id), lines))
        case _:
            raise UnknownCommand("no such thing can be done with an account")


def _hashing(session: Version2, frame: Frame) -> Hashing | None:
    """Return a function that hashes the password in the body; None if there is no body."""
    if not frame.body:
        return None
    if not session.connection.channel.private:
        raise EncryptionRequired("a password")
    return partial(session.door.gate.passwords.hash, frame.body)


VERBS: dict[str, Callable[[Version2, Frame], None]] = {
    "HISTORY": reading.history,
    "SEARCH": reading.search,
    "DELETE": _delete,
    "READ": _read,
    "WHO": _who,
    "WHOIS": _whois,
    "STATUS": _status,
    "RENAME": _rename,
    "JOIN": _join,
    "LEAVE": _leave,
    "INVITE": _invite,
    "TOPIC": _topic,
    "RANK": _rank,
    "MODE": _mode,
    "ROOMS": _rooms,
    "KICK": _kick,
    "BAN": _ban,
    "UNBAN": _ban,
    "MUTE": _impose,
    "UNMUTE": _lift,
    "ACCOUNT": _account,
}
