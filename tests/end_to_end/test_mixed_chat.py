"""Five people on one server, two with version 1 and three with version 2, all talking at once.

``CHAT_SECONDS=60 pytest tests/end_to_end/test_mixed_chat.py`` lets them talk for a minute.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

from tests.end_to_end.original import Original
from tests.end_to_end.support import PATIENCE, Peer, ServerTestCase

SECONDS = float(os.environ.get("CHAT_SECONDS", "0"))
AT_LEAST = 25  # messages of each, however little time there is
WINDOW = 8  # requests that a client of version 2 has on their way
BEHIND = 100  # messages that somebody may have yet to hear: less than what gets one cut off
LETTERS = ("x", "é", "漢", "👋", "aé字🎉")
BYTES = (1, 40, 1000, 2048, 9000, 65536)

Said = tuple[str, str]
"""Whom something was said to, and what."""


def text_of(number: int, chance: random.Random) -> str:
    """A text that says where it ends, so that pieces of it can be joined."""
    letters = chance.choice(LETTERS)
    room = chance.choice(BYTES) - 16
    filling = letters * max(1, room // len(letters.encode()))
    return f"{number:08}/{len(filling):06}/{filling}"


class Talker:
    """One of the five: says things in one thread, hears in another.

    Nobody talks faster than the slowest listens: who has ``BEHIND`` messages to hear is waited for.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.others: dict[str, Talker] = {}
        self.behind = threading.Semaphore(BEHIND)
        self.chance = random.Random(name)
        self.said: list[Said] = []
        self.heard: dict[str, list[str]] = defaultdict(list)

    def talk(self) -> None:
        until = time.monotonic() + SECONDS
        while len(self.said) < AT_LEAST or time.monotonic() < until:
            to = self.chance.choice([*self.others, "ALL"])
            for listener in self.others.values() if to == "ALL" else [self.others[to]]:
                assert listener.behind.acquire(timeout=PATIENCE)
            text = text_of(len(self.said), self.chance)
            self.said.append((to, text))
            self.say(to, text)

    def say(self, to: str, text: str) -> None:
        raise NotImplementedError

    def hear(self) -> None:
        """Hear everything up to the word of the moderator, who speaks last."""
        raise NotImplementedError

    def take(self, sender: str, text: str) -> None:
        self.heard[sender].append(text)
        self.behind.release()

    def close(self) -> None:
        raise NotImplementedError


class Talker1(Talker):
    """Version 1: each message is answered before the next is sent."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(name)
        self.client = Original(port, name)
        self.client.register()

    def say(self, to: str, text: str) -> None:
        answer = self.client.send(to, text)
        assert answer == f"SEND {to}\n\n", answer

    def hear(self) -> None:
        while True:
            sender, text = self.client.hear()
            if sender == "moderator":
                return
            length = int(text[9:15])
            while len(text) < 16 + length:
                again, piece = self.client.hear()
                assert again == sender, f"{again} spoke within a message of {sender}"
                text += piece
            self.take(sender, text)

    def close(self) -> None:
        self.client.close()


class Talker2(Talker):
    """Version 2: several requests are on their way, and answered in their order."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(name)
        self.peer = Peer(port)
        self.peer.register(name)
        self.writing = threading.Lock()
        self.window = threading.Semaphore(WINDOW)
        self.sent: list[int] = []
        self.newest = 0

    def write(self, frame: str) -> None:
        with self.writing:
            self.peer.send(frame.encode())

    def say(self, to: str, text: str) -> None:
        assert self.window.acquire(timeout=PATIENCE)
        number, length = len(self.said), len(text.encode())
        self.write(f"SEND {to}\nId: {number}\nContent-length: {length}\n\n{text}")

    def talk(self) -> None:
        super().talk()
        for _ in range(WINDOW):  # until everything is answered
            assert self.window.acquire(timeout=PATIENCE)

    def hear(self) -> None:
        while True:
            start, headers, body = self.peer.frame()
            verb, _, argument = start.partition(" ")
            if verb == "SENT":
                self.sent.append(int(headers["id"]))
                self.window.release()
            elif verb == "FORWARD":
                number = int(headers["message"])
                assert number > self.newest
                self.newest = number
                self.write(f"RECEIVED {argument}\nMessage: {number}\n\n")
                if argument == "moderator":
                    return
                assert headers["to"] in (self.name, "ALL")
                self.take(argument, body.decode())
            else:
                assert verb == "DELIVERED", start

    def close(self) -> None:
        self.peer.close()


class MixedChatTests(ServerTestCase):
    def test_nothing_is_lost_or_doubled_and_each_senders_order_is_kept(self) -> None:
        names = ("ann", "bea", "cid", "dan", "eve")
        kinds = (Talker1, Talker2, Talker1, Talker2, Talker2)
        talkers = [kind(self.port, name) for kind, name in zip(kinds, names, strict=True)]
        for talker in talkers:
            talker.others = {other.name: other for other in talkers if other is not talker}
            self.addCleanup(talker.close)
        with ThreadPoolExecutor(2 * len(talkers)) as pool:
            hearing = [pool.submit(talker.hear) for talker in talkers]
            talking = [pool.submit(talker.talk) for talker in talkers]
            for future in talking:
                future.result()
            moderator = self.connect()
            moderator.register("moderator")
            moderator.send(b"SEND ALL\nContent-length: 3\n\nend")
            for future in hearing:
                future.result()
        for sender in talkers:
            for receiver in talkers:
                said = [text for to, text in sender.said if to in (receiver.name, "ALL")]
                expected = [] if sender is receiver else said
                self.assertTrue(
                    receiver.heard[sender.name] == expected, (sender.name, receiver.name)
                )
            if isinstance(sender, Talker2):
                self.assertEqual(sender.sent, list(range(1, len(sender.said) + 1)))
        self.assertNoTraceback()
        if SECONDS:
            print(sum(len(t.said) for t in talkers), "messages")  # noqa: T201
