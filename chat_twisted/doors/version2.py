"""Version 2 of the framed protocol, on one connection (docs/protocol.rst, Version 2).

A session of one connection with what may be asked on it, and the door that brings messages to such
sessions. It does not know how the connection is read, or what comes before registration.
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from chat_twisted.auth.gate import Gate
from chat_twisted.auth.keys import parse_key
from chat_twisted.core import commands
from chat_twisted.core.audit import CONSOLE_NAME
from chat_twisted.core.commands import BAN, MUTE, OPERATOR, Command, new_id
from chat_twisted.core.entries import Disconnected, Duplicate, InRoom, LoggedIn, Result
from chat_twisted.core.errors import (
    ChatError,
    EncryptionRequired,
    HeaderIncomplete,
    NotPermitted,
    TookTooLong,
    Unavailable,
    UnknownCommand,
)
from chat_twisted.core.events import (
    Event,
    Invitation,
    MemberJoined,
    MemberLeft,
    RankChanged,
    TopicChanged,
)
from chat_twisted.core.hub import Hashing, Hub
from chat_twisted.core.message import Message, fold
from chat_twisted.core.model import Room, Sanction, User
from chat_twisted.core.ordered import Listing
from chat_twisted.core.presence import AWAY, HERE, Presence, presence_of
from chat_twisted.core.reads import Span
from chat_twisted.core.sanctions import parse_duration, parse_subject
from chat_twisted.core.sessions import BANNED, REMOVED, Dismissal, Request, Session
from chat_twisted.core.turns import Paced
from chat_twisted.doors import Channel, Nowhere
from chat_twisted.frames import MAX_BODY, Frame, encode, format_time, parse_time, reply_headers
from chat_twisted.logs import Logger

T = TypeVar("T")

VERSION = 2
"""The highest version of the protocol that is spoken here."""

HISTORY_COUNT = 50
MAX_HISTORY = 1000
SEARCH_COUNT = 20
MAX_SEARCH = 100
"""How many messages HISTORY and SEARCH bring if it is not said, and at most."""

MAX_QUERY = 500
"""Characters of what is searched for."""

MAX_LINES = 1000
"""Of a page of a list: more would keep others waiting for too long."""

LIST_TIME = 0.002
"""Seconds that the reactor spends on lists in one turn, but for a page in each that has waited."""

TOO_BROAD = "the search is too broad, take longer or rarer words"
"""Why a search was given up, for people."""

MAX_JOINED = 65_536
"""Bytes, and a message more, that are written at once. What waits for a peer is counted by what is
written, so that must not be much."""

RETRY_READING = 5
"""Seconds after which it may be worth asking again for what could not be read."""


class Connection(Protocol):
    """What a session asks of its connection."""

    channel: Channel

    @property
    def host(self) -> str | None:
        """The peer's address; None on a local socket."""

    def write(self, data: bytes) -> None:
        """Write to the client."""

    def when_written(self, then: Callable[[], None]) -> None:
        """Call ``then`` when little waits to be written; perhaps at once."""

    def hold(self) -> None:
        """Take no further request for now."""

    def go_on(self) -> None:
        """Take requests again."""

    def registered(self, session: Version2) -> None:
        """``session`` is this connection's."""

    def refuse(self, error: ChatError, id: str | None = None) -> None:
        """Answer a request with an error."""

    def bye(self, reason: str, *, final: bool = False) -> None:
        """Say BYE, and close."""

    def abort(self, why: str) -> None:
        """Close at once."""


NOWHERE = Nowhere()


class Version2(Session):
    """A session of version 2: one connection, frames both ways as they come.

    A request to leave waits until what was asked before it is answered.

    :param greeting: the REGISTER frame.
    """

    __slots__ = ("_awaited", "_greeting", "_then", "connection", "instance", "pending")

    door: Version2Door
    _log: ClassVar[Logger] = Logger()

    def __init__(self, door: Version2Door, connection: Connection, greeting: Frame) -> None:
        super().__init__(door, connection.host)
        self.connection = connection
        self.instance = ""  # tells the client from others of the same user, if it says which it is
        self._greeting: Frame | None = greeting  # until it is answered
        self._awaited: Request | None = None
        self.pending = 0  # requests whose answer is to come
        self._then: Callable[[], None] | None = None

    # Coming and going

    @property
    def name(self) -> str:
        """The name that the greeting asks for."""
        return "" if self._greeting is None else self._greeting.argument

    def register(self, proof: str = "", label: str | None = None) -> None:
        """Ask for the name in the greeting: ``Connection.registered`` or ``refuse`` will be called.

        :param proof: by what the client has proven that it owns the account, by a request with the
            mark ``label``.
        :raises ChatError: it is refused at once.
        """
        greeting = self._greeting
        assert greeting is not None, "a session registers once"
        for header in ("version", "resume"):
            if header in greeting.headers:
                greeting.number(header)
        if "version" in greeting.headers and greeting.number("version") < VERSION:
            raise HeaderIncomplete("an older version has another REGISTER")
        self.instance = greeting.token("instance") or ""
        token = greeting.headers.get("session")
        if not proof:  # else it is the proof that is answered
            label = greeting.id
        self.door.hub.login(self, self.name, token=token, proof=proof, label=label)

    def registered(self, request: Request, login: LoggedIn) -> None:
        """Hub: the session has the name."""
        greeting, hub = self._greeting, self.door.hub
        assert greeting is not None
        self._greeting = None
        headers = reply_headers(
            request.label,
            ("Version", VERSION),
            ("Session", self.token),
            ("Max-message", self.door.max_message),
            ("Last", hub.newest),
        )
        self.connection.write(encode("REGISTERED", hub.name_of(self), headers))
        if self.door.motd and "session" not in greeting.headers:
            self.connection.write(encode("NOTICE", "motd", (), self.door.motd))
        self.connection.registered(self)
        hub.arrive(self, greeting.number("resume") if "resume" in greeting.headers else None)

    def end(self, why: str, *, for_good: bool) -> None:
        """The connection is gone; ``for_good``: because the user said so."""
        self.door.hub.leave(self, for_good=for_good)
        self.connection = NOWHERE
        self._then = None

    def when_answered(self, then: Callable[[], None]) -> None:
        """Call ``then`` when everything that was asked is answered; perhaps at once."""
        if self.pending:
            self._then = then
        else:
            then()

    def _ask(self, frame: Frame, command: Command) -> None:
        """Propose a command, and take nothing else before it is answered: what follows may build on
        it.
        """
        self._await(self.door.hub.propose(self, command, frame.argument, frame.id))

    def _await(self, request: Request) -> None:
        self.pending += 1
        self._awaited = request
        self.connection.hold()

    def _answered(self, request: Request | None = None) -> None:
        self.pending -= 1
        if request is not None and request is self._awaited:
            self._awaited = None
            self.connection.go_on()
        if self._then is not None and not self.pending:
            then, self._then = self._then, None
            then()

    # What is asked

    def take(self, frame: Frame) -> None:
        """Handle a request, one of ``VERBS``.

        :raises ChatError: it is refused.
        """
        verb = frame.verb
        if verb == "SEND" or verb == "RECEIVED":  # counted with their texts; not at all
            self.VERBS[verb](self, frame)
            return
        self.door.hub.allow(self)
        if verb in ("WHO", "ROOMS") or (verb == "BAN" and not frame.argument):
            self._take_in_turn(frame)
        else:
            self.VERBS[verb](self, frame)

    def _take_in_turn(self, frame: Frame) -> None:
        """Handle a request that may take long, now or when it is its turn; take nothing else until
        then.
        """

        def handle() -> None:
            if not self.ended:
                self.VERBS[frame.verb](self, frame)

        asker = self.door.hub.asker(self)
        handling = Deferred.fromCoroutine(self.door.lists.do(asker, handle))
        handling.addErrback(self._not_read, frame)
        if not handling.called:
            self.pending += 1
            self.connection.hold()
            handling.addCallback(self._have_read)

    def _send(self, frame: Frame) -> None:
        if not frame.argument or not frame.body:
            raise HeaderIncomplete("no recipient or no text")
        # The connection has looked whether the Id is a token.
        id = frame.headers.get("id")
        key = deduplication_key(self.instance, frame.argument, frame.body, id)
        self.door.hub.send(self, frame.argument, frame.body, id, key)
        self.pending += 1

    def _received(self, frame: Frame) -> None:
        self.door.hub.received(self, frame.number("message"))

    def _join(self, frame: Frame) -> None:
        private = frame.flag("private") or False
        self._ask(frame, commands.Join(self.user, self.epoch, frame.argument, new_id(), private))

    def _leave(self, frame: Frame) -> None:
        self._ask(frame, commands.Part(self.user, self.epoch, frame.argument))

    def _ban(self, frame: Frame) -> None:
        if frame.verb == "BAN" and not frame.argument:
            found = self.door.hub.sanctions(self, _after(frame))
            self._list(frame, "", found, lambda sanction: sanction.key, _describe)
            return
        kind = BAN if frame.verb.endswith(BAN.upper()) else MUTE
        subject = parse_subject(frame.argument)
        if frame.verb.startswith("UN"):
            self._ask(frame, commands.Lift(self.user, self.epoch, kind, subject))
            return
        until = parse_duration(frame.headers.get("duration", ""), self.door.hub.settled())
        reason = frame.body or ""
        self._ask(frame, commands.Impose(self.user, self.epoch, kind, subject, until, reason))

    def _kick(self, frame: Frame) -> None:
        whom = frame.argument
        if whom.startswith("#"):
            whom = frame.text("user")
            command = commands.RemoveMember(self.user, self.epoch, frame.argument, whom)
            self._ask(frame, command)
        else:
            self._ask(frame, commands.Disconnect(self.user, self.epoch, whom, frame.body or ""))

    def _invite(self, frame: Frame) -> None:
        whom = frame.text("user")
        self._ask(frame, commands.Invite(self.user, self.epoch, frame.argument, whom))

    def _topic(self, frame: Frame) -> None:
        if frame.body is not None:
            topic = commands.SetTopic(self.user, self.epoch, frame.argument, frame.body)
            self._ask(frame, topic)
            return
        room = self.door.hub.room(self, frame.argument)
        self.connection.write(encode("TOPIC", room.name, reply_headers(frame.id), room.topic))

    def _account(self, frame: Frame) -> None:
        hub, user, epoch = self.door.hub, self.user, self.epoch
        text = frame.headers.get("key", "")
        match frame.argument:
            case "register":
                key, comment = parse_key(text) if text else ("", "")
                making = commands.MakeAccount(user, epoch, key, comment)
                hashing = self._hashing(frame)
                self._await(hub.propose_hashed(self, making, hashing, "register", frame.id))
            case "password":
                setting = commands.SetPassword(user, epoch, "")
                hashing = self._hashing(frame)
                self._await(hub.propose_hashed(self, setting, hashing, "password", frame.id))
            case "add":
                hub.account(self)
                self._ask(frame, commands.AddKey(user, epoch, *parse_key(text)))
            case "remove":
                hub.account(self)
                self._ask(frame, commands.RemoveKey(user, epoch, parse_key(text)[0]))
            case "unregister":
                self._ask(frame, commands.DropAccount(user, epoch))
            case "keys":
                keys = hub.account(self).keys.items()
                lines = "".join(f"{key} {comment}".rstrip() + "\n" for key, (comment, _) in keys)
                self.connection.write(encode("ACCOUNT", "keys", reply_headers(frame.id), lines))
            case _:
                raise UnknownCommand("no such thing can be done with an account")

    def _hashing(self, frame: Frame) -> Hashing | None:
        """Return what makes the hash of the password in the body; None if there is none."""
        if not frame.body:
            return None
        if not self.connection.channel.private:
            raise EncryptionRequired("a password")
        return partial(self.door.gate.passwords.hash, frame.body)

    def _rooms(self, frame: Frame) -> None:
        me = self.user

        def line(room: Room) -> str:
            member = " member" if me in room.members else ""
            return f"{room.name} {len(room.members)}{member}{' private' if room.private else ''}"

        rooms = self.door.hub.rooms(self, _after(frame))
        self._list(frame, "", rooms, lambda room: room.name, line)

    def _who(self, frame: Frame) -> None:
        hub, name, watches = self.door.hub, "", frame.flag("watch")
        if frame.argument:
            name = hub.room(self, frame.argument).name
            users = hub.members(self, name, _after(frame))
        else:
            users = hub.who(_after(frame))
        if watches is not None:
            hub.watch(self, watches=watches)

        self._list(frame, name, users, lambda user: user.name, _describe_user)

    def _status(self, frame: Frame) -> None:
        why = {"here": None, "away": frame.body or ""}
        if frame.argument not in why:
            raise UnknownCommand("no such status")
        self._ask(frame, commands.SetAway(self.user, self.epoch, why[frame.argument]))

    def _list(
        self,
        frame: Frame,
        argument: str,
        listing: Listing[T],
        name: Callable[[T], str],
        line: Callable[[T], str],
    ) -> None:
        """Answer with a page: a line for each item that is listed, as many as go into one.

        :param name: what the client is to name an item by to get those behind it.
        """
        lines: list[str] = []
        size = 0
        headers = reply_headers(frame.id, ("Count", listing.count))
        last: T | None = None
        for item in listing.items:
            text = f"{line(item)}\n"
            size += len(text.encode())
            if last is not None and (size > MAX_BODY or len(lines) >= MAX_LINES):
                headers.append(("More", name(last)))
                break
            lines.append(text)
            last = item
        self.connection.write(encode(frame.verb, argument, headers, "".join(lines)))
        self.door.hub.charge(self, size)  # it may be much for a request of a few bytes

    def _history(self, frame: Frame) -> None:
        headers = frame.headers

        def number(name: str) -> int | None:
            return frame.number(name) if name in headers else None

        def time(name: str) -> int | None:
            return parse_time(headers[name]) if name in headers else None

        after, since, count = number("after"), time("since"), number("count")
        span = Span(
            min(HISTORY_COUNT if count is None else count, MAX_HISTORY),
            after,
            number("before"),
            since,
            time("until"),
            oldest_first=after is not None or since is not None,
        )
        self._read(frame, self.door.hub.history(self, frame.argument, span))

    def _search(self, frame: Frame) -> None:
        query = frame.body or ""
        if not query.strip():
            raise HeaderIncomplete("nothing to search for")
        if len(query) > MAX_QUERY:
            raise NotPermitted("too much to search for")
        count = frame.number("count") if "count" in frame.headers else SEARCH_COUNT
        found = self.door.hub.search(self, frame.argument, query, min(count, MAX_SEARCH))
        self._read(frame, found.addCallback(lambda messages: (messages, False)))

    def _read(self, frame: Frame, reading: Deferred[tuple[list[Message], bool]]) -> None:
        """Answer with messages when they are read; take nothing else until then."""
        self.pending += 1
        self.connection.hold()
        answered = reading.addCallbacks(
            self._bring, self._not_read, callbackArgs=(frame,), errbackArgs=(frame,)
        )
        answered.addErrback(lambda fault: self._log.failure("while reading back", fault))
        answered.addCallback(self._have_read)

    def _bring(self, read: tuple[list[Message], bool], frame: Frame) -> None:
        messages, more = read
        parts = [_message("MESSAGE", message, frame.id) for message in messages]
        headers = reply_headers(frame.id, ("Count", len(messages)))
        if more:
            headers.append(("More", "yes"))
        parts.append(encode(frame.verb, frame.argument, headers))
        self.connection.write(b"".join(parts))

    def _have_read(self, _: None) -> None:
        self.connection.go_on()
        self._answered()

    def _not_read(self, failure: Failure, frame: Frame) -> None:
        error = failure.value
        if not isinstance(error, ChatError):
            self._log.error("can't read: {reason}", reason=failure.getErrorMessage())
            error = Unavailable("can't read", retry_after=RETRY_READING)
        elif isinstance(error, TookTooLong) and frame.verb == "SEARCH":
            error = TookTooLong()  # and would again
            error.headers = (("Reason", TOO_BROAD),)
        self.connection.refuse(error, frame.id)

    VERBS: ClassVar[dict[str, Callable[[Any, Frame], None]]] = {
        "SEND": _send,
        "RECEIVED": _received,
        "WHO": _who,
        "STATUS": _status,
        "JOIN": _join,
        "LEAVE": _leave,
        "TOPIC": _topic,
        "ROOMS": _rooms,
        "INVITE": _invite,
        "KICK": _kick,
        "HISTORY": _history,
        "SEARCH": _search,
        "ACCOUNT": _account,
        **dict.fromkeys(("BAN", "UNBAN", "MUTE", "UNMUTE"), _ban),
    }

    # What the hub tells

    def sent(self, request: Request, message: Message | Duplicate) -> None:
        """Hub: it is committed."""
        # Written by hand, as is what comes with every message: encode() takes five times as long.
        id = "" if request.label is None else f"Id: {request.label}\n"
        self.connection.write(
            f"SENT {request.argument}\n{id}Message: {message.number}\n"
            f"Time: {format_time(message.time)}\n\n".encode()
        )
        self._answered()

    def delivered(self, request: Request, number: int) -> None:
        """Hub: the recipient has it."""
        id = "" if request.label is None else f"Id: {request.label}\n"
        self.connection.write(f"DELIVERED {request.argument}\n{id}Message: {number}\n\n".encode())

    def undelivered(self, request: Request) -> None:
        """Hub: the recipient went. The message is committed, and SENT has said no more."""

    def refused(self, request: Request, error: ChatError) -> None:
        """Hub: it is not taken."""
        self.connection.refuse(error, request.label)
        if self.user:
            self._answered(request)

    def answered(self, request: Request, result: Result, event: Event | None) -> None:
        """Hub: it is done."""
        headers = reply_headers(request.label)
        if isinstance(result, InRoom):
            self.connection.write(self._answer_of_room(request, result, event, headers))
        else:
            argument = request.argument
            if isinstance(result, Disconnected):
                argument = result.name
            verb = _VERBS[type(request.command)]
            if isinstance(request.command, (commands.Impose, commands.Lift)):
                un = "UN" if isinstance(request.command, commands.Lift) else ""
                verb = f"{un}{request.command.kind.upper()}"
            self.connection.write(encode(verb, argument, headers))
        self._answered(request)

    def _answer_of_room(
        self,
        request: Request,
        result: InRoom,
        event: Event | None,
        headers: list[tuple[str, object]],
    ) -> bytes:
        state = self.door.hub.state
        room = state.rooms.get(result.room)
        if event is None:  # the asker was a member
            name = request.argument if room is None else room.name
            event = MemberJoined(name, self.door.hub.name_of(self), 0)
        if not isinstance(event, MemberJoined):
            return _event(event, headers)
        more: list[tuple[str, object]] = []
        if room is not None and (owner := state.owner_of(room)) is not None:
            more.append(("Owner", owner.name))
        if room is not None and room.private:
            more.append(("Private", "yes"))
        return _event(event, headers, more, "" if room is None else room.topic)

    def dismissed(self, dismissal: Dismissal) -> None:
        """Hub: somebody else wants the user gone."""
        cause, by, reason = dismissal
        if cause == REMOVED:
            why = "the account was removed"
        else:
            what = "Banned" if cause == BANNED else "Kicked"
            why = f"{what} by {by or CONSOLE_NAME}" + (f": {reason}" if reason else "")
        self.connection.bye(why, final=True)

    def when_ready(self, then: Callable[[], None]) -> None:
        """Hub: there is more to be brought."""
        self.connection.when_written(then)

    def drop(self, why: str) -> None:
        """Hub: the session can't go on."""
        self.connection.abort(why)


class Version2Door:
    """Brings messages to sessions of version 2.

    :param gate: whom credentials are brought to.
    :param max_message: the limit of a text, in bytes.
    :param motd: what is said to everybody who logs in.
    :param flush: see ``sessions.Door.flush``.
    """

    def __init__(
        self,
        hub: Hub,
        gate: Gate,
        clock: IReactorTime,
        max_message: int,
        motd: str,
        flush: Callable[..., None],
    ) -> None:
        self.lists = Paced(clock, LIST_TIME)
        self.motd = motd
        self.flush = flush
        self.hub = hub
        self.gate = gate
        self.max_message = max_message

    def deliver(self, messages: Sequence[Message], sessions: Sequence[Session]) -> None:
        """See ``sessions.Door.deliver``."""
        parts: list[bytes] = []
        size = 0
        for message in messages:
            part = _message("FORWARD", message)
            parts.append(part)
            size += len(part)
            if size > MAX_JOINED:
                _write(b"".join(parts), sessions)
                parts.clear()
                size = 0
        if parts:
            _write(parts[0] if len(parts) == 1 else b"".join(parts), sessions)

    def show(self, seen: Sequence[Presence], sessions: Sequence[Session]) -> None:
        """See ``sessions.Door.show``."""
        lines = [f"{name} {state} {why}".rstrip() + "\n" for name, state, why in seen]
        _write(b"".join(encode("PRESENCE", "", (), body) for body in bodies(lines)), sessions)

    def tell(self, event: Event, sessions: Sequence[Session]) -> None:
        """See ``sessions.Door.tell``."""
        if data := _event(event, []):
            _write(data, sessions)


_VERBS: dict[type, str] = {
    commands.Disconnect: "KICK",
    commands.SetAway: "STATUS",
    commands.Impose: "",
    commands.Lift: "",
    **dict.fromkeys(
        (
            commands.MakeAccount,
            commands.DropAccount,
            commands.AddKey,
            commands.RemoveKey,
            commands.SetPassword,
        ),
        "ACCOUNT",
    ),
}
"""By which verb a request is answered that was no room's."""


def _event(
    event: Event,
    first: list[tuple[str, object]],
    last: Sequence[tuple[str, object]] = (),
    body: str | None = None,
) -> bytes:
    """Write an event; nothing for those that this version has no word for."""
    match event:
        case MemberJoined(room, user):
            verb, by = "JOINED", ""
        case MemberLeft(room, user, by):
            verb = "LEFT"
        case TopicChanged(room, body, user):
            verb, by = "TOPIC", ""
        case Invitation(room, user, by):
            verb = "INVITED"
        case RankChanged(room, user, rank, "") if rank == OPERATOR:
            verb, by = "OWNER", ""
        case _:
            return b""
    who = [("User", user), ("By", by)] if by else [("User", user)]
    return encode(verb, room, [*first, *who, *last], body)


def _write(data: bytes, sessions: Sequence[Session]) -> None:
    for session in sessions:
        session.connection.write(data)  # type: ignore[attr-defined]


def bodies(lines: Sequence[str]) -> Iterator[str]:
    """Join ``lines`` to bodies that every client takes."""
    first = size = 0
    for i, line in enumerate(lines):
        length = len(line.encode())
        if size + length > MAX_BODY:
            yield "".join(lines[first:i])
            first, size = i, 0
        size += length
    if first < len(lines):
        yield "".join(lines[first:])


def _after(frame: Frame) -> str:
    return fold(frame.headers.get("after", ""))


def _describe_user(user: User) -> str:
    name, state, why = presence_of(user)
    # A member who is not here is for others one who does not read for now.
    return name if state == HERE else f"{name} {AWAY} {why}".rstrip()


def _describe(sanction: Sanction) -> str:
    until = format_time(sanction.until) if sanction.until else "ever"
    return (
        f"{sanction.subject} {sanction.kind} {until} {sanction.author} {sanction.reason}".rstrip()
    )


def _message(verb: str, message: Message, id: str | None = None) -> bytes:
    mark = "" if id is None else f"Id: {id}\n"
    body = message.text.encode()
    head = (
        f"{verb} {message.sender}\n{mark}To: {message.to}\nMessage: {message.number}\n"
        f"Time: {format_time(message.time)}\nContent-length: {len(body)}\n\n"
    )
    return head.encode() + body


def deduplication_key(instance: str, to: str, text: str, id: str | None) -> str | None:
    """Return what a message and the same one sent again have in common, and no other of the user:
    the client's instance and its Id. Of a client that does not say which it is, another one of the
    same user may use the same Id, so that recipient and text belong to it.
    """
    if id is None:
        return None
    if instance:
        return f"{id}\n{instance}"  # neither has a line end
    digest = hashlib.blake2b(f"{fold(to)}\n{text}".encode(), digest_size=9).digest()
    return f"{id}\n\n{b2a_base64(digest, newline=False).decode()}"
