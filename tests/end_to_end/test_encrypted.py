"""Real TLS on real sockets: what peers do with it that Twisted's own way of reading would bear."""

from __future__ import annotations

import socket
import ssl

from tests.end_to_end.support import PATIENCE, ServerTestCase, any_certificate


class EncryptedTests(ServerTestCase):
    options = ("--limits", "off")

    def test_a_slow_peer_gets_everything_in_its_order(self) -> None:
        slow, quick = self.connect(tls=True), self.connect(tls=True)
        slow.register("slow")
        quick.register("quick")
        for i in range(90):
            quick.send(f"SEND slow\nId: {i}\nContent-length: 60003\n\n{i:03}".encode())
            quick.send(b"x" * 60_000)
        quick.ask("PING 1")  # all that was taken before it is answered
        for i in range(90):
            start, _, body = slow.frame()
            self.assertEqual((start, body[:3], len(body)), ("FORWARD quick", b"%03d" % i, 60_003))
        self.assertNoTraceback()

    def test_first_words_in_one_piece_with_the_end_of_the_handshake(self) -> None:
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            context = any_certificate()
            context.maximum_version = version
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = context.wrap_bio(incoming, outgoing)
            with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as peer:
                while True:
                    try:
                        client.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        peer.sendall(outgoing.read())
                        incoming.write(peer.recv(65536))
                client.write(f"REGISTER u{version.value}\n\n".encode())
                data = outgoing.read()
                peer.sendall(data[:-5])
                peer.sendall(data[-5:])
                got = b""
                while b"\n\n" not in got:
                    incoming.write(peer.recv(65536))
                    try:
                        got += client.read()
                    except ssl.SSLWantReadError:
                        continue
                self.assertTrue(got.startswith(b"REGISTERED"))

    def test_whoever_ends_tls_is_answered_and_whoever_only_closes_is_gone(self) -> None:
        alice, bob = (self.connect(tls=True) for _ in range(2))
        alice.register("alice")
        bob.register("bob")
        alice.socket.unwrap().close()  # which waits for the server's end of TLS
        self.server.wait_for("alice went from .*: closed")
        bob.socket.shutdown(socket.SHUT_WR)  # of the socket below: without a word of TLS
        self.server.wait_for("bob went from .*: closed")
        self.assertNoTraceback()
