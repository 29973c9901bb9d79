"""The terminal's contents and input handling, without the terminal itself.

``ConversationView`` listens to a session and takes the lines that the user types. It gives a
``Terminal`` lines of styled text: final lines, shown above the prompt, and the user's own
undelivered messages, shown beside the prompt because they may still change. The ``Terminal`` makes
all text printable. This module must not know the terminal library or the wire protocol. It is long
because it answers the calls of two partners, the terminal and the session; what it remembers has
modules of its own: ``outgoing``, ``unread`` and ``roster``.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chat_twisted.client.config import Config
from chat_twisted.client.dialogs import agrees, change_account, prove
from chat_twisted.client.export import Export, ExportError
from chat_twisted.client.identity import Identity, IdentityError
from chat_twisted.client.listener import Proof
from chat_twisted.client.session import RECONNECT_FOR, ClientSession
from chat_twisted.core.errors import ChatError, UnableToSend
from chat_twisted.core.message import fold, parse_target
from chat_twisted.logs import Logger
from chat_twisted.refusals import Refusal, refusal_of
from chat_twisted.text import lines as lines_of
from chat_twisted.ui import commands
from chat_twisted.ui.commands import Command, Mistake, Say, SwitchTo
from chat_twisted.ui.layout import ALL, Line, MessageLayout, room_row, table, tag, user_row
from chat_twisted.ui.outgoing import Outbox, OutgoingMessage
from chat_twisted.ui.roster import MAX_PRESENT, Roster
from chat_twisted.ui.unread import UnreadMessages
from chat_twisted.ui.values import Event, Listed, Received, Room, Seen, conversation_of
from chat_twisted.ui.wording import Wording, describe_kept

MAX_CONVERSATIONS = 1000
"""Maximum number of conversations in which the user's last message is remembered."""

MAX_PASTE = 20
"""Maximum number of lines that are sent as one message without a confirmation."""

INTERRUPTED_WITHIN = 0.5
"""Maximum seconds to wait for the server's BYE after Ctrl-C."""

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
    :param renamed: called with the user's new name.
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
        renamed: Callable[[str], None] = lambda name: None,
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
        self._renamed = renamed
        self.current = ALL
        self.connected = False
        self.failure = ""
        self._identity = identity
        self._clock = clock
        self._terminal = terminal
        self._config = config
        self._where = where
        self._rooms_at_start = rooms
        self._layout = MessageLayout(timezone)
        self._words = Wording(user)
        self._name_is(user)
        self._outbox = Outbox(clock, self._show_own)
        self._asked: dict[int, Command] = {}
        self._exports: dict[int, Export] = {}  # by the ID of the requested page
        # the number of the user's last message in each conversation, by its folded name
        self._last_own: dict[str, int] = {}
        self._quiet: dict[int, str] = {}  # requests for completion only: their purpose by ID
        self._unread = UnreadMessages()
        # the newest message that was shown in the current conversation and is not marked as read
        self._unmarked = 0
        self._roster = Roster()
        self._ignored = {fold(name): name for name in ignored if name}
        self._remember_ignored = remember_ignored
        self._away: str | None = None  # the away text, or None
        self._missed = False  # whether missed messages are being shown
        self._registered = False  # whether the user was ever registered
        self._greeted = False
        self._leaving = False
        self._code: int | None = None  # the exit code, if it is set already
        self._over = False

    def _name_is(self, user: str) -> None:
        self.user = self._words.user = user
        # Whole names only: not in "alice_" or "al-alice", but in "- alice" and "alice-".
        self._mention = re.compile(rf"(?<!\w)(?<!\w-){user}(?!\w|-\w)", re.IGNORECASE | re.ASCII)

    # Beside the prompt

    def beside(self) -> list[Line]:
        """Return the newest messages whose outcome is not known or that were refused."""
        return self._outbox.lines(self.user)

    def prompt(self) -> Line:
        """Return the text before the input."""
        line: Line = []
        if not self._registered:
            line.append(("class:dim", "(connecting) "))
        elif not self.connected:
            line.append(("class:error", "(not connected) "))
        unread = [f"{tag(u.name)[1:-1]} {u.count}" for u in self._unread]
        if unread:
            shown = ", ".join(unread[:3]) + (", …" if len(unread) > 3 else "")
            line.append(("class:unread", f"[{shown}] "))
        name = self.current if self.current == ALL or self.current[0] == "#" else f"@{self.current}"
        return [*line, ("class:prompt", f"{name}> ")]

    def names(self) -> list[str]:
        """Return the names of the other users who are present."""
        return self._roster.users(self.user)

    def rooms(self) -> list[str]:
        """Return the names of all known rooms."""
        return self._roster.rooms()

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
        if await agrees(self._terminal, f"Send {count} lines to {to}?"):
            self._send(to, text)
        else:
            self._tell("Not sent")

    def _send(self, to: str, text: str) -> None:
        try:
            self.session.check(to, text)
        except ChatError as error:
            wrong = isinstance(error, UnableToSend)
            reason = "nobody can be called so" if wrong else refusal_of(type(error)).reason
            self._complain(f"Not sent to {to}: {reason}")
            return
        self._outbox.add(self.session.send(to, text), to, text)
        if fold(to) == fold(self.current):
            self._mark_read()

    def send_again(self) -> None:
        """Send all refused messages again, in order."""
        for own in self._outbox.take_refused():
            self._send(own.to, own.text)
        self._terminal.refresh()

    def drop(self) -> None:
        """Forget all refused messages."""
        self._outbox.take_refused()
        self._terminal.refresh()

    def _turn(self, to: str) -> None:
        if fold(to) == "all":
            to = ALL
        if to.startswith("#") and not self._roster.is_member(to):
            self._complain(f"You are not in {to} (/join {to})")
            return
        try:
            parse_target(to)
        except ChatError:
            self._complain(f"Nobody can be called {to}")
            return
        self._mark_read()
        self.current = self._roster.spelling(to)
        if to != ALL and not to.startswith("#") and not self._roster.is_present(to):
            self._tell(f"{to} is not here")
        unread = self._unread.pop(to)
        if unread is None:
            return
        self._mark(f"{unread.count} unread in {tag(unread.name)[1:-1]}")
        for message in unread.newest:
            self._show_message(message)
            self._unmarked = message.number
        self._mark("read up to here")
        self._mark_read()

    def _mark_read(self) -> None:
        """Tell the user's other connections that the current conversation is read."""
        if self._unmarked:
            header = ("Message", self._unmarked)
            self._quiet[self.session.ask("READ", self.current, (header,))] = "read"
            self._unmarked = 0

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
            case Command("/account", "unregister", "erase"):
                self._later(self._erase(command))
            case Command("/account", "export", file):
                self._export(file or "")
            case Command("/delete", None):
                self._delete_last(command)
            case _:
                self._ask(command)

    async def _erase(self, command: Command) -> None:
        question = "Delete all your messages for ever, and give up the account?"
        if await agrees(self._terminal, question):
            self._ask(command)
        else:
            self._tell("Nothing is deleted")

    def _export(self, file: str) -> None:
        try:
            export = Export(file, self.user)
        except ExportError as problem:
            self._complain(str(problem))
        else:
            self._exports[export.ask(self.session)] = export

    def _exported(self, export: Export, messages: list[Received]) -> None:
        try:
            if export.add(messages):
                self._exports[export.ask(self.session)] = export
            else:
                self._tell(export.done)
        except ExportError as problem:
            self._complain(str(problem))

    def _delete_last(self, command: Command) -> None:
        number = self._last_own.get(fold(self.current))
        if number is None:
            self._complain("There is no message of yours here; /delete NUMBER (see /history)")
        else:
            self._ask(replace(command, first=str(number)))

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
        if not any(self._unread):
            self._tell("Nothing unread")
        for unread in self._unread:
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
        try:
            id = await change_account(self._terminal, self._identity, self.session, command)
        except IdentityError as error:
            self._complain(str(error))
        except ChatError as error:
            self._refused(command, refusal_of(type(error)))
        else:
            self._asked[id] = command

    def _quit(self) -> None:
        unsent = self._outbox.count_sending()
        if unsent and not self.connected and not self._leaving:
            self._leaving = True
            self._complain(f"{unsent} not sent yet; /quit once more leaves all the same")
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
        self._name_is(name)
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
        try:
            return await prove(
                self._terminal, self._identity, self.session, methods, challenge, tries
            )
        except IdentityError as error:
            self.failure = str(error)
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
        place = conversation_of(message, self.user)
        if own:
            self._note_own(place, message.number)
        if not own and fold(place) == fold(self.current):
            self._unmarked = message.number
        elif not own:
            self._unread.add(place, message)
            self._terminal.refresh()
        if old:  # missed messages don't ring
            return
        if not own and (place == message.sender or self._mention.search(message.text)):
            if self._config.bell:
                self._terminal.ring()
            if self._config.notify != "off":
                text = message.text[:MAX_NOTICE].split("\n")[0]
                self._terminal.notify(message.sender, text)

    def _note_own(self, place: str, number: int) -> None:
        """Note the number of the user's last message in a conversation."""
        self._last_own.pop(fold(place), None)
        self._last_own[fold(place)] = number
        if len(self._last_own) > MAX_CONVERSATIONS:
            del self._last_own[next(iter(self._last_own))]

    def sent(self, id: int, number: int, time: str) -> None:
        """Called by the session when a message of this user is committed."""
        own = self._outbox.sent(id, number, time)
        if own is not None:
            self._note_own(own.to, number)
        self._terminal.refresh()

    def delivered(self, id: int) -> None:
        """Called by the session when a direct message was delivered."""
        late = self._outbox.delivered(id)
        if late is not None:
            text = late.text.split("\n")[0]
            self._tell(f"✓ {late.to} has it now: {text}")
        self._terminal.refresh()

    def _show_own(self, own: OutgoingMessage, remark: str) -> None:
        """Show an outgoing message among the others. Called when its state is final."""
        self._show_message(Received(own.number, own.time, self.user, own.to, own.text), remark)
        self._terminal.refresh()

    def refused(self, id: int | None, refusal: Refusal) -> None:
        """Called by the session when a request was refused."""
        command = self._asked.pop(id, None) if id is not None else None
        if id is not None and id in self._outbox:
            self._outbox.refused(id, refusal)
        elif command is not None:
            self._refused(command, refusal)
        elif id in self._exports:
            self._exports.pop(id).abandon()
            self._complain(f"/account export: {refusal.reason}")
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
            rows = [user_row(seen, ranks=bool(about)) for seen in found]
        elif command.name == "/rooms":
            self._know_rooms(found)
            rows = [room_row(room) for room in found] or [("No rooms (/join #name makes one)",)]
        else:
            rows = [(line,) for line in found] or [("Nobody is banned or muted",)]
        self._terminal.show([[("", line)] for line in table(rows)])

    def _is_here(self, seen: Sequence[Seen]) -> None:
        self._roster.set_present(seen)
        if not self._greeted:
            self._greeted = True
            where = f" on {self._where}" if self._where else ""
            here = ", ".join(self.names()) or "nobody else"
            if len(self._roster) > MAX_PRESENT:
                here = f"{len(self._roster) - 1} others (/who)"
            self._tell(f"You are {self.user}{where}. Here: {here}. /help tells what you can do.")
            for line in describe_kept(self.session.kept):
                self._tell(line)

    def _know_rooms(self, rooms: Sequence[Room]) -> None:
        self._roster.set_rooms(rooms)
        if self.current.startswith("#") and not self._roster.is_member(self.current):
            self._complain(f"You are not in {self.current} any more (/join {self.current}, @ALL)")

    def found(self, id: int, messages: list[Received]) -> None:
        """Called by the session with the answer to HISTORY, SEARCH or ACCOUNT messages."""
        if (export := self._exports.pop(id, None)) is not None:
            self._exported(export, messages)
            return
        command = self._asked.pop(id)
        what = commands.about(command, self.current) or command.first or ""
        if not messages:
            self._tell(f"Nothing found: {command.name} {what}")
            return
        self._mark(f"{len(messages)} found: {command.name[1:]} {what}")
        for message in messages:
            self._show_message(message, f"message {message.number}")
        self._mark("now")

    def told(self, id: int | None, event: Event) -> None:
        """Called by the session with each event."""
        command = self._asked.pop(id, None) if id is not None else None
        if id is not None:
            self._quiet.pop(id, None)
        if event.verb == "READ":
            self._unread.read(event.conversation, event.number)
        elif event.verb == "RENAMED":
            self._follow_name(event.user, event.new_name)
        elif event.verb == "DELETED":
            self._forget_message(event)
        elif event.room:
            self._room_changed(command, event)
        if said := self._words.told(None, event):
            self._tell(said)
        self._terminal.refresh()

    def _room_changed(self, command: Command | None, event: Event) -> None:
        own = fold(event.user) == fold(self.user)
        self._roster.add_room(event.room, member=event.verb == "JOINED" and own)
        if event.verb == "JOINED" and own and command is not None and command.second != "quietly":
            self._turn(event.room)
        if event.verb == "LEFT" and own:
            self._roster.leave(event.room)
            self._unread.pop(event.room)
            # A removed user may be typing: a message for the room must not go to everybody. The
            # server refuses it with an error.
            if command is not None and fold(self.current) == fold(event.room):
                self.current = ALL
                self._unmarked = 0

    def _follow_name(self, old: str, new: str) -> None:
        """Use a user's new name wherever the old one stood."""
        before, after = fold(old), fold(new)
        if before == fold(self.user):
            self._name_is(new)
            self._renamed(new)
        self._roster.rename(old, new)
        self._unread.rename(old, new)
        if before in self._last_own:
            self._last_own[after] = self._last_own.pop(before)
        if before in self._ignored:
            del self._ignored[before]
            self._ignored[after] = new
            self._remember_ignored(self._ignored.values())
        if fold(self.current) == before:  # another user may have the old name soon
            self.current = new

    def _forget_message(self, event: Event) -> None:
        """Forget a deleted message that may be shown again."""
        key = fold(event.conversation)
        if self._last_own.get(key) == event.number:
            del self._last_own[key]
        self._unread.remove(event.conversation, event.number)

    def seen(self, users: list[Seen]) -> None:
        """Called by the session when the presence of users has changed."""
        for user in users:
            if news := self._roster.follow(user, self.user):
                self._tell(news)

    def noticed(self, text: str) -> None:
        """Called by the session with a notice from the server."""
        for line in lines_of(text):
            self._tell(line)

    def disconnected(self, reason: str) -> None:
        """Called by the session when the connection is lost; the session tries to connect again."""
        self.connected = False
        why = f" ({reason})" if reason else ""
        self._complain(f"Connection lost{why}, trying again. What you write is sent then.")
        self._roster.disconnected()
        self._terminal.refresh()

    def reconnected(self) -> None:
        """Called by the session when it is connected again."""
        self.connected = True
        self._remember(self.session.token)
        if self.session.forgotten:  # a guest's rooms end with the guest
            for room in self._roster.own_rooms():
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
        for own in self._outbox.end():
            self._complain(f"Not sent to {own.to}: {own.text}")
        for export in self._exports.values():
            export.abandon()
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
        own = fold(message.sender) == fold(self.user)
        mentioned = not own and self._mention.search(message.text) is not None
        self._terminal.show(
            self._layout.lines(message, self.user, mentioned=mentioned, state=state)
        )
