"""A node offers copies of its files: when they are made, what is in them, when they are deleted."""

from __future__ import annotations

import json
import os
import shutil
from collections import namedtuple
from contextlib import closing
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs

from chat_twisted.core.message import Message
from chat_twisted.storage import archive, copying, index, offering
from chat_twisted.storage.offering import OFFERED, PIECE, SILENCE, SLOWEST
from tests.copying import CopyTestCase, fill
from tests.store import write


class OfferTestCase(CopyTestCase):
    async def ask(self, **question: object) -> tuple[dict[str, Any], bytes]:
        """Ask the node on its own topic."""
        found, _ = copying.unpack(await self.log.ask(copying.TOPIC, b"{}\n", 1))
        answer = await self.log.ask(found["topic"], copying.pack(question), 1)
        return copying.unpack(answer)

    async def ready(self) -> dict[str, Any]:
        """Wait until a copy is ready; return the answer."""
        while "making" in (found := await self.ask(copy=""))[0]:
            await deferLater(reactor, 0.001, lambda: None)
        return found[0]

    async def gone(self) -> None:
        """Wait until the copy's file descriptors are closed."""
        while self.descriptors():
            await deferLater(reactor, 0.001, lambda: None)

    def descriptors(self) -> list[str]:
        """The open files of this process that were in the folder for copies."""
        found = []
        for name in os.listdir("/proc/self/fd"):
            try:
                found.append(os.readlink(f"/proc/self/fd/{name}"))
            except FileNotFoundError:  # the listing's own
                continue
        return [path for path in found if path.startswith(f"{self.peer}/{OFFERED}")]


class OfferTests(OfferTestCase):
    async def test_nothing_is_made_before_it_is_asked_for(self) -> None:
        self.offer()
        found, _ = copying.unpack(await self.log.ask(copying.TOPIC, b"{}\n", 1))
        self.assertEqual(found["node"], "peer")
        self.assertEqual(self.descriptors(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_the_copy_is_of_one_moment_while_commits_go_on(self) -> None:
        fill_more = 3000
        fill(folder := self.make_folder(), fill_more)
        self.patch(offering, "STEP", 1)
        begun: list[int] = []
        with closing(archive.connect(folder / archive.FILE)) as connection:
            connection.execute("PRAGMA busy_timeout = 0")

            def commit(copy: Any, *progress: object) -> None:
                """Called after each page of the copy."""
                number = fill_more + 1 + len(begun)
                text = "later " * 500
                write(
                    connection.cursor(),
                    [Message(number, number, 1, "alice", 0, 0, "ALL", text, str(number))],
                )
                connection.commit()
                begun.append(number)

            self.patch(offering._Copy, "_go_on", commit)
            self.offer(folder)
            found = await self.ready()
        self.assertGreater(len(begun), 50)
        await self.fetch()
        self.assertEqual(found["copy"], (await self.ready())["copy"])
        with closing(archive.connect(self.folder / archive.FILE)) as connection:
            [(count, newest)] = connection.execute("SELECT count(*), max(number) FROM message")
        self.assertEqual((count, newest), (fill_more, fill_more))

    async def test_its_files_have_no_names(self) -> None:
        self.offer()
        await self.ready()
        self.assertEqual(len(self.descriptors()), 2)
        self.assertNotIn(OFFERED, os.listdir(self.peer))

    async def test_one_copy_is_for_all_who_ask_meanwhile(self) -> None:
        self.offer()
        first = await self.ready()
        self.assertEqual(await self.ready(), first)

    async def test_a_piece_is_part_of_a_file(self) -> None:
        self.offer()
        ready = await self.ready()
        [[name, size, _], _] = ready["files"]
        self.assertEqual(name, archive.FILE)
        _, data = await self.ask(copy=ready["copy"], file=name, offset=4096)
        self.assertEqual(len(data), min(PIECE, size - 4096))
        _, whole = await self.ask(copy=ready["copy"], file=name, offset=0)
        self.assertEqual(whole[:16], b"SQLite format 3\0")
        self.assertEqual(whole[4096 : 4096 + len(data)], data[: len(whole) - 4096])

    async def test_questions_that_make_no_sense_are_answered(self) -> None:
        self.offer()
        ready = await self.ready()
        copy = ready["copy"]
        for question, error in (
            ({}, "not understood"),
            ({"copy": copy}, "not understood"),
            ({"copy": copy, "file": archive.FILE, "offset": "x"}, "not understood"),
            ({"copy": copy, "file": archive.FILE, "offset": None}, "not understood"),
            ({"copy": copy, "file": archive.FILE, "offset": -1}, "no such piece"),
            ({"copy": copy, "file": archive.FILE, "offset": 10**12}, "no such piece"),
            ({"copy": copy, "file": "/etc/passwd", "offset": 0}, "was deleted"),
            ({"copy": "another", "file": archive.FILE, "offset": 0}, "was deleted"),
        ):
            answer, data = await self.ask(**question)
            self.assertIn(error, answer["error"], question)
            self.assertEqual(data, b"")
        for question in (b"", b"[1]", b"\xff\xfe", b"[" * 100_000, json.dumps("x").encode()):
            answer, _ = copying.unpack(await self.log.ask(self.log.asked[-1], question, 1))
            self.assertIn("not understood", answer["error"])

    # Its end

    async def test_it_is_deleted_when_no_question_comes_for_some_time(self) -> None:
        self.patch(offering, "SLOWEST", 1)
        self.offer()
        ready = await self.ready()
        self.clock.advance(SILENCE - 1)
        piece = {"copy": ready["copy"], "file": archive.FILE, "offset": 0}
        self.assertIn("offset", (await self.ask(**piece))[0])
        self.clock.advance(SILENCE - 1)
        self.assertIn("offset", (await self.ask(**piece))[0])
        self.clock.advance(SILENCE)
        await self.gone()
        self.assertIn("was deleted", (await self.ask(**piece))[0]["error"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertNotEqual((await self.ready())["copy"], ready["copy"])

    async def test_a_reader_that_is_too_slow_loses_it(self) -> None:
        self.offer()
        ready = await self.ready()
        size = sum(size for _, size, _ in ready["files"])
        piece = {"copy": ready["copy"], "file": archive.FILE, "offset": 0}
        for _ in range(4):
            self.clock.advance((SILENCE + size / SLOWEST) / 4)
            answer, _ = await self.ask(**piece)
        self.assertIn("was deleted", answer["error"])

    async def test_stopping_deletes_it(self) -> None:
        copies = self.offer()
        await self.ready()
        await copies.stop()
        self.assertEqual(self.descriptors(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIn("stops", (await self.ask(copy=""))[0]["error"])

    async def test_stopping_interrupts_the_making_of_it(self) -> None:
        self.patch(offering, "STEP", 1)
        pages = 0

        def go_on(copy: Any, *progress: object) -> None:
            nonlocal pages
            pages += 1
            if pages == 3:
                reactor.callFromThread(stop)  # type: ignore[attr-defined]
                while not copy.unwanted:
                    os.sched_yield()
            whole(copy, *progress)

        whole = offering._Copy._go_on
        self.patch(offering._Copy, "_go_on", go_on)
        copies = self.offer()
        stopped = []

        def stop() -> None:
            stopped.append(copies.stop())

        await self.ask(copy="")
        while not stopped:
            await deferLater(reactor, 0.001, lambda: None)
        await stopped[0]
        self.assertEqual(pages, 3)
        self.assertNotIn(OFFERED, os.listdir(self.peer))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_start_deletes_what_a_killed_process_has_left(self) -> None:
        (self.peer / OFFERED).mkdir()
        (self.peer / OFFERED / archive.FILE).write_text("half of it")
        self.offer()
        self.assertNotIn(OFFERED, os.listdir(self.peer))

    # Without a copy

    async def test_a_node_with_little_space_makes_none(self) -> None:
        usage = namedtuple("usage", "free")
        self.patch(shutil, "disk_usage", lambda path: usage(100_000))
        with capturedLogs() as events:
            self.offer()
            answer = await self.ready()
            self.assertIn("node peer can't make a copy: there is too little", answer["error"])
            self.assertTrue(any("too little" in str(event.get("reason")) for event in events))
        self.patch(shutil, "disk_usage", lambda path: usage(2**40))
        self.assertIn("files", await self.ready())

    async def test_an_archive_that_can_not_be_read_is_an_answer(self) -> None:
        self.offer()
        (self.peer / archive.FILE).write_bytes(b"no database" * 1000)
        self.assertIn("node peer can't make a copy: ", (await self.ready())["error"])

    async def test_an_index_that_is_known_to_be_damaged_is_not_offered(self) -> None:
        (self.peer / index.DAMAGED).touch()
        self.offer()
        self.assertEqual([name for name, _, _ in (await self.ready())["files"]], [archive.FILE])
