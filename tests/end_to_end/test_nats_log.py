"""The log on NATS, with real servers: what nodes take, whatever happens to the servers."""

from __future__ import annotations

import asyncio
import gc
import itertools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nats.errors import ConnectionClosedError
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from chat_twisted import reactor_loop
from chat_twisted.storage import following, nats, nats_client
from chat_twisted.storage.log import LARGEST, LogBroken, NotTaken, Unknown
from chat_twisted.storage.nats import NatsLog
from chat_twisted.storage.nats_client import NatsClient, parse_url
from chat_twisted.storage.nats_connection import NatsConnection
from chat_twisted.storage.nats_durability import find_shortcoming
from tests.end_to_end.support import TWISTD, Process, free_port
from tests.end_to_end.test_cluster_page import blocks
from tests.nats import NatsCluster, NatsServer, make_certificate, make_operator

RETRY = 0.02  # seconds until a record that was not taken is appended again


class Node:
    """A node that follows the log.

    :ivar taken: the records that it has taken, each with its position.
    :ivar calls: how many were taken in each call.
    :ivar broken: fires with the reason when the log can't be followed.
    """

    def __init__(self, log: NatsLog) -> None:
        self.log = log
        self.taken: list[tuple[int, bytes]] = []
        self.calls: list[int] = []
        self.broken: Deferred[str] = Deferred()
        self.taking: Deferred[None] | None = None  # what ``take`` returns
        self._waiting: list[tuple[int, Deferred[None]]] = []

    def follow(self, after: int = 0) -> None:
        self.log.follow(after, self._take, self._broke)

    def _take(self, records: Sequence[tuple[int, bytes]]) -> Deferred[None] | None:
        self.taken += records
        self.calls.append(len(records))
        last = records[-1][0]
        for each in [each for each in self._waiting if each[0] <= last]:
            self._waiting.remove(each)
            each[1].callback(None)
        return self.taking

    def _broke(self, reason: LogBroken) -> None:
        self.broken.callback(str(reason))

    def until(self, position: int) -> Deferred[None]:
        """Wait until the record at a position has been taken."""
        if self.taken and self.taken[-1][0] >= position:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append((position, waiting))
        return waiting

    async def append(self, data: bytes) -> int:
        """Append a record, again and again until it is said to be stored."""
        while True:
            try:
                return await self.log.append(data)
            except (NotTaken, Unknown):
                await deferLater(reactor, RETRY)

    async def append_all(self, records: Sequence[bytes]) -> int:
        """Append records one after the other; return the last one's position."""
        for data in records:
            position = await self.append(data)
        return position

    async def connected(self) -> None:
        """Wait until the log answers."""
        while True:
            try:
                await self.log.bounds()
            except Unknown:
                await deferLater(reactor, RETRY)
            else:
                return


def records(name: str, count: int) -> list[bytes]:
    return [f"{name}{number}".encode() for number in range(1, count + 1)]


class LogTestCase(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        reactor_loop.use(reactor)
        self.logs: list[NatsLog] = []

    async def tearDown(self) -> None:
        await gatherResults([log.close() for log in self.logs], consumeErrors=True)
        reactor_loop.leave()

    def log(self, *urls: str, **options: object) -> NatsLog:
        log = NatsLog(urls, reactor, **options)
        log.start()
        self.logs.append(log)
        return log

    def node(self, *urls: str, after: int = 0, **options: object) -> Node:
        node = Node(self.log(*urls, **options))
        node.follow(after)
        return node

    def check(self, node: Node, *expected: Sequence[bytes], first: int = 1) -> None:
        """Assert that the node took these records, those of each sequence in their order, at
        positions without gaps. What was appended again because there was no answer may be there
        twice.
        """
        positions = [position for position, _ in node.taken]
        self.assertEqual(positions, list(range(first, first + len(positions))))
        data = list(dict.fromkeys(data for _, data in node.taken))
        self.assertEqual(sorted(data), sorted(itertools.chain(*expected)))
        for each in expected:
            self.assertEqual([one for one in data if one in set(each)], list(each))

    def logged(self) -> list[str]:
        """Return a list that gets all lines of the log from now on."""
        lines: list[str] = []

        def note(event: LogEvent) -> None:
            lines.append(formatEvent(event))

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        return lines

    def doubt_quickly(self) -> None:
        self.patch(following, "DOUBT_PAUSES", (0.02, 0.02))


class OneServerTestCase(LogTestCase):
    settings = ""

    def setUp(self) -> None:
        super().setUp()
        self.server = NatsServer(self.folder, settings=self.settings)
        self.server.start()
        self.addCleanup(self.server.kill)


class FollowingTests(OneServerTestCase):
    async def test_all_nodes_take_the_same_records_in_the_same_order(self) -> None:
        a, b = self.node(self.server.url), self.node(self.server.url)
        await a.connected()
        await b.connected()
        ones, others = records("a", 200), records("b", 200)
        await gatherResults(
            [
                Deferred.fromCoroutine(a.append_all(ones)),
                Deferred.fromCoroutine(b.append_all(others)),
            ]
        )
        await gatherResults([a.until(400), b.until(400)])
        self.check(a, ones, others)
        self.assertEqual(a.taken, b.taken)
        self.assertEqual(len(a.taken), 400)

    async def test_a_node_that_was_away_takes_what_it_has_missed_in_large_pieces(self) -> None:
        a = self.node(self.server.url)
        await a.connected()
        data = records("a", 300)
        await a.append_all(data)
        b = self.node(self.server.url, after=100)
        await b.until(300)
        self.check(b, data[100:], first=101)
        self.assertEqual(b.calls, [200])

    async def test_records_that_come_while_others_are_taken_wait_and_are_taken_together(
        self,
    ) -> None:
        a, b = self.node(self.server.url), self.node(self.server.url)
        await a.connected()
        await b.connected()
        b.taking = taking = Deferred()
        data = records("a", 20)
        await a.append(data[0])
        await b.until(1)
        await a.append_all(data[1:])
        await a.until(20)
        await b.log.bounds()  # after the records, on the same connection
        self.assertEqual(b.calls, [1])
        b.taking = None
        taking.callback(None)
        await b.until(20)
        self.assertEqual(b.calls, [1, 19])
        self.check(b, data)

    async def test_more_than_may_wait_is_fetched_later(self) -> None:
        self.patch(following, "MAX_WAITING", 1000)
        a, b = self.node(self.server.url), self.node(self.server.url)
        await a.connected()
        await b.connected()
        b.taking = taking = Deferred()
        data = [each * 50 for each in records("a", 50)]
        await a.append_all(data)
        await a.until(50)
        await b.log.bounds()
        b.taking = None
        taking.callback(None)
        await b.until(50)
        self.check(b, data)

    async def test_a_record_that_is_too_long_is_not_taken(self) -> None:
        a = self.node(self.server.url)
        await a.connected()
        with self.assertRaises(NotTaken) as raised:
            await a.log.append(bytes(2 << 20))
        self.assertFalse(raised.exception.full)
        self.assertEqual((await a.log.bounds()).last, 0)

    async def test_a_closed_log_calls_nothing_and_what_waits_fails(self) -> None:
        a, b = self.node(self.server.url), self.node(self.server.url)
        await a.connected()
        await b.connected()
        self.server.freeze()
        waiting = b.log.append(b"1")
        closed = b.log.close()
        await self.failUnlessFailure(waiting, Unknown)
        self.server.unfreeze()
        await closed
        await a.append(b"2")
        await a.until(1)
        self.assertEqual(b.taken, [])
        await self.failUnlessFailure(b.log.append(b"3"), NotTaken)


class SmallMessagesTests(OneServerTestCase):
    settings = f"max_payload: {LARGEST - 1}"

    async def test_a_server_that_takes_too_little_at_once_is_not_used(self) -> None:
        for ask in ("bounds", "keepers", "look"):
            problem = await self.failUnlessFailure(
                getattr(self.log(self.server.url), ask)(), LogBroken
            )
            self.assertIn(f"at most {LARGEST - 1} bytes", str(problem))
            self.assertIn("set max_payload to 1MB", str(problem))


class LostServerTests(OneServerTestCase):
    async def test_after_a_crash_it_goes_on_by_itself(self) -> None:
        a, b = self.node(self.server.url), self.node(self.server.url)
        await a.connected()
        await b.connected()
        data = records("a", 40)
        await a.append_all(data[:20])
        self.server.kill()
        rest = Deferred.fromCoroutine(a.append_all(data[20:]))
        self.server.start()
        last = await rest
        await gatherResults([a.until(last), b.until(last)])
        self.check(a, data)
        self.assertEqual(a.taken, b.taken)

    async def test_without_a_connection_a_record_is_not_taken(self) -> None:
        a = self.node(self.server.url)
        await a.connected()
        self.server.kill()
        with self.assertRaises((NotTaken, Unknown)):
            await a.log.append(b"1")
        with self.assertRaises(NotTaken):
            await a.log.append(b"2")
        self.server.start()
        await a.append(b"3")
        await a.until(1)
        self.check(a, [b"3"])

    async def test_what_could_not_be_sent_leaves_nothing_behind(self) -> None:
        a = self.node(self.server.url)
        await a.connected()
        self.server.freeze()
        for _ in range(100):
            a.log.tell("topic", bytes(100_000))
        await self.failUnlessFailure(a.log.append(b"1"), Unknown)
        self.server.kill()
        while not isinstance(await a.log.append(b"2").addErrback(lambda f: f.value), NotTaken):
            await deferLater(reactor, RETRY)
        gc.collect()  # tasks that have failed, or are still waiting, are logged now
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_it_may_be_closed_while_it_connects(self) -> None:
        self.server.freeze()
        log = self.log(self.server.url)
        await deferLater(reactor, 0)
        await log.close()  # trial fails if something stays behind

    async def test_a_connection_that_is_lost_while_it_is_made_is_made_again(self) -> None:
        faults = [ConnectionClosedError(), AssertionError(), TimeoutError()]
        listen = NatsClient.listen

        async def fail(client: NatsClient, *arguments: object) -> None:
            if faults:
                raise faults.pop()
            await listen(client, *arguments)

        self.patch(NatsClient, "listen", fail)
        a = self.node(self.server.url)
        await a.connected()
        self.assertEqual(faults, [])
        await a.until(await a.append(b"1"))

    async def test_of_a_server_that_stands_still_nothing_is_known(self) -> None:
        a = self.node(self.server.url)
        await a.connected()
        self.server.freeze()
        started = reactor.seconds()
        with self.assertRaises(Unknown):
            await a.log.append(b"1")
        self.assertLess(reactor.seconds() - started, 8)  # it is about 2, with time to do it
        self.server.unfreeze()
        await a.until(await a.append(b"2"))
        self.assertEqual({data for _, data in a.taken} | {b"1"}, {b"1", b"2"})


class FullTests(OneServerTestCase):
    async def test_a_full_log_can_be_read_and_takes_records_again_after_a_purge(self) -> None:
        a = self.node(self.server.url, max_bytes=10_000)
        await a.connected()  # it makes the log
        b = self.node(self.server.url)
        await b.connected()
        stored = 0
        with self.assertRaises(NotTaken) as raised:
            for _ in range(1000):
                stored = await a.log.append(bytes(500))
        self.assertTrue(raised.exception.full)
        self.assertGreater(stored, 5)
        await b.until(stored)
        c = self.node(self.server.url)
        await c.until(stored)
        await a.log.purge(stored)
        self.assertEqual((await a.log.bounds())[1:], (stored, stored))
        self.assertEqual(await a.log.append(b"again"), stored + 1)
        for node in (a, b, c):
            await node.until(stored + 1)
            self.assertEqual(node.taken[-1], (stored + 1, b"again"))


class SpaceTests(LogTestCase):
    """A log is not larger than the servers have space for it."""

    async def fill(self, *urls: str) -> None:
        """Fill a log on servers that have 5 MiB for it."""
        a = self.node(*urls)
        await a.connected()
        stored = 0
        with self.assertRaises(NotTaken) as raised:
            for _ in range(100):
                stored = await a.log.append(bytes(100_000))
        self.assertTrue(raised.exception.full)
        self.assertGreater(stored, 30)  # 4 MiB
        await a.until(stored)
        await a.log.purge(stored)
        self.assertEqual(await a.log.append(b"again"), stored + 1)

    async def test_on_one_server(self) -> None:
        server = NatsServer(self.folder, space="5MiB")
        server.start()
        self.addCleanup(server.kill)
        await self.fill(server.url)

    async def test_on_three_servers(self) -> None:
        cluster = NatsCluster(self.folder, space="5MiB")
        cluster.start()
        self.addCleanup(cluster.kill)
        await self.fill(*cluster.urls)


class BrokenTests(OneServerTestCase):
    """A log that can't be followed is reported, with the reason."""

    async def filled(self, count: int = 10) -> Node:
        node = self.node(self.server.url)
        await node.connected()
        await node.append_all(records("a", count))
        await node.until(count)
        return node

    async def function(self, node: Node, name: str, **request: object) -> None:
        await node.log._call(name, request)

    async def put_back(self) -> Node:
        """Stop the server, and put an old copy of the log in its place. Return a node that has
        taken five records more than are there.
        """
        node = await self.filled()
        self.server.stop()
        shutil.copytree(self.server.store, self.folder / "old")
        self.server.start()
        await node.append_all(records("b", 5))
        await node.until(15)
        self.server.stop()
        self.server.wipe()
        shutil.move(self.folder / "old", self.server.store)
        return node

    async def test_a_purge_of_what_was_taken_breaks_nothing(self) -> None:
        a = await self.filled()
        await a.log.purge(11)
        self.assertEqual((await a.log.bounds())[1:], (11, 10))
        await a.append(b"more")
        await a.until(11)
        b = self.node(self.server.url, after=10)
        await b.until(11)
        self.check(b, [b"more"], first=11)

    async def test_a_node_can_not_follow_that_needs_purged_records(self) -> None:
        a = await self.filled()
        await a.log.purge(5)
        b = self.node(self.server.url, after=3)
        self.assertIn("begins at record 5, and the one after 3", await b.broken)
        self.assertEqual(b.taken, [])
        c = self.node(self.server.url, after=4)
        await c.until(10)

    async def test_a_log_that_was_made_anew_is_another_one(self) -> None:
        a = await self.filled()
        await self.function(a, "STREAM.DELETE")
        b = self.node(self.server.url)
        await b.connected()  # it makes the log
        await b.append(b"1")
        self.assertIn("another log", await a.broken)
        self.assertEqual(len(a.taken), 10)

    async def test_a_deleted_log_is_not_made_again_by_those_who_knew_it(self) -> None:
        self.doubt_quickly()
        a = await self.filled()
        await self.function(a, "STREAM.DELETE")
        self.assertIn("does not exist", await a.broken)
        await self.failUnlessFailure(a.log.bounds(), LogBroken)

    async def test_a_log_that_must_be_there_is_not_made(self) -> None:
        self.doubt_quickly()
        log = self.log(self.server.url, may_make=False)
        for ask in (log.bounds, log.keepers, log.look):
            problem = await self.failUnlessFailure(ask(), LogBroken)
            self.assertIn("does not exist", str(problem))
        self.assertIsNone(await self.log(self.server.url).look())

    async def test_an_old_copy_of_the_log_is_shorter(self) -> None:
        self.doubt_quickly()
        a = await self.put_back()
        self.server.start()
        self.assertIn("ends at record 10, and 15 was taken", await a.broken)

    async def test_an_old_copy_of_the_log_to_which_others_have_appended(self) -> None:
        a = await self.put_back()
        port, self.server.port = self.server.port, free_port()  # only the other node finds it
        self.server.start()
        c = self.node(self.server.url, after=10)
        await c.connected()
        await c.append_all(records("c", 10))
        self.server.stop()
        self.server.port = port
        self.server.start()
        self.assertIn("record 15 of the log is another one", await a.broken)
        self.assertEqual(len(a.taken), 15)

    async def test_a_deleted_record_is_missed(self) -> None:
        self.doubt_quickly()
        a = await self.filled()
        await self.function(a, "STREAM.MSG.DELETE", seq=5)
        b = self.node(self.server.url)
        self.assertIn("record 5 is not in the log", await b.broken)
        self.assertLess(len(b.taken), 5)


class TopicTests(OneServerTestCase):
    async def test_the_other_nodes_hear_what_a_node_tells(self) -> None:
        a, b, c = (self.log(self.server.url) for _ in range(3))
        heard: list[tuple[str, bytes]] = []
        done: Deferred[None] = Deferred()

        def hear(name: str, data: bytes) -> None:
            heard.append((name, data))
            if len(heard) == 2:
                done.callback(None)

        for name, log in (("a", a), ("b", b), ("c", c)):
            log.hear("news", lambda data, name=name: hear(name, data))
        await gatherResults([log.bounds() for log in (a, b, c)])
        a.tell("news", b"x")
        a.tell("others", b"y")
        await done
        self.assertEqual(sorted(heard), [("b", b"x"), ("c", b"x")])

    async def test_one_node_answers_a_question(self) -> None:
        a, b, c = (self.log(self.server.url) for _ in range(3))
        asked: list[bytes] = []

        def answer(data: bytes) -> Deferred[bytes]:
            asked.append(data)
            return succeed(data * 2)

        for log in (a, b, c):
            log.answer("twice", answer)
        await gatherResults([log.bounds() for log in (a, b, c)])
        self.assertEqual(await a.ask("twice", b"x", 30), b"xx")
        self.assertEqual(asked, [b"x"])

    async def test_without_an_answer_nothing_is_known(self) -> None:
        a, b = self.log(self.server.url), self.log(self.server.url)
        b.answer("never", lambda data: Deferred())
        await gatherResults([log.bounds() for log in (a, b)])
        await self.failUnlessFailure(a.ask("never", b"x", 0.01), Unknown)
        await self.failUnlessFailure(a.ask("nothing", b"x", 30), Unknown)

    async def test_a_fault_in_an_answer_is_logged(self) -> None:
        a, b = self.log(self.server.url), self.log(self.server.url)
        b.answer("fault", lambda data: succeed(1 // 0))
        await gatherResults([log.bounds() for log in (a, b)])
        await self.failUnlessFailure(a.ask("fault", b"x", 0.1), Unknown)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class PingTests(OneServerTestCase):
    async def test_an_answer_that_comes_too_late_harms_nothing(self) -> None:
        self.patch(nats_client, "QUIET", 0.01)
        self.patch(nats_client, "SLICE", 0.01)
        await Deferred.fromFuture(asyncio.ensure_future(self.check_late_answer()))

    async def check_late_answer(self) -> None:
        client = NatsClient(parse_url(self.server.url, must_encrypt=False), None, None, "test")
        await client.open()
        self.server.freeze()
        await client.until_lost()
        with self.assertNoLogs("nats"):
            self.server.unfreeze()
            await client.rtt(30)
        await client.leave()


class ServersTests(LogTestCase):
    async def test_a_search_for_a_server_through_which_the_log_answers_is_logged_once(self) -> None:
        urls: list[str] = []
        for name in "ab":
            server = NatsServer(self.folder / name)
            server.start()
            self.addCleanup(server.kill)
            urls.append(server.url)
        lines = self.logged()
        done: Deferred[None] = Deferred()
        rounds = itertools.count()

        def connected() -> None:
            if next(rounds) < 5:
                connection.leave_server("nobody answers")
            else:
                connection.settle()
                done.callback(None)

        connection = NatsConnection(
            urls,
            reactor,
            credentials=None,
            ca=None,
            name="test",
            connected=connected,
            lost=lambda: None,
        )
        connection.start()
        self.logs.append(connection)
        await done
        first, *others = lines
        self.assertIn("connected to the NATS server", first)
        self.assertEqual(others[0], "leaving the NATS server: nobody answers")
        self.assertIn("the log answers through the NATS server", others[1])
        self.assertEqual(len(others), 2, lines)


class AccessTests(LogTestCase):
    """Who may connect, and to whom."""

    def server(self, settings: str) -> NatsServer:
        server = NatsServer(self.folder, settings=settings)
        server.start()
        self.addCleanup(server.kill)
        return server

    async def use(self, url: str, **options: object) -> None:
        node = self.node(url, **options)
        await node.connected()
        await node.until(await node.append(b"1"))

    async def refused(self, url: str, **options: object) -> str:
        """Return what is said about a server that is not used."""
        log = self.log(url, **options)
        problem = await self.failUnlessFailure(log.bounds(), Unknown)
        self.assertFalse(self.flushLoggedErrors())
        return str(problem)

    async def test_a_password_or_a_token_in_the_url(self) -> None:
        self.patch(nats, "API_PATIENCE", 0.3)
        server = self.server('authorization { user: "u@1", password: "p:/2" }')
        await self.use(server.url.replace("//", "//u%401:p%3A%2F2@"))
        said = await self.refused(server.url.replace("//", "//u%401:wrong@"))
        self.assertIn("authorization violation", said.lower())
        self.assertNotIn("wrong", said)

    async def test_a_password_in_a_file(self) -> None:
        server = self.server('authorization { user: chat, password: "a long: text" }')
        path = self.folder / "password"
        path.write_text("chat:a long: text\n")
        await self.use(server.url, credentials=str(path))

    async def test_a_token_in_the_url(self) -> None:
        server = self.server('authorization { token: "secret" }')
        await self.use(server.url.replace("//", "//secret@"))

    async def test_a_user_who_may_do_no_more_than_the_page_about_clusters_says(self) -> None:
        lines = self.logged()
        *_, permissions = blocks("NATS\n....", "\nOne certificate\n")
        server = self.server(permissions)
        path = self.folder / "password"
        path.write_text("chat:a long random text\n")
        a = self.node(server.url, credentials=str(path))
        asked: list[bytes] = []
        a.log.answer("question.id", lambda data: succeed(data * 2))
        a.log.hear("news", asked.append)
        await a.connected()
        self.assertEqual(await a.append_all(records("a", 3)), 3)
        await a.until(3)
        b = self.node(server.url, credentials=str(path))
        await b.until(3)  # it fetches them
        self.assertEqual([await b.log.peek(1), await b.log.get(2)], [b"a1", b"a2"])
        b.log.tell("news", b"x")
        self.assertEqual(await b.log.ask("question.id", b"y", 30), b"yy")
        self.assertEqual(asked, [b"x"])
        await b.log.purge(3)
        info = await a.log._info()
        assert info is not None
        await a.log._call("STREAM.UPDATE", {**info["config"], "republish": None})
        await b.append(b"more")
        self.assertEqual((await a.log.bounds())[1:], (3, 4))  # it has corrected the settings
        self.assertFalse([line for line in lines if "forbids" in line])
        self.patch(nats, "API_PATIENCE", 0.3)
        for forbidden in ("STREAM.DELETE", "CONSUMER.CREATE"):
            asked_in_vain = Deferred.fromCoroutine(a.log._call(forbidden))
            await self.failUnlessFailure(asked_in_vain, Unknown)
            self.assertIn("forbids", lines[-1])
            self.assertIn(forbidden.lower(), lines[-1])

    async def test_a_credentials_file(self) -> None:
        self.patch(nats, "API_PATIENCE", 0.3)
        settings, credentials = make_operator()
        server = self.server(settings)
        path = self.folder / "user.creds"
        path.write_text(credentials)
        await self.use(server.url, credentials=str(path))
        path.write_text(make_operator()[1])
        said = await self.refused(server.url, credentials=str(path))
        self.assertIn("authorization violation", said.lower())
        path.write_text("something else")
        self.assertRaises(ValueError, self.log, server.url, credentials=str(path))

    async def test_certificates_are_checked(self) -> None:
        self.patch(nats, "API_PATIENCE", 0.3)
        certificate, key = make_certificate(self.folder, "127.0.0.1")
        server = self.server(f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}')
        await self.use(server.url, ca=str(certificate))
        self.assertIn("certificate", await self.refused(server.url))
        other = self.folder / "other"
        other.mkdir()
        await self.refused(server.url, ca=str(make_certificate(other, "127.0.0.1")[0]))
        other_name = server.url.replace("127.0.0.1", "localhost")
        self.assertIn("certificate", await self.refused(other_name, ca=str(certificate)))

    async def test_the_end_of_an_encrypted_connection_is_no_reason_for_a_warning(self) -> None:
        certificate, key = make_certificate(self.folder, "127.0.0.1")
        server = self.server(f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}')
        node = self.node(server.url, ca=str(certificate))
        await node.connected()
        with self.assertNoLogs("asyncio"):
            server.stop()
            while not isinstance(
                await node.log.append(b"").addErrback(lambda f: f.value), NotTaken
            ):
                await deferLater(reactor, RETRY)

    async def test_a_server_that_must_encrypt_and_does_not_gets_no_password(self) -> None:
        self.patch(nats, "API_PATIENCE", 0.3)
        certificate, _ = make_certificate(self.folder, "127.0.0.1")
        server = self.server("authorization { user: u, password: p }")
        url = server.url.replace("//", "//u:p@")
        self.assertIn("does not encrypt", await self.refused(url, ca=str(certificate)))
        self.assertIn("does not encrypt", await self.refused(url.replace("nats:", "tls:")))

    async def test_a_url_with_mistakes(self) -> None:
        for url in ("http://127.0.0.1", "nats://", "nats://127.0.0.1:port", "nats://h:1/path"):
            self.assertRaises(ValueError, self.log, url)


class ClusterTests(LogTestCase):
    """Three servers, and a log on all of them."""

    def setUp(self) -> None:
        super().setUp()
        self.cluster = NatsCluster(self.folder)
        self.cluster.start()
        self.addCleanup(self.cluster.kill)

    async def leader(self, node: Node) -> NatsServer:
        while "leader" not in (info := await node.log._call("STREAM.INFO"))["cluster"]:
            await deferLater(reactor, RETRY)
        self.assertEqual(info["config"]["num_replicas"], 3)
        return self.cluster.server(info["cluster"]["leader"])

    def others(self, server: NatsServer) -> list[NatsServer]:
        return [each for each in self.cluster.servers if each is not server]

    async def test_the_leader_crashes(self) -> None:
        a, b = self.node(*self.cluster.urls), self.node(*self.cluster.urls)
        await a.connected()
        leader = await self.leader(a)
        ones, others = records("a", 100), records("b", 100)
        appending = [
            Deferred.fromCoroutine(a.append_all(ones)),
            Deferred.fromCoroutine(b.append_all(others)),
        ]
        await a.until(50)
        leader.kill()
        last = max(await gatherResults(appending))
        await gatherResults([a.until(last), b.until(last)])
        self.check(a, ones, others)
        self.assertEqual(a.taken, b.taken)
        leader.start()
        c = self.node(leader.url)
        await c.until(last)
        self.assertEqual(c.taken, a.taken)

    async def test_a_server_that_stands_still_is_left_within_seconds(self) -> None:
        a = self.node(*self.cluster.urls)
        await a.connected()
        leader = await self.leader(a)
        still, other = self.others(leader)
        b = self.node(still.url, other.url)
        c = self.node(still.url)
        await gatherResults([Deferred.fromCoroutine(each.connected()) for each in (b, c)])
        data = records("a", 20)
        await c.append_all(data[:10])
        still.freeze()
        started = reactor.seconds()
        last = await a.append_all(data[10:])
        await gatherResults([a.until(last), b.until(last)])
        self.assertLess(reactor.seconds() - started, 10)  # about 3 at most, with time to do it
        still.unfreeze()
        await c.until(last)
        for node in (a, b, c):
            self.check(node, data)

    async def test_all_servers_crash(self) -> None:
        a = self.node(*self.cluster.urls)
        await a.connected()
        data = records("a", 40)
        await a.append_all(data[:20])
        await a.until(20)
        self.cluster.kill()
        rest = Deferred.fromCoroutine(a.append_all(data[20:]))
        self.cluster.start()
        await a.until(await rest)
        self.check(a, data)


class DurabilityTests(LogTestCase):
    """What ``--sync full`` demands of the servers."""

    async def test_three_servers_that_wait_for_their_disks(self) -> None:
        cluster = NatsCluster(self.folder, monitor=True, syncs_always=True)
        cluster.start()
        self.addCleanup(cluster.kill)
        node = self.node(*cluster.urls)
        await node.connected()
        keepers = await node.log.keepers()
        self.assertEqual(keepers, {"n1", "n2", "n3"})
        monitors = [server.monitor for server in cluster.servers]
        self.assertEqual(await find_shortcoming(keepers, monitors, reactor), ("", True))
        reason, is_certain = await find_shortcoming(keepers, monitors[:2], reactor)
        self.assertIn("nothing is known about the NATS server n3", reason)
        self.assertFalse(is_certain)
        third = cluster.server("n3")
        third.stop()
        reason, is_certain = await find_shortcoming(keepers, monitors, reactor)
        self.assertIn(f"no answer from {third.monitor}", reason)
        self.assertFalse(is_certain)
        third.sync = "1s"
        third.start()
        reason, is_certain = await find_shortcoming(keepers, monitors, reactor)
        self.assertIn("n3 does not have sync_interval: always", reason)
        self.assertTrue(is_certain)

    async def test_asking_again_and_again_fills_no_log(self) -> None:
        lines = self.logged()
        monitors = [f"http://127.0.0.1:{free_port()}"]
        reason, _ = await find_shortcoming(frozenset(["n1", "n2", "n3"]), monitors, reactor)
        self.assertIn(f"no answer from {monitors[0]}", reason)
        self.assertEqual(lines, [])

    async def test_one_server_is_too_few(self) -> None:
        server = NatsServer(self.folder, monitor=True, syncs_always=True)
        server.start()
        self.addCleanup(server.kill)
        node = self.node(server.url)
        await node.connected()
        keepers = await node.log.keepers()
        found = await find_shortcoming(keepers, [server.monitor], reactor)
        self.assertEqual(found, ("the number of NATS servers that keep the log is 1, not 3", True))

    def test_a_node_does_not_start_without_them(self) -> None:
        server = NatsServer(self.folder / "nats", monitor=True, syncs_always=True)
        server.start()
        self.addCleanup(server.kill)
        listen = f"tcp:{free_port()}:interface=127.0.0.1"
        node = ("--cluster", server.url, "--node", "a", "--sync", "full")
        options = ("--state", str(self.folder / "a"), "--listen", listen, *node)
        process = Process(TWISTD, "-n", "--pidfile=", "chatserver", *options, cwd=str(self.folder))
        self.addCleanup(process.close)
        process.wait_for(
            "the server stops: --sync full: the number of NATS servers that keep the log is 1"
        )
        self.assertEqual(process.wait(), 1)
