"""What peers that are no SSH clients, or stop being one, do to the SSH door of a real server."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import threading

from tests.end_to_end.ssh import SSHTestCase
from tests.end_to_end.support import PATIENCE, Peer
from tests.end_to_end.test_terminal import wait_until

CONNECTIONS = 300


class Relay:
    """Passes one connection on to a server, and keeps what the client has sent.

    :ivar sent: the bytes of the client.
    """

    def __init__(self, port: int) -> None:
        self.sent = b""
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(PATIENCE)
        self.port = self._listening.getsockname()[1]
        self._target = port
        self._threads = [threading.Thread(target=self._run, daemon=True)]
        self._threads[0].start()

    def _run(self) -> None:
        client, _ = self._listening.accept()
        server = socket.create_connection(("127.0.0.1", self._target), PATIENCE)
        back = threading.Thread(target=self._pass_back, args=(server, client), daemon=True)
        back.start()
        while data := client.recv(65536):
            self.sent += data
            server.sendall(data)
        server.shutdown(socket.SHUT_WR)
        back.join(PATIENCE)
        for connection in (client, server, self._listening):
            connection.close()

    @staticmethod
    def _pass_back(server: socket.socket, client: socket.socket) -> None:
        while data := server.recv(65536):
            client.sendall(data)

    def join(self) -> bytes:
        """Wait for the end of the connection; return what the client has sent."""
        self._threads[0].join(PATIENCE)
        return self.sent


class NonsenseTests(SSHTestCase):
    options = ("--idle", "5")

    def test_nonsense_cut_off_handshakes_and_a_stopped_client_leave_nothing_behind(self) -> None:
        stopped = self.process(*self.ssh("carol"))
        self.came("carol")
        stopped.popen.send_signal(signal.SIGSTOP)
        relay = Relay(self.port)
        code, out, error = self.finish(*self.ssh("alice", "/who", port=relay.port))
        self.assertEqual((code, out), (0, "2 here: alice carol"), error)
        session = relay.join()
        chance = random.Random(10)
        says = [b"SSH-2.0-x\r\n" + chance.randbytes(chance.randrange(3000)) for _ in range(100)]
        says += [session[: chance.randrange(4, len(session))] for _ in range(150)]
        says += [b"SSH-" + b"x" * 100_000, b"SSH-1.5-old\r\n", b"SSH-2.0-\0\r\n", b"SSH-\xff\n\n"]
        while len(says) < CONNECTIONS:  # one byte of a real session is another
            at = chance.randrange(len(session))
            changed = bytes([session[at] ^ chance.randrange(1, 256)])
            says.append(session[:at] + changed + session[at + 1 :])
        staying: list[Peer] = []
        for number, said in enumerate(says):
            peer = self.connect(f"127.0.4.{number % 200 + 1}")
            try:
                peer.send(said)
            except OSError:  # the server has closed it
                continue
            if number % 3:
                staying.append(peer)
            else:
                peer.close()
        self.assertEqual(self.finish(*self.ssh("bob", "/who"))[:2], (0, "2 here: bob carol"))
        for peer in staying:  # they end by the server's deadline
            with contextlib.suppress(ConnectionError):
                peer.rest()
            peer.close()
        wait_until(lambda: not self.connections(), lambda: f"{self.connections()} are left")
        stopped.popen.send_signal(signal.SIGCONT)
        self.assertEqual(stopped.wait(), 255)
        self.assertEqual(self.finish(*self.ssh("bob", "/who"))[:2], (0, "1 here: bob"))

    def connections(self) -> dict[str, int]:
        """Return how many connections of each kind the server has."""
        connections = json.loads("\n".join(self.admin("status", "--json").out))["connections"]
        return {kind: count for kind, count in connections.items() if count}
