"""The client of a chat with several hosts: the order in which it tries them.

Two servers with one certificate stand for two nodes; that they share nothing else is not seen by a
client that only says something. The nodes of a cluster are tested elsewhere.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
from pathlib import Path

from tests.end_to_end.support import PATIENCE, TWISTD, Process, ServerTestCase, free_port


class Closing:
    """A host that accepts connections and closes them, as a node without its cluster does.

    :ivar accepted: how many it has closed.
    """

    def __init__(self) -> None:
        self.accepted = 0
        self._socket = socket.create_server(("127.0.0.1", free_port()))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            self.accepted += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(PATIENCE)


class SeveralHostsTests(ServerTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.closing = Closing()
        self.addCleanup(self.closing.close)
        self.other_port = free_port()
        self.other = self.serve(self.other_port, "other")

    def serve(self, port: int, state: str) -> Process:
        """Start a server with the certificate of the first, and a state of its own."""
        certificate, key = self.state / "certificate.pem", self.state / "private-key.pem"
        server = self.process(
            TWISTD,
            "-n",
            "--pidfile=",
            "chatserver",
            *("--listen", f"tcp:{port}:interface=127.0.0.1"),
            *("--state", str(Path(self.folder.name) / state)),
            *("--certificate", str(certificate), "--private-key", str(key)),
            *("--ssh", "no"),
        )
        server.wait_for(r"listening on 127\.0\.0\.1:")
        return server

    def of_hosts(self, *ports: int, options: tuple[str, ...] = ("--json",)) -> Process:
        """Start a client that knows the hosts with these ports."""
        hosts = [part for port in ports for part in ("--host", f"127.0.0.1:{port}")]
        return self.process(sys.executable, "-m", "chat_twisted.client", "alice", *hosts, *options)

    def next(self, client: Process, event: str) -> dict[str, object]:
        """The next event of this kind."""
        while (record := json.loads(client.next_line()))["event"] != event:
            pass
        return record

    def test_a_client_goes_round_the_hosts_and_knows_them_all_by_one_certificate(self) -> None:
        alice = self.of_hosts(self.closing.port, self.port, self.other_port)
        self.next(alice, "registered")
        self.server.wait_for("alice came from")
        self.assertEqual(self.closing.accepted, 1)
        alice.write('{"to": "ALL", "text": "to one"}\n')
        self.next(alice, "sent")
        self.server.popen.send_signal(signal.SIGTERM)
        lost = self.next(alice, "disconnected")
        self.assertEqual(lost["reason"], "The server is stopping")
        back = self.next(alice, "reconnected")
        self.assertEqual(back["host"], f"127.0.0.1:{self.other_port}")
        self.other.wait_for("alice came from")
        alice.write('{"to": "ALL", "text": "to the other"}\n')
        self.next(alice, "sent")
        self.server.wait()
        self.server = self.serve(self.port, "new")
        self.other.popen.kill()  # without a goodbye
        self.next(alice, "disconnected")
        back = self.next(alice, "reconnected")
        self.assertEqual(back["host"], f"127.0.0.1:{self.port}")
        self.assertGreater(self.closing.accepted, 1)
        alice.end_input()
        self.assertEqual(alice.wait(), 0)
        [notice] = alice.err
        self.assertIn(f"127.0.0.1:{self.port} is new here", notice)
        known = Path(self.folder.name) / "config" / "chat_twisted" / "known_servers"
        self.assertEqual(
            set(known.read_text().split()),
            {f"127.0.0.1:{self.port}", f"127.0.0.1:{self.other_port}", self.fingerprint},
        )
        self.assertNoTraceback()

    def test_one_message_is_sent_to_the_first_host_that_takes_it(self) -> None:
        once = ("--plain", "--once", "@ALL: hello")
        alice = self.of_hosts(self.closing.port, self.other_port, self.port, options=once)
        self.assertEqual((alice.wait(), alice.out), (0, ["Message delivered to ALL"]))
        self.other.wait_for("alice came from")

    def test_why_there_is_no_session_is_said_of_each_host(self) -> None:
        closed = free_port()
        alice = self.of_hosts(closed, self.closing.port)
        self.assertEqual((alice.wait(), alice.out), (2, []))
        self.assertEqual(
            alice.err,
            [
                f"connection refused: no server at 127.0.0.1:{closed}; 127.0.0.1:"
                f"{self.closing.port} has closed the connection: it accepts nobody now, "
                "or does not speak TLS"
            ],
        )
