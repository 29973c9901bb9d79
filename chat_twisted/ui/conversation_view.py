"""The contents of a terminal and what is typed on it, without the terminal itself.

``ConversationView`` listens to a session and takes the lines that the user types. It gives a
``Terminal`` lines of styled text: final lines, shown above the prompt, and the user's own
undelivered messages, shown beside the prompt because they may still change. The ``Terminal`` makes
all text printable. This module must not know the terminal library or the wire protocol. It is long
because it answers the calls of two partners, the terminal and the session; what it remembers has
modules of its own: ``conversations``, ``outgoing`` and ``roster``.
"""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall

from chat_twisted.core.errors import ChatError
from chat_twisted.core.message import fold, parse_target
from chat_twisted.logs import Logger
from chat_twisted.text import lines as lines_of
from chat_twisted.ui import commands
from chat_twisted.ui.asking import Answer, Asker, UserFiles, about, agrees
from chat_twisted.ui.commands import Command, Mistake, Offer, Reading, Say, SwitchTo
from chat_twisted.ui.conversations import Conversations, is_direct
from chat_twisted.ui.errors import ClientError, IdentityError, NotConnected, Refused
from chat_twisted.ui.folds import Folds
from chat_twisted.ui.layout import (
    Line,
    MessageLayout,
    activity_line,
    mark,
    room_row,
    table,
    tag,
    user_lines,
)
from chat_twisted.ui.outgoing import Outbox, OutgoingMessage
from chat_twisted.ui.pages import ConversationPages, Pages
from chat_twisted.ui.roster import MAX_PRESENT, Roster
from chat_twisted.ui.sentences import explain, explain_login, name_rule, other_name
from chat_twisted.ui.session import ChatSession
from chat_twisted.ui.settings import Memory, Settings
from chat_twisted.ui.values import (
    ALL,
    Done,
    Event,
    Found,
    Listed,
    Profile,
    Received,
    Refusal,
    Room,
    Seen,
    conversation_of,
)
from chat_twisted.ui.wording import Wording, describe_kept

MAX_CONVERSATIONS = 1000
"""Maximum number of conversations in which the user's last message is remembered."""

MAX_PASTE = 20
"""Maximum number of lines that are sent as one message without a confirmation."""

MAX_HELD, MAX_HELD_SHOWN = 100, 5
"""Maximum number of typed lines that wait until the user is in the conversation that they are
for, and of those that are shown beside the prompt."""

MAX_TEXT = 2000
"""Maximum number of characters that are sent without a confirmation."""

MAX_HISTORY = 200
"""Maximum number of messages that are shown on turning to a conversation."""

MARKED_AFTER = 2
"""Seconds after which the server is told what was read: reading goes on meanwhile."""

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

    def clear(self) -> None:
        """Clear the screen above the prompt."""

    def columns(self) -> int:
        """Return the width of the terminal, in columns."""

    def refresh(self) -> None:
        """Draw the prompt, and the lines beside it, again."""

    def ring(self) -> None:
        """Ring the bell."""

    def notify(self, title: str, text: str) -> None:
        """Show a desktop notification, if the terminal supports it."""

    def ask(self, what: str, *, secret: bool) -> Deferred[str]:
        """Ask the user for a line; see ``asking.Questions``."""

    def stop(self, code: int, reason: str) -> None:
        """End with an exit code; ``reason`` is for standard error."""


class ConversationView:
    """A user's session on a terminal: the listener of a session, and the handler of typed lines.

    :ivar session: the session; to be set before it is connected.
    :param user: the user's name.
    :param files: the user's key and files.
    :param terminal: the terminal to draw on.
    :param where: the server's address, for the greeting.
    :param rooms: rooms to join at the start; the first one is turned to.
    :param timezone: the zone of displayed times; None for the local one.
    :param now: returns the time of day, to which typed times are relative.
    """

    session: ChatSession

    _log = Logger()

    def __init__(
        self,
        user: str,
        files: UserFiles,
        clock: IReactorTime,
        terminal: Terminal,
        settings: Settings,
        memory: Memory,
        *,
        where: str = "",
        rooms: Sequence[str] = (),
        timezone: datetime.tzinfo | None = None,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now().astimezone(),
    ) -> None:
        self.connected = False
        self.failure = ""
        self._files = files
        self._clock = clock
        self._terminal = terminal
        self._settings = settings
        self._memory = memory
        self._where = where
        self._rooms_at_start = rooms
        self._timezone = timezone
        self._now = now
        self._roster = Roster()
        self._folds = Folds()  # long messages that were not shown wholly
        self._layout = MessageLayout(timezone, self._folds, self._roster.is_guest)
        self._words = Wording(user)
        self._name_is(user)
        self._outbox = Outbox(clock, self._show_own)
        self._next_id = 1  # of an outgoing message
        # the number of the user's last message in each conversation, by its folded name
        self._last_own: dict[str, int] = {}
        self._conversations = Conversations(settings.view)
        self._marking: IDelayedCall | None = None
        self._ignored = {fold(name): name for name in memory.ignored if name}
        self._away: str | None = None  # the away text, or None
        self._offer: tuple[str, Offer] | None = None  # a line with two meanings, and these
        # how many tasks may turn to another conversation; the login is the first
        self._turning = 1
        self._learning = False  # whether it is asked which rooms there are
        self._held: list[str] = []  # lines that were typed meanwhile
        self._removed_from = ""  # the room that was the current conversation until it was taken
        # the last /history or /search, and its pages
        self._asked_for = Command("/history")
        self._pages: Pages | None = None
        self._missed = False  # whether missed messages are being shown
        self._registered = False  # whether the user was ever registered
        self._disconnected_at = 0.0
        self._leaving = False
        self._code: int | None = None  # the exit code, if it is set already
        self._over = False
        # Draws the prompt while it shows for how long something takes.
        self._ticking = LoopingCall(terminal.refresh)
        self._ticking.clock = clock

    def _name_is(self, user: str) -> None:
        self.user = self._words.user = user
        self._highlight_words()

    def _highlight_words(self) -> None:
        # Whole names only: not in "alice_" or "al-alice", but in "- alice" and "alice-".
        words = "|".join(map(re.escape, (self.user, *self._settings.highlight)))
        self._mention = re.compile(rf"(?<!\w)(?<!\w-)(?:{words})(?!\w|-\w)", re.IGNORECASE)

    # Beside the prompt

    @property
    def current(self) -> str:
        """The name of the current conversation."""
        return self._conversations.current

    def beside(self) -> list[Line]:
        """Return the newest messages whose outcome is not known or that were refused."""
        held = [[("class:dim", f"{line} (waits)")] for line in self._held[-MAX_HELD_SHOWN:]]
        return [*self._outbox.lines(self.user), *held]

    def prompt(self) -> Line:
        """Return the text before the input."""
        line: Line = []
        if not self._registered:
            line.append(("class:dim", "(connecting) "))
        elif not self.connected:
            line.append(("class:error", f"({self._describe_outage()}) "))
        elif seconds := self._outbox.waits():
            line.append(("class:error", f"(no answer for {seconds} s) "))
        line += activity_line(self._conversations.activity(), self._terminal.columns())
        if self._away is not None:
            line.append(("class:dim", "(away) "))
        name = f"@{self.current}" if is_direct(self.current) else self.current
        return [*line, ("class:prompt", f"{name}> ")]

    def _describe_outage(self) -> str:
        seconds = int(self._clock.seconds() - self._disconnected_at)
        attempt = self.session.next_attempt()
        again = f", next try in {int(attempt) + 1} s" if attempt is not None else ""
        return f"not connected for {seconds} s{again}" if seconds else "not connected"

    def names(self) -> list[str]:
        """Return the names of the other users who are present."""
        return self._roster.users(self.user)

    def rooms(self) -> list[str]:
        """Return the names of all known rooms."""
        return self._roster.rooms()

    # Input

    @property
    def offered(self) -> str:
        """The line that Tab puts in the place of the input, while an offer stands."""
        return self._offer[1].there if self._offer is not None else ""

    def last_speaker(self) -> str:
        """Return the user who has spoken to this user last, or an empty text."""
        return self._roster.last_speaker

    def take(self, line: str) -> str:
        """Handle a typed line; return the text that stays in the input. Called by the terminal."""
        kept = self._take(line)
        self._terminal.refresh()
        return kept

    def _take(self, line: str) -> str:
        offer, self._offer = self._offer, None
        if offer is not None and offer[0] == line:
            return self._handle(line, offer[1].here)
        order = commands.parse(line, self.current, known=self, now=self._now)
        match order:
            case None | Mistake() | Offer() | Command("/quit" | "/help"):
                return self._handle(line, order)
        if not self._turning:
            return self._handle(line, order)
        if len(self._held) >= MAX_HELD:
            self._complain("Too many lines wait already")
            return line
        self._held.append(line)
        return ""

    async def _while_turning(self, task: Coroutine[Any, Any, None]) -> None:
        """Run a task that may turn to another conversation; lines that are typed meanwhile are
        meant for that one.
        """
        self._turning += 1
        await Deferred.fromCoroutine(task).addErrback(
            lambda fault: self._log.failure("while a conversation was turned to", fault)
        )
        self._turning -= 1
        held, self._held = self._held, []
        for line in held:
            if self._take(line):  # it was meant for what is not there now
                self._complain(f"Not sent: {line}")
        if self.connected:
            self._leave_if_wanted()
        self._terminal.refresh()

    def _handle(self, line: str, order: commands.ParsedLine | None) -> str:
        """Do what a line means; return the text that stays in the input."""
        match order:
            case Say(to) if self._removed_from and to == self.current:
                text = f"You are not in {self._removed_from} any more. Enter once more says it here"
                self._removed_from = ""
                return self._offer_meanings(line, Offer(f"{text}, in {to}", order, line))
            case Say():
                self._say(order)
            case SwitchTo(to):
                return "" if self._turn(to) else line
            case Command():
                self._command(order)
            case Offer():
                return self._offer_meanings(line, order)
            case Mistake(text):
                self._complain(text)
                return line
        return ""

    def _offer_meanings(self, line: str, offer: Offer) -> str:
        self._offer = line, offer
        self._complain(offer.text)
        return line

    def _start(self, task: Coroutine[Any, Any, None]) -> None:
        """Start a task; a fault in it is logged."""
        Deferred.fromCoroutine(task).addErrback(
            lambda fault: self._log.failure("while a line was handled", fault)
        )

    def _say(self, message: Say) -> None:
        lines, characters = message.text.count("\n") + 1, len(message.text)
        if lines > MAX_PASTE:
            self._start(self._confirm(message, f"{lines} lines"))
        elif characters > MAX_TEXT:
            self._start(self._confirm(message, f"{characters} characters"))
        else:
            self._send(message)

    async def _confirm(self, message: Say, amount: str) -> None:
        if await agrees(self._terminal, f"Send {amount} to {message.to}?"):
            self._send(message)
        else:
            self._tell("Not sent")

    def _send(self, message: Say) -> None:
        id, self._next_id = self._next_id, self._next_id + 1
        self._outbox.add(id, message.to, message.text, message.kind)
        self._roster.talked(message.to)
        self._start(self._deliver(id, message))

    async def _deliver(self, id: int, message: Say) -> None:
        if self._away is not None and self._settings.back:
            self._start(self._ask(Command("/back")))
        try:
            sent = await self.session.send(message.to, message.text, message.kind)
        except Refused as problem:
            if sentence := self._outbox.refused(id, self._explain(message, problem.refusal)):
                self._complain(sentence)
        except NotConnected:
            return  # ``lost`` says which messages were not sent
        else:
            self._note_own(message.to, sent.number)
            self._conversations.answered(message.to, sent.number)
            self._outbox.sent(id, sent.number, sent.time)
            self._mark_soon()
        self._terminal.refresh()

    def send_again(self) -> None:
        """Send all refused messages again, in order."""
        for own in self._outbox.take_refused():
            self._send(Say(own.to, own.text, own.kind))
        self._terminal.refresh()

    def drop(self) -> None:
        """Forget all refused messages."""
        self._outbox.take_refused()
        self._terminal.refresh()

    # Turning to a conversation

    def next_unread(self) -> None:
        """Turn to the next conversation with unread messages."""
        place = self._conversations.next_unread()
        if place is None:
            self._tell("Nothing is unread")
        else:
            self._turn(place)

    def turn_to(self, number: int) -> None:
        """Turn to the conversation with a number."""
        place = self._conversations.nth(number)
        if place is not None:
            self._turn(place)

    def toggle_view(self) -> None:
        """Show the current conversation alone, or all."""
        self._view_is("all" if self._conversations.view == "current" else "current")

    def _view_is(self, view: str) -> None:
        self._conversations.view = view
        self._tell(
            "All conversations are shown"
            if view == "all"
            else "Only the current conversation is shown; the others are counted"
        )
        self._terminal.refresh()

    def _turn(self, to: str) -> bool:
        """Turn to a conversation by its typed name; return whether there is one."""
        if to.startswith("#") and not self._roster.is_member(to):
            self._complain(f"You are not in {to} (/join {to})")
            return False
        try:
            parse_target(to)
        except ChatError:
            self._complain(f"Nobody can be called {to}")
            return False
        to = ALL if fold(to) == fold(ALL) else to
        self._turn_there(self._roster.spelling(to) if to != ALL else ALL)
        if is_direct(to) and not self._roster.is_present(to):
            self._tell(f"{to} is not here")
        self._terminal.refresh()
        return True

    def _turn_there(self, place: str, *, remember: bool = True) -> None:
        self._removed_from = ""
        turn = self._conversations.turned(place)
        if remember:
            self._memory.remember_place(place)
        if turn:
            self._start(self._fill(turn, place))
        self._mark_soon()

    async def _fill(self, turn: int, place: str) -> None:
        """Show the end of a conversation that was turned to."""
        conversation = self._conversations.get(place)
        unread = conversation.unread if conversation is not None else 0
        count = min(max(self._settings.history, unread), MAX_HISTORY)
        found: list[Received] = []
        if count:
            with contextlib.suppress(Refused, NotConnected):
                found = await self.session.history(place, count)
        shown = self._conversations.filled(turn, found)
        if shown.more:
            self._tell(f"{shown.more} more unread messages: /history {shown.more + len(found)}")
        for message in shown.old:
            self._show_message(message, dim=True)
        if shown.new:
            self._mark("new")
        for message in shown.new:
            self._show_message(message)
        self._mark_soon()
        self._terminal.refresh()

    def _mark_soon(self) -> None:
        """Tell the server in a moment what was read."""
        if self._marking is None and not self._over:
            self._marking = self._clock.callLater(MARKED_AFTER, self._mark_read)

    def _cancel_marking(self) -> None:
        if self._marking is not None and self._marking.active():
            self._marking.cancel()
        self._marking = None

    def _mark_read(self) -> None:
        self._cancel_marking()
        if self.connected:
            for place, number in self._conversations.markers_to_send():
                self._conversations.read(place, number)
                self._start(self._send_marker(place, number))

    async def _send_marker(self, place: str, number: int) -> None:
        try:
            await self.session.mark_read(place, number)
        except (Refused, NotConnected):
            return  # it is read here all the same

    # Commands

    def _command(self, command: Command) -> None:
        match command:
            case Command("/quit"):
                self._quit()
            case Command("/help", topic):
                width = self._terminal.columns()
                for line in commands.help_text(topic, screen=True, width=width).split("\n"):
                    self._terminal.show([[("", line)]])
            case Command("/unread"):
                self._show_unread()
            case Command("/view", view):
                self._view_is(view) if view else self.toggle_view()
            case Command("/mute" | "/unmute", place) if place and not is_direct(place):
                self._mute(place, command.name == "/mute")
            case Command("/bell" | "/notify" | "/hide" | "/unhide" | "/highlight" | "/unhighlight"):
                self._set(command)
            case Command("/numbers", state):
                self._layout.numbers = not self._layout.numbers if state is None else state == "on"
                self._tell(f"numbers: {'on' if self._layout.numbers else 'off'}")
            case Command("/show", number):
                self._show_whole(int(number or 0))
            case Command("/clear"):
                self._terminal.clear()
            case Command("/again"):
                self.send_again()
            case Command("/drop"):
                self.drop()
            case Command("/ignore" | "/unignore"):
                self._ignore(command)
            case Command("/history" | "/search", reading=Reading() as reading):
                self._pages = Pages(self.session, reading)
                self._start(self._read(command))
            case Command("/more"):
                self._start(self._read(command))
            case Command("/delete", None):
                self._delete_last(command)
            case Command("/account", "unregister", "erase"):
                question = "Delete all your messages for ever, and give up the account?"
                self._start(self._ask_if_agreed(question, command))
            case Command("/join"):
                self._start(self._while_turning(self._ask(command)))
            case _:
                self._start(self._ask(command))

    async def _ask_if_agreed(self, question: str, command: Command) -> None:
        if await agrees(self._terminal, question):
            await self._ask(command)
        else:
            self._tell("Nothing is deleted")

    async def _ask(self, command: Command) -> None:
        current = self.current
        try:
            answer = await Asker(self.session, self._terminal, self._files).perform(
                command, current
            )
        except Refused as problem:
            self._refused(command, problem.refusal)
        except IdentityError as problem:
            self._complain(str(problem))
        except NotConnected:
            return  # ``lost`` is told why
        else:
            self._answer(command, about(command, current), answer)
        self._terminal.refresh()

    async def _read(self, command: Command) -> None:
        """Show a page of what was asked for by /history or /search."""
        pages = self._pages
        if pages is None or not pages.more:
            self._tell("There is nothing more" if pages else "Nothing was read before: /history")
            return
        self._asked_for = command if command.reading is not None else self._asked_for
        try:
            found = await pages.next()
        except Refused as problem:
            self._refused(command, problem.refusal)
        except NotConnected:
            return  # ``lost`` is told why
        else:
            self._show_found(self._asked_for, pages, found)
        self._terminal.refresh()

    def _refused(self, asked: Command | Say, refusal: Refusal) -> None:
        self._complain(self._explain(asked, refusal))

    def _explain(self, asked: Command | Say, refusal: Refusal) -> str:
        return explain(refusal, asked, known=self, now=self._now)

    def _answer(self, command: Command, subject: str, answer: Answer | str) -> None:
        """Show the answer to a command."""
        match answer:
            case str():
                self._tell(answer)
            case Done(what, lines):
                self._done(command, what, lines)
            case Event():
                self._follow(answer)
                self._follow_own(command, answer)
            case Profile():
                self._tell(self._words.described(None, answer))
            case list():
                self._show_list(command, subject, answer)

    def _done(self, command: Command, what: str, lines: Sequence[str]) -> None:
        if command.name in ("/away", "/back"):
            self._away = (command.first or "") if command.name == "/away" else None
        self._tell(self._words.changed(None, command, what, lines))

    def _follow_own(self, command: Command, event: Event) -> None:
        """Follow what the user has asked for."""
        own = fold(event.user) == fold(self.user)
        if event.verb == "JOINED":
            self._turn_there(self._roster.spelling(event.room))
            self._start(self._show_members(event.room))
        elif event.verb == "LEFT" and fold(self.current) == fold(event.room) and own:
            self._turn_there(self._conversations.previous())

    async def _show_members(self, room: str) -> None:
        try:
            members = await self.session.members(room)
        except (Refused, NotConnected):
            return  # left again
        others = [seen for seen in members if fold(seen.user) != fold(self.user)]
        names = ", ".join(seen.user for seen in others[:MAX_PRESENT]) or "nobody else"
        more = f" and {len(others) - MAX_PRESENT} more" if len(others) > MAX_PRESENT else ""
        self._tell(f"In {room}: {names}{more}")

    def _show_list(self, command: Command, subject: str, found: Listed) -> None:
        rows: Sequence[Sequence[str]]
        if command.name == "/who":
            self._tell(f"{len(found)} {f'in {subject}' if subject else 'here'}")
            columns = self._terminal.columns()
            rows = [(line,) for line in user_lines(found, columns, ranks=bool(subject))]
        elif command.name == "/rooms":
            self._know_rooms(found)
            rows = [room_row(room) for room in found] or [("No rooms (/join #name makes one)",)]
        else:
            rows = [(line,) for line in found] or [("Nobody is banned or muted",)]
        self._terminal.show([[("", line)] for line in table(rows)])

    def _show_found(self, command: Command, pages: Pages, found: Found) -> None:
        reading = command.reading
        assert reading is not None
        what = " ".join(filter(None, (command.name[1:], reading.place, reading.words)))
        if not pages.shown:
            self._tell(f"Nothing found: {what}")
            return
        self._mark(f"{pages.describe(len(found.messages))} found: {what}")
        for message in found.messages:
            self._show_message(message, f"message {message.number}")
        self._mark("now; /more goes on" if pages.more else "now")

    def _delete_last(self, command: Command) -> None:
        number = self._last_own.get(fold(self.current))
        if number is None:
            self._complain("There is no message of yours here; /delete NUMBER (see /history)")
        else:
            self._start(self._ask(Command("/delete", str(number))))

    def _show_unread(self) -> None:
        unread = list(self._conversations)
        if not unread:
            self._tell("Nothing unread")
        for conversation in unread:
            last = ""
            if conversation.newest:
                newest = conversation.newest[-1]
                last = f", the last {newest.sender}: {lines_of(newest.text)[0]}"
            self._tell(f"{tag(conversation.name)} {conversation.unread} unread{last}")

    def _mute(self, place: str, on: bool) -> None:
        self._conversations.mute(place, on)
        state = "not shown, but counted" if on else "shown again"
        self._tell(f"{place} is {state}")

    def _set(self, command: Command) -> None:
        """Change a setting, or say how it stands."""
        settings, given = self._settings, command.first
        match command.name:
            case "/bell":
                settings.bell = settings.bell if given is None else given == "on"
                state = "on" if settings.bell else "off"
            case "/notify":
                settings.notify = state = given or settings.notify
            case "/hide" | "/unhide":
                settings.hide = _changed(settings.hide, given, add=command.name == "/hide")
                state = ", ".join(settings.hide) or "nothing"
            case _:
                add = command.name == "/highlight"
                settings.highlight = _changed(settings.highlight, given, add=add)
                self._highlight_words()
                state = ", ".join((self.user, *settings.highlight))
        self._tell(f"{command.name[1:].removeprefix('un')}: {state}")

    def _show_whole(self, number: int) -> None:
        message = self._folds.get(number)
        if message is None:
            self._complain(f"There is no long message {number}")
        else:
            self._terminal.show(self._layout.lines(message, self.user, whole=True))

    def reader_pages(self) -> ConversationPages:
        """Return the current conversation, for a reader."""
        return ConversationPages(
            self.session,
            self.current,
            self.user,
            lambda: MessageLayout(self._timezone, is_guest=self._roster.is_guest),
        )

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
        self._memory.remember_ignored(self._ignored.values())

    def _quit(self) -> None:
        unsent = self._outbox.count_sending() + len(self._held)
        if unsent and not self.connected and not self._leaving:
            self._leaving = True
            self._complain(f"{unsent} not sent yet; /quit once more leaves all the same")
            return
        self._leaving = True
        self._mark_read()
        self.session.quit()
        if not self._registered:  # there is no session to end
            self.lost("")

    def _leave_if_wanted(self) -> None:
        """Leave if the user has wanted it while there was no connection, and all is sent."""
        if self._leaving and not self._held:
            self.session.quit()

    def interrupt(self, code: int = INTERRUPTED) -> None:
        """Leave within ``INTERRUPTED_WITHIN`` seconds, with this exit code."""
        self._leaving = True
        self._code = code
        self._clock.callLater(INTERRUPTED_WITHIN, self.lost, "")
        self._mark_read()
        self.session.quit()

    # Events of the session

    def registered(self, name: str) -> None:
        """Called by the session when the user is registered."""
        self._name_is(name)
        self.connected = self._registered = True
        self._memory.remember_token(self.session.token)
        self._missed = bool(self.session.last)
        self._start(self._while_turning(self._arrive()))
        self._turning -= 1  # since the start
        self._leave_if_wanted()
        self._terminal.refresh()

    async def _arrive(self) -> None:
        """Join the rooms of the start, say who and what is there, and turn to a conversation."""
        await self._together(
            *map(self._enter_quietly, self._rooms_at_start),
            self._greet(),
            self._learn(),
        )
        self._list_rooms()
        wanted = [*self._rooms_at_start[:1], self._memory.place, ALL]
        place = next(name for name in wanted if self._can_turn_to(name))
        place = self._roster.spelling(place) if place != ALL else ALL
        self._turn_there(place, remember=False)  # a room that is missing today stays remembered
        self._terminal.refresh()

    def _list_rooms(self) -> None:
        """Say which rooms the user is in, and where something is unread."""
        unread = {fold(c.name): c for c in self._conversations}
        parts = []
        for room in sorted(self._roster.own_rooms(), key=fold):
            conversation = unread.pop(fold(room), None)
            parts.append(f"{room} ({conversation.unread} unread)" if conversation else room)
        if parts:
            self._tell(f"Your rooms: {', '.join(parts)}")
        if unread:
            others = [f"{tag(c.name)[1:-1]} ({c.unread})" for c in unread.values()]
            self._tell(f"Unread: {', '.join(others)}")

    def _can_turn_to(self, place: str) -> bool:
        if place.startswith("#"):
            return self._roster.is_member(place)
        try:
            return bool(place) and bool(parse_target(place))
        except ChatError:
            return False

    async def _enter_quietly(self, room: str) -> None:
        """Join a room without turning to it."""
        try:
            self._follow(await self.session.enter(room))
        except Refused as problem:
            self._complain(f"/join {room}: {problem.reason}")
        except NotConnected:
            return  # ``lost`` is told why

    async def _together(self, *tasks: Coroutine[Any, Any, None]) -> None:
        """Run tasks at the same time. What they would have learned is missing if they fail."""

        async def quietly(task: Coroutine[Any, Any, None]) -> None:
            with contextlib.suppress(Refused, NotConnected):
                await task

        for started in [Deferred.fromCoroutine(quietly(task)) for task in tasks]:
            await started

    async def _learn(self) -> None:
        """Ask which rooms there are, and what is unread, unless that is asked already."""
        if self._learning:
            return
        self._learning = True
        await self._together(self._learn_rooms(), self._learn_unread())
        self._learning = False

    async def _learn_rooms(self) -> None:
        self._know_rooms(await self.session.rooms())

    async def _learn_unread(self) -> None:
        found = await self.session.unread()
        counts = [(marker.conversation, marker.number, marker.unread) for marker in found]
        self._conversations.counted(counts, self.session.last)

    async def _greet(self) -> None:
        seen = await self.session.watch()
        for news in self._roster.set_present(seen):
            self._tell(news)
        where = f" on {self._where}" if self._where else ""
        here = ", ".join(self.names()) or "nobody else"
        if len(self._roster) > MAX_PRESENT:
            here = f"{len(self._roster) - 1} others (/who)"
        self._tell(f"You are {self.user}{where}. Here: {here}. /help tells what you can do.")
        for line in describe_kept(self.session.kept):
            self._tell(line)

    def _know_rooms(self, rooms: Sequence[Room]) -> None:
        self._roster.set_rooms(rooms)
        for room in self._roster.own_rooms():
            self._conversations.open(room)
        if self.current.startswith("#") and not self._roster.is_member(self.current):
            self._complain(f"You are not in {self.current} any more (/join {self.current}, @ALL)")

    def not_registered(self, problem: ClientError) -> None:
        """Called by the session when the user can't be registered."""
        if isinstance(problem, Refused):
            self.failure = explain_login(problem.refusal, self.user, now=self._now)
        else:
            self.failure = str(problem)

    async def other_name(self, refusal: Refusal) -> str:
        """Ask for another name, because the user's is in use."""
        self._complain(explain_login(refusal, self.session.user, now=self._now))
        offered = other_name(self.session.user)
        while True:
            answer = await self._terminal.ask(f"Another name [{offered}]: ", secret=False)
            name = answer.strip() or offered
            if not (rule := name_rule(name)):
                return name
            self._complain(rule)

    def received(self, message: Received) -> None:
        """Called by the session when a message has come."""
        if fold(message.sender) in self._ignored:
            return
        old = message.number <= self.session.last
        place = conversation_of(message, self.user)
        own = fold(message.sender) == fold(self.user)
        mentioned = not own and self._mention.search(message.text) is not None
        if own:
            self._note_own(place, message.number)
            shown = self._conversations.answered(place, message.number)
        else:
            if mentioned or is_direct(place):
                self._roster.talked(message.sender, spoken_to=True)
            shown = self._conversations.came(place, message, mentioned)
        if shown:
            if self._missed and old:
                self._mark("what was said while you were not here")
            self._missed = self._missed and not old
            self._show_message(message)
        self._mark_soon()
        self._terminal.refresh()
        if not own and not old and (mentioned or is_direct(place)):  # missed ones don't ring
            self._call_attention(message)

    def _call_attention(self, message: Received) -> None:
        if self._settings.bell:
            self._terminal.ring()
        if self._settings.notify != "off":
            text = message.text[:MAX_NOTICE].split("\n")[0]
            self._terminal.notify(message.sender, text)

    def _note_own(self, place: str, number: int) -> None:
        """Note the number of the user's last message in a conversation."""
        self._last_own.pop(fold(place), None)
        self._last_own[fold(place)] = number
        if len(self._last_own) > MAX_CONVERSATIONS:
            del self._last_own[next(iter(self._last_own))]

    def delivered(self, number: int) -> None:
        """Called by the session when a direct message was delivered."""
        late = self._outbox.delivered(number)
        if late is not None:
            text = late.text.split("\n")[0]
            self._tell(f"✓ {late.to} has it now: {text}")
        self._terminal.refresh()

    def _show_own(self, own: OutgoingMessage, remark: str) -> None:
        """Show an outgoing message among the others. Called when its state is final."""
        message = Received(own.number, own.time, self.user, own.to, own.text, kind=own.kind)
        self._show_message(message, remark)
        self._terminal.refresh()

    def refused(self, problem: Refused) -> None:
        """Called by the session when something was refused that is no request of the user."""
        self._complain(str(problem))

    def told(self, event: Event) -> None:
        """Called by the session with each event that was not asked for."""
        self._follow(event)
        self._terminal.refresh()

    def _follow(self, event: Event) -> None:
        """Follow an event, and say what has happened."""
        if event.verb == "READ":
            self._conversations.read(event.conversation, event.number)
        elif event.verb == "RENAMED":
            self._follow_name(event.user, event.new_name)
        elif event.verb == "DELETED":
            self._forget_message(event)
        elif event.room:
            self._room_changed(event)
        if said := self._words.told(None, event):
            self._tell(said)

    def _room_changed(self, event: Event) -> None:
        own = fold(event.user) == fold(self.user)
        self._roster.add_room(event.room, member=event.verb == "JOINED" and own)
        if event.verb == "JOINED" and own:
            self._conversations.open(event.room)
        if event.verb == "LEFT" and own:
            # A removed user may be typing: the next line is not sent before they have agreed.
            self._roster.leave(event.room)
            self._conversations.pop(event.room)
            if event.by and fold(self.current) == fold(event.room):
                self._turn_there(self._conversations.previous())
                self._removed_from = event.room

    def _follow_name(self, old: str, new: str) -> None:
        """Use a user's new name wherever the old one stood."""
        before, after = fold(old), fold(new)
        if before == fold(self.user):
            self._name_is(new)
            self._memory.renamed(new)
        self._roster.rename(old, new)
        self._conversations.rename(old, new)
        if before in self._last_own:
            self._last_own[after] = self._last_own.pop(before)
        if before in self._ignored:
            del self._ignored[before]
            self._ignored[after] = new
            self._memory.remember_ignored(self._ignored.values())

    def _forget_message(self, event: Event) -> None:
        """Forget a deleted message that may be shown again."""
        key = fold(event.conversation)
        if self._last_own.get(key) == event.number:
            del self._last_own[key]
        self._conversations.remove(event.conversation, event.number)

    def seen(self, users: list[Seen]) -> None:
        """Called by the session when the presence of users has changed."""
        for user in users:
            news = self._roster.follow(user, self.user)
            if news and "joins" not in self._settings.hide:
                self._tell(news)

    def present(self, users: list[Seen]) -> None:
        """Called by the session with all present users after a reconnect."""
        for news in self._roster.set_present(users):
            self._tell(news)

    def noticed(self, text: str) -> None:
        """Called by the session with a notice from the server."""
        self.tell("\n".join(lines_of(text)))

    def disconnected(self, reason: str) -> None:
        """Called by the session when the connection is lost; the session tries to connect again."""
        self.connected = False
        self._disconnected_at = self._clock.seconds()
        why = f" ({reason})" if reason else ""
        self._complain(f"Connection lost{why}, trying again. What you write is sent then.")
        self._roster.disconnected()
        if not self._ticking.running:
            self._ticking.start(1)

    def reconnected(self) -> None:
        """Called by the session when it is connected again."""
        self.connected = True
        if self._ticking.running:
            self._ticking.stop()
        self._memory.remember_token(self.session.token)
        self._start(self._learn())
        self._tell("Connected again")
        self._leave_if_wanted()
        self._terminal.refresh()

    def went_back(self) -> None:
        """Called by the session when the server has lost the newest messages."""
        self._complain(self._words.went_back())

    def lost(self, reason: str) -> None:
        """Called by the session when it has ended."""
        if self._over:
            return
        self._over = True
        if self._ticking.running:
            self._ticking.stop()
        self._cancel_marking()
        for own in self._outbox.end():
            self._complain(f"Not sent to {own.to}: {own.text}")
        for line in self._held:
            self._complain(f"Not sent: {line}")
        self._held.clear()
        if self._leaving:
            if self.connected:  # otherwise the server reserves the name for a return
                self._memory.remember_token(None)
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
        self._tell(text)

    def _tell(self, text: str) -> None:
        self._terminal.show([[("class:dim", f"· {line}")] for line in text.split("\n")])

    def _complain(self, text: str) -> None:
        lines = text.rstrip("\n").split("\n")
        self._terminal.show([[("class:error", f"! {line}")] for line in lines])

    def _mark(self, text: str) -> None:
        self._terminal.show([mark(text)])

    def _show_message(self, message: Received, state: str = "", *, dim: bool = False) -> None:
        own = fold(message.sender) == fold(self.user)
        mentioned = not own and self._mention.search(message.text) is not None
        self._terminal.show(
            self._layout.lines(message, self.user, mentioned=mentioned, state=state, dim=dim)
        )


def _changed(words: tuple[str, ...], word: str | None, *, add: bool) -> tuple[str, ...]:
    """Return ``words`` with a word, or without it."""
    if word is None:
        return words
    others = tuple(other for other in words if fold(other) != fold(word))
    return (*others, word) if add else others
