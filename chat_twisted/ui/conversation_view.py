"""The contents of a terminal, and the handling of typed lines, without the terminal itself.

``ConversationView`` listens to a session and takes the lines that the user types. It gives a
``Terminal`` lines of styled text: final lines, shown above the prompt, and the user's own
undelivered messages, shown beside the prompt because they may still change. The ``Terminal`` makes
all text printable. This module must not know the terminal library or the wire protocol. It is long
because it answers the calls of two partners, the terminal and the session; what it remembers has
modules of its own: ``console``, ``turning``, ``sending`` and ``commanding``.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from chat_twisted.core.message import fold
from chat_twisted.text import lines as lines_of
from chat_twisted.ui.asking import UserFiles, room_of
from chat_twisted.ui.commanding import Commanding
from chat_twisted.ui.commands import Command, Mistake, Offer, ParsedLine, Say, SwitchTo
from chat_twisted.ui.console import Console, Terminal
from chat_twisted.ui.conversations import MAX_CONVERSATIONS, is_direct
from chat_twisted.ui.errors import ClientError, NotConnected, Refused
from chat_twisted.ui.layout import Line, MessageLayout, activity_line, tag
from chat_twisted.ui.outgoing import UNANSWERED_AFTER
from chat_twisted.ui.pages import ConversationPages
from chat_twisted.ui.parsing import parse
from chat_twisted.ui.roster import MAX_PRESENT
from chat_twisted.ui.sending import Sending
from chat_twisted.ui.sentences import explain_login, name_rule, other_name
from chat_twisted.ui.session import ChatSession
from chat_twisted.ui.settings import Memory, Settings
from chat_twisted.ui.turning import Turning
from chat_twisted.ui.values import ALL, Event, Received, Refusal, Room, Seen, State, conversation_of
from chat_twisted.ui.wording import describe_kept

MAX_EARLY = 1000
"""Maximum number of messages that wait for the greeting; more are shown before it."""

MAX_HELD, MAX_HELD_SHOWN = 100, 5
"""Maximum number of typed lines that wait until the user is in the conversation that they are
for, and of those that are shown beside the prompt."""

MAX_LISTED = 20
"""Maximum number of rooms, and of unread conversations, that are named at the start."""

INTERRUPTED_WITHIN = 0.5
"""Maximum seconds to wait for the server's BYE after Ctrl-C."""

OK, LOST, NOT_CONNECTED, INTERRUPTED = 0, 1, 2, 130
"""Exit codes, the same as in ``pipe``."""


class ConversationView:
    """A user's session on a terminal: the listener of a session, and the handler of typed lines.

    :ivar session: the session; to be set before it is connected.
    :param user: the user's name.
    :param files: the user's key and files.
    :param terminal: the terminal to draw on.
    :param rooms: rooms to join at the start; the first one is turned to.
    :param timezone: the zone of displayed times; None for the local one.
    :param now: returns the time of day, to which typed times are relative.
    """

    def __init__(
        self,
        user: str,
        files: UserFiles,
        clock: IReactorTime,
        terminal: Terminal,
        settings: Settings,
        memory: Memory,
        *,
        rooms: Sequence[str] = (),
        timezone: datetime.tzinfo | None = None,
        now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now().astimezone(),
    ) -> None:
        self.failure = ""
        self._rooms_at_start = rooms
        self._console = Console(user, clock, terminal, settings, memory, timezone, now)
        self._turning = Turning(self._console)
        self._sending = Sending(self._console, self._turning, self._come_back)
        self._commanding = Commanding(
            self._console, self._turning, self._sending, files, self._follow, self._know_rooms
        )
        self._offer: tuple[str, Offer] | None = None  # a line with two meanings, and these
        # how many tasks may turn to another conversation; the login is the first
        self._turns = 1
        self._held: list[str] = []  # lines that were typed meanwhile
        self._learning = False  # whether it is asked which rooms there are
        self._greeted = False  # whether the greeting was shown
        self._early: list[Received] = []  # messages that came before
        self._missed = False  # whether missed messages are being shown
        self._registered = False  # whether the user was ever registered
        self._disconnected_at = self._turning_at = 0.0
        self._leaving = False
        self._code: int | None = None  # the exit code, if it is set already
        self._over = False
        # Draws the prompt while it shows for how long something takes.
        self._ticking = LoopingCall(terminal.refresh)
        self._ticking.clock = clock

    @property
    def session(self) -> ChatSession:
        """The session."""
        return self._console.session

    @session.setter
    def session(self, session: ChatSession) -> None:
        self._console.session = session

    @property
    def user(self) -> str:
        """The user's name."""
        return self._console.user

    @property
    def connected(self) -> bool:
        """Whether the session is connected."""
        return self._console.connected

    def dissolve(self) -> None:
        """Remove the references between the parts; see ``Screen.dissolve``."""
        for part in (self._sending, self):
            vars(part).clear()

    # Beside the prompt

    @property
    def current(self) -> str:
        """The name of the current conversation."""
        return self._console.current

    def beside(self) -> list[Line]:
        """Return the newest messages whose outcome is not known or that were refused."""
        held = [[("class:dim", f"{line} (waits)")] for line in self._held[-MAX_HELD_SHOWN:]]
        return [*self._sending.outbox.lines(self._console.user), *held]

    def prompt(self) -> Line:
        """Return the text before the input."""
        line: Line = []
        if not self._registered:
            line.append(("class:dim", "(connecting) "))
        elif not self._console.connected:
            line.append(("class:error", f"({self._describe_outage()}) "))
        elif seconds := max(self._sending.outbox.waits(), self._turning_waits()):
            line.append(("class:error", f"(no answer for {seconds} s) "))
        line += activity_line(
            self._console.conversations.activity(), self._console.terminal.columns()
        )
        if self._console.away is not None:
            line.append(("class:dim", "(away) "))
        name = (
            f"@{self._console.current}"
            if is_direct(self._console.current)
            else self._console.current
        )
        return [*line, ("class:prompt", f"{name}> ")]

    def _turning_waits(self) -> int:
        """Return for how many seconds a conversation has been awaited; 0 if they are few."""
        waits = int(self._console.clock.seconds() - self._turning_at) if self._turns else 0
        return waits if waits >= UNANSWERED_AFTER else 0

    def _tick_if_needed(self) -> None:
        """Draw the prompt every second while it counts seconds."""
        needed = self._registered and bool(self._turns or not self._console.connected)
        if needed and not self._over and not self._ticking.running:
            self._ticking.start(1)
        elif self._ticking.running and (self._over or not needed):
            self._ticking.stop()

    def _describe_outage(self) -> str:
        seconds = int(self._console.clock.seconds() - self._disconnected_at)
        attempt = self._console.session.next_attempt()
        again = f", next try in {int(attempt) + 1} s" if attempt is not None else ""
        lasted = f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
        return f"not connected for {lasted}{again}" if seconds else "not connected"

    def names(self) -> list[str]:
        """Return the names of the other users who are present."""
        return self._console.names()

    def rooms(self) -> list[str]:
        """Return the names of all known rooms."""
        return self._console.rooms()

    # Input

    @property
    def offered(self) -> str:
        """The line that Tab puts in the place of the input, while an offer stands."""
        return self._offer[1].there if self._offer is not None else ""

    def last_speaker(self) -> str:
        """Return the user who has spoken to this user last, or an empty text."""
        return self._console.roster.last_speaker

    def take(self, line: str) -> str:
        """Handle a typed line; return the text that stays in the input. Called by the terminal."""
        kept = self._take(line)
        self._console.terminal.refresh()
        return kept

    def _take(self, line: str) -> str:
        offer, self._offer = self._offer, None
        if offer is not None and offer[0] == line:
            self._turning.removed_from = ""
            return self._handle(line, offer[1].here)
        order = self._parse(line, self._console.current)
        match order:
            case None | Mistake() | Offer() | Command("/quit" | "/help"):
                return self._handle(line, order)
        if not self._turns:
            return self._handle(line, order)
        if len(self._held) >= MAX_HELD:
            self._console.complain("Too many lines wait already")
            return line
        self._held.append(line)
        return ""

    def _parse(self, line: str, current: str) -> ParsedLine | None:
        return parse(line, current, known=self._console, now=self._console.now)

    async def _while_turning(self, task: Coroutine[Any, Any, None], place: str) -> None:
        """Run a task that turns to ``place``; lines that are typed meanwhile are meant for it."""
        self._turns += 1
        self._turning_at = self._console.clock.seconds()
        self._tick_if_needed()
        await self._console.start(task)
        self._turns -= 1
        self._tick_if_needed()
        arrived = fold(self._console.current) == fold(place)
        held, self._held = self._held, []
        for line in held:
            # If the place can't be had, such a line must go nowhere else.
            if not (arrived or self._names_place(line)) or self._take(line):
                self._offer = None  # the line is not in the input
                self._console.complain(f"Not sent: {line}")
        if self._console.connected:
            self._leave_if_wanted()
        self._console.terminal.refresh()

    def _names_place(self, line: str) -> bool:
        """Return whether a line means the same in all conversations."""
        return self._parse(line, ALL) == self._parse(line, "#")

    def _handle(self, line: str, order: ParsedLine | None) -> str:
        """Do what a line means; return the text that stays in the input."""
        match order:
            case Say(to) if self._turning.removed_from and to == self._console.current:
                room = self._turning.removed_from
                text = f"You are not in {room} any more. Enter once more says it here, in {to}"
                return self._offer_meanings(line, Offer(text, order, line))
            case Say():
                return "" if self._sending.say(order) else line
            case SwitchTo(to):
                return "" if self._turning.turn(to) else line
            case Command("/quit"):
                self._quit()
            case Command("/join"):
                room = room_of(order.first or "")
                self._console.start(self._while_turning(self._commanding.ask(order), room))
            case Command():
                self._commanding.carry_out(order)
            case Offer():
                return self._offer_meanings(line, order)
            case Mistake(text):
                self._console.complain(text)
                return line
        return ""

    def _offer_meanings(self, line: str, offer: Offer) -> str:
        self._offer = line, offer
        self._console.complain(offer.text)
        return line

    # Keys

    def send_again(self) -> None:
        """Send all refused messages again, in order."""
        self._sending.send_again()

    def drop(self) -> None:
        """Forget all refused messages."""
        self._sending.drop()

    def next_unread(self) -> None:
        """Turn to the next conversation with unread messages."""
        if not self._is_turning():
            self._turning.next_unread()

    def turn_to(self, number: int) -> None:
        """Turn to the conversation with a number."""
        if not self._is_turning():
            self._turning.turn_to(number)

    def _is_turning(self) -> bool:
        """Return whether lines that are typed now wait for a conversation; then say so."""
        if self._turns:
            self._console.complain("Not yet: another conversation is being turned to")
        return bool(self._turns)

    def toggle_view(self) -> None:
        """Show the current conversation alone, or all."""
        self._commanding.view_is(self._commanding.other_view())

    def reader_pages(self) -> ConversationPages:
        """Return the current conversation, for a reader."""
        return ConversationPages(
            self._console.session,
            self._console.current,
            self._console.user,
            lambda: MessageLayout(self._console.timezone, is_guest=self._console.roster.is_guest),
        )

    # The end

    def _come_back(self) -> None:
        self._console.away = None  # once for several messages
        self._console.start(self._commanding.ask(Command("/back")))

    def _quit(self) -> None:
        unsent = self._sending.outbox.count_sending() + len(self._held)
        if unsent and not self._console.connected and not self._leaving:
            self._leaving = True
            self._console.complain(f"{unsent} not sent yet; /quit once more leaves all the same")
            return
        self._leaving = True
        self._turning.mark_read()
        self._console.session.quit()
        if not self._registered:  # there is no session to end
            self.lost("")

    def _leave_if_wanted(self) -> None:
        """Leave if the user has wanted it while there was no connection, and all is sent."""
        if self._leaving and not self._held:
            self._console.session.quit()

    def interrupt(self, code: int = INTERRUPTED) -> None:
        """Leave within ``INTERRUPTED_WITHIN`` seconds, with this exit code."""
        self._leaving = True
        self._code = code
        self._console.clock.callLater(INTERRUPTED_WITHIN, self.lost, "")
        self._turning.mark_read()
        self._console.session.quit()

    # Events of the session

    def registered(self, name: str) -> None:
        """Called by the session when the user is registered."""
        if fold(name) != fold(self._console.user):  # the one they wanted is taken
            self._console.memory.renamed(name)
        self._console.name_is(name)
        self._console.connected = self._registered = True
        self._console.memory.remember_token(self._console.session.token)
        self._missed = bool(self._console.session.last)
        self._turning.expect([*self._rooms_at_start[:1], self._console.memory.place])
        self._console.start(self._while_turning(self._arrive(), self._console.current))
        self._turns -= 1  # since the start
        self._leave_if_wanted()
        self._console.terminal.refresh()

    async def _arrive(self) -> None:
        """Join the rooms of the start, say who and what is there, and turn to a conversation."""
        await self._together(
            *map(self._enter_quietly, self._rooms_at_start),
            self._greet(),
            self._learn(),
        )
        self._list_rooms()
        self._turning.arrive()
        self._console.terminal.refresh()

    def _list_rooms(self) -> None:
        """Say which rooms the user is in, and where something is unread."""
        unread = {fold(c.name): c for c in self._console.conversations}
        parts = []
        for room in sorted(self._console.roster.own_rooms(), key=fold):
            conversation = unread.pop(fold(room), None)
            parts.append(f"{room} ({conversation.unread} unread)" if conversation else room)
        others = [f"{tag(c.name)[1:-1]} ({c.unread})" for c in unread.values()]
        for what, places, command in (
            ("Your rooms", parts, "/rooms"),
            ("Unread", others, "/unread"),
        ):
            more = len(places) - MAX_LISTED
            rest = f" and {more} more ({command})" if more > 0 else ""
            if places:
                self._console.tell(f"{what}: {', '.join(places[:MAX_LISTED])}{rest}")

    async def _enter_quietly(self, room: str) -> None:
        """Join a room without turning to it."""
        try:
            self._follow(await self._console.session.enter(room))
        except Refused as problem:
            self._console.refused(Command("/join", room), problem.refusal)
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
        self._know_rooms(await self._console.session.rooms())

    async def _learn_unread(self) -> None:
        found = await self._console.session.unread()
        spelling = self._console.roster.spelling  # the server may write names in lower case
        counts = [(spelling(m.conversation), m.number, m.unread) for m in found]
        self._console.conversations.counted(counts, self._console.session.last)

    async def _greet(self) -> None:
        try:
            self.present(await self._console.session.watch())
            self._say_who_is_here()
        finally:
            self._take_early()

    def _say_who_is_here(self) -> None:
        where = self._console.session.where
        on = f" on {where}" if where else ""
        here = ", ".join(map(self._console.roster.marked, self.names())) or "nobody else"
        if len(self._console.roster) > MAX_PRESENT:
            here = f"{len(self._console.roster) - 1} others (/who)"
        self._console.tell(
            f"You are {self._console.user}{on}. Here: {here}. /help tells what you can do."
        )
        for line in describe_kept(self._console.session.kept):
            self._console.tell(line)

    def _know_rooms(self, rooms: Sequence[Room]) -> None:
        roster, current = self._console.roster, self._console.current
        roster.set_rooms(rooms)
        for room in islice(roster.own_rooms(), MAX_CONVERSATIONS):
            self._console.conversations.open(room)
        if current.startswith("#") and not roster.is_member(current) and not self._turns:
            self._console.complain(f"You are not in {current} any more (/join {current}, @ALL)")

    def not_registered(self, problem: ClientError) -> None:
        """Called by the session when the user can't be registered."""
        if isinstance(problem, Refused):
            self.failure = explain_login(problem.refusal, self._console.user, now=self._console.now)
        else:
            self.failure = str(problem)

    async def ask_password(self, what: str) -> str:
        """Ask for a password; return an empty text if none is given.

        A line that was typed before the first question may be the password. So it is not sent,
        unless it says to whom.
        """
        if not self._registered:
            kept = [line for line in self._held if self._names_place(line)]
            if len(kept) < len(self._held):
                self._held = kept
                self._console.complain("What was typed before this question is not sent")
        return await self._console.terminal.ask(what, secret=True)

    async def other_name(self, refusal: Refusal) -> str:
        """Ask for another name, because the user's is in use; return an empty text if the user
        wants none.
        """
        taken = self._console.session.user
        self.failure = explain_login(refusal, taken, now=self._console.now)  # if it ends meanwhile
        self._console.complain(self.failure)
        offered = other_name(taken)
        # Ctrl-C answers with nothing, which must not take a name.
        question = f"Another name (such as {offered}; none leaves): "
        while name := (await self._console.terminal.ask(question, secret=False)).strip():
            if not (rule := name_rule(name)):
                self.failure = ""
                break
            self._console.complain(rule)
        return name

    def received(self, message: Received) -> None:
        """Called by the session when a message has come."""
        if not self._greeted and len(self._early) < MAX_EARLY:
            self._early.append(message)
        else:
            self._take_message(message)

    def _take_early(self) -> None:
        """Show the messages that came before the greeting: it is known now who is a guest."""
        self._greeted = True
        early, self._early = self._early, []
        for message in early:
            self._take_message(message)

    def _take_message(self, message: Received) -> None:
        console, conversations = self._console, self._console.conversations
        sender = fold(message.sender)
        if sender in console.ignored:
            return
        old = message.number <= console.session.last
        place = conversation_of(message, console.user)
        own, calls = sender == fold(console.user), is_direct(place)
        mentioned = not own and console.mentions(message)
        if own:
            self._sending.note_own(place, message.number)
            shown = conversations.answered(place, message.number)
        else:
            calls = calls or mentioned
            console.roster.spoke(message.sender)
            if calls and console.is_spoken_to(message):
                console.roster.talked(message.sender, spoken_to=True)
            shown = conversations.came(place, message, mentioned)
        if shown:
            if self._missed and old:
                console.mark("what was said while you were not here")
            self._missed = self._missed and not old
            console.show_message(message, mentioned=mentioned)
        self._turning.mark_soon()
        console.terminal.refresh()
        if calls and not own and not old:  # missed ones don't ring
            console.call_attention(message)

    def delivered(self, number: int) -> None:
        """Called by the session when a direct message was delivered."""
        late = self._sending.outbox.delivered(number)
        if late is not None:
            text = late.text.split("\n")[0]
            self._console.tell(f"✓ {late.to} has it now: {text}")
        self._console.terminal.refresh()

    def refused(self, problem: Refused) -> None:
        """Called by the session when something was refused that is no request of the user."""
        self._console.complain(str(problem))

    def told(self, event: Event) -> None:
        """Called by the session with each event that was not asked for."""
        self._follow(event, hide=self._is_hidden(event))
        self._console.terminal.refresh()

    def _follow(self, event: Event, *, hide: bool = False) -> None:
        """Update the view after an event, and describe the event unless the user hides it."""
        if event.verb == "READ":
            self._console.conversations.read(event.conversation, event.number)
        elif event.verb == "RENAMED":
            self._follow_name(event.user, event.new_name)
        elif event.verb == "DELETED":
            self._forget_message(event)
        elif event.room:
            self._room_changed(event)
        said = self._console.words.told(None, self._marked(event))
        if said and not hide:
            self._console.tell(said)

    def _marked(self, event: Event) -> Event:
        """Mark the names of guests in an event, except the user's own."""

        def mark(name: str) -> str:
            own = fold(name) == fold(self._console.user)
            return name if own else self._console.roster.marked(name)

        return replace(
            event, user=mark(event.user), by=mark(event.by), new_name=mark(event.new_name)
        )

    def _is_hidden(self, event: Event) -> bool:
        """Return whether the user does not want to hear of an event."""
        if fold(event.user) == fold(self._console.user):
            return False
        place = event.room or event.conversation
        if place and not self._console.conversations.shows(place):
            return True
        moves = event.verb in ("JOINED", "LEFT") and not event.by
        return moves and "joins" in self._console.settings.hide

    def _room_changed(self, event: Event) -> None:
        own = fold(event.user) == fold(self._console.user)
        self._console.roster.add_room(event.room, member=event.verb == "JOINED" and own)
        if event.verb == "JOINED" and own:
            self._console.conversations.open(event.room)
        if event.verb == "LEFT" and own:
            # A removed user may be typing: the next line is not sent before they have agreed.
            self._console.roster.leave(event.room)
            self._console.conversations.pop(event.room)
            if event.by and fold(self._console.current) == fold(event.room):
                self._turning.turn_there(self._console.conversations.previous())
                self._turning.removed_from = event.room

    def _follow_name(self, old: str, new: str) -> None:
        """Use a user's new name wherever the old one stood."""
        before, after = fold(old), fold(new)
        if before == fold(self._console.user):
            self._console.name_is(new)
            self._console.memory.renamed(new)
        self._console.roster.rename(old, new)
        self._console.conversations.rename(old, new)
        self._sending.rename(old, new)
        if before in self._console.ignored:
            del self._console.ignored[before]
            self._console.ignored[after] = new
            self._console.memory.remember_ignored(self._console.ignored.values())

    def _forget_message(self, event: Event) -> None:
        """Forget a deleted message that may be shown again."""
        self._sending.forget_own(event.conversation, event.number)
        self._early = [m for m in self._early if m.number != event.number]
        self._console.folds.remove(event.number)
        self._console.conversations.remove(event.conversation, event.number)

    def seen(self, users: list[Seen]) -> None:
        """Called by the session when the presence of users has changed."""
        self._follow_own_state(users)
        for user in users:
            hide = "joins" in self._console.settings.hide
            if news := self._console.roster.follow(user, self._console.user, hide=hide):
                self._console.tell(news)

    def _follow_own_state(self, users: list[Seen]) -> None:
        for own in (user for user in users if fold(user.user) == fold(self._console.user)):
            self._console.away = own.why if own.state is State.AWAY else None

    def present(self, users: list[Seen]) -> None:
        """Called by the session with all present users after a reconnect."""
        self._follow_own_state(users)
        for news in self._console.roster.set_present(users):
            self._console.tell(news)

    def noticed(self, text: str) -> None:
        """Called by the session with a notice from the server."""
        self.tell("\n".join(lines_of(text)))

    def disconnected(self, reason: str) -> None:
        """Called by the session when the connection is lost; the session tries to connect again."""
        self._console.connected = False
        self._disconnected_at = self._console.clock.seconds()
        why = f" ({reason})" if reason else ""
        self._console.complain(f"Connection lost{why}, trying again. What you write is sent then.")
        self._console.roster.disconnected()
        self._tick_if_needed()

    def reconnected(self) -> None:
        """Called by the session when it is connected again."""
        self._console.connected = True
        self._tick_if_needed()
        self._console.memory.remember_token(self._console.session.token)
        self._console.start(self._learn())
        self._console.tell(self._console.words.reconnected(self._console.session.moved_to))
        self._leave_if_wanted()
        self._console.terminal.refresh()

    def went_back(self) -> None:
        """Called by the session when the server has lost the newest messages."""
        self._console.conversations.went_back(self._console.session.last)
        self._sending.went_back(self._console.session.last)
        self._console.complain(self._console.words.went_back())

    def lost(self, reason: str) -> None:
        """Called by the session when it has ended."""
        if self._over:
            return
        self._over = True
        self._take_early()
        self._tick_if_needed()
        self._turning.end()
        for own in self._sending.outbox.end():
            self._console.complain(f"Not sent to {own.to}: {own.text}")
        for line in self._held:
            self._console.complain(f"Not sent: {line}")
        self._held.clear()
        if self._leaving:
            if self._console.connected:  # otherwise the server reserves the name for a return
                self._console.memory.remember_token(None)
            self._console.terminal.stop(OK if self._code is None else self._code, "")
        else:
            over = self._console.words.over(reason)
            if self._registered:
                self._console.terminal.stop(LOST, self.failure or over)
            else:
                self._console.terminal.stop(NOT_CONNECTED, self.failure or reason or over)

    # Output

    def tell(self, text: str) -> None:
        """Show a notice of the program."""
        self._console.tell(text)
