"""The archive: opening, migrating, writing, what is asked of it, and its command."""

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

from chat_twisted import archive
from chat_twisted.archive import EVERYWHERE, ArchiveError, Place, Span
from chat_twisted.changes import Invited, Joined, Left, RoomGone, RoomMade, UserCame, UserGone
from chat_twisted.message import Message

ALICE, BOB, CAROL, DEV = 1, 2, 3, 9
NAMES = {ALICE: "alice", BOB: "Bob", CAROL: "carol"}


class ArchiveTestCase(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        archive.prepare(self.folder)
        self.connection = archive.connect(self.folder / archive.FILE)
        self.addCleanup(self.connection.close)
        self.cursor = self.connection.cursor()
        self.number = 0

    def say(self, author: int, to: int, text: str, id: str | None = None, time: int = 0) -> None:
        """Say something to a user, the room DEV or everybody (0), and index it."""
        self.number += 1
        recipient, room = (0, to) if to == DEV else (to, 0)
        name = {0: "ALL", DEV: "#dev", **NAMES}[to]
        message = Message(
            self.number, time or self.number, author, NAMES[author], recipient, room, name, text, id
        )
        archive.write(self.cursor, [message])
        self.index()

    def index(self) -> None:
        while archive.index(self.cursor, 2):
            pass
        self.connection.commit()

    def change(self, *changes) -> None:
        archive.write(self.cursor, changes=changes)
        self.connection.commit()

    def missed(self, user: int, after: int = 0, *, own: bool = False) -> list[str]:
        page = archive.missed(self.cursor, user, after, own=own)
        return [message.text for message in page.messages]

    def history(self, place: Place, *bounds, **more) -> list[str]:
        return [m.text for m in archive.history(self.cursor, place, Span(*bounds, **more))[0]]

    def search(self, query: str, user: int = ALICE, rooms=(), place=None) -> list[str]:
        found = archive.search(self.cursor, user, rooms, place, query, 10)
        return [message.text for message in found]


class OpeningTests(ArchiveTestCase):
    def fails(self, text: str, folder: Path | None = None, **options) -> None:
        with self.assertRaises(ArchiveError) as caught:
            archive.prepare(folder or self.folder, **options)
        self.assertIn(text, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    def steps(self, **more: str) -> Path:
        """The schema's steps, and further ones."""
        folder = self.folder / "steps"
        folder.mkdir()
        shutil.copy(Path(archive.__file__).parent / "schema" / "1.sql", folder)
        for name, sql in more.items():
            (folder / f"{name[1:]}.sql").write_text(sql)
        return folder

    def test_the_file_is_for_its_owner_alone_and_in_wal_mode(self) -> None:
        path = self.folder / archive.FILE
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.cursor.execute("PRAGMA journal_mode").fetchone(), ("wal",))

    def test_a_folder_is_locked_for_one(self) -> None:
        first = archive.lock(self.folder)
        with self.assertRaisesRegex(ArchiveError, "another server uses it"):
            archive.lock(self.folder)
        os.close(first)
        os.close(archive.lock(self.folder))

    def test_a_folder_that_can_not_be_made_is_one_line(self) -> None:
        with self.assertRaisesRegex(ArchiveError, "Not a directory"):
            archive.lock(self.folder / archive.FILE / "below")

    def test_a_file_of_the_version_before_is_brought_up_to_date_with_what_it_holds(self) -> None:
        self.say(ALICE, BOB, "kept")
        steps = self.steps(_2="ALTER TABLE user ADD COLUMN colour TEXT;")
        saved = archive.prepare(self.folder, schema=steps)
        self.assertEqual((saved.last, self.missed(BOB)), (1, ["kept"]))
        self.cursor.execute("SELECT colour FROM user")
        self.assertEqual(self.cursor.execute("PRAGMA user_version").fetchone(), (2,))

    def test_a_step_that_fails_leaves_the_file_as_it_was(self) -> None:
        self.say(ALICE, BOB, "kept")
        steps = self.steps(_2="ALTER TABLE user ADD COLUMN colour TEXT; DROP TABLE absent;")
        self.fails("no such table: absent", schema=steps)
        self.assertEqual(self.cursor.execute("PRAGMA user_version").fetchone(), (1,))
        with self.assertRaises(sqlite3.OperationalError):
            self.cursor.execute("SELECT colour FROM user")
        self.assertEqual(archive.prepare(self.folder).last, 1)

    def test_a_newer_schema_is_refused(self) -> None:
        self.connection.execute("PRAGMA user_version = 99")
        self.fails("made by a newer version of the server (schema 99, this one knows 1)")

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
        self.fails("malformed")

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
        self.change(UserCame(BOB, "Bob", b"", 0), RoomMade(DEV, "#dev", False, ALICE))
        self.say(ALICE, DEV, "1")
        self.change(Joined(DEV, BOB, 1))
        self.say(ALICE, DEV, "2")
        self.change(Joined(DEV, BOB, 2))  # is one already
        self.change(Left(DEV, BOB, 2))
        self.say(ALICE, DEV, "3")
        self.change(Joined(DEV, BOB, 3))
        self.say(ALICE, DEV, "4")
        self.assertEqual(self.missed(BOB), ["2", "4"])
        self.assertEqual(self.missed(CAROL), [])

    def test_it_comes_in_pages(self) -> None:
        self.patch(archive, "PAGE", 1000)
        for i in range(10):
            self.say(ALICE, BOB, f"{i}" * 400)
        seen, upto = [], 0
        while upto < 10:
            page = archive.missed(self.cursor, BOB, upto, own=False)
            self.assertLessEqual(len(page.messages), 3)
            seen += [message.text[0] for message in page.messages]
            upto = page.upto
        self.assertEqual(seen, list("0123456789"))

    def test_nothing_is_no_message_up_to_the_end(self) -> None:
        self.assertEqual(archive.missed(self.cursor, BOB, 0, own=False), ([], 0))
        self.say(ALICE, CAROL, "x")
        self.assertEqual(archive.missed(self.cursor, BOB, 0, own=False), ([], 1))


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
                "".join(self.history(EVERYWHERE, **{"limit": 10, **bounds})), texts, bounds
            )

    def test_it_says_whether_there_is_more_in_its_direction(self) -> None:
        for limit, more in ((4, True), (5, False), (6, False)):
            self.assertIs(archive.history(self.cursor, EVERYWHERE, Span(limit))[1], more)

    def test_a_direct_conversation_is_found_by_both_under_the_others_name(self) -> None:
        self.say(BOB, ALICE, "answer")
        self.assertEqual(self.history(Place(ALICE, "bob"), 9), ["4", "answer"])
        self.assertEqual(self.history(Place(BOB, "alice"), 9), ["4", "answer"])
        self.assertEqual(self.history(Place(CAROL, "bob"), 9), [])

    def test_times_are_found_though_numbers_are_missing(self) -> None:
        archive.expire(self.cursor, 3000, 99)
        self.say(ALICE, 0, "7", time=7000)
        self.number += 5
        self.say(ALICE, 0, "13", time=8000)
        self.assertEqual(self.history(EVERYWHERE, 9, since=6500), ["7", "13"])
        self.assertEqual(self.history(EVERYWHERE, 9, until=3000), ["3"])


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
        self.assertEqual(self.search("red", ALICE, place=Place(ALICE, "bob")), ["Red tea, résumé"])

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


class TidyingTests(ArchiveTestCase):
    def test_what_is_old_is_deleted_everywhere_but_the_newest_message(self) -> None:
        for i in range(5):
            self.say(ALICE, 0, f"word {i}", id=str(i))
        self.assertTrue(archive.expire(self.cursor, 10**15, 3))
        self.assertFalse(archive.expire(self.cursor, 10**15, 3))
        self.connection.commit()
        self.assertEqual(self.history(EVERYWHERE, 9), ["word 4"])
        self.assertEqual(self.search("word"), ["word 4"])
        self.assertEqual(archive.check(self.folder), [])
        self.assertEqual(archive.load(self.cursor).last, 5)

    def test_who_is_gone_leaves_no_membership_and_no_invitation(self) -> None:
        self.change(
            UserCame(BOB, "Bob", b"t", 0), RoomMade(DEV, "#dev", True, BOB), Joined(DEV, BOB, 0)
        )
        self.change(Invited(DEV, CAROL))
        saved = archive.load(self.cursor)
        self.assertEqual(saved.users, [(BOB, "Bob", b"t", 0, 0)])
        self.assertEqual(saved.rooms, [(DEV, "#dev", "", 1, BOB)])
        self.assertEqual((saved.members, saved.invitations), ([(DEV, BOB)], [(DEV, CAROL)]))
        self.change(RoomGone(DEV))  # it has a member
        self.assertEqual(len(archive.load(self.cursor).rooms), 1)
        self.change(UserGone(BOB), UserGone(CAROL), RoomGone(DEV))
        self.assertEqual(archive.load(self.cursor), archive.Saved())


class CommandTests(ArchiveTestCase):
    def run_command(self, action: str, folder: Path | None = None) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = archive.main([action, "--state", str(folder or self.folder)])
        return code, out.getvalue(), err.getvalue()

    def test_export_writes_an_object_a_line_while_somebody_writes(self) -> None:
        self.say(ALICE, BOB, "é\n")
        self.say(BOB, 0, "x")
        self.cursor.execute("BEGIN IMMEDIATE")
        code, out, _ = self.run_command("export")
        lines = [json.loads(line) for line in out.splitlines()]
        first = {"message": 1, "time": 1, "sender": "alice", "to": "Bob", "text": "é\n"}
        self.assertEqual((code, lines[0], len(lines)), (0, first, 2))

    def test_check_finds_each_damage(self) -> None:
        self.say(ALICE, BOB, "x", id="7", time=5)
        self.say(ALICE, BOB, "y", time=6)
        self.assertEqual(self.run_command("check"), (0, "sound\n", ""))
        for damage, found in (
            ("DELETE FROM place WHERE party = 1", "2 messages that stand in no conversation"),
            ("INSERT INTO place VALUES (0, '', 77)", "1 places of messages that are not there"),
            ("UPDATE request SET number = 77", "1 Ids of messages that are not there"),
            ("DELETE FROM words_docsize WHERE id = 1", "1 messages that can't be searched"),
            ("UPDATE message SET time = 9 WHERE number = 1", "1 messages whose time goes back"),
            ("INSERT INTO member VALUES (5, 1, 0, NULL)", "1 members of rooms that are not there"),
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
