"""Nodes on one log, to which everything happens at random: whatever it was, an answer is true.

What was answered is in all archives once, what was refused in none, and everything is answered by
the end, unless its node was killed.
"""

from __future__ import annotations

import random
import sqlite3
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chat_twisted.core import commands as c
from chat_twisted.core.errors import Unavailable
from chat_twisted.storage.log import NotTaken
from tests.memory_log import ClusterTestCase, Node

STEPS = 120
NAMES = ("a", "b", "d")


class FaultTests(ClusterTestCase):
    @settings(deadline=None, max_examples=8, derandomize=True)
    @given(st.integers(0, 2**32))
    def test_answers_are_true(self, seed: int) -> None:
        self.setUp()
        self.draw = random.Random(seed)
        self.running = {name: self.node(name) for name in NAMES}
        self.asked: dict[int, Node] = {}
        self.run_for(1)
        for _ in range(STEPS):
            self.happen(self.running[self.draw.choice(NAMES)])
            if self.draw.random() < 0.3:
                self.run_for(self.draw.choice((0.05, 0.3, 1, 3)))
            else:
                self.run_for(self.draw.choice((0, 0.05)))
        self.mend()
        self.check()
        for node in self.running.values():
            node.kill()

    def happen(self, node: Node) -> None:
        """Let something happen to a node; every second time it is asked for something."""
        line, writer = node.line, node.writer
        match self.draw.choice(
            ["ask"] * 16
            + ["cut", "mend", "mend", "hold", "go on", "go on", "delay", "deliver", "deliver"]
            + ["lose answers", "refuse", "take", "disk", "disk works", "slow", "half", "kill"]
        ):
            case "ask":
                for _ in range(self.draw.choice((1, 3))):
                    self.ask(node)
            case "cut":
                line.cut = True
            case "mend":
                line.cut = False
                line.plan()
            case "hold":
                line.holds_back = True
            case "go on":
                line.holds_back = False
                line.plan()
            case "delay":
                line.delays = True
            case "deliver":
                line.delays = False
                line.deliver_late()
            case "lose answers":
                line.loses_answers = not line.loses_answers
            case "refuse":
                self.log.refusing = NotTaken("no", full=self.draw.random() < 0.5)
            case "take":
                self.log.refusing = None
            case "disk":
                writer.broken = sqlite3.OperationalError("database or disk is full")
            case "disk works":
                writer.broken = None
            case "slow":
                writer.takes = self.draw.choice((0, 0.1, 0.5))
            case "half":
                writer.after_commit = sqlite3.OperationalError("disk I/O error")
            case "kill":
                line.deliver_late()
                node.kill()
                self.log.lines.remove(line)
                self.running[node.name] = self.node(node.name)

    def ask(self, node: Node) -> None:
        """Ask for an account, which nobody needs a session for."""
        number = len(self.asked) + 1
        command = c.MakeAccount(0, 0, hash="hash", name=f"n{number}", id=number, time=1)
        try:
            node.propose(command, number)
        except Unavailable:
            return
        self.asked[number] = node

    def mend(self) -> None:
        """Let everything work again."""
        self.log.refusing = None
        for node in self.running.values():
            line = node.line
            line.cut = line.holds_back = line.delays = line.loses_answers = False
            line.deliver_late()
            line.plan()
            node.writer.broken = None
            node.writer.takes = 0
        self.run_for(20)

    def check(self) -> None:
        for node in self.running.values():
            self.assertEqual(node.said[-1], "reachable", node.said)
        self.assert_equal_archives(*self.running.values())
        there = {user.name for user in self.running["a"].ledger.state.users.values()}
        answers: dict[int, Any] = {}
        for node in self.nodes:
            answered = [(asked, outcome.result) for outcome, asked in node.committed if asked]
            for asked, result in [*answered, *node.refused]:
                if asked is not None:
                    self.assertNotIn(asked, answers)
                    answers[asked] = result
        for number, result in answers.items():
            refused = isinstance(result, str | Unavailable)
            self.assertEqual(f"n{number}" in there, not refused, (number, result))
        for number, node in self.asked.items():
            if node in self.running.values():
                self.assertIn(number, answers)
