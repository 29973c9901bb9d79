"""The IRC door of a real server: the same chat as through the other doors, on the same port."""

from __future__ import annotations

import base64
import re
import subprocess
import time
from pathlib import Path

from tests.end_to_end.irc import IRCPeer
from tests.end_to_end.support import ServerTestCase


class IRCEndToEnd(ServerTestCase):
    def irc(self, nick: str = "", *channels: str, caps: str = "", tls: bool = False) -> IRCPeer:
        """Return a client; with a nick it is registered, and has joined channels."""
        peer = IRCPeer(self.port, tls=tls)
        self.addCleanup(peer.close)
        if nick:
            peer.join(nick, *channels, caps=caps)
        return peer


class FirstBytesTests(IRCEndToEnd):
    def test_clients_in_any_case_a_byte_at_a_time_or_after_an_empty_line_are_welcomed(self) -> None:
        for number, line in enumerate(
            ["nick {}\nuser x 0 * :é🙂\n", "\r\nNICK {}\r\nUSER x 0 * :x\r\n"]
        ):
            peer = self.irc()
            for byte in line.format(f"a{number}").encode():
                peer.send(bytes([byte]))
            peer.until(f" 001 a{number} ")
        peer = self.connect()
        peer.register("v2user")
        self.assertNoTraceback()


class EncryptionTests(IRCEndToEnd):
    options = ("--plaintext", "nowhere")

    def test_plain_clients_are_refused_in_their_protocol_and_encrypted_ones_are_not(self) -> None:
        peer = self.irc()
        self.assertEqual(peer.end(b"CAP LS 302\r\n"), b"ERROR :Encryption required\r\n")
        peer = self.irc("alice", tls=True)
        self.assertEqual(peer.ping("PRIVMSG &ALL :to whoever comes"), [])
        self.assertNoTraceback()


class ChatTests(IRCEndToEnd):
    def test_200_kb_without_an_end_are_refused_once_and_the_next_line_is_taken(self) -> None:
        peer = self.irc("alice")
        peer.send(b"PRIVMSG #a :" + b"x" * 200_000 + b"\r\n")
        self.assertEqual(peer.ping(), [":chat.server 417 alice :Input line was too long"])
        self.assertEqual(peer.ping(":y", "@", "@;;= "), [])
        peer.send(b"PRIVMSG #a :\xff\r\n")
        (line,) = peer.ping()
        self.assertTrue(line.startswith(":chat.server FAIL PRIVMSG INVALID_UTF8 :"), line)
        self.assertNoTraceback()

    def test_a_direct_message_is_delivered_only_when_the_client_has_answered_the_ping(self) -> None:
        alice = self.connect()
        alice.register("alice")
        carol, bob = self.irc("carol"), self.irc("bob")
        alice.ask("SEND bob", body="hello")
        line, ping = bob.until("PING :m")
        self.assertEqual(line, ":alice!alice@chat PRIVMSG bob :hello")
        number = ping.removeprefix("PING :")
        carol.ping(f"PONG :{number}")
        self.assertEqual(alice.ask("PING before")[0], "PONG before")
        bob.say(f"PONG :{number}")
        start, headers, _ = alice.frame()
        self.assertEqual((start, f"m{headers['message']}"), ("DELIVERED bob", number))
        self.assertNoTraceback()

    def test_a_line_end_in_a_quit_reason_forges_nothing(self) -> None:
        alice, bob = self.irc("alice", "#a"), self.irc("bob", "#a")
        alice.ping()
        bob.send(b"QUIT :a\r:chat NOTICE alice :forged\r\n")
        self.assertEqual(bob.rest().splitlines()[-1], b"ERROR :Closing link: quit")
        self.assertEqual(alice.ping(), [":bob!bob@chat QUIT :a"])

    def test_700_lines_at_once_come_in_order(self) -> None:
        bob, alice = self.irc("bob", "#a"), self.irc("alice", "#a")
        bob.ping()
        alice.say(*(f"PRIVMSG #a :{number}" for number in range(700)))
        got = []
        while len(got) < 700:
            if found := re.search(r"PRIVMSG #a :(\d+)", bob.line()):
                got.append(int(found[1]))
        self.assertEqual(got, list(range(700)))
        self.assertNoTraceback()

    def test_after_a_crash_of_the_server_the_name_of_a_guest_is_free(self) -> None:
        self.irc("alice", "#a")
        self.kill()
        self.start()
        alice = self.irc("alice", "#a")
        self.assertIn(":chat.server 353 alice = #a :@alice", alice.ping("NAMES #a"))

    def test_at_the_server_s_stop_every_client_is_told_and_nobody_is_seen_to_quit(self) -> None:
        alice, _ = self.irc("alice", "#a"), self.irc("bob", "#a")
        alice.ping()
        self.server.popen.terminate()
        self.assertEqual(alice.rest(), b"ERROR :The server is stopping\r\n")
        self.server.wait()
        self.assertNoTraceback()


class AccountTests(IRCEndToEnd):
    def authenticate(self, nick: str, mechanism: str, response: bytes, **options: str) -> IRCPeer:
        """Return a client that has sent its response to SASL."""
        peer = IRCPeer(self.port, tls=True, **options)
        self.addCleanup(peer.close)
        peer.say("CAP REQ sasl", f"NICK {nick}", f"USER {nick} 0 * :x", f"AUTHENTICATE {mechanism}")
        peer.until("AUTHENTICATE +")
        peer.say(f"AUTHENTICATE {base64.b64encode(response).decode() or '+'}")
        return peer

    def test_an_account_logs_in_by_its_password_or_by_a_certificate_of_its_key(self) -> None:
        folder = Path(self.folder.name)
        (folder / "password").write_text("right\n")
        self.accounts("add", "alice", "--password-file", str(folder / "password"))
        alice = self.authenticate("alice", "PLAIN", b"\0alice\0right")
        alice.until(" 903 ")
        alice.say("CAP END")
        alice.until(" 001 alice ")
        begun = time.monotonic()
        wrong = self.authenticate("alice", "PLAIN", b"\0alice\0wrong")
        wrong.until(" 904 ")
        self.assertGreaterEqual(time.monotonic() - begun, 1)
        for name in ("alice", "other"):
            file, key = str(folder / f"{name}.pem"), str(folder / name)
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
            maker = self.client(name, "--identity", key, "--certificate", file)
            self.assertEqual(maker.wait(), 0, maker.err)
        added = self.accounts("key", "alice", str(folder / "alice.pub"))
        self.assertEqual(added.err, [])
        by_key = self.authenticate("alice", "EXTERNAL", b"", certificate=str(folder / "alice.pem"))
        by_key.until(" 903 ")
        by_key.say("CAP END")
        by_key.until(" 001 alice ")
        other = self.authenticate("alice", "EXTERNAL", b"", certificate=str(folder / "other.pem"))
        other.until(" 904 ")
        self.assertNoTraceback()

    def test_the_key_that_our_client_has_registered_is_enough(self) -> None:
        client = self.client("alice")
        client.write("/register\n")
        self.assertEqual(client.next_line(), "alice is yours from now on")
        client.end_input()
        client.wait()
        file = str(Path(self.folder.name) / "alice.pem")
        self.assertEqual(self.client("alice", "--certificate", file).wait(), 0)
        alice = self.authenticate("x", "EXTERNAL", b"", certificate=file)
        self.assertIn(" 900 * alice!alice@chat alice ", alice.until(" 900 ")[-1])
        alice.say("CAP END")
        alice.until(" 001 alice ")
        self.assertNoTraceback()

    def test_a_password_that_was_set_on_irc_is_good_everywhere(self) -> None:
        bob = self.irc("bob", tls=True)
        bob.say("REGISTER * * right")
        self.assertIn("REGISTER SUCCESS bob ", bob.until(" REGISTER ")[-1])
        bob.say("QUIT")
        bob.rest()
        password = Path(self.folder.name) / "password"
        password.write_text("right\n")
        client = self.client("bob", "--password-file", str(password), "--once", "/who")
        self.assertEqual((client.wait(), client.out), (0, ["1 here: bob"]))
        self.assertNoTraceback()


class ChannelTests(IRCEndToEnd):
    """The state is ahead of what clients are told here, while a thread writes."""

    options = ("--sync", "full")

    def test_what_follows_join_in_the_same_packet_is_answered_behind_it(self) -> None:
        alice = self.irc("alice")
        for _ in range(5):
            self.assertEqual(
                alice.ping("JOIN #a", "PRIVMSG #a :x", "MODE #a +m", "PART #a", "JOIN #a"),
                [
                    ":alice!alice@chat JOIN #a",
                    ":chat.server 353 alice = #a :@alice",
                    ":chat.server 366 alice #a :End of NAMES list",
                    ":alice!alice@chat MODE #a +m",
                    ":alice!alice@chat PART #a",
                    ":alice!alice@chat JOIN #a",
                    ":chat.server 353 alice = #a :@alice",
                    ":chat.server 366 alice #a :End of NAMES list",
                ],
            )
            alice.ping("PART #a")
        self.assertNoTraceback()

    def test_members_who_join_and_leave_at_the_same_time_are_seen_in_order(self) -> None:
        watching = self.irc("watching", "#a")
        others = [self.irc(f"user{number}") for number in range(4)]
        for other in others:
            other.say(*["JOIN #a", "PART #a"] * 25)
        for other in others:
            other.ping()
        seen: dict[str, list[str]] = {}
        for line in watching.ping():
            source, verb, *_ = line.split(" ")
            if "#a" in line:
                seen.setdefault(source, []).append(verb)
        self.assertEqual(list(seen.values()), [["JOIN", "PART"] * 25] * 4)
        self.assertNoTraceback()

    def test_one_who_goes_and_another_of_the_same_name_are_seen_in_order(self) -> None:
        bob = self.irc("bob", "#a")
        for _ in range(10):
            alice = self.irc()
            alice.say("USER alice 0 * :alice", "NICK alice")
            while " 001 " not in alice.until("alice :")[-1]:
                alice.say("NICK alice")  # the other one is not gone yet
            alice.ping("JOIN #a")
            alice.close()
        seen: list[str] = []
        while seen.count("QUIT") < 10:
            line = bob.line()
            if line.startswith(":alice!") and not line.endswith("#a"):
                seen.append(line.split()[1])
        self.assertEqual(seen, ["JOIN", "QUIT"] * 10)
        self.assertNoTraceback()
