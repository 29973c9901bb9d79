"""The index: filled after commits, kept while it matches the archive, rebuilt otherwise."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from chat_twisted.core.facts import Deleted
from chat_twisted.core.message import PUBLIC, Conversation, Message
from chat_twisted.core.reads import Span
from chat_twisted.storage import archive, index, lookup, maintenance
from tests.store import ALICE, BOB, CAROL, ArchiveTestCase, InlineStore, write


class FileTests(ArchiveTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.say(ALICE, 0, "red wine")
        self.say(ALICE, BOB, "red tea")
        # A mark that survives if the index is kept.
        self.connection.execute("UPDATE indexed SET deleted = 1")
        self.connection.commit()

    def prepare(self) -> bool:
        """Start a server, check that it works, and return whether the index was kept."""
        self.connection.close()
        archive.prepare(self.folder)
        self.connection = archive.connect(self.folder / archive.FILE)
        index.attach(self.connection, self.folder)
        self.cursor = self.connection.cursor()
        self.assertEqual(self.history(PUBLIC, 9), ["red wine"])
        self.assertEqual(sorted(self.search("red")), ["red tea", "red wine"])
        self.assertEqual(maintenance.check(self.folder / archive.FILE), [])
        return self.cursor.execute("SELECT deleted FROM indexed").fetchone() == (1,)

    def damage(self, begin: int, end: int | None = None) -> Path:
        """Overwrite a part of the index file; return its path."""
        self.connection.execute("PRAGMA looked_up.wal_checkpoint(TRUNCATE)")
        self.connection.close()
        path = self.folder / index.FILE
        data = bytearray(path.read_bytes())
        data[begin:end] = b"\xff" * len(data[begin:end])
        path.write_bytes(data)
        return path

    def test_it_is_kept_and_for_its_owner_alone(self) -> None:
        self.assertTrue(self.prepare())
        self.assertEqual((self.folder / index.FILE).stat().st_mode & 0o777, 0o600)

    def test_it_is_made_again_if_it_is_not_there(self) -> None:
        self.connection.close()
        os.unlink(self.folder / index.FILE)
        [problem] = maintenance.check(self.folder / archive.FILE)
        self.assertIn("no index.sqlite", problem)
        self.assertFalse(self.prepare())

    def test_it_is_made_again_if_it_is_no_index(self) -> None:
        self.connection.close()
        for content in ("", "a letter to my aunt. " * 100):
            (self.folder / index.FILE).write_text(content)
            self.assertFalse(self.prepare())
            self.connection.close()

    def test_it_is_made_again_if_it_is_damaged(self) -> None:
        for i in range(300):
            self.say(ALICE, CAROL, f"text {i} " * 20)
        self.damage(4096)
        self.assertFalse(self.prepare())

    def test_what_damage_a_reading_meets_has_it_made_again_at_the_next_start(self) -> None:
        [page] = self.cursor.execute(
            "SELECT rootpage FROM looked_up.sqlite_master WHERE name = 'place'"
        ).fetchone()
        self.damage(4096 * (page - 1), 4096 * page)
        self.connection = archive.connect(self.folder / archive.FILE)
        index.attach(self.connection, self.folder)
        self.cursor = self.connection.cursor()
        with self.assertRaises(sqlite3.DatabaseError):
            self.history(PUBLIC, 9)
        other = archive.connect(self.folder / archive.FILE)  # another connection can be opened
        index.attach(other, self.folder)
        other.close()
        self.assertFalse(self.prepare())  # rebuilt, and only once
        self.connection.execute("UPDATE indexed SET deleted = 1")
        self.connection.commit()
        self.assertTrue(self.prepare())

    def test_one_that_is_damaged_while_it_is_used_is_told_from_the_archive(self) -> None:
        for i in range(300):
            self.say(ALICE, CAROL, f"text {i} " * 20)
        path = self.damage(8192)
        self.assertIn(
            "index.sqlite is damaged", "".join(maintenance.check(self.folder / archive.FILE))
        )
        path.write_text("a letter to my aunt. " * 100)
        self.assertIn(
            "index.sqlite is damaged", "".join(maintenance.check(self.folder / archive.FILE))
        )

    def test_it_is_made_again_if_it_is_of_another_version(self) -> None:
        self.connection.execute("PRAGMA looked_up.user_version = 99")
        self.assertFalse(self.prepare())

    def test_it_is_made_again_if_it_is_of_another_archive(self) -> None:
        self.connection.execute("UPDATE indexed SET stamp = x'00'")
        self.connection.commit()
        self.assertFalse(self.prepare())

    def test_it_is_made_again_if_it_has_what_the_archive_has_lost(self) -> None:
        self.say(ALICE, 0, "red herring")
        self.connection.execute("DELETE FROM message WHERE number = 3")
        self.connection.commit()
        self.assertFalse(self.prepare())

    def test_messages_whose_numbers_are_far_apart_are_indexed_one_after_the_other(self) -> None:
        for text in ("blue tea", "blue wine", "blue milk"):
            self.number += 10**12
            self.say(ALICE, 0, text)
        found = self.history(PUBLIC, 2)
        self.assertEqual(found, ["blue wine", "blue milk"])
        self.assertEqual(len(self.search("blue")), 3)

    def test_no_commit_waits_for_it(self) -> None:
        other = archive.connect(self.folder / archive.FILE)
        self.addCleanup(other.close)
        index.attach(other, self.folder)
        message = Message(3, 3, ALICE, "alice", 0, 0, "ALL", "three", None)
        write(self.cursor, [message])
        self.connection.commit()
        other.execute("PRAGMA busy_timeout = 0")
        self.connection.execute("PRAGMA busy_timeout = 0")
        self.assertEqual(index.extend(other.cursor(), 9), 3)  # and is not committed yet
        write(self.cursor, [message._replace(number=4, text="four")])
        self.connection.commit()
        other.commit()
        self.assertEqual(self.history(PUBLIC, 9), ["red wine", "three", "four"])

    @given(
        st.lists(st.tuples(st.sampled_from([0, BOB]), st.booleans()), max_size=12),
        st.integers(1, 12),
        st.integers(0, 14) | st.none(),
        st.integers(0, 14) | st.none(),
        st.booleans(),
        st.integers(1, 8),
    )
    def test_history_is_the_same_however_many_were_indexed_together(
        self,
        said: list[tuple[int, bool]],
        limit: int,
        after: int | None,
        before: int | None,
        oldest_first: bool,
        deleted_before: int,
    ) -> None:
        store = InlineStore(Clock())  # it closes its connection at its end
        connection = store.connection
        self.cursor = connection.cursor()
        self.patch(index, "_SLICE", 5)
        indexed = 0
        for i, (to, step_ends) in enumerate(said, 1):
            name = "Bob" if to else "ALL"
            message = Message(i, i, ALICE, "alice", to, 0, name, str(i))
            write(self.cursor, [message])
            if step_ends:  # messages after the last are neither indexed nor deleted
                indexed = index.extend(self.cursor, 99)
        if (span := index.remove(self.cursor, deleted_before - 1, 99)) is not None:
            archive.expire(self.cursor, *span)
        for conversation, party in (
            (PUBLIC, 0),
            (Conversation(ALICE, "bob"), BOB),
            (Conversation(BOB, "alice"), BOB),
        ):
            there = [
                i
                for i, (to, _) in enumerate(said, 1)
                if to == party and (i >= deleted_before or i > indexed or i == len(said))
            ]
            in_all = len(there)
            there = [
                str(i)
                for i in there
                if (after is None or i > after) and (before is None or i < before)
            ]
            expected = there[:limit] if oldest_first else there[-limit:]
            span_asked = Span(limit, after, before, oldest_first=oldest_first, total=True)
            messages, more, total = lookup.history(self.cursor, conversation, span_asked)
            self.assertEqual([message.text for message in messages], expected)
            self.assertEqual(more, len(there) > limit)
            self.assertEqual(total, in_all)
        connection.close()

    def test_the_write_ahead_log_begins_anew_when_all_of_it_is_in_the_file(self) -> None:
        self.connection.execute("PRAGMA wal_autocheckpoint = 0")
        for number in range(3, 203):
            write(self.cursor, [Message(number, 9, ALICE, "alice", 0, 0, "ALL", "x" * 4000, None)])
            self.connection.commit()
            archive.checkpoint(self.cursor)
        self.assertLess((self.folder / f"{archive.FILE}-wal").stat().st_size, 100_000)


class RemovingTests(ArchiveTestCase):
    def test_what_is_old_is_removed_by_its_key_and_not_by_a_walk(self) -> None:
        """With many rows a scan would take too long."""
        asked: list[str] = []
        self.connection.set_trace_callback(asked.append)
        self.say(ALICE, 0, "x")
        self.say(ALICE, 0, "y")
        index.remove(self.cursor, 1, 9)
        deleting = [sql for sql in asked if re.match("DELETE FROM (?!step)", sql)]
        self.assertEqual(len(deleting), 1)
        for sql in deleting:
            plan = [row[3] for row in self.cursor.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()]
            self.assertIn("SEARCH", plan[0])
            self.assertRegex(plan[0], r"other=\? AND first<\?")


class PurgeTests(ArchiveTestCase):
    def remains(self, word: str) -> list[str]:
        """Return the files of the folder that have a word."""
        files = sorted(self.folder.iterdir())
        return [path.name for path in files if word.encode() in path.read_bytes()]

    def test_no_file_has_a_text_that_was_deleted_and_all_others_are_found(self) -> None:
        long = "zanzibar " * 2000
        for number in range(1, 401):
            text = long if number == 7 else "xylophone" if number == 8 else f"word{number} word"
            self.change(Message(number, 0, ALICE, "alice", 0, 0, "ALL", text))
            if number % 50 == 0:
                index.extend(self.cursor, 1000)
                self.connection.commit()
        for schema in ("main", "looked_up"):
            archive.empty_log(self.cursor, schema)
        self.assertEqual(self.remains("zanzibar"), ["chat.sqlite", "index.sqlite"])
        self.change(*(Deleted(number, ALICE, 0, 0, ALICE) for number in (7, 8)))
        archive.forget_deletions(self.cursor, index.remove_texts(self.cursor, 10))
        self.connection.commit()
        self.assertEqual(archive.find_deletions(self.cursor), (False, True))
        begin = True
        while index.purge(self.cursor, begin=begin):
            begin = False
            self.connection.commit()
        self.connection.commit()
        for schema in ("main", "looked_up"):
            self.assertTrue(archive.empty_log(self.cursor, schema))
        for word in ("zanzibar", "xylophone"):
            self.assertEqual(self.remains(word), [])
        archive.note_purge(self.cursor)
        self.assertEqual(archive.find_deletions(self.cursor), (False, False))
        self.cursor.execute("SELECT count(*) FROM words WHERE words MATCH 'word'")
        self.assertEqual(self.cursor.fetchone(), (398,))

    def test_a_log_that_is_read_is_not_emptied_and_nobody_waits(self) -> None:
        self.change(Message(1, 0, ALICE, "alice", 0, 0, "ALL", "x"))
        reader = archive.connect(self.folder / archive.FILE)
        self.addCleanup(reader.close)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM message").fetchall()
        self.change(Message(2, 0, ALICE, "alice", 0, 0, "ALL", "x"))
        self.assertFalse(archive.empty_log(self.cursor))
        reader.rollback()
        self.assertTrue(archive.empty_log(self.cursor))
