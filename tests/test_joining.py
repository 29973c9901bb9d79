"""Whether a state folder can follow a log, and whether it needs a copy first."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from twisted.internet.defer import Deferred

from chat_twisted.storage import archive, maintenance
from chat_twisted.storage.clustered import Node
from chat_twisted.storage.joining import Found, complete, look, needs_copy, prepare
from chat_twisted.storage.log import Bounds
from chat_twisted.storage.upgrade import ArchiveError
from tests.copying import STREAM, CopyTestCase, Questions, fill, not_now, texts

FOLDER = Path("/state")


def place(applied: int, stream: str = STREAM) -> Node:
    return Node("a", 1, stream, applied)


class DecisionTests(CopyTestCase):
    def decide(self, first: int, last: int, place: Node | None, version: int) -> bool:
        return needs_copy(Bounds(STREAM, first, last), place, version, FOLDER)

    def assertRefused(self, *case: object, text: str) -> None:
        with self.assertRaises(ArchiveError) as caught:
            self.decide(*case)  # type: ignore[arg-type]
        self.assertTrue(str(caught.exception).startswith("/state/chat.sqlite: "))
        self.assertIn(text, str(caught.exception))

    def test_an_empty_folder_replays_a_log_from_its_beginning(self) -> None:
        self.assertFalse(self.decide(1, 0, None, 0))
        self.assertFalse(self.decide(1, 50, None, 0))

    def test_an_empty_folder_needs_a_copy_if_the_beginning_is_not_stored(self) -> None:
        self.assertTrue(self.decide(2, 50, None, 0))
        self.assertTrue(self.decide(51, 50, None, 0))

    def test_the_archive_of_a_single_server_begins_a_cluster(self) -> None:
        self.assertFalse(self.decide(1, 0, None, 7))

    def test_the_archive_of_a_single_server_can_not_join_one(self) -> None:
        self.assertRefused(1, 50, None, 7, text="move /state/chat.sqlite away, and start again")
        self.assertRefused(51, 50, None, 7, text="move /state/chat.sqlite away, and start again")

    def test_a_node_follows_from_its_position(self) -> None:
        self.assertFalse(self.decide(1, 50, place(0), 0))
        self.assertFalse(self.decide(11, 50, place(10), 7))
        self.assertFalse(self.decide(51, 50, place(50), 7))

    def test_a_node_that_is_too_far_behind_is_told_what_to_do(self) -> None:
        self.assertRefused(12, 50, place(10), 7, text="move /state/chat.sqlite away")
        self.assertRefused(51, 50, place(49), 7, text="begins at 51")

    def test_a_node_of_another_log_is_refused(self) -> None:
        self.assertRefused(1, 50, place(10, "another"), 7, text="another cluster")

    def test_a_node_that_is_ahead_of_the_log_is_refused(self) -> None:
        self.assertRefused(1, 9, place(10), 7, text="ends at 9")


class LookTests(CopyTestCase):
    def test_an_empty_folder_has_nothing(self) -> None:
        self.assertEqual(look(self.folder), Found(None, 0))
        self.assertEqual(os.listdir(self.folder), [])

    def test_an_archive_without_any_entry_is_as_good_as_none(self) -> None:
        archive.prepare(self.folder)
        self.assertEqual(look(self.folder), Found(None, 0))

    def test_the_archive_of_a_single_server_has_a_version(self) -> None:
        fill(self.folder, applied=None)
        self.assertEqual(look(self.folder), Found(None, 1))

    def test_the_archive_of_an_older_server_was_used(self) -> None:
        with closing(sqlite3.connect(self.folder / archive.FILE)) as connection:
            script = Path(__file__).with_name("version5.sql").read_text()
            connection.executescript(f"{script}; PRAGMA user_version = 5")
        self.assertGreater(look(self.folder).version, 0)

    def test_the_archive_of_a_node_has_a_place(self) -> None:
        self.assertEqual(look(self.peer), Found(Node("peer", 3, STREAM, 10), 1))

    def test_a_log_without_its_archive_is_refused(self) -> None:
        (self.folder / "chat.sqlite-wal").write_text("commits")
        with self.assertRaisesRegex(ArchiveError, "chat.sqlite-wal: .* move it away too"):
            look(self.folder)

    def test_an_archive_that_can_not_be_read_is_refused(self) -> None:
        (self.folder / archive.FILE).write_text("no database" * 1000)
        with self.assertRaisesRegex(ArchiveError, "chat.sqlite: "):
            look(self.folder)


class CompleteTests(CopyTestCase):
    def complete(self) -> Deferred[None]:
        return Deferred.fromCoroutine(
            complete(self.log, self.folder, look(self.folder), self.said.append, not_now)
        )

    async def test_an_empty_folder_gets_a_copy(self) -> None:
        self.offer()
        await self.complete()
        self.assertEqual(texts(self.folder), texts(self.peer))
        said = list(self.said)
        await self.complete()  # at the next start
        self.assertEqual(self.said, said)

    async def test_an_empty_folder_gets_none_if_the_log_has_everything(self) -> None:
        self.log.limits = Bounds(STREAM, 1, 20)
        await self.complete()
        self.assertEqual((os.listdir(self.folder), self.log.asked), ([], []))

    async def test_a_backup_that_was_put_there_by_hand_is_as_good_as_a_copy(self) -> None:
        backup = self.make_folder() / "backup.sqlite"
        maintenance.backup(self.peer, backup)
        maintenance.restore(self.folder, backup, self.said.append)
        await self.complete()
        self.assertEqual(self.log.asked, [])
        archive.prepare(self.folder)
        self.assertEqual(look(self.folder), Found(Node("peer", 0, STREAM, 10), 1))

    async def test_a_backup_that_is_too_old_is_refused(self) -> None:
        backup = self.make_folder() / "backup.sqlite"
        maintenance.backup(self.peer, backup)
        maintenance.restore(self.folder, backup, self.said.append)
        self.log.limits = Bounds(STREAM, 15, 20)
        with self.assertRaisesRegex(ArchiveError, "move .* away, and start again"):
            await self.complete()

    async def test_a_first_start_waits_for_the_log_and_says_so_once(self) -> None:
        self.log.limits = None
        turns = 0

        def wait(seconds: float) -> Deferred[None]:
            nonlocal turns
            turns += 1
            if turns == 3:
                self.log.limits = Bounds(STREAM, 1, 20)
            return not_now(seconds)

        await complete(self.log, self.folder, Found(None, 0), self.said.append, wait)
        self.assertEqual(self.said, ["waiting for the cluster's log: no answer"])

    async def test_a_log_that_can_not_be_followed_is_refused(self) -> None:
        fill(self.folder)
        self.log.broken = "the log does not exist any more"
        with self.assertRaisesRegex(ArchiveError, "^--cluster: the log does not exist any more"):
            await self.complete()

    async def test_a_node_does_not_wait_for_the_log(self) -> None:
        fill(self.folder)
        self.log.limits = None
        await self.complete()
        self.assertEqual(self.said, [])


class PrepareTests(CopyTestCase):
    def prepare(self) -> None:
        def make_peer(found: Found) -> Questions:
            self.found = found
            return self.log

        prepare(self.folder, make_peer, self.said.append)

    def test_a_folder_gets_its_copy_and_the_log_is_closed(self) -> None:
        self.offer_at_once()
        self.prepare()
        self.assertEqual(texts(self.folder), texts(self.peer))
        self.assertEqual((self.log.closed, self.found), (1, Found(None, 0)))

    def test_what_fails_is_an_error_and_the_log_is_closed(self) -> None:
        fill(self.folder, applied=None)
        with self.assertRaisesRegex(ArchiveError, "can't join a cluster"):
            self.prepare()
        self.assertEqual(self.log.closed, 1)

    def test_ctrl_c_is_an_error_in_one_line(self) -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        self.log.between = interrupt
        with self.assertRaisesRegex(ArchiveError, "interrupted"):
            self.prepare()
        self.assertEqual(os.listdir(self.folder), [])
        self.assertEqual(self.log.closed, 1)
