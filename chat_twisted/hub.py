"""The hub: the rules of the chat, and the registry of who is here.

Who may have which name, who may say what to whom, who gets it, and who hears that it was had. It
knows no socket, no storage and no protocol: doors come to it with calls, and it hands each door
the messages for that door's sessions. One thread, no waiting: every method returns at once, and
what takes time (the commitment of a message) comes back through the ledger.

The way of a message: ``send`` checks it and appends it to the ledger; ``_committed`` gets it back
with its number and only then tells the sender and hands it to the doors; ``received`` tells the
sender that the recipient has it.
"""

from __future__ import annotations

import hmac
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from twisted.logger import Logger

from chat_twisted.errors import NameInUse, NoSuchRoom, UnableToSend, Unavailable
from chat_twisted.ledger import Ledger
from chat_twisted.message import (
    Audience,
    Message,
    Target,
    check_user_name,
    fold,
    parse_target,
)

MAX_UNANSWERED = 1000
"""How many direct messages are remembered of a session that it did not confirm. Past that the
oldest is forgotten: it was written to the session all the same, but its sender won't be told."""

RETRY_WHEN_FULL = 30
"""Seconds after which it may be worth trying again when the server is full."""


class Door(Protocol):
    """What the hub asks of a door: to bring a message to sessions that came through it."""

    def deliver(self, message: Message, sessions: Sequence[Session]) -> None:
        """Write ``message``, encoded once, to each of ``sessions``; must not fail or wait."""


class User:
    """Somebody who holds a name, on one connection or several.

    ``token`` is what proves on another connection that one is this user. ``sessions`` are all
    connections; of these, messages go to those that are present.
    """

    __slots__ = ("key", "name", "sessions", "token")

    def __init__(self, name: str) -> None:
        self.name = name
        self.key = fold(name)
        self.token = secrets.token_urlsafe(16)
        self.sessions: list[Session] = []

    @property
    def present(self) -> bool:
        """Whether messages reach the user now."""
        return any(session.present for session in self.sessions)


class Session:
    """One connection of a user, as the hub sees it. Each door makes its own kind of it.

    The hub calls the methods; a door fills them with its dialect's words. ``user`` is None until
    the hub has registered the session, and again once it has left.
    """

    __slots__ = ("door", "present", "unanswered", "user")

    def __init__(self, door: Door) -> None:
        self.door = door
        self.user: User | None = None
        self.present = False
        self.unanswered: deque[tuple[int, Request]] = deque(maxlen=MAX_UNANSWERED)
        """Direct messages that went to this session, with their numbers, until it has them."""

    def sent(self, request: Request, message: Message) -> None:
        """Hear that one's own message was committed."""
        raise NotImplementedError

    def delivered(self, request: Request, number: int) -> None:
        """Hear that the recipient of one's own direct message has it."""
        raise NotImplementedError

    def undelivered(self, request: Request) -> None:
        """Hear that the recipient of one's own direct message went away before having it."""
        raise NotImplementedError


@dataclass(slots=True, eq=False)
class Request:
    """A message on its way: who sent it on which session, and how they will know the answer.

    ``argument`` is the recipient as the sender wrote it, ``id`` the sender's own mark, if any.
    ``recipient`` is the user that had the name when the message was sent.
    """

    session: Session
    user: User
    argument: str
    id: str | None
    recipient: User | None
    delivered: bool = False


class Hub:
    """The chat itself.

    :param max_clients: how many sessions there may be at once.
    """

    _log = Logger()

    def __init__(self, ledger: Ledger[Request], *, max_clients: int) -> None:
        self._ledger = ledger
        self._max_clients = max_clients
        self._users: dict[str, User] = {}
        self._session_count = 0
        self._present_count = 0  # users
        self._who: list[str] | None = None  # what who() answers, until somebody comes or goes
        # Whoever is present, in the shape that a message to everybody needs. A dict is an
        # ordered set: all get a message in the order in which they came.
        self._present: dict[Door, dict[Session, None]] = {}
        ledger.start(self._committed)

    @property
    def last(self) -> int:
        """The number of the newest message, 0 if there is none."""
        return self._ledger.last

    def register(self, name: str, session: Session, token: str | None = None) -> User:
        """Give ``session`` the name ``name``. It gets no messages before it arrives.

        :param token: the user's token, on a further connection of the same user.
        :raises MalformedName: nobody may be called so.
        :raises NameInUse: somebody else is called so.
        :raises Unavailable: the server is full.
        """
        check_user_name(name)
        user = self._users.get(fold(name))
        if user is not None and not (
            token is not None and hmac.compare_digest(token.encode(), user.token.encode())
        ):
            raise NameInUse
        if self._session_count >= self._max_clients:
            raise Unavailable("the server is full", retry_after=RETRY_WHEN_FULL)
        if user is None:
            user = self._users[fold(name)] = User(name)
        user.sessions.append(session)
        session.user = user
        self._session_count += 1
        return user

    def arrive(self, session: Session) -> None:
        """From now on ``session``, which has a name, gets messages."""
        assert session.user is not None, "a session that is not registered can't arrive"
        self._present_count += not session.user.present
        self._who = None
        session.present = True
        self._present.setdefault(session.door, {})[session] = None

    def leave(self, session: Session) -> None:
        """The connection of ``session`` is gone, or must be treated as if it were."""
        user = session.user
        if user is None:
            return
        was_present = user.present
        session.user = None
        session.present = False
        self._present.get(session.door, {}).pop(session, None)
        self._session_count -= 1
        user.sessions.remove(session)
        if not user.sessions:
            del self._users[user.key]
        if not user.present:
            self._present_count -= was_present
            self._who = None
            for _, request in session.unanswered:
                self._undelivered(request)
        session.unanswered.clear()

    def who(self) -> list[str]:
        """The names of all who are present, ordered by their folded form. Not to be changed."""
        if self._who is None:
            self._who = sorted((u.name for u in self._users.values() if u.present), key=fold)
        return self._who

    def send(self, session: Session, argument: str, text: str, id: str | None = None) -> Request:
        """Say ``text`` to ``argument``: a user, a room or ALL.

        :return: what the session's ``sent`` is called with when the message is committed, and its
            ``delivered`` or ``undelivered`` when it is known what became of a direct one. None of
            them is called before ``send`` has returned.

        :raises UnableToSend: nobody but the sender's own session would get it.
        :raises NoSuchRoom: there is no such room.
        """
        user = session.user
        assert user is not None, "a session that is not registered can't send"
        target = parse_target(argument)
        recipient = self._recipient(session, user, target)
        name = target.name if recipient is None else recipient.name
        request = Request(session, user, argument, id, recipient)
        self._ledger.append(user.name, Target(target.audience, name, target.key), text, request)
        return request

    def _recipient(self, session: Session, sender: User, target: Target) -> User | None:
        """Check that somebody would get the message; return who, if it is to one user."""
        if target.audience is Audience.ROOM:
            raise NoSuchRoom
        if target.audience is Audience.ALL:
            if self._present_count <= sender.present:
                raise UnableToSend("nobody else is here")
            return None
        recipient = self._users.get(target.key)
        if recipient is None or not any(s.present and s is not session for s in recipient.sessions):
            raise UnableToSend("the recipient is not here")
        return recipient

    def _committed(self, batch: Sequence[tuple[Message, Request]]) -> None:
        for message, request in batch:
            # A fault of ours with one message must not cost the others of the batch.
            with self._log.failuresHandled("while delivering {number}", number=message.number):
                self._deliver(message, request)

    def _deliver(self, message: Message, request: Request) -> None:
        origin = request.session
        if origin.user is not None:
            origin.sent(request, message)
        if message.target.audience is Audience.ALL:
            for door, present in self._present.items():
                door.deliver(message, [s for s in present if s is not origin])
        else:
            self._deliver_to_user(message, request)

    def _deliver_to_user(self, message: Message, request: Request) -> None:
        recipient = request.recipient
        assert recipient is not None
        reached = [s for s in recipient.sessions if s.present and s is not request.session]
        for session in reached:
            session.unanswered.append((message.number, request))
        if not reached:
            self._undelivered(request)
        if recipient is not request.user:
            reached += [s for s in request.user.sessions if s.present and s is not request.session]
        by_door: dict[Door, list[Session]] = {}
        for session in reached:
            by_door.setdefault(session.door, []).append(session)
        for door, sessions in by_door.items():
            door.deliver(message, sessions)

    def received(self, session: Session, number: int) -> None:
        """``session`` says that it has everything up to ``number`` that was sent to it."""
        unanswered = session.unanswered
        while unanswered and unanswered[0][0] <= number:
            first, request = unanswered.popleft()
            if not request.delivered:
                request.delivered = True
                if request.session.user is not None:
                    request.session.delivered(request, first)

    def rejected(self, session: Session, number: int) -> None:
        """``session`` says that it could not read the message ``number``; it has all before."""
        self.received(session, number - 1)
        if session.unanswered and session.unanswered[0][0] == number:
            self._undelivered(session.unanswered.popleft()[1])

    def _undelivered(self, request: Request) -> None:
        if not request.delivered and request.session.user is not None:
            request.session.undelivered(request)
