"""The archive: opening, migrating, writing, queries, and its command."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted import admin as command
from chat_twisted.core.facts import Joined, Left, RoomGone, RoomMade
from chat_twisted.core.message import PUBLIC, Conversation, Message
from chat_twisted.core.reads import Span
from chat_twisted.core.snapshot import load
from chat_twisted.files import FilesError, InUse
from chat_twisted.storage import archive, index, maintenance, tables, upgrade
from chat_twisted.text import printable
from tests.store import ALICE, BOB, CAROL, DEV, ArchiveTestCase, write

SCHEMA = Path(archive.__file__).parent / "schema"
NEWEST = max(int(step.stem) for step in SCHEMA.iterdir() if step.stem.isdigit())


MADE = RoomMade(DEV, "#dev", False, "", 0, 1)


def joined(room: int, user: int, since: int) -> Joined:
    """A member of a room, who came after those of lower numbers."""
    return Joined(room, user, 0, since, 10 - user)


class OpeningTests(ArchiveTestCase):
    def fails(self, text: str, folder: Path | None = None, **options) -> None:
        with self.assertRaises(FilesError) as caught:
            archive.prepare(folder or self.folder, **options)
        self.assertIn(text, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def steps(self, further: str = "") -> Path:
        """The steps of the schema, and optionally one more."""
        folder = self.folder / "steps"
        shutil.copytree(SCHEMA, folder, dirs_exist_ok=True)
        if further:
            (folder / f"{NEWEST + 1}.sql").write_text(further)
        return folder

    def test_the_file_is_for_its_owner_alone_and_in_wal_mode(self) -> None:
        path = self.folder / archive.FILE
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.cursor.execute("PRAGMA journal_mode").fetchone(), ("wal",))

    def test_a_folder_is_locked_for_one(self) -> None:
        first = archive.lock(self.folder)
        with self.assertRaisesRegex(InUse, r"another server uses it \(it is starting"):
            archive.lock(self.folder)
        first.write()
        with self.assertRaisesRegex(InUse, rf"uses it \(process {os.getpid()}\)"):
            archive.lock(self.folder)
        first.close()  # as after SIGKILL: the number stays
        second = archive.lock(self.folder)
        self.assertEqual((self.folder / archive.LOCK).read_text(), "")
        second.close()

    def test_a_file_of_the_version_before_is_brought_up_to_date_with_what_it_holds(self) -> None:
        self.say(ALICE, BOB, "kept")
        steps = self.steps("ALTER TABLE user ADD COLUMN colour TEXT;")
        opened = archive.prepare(self.folder, schema=steps)
        self.assertEqual((opened.snapshot.progress.number, self.missed(BOB)), (1, ["kept"]))
        self.cursor.execute("SELECT colour FROM user")
        self.assertEqual(self.cursor.execute("PRAGMA user_version").fetchone(), (NEWEST + 1,))

    def test_a_file_of_the_first_version_keeps_its_users_and_members(self) -> None:
        path = self.folder / "first"
        path.mkdir()
        steps = self.steps()
        for step in range(2, NEWEST + 1):
            (steps / f"{step}.sql").unlink()
        connection = archive.connect(path / archive.FILE)
        upgrade.migrate(connection, steps)
        for statement in (
            "INSERT INTO user VALUES (2, 'Bob', x'01', 3, 4)",
            "INSERT INTO room VALUES (9, '#dev', '', 0, 2)",
            "INSERT INTO member VALUES (9, 2, 3, NULL)",
            "INSERT INTO message VALUES (1, 5, 2, 'Bob', 0, 9, '#dev', 'an old word', '7')",
            "INSERT INTO place VALUES (9, '', 1)",
            "INSERT INTO words (rowid, text) VALUES (1, 'an old word')",
            "UPDATE progress SET indexed = 1",
        ):
            connection.execute(statement)
        connection.commit()
        state = load(archive.prepare(path).snapshot)
        bob = state.users[BOB]
        self.assertEqual(
            (bob.name, list(bob.tokens), bob.since, bob.cursor), ("Bob", [b"\1"], 3, 4)
        )
        self.assertEqual(list(state.rooms[DEV].members), [BOB])
        index.attach(connection, path)
        self.cursor = connection.cursor()
        self.assertEqual(self.history(Conversation(DEV, ""), 9), ["an old word"])
        self.assertEqual(self.search("word", rooms=[DEV]), ["an old word"])
        self.assertEqual([key for key, _ in bob.remembered(5)], ["7"])
        connection.close()

    def test_a_step_that_fails_leaves_the_file_as_it_was(self) -> None:
        self.say(ALICE, BOB, "kept")
        steps = self.steps("ALTER TABLE user ADD COLUMN colour TEXT; DROP TABLE absent;")
        self.fails("no such table: absent", schema=steps)
        self.assertEqual(self.cursor.execute("PRAGMA user_version").fetchone(), (NEWEST,))
        with self.assertRaises(sqlite3.OperationalError):
            self.cursor.execute("SELECT colour FROM user")
        self.assertEqual(archive.prepare(self.folder).snapshot.progress.number, 1)

    def test_a_newer_schema_is_refused(self) -> None:
        self.connection.execute("PRAGMA user_version = 99")
        self.fails(f"made by a newer version of the server (schema 99, this one knows {NEWEST})")

    def test_what_is_no_archive_is_refused(self) -> None:
        other = self.folder / "other"
        other.mkdir()
        (other / archive.FILE).write_text("a letter to my aunt. " * 100)
        self.fails("file is not a database", other)
        os.unlink(other / archive.FILE)
        (other / archive.FILE).mkdir()
        self.fails("Is a directory", other)

    def test_a_corrupt_file_is_refused(self) -> None:
        for i in range(200):
            self.say(ALICE, 0, f"text {i} " * 20)
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.connection.close()
        path = self.folder / archive.FILE
        data = bytearray(path.read_bytes())
        data[100:4096] = b"\xff" * 3996
        path.write_bytes(data)
        self.fails("chat.sqlite: database disk image is malformed")

    def test_a_file_that_can_not_be_written_is_refused(self) -> None:
        connect = archive.connect

        def read_only(path: Path, **options) -> sqlite3.Connection:
            connection = connect(path, **options)
            connection.execute("PRAGMA query_only = 1")
            return connection

        self.patch(archive, "connect", read_only)
        self.fails("readonly database")


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
        self.patch(archive, "PAGE", 1000)
        for i in range(10):
            self.say(ALICE, BOB, f"{i}" * 400)
        seen, upto = [], 0
        while upto < 10:
            page = archive.missed(self.cursor, BOB, upto, 10, own=False)
            self.assertLessEqual(len(page.messages), 3)
            seen += [message.text[0] for message in page.messages]
            upto = page.upto
        self.assertEqual(seen, list("0123456789"))

    def test_nothing_is_no_message_up_to_the_end(self) -> None:
        self.assertEqual(archive.missed(self.cursor, BOB, 0, 0, own=False), ([], 0))
        self.say(ALICE, CAROL, "x")
        self.assertEqual(archive.missed(self.cursor, BOB, 0, 1, own=False), ([], 1))

    def test_it_ends_where_it_is_told_to_whatever_is_there(self) -> None:
        for text in "abc":
            self.say(ALICE, BOB, text)
        page = archive.missed(self.cursor, BOB, 0, 2, own=False)
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
        self.patch(archive, "SCAN", 2)
        for text in "abc":
            self.number += 1000  # numbers have gaps
            self.say(BOB, CAROL, text)
        self.say(BOB, ALICE, "d")
        self.assertEqual(archive.missed(self.cursor, ALICE, 0, 3004, own=False), ([], 2002))
        page = archive.missed(self.cursor, ALICE, 2002, 3004, own=False)
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
            self.assertIs(archive.history(self.cursor, PUBLIC, Span(limit))[1], more)

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
                found, _ = archive.history(self.cursor, PUBLIC, Span(99, since=since, until=until))
                self.assertEqual(
                    [message.time for message in found], [t for t in times if since <= t <= until]
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
                        span = Span(limit, since=since, until=until, oldest_first=first)
                        found, more = archive.history(self.cursor, PUBLIC, span)
                        self.assertEqual([m.text for m in found], expected, span)
                        self.assertEqual(more, len(texts) > limit, span)

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
                archive.history(self.cursor, PUBLIC, span)
                self.connection.set_progress_handler(None, 0)
                steps[-1].append(count)
        for span, few, many in zip(spans, *steps, strict=True):
            self.assertLess(many, 1.2 * few + 500, span)

    def test_of_nothing_there_is_no_history(self) -> None:
        self.connection.execute("DELETE FROM place")
        self.connection.execute("DELETE FROM message")
        self.assertEqual(self.history(PUBLIC, 9, since=5, until=99), [])


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

    def test_what_can_not_be_parsed_is_searched_as_plain_words(self) -> None:
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
        self.assertEqual(self.search("wine AND"), ["red wine and bread"])
        self.assertEqual(self.search('"red wine'), ["red wine and bread"])
        self.assertEqual(self.search("tea,"), ["Red tea, résumé"])
        self.assertEqual(self.search("win*"), ["red wine and bread"])

    def test_more_hits_than_are_ranked_at_once_are_gone_through_in_portions(self) -> None:
        self.patch(archive, "MAX_RANKED", 2)
        for i in range(7):
            self.say(BOB, 0 if i < 2 else CAROL, f"apple {i}")
        self.assertEqual(sorted(self.search("apple")), ["apple 0", "apple 1"])

    def test_a_query_never_asks_fts5_about_itself(self) -> None:
        self.say(ALICE, 0, "an id that reads well")
        for query in ("*id", "*reads", "*well"):
            self.assertEqual(self.search(query), ["an id that reads well"], query)

    def test_what_is_refused_with_other_words_is_searched_as_plain_words_too(self) -> None:
        self.say(ALICE, 0, "NEAR a b c")
        self.assertEqual(self.search("NEAR(a b, c)"), ["NEAR a b c"])
        self.assertEqual(self.search("-near +a"), ["NEAR a b c"])

    def test_a_fault_of_the_file_is_not_hidden(self) -> None:
        self.connection.execute("DROP TABLE message")
        with self.assertRaises(sqlite3.OperationalError):
            self.search("red")

    def test_there_are_so_many_at_most(self) -> None:
        self.assertEqual(len(archive.search(self.cursor, ALICE, [DEV], None, "red", 2)), 2)

    def test_what_is_not_indexed_yet_is_not_there(self) -> None:
        message = Message(99, 99, ALICE, "alice", 0, 0, "ALL", "red late", None)
        write(self.cursor, [message])
        self.assertEqual(self.search("late"), [])
        self.index()
        self.assertEqual(self.search("late"), ["red late"])


class TidyingTests(ArchiveTestCase):
    def test_what_is_old_is_deleted_everywhere_but_the_newest_message(self) -> None:
        for i in range(5):
            self.say(ALICE, 0, f"word {i}", id=str(i))
        self.assertTrue(self.expire(10**15, 3))
        self.assertTrue(self.expire(10**15, 3))
        self.assertFalse(self.expire(10**15, 3))
        self.assertEqual(self.history(PUBLIC, 9), ["word 4"])
        self.assertEqual(self.search("word"), ["word 4"])
        self.assertEqual(maintenance.check(self.folder / archive.FILE), [])
        self.assertEqual(tables.load(self.cursor).progress.number, 5)

    def test_a_server_that_was_killed_while_it_deleted_goes_on(self) -> None:
        for i in range(3):
            self.say(ALICE, 0, f"word {i}", id=str(i))
        for _ in range(2):
            self.assertEqual(index.remove(self.cursor, 10**15, 9), (1, 2))
        self.assertEqual(self.search("word"), ["word 2"])
        archive.expire(self.cursor, 1, 2)
        self.connection.commit()
        self.assertEqual(maintenance.check(self.folder / archive.FILE), [])
        self.connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")

    def test_it_is_sound_between_the_two_halves_of_deleting(self) -> None:
        for i in range(3):
            self.say(ALICE, 0, f"word {i}", id=str(i))
        index.remove(self.cursor, 10**15, 9)
        self.connection.commit()
        self.assertEqual(maintenance.check(self.folder / archive.FILE), [])

    def test_what_is_not_old_stays(self) -> None:
        for i in range(4):
            self.say(ALICE, BOB, f"word {i}", time=1000 * (i + 1))
        self.assertTrue(self.expire(2, 9))
        self.assertFalse(self.expire(2, 9))
        self.assertEqual(sorted(self.search("word")), ["word 2", "word 3"])
        self.assertEqual(self.history(Conversation(BOB, "alice"), 9), ["word 2", "word 3"])

    def test_hundreds_of_rows_are_written(self) -> None:
        write(
            self.cursor,
            [Message(n, 1, ALICE, "alice", 0, 0, "ALL", f"text {n}") for n in range(1, 601)],
        )
        self.cursor.execute("SELECT count(*), max(number) FROM message")
        self.assertEqual(self.cursor.fetchone(), (600, 600))


class NumberTests(TestCase):
    """No number is given twice, though the file goes back."""

    TODAY = 1_795_000_000.0

    def start(self, noted: tuple[int, int], newest: int, now: float) -> tuple[int, tuple[int, int]]:
        """Return the number after which a start goes on, and what it notes."""
        after = archive.continue_after(noted, newest, now)
        return after, (after, int(now * 1000))

    def test_a_file_that_was_put_back_gives_no_number_again(self) -> None:
        old = after, noted = self.start((0, 0), 0, self.TODAY)
        given, now = after, self.TODAY
        for seconds in (1, 1, 60, 30 * 24 * 60 * 60):
            now += seconds
            given += 60_000 * seconds  # as many as can be committed
            after, noted = self.start(noted, given, now)
            self.assertGreater(after, given)
            self.assertGreater(self.start(old[1], old[0], now)[0], given)
            self.assertGreater(self.start((0, 0), 0, now)[0], given)
            given = after

    def test_many_starts_leave_no_more_out_than_the_time_that_passed(self) -> None:
        first = after, noted = self.start((0, 0), 0, self.TODAY)
        for i in range(1, 51):
            after, noted = self.start(noted, after + 1, self.TODAY + 20 * i)
        self.assertEqual(after - first[0], 50 * 20 * archive.NUMBERS_PER_SECOND)

    def test_a_clock_that_is_behind_gives_no_number_again(self) -> None:
        after, noted = self.start((0, 0), 0, self.TODAY)
        again, _ = self.start(noted, after + 20, self.TODAY - 1000)
        self.assertEqual(again, after + 20 + archive.NUMBERS_LOST)

    def test_a_clock_that_is_centuries_ahead_does_not_use_numbers_up(self) -> None:
        after, noted = self.start((0, 0), 0, self.TODAY)
        for now in [2**36, self.TODAY] * 20:
            after, noted = self.start(noted, after + 1, now)
        self.assertLess(after, 2**53)

    def test_what_a_start_notes_is_in_the_file(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        first = archive.prepare(folder, wall=lambda: self.TODAY)
        second = archive.prepare(folder, wall=lambda: self.TODAY + 7)
        self.assertEqual(second.after - first.after, 7 * archive.NUMBERS_PER_SECOND)


class CommandTests(ArchiveTestCase):
    def run_command(self, action: str, folder: Path | None = None) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command.main([action, "--state", str(folder or self.folder)])
        return code, out.getvalue(), err.getvalue()

    def test_export_escapes_what_acts_on_a_terminal_and_comes_back_unchanged(self) -> None:
        text = (
            "ä 日本 \U0001f468\u200d\U0001f469 \t\n\x1b[2J\x7f\x9b\x9c\x9d\u202e\u2028\u200e\u2066"
        )
        self.say(ALICE, BOB, text)
        _, out, _ = self.run_command("export")
        self.assertEqual(json.loads(out)["text"], text)
        self.assertEqual(printable(out.rstrip("\n")), out.rstrip("\n"))
        self.assertIn("ä 日本 \U0001f468\u200d\U0001f469", out)

    def test_export_writes_an_object_a_line_while_somebody_writes(self) -> None:
        self.say(ALICE, BOB, "é\n")
        self.say(BOB, 0, "x")
        self.cursor.execute("BEGIN IMMEDIATE")
        code, out, _ = self.run_command("export")
        lines = [json.loads(line) for line in out.splitlines()]
        first = {"message": 1, "time": 1, "sender": "alice", "to": "Bob", "text": "é\n"}
        first["kind"] = "text"
        self.assertEqual((code, lines[0], len(lines)), (0, first, 2))

    def test_export_is_utf_8_whatever_the_locale(self) -> None:
        self.say(ALICE, BOB, "漢")
        out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        with contextlib.redirect_stdout(out):
            command.main(["export", "--state", str(self.folder)])
        self.assertIn("漢".encode(), out.buffer.getvalue())  # type: ignore[attr-defined]

    def test_check_finds_each_damage(self) -> None:
        self.say(ALICE, BOB, "x", id="7", time=5)
        self.say(ALICE, BOB, "y", time=6)
        self.assertEqual(self.run_command("check"), (0, "sound\n", ""))
        for damage, found in (
            ("DELETE FROM place WHERE one = 1", "2 messages that stand in no conversation"),
            ("DELETE FROM partner", "2 messages to or from a name that nobody had"),
            (
                "INSERT INTO place VALUES (0, 0, 77, 78, 70, '[7, 8]')",
                "2 places of messages that are not there",
            ),
            ("DELETE FROM words_docsize WHERE id = 1", "1 messages that can't be searched"),
            (
                "INSERT INTO words_docsize VALUES (9, x'01')",
                "1 words of messages that are not there",
            ),
            ("UPDATE step SET latest = 5", "1 messages that can't be found by their time"),
            (
                "INSERT INTO member VALUES (5, 1, 0, NULL, 1, 0)",
                "1 members of rooms that are not there",
            ),
        ):
            self.connection.execute(damage)
            self.connection.commit()
            code, out, _ = self.run_command("check")
            self.assertEqual(code, 1)
            self.assertIn(found + "\n", out)

    def test_what_can_not_be_read_is_one_line_and_exit_code_2(self) -> None:
        for action in ("check", "export"):
            code, out, err = self.run_command(action, self.folder / "nowhere")
            self.assertEqual((code, out, err.count("\n")), (2, "", 1))
            self.assertIn("chat.sqlite", err)
