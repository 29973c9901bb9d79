"""Queries that read messages for users: missed messages, history, search."""

from __future__ import annotations

import sqlite3

from chat_twisted.core.facts import (
    Deleted,
    Joined,
    Left,
    RoomGone,
    RoomMade,
    UserCame,
    UserGone,
    UserRenamed,
)
from chat_twisted.core.message import PUBLIC, Conversation, Message
from chat_twisted.core.reads import RoomMarker, Span, Times
from chat_twisted.storage import archive, index, lookup, maintenance, tables
from tests import store
from tests.store import ALICE, BOB, CAROL, DEV, NAMES, ArchiveTestCase, write

MADE = RoomMade(DEV, "#dev", False, "", 0, 1)


def joined(room: int, user: int, since: int) -> Joined:
    """A member of a room, who came after those of lower numbers."""
    return Joined(room, user, 0, since, 10 - user)


class MissedTests(ArchiveTestCase):
    def test_it_is_what_one_is_a_party_to(self) -> None:
        self.say(ALICE, BOB, "to bob")
        self.say(BOB, ALICE, "to alice")
        self.say(ALICE, 0, "to all")
        self.say(ALICE, CAROL, "to carol")
        self.assertEqual(self.missed(BOB), ["to bob", "to all"])
        self.assertEqual(self.missed(BOB, own=True), ["to bob", "to alice", "to all"])
        self.assertEqual(self.missed(BOB, 1), ["to all"])

    def test_of_a_room_it_is_what_was_said_while_one_was_a_member(self) -> None:
        self.change(MADE)
        self.say(ALICE, DEV, "1")
        self.change(joined(DEV, BOB, 1))
        self.say(ALICE, DEV, "2")
        self.change(joined(DEV, BOB, 2))  # exists already
        self.change(Left(DEV, BOB, 2))
        self.say(ALICE, DEV, "3")
        self.change(joined(DEV, BOB, 3))
        self.say(ALICE, DEV, "4")
        self.assertEqual(self.missed(BOB), ["2", "4"])
        self.assertEqual(self.missed(CAROL), [])

    def test_it_comes_in_pages(self) -> None:
        self.patch(lookup, "PAGE", 1000)
        for i in range(10):
            self.say(ALICE, BOB, f"{i}" * 400)
        seen, upto = [], 0
        while upto < 10:
            page = lookup.missed(self.cursor, BOB, upto, 10, own=False)
            self.assertLessEqual(len(page.messages), 3)
            seen += [message.text[0] for message in page.messages]
            upto = page.upto
        self.assertEqual(seen, list("0123456789"))

    def test_the_newest_messages_tell_who_has_missed_nothing(self) -> None:
        self.change(MADE, joined(DEV, BOB, 0), joined(DEV, CAROL, 0))
        self.say(ALICE, DEV, "1")
        self.change(Left(DEV, CAROL, 1))
        self.say(BOB, ALICE, "2")
        self.say(ALICE, DEV, "3")
        rooms: dict[int, list[int]] = {ALICE: [], BOB: [DEV], CAROL: []}
        for recent in (0, 1, 2, 3):
            self.patch(lookup, "RECENT", recent)
            found = lookup.recent(self.cursor)
            for user, last in ((ALICE, 3), (BOB, 3), (CAROL, 1)):
                known = max(last, 3 - recent)
                for after in range(4):
                    nothing = found.has_missed_nothing(user, rooms[user], after)
                    self.assertEqual(nothing, after >= known, (recent, user, after))
        self.say(BOB, 0, "4")
        self.assertFalse(lookup.recent(self.cursor).has_missed_nothing(CAROL, [], 3))

    def test_an_older_message_does_not_hide_that_a_user_has_left_a_room_later(self) -> None:
        self.change(MADE, joined(DEV, BOB, 0))
        self.say(ALICE, BOB, "1")
        self.say(ALICE, DEV, "2")
        self.change(Left(DEV, BOB, 2))
        found = lookup.recent(self.cursor)
        self.assertEqual(self.missed(BOB, 1), ["2"])
        self.assertFalse(found.has_missed_nothing(BOB, [], 1))
        self.assertTrue(found.has_missed_nothing(BOB, [], 2))

    def test_nothing_is_no_message_up_to_the_end(self) -> None:
        self.assertEqual(lookup.missed(self.cursor, BOB, 0, 0, own=False), ([], 0))
        self.say(ALICE, CAROL, "x")
        self.assertEqual(lookup.missed(self.cursor, BOB, 0, 1, own=False), ([], 1))

    def test_it_ends_where_it_is_told_to_whatever_is_there(self) -> None:
        for text in "abc":
            self.say(ALICE, BOB, text)
        page = lookup.missed(self.cursor, BOB, 0, 2, own=False)
        self.assertEqual(([m.text for m in page.messages], page.upto), (["a", "b"], 2))

    def test_who_leaves_and_joins_before_anything_is_said_is_a_member(self) -> None:
        self.change(MADE, joined(DEV, BOB, 0), joined(DEV, ALICE, 0))
        self.change(Left(DEV, ALICE, 0))
        self.change(joined(DEV, ALICE, 0))
        self.say(BOB, DEV, "hello")
        self.assertEqual(self.missed(ALICE), ["hello"])
        members = [(room, user) for room, user, *_ in tables.load(self.cursor).members]
        self.assertEqual(members, [(DEV, BOB), (DEV, ALICE)])

    def test_what_was_said_in_a_room_that_is_gone_is_not_lost(self) -> None:
        self.change(MADE, joined(DEV, BOB, 0), joined(DEV, ALICE, 0))
        self.say(BOB, DEV, "hello")
        self.change(Left(DEV, BOB, 1), Left(DEV, ALICE, 1), RoomGone(DEV))
        self.assertEqual(tables.load(self.cursor).rooms, [])
        self.assertEqual(self.missed(ALICE), ["hello"])

    def test_a_reading_goes_through_so_many_messages_at_most(self) -> None:
        self.patch(lookup, "SCAN", 2)
        for text in "abc":
            self.number += 1000  # numbers have gaps
            self.say(BOB, CAROL, text)
        self.say(BOB, ALICE, "d")
        self.assertEqual(lookup.missed(self.cursor, ALICE, 0, 3004, own=False), ([], 2002))
        page = lookup.missed(self.cursor, ALICE, 2002, 3004, own=False)
        self.assertEqual(([m.text for m in page.messages], page.upto), (["d"], 3004))


class HistoryTests(ArchiveTestCase):
    def setUp(self) -> None:
        super().setUp()
        for i in range(1, 7):
            self.say(ALICE, 0 if i != 4 else BOB, str(i), time=i * 1000)

    def test_it_is_cut_by_count_number_and_time_both_ways(self) -> None:
        for bounds, texts in (
            ({}, "12356"),
            ({"limit": 2}, "56"),
            ({"limit": 2, "oldest_first": True}, "12"),
            ({"after": 2, "before": 6}, "35"),
            ({"since": 3000, "until": 5000}, "35"),
            ({"since": 3001, "limit": 1, "oldest_first": True}, "5"),
            ({"until": 4999, "limit": 1}, "3"),
            ({"after": 2, "since": 5000}, "56"),
            ({"before": 1}, ""),
            ({"since": 10**15}, ""),
        ):
            self.assertEqual(
                "".join(self.history(PUBLIC, **{"limit": 10, **bounds})), texts, bounds
            )

    def test_it_says_whether_there_is_more_in_its_direction(self) -> None:
        for limit, more in ((4, True), (5, False), (6, False)):
            self.assertIs(lookup.history(self.cursor, PUBLIC, Span(limit))[1], more)

    def test_a_direct_conversation_is_found_by_both_under_the_others_name(self) -> None:
        self.say(BOB, ALICE, "answer")
        self.assertEqual(self.history(Conversation(ALICE, "bob"), 9), ["4", "answer"])
        self.assertEqual(self.history(Conversation(BOB, "alice"), 9), ["4", "answer"])
        self.assertEqual(self.history(Conversation(CAROL, "bob"), 9), [])

    def test_times_are_found_though_numbers_are_missing(self) -> None:
        self.expire(2, 99)
        self.say(ALICE, 0, "7", time=7000)
        self.number += 5
        self.say(ALICE, 0, "13", time=8000)
        self.assertEqual(self.history(PUBLIC, 9, since=6500), ["7", "13"])
        self.assertEqual(self.history(PUBLIC, 9, until=3000), ["3"])

    def test_every_time_is_found_whatever_numbers_are_missing(self) -> None:
        self.say(ALICE, 0, "7", time=7000)
        self.connection.execute("DELETE FROM message WHERE number IN (1, 2, 4)")
        times = [
            row[0]
            for row in self.connection.execute(
                "SELECT time FROM message WHERE recipient = 0 AND room = 0 ORDER BY number"
            )
        ]
        for since in range(500, 9000, 250):
            for until in range(500, 9000, 250):
                found = lookup.history(self.cursor, PUBLIC, Span(99, since=since, until=until))
                self.assertEqual(
                    [message.time for message in found.messages],
                    [t for t in times if since <= t <= until],
                )

    def test_every_time_is_found_though_the_clock_jumped(self) -> None:
        self.patch(index, "_SLICE", 2)
        said = [(i, 0, i * 1000) for i in range(1, 7) if i != 4]
        for text, to, time in (
            *((7, 0, 10**9), (8, BOB, 10**9 + 5), (9, 0, 7000), (10, BOB, 7100), (11, 0, 7200)),
            *((12, 0, 3500), (13, 0, 3600), (14, 0, 3000), (15, 0, 8000), (16, 0, 8000)),
        ):
            self.say(ALICE, to, str(text), time=time)
            said += [(text, to, time)] if not to else []
        late = Message(17, 3100, ALICE, "alice", 0, 0, "ALL", "17")  # not indexed yet
        write(self.cursor, [late])
        said.append((17, 0, 3100))
        bounds = [0, 1000, 2999, 3000, 3001, 3600, 5000, 7000, 7200, 8000, 9000, 10**9, 10**10]
        for since in bounds:
            for until in bounds:
                texts = [str(text) for text, _, time in said if since <= time <= until]
                for limit in (1, 3, 99):
                    for first, expected in ((True, texts[:limit]), (False, texts[-limit:])):
                        span = Span(limit, since=since, until=until, oldest_first=first, total=True)
                        found, more, total = lookup.history(self.cursor, PUBLIC, span)
                        self.assertEqual([m.text for m in found], expected, span)
                        self.assertEqual(more, len(texts) > limit, span)
                        self.assertEqual(total, len(texts), span)

    def test_reading_costs_what_is_read_however_much_there_is(self) -> None:
        spans = (
            Span(50),
            Span(50, oldest_first=True),
            Span(50, before=500),
            Span(50, since=500_000, oldest_first=True),
            Span(50, until=500_000),
            Span(50, since=0),
        )
        steps: list[list[int]] = []
        for _ in range(2):
            numbers = range(self.number + 1, self.number + 5_001)
            self.number = numbers[-1]
            write(
                self.cursor,
                [Message(n, n * 1000, ALICE, "alice", 0, 0, "ALL", "x") for n in numbers],
            )
            while index.extend(self.cursor, 1000) < self.number:
                pass
            self.connection.commit()
            steps.append([])
            for span in spans:
                count = 0

                def step() -> None:
                    nonlocal count
                    count += 1

                self.connection.set_progress_handler(step, 1)
                lookup.history(self.cursor, PUBLIC, span)
                self.connection.set_progress_handler(None, 0)
                steps[-1].append(count)
        for span, few, many in zip(spans, *steps, strict=True):
            self.assertLess(many, 1.2 * few + 500, span)

    def test_deleted_messages_are_left_out_on_request_and_others_come_instead(self) -> None:
        self.patch(lookup, "DELETED_AT_ONCE", 2)
        for i in range(7, 31):
            self.say(ALICE, 0, str(i), time=i * 1000)
        gone = {5, 6, *range(9, 22), 30}
        self.change(*(Deleted(number, ALICE, 0, 0, ALICE) for number in gone))
        left = [i for i in range(1, 31) if i not in gone and i != 4]
        for low, high in ((0, 31), (8, 23), (9, 21), (5, 29), (22, 25)):
            texts = [str(i) for i in left if low < i < high]
            for limit in (0, 1, 2, 5, 99):
                for bounds in (
                    {"after": low, "before": high},
                    {"since": low * 1000 + 1, "until": high * 1000 - 1},
                ):
                    for first in (True, False):
                        span = Span(limit, **bounds, oldest_first=first, deleted=False)
                        found, more, _ = lookup.history(self.cursor, PUBLIC, span)
                        expected = texts[:limit] if first else texts[len(texts) - limit :]
                        expected = texts if limit > len(texts) else expected
                        self.assertEqual([m.text for m in found], expected, span)
                        self.assertEqual(more, len(texts) > limit, span)

    def test_a_page_without_deleted_messages_is_not_longer(self) -> None:
        self.patch(lookup, "PAGE", 1000)
        for i in range(9):
            self.say(ALICE, BOB, f"{i}" * 400)
            self.say(ALICE, BOB, "x")
            self.change(Deleted(self.number, ALICE, BOB, 0, ALICE))
        with_bob = Conversation(ALICE, "bob")
        texts, more = [], True
        before = None
        while more:
            span = Span(3, before=before, deleted=False)
            found, more, _ = lookup.history(self.cursor, with_bob, span)
            self.assertLessEqual(len(found), 3)
            texts[:0] = [message.text[0] for message in found]
            before = found[0].number
        self.assertEqual("".join(texts), "4012345678")

    def test_of_nothing_there_is_no_history(self) -> None:
        self.connection.execute("DELETE FROM place")
        self.connection.execute("DELETE FROM message")
        self.assertEqual(self.history(PUBLIC, 9, since=5, until=99), [])


class NewestTests(ArchiveTestCase):
    def newest(
        self, user: int, rooms=(), since=0, until=10**9, limit=99, oldest_first=True
    ) -> list[tuple[str, int, int]]:
        times = Times(limit, since, until, oldest_first)
        return [tuple(each) for each in lookup.newest(self.cursor, user, rooms, times)]

    def test_it_is_the_newest_message_of_each_conversation_in_the_order_of_times(self) -> None:
        self.say(ALICE, DEV, "1", time=10)
        self.say(ALICE, BOB, "2", time=90)
        self.say(ALICE, 0, "3", time=30)
        self.say(CAROL, ALICE, "4", time=40)
        self.say(BOB, CAROL, "5", time=50)
        self.say(ALICE, CAROL, "6", time=20)  # the clock was set back
        alices = [("#dev", 1, 10), ("carol", 6, 20), ("ALL", 3, 30), ("Bob", 2, 90)]
        self.assertEqual(self.newest(ALICE, [DEV]), alices)
        self.assertEqual(self.newest(ALICE), alices[1:])
        self.assertEqual(
            self.newest(BOB, [DEV]),
            [("#dev", 1, 10), ("ALL", 3, 30), ("carol", 5, 50), ("alice", 2, 90)],
        )
        for limit in range(5):
            self.assertEqual(self.newest(ALICE, [DEV], limit=limit), alices[:limit])
            last = self.newest(ALICE, [DEV], limit=limit, oldest_first=False)
            self.assertEqual(last, alices[4 - limit :])

    def test_a_conversation_counts_by_its_newest_message_alone(self) -> None:
        for time in (10, 20, 30):
            self.say(ALICE, BOB, "x", time=time)
        self.assertEqual(self.newest(ALICE, until=29), [])
        self.assertEqual(self.newest(ALICE, since=31), [])
        self.assertEqual(self.newest(ALICE, since=30, until=30), [("Bob", 3, 30)])

    def test_deleted_messages_do_not_count(self) -> None:
        self.patch(lookup, "UNREAD_SCAN", 5)
        for number in range(1, 9):
            self.say(ALICE, BOB, "x")
            if number > 4:
                self.change(Deleted(number, ALICE, BOB, 0, ALICE))
        self.assertEqual(self.newest(ALICE), [("Bob", 4, 4)])
        self.assertEqual(self.newest(ALICE, since=5), [])
        self.change(Deleted(4, ALICE, BOB, 0, ALICE))
        self.assertEqual(self.newest(ALICE), [])  # no further than UNREAD_SCAN
        self.say(ALICE, CAROL, "y")
        self.assertEqual(self.newest(ALICE), [("carol", 9, 9)])
        self.expire(8, 99)
        self.assertEqual(self.newest(ALICE), [("carol", 9, 9)])

    def test_a_conversation_has_the_current_name_or_else_the_last_one(self) -> None:
        self.change(UserCame(ALICE, "alice", True, 0, 1))
        self.say(ALICE, BOB, "1")
        self.assertEqual(self.newest(BOB), [("alice", 1, 1)])
        self.change(UserRenamed(ALICE, "Ann"))
        self.assertEqual(self.newest(BOB), [("Ann", 1, 1)])
        self.say(BOB, BOB, "a note")
        self.assertEqual(self.newest(BOB), [("Ann", 1, 1), ("Bob", 2, 2)])
        self.change(UserGone(ALICE, "Ann"))
        self.assertEqual(self.newest(BOB), [("alice", 1, 1), ("Bob", 2, 2)])

    def test_users_who_had_a_name_one_after_the_other_are_one_conversation(self) -> None:
        self.say(ALICE, BOB, "1", time=10)
        self.patch(store, "NAMES", {**NAMES, CAROL: "Alice"})
        self.say(CAROL, BOB, "2", time=20)
        self.assertEqual(self.newest(BOB), [("Alice", 2, 20)])
        self.assertEqual(self.newest(BOB, until=19), [])

    def test_the_cost_is_that_of_the_conversations_however_long_they_are(self) -> None:
        steps: list[int] = []
        for _ in range(2):
            for to in (BOB, CAROL):
                numbers = range(self.number + 1, self.number + 3001)
                self.number = numbers[-1]
                write(
                    self.cursor,
                    [Message(n, n, ALICE, "alice", to, 0, NAMES[to], "x") for n in numbers],
                )
            while index.extend(self.cursor, 1000) < self.number:
                pass
            self.connection.commit()
            count = 0

            def step() -> None:
                nonlocal count
                count += 1

            self.connection.set_progress_handler(step, 1)
            self.assertEqual([name for name, *_ in self.newest(ALICE)], ["Bob", "carol"])
            self.connection.set_progress_handler(None, 0)
            steps.append(count)
        self.assertLess(steps[1], 1.2 * steps[0])
        self.assertLess(steps[1], 1000)


class UnreadTests(ArchiveTestCase):
    def unread(self, user: int, after: str = "", rooms=(), **markers: int) -> dict[str, tuple]:
        page = lookup.unread(self.cursor, user, after, dict(rooms), markers)
        self.more = page.more
        return {key: (marker, number) for key, marker, number in page.conversations}

    def name(self, user: int, name: str) -> None:
        self.change(UserCame(user, name, True, 0, user))

    def test_messages_of_others_after_the_marker_count(self) -> None:
        for i in range(3):
            self.say(ALICE, BOB, f"to bob {i}")
            self.say(BOB, ALICE, "to alice")
            self.say(CAROL, BOB, "from carol")
        self.assertEqual(self.unread(BOB), {"alice": (0, 3), "carol": (0, 3)})
        self.assertEqual(self.unread(BOB, alice=1), {"alice": (1, 2), "carol": (0, 3)})
        self.assertEqual(self.unread(BOB, alice=4, carol=9), {"alice": (4, 1), "carol": (9, 0)})
        self.assertEqual(self.unread(ALICE), {"bob": (0, 3)})
        self.assertEqual(self.unread(CAROL), {})
        self.assertEqual(self.unread(CAROL, nobody=2), {"nobody": (2, 0)})
        self.say(ALICE, ALICE, "a note")
        self.assertEqual(self.unread(ALICE), {"bob": (0, 3)})

    def test_in_rooms_those_since_joining_or_the_marker_count(self) -> None:
        for to in (DEV, 0, DEV, 0, DEV):
            self.say(ALICE, to, "x")
        self.say(BOB, DEV, "own")
        rooms = {"#dev": RoomMarker(DEV, 0, 2)}
        self.assertEqual(self.unread(BOB, rooms=rooms), {"#dev": (0, 2)})
        rooms = {"#dev": RoomMarker(DEV, 5, 5), "all": RoomMarker(0, 2, 2)}
        self.assertEqual(self.unread(BOB, rooms=rooms), {"#dev": (5, 0), "all": (2, 1)})
        self.assertEqual(self.unread(BOB, rooms={"#dev": RoomMarker(DEV, 0, 5)}), {})

    def test_deleted_and_expired_messages_do_not_count(self) -> None:
        for _ in range(4):
            self.say(ALICE, BOB, "x")
        self.change(Deleted(2, ALICE, BOB, 0, ALICE))
        self.assertEqual(self.unread(BOB), {"alice": (0, 3)})
        self.expire(1, 9)
        self.assertEqual(self.unread(BOB), {"alice": (0, 2)})

    def test_counting_has_bounds(self) -> None:
        self.patch(lookup, "MAX_UNREAD", 3)
        self.patch(lookup, "UNREAD_SCAN", 5)
        for _ in range(4):
            self.say(ALICE, BOB, "x")
        self.assertEqual(self.unread(BOB), {"alice": (0, 3)})
        for _ in range(4):
            self.say(BOB, ALICE, "y")
        self.assertEqual(self.unread(BOB), {"alice": (0, 1)})

    def test_pages_have_each_conversation_once(self) -> None:
        markers = {"alice": 1, "nobody": 2, "zoe": 3}
        for user, name in enumerate("fgeabcd", 20):
            message = Message(user, user, user, name, BOB, 0, "Bob", "x")
            self.change(message)
        self.change(Message(30, 30, BOB, "Bob", 50, 0, "c2", "own"))
        self.index()
        rooms = {
            "#dev": RoomMarker(DEV, 4, 4),
            "#x": RoomMarker(8, 0, 4),
            "all": RoomMarker(0, 5, 5),
        }
        whole = self.unread(BOB, rooms=rooms, **markers)
        self.assertEqual(self.more, "")
        self.assertEqual(list(whole), ["#dev", "a", "alice", "all", *"bcdefg", "nobody", "zoe"])
        for size in range(1, 15):
            self.patch(lookup, "UNREAD_PAGE", size)
            found, pages = self.unread(BOB, rooms=rooms, **markers), 1
            while self.more:
                page = self.unread(BOB, self.more, rooms, **markers)
                self.assertFalse(found.keys() & page.keys())
                found |= page
                pages += 1
            self.assertEqual(list(found.items()), list(whole.items()), size)
            self.assertLessEqual(pages, 14 // size + 2)

    def test_a_partner_with_several_names_has_one_conversation(self) -> None:
        self.name(ALICE, "alice")
        self.say(ALICE, BOB, "1")
        self.patch(store, "NAMES", {**NAMES, ALICE: "ann"})
        self.say(ALICE, BOB, "2")
        self.assertEqual(self.unread(BOB), {"alice": (0, 2)})
        self.change(UserRenamed(ALICE, "Ann"))
        self.assertEqual(self.unread(BOB), {"ann": (0, 2)})
        self.assertEqual(self.unread(BOB, "alice"), {"ann": (0, 2)})
        self.assertEqual(self.unread(BOB, alice=1), {"alice": (1, 0), "ann": (1, 1)})
        self.patch(store, "NAMES", {**NAMES, CAROL: "alice"})
        self.name(CAROL, "alice")
        self.say(CAROL, BOB, "3")  # whose name it is now, so the marker may be about these
        self.assertEqual(self.unread(BOB, alice=1), {"alice": (1, 1), "ann": (0, 2)})

    def test_what_was_read_under_a_name_without_messages_is_read(self) -> None:
        self.name(ALICE, "alice")
        self.say(ALICE, BOB, "1")
        self.change(UserRenamed(ALICE, "Ann"))
        self.assertEqual(self.unread(BOB, ann=1), {"alice": (1, 0), "ann": (1, 0)})
        self.patch(store, "NAMES", {**NAMES, CAROL: "ann"})
        self.say(CAROL, BOB, "2")  # as Ann before, so the marker may be about this
        self.assertEqual(self.unread(BOB, ann=2), {"alice": (0, 1), "ann": (2, 0)})

    def test_users_who_had_a_name_one_after_the_other_have_one_line(self) -> None:
        self.say(ALICE, BOB, "1")
        self.patch(store, "NAMES", {**NAMES, CAROL: "Alice"})
        self.say(CAROL, BOB, "2")
        self.assertEqual(self.unread(BOB), {"alice": (0, 2)})
        self.assertEqual(self.unread(BOB, alice=1), {"alice": (1, 1)})

    def test_the_cost_is_that_of_the_unread_messages(self) -> None:
        steps: list[int] = []
        for _ in range(2):
            numbers = range(self.number + 1, self.number + 3001)
            self.number = numbers[-1]
            write(
                self.cursor,
                [
                    Message(n, n, ALICE, "alice", BOB if n % 2 else 0, 0, "Bob", "x")
                    for n in numbers
                ],
            )
            while index.extend(self.cursor, 1000) < self.number:
                pass
            steps.append(0)

            def step() -> None:
                steps[-1] += 1

            self.connection.set_progress_handler(step, 1)
            found = self.unread(BOB, alice=self.number - 400)
            self.connection.set_progress_handler(None, 0)
            self.assertEqual(found, {"alice": (self.number - 400, 200)})
        self.assertLess(steps[1], 1.2 * steps[0] + 500)


class SearchTests(ArchiveTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.say(ALICE, 0, "red wine and bread")
        self.say(ALICE, BOB, "Red tea, résumé")
        self.say(BOB, CAROL, "red herring")
        self.say(BOB, DEV, "red room")

    def test_all_words_must_be_there_whatever_their_case_and_accents(self) -> None:
        self.assertEqual(self.search("WINE red"), ["red wine and bread"])
        self.assertEqual(self.search("resume"), ["Red tea, résumé"])
        self.assertEqual(self.search("wine tea"), [])

    def test_only_what_one_may_read_is_found(self) -> None:
        self.assertEqual(len(self.search("red")), 2)
        self.assertEqual(len(self.search("red", CAROL)), 2)
        self.assertEqual(len(self.search("red", ALICE, rooms=[DEV])), 3)
        self.assertEqual(
            self.search("red", ALICE, conversation=Conversation(ALICE, "bob")), ["Red tea, résumé"]
        )
        self.assertEqual(
            self.search("red", BOB, conversation=Conversation(BOB, "alice")), ["Red tea, résumé"]
        )
        self.assertEqual(self.search("red", CAROL, conversation=Conversation(CAROL, "alice")), [])
        self.assertEqual(self.search("red", ALICE, conversation=PUBLIC), ["red wine and bread"])
        self.assertEqual(
            self.search("red", ALICE, conversation=Conversation(DEV, "")), ["red room"]
        )

    def test_the_best_come_first(self) -> None:
        self.say(ALICE, 0, "wine " + "and other words " * 20)
        self.say(ALICE, 0, "wine wine wine")
        self.assertEqual(self.search("wine")[0], "wine wine wine")

    def test_among_equals_the_newest_come_first(self) -> None:
        for _ in range(5):
            self.say(ALICE, 0, "apple")
        numbers = [message.number for message in self.find("apple").messages]
        self.assertEqual(numbers, sorted(numbers, reverse=True))

    def test_whatever_is_typed_is_words(self) -> None:
        for query in (
            '"red wine',
            "red AND",
            "(red",
            "red)",
            "foo:red",
            "*",
            "-",
            '"',
            "😀",
            "NOT",
        ):
            self.search(query)  # no error
        self.say(ALICE, 0, "wine and tea AND milk")
        self.assertEqual(self.search("tea AND"), ["wine and tea AND milk"])
        self.assertEqual(self.search('"red wine'), ["red wine and bread"])
        self.assertEqual(self.search("résumé,"), ["Red tea, résumé"])

    def test_a_word_is_a_prefix_with_a_star_or_if_nothing_else_is_found(self) -> None:
        self.say(ALICE, 0, "deployed again")
        self.say(ALICE, 0, "deployment failed")
        self.assertEqual(len(self.search("deplo*")), 2)
        self.assertEqual(len(self.search("deplo")), 2)
        self.assertEqual(self.search("deplo fail"), ["deployment failed"])
        self.say(ALICE, 0, "deplo")
        self.assertEqual(self.search("deplo"), ["deplo"])
        self.assertEqual(self.search("deplo", skip=1), [])  # there was something else
        self.assertEqual(self.search('"deployme"'), [])
        self.assertEqual(self.search("d"), [])

    def test_words_are_found_in_texts_without_blanks(self) -> None:
        texts = (
            "東京都庁に行きました",
            "このサーバーを再起動する",
            "서울에서 만나요",
            "我们明天部署node.js新版本",
        )
        for text in texts:
            self.say(ALICE, 0, text)
        for query, number in (
            *(
                ("東京", 0),
                ("京都", 0),
                ("都庁", 0),
                ("庁", 0),
                ("東", 0),
                ("た", 0),
                ("行きまし", 0),
            ),
            *(
                ("サーバー", 1),
                ("再起動", 1),
                ("서울", 2),
                ("만나", 2),
                ("部署", 3),
                ("明天 部署", 3),
            ),
            *(("node", 3), ("NODE.JS", 3), ("部署node.js", 3), ("版本", 3), ("本", 3)),
        ):
            self.assertEqual(self.search(query), [texts[number]], query)
        for query in ("京東", "都京", "明部"):
            self.assertEqual(self.search(query), [], query)

    def test_names_with_marks_are_found_as_typed(self) -> None:
        texts = ("I like C++, really", "C# is sharp", "c is old", "node.js", "to foo@example.org")
        for text in texts:
            self.say(ALICE, 0, text)
        for query, found in (
            ("C++", texts[:1]),
            ("c++", texts[:1]),
            ("C#", texts[1:2]),
            ("c", texts[2::-1]),
            ("node.js", texts[3:4]),
            ("foo@example.org", texts[4:]),
            ("@example.org", texts[4:]),
            ("#sharp", texts[1:2]),
        ):
            self.assertEqual(sorted(self.search(query)), sorted(found), query)

    def test_more_hits_than_are_ranked_at_once_are_gone_through_in_portions(self) -> None:
        self.patch(lookup, "MAX_RANKED", 2)
        for i in range(7):
            self.say(BOB, 0 if i < 2 else CAROL, f"apple {i}")
        self.assertEqual(sorted(self.search("apple")), ["apple 0", "apple 1"])

    def test_a_query_never_asks_fts5_about_itself(self) -> None:
        self.say(ALICE, 0, "an id that reads well")
        for query in ("*id", "*reads", "*well"):
            self.assertEqual(self.search(query), ["an id that reads well"], query)

    def test_functions_of_fts5_are_words_too(self) -> None:
        self.say(ALICE, 0, "NEAR a b c")
        self.assertEqual(self.search("NEAR(a b, c)"), ["NEAR a b c"])
        self.assertEqual(self.search("-near +a"), ["NEAR a b c"])

    def test_a_fault_of_the_file_is_not_hidden(self) -> None:
        self.connection.execute("DROP TABLE message")
        with self.assertRaises(sqlite3.OperationalError):
            self.search("red")

    def test_there_are_so_many_at_most(self) -> None:
        self.assertEqual(len(self.search("red", rooms=[DEV], limit=2)), 2)

    def test_pages_follow_each_other(self) -> None:
        for portion in (3, lookup.MAX_RANKED):
            self.patch(lookup, "MAX_RANKED", portion)
            for limit in (1, 2, 3, 50):
                pages, skip, more = [], 0, True
                while more:
                    page = self.find("red", rooms=[DEV], limit=limit, skip=skip, total=True)
                    self.assertEqual(page.total, 3)
                    self.assertLessEqual(len(page.messages), limit)
                    pages += [message.number for message in page.messages]
                    skip, more = skip + len(page.messages), page.more
                self.assertEqual(sorted(pages), [1, 2, 4], (portion, limit))
        self.assertEqual(self.find("red", skip=9, total=True), ([], False, 2))
        self.assertEqual(self.find("red", limit=0, total=True), ([], True, 2))
        self.assertEqual(self.find("nowhere", total=True), ([], False, 0))
        self.assertIsNone(self.find("red").total)

    def test_there_is_no_more_than_can_be_skipped(self) -> None:
        self.patch(lookup, "MAX_SKIP", 2)
        for i in range(5):
            self.say(ALICE, 0, f"apple {i}")
        self.assertTrue(self.find("apple", limit=2).more)
        self.assertTrue(self.find("apple", limit=1, skip=1).more)
        self.assertFalse(self.find("apple", limit=2, skip=2).more)

    def test_it_is_counted_up_to_a_bound(self) -> None:
        self.patch(lookup, "MAX_TOTAL", 3)
        for i in range(5):
            self.say(ALICE, 0, f"apple {i}")
        for limit in (1, 2, 4, 5, 9):
            self.assertEqual(self.find("apple", limit=limit, total=True).total, 3)
        span = Span(1, total=True)
        self.assertEqual(lookup.history(self.cursor, PUBLIC, span).total, 3)

    def test_those_of_one_author_are_found_under_the_name_and_by_the_number(self) -> None:
        self.say(BOB, 0, "red bread")
        self.assertEqual(self.search("red", author=("bob", 0)), ["red bread"])
        self.assertEqual(self.search("red", author=("bobby", BOB)), ["red bread"])
        self.assertEqual(self.search("red", author=("nobody", 0)), [])
        self.assertEqual(self.find("red", author=("alice", ALICE), total=True).total, 2)
        self.assertEqual(
            self.search("red", conversation=PUBLIC, author=("bob", BOB)), ["red bread"]
        )

    def test_those_of_a_time_are_found_though_the_clock_jumped(self) -> None:
        self.patch(index, "_SLICE", 2)
        times = [5000, 6000, 7000, 10**9, 7100, 7200, 5500, 8000, 8000]
        for time in times:
            self.say(BOB, 0, f"apple {time}", time=time)
        for since in (None, 0, 5000, 5001, 7000, 8000, 10**9, 10**10):
            for until in (None, 0, 5000, 6999, 7100, 8000, 10**9):
                expected = [
                    f"apple {time}"
                    for time in times
                    if (since is None or since <= time) and (until is None or time <= until)
                ]
                found = self.find("apple", since=since, until=until, limit=20, total=True)
                self.assertEqual(
                    sorted(message.text for message in found.messages), sorted(expected)
                )
                self.assertEqual(found.total, len(expected))

    def test_deleted_texts_are_neither_found_nor_counted(self) -> None:
        for text in ("red tea", "東京 C++ red", "red"):
            self.say(ALICE, 0, text)
        number = self.number - 1
        self.change(Deleted(number, ALICE, 0, 0, ALICE))
        self.assertEqual(self.find("red", total=True).total, 4)
        self.assertEqual(self.search("東京"), [])
        archive.forget_deletions(self.cursor, index.remove_texts(self.cursor, 10))
        self.connection.commit()
        self.cursor.execute("SELECT count(*) FROM words WHERE words MATCH ?", ('"東京"',))
        self.assertEqual(self.cursor.fetchone(), (0,))
        self.cursor.execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 0)")
        self.assertEqual(maintenance.check(self.folder / archive.FILE), [])

    def test_texts_that_expire_leave_the_index_as_they_came(self) -> None:
        self.patch(index, "_REWRITTEN", 2)
        for i in range(7):
            self.say(ALICE, 0, f"東京都 C++ {i}" if i % 3 else f"plain {i}")
        self.say(ALICE, 0, "last")
        self.assertTrue(self.expire(self.number - 1, 100))
        for word in ("東京", "都", "c", "plain"):
            self.cursor.execute("SELECT count(*) FROM words WHERE words MATCH ?", (f'"{word}"',))
            self.assertEqual(self.cursor.fetchone(), (0,), word)
        self.assertEqual(maintenance.check(self.folder / archive.FILE), [])

    def test_what_is_not_indexed_yet_is_not_there(self) -> None:
        message = Message(99, 99, ALICE, "alice", 0, 0, "ALL", "red late", None)
        write(self.cursor, [message])
        self.assertEqual(self.search("late"), [])
        self.index()
        self.assertEqual(self.search("late"), ["red late"])
