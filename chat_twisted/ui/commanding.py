"""Carries out the commands of a terminal, and shows the answers.

This module must not know how a line is parsed (``commands``), or how a request is made of a command
(``asking``).
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import DeferredLock

from chat_twisted.core.message import fold
from chat_twisted.text import lines as lines_of
from chat_twisted.ui.asking import Answer, Asker, UserFiles, about, agrees
from chat_twisted.ui.commands import Command, Reading
from chat_twisted.ui.console import Console
from chat_twisted.ui.conversations import is_direct
from chat_twisted.ui.errors import IdentityError, NotConnected, Refused
from chat_twisted.ui.following import Following
from chat_twisted.ui.help import help_text
from chat_twisted.ui.layout import guest_marked, room_row, table, tag, user_lines
from chat_twisted.ui.pages import Pages
from chat_twisted.ui.roster import MAX_PRESENT
from chat_twisted.ui.sending import Sending
from chat_twisted.ui.turning import Turning
from chat_twisted.ui.values import Done, Event, Found, Listed, Profile
from chat_twisted.ui.wording import text_of


class Commanding:
    """Carries out commands.

    :param following: gets the events that commands cause, and lists of all rooms.
    :param files: the user's key and files.
    """

    def __init__(
        self,
        console: Console,
        turning: Turning,
        sending: Sending,
        following: Following,
        files: UserFiles,
    ) -> None:
        self._console = console
        self._turning = turning
        self._sending = sending
        self._following = following
        self._files = files
        # the last /history or /search, and its pages
        self._asked_for = Command("/history")
        self._pages: Pages | None = None
        self._reading = DeferredLock()  # one page after the other

    def carry_out(self, command: Command) -> None:
        """Carry out a command."""
        match command:
            case Command("/help", topic):
                width = self._console.terminal.columns()
                for line in help_text(topic, screen=True, width=width).split("\n"):
                    self._console.terminal.show([[("", line)]])
            case Command("/unread"):
                self._show_unread()
            case Command("/view", view):
                self.view_is(view) if view else self.view_is(self.other_view())
            case Command("/mute" | "/unmute", place) if place and not is_direct(place):
                self._mute(place, command.name == "/mute")
            case Command("/bell" | "/notify" | "/hide" | "/unhide" | "/highlight" | "/unhighlight"):
                self._set(command)
            case Command("/numbers", state):
                self._console.layout.numbers = (
                    not self._console.layout.numbers if state is None else state == "on"
                )
                self._console.tell(f"numbers: {'on' if self._console.layout.numbers else 'off'}")
            case Command("/show", number):
                self._console.show_whole(int(number or 0))
            case Command("/clear"):
                self._console.terminal.clear()
            case Command("/again"):
                self._sending.send_again()
            case Command("/drop"):
                self._sending.drop()
            case Command("/ignore" | "/unignore"):
                self._ignore(command)
            case Command("/history" | "/search", reading=Reading() as reading):
                self._console.start(self._read(command, Pages(self._console.session, reading)))
            case Command("/more"):
                self._console.start(self._read(command))
            case Command("/delete", None):
                self._delete_last()
            case Command("/account", "unregister", "erase"):
                question = "Delete all your messages for ever, and give up the account?"
                self._console.start(self._ask_if_agreed(question, command))
            case _:
                self._console.start(self.ask(command))

    async def _ask_if_agreed(self, question: str, command: Command) -> None:
        if await agrees(self._console.terminal, question):
            await self.ask(command)
        else:
            self._console.tell("Nothing is deleted")

    async def ask(self, command: Command) -> None:
        """Ask the server to carry out a command, and show the answer."""
        current = self._console.current
        try:
            answer = await Asker(
                self._console.session, self._console.terminal, self._files
            ).perform(command, current)
        except Refused as problem:
            self._console.refused(command, problem.refusal)
        except IdentityError as problem:
            self._console.complain(str(problem))
        except NotConnected:
            return  # ``lost`` is told why
        else:
            self._answer(command, about(command, current), answer)
        self._console.terminal.refresh()

    async def _read(self, command: Command, pages: Pages | None = None) -> None:
        """Show the next page of the last /history or /search."""
        async with self._reading:
            self._pages = pages or self._pages
            await self._read_page(command)
        self._console.terminal.refresh()

    async def _read_page(self, command: Command) -> None:
        pages = self._pages
        if pages is None or not pages.more:
            self._console.tell(
                "There is nothing more" if pages else "Nothing was read before: /history"
            )
            return
        self._asked_for = command if command.reading is not None else self._asked_for
        try:
            found = await pages.next()
        except Refused as problem:
            self._console.refused(command, problem.refusal)
        except NotConnected:
            return  # ``lost`` is told why
        else:
            self._show_found(self._asked_for, pages, found)

    def _answer(self, command: Command, subject: str, answer: Answer | str) -> None:
        """Show the answer to a command."""
        match answer:
            case str():
                self._console.tell(answer)
            case Done(what, lines):
                self._done(command, what, lines)
            case Event():
                self._following.follow(answer)
                self._follow_own(command, answer)
            case Profile():
                self._console.tell(self._console.words.described(None, answer))
            case list():
                self._show_list(command, subject, answer)

    def _done(self, command: Command, what: str, lines: Sequence[str]) -> None:
        if command.name in ("/away", "/back"):
            self._console.away = (command.first or "") if command.name == "/away" else None
        self._console.tell(self._console.words.changed(None, command, what, lines))

    def _follow_own(self, command: Command, event: Event) -> None:
        """Follow what the user has asked for."""
        own = fold(event.user) == fold(self._console.user)
        if event.verb == "JOINED":
            self._turning.turn_there(self._console.roster.spelling(event.room))
            self._console.start(self._show_members(event.room))
        elif event.verb == "LEFT" and fold(self._console.current) == fold(event.room) and own:
            self._turning.turn_there(self._console.conversations.previous())

    async def _show_members(self, room: str) -> None:
        try:
            members = await self._console.session.members(room)
        except (Refused, NotConnected):
            return  # left again
        others = [seen for seen in members if fold(seen.user) != fold(self._console.user)]
        names = ", ".join(map(guest_marked, others[:MAX_PRESENT])) or "nobody else"
        more = f" and {len(others) - MAX_PRESENT} more" if len(others) > MAX_PRESENT else ""
        self._console.tell(f"In {room}: {names}{more}")

    def _show_list(self, command: Command, subject: str, found: Listed) -> None:
        rows: Sequence[Sequence[str]]
        if command.name == "/who":
            self._console.tell(f"{len(found)} {f'in {subject}' if subject else 'here'}")
            columns = self._console.terminal.columns()
            rows = [(line,) for line in user_lines(found, columns, ranks=bool(subject))]
        elif command.name == "/rooms":
            self._following.know_rooms(found)
            rows = [room_row(room) for room in found] or [("No rooms (/join #name makes one)",)]
        else:
            rows = [(line,) for line in found] or [("Nobody is banned or muted",)]
        self._console.terminal.show([[("", line)] for line in table(rows)])

    def _show_found(self, command: Command, pages: Pages, found: Found) -> None:
        reading = command.reading
        assert reading is not None
        what = " ".join(filter(None, (command.name[1:], reading.place, reading.words)))
        if not pages.shown:
            self._console.tell(f"Nothing found: {what}")
            return
        self._console.mark(f"{pages.describe(len(found.messages))} found: {what}")
        for message in found.messages:
            self._console.show_message(message, f"message {message.number}")
        self._console.mark("now; /more goes on" if pages.more else "now")

    def _show_unread(self) -> None:
        unread = list(self._console.conversations)
        if not unread:
            self._console.tell("Nothing unread")
        for conversation in unread:
            last = ""
            if conversation.newest:
                newest = conversation.newest[-1]
                last = f", the last {newest.sender}: {lines_of(text_of(newest))[0]}"
            self._console.tell(f"{tag(conversation.name)} {conversation.unread} unread{last}")

    def _mute(self, place: str, on: bool) -> None:
        self._console.conversations.mute(place, on)
        state = "not shown, but counted" if on else "shown again"
        self._console.tell(f"{place} is {state}")

    def _set(self, command: Command) -> None:
        """Change a setting, or say how it stands."""
        settings, given = self._console.settings, command.first
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
                self._console.find_mentions()
                state = ", ".join((self._console.user, *settings.highlight))
        self._console.tell(f"{command.name[1:].removeprefix('un')}: {state}")

    def _ignore(self, command: Command) -> None:
        name = command.first or ""
        if not name:
            self._console.tell(f"Ignored: {', '.join(self._console.ignored.values()) or 'nobody'}")
            return
        if command.name == "/ignore":
            self._console.ignored[fold(name)] = name
            self._console.tell(f"{name} is ignored")
        else:
            self._console.ignored.pop(fold(name), None)
            self._console.tell(f"{name} is not ignored any more")
        self._console.memory.remember_ignored(self._console.ignored.values())

    def other_view(self) -> str:
        """Return the view that is not the present one."""
        return "all" if self._console.conversations.view == "current" else "current"

    def view_is(self, view: str) -> None:
        """Show the messages of all conversations, or those of the current one."""
        self._console.conversations.view = view
        self._console.tell(
            "All conversations are shown"
            if view == "all"
            else "Only the current conversation is shown; the others are counted"
        )
        self._console.terminal.refresh()

    def _delete_last(self) -> None:
        number = self._sending.last_own(self._console.current)
        if number is None:
            self._console.complain(
                "There is no message of yours here; /delete NUMBER (/numbers shows them)"
            )
        else:
            self._console.start(self.ask(Command("/delete", str(number))))


def _changed(words: tuple[str, ...], word: str | None, *, add: bool) -> tuple[str, ...]:
    """Return ``words`` with a word, or without it."""
    if word is None:
        return words
    others = tuple(other for other in words if fold(other) != fold(word))
    return (*others, word) if add else others
