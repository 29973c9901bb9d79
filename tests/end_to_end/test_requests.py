"""What may be asked in version 2 beside talking, of a real server that crashes in between."""

from __future__ import annotations

import json

from tests.end_to_end.support import Peer, ServerTestCase


class RequestTests(ServerTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.tokens: dict[str, str] = {}
        self.alice, self.bob = self.come("alice"), self.come("bob")
        for peer in (self.alice, self.bob):
            peer.ask("JOIN #dev")

    def come(self, name: str, *headers: str) -> Peer:
        """Connect and register; whoever was here before comes back."""
        peer = self.connect()
        if name in self.tokens:
            headers += (f"Session: {self.tokens[name]}",)
        self.tokens[name] = peer.register(name, *headers)["session"]
        return peer

    def crash(self) -> None:
        """End the server as a crash does, and start it again."""
        self.kill()
        self.start()

    def until(self, peer: Peer, verb: str) -> tuple[str, dict[str, str], bytes]:
        """Pass over frames until one has the verb."""
        while (frame := peer.frame())[0].partition(" ")[0] != verb:
            pass
        return frame

    def find(self, peer: Peer, word: str) -> int:
        """Return how many messages have a word."""
        peer.send(f"SEARCH\nContent-length: {len(word)}\n\n{word}".encode())
        return int(self.until(peer, "SEARCH")[1]["count"])

    def test_ranks_modes_bans_markers_and_names_outlive_a_crash(self) -> None:
        alice, bob = self.alice, self.bob
        carol = self.come("carol")
        alice.ask("RANK #dev", "User: bob", "Rank: voice")
        self.assertEqual(
            self.until(bob, "RANK"),
            ("RANK #dev", {"user": "bob", "rank": "voice", "by": "alice"}, b""),
        )
        alice.ask("MODE #dev", "Mode: moderated", "On: yes")
        alice.ask("MODE #dev", "Mode: topic", "On: yes")
        alice.ask("BAN #dev", "User: carol", body="spam")
        number = alice.ask("SEND ALL", body="hello")[1]["message"]
        bob.ask("READ ALL", f"Message: {number}")
        self.assertEqual(bob.ask("RENAME bob_2")[0], "RENAMED bob")
        self.assertEqual(self.until(alice, "RENAMED")[1], {"to": "bob_2"})
        self.tokens["bob_2"] = self.tokens.pop("bob")
        self.crash()
        alice, bob, carol = self.come("alice"), self.come("bob_2"), self.come("carol")
        self.assertEqual(alice.ask("WHO #dev", "Ranks: yes")[2], b"@alice\n+bob_2\n")
        self.assertEqual(carol.ask("MODE #dev")[1]["modes"], "moderated topic")
        self.assertEqual(carol.ask("JOIN #dev")[0], "ERROR 111 Not permitted")
        bans = alice.ask("BAN #dev")[2].decode()
        self.assertRegex(bans, r"\Acarol 20\S+Z alice spam\n\Z")
        self.assertEqual(bob.ask("READ")[2].decode(), f"ALL {number}\n")
        self.assertEqual(carol.ask("RENAME bob")[0], "RENAMED carol")
        alice.ask("UNBAN #dev", "User: carol")
        alice.ask("LEAVE #dev", body="good night")
        self.assertEqual(self.until(bob, "LEFT")[2], b"good night")
        self.assertEqual(self.until(bob, "RANK")[1], {"user": "bob_2", "rank": "operator"})
        self.assertNoTraceback()

    def files_with(self, word: bytes) -> list[str]:
        """Return the database files that have a word."""
        return [path.name for path in self.state.glob("*.sqlite*") if word in path.read_bytes()]

    def wait_until_purged(self, word: bytes) -> None:
        """Wait until no file has a word; a look every half second, by the server's own clock."""
        watcher, other = self.come("watcher"), self.come("other")
        watcher.ask("WHO", "Watch: yes")
        for _ in range(60):
            if not self.files_with(word):
                return
            for state in ("away", "here"):
                other.ask(f"STATUS {state}")
            while watcher.frame()[0] != "PRESENCE":
                pass
        self.assertEqual(self.files_with(word), [])

    def test_a_deleted_text_is_nowhere_and_stays_deleted(self) -> None:
        alice, bob = self.alice, self.bob
        bob.close()
        self.server.wait_for("bob went")
        numbers = [
            alice.ask(f"SEND {to}", body=f"zanzibar {to}")[1]["message"]
            for to in ("bob", "#dev", "ALL")
        ]
        alice.ask("SEND #dev", body="kept")
        self.assertEqual(self.find(alice, "zanzibar"), 3)
        for number in numbers:
            self.assertEqual(alice.ask("DELETE", f"Message: {number}")[1]["by"], "alice")
        self.crash()
        alice = self.come("alice")
        self.assertEqual(self.find(alice, "zanzibar"), 0)
        self.wait_until_purged(b"zanzibar")
        self.assertEqual(self.find(alice, "kept"), 1)
        bob = self.come("bob")
        for number in numbers:
            _, headers, text = self.until(bob, "FORWARD")
            self.assertEqual((headers["message"], headers["deleted"], text), (number, "yes", b""))
        self.assertEqual(self.until(bob, "FORWARD")[2], b"kept")
        records = [json.loads(line) for line in self.admin("export").out]
        self.assertEqual([record["text"] for record in records], ["", "", "", "kept"])
        self.assertEqual(self.admin("check").err, [])
        self.assertNoTraceback()

    def test_an_account_takes_all_that_it_said_with_it(self) -> None:
        alice, bob = self.alice, self.bob
        alice.ask("ACCOUNT register", body="secret")
        for number in range(30):
            alice.ask("SEND #dev", body=f"zanzibar {number}")
        bob.ask("SEND #dev", body="kept")
        alice.send(b"ACCOUNT messages\nId: x\nCount: 20\n\n")
        said = []
        while (frame := alice.frame())[1].get("id") != "x" or frame[0] != "ACCOUNT messages":
            said.append(frame)
        self.assertEqual(sum(start == "MESSAGE alice" for start, _, _ in said), 20)
        self.assertEqual((frame[1]["count"], "more" in frame[1]), ("20", True))
        more = alice.ask("ACCOUNT messages", f"After: {frame[1]['more']}")
        self.assertEqual(more[0], "MESSAGE alice")
        alice.ask("ACCOUNT unregister", "Erase: yes")
        self.crash()
        self.wait_until_purged(b"zanzibar")
        bob = self.come("bob")
        bob.send(b"HISTORY #dev\nId: h\n\n")
        texts = []
        while not (frame := bob.frame())[0].startswith("HISTORY"):
            if frame[0].startswith("MESSAGE"):
                texts.append(frame[2])
        self.assertEqual(texts, [b""] * 30 + [b"kept"])
        self.assertNoTraceback()
