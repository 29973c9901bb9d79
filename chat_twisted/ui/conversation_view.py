"""The contents of a terminal, and the handling of typed lines, without the terminal itself.

``ConversationView`` listens to a session and takes the lines that the user types. It gives a
``Terminal`` lines of styled text: final lines, shown above the prompt, and the user's own
undelivered messages, shown beside the prompt because they may still change. The ``Terminal`` makes
all text printable. This module must not know the terminal library or the wire protocol. What is
remembered, and what is done with it, has modules of its own: ``console``, ``turning``, ``sending``,
``following``, ``commanding`` and ``arriving``.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from chat_twisted.core.message import fold
from chat_twisted.text import lines as lines_of
from chat_twisted.ui.arriving import Arrival
from chat_twisted.ui.asking import UserFiles, room_of
from chat_twisted.ui.commanding import Commanding
from chat_twisted.ui.commands import Command, Mistake, Offer, ParsedLine, Say, SwitchTo
from chat_twisted.ui.console import Console, Terminal
from chat_twisted.ui.conversations import is_direct
from chat_twisted.ui.errors import ClientError, Refused
from chat_twisted.ui.following import Following
from chat_twisted.ui.layout import Line, MessageLayout, activity_line
from chat_twisted.ui.outgoing import UNANSWERED_AFTER
from chat_twisted.ui.pages import ConversationPages
from chat_twisted.ui.parsing import parse
from chat_twisted.ui.sending import Sending
from chat_twisted.ui.sentences import explain_login, name_rule, other_name
from chat_twisted.ui.session import ChatSession
from chat_twisted.ui.settings import Memory, Settings
from chat_twisted.ui.turning import Turning
from chat_twisted.ui.values import ALL, Event, Received, Refusal, Seen, conversation_of

MAX_HELD, MAX_HELD_SHOWN = 100, 5
"""Maximum number of typed lines that wait until the user is in the conversation that they are
for, and of those that are shown beside the prompt."""

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
        self._console = Console(user, clock, terminal, settings, memory, timezone, now)
        self._turning = Turning(self._console)
        self._sending = Sending(self._console, self._turning, self._come_back)
        self._following = Following(
            self._console, self._turning, self._sending, lambda: bool(self._turns)
        )
        self._commanding = Commanding(
            self._console, self._turning, self._sending, self._following, files
        )
        self._arrival = Arrival(
            self._console, self._turning, self._following, rooms, self._take_message
        )
        self._offer: tuple[str, Offer] | None = None  # a line with two meanings, and these
        # how many tasks may turn to another conversation; the login is the first
        self._turns = 1
        self._held: list[str] = []  # lines that were typed meanwhile
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
        self._arrival.expect()
        self._console.start(self._while_turning(self._arrival.arrive(), self._console.current))
        self._turns -= 1  # since the start
        self._leave_if_wanted()
        self._console.terminal.refresh()

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
        self._arrival.received(message)

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
        if event.verb == "DELETED":
            self._arrival.forget(event.number)
        self._following.follow(event, hide=self._following.is_hidden(event))
        self._console.terminal.refresh()

    def seen(self, users: list[Seen]) -> None:
        """Called by the session when the presence of users has changed."""
        self._following.seen(users)

    def present(self, users: list[Seen]) -> None:
        """Called by the session with all present users after a reconnect."""
        self._following.present(users)

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
        self._console.start(self._arrival.learn())
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
        self._arrival.show_early()
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
