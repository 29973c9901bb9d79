"""Carrying out commands with a session, and the questions that they need."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import TestCase

from chat_twisted.ui.asking import Asker, about, agrees
from chat_twisted.ui.commands import Command, Reading
from chat_twisted.ui.errors import IdentityError
from chat_twisted.ui.requests import ChatRequests, Headers
from chat_twisted.ui.values import Done


class Session(ChatRequests):
    """A session that records requests without their empty parts; it answers what a test sets."""

    def __init__(self) -> None:
        self.requests: list[tuple[object, ...]] = []
        self.answer: Deferred[Any] = Deferred()

    def ask(
        self, verb: str, argument: str = "", headers: Headers = (), body: str | None = None
    ) -> Deferred[Any]:
        request = [verb, argument, headers, body]
        while request[-1] in ("", (), None):
            request.pop()
        self.requests.append(tuple(request))
        return self.answer


class Files:
    """The user's key and files."""

    password = ""

    def public(self) -> str:
        return "ssh-ed25519 MINE"

    def read_key(self, given: str) -> str:
        return f"ssh-ed25519 {given}"

    async def export(self, session: ChatRequests, name: str) -> str:
        return f"saved in {name}"


class AskingTests(TestCase):
    def setUp(self) -> None:
        self.session = Session()
        self.files = Files()
        self.answers: list[str] = []  # of the user
        self.questions: list[tuple[str, bool]] = []

    def ask(self, what: str, *, secret: bool) -> Deferred[str]:
        self.questions.append((what, secret))
        return succeed(self.answers.pop(0))

    def perform(self, command: Command, current: str = "ALL") -> Deferred[Any]:
        asker = Asker(self.session, self, self.files)
        return Deferred.fromCoroutine(asker.perform(command, current))

    def requests(self, command: Command, current: str = "ALL") -> list[tuple[object, ...]]:
        """Carry out a command; return its requests."""
        self.session = Session()
        self.perform(command, current)
        return self.session.requests

    def test_requests_in_rooms_and_of_names_and_messages(self) -> None:
        for command, request in (
            (Command("/nick", "bobby"), ("RENAME", "bobby")),
            (Command("/delete", "42"), ("DELETE", "", (("Message", 42),))),
            (
                Command("/op", "bob", None, "#a"),
                ("RANK", "#a", (("User", "bob"), ("Rank", "operator"))),
            ),
            (
                Command("/voice", "bob", None, "#a"),
                ("RANK", "#a", (("User", "bob"), ("Rank", "voice"))),
            ),
            (
                Command("/deop", "bob", None, "#a"),
                ("RANK", "#a", (("User", "bob"), ("Rank", "none"))),
            ),
            (Command("/mode", None, None, "#a"), ("MODE", "#a")),
            (
                Command("/mode", "topic", None, "#a"),
                ("MODE", "#a", (("Mode", "topic"), ("On", "yes"))),
            ),
            (
                Command("/mode", "topic", "off", "#a"),
                ("MODE", "#a", (("Mode", "topic"), ("On", "no"))),
            ),
            (
                Command("/ban", "bob", "spam", "#a"),
                ("BAN", "#a", (("User", "bob"),), "spam"),
            ),
            (Command("/unban", "bob", None, "#a"), ("UNBAN", "#a", (("User", "bob"),))),
            (Command("/kick", "bob", "loud", "#a"), ("KICK", "#a", (("User", "bob"),), "loud")),
            (Command("/bans", None, None, "#a"), ("BAN", "#a")),
            (Command("/leave", "#a", "so long"), ("LEAVE", "#a", (), "so long")),
            (Command("/who", "#a"), ("WHO", "#a", (("Ranks", "yes"), ("Identities", "yes")))),
            (
                Command("/account", "unregister", "erase"),
                ("ACCOUNT", "unregister", (("Erase", "yes"),)),
            ),
        ):
            self.assertEqual(self.requests(command), [request])

    def test_a_number_without_a_unit_belongs_to_the_reason(self) -> None:
        for given, request in (
            ("3 strikes", ("BAN", "bob", (), "3 strikes")),
            ("3d too loud", ("BAN", "bob", (("Duration", "3d"),), "too loud")),
            ("3d", ("BAN", "bob", (("Duration", "3d"),))),
        ):
            self.assertEqual(self.requests(Command("/ban", "bob", given)), [request])

    def test_a_room_to_join_needs_no_sign(self) -> None:
        self.assertEqual(self.requests(Command("/join", "dev")), [("JOIN", "#dev")])

    def test_an_answer_names_the_subject_of_its_request(self) -> None:
        for command, subject in (
            (Command("/history"), "#dev"),
            (Command("/history", "@bob"), "bob"),
            (Command("/search", "wine"), ""),
            (Command("/away", "lunch"), ""),
            (Command("/kick", "bob", None, "#x"), "#x"),
            (Command("/kick", "bob"), "bob"),
            (Command("/mode", "private", None, "#x"), "#x"),
            (Command("/who", "#x"), "#x"),
            (Command("/who"), ""),
        ):
            self.assertEqual(about(command, "#dev"), subject)

    def test_history_is_of_the_conversation_that_one_is_in_if_it_does_not_say(self) -> None:
        for reading, current, place, count in (
            (Reading(), "#dev", "#dev", 20),
            (Reading(count=3), "bob", "bob", 3),
            (Reading(place="carol"), "bob", "carol", 20),
            (Reading(), "ALL", "ALL", 20),
        ):
            headers = (("Count", count), ("Total", "yes"))
            self.assertEqual(
                self.requests(Command("/history", reading=reading), current),
                [("HISTORY", place, headers)],
            )

    def test_a_search_is_of_all_conversations_if_it_does_not_say(self) -> None:
        for reading, place, more in (
            (Reading("red wine"), "", ()),
            (Reading("red wine", place="#dev", author="bob"), "#dev", (("From", "bob"),)),
        ):
            headers = (("Count", 20), ("Total", "yes"), *more)
            self.assertEqual(
                self.requests(Command("/search", reading=reading), "#ops"),
                [("SEARCH", place, headers, "red wine")],
            )

    def test_being_away_has_a_reason_or_none(self) -> None:
        for command, request, done in (
            (Command("/away", "lunch"), ("STATUS", "away", (), "lunch"), "away"),
            (Command("/away"), ("STATUS", "away"), "away"),
            (Command("/back"), ("STATUS", "here"), "here"),
        ):
            self.session = Session()
            performed = self.perform(command)
            self.assertEqual(self.session.requests, [request])
            self.session.answer.callback(Done(done))
            self.assertEqual(self.successResultOf(performed), Done(done))

    def test_commands_of_the_client_alone_are_not_sent_to_the_server(self) -> None:
        for name in ("/quit", "/help", "/ignore", "/bell", "/unread", "/view"):
            self.failureResultOf(self.perform(Command(name)), ValueError)
        self.assertEqual(self.session.requests, [])

    def test_an_account_gets_the_users_key_or_one_that_is_named(self) -> None:
        for command, request in (
            (Command("/register"), ("ACCOUNT", "register", (("Key", "ssh-ed25519 MINE"),))),
            (Command("/keys"), ("ACCOUNT", "keys")),
            (Command("/keys", "add", "x.pub"), ("ACCOUNT", "add", (("Key", "ssh-ed25519 x.pub"),))),
            (Command("/keys", "remove", "k"), ("ACCOUNT", "remove", (("Key", "k"),))),
        ):
            self.assertEqual(self.requests(command), [request])

    def test_a_password_is_asked_for_twice_and_kept(self) -> None:
        self.answers = ["hunter22", "hunter22"]
        self.assertEqual(
            self.requests(Command("/password")), [("ACCOUNT", "password", (), "hunter22")]
        )
        self.assertEqual(self.questions, [("New password: ", True), ("Again: ", True)])
        self.assertEqual(self.files.password, "hunter22")

    def test_without_a_password_or_with_two_nothing_is_sent(self) -> None:
        for answers in ([""], ["one", "two"]):
            self.answers = answers
            self.failureResultOf(self.perform(Command("/password")), IdentityError)
        self.assertEqual((self.session.requests, self.files.password), ([], ""))

    def test_an_export_is_the_work_of_the_files(self) -> None:
        exported = self.perform(Command("/account", "export", "said"))
        self.assertEqual(self.successResultOf(exported), "saved in said")

    def test_only_yes_is_an_agreement(self) -> None:
        for answer, agreed in (("y", True), (" YES ", True), ("", False), ("n", False)):
            self.answers = [answer]
            asked = Deferred.fromCoroutine(agrees(self, "Really?"))
            self.assertEqual(self.successResultOf(asked), agreed)
        self.assertEqual(self.questions[0], ("Really? [y/N] ", False))
