"""The terminal's view with a real server, in memory: what several users and devices see."""

from __future__ import annotations

import tempfile
from datetime import UTC
from pathlib import Path

from twisted.internet.defer import succeed
from twisted.trial.unittest import TestCase

from chat_twisted.client.identity import Identity
from chat_twisted.client.login import Credentials
from chat_twisted.client.user_files import LocalFiles
from chat_twisted.testing import Chat
from chat_twisted.ui.conversation_view import ConversationView
from chat_twisted.ui.settings import Memory, Settings
from tests.terminal import NOW, Terminal, plain


class Person:
    """Somebody at a terminal.

    :param place: the conversation in which they were last.
    """

    def __init__(self, chat: Chat, user: str, password: str = "", place: str = "") -> None:
        self.terminal = Terminal()
        identity = Identity(Path(tempfile.gettempdir()) / "no such key", own=True)
        identity.password = password
        self.view = ConversationView(
            user,
            LocalFiles(identity),
            chat.reactor,
            self.terminal,
            Settings(),
            Memory(place=place),
            timezone=UTC,
            now=lambda: NOW,
        )
        self.chat = chat
        credentials = Credentials(identity, lambda what: succeed(""))
        self.view.session = chat.session(user, self.view, credentials=credentials)
        chat.settle()

    def type(self, *lines: str) -> list[str]:
        """Type lines; return the new output."""
        for line in lines:
            assert self.view.take(line) == "", line
            self.chat.settle()
        return self.shown()

    def shown(self) -> list[str]:
        """The output since the last call, without dates and times."""
        lines, self.terminal.lines = self.terminal.lines, []
        texts = [plain(line) for line in lines]
        return [text[6:] if text[2:3] == ":" else text for text in texts if " 1970 " not in text]

    def prompt(self) -> str:
        return plain(self.view.prompt())


class TogetherTests(TestCase):
    def setUp(self) -> None:
        self.chat = Chat()
        self.addCleanup(self.chat.close)

    def person(self, user: str, password: str = "", place: str = "") -> Person:
        return Person(self.chat, user, password, place)

    def test_two_users_talk_in_a_room(self) -> None:
        alice, bob = self.person("alice"), self.person("bob")
        alice.type("/join #dev")
        self.assertIn("· In #dev: ~alice", bob.type("/join #dev"))
        alice.shown()
        self.assertEqual(alice.type("hello"), ["[#dev] alice: hello"])
        self.assertEqual(bob.shown(), ["[#dev] ~alice: hello"])
        alice.type("/me waves")
        self.assertEqual(bob.shown(), ["[#dev] * ~alice waves"])

    def test_who_comes_in_sees_what_was_said_and_nothing_twice(self) -> None:
        alice = self.person("alice")
        alice.type("/join #dev", "one", "two")
        bob = self.person("bob")
        bob.shown()
        shown = bob.type("/join #dev")
        self.assertEqual(
            [line for line in shown if line.startswith("[")],
            ["[#dev] ~alice: one", "[#dev] ~alice: two"],
        )
        self.assertEqual(bob.type("@ALL", "#dev"), [])

    def test_reading_on_one_device_clears_the_other(self) -> None:
        phone = self.person("alice", "secret")
        phone.type("/join #dev")
        self.register(phone)
        desk = self.person("alice", "secret", place="ALL")
        bob = self.person("bob")
        bob.type("/join #dev", "the build is red")
        self.assertEqual(desk.prompt(), "[2:#dev] ALL> ")
        self.chat.advance(3)
        self.assertEqual(desk.prompt(), "ALL> ")

    def test_a_user_who_was_away_sees_what_is_new(self) -> None:
        alice = self.person("alice", "secret")
        alice.type("/join #dev", "old")
        self.register(alice)
        self.chat.advance(3)
        alice.type("/quit")
        bob = self.person("bob")
        bob.type("/join #dev", "one", "@alice: two", "#dev: three")
        alice = self.person("alice", "secret", place="#dev")
        shown = alice.shown()
        self.assertEqual(
            shown[-4:],
            ["[#dev] alice: old", "── new ──", "[#dev] ~bob: one", "[#dev] ~bob: three"],
        )
        self.assertIn("· Your rooms: #dev (2 unread)", shown)
        self.assertIn("· Unread: @bob (1)", shown)

    def test_a_user_who_is_removed_is_asked_before_the_next_line_goes_elsewhere(self) -> None:
        alice, bob = self.person("alice"), self.person("bob")
        alice.type("/join #dev")
        bob.type("/join #dev")
        alice.type("/kick bob loud")
        self.assertEqual(bob.prompt(), "ALL> ")
        self.assertEqual(bob.view.take("as I"), "as I")
        self.assertEqual(bob.view.take("as I said"), "as I said", "another line is asked for, too")
        self.assertEqual(bob.view.take("as I said"), "")
        self.chat.settle()
        self.assertIn("[ALL] ~bob: as I said", alice.shown())

    def register(self, person: Person) -> None:
        """Make an account for a user, with a password."""

        async def ask() -> None:
            await person.view.session.ask("ACCOUNT", "register", (), "secret")

        self.chat.run(ask())
