"""A killed server and cut connections cost nobody a message: the short form of benchmarks/chaos."""

from __future__ import annotations

import unittest

from tests.end_to_end import chaos


class ChaosTests(unittest.TestCase):
    def test_every_party_has_every_message_that_was_sent_exactly_once_and_in_order(self) -> None:
        figures = chaos.run(seed=7, rounds=4)
        print(figures)  # noqa: T201  they are to be seen
        self.assertEqual(figures, figures | {"messages": 2006, "kills": 4, "cuts": 48})
        for fault in ("lost", "doubled", "out_of_order", "other_faults"):
            self.assertEqual(figures[fault], 0, figures)
