"""A new node copies another node's files: what it accepts, and what it does when that fails."""

from __future__ import annotations

import errno
import json
import os
import resource
import sqlite3
from contextlib import closing

from twisted.internet.defer import Deferred, gatherResults, succeed

from chat_twisted.storage import archive, copying, index, maintenance, offering, upgrade
from chat_twisted.storage.log import Bounds, Unknown
from chat_twisted.storage.upgrade import ArchiveError
from tests.copying import STREAM, CopyTestCase, fill, indexed, texts


class FetchTests(CopyTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(offering, "PIECE", 4096)
        self.offer()

    def assertNothingLeft(self) -> None:
        self.assertEqual(os.listdir(self.folder), [])

    async def assertFails(self, *texts: str) -> None:
        with self.assertRaises(ArchiveError) as caught:
            await self.fetch()
        for text in texts:
            self.assertIn(text, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))
        self.assertNothingLeft()

    def lose_pieces(self, first: int, count: int) -> None:
        """Let the question for a piece, and some after it, get no answer."""

        def between() -> None:
            if first <= self.log.pieces < first + count:
                raise Unknown("lost")

        self.log.between = between

    def change_answers(self, **fields: object) -> None:
        """Let all answers with one of these fields have another value there."""

        def change(answer: bytes) -> bytes:
            head, _, data = answer.partition(b"\n")
            found = json.loads(head)
            found.update({name: value for name, value in fields.items() if name in found})
            return json.dumps(found).encode() + b"\n" + data

        self.log.change = change

    async def test_the_copy_has_all_messages_and_the_index(self) -> None:
        await self.fetch()
        self.assertEqual(texts(self.folder), texts(self.peer))
        self.assertEqual(indexed(self.folder), 20)
        self.assertEqual(maintenance.check(self.folder / archive.FILE), [])
        self.assertGreater(self.log.pieces, 10)
        self.assertIn("copying the archive of node peer: ", self.said[0])
        self.assertEqual(self.said[-1], "the copy is complete")

    async def test_only_the_owner_can_read_the_copy(self) -> None:
        await self.fetch()
        self.assertEqual(sorted(os.listdir(self.folder)), [archive.FILE, index.FILE])
        for path in self.folder.iterdir():
            self.assertEqual(path.stat().st_mode & 0o777, 0o600, path)

    async def test_a_start_uses_the_copied_index_and_the_position(self) -> None:
        await self.fetch()

        def rebuild(*_: object) -> None:
            self.fail("the index was made again")

        self.patch(index, "rebuild", rebuild)
        archive.prepare(self.folder)
        with closing(sqlite3.connect(self.folder / archive.FILE)) as connection:
            place = connection.execute("SELECT stream, applied, node FROM cluster").fetchone()
        self.assertEqual(place, (STREAM, 10, "peer"))

    async def test_a_namesake_that_starts_with_the_copy_can_not_prove_to_be_the_node(self) -> None:
        incarnation = "SELECT incarnation FROM cluster"
        await self.fetch()
        for folder, expected in ((self.peer, 3), (self.folder, 0)):
            with closing(sqlite3.connect(folder / archive.FILE)) as connection:
                self.assertEqual(connection.execute(incarnation).fetchone(), (expected,))

    async def test_an_index_that_is_there_from_before_is_not_taken_for_the_copy(self) -> None:
        """The archive was moved away, its index not; both have the stamp of the copied node."""
        await self.fetch()
        archive.prepare(self.folder)
        (self.folder / archive.FILE).unlink()
        (self.peer / index.FILE).unlink()
        self.clock.advance(offering.SILENCE)
        old = (self.folder / index.FILE).read_bytes()
        await self.fetch()
        self.assertEqual((self.folder / index.FILE).read_bytes(), old)
        self.assertEqual(indexed(self.folder), 0)
        archive.prepare(self.folder)
        self.assertEqual(indexed(self.folder), 20)

    async def test_files_of_an_index_from_before_are_replaced(self) -> None:
        for suffix in ("-wal", "-shm", "-damaged"):
            (self.folder / f"{index.FILE}{suffix}").write_text("of the index before")
        await self.fetch()
        self.assertEqual(sorted(os.listdir(self.folder)), [archive.FILE, index.FILE])

    async def test_a_damaged_index_is_left_behind(self) -> None:
        path = self.peer / index.FILE
        sound = path.read_bytes()
        for kept in (4096, len(sound) - 4096):
            path.write_bytes(sound[:kept] + os.urandom(len(sound) - kept))
            folder = self.make_folder()
            await self.fetch(folder)
            self.assertEqual(os.listdir(folder), [archive.FILE])
            self.assertEqual(texts(folder), texts(self.peer))
            archive.prepare(folder)
            self.assertEqual(indexed(folder), 20)
            self.clock.advance(offering.SILENCE)  # the next one gets another copy

    async def test_a_damaged_archive_is_refused(self) -> None:
        path = self.peer / archive.FILE
        data = bytearray(path.read_bytes())
        data[-8192:] = os.urandom(8192)
        path.write_bytes(data)
        await self.assertFails("archive of node peer is damaged")

    # Unlucky

    async def test_a_lost_piece_is_asked_for_again(self) -> None:
        self.lose_pieces(6, copying.TRIES - 1)
        await self.fetch()
        self.assertEqual(texts(self.folder), texts(self.peer))
        self.assertEqual(self.log.asked.count(copying.TOPIC), 1)

    async def test_if_a_node_dies_another_one_is_copied_from_the_beginning(self) -> None:
        other = self.make_folder()
        fill(other, 30, applied=12)

        def between() -> None:
            if self.log.pieces == 4:
                self.log.stop_answering()
            elif self.log.pieces == 4 + copying.TRIES - 1:
                self.log.pieces = 100
                self.offer(other, "other")

        self.log.between = between
        await self.fetch()
        self.assertEqual(len(texts(self.folder)), 30)
        self.assertIn("the node that is copied does not answer any more; trying again", self.said)
        self.assertIn("copying the archive of node other", self.said[-2])

    async def test_without_any_node_it_says_what_to_do(self) -> None:
        self.log.stop_answering()
        await self.assertFails("no node answers", "start a node", "admin restore")
        self.assertEqual(len(self.log.asked), copying.ATTEMPTS * copying.TRIES)

    async def test_a_copy_that_was_deleted_meanwhile_is_begun_again(self) -> None:
        def between() -> None:
            if self.log.pieces == 4:
                self.log.pieces = 100
                self.clock.advance(offering.SILENCE)

        self.log.between = between
        await self.fetch()
        self.assertIn("the copy was deleted; trying again", self.said)
        self.assertEqual(texts(self.folder), texts(self.peer))

    async def test_a_copy_that_is_damaged_on_the_way_is_refused(self) -> None:
        def change(answer: bytes) -> bytes:
            return answer[:-1] + bytes([answer[-1] ^ 1]) if len(answer) > 1000 else answer

        self.log.change = change
        await self.assertFails("damaged on the way")

    async def test_a_full_disk_ends_it_at_once(self) -> None:
        self.log.answers.clear()
        self.offer_at_once()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        await self.assertFails("can't copy another node's archive: File too large")
        self.assertEqual(self.log.asked.count(copying.TOPIC), 1)

    async def test_a_disk_that_is_full_in_the_end_ends_it_too(self) -> None:
        def full(connection: object, folder: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        self.patch(index, "renew_stamp", full)
        await self.assertFails("can't copy another node's archive: database or disk is full")
        self.assertEqual(self.log.asked.count(copying.TOPIC), 1)

    async def test_what_an_interrupted_copy_has_left_is_deleted(self) -> None:
        (self.folder / copying.RECEIVED).mkdir()
        (self.folder / copying.RECEIVED / archive.FILE).write_text("half of it")
        await self.fetch()
        self.assertEqual(sorted(os.listdir(self.folder)), [archive.FILE, index.FILE])

    async def test_the_index_alone_does_not_make_the_folder_a_used_one(self) -> None:
        """The power goes after the first of the two files was put in its place."""
        put = os.replace

        def replace(source: object, target: object) -> None:
            if str(target).endswith(archive.FILE):
                raise OSError(errno.EIO, "the power is gone")
            put(source, target)  # type: ignore[arg-type]

        self.patch(os, "replace", replace)
        with self.assertRaises(ArchiveError):
            await self.fetch()
        self.patch(os, "replace", put)
        self.assertEqual(os.listdir(self.folder), [index.FILE])
        await self.fetch()
        self.assertEqual(indexed(self.folder), 20)

    async def test_two_nodes_can_copy_at_once(self) -> None:
        other = self.make_folder()
        await gatherResults([self.fetch(), self.fetch(other)])
        self.assertEqual(texts(self.folder), texts(other))
        self.assertEqual(maintenance.check(other / archive.FILE), [])

    # Of no use

    async def test_an_archive_of_another_cluster_is_refused(self) -> None:
        self.log.limits = Bounds("another log", 1, 20)
        await self.assertFails("archive of node peer is not of this cluster")

    async def test_an_archive_that_the_log_can_not_continue_is_refused(self) -> None:
        self.log.limits = Bounds(STREAM, 12, 20)
        await self.assertFails("does not have what follows")

    async def test_the_archive_of_a_newer_version_is_refused_at_once(self) -> None:
        with closing(sqlite3.connect(self.peer / archive.FILE)) as connection:
            connection.execute(f"PRAGMA user_version = {upgrade.newest_schema() + 1}")
        await self.assertFails("newer version", "install that here first")
        self.assertEqual(self.log.asked.count(copying.TOPIC), 1)

    async def test_answers_that_make_no_sense_are_refused(self) -> None:
        for fields in (
            {"files": [["../chat.sqlite", 1, ""]]},
            {"files": [["chat.sqlite", "many", ""]]},
            {"files": [[index.FILE, 5, ""]]},
            {"files": 3},
            {"files": [["chat.sqlite", 5, ""]]},  # a piece is longer
            {"topic": None},
            {"topic": "copy"},
            {"topic": "copy.1 _INBOX.1 0\r\n\r\nPUB chat.log"},
        ):
            self.change_answers(**fields)
            await self.assertFails("no node's archive could be copied")
        for answer in (b"", b"[]\n", b"\xff", b"{}\n"):
            self.log.change = lambda _, answer=answer: answer
            await self.assertFails("not understood")

    async def test_what_a_node_says_can_not_act_on_a_terminal(self) -> None:
        def answer(question: bytes) -> Deferred[bytes]:
            return succeed(copying.pack({"error": "no\x1b[2J\nway"}))

        self.log.answers[copying.TOPIC] = [answer]
        await self.assertFails("no")
        self.assertFalse([line for line in self.said if "\x1b" in line or "\n" in line])
