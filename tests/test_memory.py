"""Free memory is returned to the system."""

from __future__ import annotations

import ctypes

from twisted.trial.unittest import TestCase

from chat_twisted.memory import find_trim


class TrimTests(TestCase):
    def test_where_the_c_library_can_give_back_what_is_free_it_does(self) -> None:
        trim = find_trim()
        if trim is not None:
            self.assertIn(trim(), (0, 1))

    def test_where_it_can_not_nothing_is_done(self) -> None:
        self.patch(ctypes, "CDLL", lambda name: object())
        self.assertIsNone(find_trim())
