"""Earlier messages, page by page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import TestCase

from chat_twisted.ui.commands import Reading
from chat_twisted.ui.layout import MessageLayout
from chat_twisted.ui.pages import ConversationPages, Pages
from chat_twisted.ui.requests import ChatRequests, Headers
from chat_twisted.ui.values import Found, Received

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


def messages(*numbers: int) -> list[Received]:
    return [Received(n, "2026-11-23T10:00:00.123Z", "bob", "#dev", f"m{n}") for n in numbers]


class Requests(ChatRequests):
    """Records requests, and answers each with the next of ``answers``."""

    def __init__(self, *answers: Found) -> None:
        self.asked: list[tuple[str, str, dict[str, object], str | None]] = []
        self.answers = list(answers)

    def ask(
        self, verb: str, argument: str = "", headers: Headers = (), body: str | None = None
    ) -> Deferred[Any]:
        self.asked.append((verb, argument, dict(headers), body))
        return succeed(self.answers.pop(0))


class PagesTests(TestCase):
    def next(self, pages: Pages) -> list[int]:
        found = self.successResultOf(Deferred.fromCoroutine(pages.next()))
        return [message.number for message in found.messages]

    def test_a_history_goes_on_with_older_ones(self) -> None:
        requests = Requests(
            Found(messages(8, 9), more=True, total=1503), Found(messages(7), total=1503)
        )
        pages = Pages(requests, Reading(place="#dev", count=2))
        self.assertEqual(self.next(pages), [8, 9])
        self.assertEqual((pages.more, pages.describe(2)), (True, "2 of 1,503"))
        self.assertEqual(self.next(pages), [7])
        self.assertEqual((pages.more, pages.describe(1)), (False, "3 of 1,503"))
        self.assertEqual(
            requests.asked,
            [
                ("HISTORY", "#dev", {"Count": 2, "Total": "yes"}, None),
                ("HISTORY", "#dev", {"Count": 2, "Total": "yes", "Before": 8}, None),
            ],
        )

    def test_a_history_since_a_time_goes_on_with_newer_ones(self) -> None:
        requests = Requests(Found(messages(3, 4), more=True), Found(messages(5)))
        pages = Pages(requests, Reading(place="ALL", since=MONDAY))
        self.assertEqual([*self.next(pages), *self.next(pages)], [3, 4, 5])
        first, second = (headers for _, _, headers, _ in requests.asked)
        self.assertEqual(first["Since"], "2026-11-23T00:00:00.000Z")
        self.assertEqual((second["After"], "Since" in second), (4, False))

    def test_a_search_leaves_out_what_was_shown(self) -> None:
        requests = Requests(
            Found(messages(3, 9), more=True, total=10_000), Found(messages(1), total=10_000)
        )
        pages = Pages(requests, Reading("deploy", "#dev", "bob", None, MONDAY))
        self.next(pages)
        self.assertEqual(pages.describe(2), "2 of 10,000 or more")
        self.next(pages)
        (_, place, first, words), (_, _, second, _) = requests.asked
        self.assertEqual((place, words, first["From"]), ("#dev", "deploy", "bob"))
        self.assertEqual(first["Until"], "2026-11-23T00:00:00.000Z")
        self.assertEqual(("Skip" in first, second["Skip"]), (False, 2))

    def test_what_is_complete_is_counted_alone(self) -> None:
        pages = Pages(Requests(Found(messages(1, 2), total=2)), Reading(place="ALL"))
        self.next(pages)
        self.assertEqual(pages.describe(2), "2")


class ConversationPagesTests(TestCase):
    def test_a_reader_reads_before_and_after_a_number_and_searches(self) -> None:
        requests = Requests(Found(messages(5)), Found(messages(4)), Found(messages(6)), Found([]))
        pages = ConversationPages(requests, "bob", "alice", lambda: MessageLayout(UTC))
        self.assertEqual(pages.title, "@bob")
        for task in (
            pages.page(),
            pages.page(before=5),
            pages.page(after=5),
            pages.search("word"),
        ):
            self.successResultOf(Deferred.fromCoroutine(task))
        self.assertEqual(
            [
                (verb, headers.get("Before"), headers.get("After"))
                for verb, _, headers, _ in requests.asked
            ],
            [
                ("HISTORY", None, None),
                ("HISTORY", 5, None),
                ("HISTORY", None, 5),
                ("SEARCH", None, None),
            ],
        )

    def test_each_run_of_messages_begins_with_its_date(self) -> None:
        pages = ConversationPages(Requests(), "#dev", "alice", lambda: MessageLayout(UTC))
        for _ in range(2):
            lines = pages.lines(messages(1))
            self.assertEqual(lines[0][0][1], "── Mon 23 Nov 2026 ──")
            self.assertEqual(len(lines), 2)
