"""SSH's transport: versions, algorithms, key exchanges, and packets against the protocol."""

from __future__ import annotations

import random
import struct

from twisted.conch.ssh import transport as conch
from twisted.conch.ssh.common import NS, getNS
from twisted.logger import globalLogPublisher

from chat_twisted.doors.ssh import channel as c
from chat_twisted.doors.ssh import transport
from chat_twisted.doors.ssh.connection import KEYS_WITHIN, LOGIN_WITHIN
from chat_twisted.doors.ssh.transport import MAX_PACKET, REKEY_OCTETS, REKEY_SECONDS
from tests.ssh import DISCONNECT, SSHClient, SSHTestCase

VERSION = b"SSH-2.0-x\r\n"
OURS = struct.pack(">L", 0)


def packet(payload: bytes, padding: int | None = None) -> bytes:
    """Return a packet before encryption."""
    fill = 8 - (len(payload) + 5) % 8 + 8 if padding is None else padding
    return struct.pack(">LB", len(payload) + fill + 1, fill) + payload + bytes(fill)


def keys_wanted(**lists: bytes) -> bytes:
    """Return the payload of KEXINIT."""
    names = {
        "exchange": b"curve25519-sha256",
        "host_key": b"ssh-ed25519",
        "cipher": b"aes128-ctr",
        "mac": b"hmac-sha2-256",
        "compression": b"none",
        **lists,
    }
    fields = [names["exchange"], names["host_key"]]
    fields += [names[kind] for kind in ("cipher", "mac", "compression") for _ in "io"]
    fields += [b"", b""]
    return b"\x14" + bytes(16) + b"".join(map(NS, fields)) + bytes(5)


class TransportTestCase(SSHTestCase):
    def deaf(self) -> SSHClient:
        """Return a client that has sent nothing."""
        return self.client(deaf=True)

    def assertRefused(self, client: SSHClient, reason: str) -> None:
        """Check that the connection is closed, with a line in the log and no traceback."""
        self.assertTrue(client.closed, reason)
        verb = "disconnected" if client.protocol.is_registered else "refused"
        self.assertEqual(self.logged[-1], f"{verb} 127.0.0.1:50000: {reason}")
        self.assertEqual(self.flushLoggedErrors(), [])


class VersionTests(TransportTestCase):
    def test_versions_of_clients(self) -> None:
        for version in (b"SSH-2.0-OpenSSH_9.2 Debian\r\n", b"SSH-2.0-x\n", b"SSH-1.99-x\r\n"):
            client = self.deaf()
            for octet in version:
                client.feed(bytes([octet]))
            client.feed(packet(keys_wanted()))
            self.assertFalse(client.closed, version)

    def test_others_are_refused(self) -> None:
        for first, reason in (
            (b"SSH-1.5-x\r\n", "Only version 2 of SSH is spoken here"),
            (b"HELO there\r\n", "Not an SSH client"),
            (b"S\r\n", "Not an SSH client"),
            (b"SSH-" + b"x" * 1_000_000, "Not an SSH client"),
            (b"SSH-2.0-" + b"x" * 246 + b"\r\n", "Not an SSH client"),
        ):
            client = self.deaf()
            client.feed(first)
            self.assertRefused(client, reason)


class KeyExchangeTests(TransportTestCase):
    def test_the_algorithms_that_are_offered(self) -> None:
        client = self.client()
        offered = getNS(client.ending.otherKexInitPayload[17:], 10)[:10]
        self.assertEqual(
            [names.decode() for names in offered[:8]],
            [
                "mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org,"
                "ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,ext-info-s",
                "ssh-ed25519,rsa-sha2-512,rsa-sha2-256",
                *["aes256-ctr,aes192-ctr,aes128-ctr"] * 2,
                *["hmac-sha2-256,hmac-sha2-512"] * 2,
                *["none"] * 2,
            ],
        )

    def test_a_client_gets_in_with_every_exchange(self) -> None:
        for key_exchange in transport.SSHTransport.supportedKeyExchanges:
            for host_key in (b"ssh-ed25519", b"rsa-sha2-256", b"rsa-sha2-512"):
                client = self.client(key_exchange=key_exchange, host_key=host_key)
                self.assertTrue(client.ending.is_secure, key_exchange)
                client.log_in()

    def test_what_is_weak_is_refused(self) -> None:
        for names in (
            {"exchange": b"diffie-hellman-group14-sha1"},
            {"exchange": b"diffie-hellman-group-exchange-sha256"},
            {"exchange": b"ext-info-c"},
            {"host_key": b"ssh-rsa"},
            {"cipher": b"aes128-cbc"},
            {"cipher": b"none"},
            {"mac": b"hmac-sha1"},
            {"mac": b"none"},
            {"compression": b"zlib"},
        ):
            client = self.deaf()
            client.feed(VERSION + packet(keys_wanted(**names)))
            self.assertRefused(client, "couldn't match all kex parts")

    def test_the_peer_may_ask_for_new_keys(self) -> None:
        client, visit = self.visit(terminal=True)
        first = client.ending.currentEncryptions
        client.ending.sendKexInit()
        visit.peer.write(b"meanwhile")
        client.exchange()
        self.assertIsNot(client.ending.currentEncryptions, first)
        self.assertEqual(client.output(), b"meanwhile")
        client.type(b"afterwards")
        self.assertEqual(visit.input, b"afterwards")

    def test_the_server_asks_for_new_keys_after_an_hour_or_much_data(self) -> None:
        client, visit = self.visit(terminal=True)
        self.assertEqual(client.ending.is_secure, 1)
        client.type(b"x")
        self.assertEqual(client.ending.is_secure, 1)
        for _ in range(REKEY_SECONDS // 60):
            self.clock.advance(60)
            client.type(b"y")
        self.assertEqual(client.ending.is_secure, 1)
        self.clock.advance(1)
        client.type(b"y")
        self.assertEqual(client.ending.is_secure, 2)
        client.protocol._reader._octets += REKEY_OCTETS
        visit.peer.write(b"z")
        self.assertEqual(client.output(), b"z")
        client.packets()
        self.assertEqual(client.ending.is_secure, 3)
        client.type(b"z")
        self.assertEqual(visit.input.replace(b"y", b""), b"xz")
        self.assertEqual(client.ending.is_secure, 3)

    def test_output_waits_for_new_keys_and_the_visit_is_paused(self) -> None:
        client, visit = self.visit(terminal=True, window=10**7)
        client.exchange()
        client.protocol._reader.sendKexInit()
        for _ in range(10):
            visit.peer.write(b"x" * 10_000)
        self.assertEqual(visit.told, [("pause",)])
        self.assertEqual(len(client.output()), 100_000)
        self.assertEqual(visit.told, [("pause",), ("resume",)])

    def test_a_peer_that_does_not_answer_is_let_go(self) -> None:
        client, visit = self.visit(terminal=True)
        client.exchange()
        client.protocol._reader.sendKexInit()
        client.protocol.stream.flush()
        client.transport.take()
        self.clock.advance(KEYS_WITHIN + 1)
        self.assertRefused(client, "No new keys in time")
        self.assertEqual(visit.told, [("lost",)])

    def test_the_deadline_ends_with_the_exchange(self) -> None:
        client, _ = self.visit(terminal=True)
        client.ending.sendKexInit()
        client.exchange()
        for _ in range(10):
            self.clock.advance(KEYS_WITHIN / 5)
            client.type(b"x")
        self.assertFalse(client.closed)

    def test_endless_exchanges_are_refused(self) -> None:
        client = self.client()
        client.log_in()
        for _ in range(200):
            client.ending.sendKexInit()
            client.exchange()
            if client.closed:
                break
        self.assertRefused(client, "Too many key exchanges")

    def test_answers_that_wait_for_new_keys_are_bounded(self) -> None:
        client, _ = self.visit(terminal=True)
        client.exchange()
        client.protocol._reader.sendKexInit()
        for _ in range(2000):
            request = NS(b"x") + b"\1"
            client.ending.sendPacket(c.GLOBAL_REQUEST, request)
        client.feed(client.wire.value())
        self.clock.pump([0] * 100)
        self.assertRefused(client, "Too much waits for new keys")

    def test_state_of_an_exchange_is_dropped_after_it(self) -> None:
        client = self.client()
        left = set(vars(client.protocol._reader))
        self.assertFalse(
            left & {"nextEncryptions", "ourKexInitPayload", "otherKexInitPayload", "ecPub"}
        )

    def test_a_wrong_guess_of_the_client_is_passed_over(self) -> None:
        client = self.deaf()
        guess = keys_wanted(exchange=b"ecdh-sha2-nistp256,curve25519-sha256")
        client.feed(VERSION + packet(guess[:-5] + b"\1" + bytes(4)))
        client.feed(packet(b"\x1e" + NS(b"a guess")))
        self.assertFalse(client.closed)


class OrderTests(TransportTestCase):
    """Packets that come where they are not allowed."""

    def test_before_the_first_keys_nothing_else_is_allowed(self) -> None:
        for payload in (
            b"\x05" + NS(b"ssh-userauth"),
            b"\x15",
            b"\x1e" + NS(bytes(32)),
            b"\x32" + NS(b"bob") + NS(b"ssh-connection") + NS(b"none"),
            b"\x5a" + NS(b"session"),
        ):
            for before in (b"", packet(keys_wanted())):
                if before and payload[0] == 30:
                    continue
                client = self.deaf()
                client.feed(VERSION + before + packet(payload))
                self.assertRefused(client, "A packet that is not allowed here")

    def test_packets_of_a_key_exchange_come_in_order(self) -> None:
        for payload in (b"\x15", b"\x1e" + NS(bytes(32))):
            client = self.client()
            client.log_in()
            client.ending.sendPacket(payload[0], payload[1:])
            client.exchange()
            self.assertRefused(client, "A packet that is not allowed here")

    def test_two_beginnings_are_refused(self) -> None:
        client = self.deaf()
        client.feed(VERSION + packet(keys_wanted()) + packet(keys_wanted()))
        self.assertRefused(client, "A packet that is not allowed here")

    def test_data_within_a_key_exchange_is_refused(self) -> None:
        client, visit = self.visit(terminal=True)
        client.ending.sendKexInit()
        client.ending._keyExchangeState = client.ending._KEY_EXCHANGE_NONE
        client.ending.sendPacket(c.CHANNEL_DATA, OURS + NS(b"x"))
        client.exchange()
        self.assertRefused(client, "A packet that is not allowed here")
        self.assertEqual(visit.input, b"")

    def test_packets_of_key_exchanges_may_be_malformed(self) -> None:
        for payload in (b"\x14", b"\x14" + bytes(40), b"\x14" + b"\xff" * 400):
            client = self.deaf()
            client.feed(VERSION + packet(payload))
            self.assertTrue(client.closed)
        for secret in (b"", NS(b""), NS(bytes(32)), NS(b"x" * 1000), b"\xff" * 100):
            client = self.deaf()
            client.feed(VERSION + packet(keys_wanted()) + packet(b"\x1e" + secret))
            self.assertRefused(client, "The key exchange has failed")

    def test_malformed_secrets_of_every_exchange(self) -> None:
        for name in transport.SSHTransport.supportedKeyExchanges:
            for secret in (NS(b""), NS(b"\xff" * 1216), NS(bytes(1216)), NS(b"\4" + bytes(64))):
                client = self.deaf()
                client.feed(VERSION + packet(keys_wanted(exchange=name)))
                client.feed(packet(b"\x1e" + secret))
                self.assertTrue(client.closed, name)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_only_authentication_may_be_requested(self) -> None:
        client = self.client()
        client.send(conch.MSG_SERVICE_REQUEST, NS(b"ssh-connection"))
        self.assertRefused(client, "There is no such service")
        client = self.client()
        client.log_in()
        client.send(conch.MSG_SERVICE_REQUEST, NS(b"ssh-userauth"))
        self.assertRefused(client, "There is no such service")

    def test_authentication_must_be_requested(self) -> None:
        client = self.client()
        client.authenticate("bob", b"none")
        self.assertRefused(client, "A packet that is not allowed here")


class PacketTests(TransportTestCase):
    def test_lengths_are_bounded(self) -> None:
        for length in (0, 4, MAX_PACKET + 4, 2**32 - 4, 13):
            client = self.deaf()
            client.feed(VERSION + struct.pack(">L", length) + bytes(12))
            self.assertRefused(client, "A packet of a wrong length")

    def test_the_largest_packet_is_taken_however_it_is_split(self) -> None:
        client = self.deaf()
        largest = packet(b"\x02" + bytes(MAX_PACKET - 17), 11)
        whole = VERSION + largest + largest
        for start in range(0, len(whole), 7):
            client.feed(whole[start : start + 7])
        self.assertFalse(client.closed)

    def test_a_packet_without_content_is_refused(self) -> None:
        for padding in (255, 20, 19):
            client = self.deaf()
            client.feed(VERSION + struct.pack(">LB", 20, padding) + bytes(19))
            self.assertTrue(client.closed, padding)

    def test_a_damaged_packet_is_refused(self) -> None:
        client, visit = self.visit(terminal=True)
        client.ending.sendPacket(c.CHANNEL_DATA, OURS + NS(b"x"))
        data = bytearray(client.wire.value())
        data[-1] ^= 1
        client.feed(bytes(data))
        self.assertRefused(client, "A damaged packet")
        self.assertEqual(visit.input, b"")

    def test_ignored_packets(self) -> None:
        client, _ = self.visit(terminal=True)
        client.packets()
        for number in (conch.MSG_IGNORE, conch.MSG_UNIMPLEMENTED, conch.MSG_DEBUG, 7):
            self.assertEqual(client.send(number, b""), [])
        self.assertFalse(client.closed)

    def test_a_peer_that_disconnects_is_not_answered(self) -> None:
        client, visit = self.visit(terminal=True)
        client.packets()
        reason = struct.pack(">L", 11) + NS(b"bye") + NS(b"")
        self.assertEqual(client.send(DISCONNECT, reason), [])
        self.assertTrue(client.closed)
        self.assertEqual(visit.told, [("lost",)])
        client = self.deaf()
        client.feed(VERSION + packet(b"\1" + bytes(8)))
        self.assertTrue(client.closed)

    def test_random_bytes_leave_nothing_behind(self) -> None:
        rng = random.Random(8828)
        clients = [self.deaf() for _ in range(100)]
        for client in clients:
            data = rng.randbytes(rng.randrange(2000))
            first = rng.choice([b"", VERSION, VERSION + packet(keys_wanted())])
            client.feed(first + data)
        self.clock.advance(LOGIN_WITHIN + 1)
        self.assertTrue(all(client.closed for client in clients))
        for client in clients:
            client.gone()
        self.assertEqual(self.ssh.streams.open, set())
        self.assertEqual(self.flushLoggedErrors(), [])


class LogTests(TransportTestCase):
    def test_conch_logs_nothing(self) -> None:
        events: list[str] = []

        def observe(event) -> None:
            if event["log_namespace"].startswith("twisted.conch"):
                events.append(event["log_format"])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        client, visit = self.visit(b"@bob: a secret")
        client.type(b"a secret")
        client.send(192, b"a secret")
        client.open(b"a secret")
        visit.peer.end(0)
        client.gone()
        self.deaf().feed(b"a secret\r\n")
        self.assertEqual(events, [])
        self.assertNotIn("secret", " ".join(self.logged))
