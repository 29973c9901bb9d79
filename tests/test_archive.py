"""The archive: opening, migrating, deleting, numbers, and its command."""

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
from chat_twisted.core.facts import Joined, RoomMade
from chat_twisted.core.message import PUBLIC, Conversation, Message
from chat_twisted.core.snapshot import load
from chat_twisted.files import FilesError, InUse
from chat_twisted.storage import archive, index, maintenance, tables, upgrade
from chat_twisted.text import printable
from tests.store import ALICE, BOB, DEV, ArchiveTestCase, write

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

    def test_the_log_of_a_corrupt_file_is_kept(self) -> None:
        (self.folder / "corrupt").mkdir()
        path = self.folder / "corrupt" / archive.FILE
        path.write_bytes(b"\xff" * 8192)
        log = path.with_name(f"{archive.FILE}-wal")
        log.write_bytes(b"what is left of it")
        self.fails("file is not a database", path.parent)
        self.assertEqual(log.read_bytes(), b"what is left of it")

    def test_a_file_that_can_not_be_written_is_refused(self) -> None:
        connect = archive.connect

        def read_only(path: Path, **options) -> sqlite3.Connection:
            connection = connect(path, **options)
            connection.execute("PRAGMA query_only = 1")
            return connection

        self.patch(archive, "connect", read_only)
        self.fails("readonly database")


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
