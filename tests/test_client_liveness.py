"""Whether a server still answers."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.client.liveness import ANSWERED_FOR, CHECK_EVERY, HASTE, IDLE, Liveness


class LivenessTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.waits = self.paused = self.has_others = False
        self.pings: list[float] = []
        self.given_up: list[float] = []
        self.reasons: list[str] = []
        self.liveness = Liveness(
            self.clock,
            lambda: self.waits,
            lambda: self.paused,
            lambda: self.pings.append(self.clock.seconds()),
            self.give_up,
            lambda: self.has_others,
        )
        self.liveness.start()

    def give_up(self, reason: str) -> None:
        self.reasons.append(reason)
        self.given_up.append(self.clock.seconds())
        self.liveness.stop()

    def pass_time(self, seconds: int) -> None:
        self.clock.pump([CHECK_EVERY] * (seconds // CHECK_EVERY))

    def test_a_silent_connection_is_asked_after_a_minute_and_given_up_after_two(self) -> None:
        self.pass_time(3 * IDLE)
        self.assertEqual((self.pings, self.given_up), ([60], [120]))

    def test_while_an_answer_is_due_it_is_asked_after_ten_seconds_and_given_up_after_forty(
        self,
    ) -> None:
        self.waits = True
        self.pass_time(IDLE)
        self.assertEqual((self.pings, self.given_up), ([10], [40]))

    def test_a_connection_on_which_nothing_comes_in_time_is_given_up(self) -> None:
        self.liveness.expect_within(15, "no answer")
        self.clock.advance(14)
        self.assertEqual(self.given_up, [])
        self.clock.advance(1)
        self.assertEqual((self.given_up, self.reasons), ([15], ["no answer"]))

    def test_the_first_bytes_end_the_wait_for_them(self) -> None:
        self.liveness.expect_within(15, "no answer")
        self.clock.advance(14)
        self.liveness.heard()
        self.clock.advance(1)
        self.assertEqual(self.given_up, [])

    def test_a_session_that_is_paused_when_the_time_is_over_does_not_give_up(self) -> None:
        self.liveness.expect_within(15, "no answer")
        self.paused = True
        self.clock.advance(15)
        self.assertEqual(self.given_up, [])

    def test_a_lost_connection_ends_the_wait_for_the_first_bytes(self) -> None:
        self.liveness.expect_within(15, "no answer")
        self.liveness.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_of_several_hosts_is_asked_and_given_up_in_a_quarter_of_the_time(self) -> None:
        for waits, pinged, given_up in ((False, 15, 30), (True, 2.5, 10)):
            self.setUp()
            self.liveness.stop()
            self.waits, self.has_others = waits, True
            self.liveness.start()
            self.clock.pump([CHECK_EVERY * HASTE] * 13)
            self.assertEqual((self.pings, self.given_up), ([pinged], [given_up]))

    def test_a_server_that_answers_the_ping_alone_has_two_minutes_for_the_request(self) -> None:
        self.waits = True
        for _ in range(20):
            self.liveness.heard()
            self.pass_time(CHECK_EVERY)
        self.assertEqual(self.given_up, [ANSWERED_FOR])

    def test_answers_keep_a_busy_connection(self) -> None:
        self.waits = True
        for _ in range(20):
            self.liveness.heard()
            self.liveness.answered()
            self.pass_time(CHECK_EVERY)
        self.assertEqual(self.given_up, [])

    def test_what_is_not_received_for_now_is_no_silence(self) -> None:
        self.paused = True
        self.pass_time(10 * IDLE)
        self.assertEqual((self.pings, self.given_up), ([], []))

    def test_nothing_is_checked_between_two_connections(self) -> None:
        self.liveness.stop()
        self.pass_time(10 * IDLE)
        self.assertEqual((self.pings, self.given_up), ([], []))
        self.liveness.start()
        self.pass_time(IDLE)
        self.assertEqual(self.pings, [self.clock.seconds()])

    def test_a_process_that_was_stopped_reads_first_what_came_meanwhile(self) -> None:
        self.waits = True
        self.clock.advance(10 * IDLE)
        self.assertEqual((self.pings, self.given_up), ([], []))
        self.pass_time(IDLE)
        self.assertEqual(
            (self.pings, self.given_up), ([10 * IDLE + CHECK_EVERY], [10 * IDLE + 4 * CHECK_EVERY])
        )

    def test_the_silence_before_a_request_does_not_count_against_its_answer(self) -> None:
        self.pass_time(IDLE - CHECK_EVERY)
        self.waits = True
        self.liveness.answered()  # a request is made
        self.pass_time(3 * CHECK_EVERY)
        self.assertEqual((self.pings, self.given_up), ([IDLE], []))
        self.pass_time(CHECK_EVERY)
        self.assertEqual(self.given_up, [IDLE + 3 * CHECK_EVERY])
