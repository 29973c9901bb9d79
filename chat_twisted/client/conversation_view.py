"""The terminal's contents and input handling, without the terminal itself.

``ConversationView`` listens to a session and takes the lines that the user types. It gives a
``Terminal`` lines of styled text: final lines, shown above the prompt, and the user's own
undelivered messages, shown beside the prompt because they may still change. The ``Terminal`` makes
all text printable. This module must not know the terminal library or the wire protocol.
"""

from __future__ import annotations

import datetime
import enum
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.client import commands
from chat_twisted.client.commands import Command, Mistake, Say, SwitchTo
from chat_twisted.client.config import Config
from chat_twisted.client.identity import Identity, IdentityError, read_key
from chat_twisted.client.incoming import MAX_NAMES, Event, Received, Room, Seen, State
from chat_twisted.client.session import RECONNECT_FOR, ClientSession, Listed, Proof
from chat_twisted.client.wording import Wording, describe_room
from chat_twisted.core.errors import ChatError, UnableToSend
from chat_twisted.core.message import Audience, fold, parse_target
from chat_twisted.logs import Logger
from chat_twisted.refusals import Refusal, refusal_of
from chat_twisted.text import lines as lines_of

ALL = "ALL"

Line = list[tuple[str, str]]
"""One line: pieces of text, each with a style such as ``class:time``."""

NAME_COLOURS = 8
"""Number of styles in which names are shown."""

DELIVERED_WITHIN = 3
"""Seconds for which a sent direct message stays beside the prompt to wait for its delivery."""

MAX_LATE = 1000
"""Maximum number of messages whose later delivery is still reported."""

MAX_UNREAD = 50
"""Maximum number of unread messages of a conversation that are shown again on switching to it."""

MAX_UNREAD_TEXT = 8 * 1024 * 1024
"""Maximum characters of all unread messages that are kept. Beyond it, the messages of the oldest
conversations are dropped first. A message counts as at least ``LEAST``."""

LEAST = 256

MAX_CONVERSATIONS = 1000
"""Maximum number of conversations whose unread messages are counted."""

MAX_PASTE = 20
"""Maximum number of lines that are sent as one message without a confirmation."""

MAX_SHOWN = 5
"""Maximum number of messages shown beside the prompt."""

INTERRUPTED_WITHIN = 0.5
"""Maximum seconds to wait for the server's BYE after Ctrl-C."""

MAX_PRESENT = 12
"""Maximum number of users for which each change of presence is shown."""

MAX_NOTICE = 200
"""Maximum characters of a message in a desktop notification."""

OK, LOST, NOT_CONNECTED, INTERRUPTED = 0, 1, 2, 130
"""Exit codes, the same as in ``pipe``."""


class Terminal(Protocol):
    """The interface of the terminal that a view draws on."""

    def show(self, lines: Sequence[Line]) -> None:
        """Show lines permanently above the prompt."""

    def refresh(self) -> None:
        """Draw the prompt, and the lines beside it, again."""

    def ring(self) -> None:
        """Ring the bell."""

    def notify(self, title: str, text: str) -> None:
        """Show a desktop notification, if the terminal supports it."""

    def ask(self, what: str, *, secret: bool) -> Deferred[str]:
        """Ask the user for a line.

        :param what: the question.
        :param secret: whether to hide the answer.
        :return: fires with the answer; empty if the user gave none.
        """

    def stop(self, code: int, reason: str) -> None:
        """End with an exit code; ``reason`` is for standard error."""


class DeliveryState(enum.Enum):
    """The state of a message that the user has sent."""

    SENDING = "on its way"
    SENT = "sent"
    REFUSED = "refused"


@dataclass(slots=True)
class OutgoingMessage:
    """A message that the user has sent, until its outcome is known."""

    to: str
    text: str
    state: DeliveryState = DeliveryState.SENDING
    time: str = ""
    reason: str = ""
    overdue: IDelayedCall | None = None


@dataclass(slots=True)
class Unread:
    """The unread messages of a conversation."""

    name: str
    count: int = 0
    newest: deque[Received] = field(default_factory=lambda: deque(maxlen=MAX_UNREAD))


class ConversationView:
    """A user's session on a terminal: the listener of a session, and the handler of typed lines.

    :param user: the user's name.
    :param terminal: the terminal to draw on.
    :param where: the server's address, for the greeting.
    :param rooms: rooms to join at the start.
    :param reconnect: as in ``ClientSession``.
    :param reconnect_for: seconds, as in ``ClientSession``.
    :param token: the stored session token, if the program last ended without QUIT.
    :param remember: called with a session token to store, and with None after QUIT.
    :param ignored: names of users whose messages are not shown.
    :param remember_ignored: called with these names when they have changed.
    :param first_id: as in ``ClientSession``.
    :param timezone: the zone of displayed times; None for the local one.
    """

    _log = Logger()

    def __init__(
        self,
        user: str,
        identity: Identity,
        clock: IReactorTime,
        terminal: Terminal,
        config: Config,
        *,
        where: str = "",
        rooms: Sequence[str] = (),
        reconnect: Callable[[ClientSession], Deferred[Any]] | None = None,
        reconnect_for: float = RECONNECT_FOR,
        token: str = "",
        remember: Callable[[str | None], None] = lambda token: None,
        ignored: Iterable[str] = (),
        remember_ignored: Callable[[Iterable[str]], None] = lambda names: None,
        first_id: int | None = None,
        timezone: datetime.tzinfo | None = None,
    ) -> None:
        self.session = ClientSession(
            user,
            self,
            clock,
            reconnect,
            reconnect_for=reconnect_for,
            token=token,
            first_id=first_id,
        )
        self._remember = remember
        self.user = user
        self.current = ALL
        self.connected = False
        self.failure = ""
        self._identity = identity
        self._clock = clock
        self._terminal = terminal
        self._config = config
        self._where = where
        self._rooms_at_start = rooms
        self._timezone = timezone
        self._words = Wording(user)
        # Whole names only: not in "alice_" or "al-alice", but in "- alice" and "alice-".
        self._mention = re.compile(rf"(?<!\w)(?<!\w-){user}(?!\w|-\w)", re.IGNORECASE | re.ASCII)
        self._own: dict[int, OutgoingMessage] = {}
        self._late: dict[int, OutgoingMessage] = {}
        self._asked: dict[int, Command] = {}
        self._quiet: dict[int, str] = {}  # requests for completion only: their purpose by ID
        self._unread: dict[str, Unread] = {}
        self._unread_text = 0  # characters of the kept unread messages, see LEAST
        self._present: dict[str, str] = {}  # names by their folded form
        # names of users who were present when the connection was lost
        self._returning: set[str] = set()
        self._rooms: dict[str, str] = {}
        self._mine: dict[str, str] = {}  # the rooms that the user has joined
        self._ignored = {fold(name): name for name in ignored if name}
        self._remember_ignored = remember_ignored
        self._day = ""
        self._away: str | None = None  # the away text, or None
        self._missed = False  # whether missed messages are being shown
        self._registered = False  # whether the user was ever registered
        self._greeted = False
        self._leaving = False
        self._code: int | None = None  # the exit code, if it is set already
        self._over = False

    # Beside the prompt

    def beside(self) -> list[Line]:
        """Return the newest messages whose outcome is not known or that were refused."""
        own = list(self._own.values())
        lines: list[Line] = []
        if len(own) > MAX_SHOWN:
            lines.append([("class:dim", f"… {len(own) - MAX_SHOWN} more")])
        for message in own[-MAX_SHOWN:]:
            style = {
                DeliveryState.SENDING: "class:dim",
                DeliveryState.SENT: "",
                DeliveryState.REFUSED: "class:error",
            }
            state = message.state.value
            if message.state is DeliveryState.REFUSED:
                state = f"{message.reason}; F5 sends it again, F8 drops it"
            first, *more = message.text.split("\n")
            text = f"{tag(message.to)} {self.user}: {first}{' …' if more else ''}"
            lines.append([(style[message.state], text), (style[message.state], f" ({state})")])
        return lines

    def prompt(self) -> Line:
        """Return the text before the input."""
        line: Line = []
        if not self._registered:
            line.append(("class:dim", "(connecting) "))
        elif not self.connected:
            line.append(("class:error", "(not connected) "))
        unread = [f"{tag(u.name)[1:-1]} {u.count}" for u in self._unread.values()]
        if unread:
            shown = ", ".join(unread[:3]) + (", …" if len(unread) > 3 else "")
            line.append(("class:unread", f"[{shown}] "))
        name = self.current if self.current == ALL or self.current[0] == "#" else f"@{self.current}"
        return [*line, ("class:prompt", f"{name}> ")]

    def names(self) -> list[str]:
        """Return the names of the other users who are present."""
        own = fold(self.user)
        return sorted((n for key, n in self._present.items() if key != own), key=fold)

    def rooms(self) -> list[str]:
        """Return the names of all known rooms."""
        return sorted(self._rooms.values(), key=fold)

    # Input

    def take(self, line: str) -> None:
        """Handle a typed line. Called by the terminal."""
        order = commands.parse(line, self.current)
        match order:
            case Say(to, text) if text.count("\n") >= MAX_PASTE:
                self._later(self._send_long(to, text))
            case Say(to, text):
                self._send(to, text)
            case SwitchTo(to):
                self._turn(to)
            case Command():
                self._command(order)
            case Mistake(text):
                self._complain(text)
        self._terminal.refresh()

    async def _send_long(self, to: str, text: str) -> None:
        count = text.count("\n") + 1
        answer = await self._terminal.ask(f"Send {count} lines to {to}? [y/N] ", secret=False)
        if answer.strip().lower() in ("y", "yes"):
            self._send(to, text)
        else:
            self._tell("Not sent")

    def _send(self, to: str, text: str) -> None:
        if fold(to) == fold(self.user):
            self._complain("That is your own name")
            return
        try:
            self.session.check(to, text)
        except ChatError as error:
            wrong = isinstance(error, UnableToSend)
            reason = "nobody can be called so" if wrong else refusal_of(type(error)).reason
            self._complain(f"Not sent to {to}: {reason}")
            return
        self._own[self.session.send(to, text)] = OutgoingMessage(to, text)

    def send_again(self) -> None:
        """Send all refused messages again, in order."""
        for id, own in list(self._own.items()):
            if own.state is DeliveryState.REFUSED:
                del self._own[id]
                self._send(own.to, own.text)
        self._terminal.refresh()

    def drop(self) -> None:
        """Forget all refused messages."""
        for id, own in list(self._own.items()):
            if own.state is DeliveryState.REFUSED:
                del self._own[id]
        self._terminal.refresh()

    def _turn(self, to: str) -> None:
        if fold(to) == "all":
            to = ALL
        if fold(to) == fold(self.user):
            self._complain("That is your own name")
            return
        if to.startswith("#") and fold(to) not in self._mine:
            self._complain(f"You are not in {to} (/join {to})")
            return
        try:
            parse_target(to)
        except ChatError:
            self._complain(f"Nobody can be called {to}")
            return
        self.current = self._rooms.get(fold(to)) or self._present.get(fold(to)) or to
        if to != ALL and not to.startswith("#") and fold(to) not in self._present:
            self._tell(f"{to} is not here")
        unread = self._unread.pop(fold(to), None)
        if unread is None:
            return
        self._unread_text -= sum(map(_weight, unread.newest))
        self._mark(f"{unread.count} unread in {tag(unread.name)[1:-1]}")
        for message in unread.newest:
            self._show_message(message)
        self._mark("read up to here")

    def _command(self, command: Command) -> None:
        match command:
            case Command("/quit"):
                self._quit()
            case Command("/help", topic):
                for line in commands.help_text(topic, screen=True).split("\n"):
                    self._terminal.show([[("", line)]])
            case Command("/unread"):
                self._show_unread()
            case Command("/bell" | "/notify"):
                self._switch(command)
            case Command("/ignore" | "/unignore"):
                self._ignore(command)
            case Command("/register" | "/password") | Command("/keys", "add" | "remove"):
                self._later(self._account(command))
            case _:
                self._ask(command)

    def _ask(self, command: Command) -> None:
        try:
            id = commands.ask(self.session, command, self.current)
        except ChatError as error:
            self._refused(command, refusal_of(type(error)))
            return
        if id is not None:
            self._asked[id] = command

    def _refused(self, command: Command, refusal: Refusal) -> None:
        about = f" {about}" if (about := commands.about(command, self.current)) else ""
        self._complain(f"{command.name}{about}: {refusal.reason}")

    def _later(self, coroutine: Any) -> None:
        """Run a coroutine, and log an unexpected error."""
        done = Deferred.fromCoroutine(coroutine)
        done.addErrback(lambda fault: self._log.failure("in a command", fault))

    def _show_unread(self) -> None:
        if not self._unread:
            self._tell("Nothing unread")
        for unread in self._unread.values():
            last = ""
            if unread.newest:
                newest = unread.newest[-1]
                last = f", the last {newest.sender}: {lines_of(newest.text)[0]}"
            self._tell(f"{tag(unread.name)} {unread.count} unread{last}")

    def _switch(self, command: Command) -> None:
        config = self._config
        on = None if command.first is None else command.first == "on"
        if command.name == "/bell":
            config.bell = config.bell if on is None else on
            state = "on" if config.bell else "off"
        else:
            config.notify = command.first or config.notify
            state = config.notify
        self._tell(f"{command.name[1:]}: {state}")

    def _ignore(self, command: Command) -> None:
        name = command.first or ""
        if not name:
            self._tell(f"Ignored: {', '.join(self._ignored.values()) or 'nobody'}")
            return
        if command.name == "/ignore":
            self._ignored[fold(name)] = name
            self._tell(f"{name} is ignored")
        else:
            self._ignored.pop(fold(name), None)
            self._tell(f"{name} is not ignored any more")
        self._remember_ignored(self._ignored.values())

    async def _account(self, command: Command) -> None:
        identity, ask = self._identity, self.session.ask
        try:
            match command:
                case Command("/register"):
                    id = ask("ACCOUNT", "register", (("Key", identity.public()),))
                case Command("/keys", "add", file):
                    id = ask("ACCOUNT", "add", (("Key", read_key(file or "")),))
                case Command("/keys", _, key):
                    id = ask("ACCOUNT", "remove", (("Key", key),))
                case _:
                    password = await self._terminal.ask("New password: ", secret=True)
                    if not password:
                        raise IdentityError("No password was given")
                    if await self._terminal.ask("Again: ", secret=True) != password:
                        raise IdentityError("The two are not the same")
                    identity.password = password
                    id = ask("ACCOUNT", "password", (), password)
        except IdentityError as error:
            self._complain(str(error))
        except ChatError as error:
            self._refused(command, refusal_of(type(error)))
        else:
            self._asked[id] = command

    def _quit(self) -> None:
        unsent = [own for own in self._own.values() if own.state is DeliveryState.SENDING]
        if unsent and not self.connected and not self._leaving:
            self._leaving = True
            self._complain(f"{len(unsent)} not sent yet; /quit once more leaves all the same")
            return
        self._leaving = True
        self.session.quit()
        if not self._registered:  # there is no session to end
            self.lost("")

    def interrupt(self, code: int = INTERRUPTED) -> None:
        """Leave within ``INTERRUPTED_WITHIN`` seconds, with this exit code."""
        self._leaving = True
        self._code = code
        self._clock.callLater(INTERRUPTED_WITHIN, self.lost, "")
        self.session.quit()

    # Events of the session

    def registered(self, name: str) -> None:
        """Called by the session when the user is registered."""
        self.user = name
        self.connected = self._registered = True
        self._remember(self.session.token)
        self._missed = bool(self.session.last)
        for room in self._rooms_at_start:
            self._join_quietly(room)
        self._look_around()
        if self._leaving:
            self.session.quit()
        self._terminal.refresh()

    def _join_quietly(self, room: str) -> None:
        """Join a room without switching to it."""
        self._asked[self.session.ask("JOIN", room)] = Command("/join", room, "quietly")

    def _look_around(self) -> None:
        asked = self._quiet.values()  # the session repeats requests without an answer
        if "who" not in asked:
            self._quiet[self.session.ask("WHO", "", (("Watch", "yes"),))] = "who"
        if "rooms" not in asked:
            self._quiet[self.session.ask("ROOMS")] = "rooms"

    def authenticate(
        self, methods: list[str], challenge: bytes, tries: int
    ) -> Deferred[Proof | None]:
        """Called by the session when the name has an account; see ``Listener.authenticate``."""
        return Deferred.fromCoroutine(self._prove(methods, challenge, tries))

    async def _prove(self, methods: list[str], challenge: bytes, tries: int) -> Proof | None:
        identity = self._identity
        match identity.next_method(methods, tries):
            case "publickey":
                try:
                    return Proof(*identity.sign(challenge, self.user, self.session.binding))
                except IdentityError as error:
                    self.failure = str(error)
            case "password":
                password = identity.password or await self._terminal.ask(
                    f"Password of {self.user}: ", secret=True
                )
                identity.password = password  # for a reconnect
                if not password:
                    self.failure = f"No password of {self.user} was given"
                return Proof(password=password) if password else None
        return None

    def not_registered(self, refusal: Refusal) -> None:
        """Called by the session when the server refuses the registration."""
        self.failure = self.failure or (f"ERROR {refusal.code} : {refusal.reason} : {self.user}")

    def received(self, message: Received) -> None:
        """Called by the session when a message has come."""
        if fold(message.sender) in self._ignored:
            return
        old = message.number <= self.session.last
        if self._missed and old:
            self._mark("what was said while you were not here")
        self._missed = self._missed and not old
        self._show_message(message)
        own = fold(message.sender) == fold(self.user)
        place = self._place(message)
        if not own and fold(place) != fold(self.current):
            self._keep_unread(place, message)
            self._terminal.refresh()
        if old:  # missed messages don't ring
            return
        if not own and (self._is_direct(message) or self._mention.search(message.text)):
            if self._config.bell:
                self._terminal.ring()
            if self._config.notify != "off":
                text = message.text[:MAX_NOTICE].split("\n")[0]
                self._terminal.notify(message.sender, text)

    def _keep_unread(self, place: str, message: Received) -> None:
        unread = self._unread.get(fold(place))
        if unread is None:
            if len(self._unread) >= MAX_CONVERSATIONS:
                return
            unread = self._unread[fold(place)] = Unread(place)
        unread.count += 1
        if len(unread.newest) == MAX_UNREAD:
            self._unread_text -= _weight(unread.newest.popleft())
        unread.newest.append(message)
        self._unread_text += _weight(message)
        for oldest in self._unread.values():
            while oldest.newest and self._unread_text > MAX_UNREAD_TEXT:
                self._unread_text -= _weight(oldest.newest.popleft())

    def _is_direct(self, message: Received) -> bool:
        return fold(message.to) == fold(self.user)

    def _place(self, message: Received) -> str:
        """Return the conversation of a message."""
        return message.sender if self._is_direct(message) else message.to

    def sent(self, id: int, number: int, time: str) -> None:
        """Called by the session when a message of this user is committed."""
        own = self._own.get(id)
        if own is None:
            return
        own.time = time
        if parse_target(own.to).audience is Audience.USER:
            own.state = DeliveryState.SENT
            own.overdue = self._clock.callLater(DELIVERED_WITHIN, self._overdue, id)
        else:
            self._settle(id, "")
        self._terminal.refresh()

    def delivered(self, id: int) -> None:
        """Called by the session when a direct message was delivered."""
        if id in self._own:
            self._settle(id, "✓ delivered")
        elif (own := self._late.pop(id, None)) is not None:
            text = own.text.split("\n")[0]
            self._tell(f"✓ {own.to} has it now: {text}")
        self._terminal.refresh()

    def _overdue(self, id: int) -> None:
        own = self._own[id]
        own.overdue = None
        self._settle(id, "sent, not delivered yet")
        self._late[id] = own
        if len(self._late) > MAX_LATE:
            del self._late[next(iter(self._late))]
        self._terminal.refresh()

    def _settle(self, id: int, state: str) -> None:
        """Show an outgoing message among the others: its state is final."""
        own = self._own.pop(id)
        if own.overdue is not None:
            own.overdue.cancel()
        self._show_message(Received(0, own.time, self.user, own.to, own.text), state)

    def refused(self, id: int | None, refusal: Refusal) -> None:
        """Called by the session when a request was refused."""
        command = self._asked.pop(id, None) if id is not None else None
        own = self._own.get(id) if id is not None else None
        if own is not None:
            own.state = DeliveryState.REFUSED
            own.reason = _reason(refusal, own.to)
        elif command is not None:
            self._refused(command, refusal)
        elif id is None or self._quiet.pop(id, None) is None:
            self._complain(f"ERROR {refusal.code} : {refusal.reason}")
        self._terminal.refresh()

    def changed(self, id: int, what: str, lines: list[str]) -> None:
        """Called by the session when a change of the account, the status or a sanction is done."""
        self._quiet.pop(id, None)
        if (command := self._asked.pop(id, None)) is not None:
            if command.name in ("/away", "/back"):
                self._away = (command.first or "") if command.name == "/away" else None
            self._tell(self._words.changed(None, command, what, lines))

    def listed(self, id: int, found: Listed) -> None:
        """Called by the session with the answer to WHO, ROOMS or BAN."""
        match self._quiet.pop(id, None):
            case "who":
                self._is_here(found)
                return
            case "rooms":
                self._know_rooms(found)
                return
        command = self._asked.pop(id)
        about = commands.about(command)
        rows: Sequence[Sequence[str]]
        if command.name == "/who":
            self._tell(f"{len(found)} {f'in {about}' if about else 'here'}")
            rows = [(s.user, "" if s.state is State.HERE else s.state.value, s.why) for s in found]
        elif command.name == "/rooms":
            self._know_rooms(found)
            rows = [_room_row(room) for room in found] or [("No rooms (/join #name makes one)",)]
        else:
            rows = [(line,) for line in found] or [("Nobody is banned or muted",)]
        self._terminal.show([[("", line)] for line in table(rows)])

    def _is_here(self, seen: Sequence[Seen]) -> None:
        self._present = {fold(user.user): user.user for user in seen[:MAX_NAMES]}
        if not self._greeted:
            self._greeted = True
            where = f" on {self._where}" if self._where else ""
            here = ", ".join(self.names()) or "nobody else"
            if len(self._present) > MAX_PRESENT:
                here = f"{len(self._present) - 1} others (/who)"
            self._tell(f"You are {self.user}{where}. Here: {here}. /help tells what you can do.")

    def _know_rooms(self, rooms: Sequence[Room]) -> None:
        self._rooms = {fold(room.name): room.name for room in rooms[:MAX_NAMES]}
        self._mine = {fold(room.name): room.name for room in rooms if room.member}
        if self.current.startswith("#") and fold(self.current) not in self._mine:
            self._complain(f"You are not in {self.current} any more (/join {self.current}, @ALL)")

    def found(self, id: int, messages: list[Received]) -> None:
        """Called by the session with the answer to HISTORY or SEARCH."""
        command = self._asked.pop(id)
        what = commands.about(command, self.current) or command.first or ""
        if not messages:
            self._tell(f"Nothing found: {command.name} {what}")
            return
        self._mark(f"{len(messages)} found: {command.name[1:]} {what}")
        for message in messages:
            self._show_message(message)
        self._mark("now")

    def told(self, id: int | None, event: Event) -> None:
        """Called by the session when something has changed in a room."""
        command = self._asked.pop(id, None) if id is not None else None
        key, own = fold(event.room), fold(event.user) == fold(self.user)
        if len(self._rooms) < MAX_NAMES:
            self._rooms.setdefault(key, event.room)
        if event.verb == "JOINED" and own and len(self._mine) < MAX_NAMES:
            self._mine[key] = event.room
            if command is not None and command.second != "quietly":
                self._turn(event.room)
        if event.verb == "LEFT" and own:
            self._mine.pop(key, None)
            if (unread := self._unread.pop(key, None)) is not None:
                self._unread_text -= sum(map(_weight, unread.newest))
            # A removed user may be typing: a message for the room must not go to everybody. The
            # server refuses it with an error.
            if command is not None and fold(self.current) == key:
                self.current = ALL
        self._tell(self._words.told(None, event))
        self._terminal.refresh()

    def seen(self, users: list[Seen]) -> None:
        """Called by the session when the presence of users has changed."""
        for user in users:
            key = fold(user.user)
            was_here = key in self._present
            if user.state is State.GONE:
                self._present.pop(key, None)
            elif was_here or len(self._present) < MAX_NAMES:
                self._present[key] = user.user
            if key == fold(self.user) or len(self._present) > MAX_PRESENT:
                continue
            if user.state is State.AWAY:
                self._tell(f"{user.user} is away{': ' if user.why else ''}{user.why}")
            elif user.state is State.GONE and was_here:
                self._tell(f"{user.user} left")
            elif user.state is State.HERE and key not in self._returning:
                self._tell(f"{user.user} is {'back' if was_here else 'here'}")
            self._returning.discard(key)

    def noticed(self, text: str) -> None:
        """Called by the session with a notice from the server."""
        for line in lines_of(text):
            self._tell(line)

    def disconnected(self, reason: str) -> None:
        """Called by the session when the connection is lost; the session tries to connect again."""
        self.connected = False
        why = f" ({reason})" if reason else ""
        self._complain(f"Connection lost{why}, trying again. What you write is sent then.")
        self._returning = set(self._present)
        self._terminal.refresh()

    def reconnected(self) -> None:
        """Called by the session when it is connected again."""
        self.connected = True
        self._remember(self.session.token)
        if self.session.forgotten:  # a guest's rooms end with the guest
            for room in self._mine.values():
                self._join_quietly(room)
        self._look_around()
        if self._away is not None:  # a restarted server has forgotten it
            self._quiet[self.session.ask("STATUS", "away", (), self._away or None)] = "away"
        self._tell("Connected again")
        if self._leaving:
            self.session.quit()
        self._terminal.refresh()

    def went_back(self) -> None:
        """Called by the session when the server has lost the newest messages."""
        self._complain(self._words.went_back())

    def lost(self, reason: str) -> None:
        """Called by the session when it has ended."""
        if self._over:
            return
        self._over = True
        for own in self._own.values():
            if own.state is not DeliveryState.SENT:
                self._complain(f"Not sent to {own.to}: {own.text}")
        for id in [id for id, own in self._own.items() if own.state is DeliveryState.SENT]:
            self._settle(id, "sent, not delivered yet")
        self._own.clear()
        if self._leaving:
            if self.connected:  # otherwise the server reserves the name for a return
                self._remember(None)
            self._terminal.stop(OK if self._code is None else self._code, "")
        else:
            over = self._words.over(reason)
            if self._registered:
                self._terminal.stop(LOST, self.failure or over)
            else:
                self._terminal.stop(NOT_CONNECTED, self.failure or reason or over)

    # Output

    def tell(self, text: str) -> None:
        """Show a notice of the program."""
        for line in text.split("\n"):
            self._tell(line)

    def _tell(self, text: str) -> None:
        self._terminal.show([[("class:dim", f"· {line}")] for line in text.split("\n")])

    def _complain(self, text: str) -> None:
        lines = text.rstrip("\n").split("\n")
        self._terminal.show([[("class:error", f"! {line}")] for line in lines])

    def _mark(self, text: str) -> None:
        self._terminal.show([[("class:mark", f"── {text} ──")]])

    def _show_message(self, message: Received, state: str = "") -> None:
        lines: list[Line] = []
        day, clock = self._local(message.time)
        if day != self._day:
            self._day = day
            lines.append([("class:mark", f"── {day} ──")])
        own = fold(message.sender) == fold(self.user)
        place = self._place(message)
        kind = {"#": "class:room", "A": "class:all"}.get(tag(place)[1], "class:direct")
        mentioned = not own and self._mention.search(message.text) is not None
        name = "class:own" if own else colour(message.sender)
        first, *more = lines_of(message.text)
        line: Line = [
            ("class:time", clock),
            ("class:mention", "*") if mentioned else ("", " "),
            (kind, tag(place)),
            ("", " "),
            (name, f"{message.sender}:"),
            ("class:mention" if mentioned else "", f" {first}"),
        ]
        lines.append(line)
        # Further lines are indented, so that nobody can imitate another user's message.
        lines.extend([("", f"        {text}")] for text in more)
        if state:
            lines[-1].append(("class:dim", f" ({state})"))
        self._terminal.show(lines)

    def _local(self, time: str) -> tuple[str, str]:
        """Return the local date and time of day."""
        try:
            local = datetime.datetime.fromisoformat(time).astimezone(self._timezone)
        except (ValueError, OverflowError):
            return self._day, "--:--"
        return local.strftime("%a %d %b %Y"), local.strftime("%H:%M")


def _reason(refusal: Refusal, to: str) -> str:
    """Describe why a message was refused."""
    match refusal.code:
        case 102:
            return "nobody else is here" if fold(to) == "all" else "nobody of that name is here"
        case 110 | 111 if to.startswith("#"):
            return f"{refusal.reason.lower()}: /join {to}"
    return refusal.reason.lower()


def tag(place: str) -> str:
    """Return a conversation's name in the form ``[@bob]``, ``[#dev]`` or ``[ALL]``."""
    if place.startswith("#") or place == ALL:
        return f"[{place}]"
    return f"[@{place}]"


def colour(name: str) -> str:
    """Return the style of a name, which is always the same."""
    return f"class:name-{zlib.crc32(fold(name).encode()) % NAME_COLOURS}"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align the columns of ``rows``, whose characters must all be one column wide."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _room_row(room: Room) -> tuple[str, str, str]:
    name, members, *own = describe_room(room)
    return name, members, ", ".join(own)


def _weight(message: Received) -> int:
    return max(LEAST, len(message.text))
