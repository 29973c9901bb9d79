"""SIGTERM while the server is as busy as one address can make it: it ends, and what it has said to
be sent is there.
"""

from __future__ import annotations

import hashlib
import random
import re
import sqlite3
import unittest
from contextlib import closing

from chat_twisted.core.facts import Fact, SessionCame, TokenAdded, UserCame
from chat_twisted.core.message import Message
from chat_twisted.storage import archive, index
from tests.end_to_end.support import Peer, ServerTestCase
from tests.store import write

MESSAGES = 20_000
BROAD = " OR ".join(f"{letter}*" for letter in "etaoinsrhldcumfpgwybvkxjqz" * 3)[:490]


class StoppingTests(ServerTestCase):
    def start(self) -> None:
        if not self.state.exists():
            self.fill()
        super().start()

    def fill(self) -> None:
        """Have messages to everybody that take a while to be searched."""
        chance = random.Random(1)
        words = ["".join(chance.choices("etaoinsrhl", k=5)) for _ in range(20_000)]
        self.state.mkdir(mode=0o700)
        archive.prepare(self.state)
        with closing(archive.connect(self.state / archive.FILE)) as connection:
            index.attach(connection, self.state)
            texts = (" ".join(chance.choices(words, k=30)) for _ in range(MESSAGES))
            messages = [
                Message(n, n, 7, "nobody", 0, 0, "ALL", text) for n, text in enumerate(texts, 1)
            ]
            secret = hashlib.sha256(b"token").digest()
            users: list[Fact] = []
            for i in range(20):
                users.append(UserCame(100 + i, f"absent{i}", True, 0, i))
                users.append(TokenAdded(100 + i, secret, "", i))
                users.append(SessionCame(100 + i, 1, 0, "", secret, "", True))
            write(connection.cursor(), [*users, *messages])
            index.catch_up(connection)

    def guests(self, count: int) -> list[Peer]:
        peers = []
        for i in range(count):
            peers.append(self.connect("127.0.0.2"))
            peers[-1].register(f"guest{i}")
        return peers

    def stop_and_look(self) -> None:
        """Tell the server to end while somebody sends; see that it does, and that all that it has
        said to be sent is there.
        """
        alice = self.connect()
        alice.register("alice")
        for i in range(400):
            alice.send(f"SEND ALL\nId: s{i}\nContent-length: 5\n\nhello".encode())
        heard = alice.head()
        self.server.popen.terminate()
        heard += alice.rest()
        self.assertEqual(self.server.wait(), 143)
        self.assertNoTraceback()
        self.assertFalse([line for line in self.server.out if "can't" in line])
        sent = [int(number) for number in re.findall(rb"SENT ALL\nId: s\d+\nMessage: (\d+)", heard)]
        with closing(sqlite3.connect(self.state / archive.FILE)) as connection:
            rows = connection.execute("SELECT number FROM message WHERE sender = 'alice'")
            stored = {number for (number,) in rows}
        self.assertTrue(sent)
        self.assertLessEqual(set(sent), stored)

    def test_it_ends_while_everybody_searches_and_comes_back(self) -> None:
        searching = self.guests(20)
        for peer in searching:
            size = len(BROAD)
            peer.send(f"SEARCH\nContent-length: {size}\n\n{BROAD}HISTORY ALL\n\n".encode())
        for i in range(20):
            peer = self.connect("127.0.0.2")
            peer.send(f"REGISTER absent{i}\nSession: token\nResume: 0\n\n".encode())
        self.stop_and_look()

    def test_it_ends_while_passwords_are_looked_at(self) -> None:
        for peer in self.guests(60):
            peer.send(b"ACCOUNT register\nContent-length: 5\n\nright")
        for i in range(20):
            peer = self.connect("127.0.0.3")
            peer.send(f"REGISTER guest{i}\n\nAUTH password\nContent-length: 5\n\nwrong".encode())
        self.stop_and_look()


if __name__ == "__main__":
    unittest.main()
