"""The pages for the operator's monitoring, of a running server."""

from __future__ import annotations

import http.client
import socket

from tests.end_to_end.support import ServerTestCase, free_port
from tests.monitoring import parse


class MetricsTests(ServerTestCase):
    def setUp(self) -> None:
        self.metrics_port = free_port()
        self.options = ("--metrics", f"tcp:{self.metrics_port}")
        super().setUp()

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=20)
        self.addCleanup(connection.close)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def metrics(self) -> dict[tuple[str, ...], float]:
        code, text = self.get("/metrics")
        self.assertEqual(code, 200)
        return parse(text)

    def test_a_server_tells_what_its_users_do(self) -> None:
        alice = self.connect()
        alice.register("alice")
        bob = self.connect(tls=True)
        bob.register("bob")
        verb, _, _ = alice.ask("SEND bob", body="hello")
        self.assertEqual(verb, "SENT bob")
        self.assertTrue(bob.frame()[0].startswith("FORWARD"))
        values = self.metrics()
        self.assertEqual(values["chat_users",], 2)
        self.assertEqual(values["chat_connections", "framed", "TLS", "version 2"], 1)
        self.assertEqual(values["chat_messages_total", "user"], 1)
        self.assertEqual(values["chat_deliveries_total",], 1)
        self.assertEqual(values["chat_logins_total", "guest"], 2)
        self.assertGreater(values["chat_commit_seconds_count",], 2)
        self.assertGreater(values["chat_file_bytes", "archive"], 0)
        self.assertGreater(values["chat_file_bytes", "archive_log"], 0)
        self.assertGreater(values["process_resident_memory_bytes",], 1e6)
        self.assertNotIn("chat_cluster_in_touch", {name for name, *_ in values})

    def test_it_is_well_and_ready_and_on_this_machine_alone(self) -> None:
        self.assertEqual(self.get("/healthz"), (200, "ok\n"))
        self.assertEqual(self.get("/readyz"), (200, "ok\n"))
        logged = "\n".join(self.server.out)
        self.assertIn(f"metrics on 127.0.0.1:{self.metrics_port}\n", logged)

    def test_clients_that_hang_do_not_keep_it_from_anything(self) -> None:
        hanging = [socket.create_connection(("127.0.0.1", self.metrics_port)) for _ in range(40)]
        for connection in hanging:
            self.addCleanup(connection.close)
            connection.sendall(b"GET /metrics HTTP/1.1\r\n")
        self.assertEqual(self.get("/readyz")[0], 200)
        self.connect().register("alice")
        for connection in hanging[:20]:
            connection.settimeout(20)
            with self.assertRaises(ConnectionResetError):
                self.assertTrue(connection.recv(1))
                raise AssertionError("it was not cut off")
        self.server.popen.terminate()
        self.server.wait()
        self.assertNoTraceback()
