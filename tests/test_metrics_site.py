"""The web site for the operator's monitoring, and clients of it that misbehave."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chat_twisted.collecting import Kind, Metric, Values
from chat_twisted.metrics import Histogram, LoopLag
from chat_twisted.metrics_site import (
    CHECK_WITHIN,
    CLOSED_AFTER,
    FRESH,
    MAX_CONNECTIONS,
    MetricsService,
    make_factory,
)
from tests.monitoring import parse
from tests.test_listening import Port


class Visitor:
    """A client's end of a connection to the site."""

    def __init__(self, test: SiteTestCase) -> None:
        self.transport = StringTransport()
        self.protocol = test.factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def say(self, data: bytes) -> bytes:
        self.protocol.dataReceived(data)
        return self.transport.value()

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        """Return the code and the content of the answer; 0 and nothing if there is none yet."""
        self.say(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return self.answer()

    def answer(self) -> tuple[int, str]:
        head, _, content = self.transport.value().decode().partition("\r\n\r\n")
        return (int(head.split()[1]), content) if head else (0, "")

    @property
    def closed(self) -> bool:
        return self.transport.disconnecting or self.transport.disconnected

    @property
    def aborted(self) -> bool:
        return self.transport.disconnected

    def gone(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


class SiteTestCase(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.found: dict[Metric, Values] = {}
        self.collected = 0
        self.checked = 0
        self.check: Callable[[], Deferred[None]] = lambda: succeed(None)
        self.not_ready = ""
        self.factory = make_factory(
            self.collect, self.count_check, lambda: self.not_ready, self.clock
        )
        self.factory.doStart()
        self.addCleanup(self.factory.doStop)

    def collect(self) -> dict[Metric, Values]:
        self.collected += 1
        return self.found

    def count_check(self) -> Deferred[None]:
        self.checked += 1
        return self.check()

    def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        return Visitor(self).get(path, method)


class MetricsTests(SiteTestCase):
    def test_all_kinds_of_metrics_are_exported(self) -> None:
        histogram = Histogram((0.1, 1))
        for value in (0.05, 0.5, 3):
            histogram.add(value)
        self.found = {
            Metric("chat_users", Kind.GAUGE, "Users."): [((), 3)],
            Metric("chat_x_total", Kind.COUNTER, "X.", ("kind",)): [(("a",), 1), (("b",), 2)],
            Metric("chat_y_seconds", Kind.HISTOGRAM, "Y."): [((), histogram)],
        }
        code, text = self.get("/metrics")
        values = parse(text)
        self.assertEqual(code, 200)
        self.assertIn("# HELP chat_users Users.\n# TYPE chat_users gauge\n", text)
        self.assertEqual(values["chat_users",], 3)
        self.assertEqual((values["chat_x_total", "a"], values["chat_x_total", "b"]), (1, 2))
        buckets = [values["chat_y_seconds_bucket", le] for le in ("0.1", "1.0", "+Inf")]
        self.assertEqual(buckets, [1, 2, 3])
        self.assertEqual(
            (values["chat_y_seconds_count",], values["chat_y_seconds_sum",]), (3, 3.55)
        )
        self.assertGreater(values["process_open_fds",], 0)

    def test_values_are_collected_at_most_once_a_second(self) -> None:
        first = [self.get("/metrics") for _ in range(5)]
        self.assertEqual((len(set(first)), self.collected), (1, 1))
        self.clock.advance(FRESH)
        self.get("/metrics")
        self.assertEqual(self.collected, 2)

    def test_a_head_has_no_content_and_other_requests_are_refused(self) -> None:
        self.assertEqual(self.get("/metrics", "HEAD"), (200, ""))
        for path, method, code in (
            ("/metrics", "PUT", 405),
            ("/metrics", "POST", 405),
            ("/", "GET", 404),
            ("/metrics/x", "GET", 200),
            ("/x", "GET", 404),
        ):
            self.assertEqual(self.get(path, method)[0], code, (path, method))


class HealthTests(SiteTestCase):
    def test_it_is_well_while_it_can_write(self) -> None:
        self.assertEqual(self.get("/healthz"), (200, "ok\n"))

    def test_it_is_ill_if_writing_fails_and_says_why(self) -> None:
        self.check = lambda: fail(OSError("database or disk is full"))
        self.assertEqual(self.get("/healthz"), (503, "can't commit: database or disk is full\n"))

    def test_it_is_ill_if_writing_takes_too_long(self) -> None:
        self.check = Deferred
        visitor = Visitor(self)
        self.assertEqual(visitor.get("/healthz"), (0, ""))
        self.clock.advance(CHECK_WITHIN)
        code, text = visitor.answer()
        self.assertEqual((code, text), (503, "nothing could be written within 5 seconds\n"))

    def test_all_who_ask_meanwhile_get_the_answer_of_one_check_and_for_a_second(self) -> None:
        writing: Deferred[None] = Deferred()
        self.check = lambda: writing
        visitors = [Visitor(self) for _ in range(3)]
        for visitor in visitors:
            self.assertEqual(visitor.get("/healthz"), (0, ""))
        visitors.pop().gone()
        writing.callback(None)
        self.assertEqual([v.answer() for v in visitors], [(200, "ok\n")] * 2)
        self.assertEqual(self.get("/healthz"), (200, "ok\n"))
        self.assertEqual(self.checked, 1)
        self.clock.advance(FRESH)
        self.check = lambda: fail(OSError("no"))
        self.assertEqual(self.get("/healthz")[0], 503)
        self.assertEqual(self.checked, 2)

    def test_it_is_ready_while_it_accepts_clients(self) -> None:
        self.assertEqual(self.get("/readyz"), (200, "ok\n"))
        self.not_ready = "it can't reach its cluster"
        self.assertEqual(self.get("/readyz"), (503, "it can't reach its cluster\n"))


class HostileTests(SiteTestCase):
    def test_a_connection_ends_with_its_answer(self) -> None:
        visitor = Visitor(self)
        visitor.get("/readyz")
        self.assertTrue(visitor.closed)
        self.assertIn(b"Connection: close\r\n", visitor.transport.value())

    def test_a_client_that_says_a_little_now_and_then_is_cut_off(self) -> None:
        visitor = Visitor(self)
        for _ in range(int(CLOSED_AFTER)):
            self.assertFalse(visitor.aborted)
            visitor.say(b"G")
            self.clock.advance(1)
        self.assertTrue(visitor.aborted)

    def test_a_client_that_does_not_read_its_answer_is_cut_off(self) -> None:
        visitor = Visitor(self)
        visitor.get("/metrics")
        self.assertFalse(visitor.aborted)
        self.clock.advance(CLOSED_AFTER)
        self.assertTrue(visitor.aborted)

    def test_a_client_that_sends_content_is_cut_off(self) -> None:
        for header in (b"Content-Length: 1000000000", b"Transfer-Encoding: chunked"):
            visitor = Visitor(self)
            visitor.say(b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n5\r\nxx")
            self.assertTrue(visitor.aborted)
        self.assertEqual(self.collected, 0)

    def test_a_request_without_end_is_refused(self) -> None:
        visitor = Visitor(self)
        for _ in range(100):
            if visitor.closed:
                break
            visitor.say(b"x" * 1000)
        self.assertTrue(visitor.closed)

    def test_a_new_connection_replaces_the_oldest_of_too_many(self) -> None:
        visitors = [Visitor(self) for _ in range(MAX_CONNECTIONS)]
        self.assertFalse(any(v.aborted for v in visitors))
        visitors[1].gone()
        visitors += [Visitor(self), Visitor(self)]
        self.assertEqual([i for i, v in enumerate(visitors) if v.aborted], [0])
        self.assertEqual(visitors[-1].get("/readyz")[0], 200)

    def test_nothing_is_left_of_connections_that_are_gone(self) -> None:
        for _ in range(3):
            visitor = Visitor(self)
            visitor.get("/metrics")
            visitor.gone()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ServiceTests(SiteTestCase):
    def test_it_stops_with_all_its_connections(self) -> None:
        port, lag = Port(), LoopLag(self.clock)
        service = MetricsService([port], self.factory, lag)  # type: ignore[list-item]
        service.start()
        visitor = Visitor(self)
        self.clock.advance(1)
        self.assertEqual(lag.seconds.total, 1)
        self.successResultOf(service.stop())
        self.assertEqual((port.listening, visitor.aborted), (False, True))
        visitor.gone()
        self.assertEqual(self.clock.getDelayedCalls(), [])
