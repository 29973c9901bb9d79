"""Nodes on one log decide the same, and lose, double and reorder nothing, whatever goes wrong."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from chat_twisted.core import commands as c
from chat_twisted.core import state
from chat_twisted.core.entries import Duplicate, LoggedIn, Outcome
from chat_twisted.core.errors import NoSession, Unavailable
from chat_twisted.core.facts import AwaySet
from chat_twisted.core.message import Message
from chat_twisted.frames import MAX_BODY
from chat_twisted.storage import admission, applying, cursors, duties, outbox, records, replicated
from chat_twisted.storage.log import LARGEST, NotTaken
from tests.memory_log import EPOCH, ClusterTestCase, MemoryLog, Node
from tests.random_logs import Maker

OPTIONS = c.Options(grace=1000)


def login(node: Node, name: str, id: int, request: Any = "login") -> None:
    command = c.Login(name, id, b"token of %d" % id, node=node.number, time=1)
    node.propose(command, request)


def say(user: int, text: str, *, epoch: int = 1, key: str | None = None) -> c.Send:
    return c.Send(user, epoch, "ALL", text, 5, key)


def texts(node: Node) -> list[str]:
    """The texts of all messages that a node has reported, in order."""
    return [o.result.text for o, _ in node.committed if isinstance(o.result, Message)]


class TogetherTests(ClusterTestCase):
    def test_a_command_of_one_node_is_decided_and_reported_on_all(self) -> None:
        a, b = self.up("a", "b")
        login(a, "ann", 1)
        self.run_for(0.1)
        self.assertIsInstance(a.result("login"), LoggedIn)
        a.propose(say(1, "hello"), "said")
        self.run_for(0.1)
        self.assertEqual(a.result("said").text, "hello")
        self.assertEqual(texts(b), ["hello"])
        self.assertEqual(b.requests, [])
        self.assert_equal_archives(a, b)

    def test_a_name_is_given_once_though_two_nodes_ask_at_once(self) -> None:
        a, b = self.up("a", "b")
        login(a, "ann", 1)
        login(b, "ANN", 2)
        self.run_for(0.1)
        kinds = {type(a.result("login")).__name__, type(b.result("login")).__name__}
        self.assertEqual(kinds, {"LoggedIn", "NameInUse"})
        self.assert_equal_archives(a, b)

    def test_commands_that_are_proposed_while_a_batch_is_in_flight_are_one_batch(self) -> None:
        [a] = self.up("a")
        login(a, "ann", 1)
        self.run_for(0.1)
        a.line.holds_back = True
        a.propose(say(1, "0"), "0")
        self.run_for(0.1)
        before = self.log.last
        for number in range(1, 50):
            a.propose(say(1, str(number)), str(number))
        a.line.holds_back = False
        a.line.plan()
        self.run_for(0.1)
        self.assertEqual(self.log.last, before + 1)
        self.assertEqual(texts(a), [str(number) for number in range(50)])

    def test_no_record_is_larger_than_a_log_must_take(self) -> None:
        [a] = self.up("a")
        login(a, "ann", 1)
        self.run_for(0.1)
        begun = len(self.log.records)
        for number in range(30):
            a.propose(say(1, "x" * 50_000), number)
        a.propose(say(1, "\x01" * MAX_BODY), "six bytes for each")
        self.run_for(1)
        sizes = [len(data) for data in self.log.records[begun:]]
        self.assertGreater(max(sizes), outbox.MAX_BATCH - 60_000)
        self.assertLessEqual(max(sizes), LARGEST)
        self.assertIn("six bytes for each", a.requests)

    def test_batches_are_counted_with_the_time_until_they_come_back(self) -> None:
        a, b = self.up("a", "b")
        rounds, commits = a.ledger.rounds.total, a.ledger.commits.commands
        before = commits.sum
        a.line.holds_back = True
        login(a, "ann", 1)
        self.run_for(0.1)
        login(a, "bob", 2, "later")
        self.assertEqual(a.ledger.waiting, 1)
        spent = a.ledger.rounds.sum
        self.run_for(0.5)
        a.line.holds_back = False
        a.line.plan()
        self.run_for(0.1)
        self.assertEqual(a.ledger.waiting, 0)
        self.assertGreaterEqual(a.ledger.rounds.total, rounds + 2)
        self.assertGreater(a.ledger.rounds.sum, spent + 0.5)
        self.assertEqual(commits.sum, before + 2)
        self.assertGreaterEqual(b.ledger.commits.commands.sum, 2)
        self.assertEqual((a.ledger.in_touch, a.ledger.position), (True, self.log.last))

    def test_outcomes_are_to_be_expected_while_commands_are_on_their_way(self) -> None:
        a, b = self.up("a", "b")
        login(a, "ann", 1)
        self.run_for(0.1)
        expected = []
        self.patch(
            a.ledger._reports, "committed", lambda outcomes: expected.append(a.ledger.has_backlog)
        )
        a.line.cut = True
        a.propose(say(1, "later"), "later")
        login(b, "ben", 2)
        self.run_for(0.1)
        self.assertTrue(a.ledger.has_backlog)
        a.line.cut = False
        a.line.plan()
        self.run_for(1.5)
        self.assertEqual(expected, [True, False])
        self.assertFalse(a.ledger.has_backlog)

    def test_what_only_reads_is_answered_in_its_place_and_not_put_in_the_log(self) -> None:
        [a] = self.up("a")
        login(a, "ann", 1)
        self.run_for(0.1)
        before = self.log.last
        a.propose(c.Turn(), "alone")
        self.run_for(0.05)
        self.assertEqual(a.requests[-1], "alone")
        self.assertEqual(self.log.last, before)
        a.propose(say(1, "x", key="k"), "said")
        a.propose(c.DuplicateQuery(1, "k"), "query")
        a.propose(c.Turn(), "turn")
        self.run_for(0.1)
        self.assertEqual(a.requests[-3:], ["said", "query", "turn"])
        self.assertIsInstance(a.result("query"), Duplicate)
        self.assertEqual(self.log.last, before + 1)

    def test_the_sessions_of_a_node_end_when_it_stops(self) -> None:
        a, b = self.up("a", "b")
        login(a, "ann", 1)
        self.run_for(0.1)
        stopped = a.ledger.stop()
        self.run_for(0.1)
        self.successResultOf(stopped)
        self.assertEqual(b.ledger.state.users[1].sessions, {})
        self.assertTrue(b.ledger.state.holds.get(1))
        self.assertTrue(a.line.closed)

    def test_all_that_was_proposed_is_decided_before_a_node_ends(self) -> None:
        a, b = self.up("a", "b")
        login(a, "ann", 1)
        self.run_for(0.1)
        self.patch_batches(3)
        for number in range(10):
            a.propose(say(1, str(number)), number)
        stopped = a.ledger.stop()
        self.run_for(1)
        self.successResultOf(stopped)
        self.assertEqual(texts(b), [str(number) for number in range(10)])

    def patch_batches(self, count: int) -> None:
        self.patch(outbox, "MAX_COMMANDS", count)

    def test_due_holds_end_on_all_nodes_by_one_sweep(self) -> None:
        a, b = self.node("a", OPTIONS), self.node("b", OPTIONS)
        self.run_for(0.5)
        login(a, "ann", 1)
        self.run_for(0.1)
        a.propose(c.Detach(1, 1), "gone")
        self.run_for(3)
        self.assertNotIn(1, a.ledger.state.users)
        sweeps = [data for data in self.log.records if b"[30," in data]
        self.assertEqual(len(sweeps), 1)
        self.assert_equal_archives(a, b)

    def test_confirmations_are_told_to_the_other_nodes_and_logged_when_a_user_stays(self) -> None:
        a, b = self.up("a", "b")
        login(a, "ann", 1)
        self.run_for(0.1)
        a.propose(say(1, "x"), "said")
        self.run_for(0.1)
        number = a.result("said").number
        a.ledger.acknowledge(1, number)
        self.run_for(0.1)
        self.assertEqual(b.acknowledged, [(1, number)])
        self.assertEqual(b.ledger.state.users[1].cursor, 0)
        self.run_for(duties.RECORD_CURSORS + 1)
        self.assertEqual(b.ledger.state.users[1].cursor, number)

    def test_nonsense_that_other_nodes_tell_is_ignored(self) -> None:
        a, b = self.up("a", "b")
        for data in (b"", b"{", b"[1]", b'[["x", 1]]', b"\xff", b'{"a": 1}', b"[[1, Infinity]]"):
            a.line.tell(cursors.TOPIC, data)
        self.run_for(0.1)
        self.assertEqual(b.acknowledged, [])


class UnluckyTests(ClusterTestCase):
    """The log does not answer, repeats, delays, refuses, or is away."""

    def setUp(self) -> None:
        super().setUp()
        self.a, self.b = self.up("a", "b")
        login(self.a, "ann", 1)
        self.run_for(0.1)

    def said(self, *expected: str) -> None:
        self.run_for(2)
        self.assertEqual(texts(self.a), [*expected])
        self.assertEqual(texts(self.b), [*expected])
        self.assert_equal_archives(self.a, self.b)

    def test_a_lost_acknowledgement_does_not_double_a_batch(self) -> None:
        self.a.line.loses_answers = True
        self.a.line.holds_back = True
        self.a.propose(say(1, "x"), "said")
        self.run_for(2.5)  # it is appended again
        self.assertGreater(sum(b'"x"' in data for data in self.log.records), 1)
        self.a.line.holds_back = self.a.line.loses_answers = False
        self.a.line.plan()
        self.said("x")
        self.assertEqual(self.a.requests.count("said"), 1)

    def test_a_batch_that_the_log_repeats_is_applied_once(self) -> None:
        self.a.line.repeats = 3
        self.a.propose(say(1, "x"), 1)
        self.run_for(0.1)
        self.a.propose(say(1, "y"), 2)
        self.said("x", "y")

    def test_a_batch_that_gets_into_the_log_late_is_applied_once(self) -> None:
        self.a.line.delays = True
        self.a.propose(say(1, "x"), 1)
        self.run_for(1.5)
        self.assertEqual(self.a.refused, [])
        self.a.line.delays = False
        self.run_for(1.5)
        self.a.propose(say(1, "y"), 2)
        self.run_for(0.5)
        self.a.line.deliver_late()
        self.said("x", "y")

    def test_what_is_certainly_not_taken_is_tried_again_and_then_refused(self) -> None:
        self.log.refusing = NotTaken("no leader")
        self.a.propose(say(1, "x"), "said")
        self.run_for(2.5)
        self.assertEqual(self.a.refused, [])
        self.run_for(1)
        [(request, reason)] = self.a.refused
        self.assertEqual(request, "said")
        self.assertIn("no leader", reason)
        self.log.refusing = None
        self.said()

    def test_what_waits_behind_that_is_refused_too(self) -> None:
        self.log.refusing = NotTaken("no leader")
        self.a.propose(say(1, "x"), "first")
        self.run_for(0.1)
        self.a.propose(say(1, "y"), "second")
        self.run_for(3.5)
        self.assertEqual([request for request, _ in self.a.refused], ["first", "second"])
        self.log.refusing = None
        self.a.propose(say(1, "z"), "third")
        self.said("z")

    def test_what_was_taken_during_that_is_not_refused(self) -> None:
        self.log.refusing = NotTaken("no leader")
        self.a.propose(say(1, "x"), "said")
        self.run_for(2)
        self.log.refusing = None
        self.said("x")
        self.assertEqual(self.a.refused, [])

    def test_what_may_have_been_taken_is_not_refused_but_repeated(self) -> None:
        self.a.line.delays = True
        self.a.propose(say(1, "x"), "said")
        self.run_for(0.5)
        self.a.line.delays = False
        self.log.refusing = NotTaken("full", full=True)
        self.run_for(30)
        self.assertEqual(self.a.refused, [])
        self.log.refusing = None
        self.said("x")
        self.a.line.deliver_late()
        self.said("x")

    def test_a_full_log_refuses_at_once_and_keeps_the_sessions_and_readings_go_on(self) -> None:
        self.log.refusing = NotTaken("no space", full=True)
        self.a.propose(say(1, "x"), "said")
        self.run_for(0.1)
        self.assertEqual([request for request, _ in self.a.refused], ["said"])
        self.run_for(30)
        self.assertEqual(self.a.said, ["reachable"])
        self.a.propose(c.Turn(), "turn")
        self.run_for(0.05)
        self.assertEqual(self.a.requests[-1], "turn")
        self.log.refusing = None
        self.run_for(1.5)
        self.a.propose(say(1, "y"), "again")
        self.said("y")
        self.assertTrue(self.b.ledger.state.users[1].sessions)

    def test_a_node_that_is_cut_off_says_so_before_its_lease_is_over(self) -> None:
        self.a.line.cut = True
        self.run_for(4.5)
        self.assertEqual(len(self.a.said), 2)
        self.assertTrue(self.a.said[1].startswith("unreachable"), self.a.said)
        self.assertTrue(self.b.ledger.state.users[1].sessions)
        self.assertRaises(Unavailable, self.a.propose, say(1, "x"), "said")

    def test_a_node_that_is_silent_for_too_long_is_gone_and_its_users_are_held(self) -> None:
        self.a.line.cut = True
        self.run_for(7)
        self.assertEqual(self.b.ledger.state.users[1].sessions, {})
        self.assertTrue(self.b.ledger.state.holds.get(1))
        self.assertEqual(self.b.said, ["reachable"])

    def test_it_comes_back_as_another_incarnation(self) -> None:
        self.a.line.cut = True
        self.run_for(8)
        self.a.line.cut = False
        self.a.line.plan()
        self.run_for(2)
        self.assertEqual(self.a.said[2:], ["reachable"])
        self.a.propose(c.Login("ann", 2, b"f", b"token of 1", node=self.a.number), "back")
        self.run_for(0.1)
        self.assertEqual(self.a.result("back").user, 1)
        self.assert_equal_archives(self.a, self.b)

    def test_a_node_that_was_frozen_loses_what_nobody_else_has_and_takes_nothing_back(self) -> None:
        self.a.line.delays = True
        self.a.propose(say(1, "x"), "said")  # on its way when the node is given up
        self.run_for(0.1)
        self.a.line.cut = True
        self.run_for(8)
        self.a.line.deliver_late()
        self.run_for(0.5)
        self.a.line.cut = self.a.line.delays = False
        self.a.line.plan()
        self.run_for(2)
        self.assertEqual([request for request, _ in self.a.refused], ["said"])
        self.assertEqual(texts(self.b), [])
        self.assert_equal_archives(self.a, self.b)

    def test_all_nodes_stay_when_the_log_was_away_for_everybody(self) -> None:
        for node in (self.a, self.b):
            node.line.cut = True
        self.run_for(60)
        for node in (self.a, self.b):
            node.line.cut = False
            node.line.plan()
        self.run_for(10)
        self.assertEqual(
            [said[:9] for said in self.a.said], ["reachable", "unreachab", "reachable"]
        )
        self.assertTrue(self.b.ledger.state.users[1].sessions)

    def test_a_node_that_can_not_write_waits_and_loses_nothing(self) -> None:
        self.a.writer.broken = sqlite3.OperationalError("disk full")
        self.a.propose(say(1, "x"), "said")
        self.run_for(2)
        self.assertEqual(texts(self.a), [])
        self.assertEqual(texts(self.b), ["x"])
        self.assertGreater(self.a.ledger.commits.failed, 1)
        self.run_for(4)
        self.assertEqual(self.a.said[-1], "unreachable: it can't write to its disk")
        self.a.writer.broken = None
        self.said("x")
        self.flushLoggedErrors()

    def test_a_commit_that_failed_and_was_done_all_the_same_is_done_once(self) -> None:
        self.a.writer.after_commit = sqlite3.OperationalError("disk I/O error")
        self.a.propose(say(1, "x"), "said")
        self.said("x")

    def test_a_command_at_which_the_state_fails_is_left_out_on_all_nodes(self) -> None:
        for kind in ("x", "y", "z"):
            self.a.propose(c.Impose(0, 0, c.MUTE, kind, 0), kind)
        before = self.a.ledger.state

        def fail(model: Any, command: c.SetAway, now: int) -> Any:
            return Outcome((AwaySet(1, "x"), AwaySet(99, "no such user")))

        self.patch(state, "_RULES", {**state._RULES, c.SetAway: fail})
        self.a.propose(say(1, "before"), 1)
        self.a.propose(c.SetAway(1, 1, "x"), 2)
        self.a.propose(say(1, "after"), 3)
        self.said("before", "after")
        self.assertIsInstance(self.a.result(2), Unavailable)
        self.assertIsNot(self.a.ledger.state, before)
        self.assertIsNone(self.a.ledger.state.users[1].away)
        self.assertEqual(len(self.flushLoggedErrors()), 2)

    def test_what_can_not_be_written_is_left_out_on_all_nodes(self) -> None:
        for impossible in (say(1, "half a pair \ud800"), c.Send(1, 1, "ALL", "x", 1 << 70)):
            self.a.propose(say(1, "before"), "before")
            self.a.propose(impossible, impossible)
            self.a.propose(say(1, "after"), "after")
            self.run_for(1)
            self.assertIsInstance(self.a.result(impossible), Unavailable)
        self.said("before", "after", "before", "after")
        self.assertEqual(self.a.said, ["reachable"])

    def test_a_command_that_can_not_be_encoded_is_refused_and_the_others_go_on(self) -> None:
        self.a.propose(say(1, "before"), 1)
        self.a.propose(say(1, "x", key=5), 2)  # type: ignore[arg-type]
        self.a.propose(say(1, "after"), 3)
        self.said("before", "after")
        self.assertEqual([request for request, _ in self.a.refused], [2])
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_another_record_with_the_number_of_the_one_in_flight_is_not_taken_for_it(self) -> None:
        self.a.line.delays = True
        self.a.propose(say(1, "mine"), "mine")
        self.run_for(0.1)
        [data] = self.a.line._late
        self.log.add(data.replace(b"mine", b"that of a copy of this process"))
        self.run_for(0.1)
        self.assertNotIn("mine", self.a.requests)
        self.a.line.delays = False
        self.said("that of a copy of this process")
        self.assertEqual([request for request, _ in self.a.refused], ["mine"])

    def test_a_node_whose_numbers_a_copy_has_used_comes_up_again(self) -> None:
        self.b.kill()
        self.run_for(8)
        data = self.log.records[-1]
        head = json.loads(data)
        self.log.add(json.dumps({**head, "batch": head["batch"] + 100}).encode())
        self.run_for(5)
        self.assertEqual([said[:9] for said in self.a.said[1:]], ["unreachab", "reachable"])
        self.assertEqual(self.a.ledger.state.users[1].sessions, {})


class LoggingTests(ClusterTestCase):
    """An operator reads in the log of each node what happens to the cluster, and each fact once."""

    def setUp(self) -> None:
        super().setUp()
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.note)
        self.addCleanup(globalLogPublisher.removeObserver, self.note)

    def note(self, event: LogEvent) -> None:
        self.lines.append(formatEvent(event))

    def test_other_nodes_that_come_and_go(self) -> None:
        _, b = self.up("a", "b")
        own = "this node is a member of the cluster"
        self.assertEqual(sorted(self.lines), ["node b has become a member", own, own])
        self.lines.clear()
        b.ledger.stop()
        self.run_for(1)
        self.assertEqual(self.lines, ["node b has ended"])
        self.lines.clear()
        self.up("c")  # it finds in the log what was before it, and does not repeat that
        self.assertEqual(sorted(self.lines), ["node c has become a member", own])

    def test_a_node_that_is_silent_is_named_once_by_each(self) -> None:
        _, b, _ = self.up("a", "b", "c")
        self.lines.clear()
        b.kill()
        self.run_for(60)
        self.assertEqual(self.lines, ["no sign of life from node b: it is gone"] * 2)

    def test_a_log_that_takes_nothing_for_a_long_time(self) -> None:
        self.up("a")
        self.lines.clear()
        self.log.refusing = NotTaken("no leader")
        self.run_for(600)
        self.assertEqual(self.lines, ["the log does not take records: no leader"])
        self.lines.clear()
        self.log.refusing = None
        self.run_for(2)
        self.assertEqual(self.lines, ["the log takes records again"])


class MembershipTests(ClusterTestCase):
    def test_a_node_that_was_killed_comes_back_at_once(self) -> None:
        a, b = self.up("a", "b")
        login(a, "ann", 1)
        self.run_for(0.1)
        a.kill()
        again = self.node("a")
        self.run_for(0.5)
        self.assertEqual(again.said, ["reachable"])
        self.assertEqual(again.ledger.state.users[1].sessions, {})
        self.assert_equal_archives(again, b)

    def test_a_node_that_can_not_write_at_its_start_tries_again(self) -> None:
        (self.root / "a").mkdir()
        a = Node(self.log, "a", self.root / "a")
        self.addCleanup(a.connection.close)
        a.writer.broken = sqlite3.OperationalError("database or disk is full")
        a.start()
        self.run_for(3)
        self.assertEqual(a.said, [])
        a.writer.broken = None
        self.run_for(2)
        self.assertEqual(a.said, ["reachable"])

    def test_a_second_node_of_the_same_name_gives_up_and_the_first_stays(self) -> None:
        a, _ = self.up("a", "b")
        other = self.node("a", folder="elsewhere")
        self.run_for(20)
        self.assertEqual(other.said, ["broken: another node is called a"])
        self.assertEqual(a.said, ["reachable"])

    def test_a_node_from_another_folder_waits_for_the_lease_of_the_one_that_was_killed(
        self,
    ) -> None:
        a, _ = self.up("a", "b")
        a.kill()
        other = self.node("a", folder="elsewhere")
        self.run_for(3)
        self.assertEqual(other.said, [])
        self.run_for(5)
        self.assertEqual(other.said, ["reachable"])

    def test_a_node_with_the_archive_of_another_takes_its_name_and_the_first_stops(self) -> None:
        a, _ = self.up("a", "b")
        shutil.copytree(self.root / "a", self.root / "copy")
        other = self.node("a", folder="copy")
        self.run_for(1)
        self.assertEqual(other.said, ["reachable"])
        self.assertEqual(a.said[-1], "unreachable: another node has come up under the name a")
        self.run_for(15)
        self.assertEqual(a.said[-1], "broken: another node is called a")
        self.assertEqual(other.said, ["reachable"])

    def test_a_node_that_was_refused_by_a_log_that_was_away_asks_again(self) -> None:
        [a, b] = self.up("a", "b")
        a.kill()
        shutil.copytree(self.root / "b", self.root / "elsewhere")
        again = self.node("a", folder="elsewhere")
        again.line.holds_back = True
        self.run_for(0.2)
        again.line.cut = True
        self.run_for(20)
        again.line.holds_back = again.line.cut = False
        again.line.plan()
        self.run_for(8)
        self.assertEqual(again.said, ["reachable"])
        self.assert_equal_archives(again, b)

    def test_a_late_request_of_a_process_that_has_ended_does_not_stop_the_one_that_runs(
        self,
    ) -> None:
        a, b = self.up("a", "b")
        a.kill()
        a = self.node("a")
        a.line.delays = True  # its request to come up is on its way when it is killed
        self.run_for(0.2)
        late = a.line
        a.kill()
        a = self.node("a")
        self.run_for(0.5)
        a.line.cut = True
        self.run_for(7)  # it is gone
        late.deliver_late()
        a.line.cut = False
        a.line.plan()
        self.run_for(8)
        self.assertEqual(a.said[-1], "reachable")
        self.assertEqual(b.said, ["reachable"])
        self.assert_equal_archives(a, b)

    def test_a_node_with_other_options_is_told_which_and_stops(self) -> None:
        self.up("a")
        b = self.node("b", c.Options(grace=5500, guests=False))
        self.run_for(20)
        reason = "--grace 600 --guests yes; this node has --grace 5.5 --guests no"
        self.assertEqual(b.said, [f"broken: a decide by other options: {reason}"])

    def test_a_node_that_changes_the_options_changes_them_for_all(self) -> None:
        a, b = self.up("a", "b")
        options = c.Options(guests=False)
        b.propose(c.SetOptions(options), "change")
        self.run_for(0.5)
        self.assertIsNone(b.result("change"))
        for node in (a, b):
            self.assertEqual(node.ledger.state.options, options)
        self.assert_equal_archives(a, b)

    def test_a_node_that_was_lost_keeps_the_options_that_were_changed(self) -> None:
        a, b = self.up("a", "b")
        options = c.Options(guests=False)
        a.propose(c.SetOptions(options), "change")
        self.run_for(0.5)
        b.line.cut = True
        self.run_for(20)
        self.assertEqual([node.name for node in a.ledger._applier.membership.members], ["a"])
        self.assertEqual(a.ledger.state.options, options)
        b.line.cut = False
        self.run_for(20)
        self.assertEqual(b.said[-1], "reachable")
        self.assertEqual(b.ledger.state.options, options)

    def test_the_options_can_be_changed_when_all_nodes_were_stopped(self) -> None:
        [a] = self.up("a")
        a.ledger.stop()
        self.run_for(0.5)
        b = self.node("b", c.Options(grace=5))
        self.run_for(1)
        self.assertEqual(b.said, ["reachable"])
        self.assertEqual(b.ledger.state.options.grace, 5)

    def test_a_new_node_replays_the_log_from_the_start(self) -> None:
        [a] = self.up("a")
        login(a, "ann", 1)
        self.run_for(0.1)
        for number in range(100):
            a.propose(say(1, str(number)), number)
            self.run_for(0.05)
        [b] = self.up("b")
        self.assertEqual(len(texts(b)), 100)
        self.run_for(1)
        self.assert_equal_archives(a, b)

    def test_a_restarted_node_goes_on_where_its_archive_ends(self) -> None:
        a, b = self.up("a", "b")
        login(a, "ann", 1)
        self.run_for(0.1)
        b.kill()
        a.propose(say(1, "x"), "said")
        self.run_for(1)
        again = self.node("b")
        self.run_for(1)
        self.assertEqual(texts(again), ["x"])
        self.assert_equal_archives(a, again)

    def test_an_old_backup_that_is_put_back_is_brought_up_to_date(self) -> None:
        a, b = self.up("a", "b")
        login(a, "ann", 1)
        self.run_for(0.1)
        shutil.copytree(self.root / "b", self.root / "backup")
        a.propose(say(1, "x"), "said")
        self.run_for(0.1)
        b.kill()
        again = self.node("b", folder="backup")
        self.run_for(1)
        self.assertEqual(texts(again), ["x"])
        self.assert_equal_archives(a, again)

    def test_a_log_that_lacks_records_stops_a_node(self) -> None:
        a, b = self.up("a", "b")
        b.kill()
        self.run_for(3)
        self.log.purge(self.log.last)
        again = self.node("b")
        self.run_for(1)
        self.assertEqual(again.said, ["broken: records are missing"])
        self.assertEqual(a.said, ["reachable"])

    def test_another_log_stops_a_node(self) -> None:
        _, b = self.up("a", "b")
        b.kill()
        self.log.identity = "two"
        again = self.node("b")
        self.run_for(1)
        [said] = again.said
        self.assertIn("the log is not the one", said)

    def test_a_node_whose_archive_differs_stops_and_the_others_go_on(self) -> None:
        a, b, d = self.up("a", "b", "d")
        b.ledger._applier.chain = b"something else"
        b.ledger._applier._chains[b.ledger._applier.position] = b"something else"
        self.run_for(4)
        self.assertIn("broken: the archive of this node differs from that of a, d", b.said[-1])
        self.assertEqual(a.said, ["reachable"])
        self.assertEqual(d.said, ["reachable"])

    def test_of_two_nodes_that_differ_the_later_one_stops(self) -> None:
        a, b = self.up("a", "b")
        a.ledger._applier.chain = b"something else"
        a.ledger._applier._chains[a.ledger._applier.position] = b"something else"
        self.run_for(4)
        self.assertEqual(a.said, ["reachable"])
        self.assertIn("differs", b.said[-1])

    def make_single(self, node: Node) -> None:
        """Make the archive of a node that has ended a single server's."""
        with contextlib.closing(sqlite3.connect(node.folder / "chat.sqlite")) as connection:
            connection.execute("DELETE FROM cluster")
            connection.execute("DELETE FROM node")
            connection.commit()

    def found(self) -> Node:
        """Begin a log with the archive of a single server, until its beginning must be deleted,
        which fails. Return the node.
        """
        [a] = self.up("a")
        self.assertEqual(self.log.first, 1)  # it has brought nothing
        login(a, "ann", 1)
        self.run_for(0.1)
        a.kill()
        self.make_single(a)
        self.log = MemoryLog(self.clock)
        a = self.node("a")
        a.line.cannot_purge = True
        self.run_for(3)
        self.assertEqual((a.said, self.log.first), ([], 1))
        return a

    def test_who_begins_a_log_with_an_archive_of_before_leaves_no_beginning_to_others(self) -> None:
        a = self.found()
        a.line.cannot_purge = False
        self.run_for(1)
        self.assertEqual(a.said, ["reachable"])
        self.assertGreater(self.log.first, 1)
        shutil.copytree(self.root / "a", self.root / "copy")  # as a new node does
        b = self.node("b", folder="copy")
        self.run_for(1)
        self.assertEqual(b.said, ["reachable"])
        self.assert_equal_archives(a, b)

    def test_a_founder_that_was_killed_before_it_has_hidden_the_beginning_does_it_later(
        self,
    ) -> None:
        self.found().kill()
        a = self.node("a")
        self.run_for(1)
        self.assertEqual(a.said, ["reachable"])
        self.assertGreater(self.log.first, 1)

    def test_the_sessions_of_a_single_server_end_when_it_becomes_a_node(self) -> None:
        [a] = self.up("a")
        a.propose(c.Login("ann", 1, b"token", node=0), "login")
        self.run_for(0.1)
        a.kill()
        self.make_single(a)
        self.log = MemoryLog(self.clock)
        a = self.node("a")
        self.run_for(1)
        self.assertEqual(a.ledger.state.users[1].sessions, {})
        self.assertTrue(a.ledger.state.holds.get(1))

    def test_the_first_node_says_after_which_number_messages_are_numbered(self) -> None:
        (self.root / "a").mkdir()
        a = Node(self.log, "a", self.root / "a")
        self.addCleanup(a.connection.close)
        indexed: list[int] = []
        a.ledger._written = indexed.append  # type: ignore[assignment]
        a.after = 1000
        a.start()
        self.run_for(0.5)
        [b] = self.up("b")
        login(a, "ann", 1)
        self.run_for(0.1)
        self.assertEqual(set(indexed), {0})  # there is no message 1000
        a.propose(say(1, "x"), "said")
        self.run_for(0.1)
        self.assertEqual(a.result("said").number, 1001)
        self.assertEqual(indexed[-1], 1001)
        self.assert_equal_archives(a, b)

    def test_a_node_stops_that_can_not_follow_the_log(self) -> None:
        a = self.node("a")
        a.kill()
        a = Node(self.log, "a", self.root / "a")
        self.addCleanup(a.connection.close)
        self.nodes.append(a)
        a.line.broken = "the log does not exist any more"
        a.start()
        self.run_for(0.1)
        self.assertEqual(a.said, ["broken: the log does not exist any more"])

    def test_an_archive_of_another_chat_is_not_brought_into_a_cluster(self) -> None:
        [a] = self.up("a")
        self.log.lines.remove(a.line)
        full_log, self.log.records, self.log.first = self.log.records, [], 1
        [other] = self.up("b")
        login(other, "bob", 7)
        self.run_for(0.1)
        other.kill()
        self.make_single(other)
        self.log.records = full_log
        again = self.node("b")
        self.run_for(1)
        self.assertIn("differs from that of a", again.said[-1])

    def test_the_log_is_purged_below_what_all_known_nodes_have_applied(self) -> None:
        self.patch(duties, "KEPT", 2)
        self.patch(duties, "KEPT_FOR", 0.0)
        a, b = self.up("a", "b")
        b.kill()
        self.run_for(duties.PURGE_EVERY + 2)
        before = self.log.first
        self.run_for(duties.PURGE_EVERY + 2)
        self.assertEqual(self.log.first, before)  # b does not go on
        done = a.ledger.forget("b")
        self.run_for(0.2)
        self.successResultOf(done)
        self.run_for(duties.PURGE_EVERY + 2)
        self.assertGreater(self.log.first, before + 50)
        self.assertEqual([node["name"] for node in a.ledger.status()["nodes"]], ["a"])

    def test_records_are_kept_while_a_new_node_may_copy_what_was_before_them(self) -> None:
        self.patch(duties, "KEPT", 2)
        self.patch(duties, "KEPT_FOR", 2 * duties.PURGE_EVERY)
        self.up("a")
        position = self.log.last  # of a copy
        self.run_for(3 * duties.PURGE_EVERY - 2)
        self.assertLessEqual(self.log.first, position + 1)
        self.run_for(duties.PURGE_EVERY)
        self.assertGreater(self.log.first, position + 1)
        self.assertGreater(self.log.last - self.log.first, 100)

    def test_a_full_log_is_purged_and_the_cluster_goes_on(self) -> None:
        self.patch(duties, "KEPT_IF_FULL", 5)
        a, b = self.up("a", "b")
        login(a, "ann", 1)
        self.run_for(0.1)
        self.log.limit = len(self.log.records) + 10
        self.run_for(10)
        a.propose(say(1, "x"), "said")
        self.run_for(30)
        self.assertGreater(self.log.first, 20)
        a.propose(say(1, "y"), "later")
        self.run_for(0.1)
        self.assertEqual(a.result("later").text, "y")
        for node in (a, b):
            self.assertEqual(node.said, ["reachable"])

    def test_a_node_that_keeps_the_log_full_can_be_forgotten(self) -> None:
        self.patch(duties, "KEPT_IF_FULL", 5)
        a, b = self.up("a", "b")
        b.kill()
        self.run_for(8)
        self.log.limit = len(self.log.records) + 10
        self.run_for(20)
        self.assertEqual(len(self.log.records), self.log.limit)
        done = a.ledger.forget("b")
        self.run_for(1)
        self.successResultOf(done)
        self.run_for(30)
        self.assertEqual(a.said, ["reachable"])
        self.assertGreater(self.log.first, 20)

    def test_a_member_or_a_stranger_is_not_forgotten(self) -> None:
        a, _ = self.up("a", "b")
        for name in ("a", "b", "x"):
            self.failureResultOf(a.ledger.forget(name))

    def test_nonsense_in_the_log_is_ignored_by_all(self) -> None:
        a, b = self.up("a", "b")
        for data in (b"", b"{", b"[]", b"\xff", b'{"format":1}', b'{"format":"x"}', b"[" * 9999):
            self.log.add(data)
        self.log.add(b'{"format":99}')
        self.run_for(2)
        self.assertEqual(a.said, ["reachable"])
        self.assert_equal_archives(a, b)

    def test_records_with_nonsense_in_them_are_ignored_by_all(self) -> None:
        a, b = self.up("a", "b")
        login(a, "ann", 1)
        self.run_for(0.2)
        real = [data for data in self.log.records if b'"node":"a"' in data and b"[1," in data]
        head = json.loads(real[-1])
        head["commands"] = [[10, 1, 1, "ALL", "x", 5, None, 0, True]]
        more = dict(head, batch=1 << 40)
        nonsense: list[Any] = [1.5, True, "?", None, [], {}, -1, 1 << 63, 10**400, float("nan")]
        for key in head:
            for value in nonsense[: 4 if key == "commands" else None]:  # it may be empty
                self.log.add(json.dumps({**more, key: value}).encode())
        for place in range(1, 9):
            for value in [1.5, [], {}, float("inf")]:
                command = [*head["commands"][0]]
                command[place] = value
                self.log.add(json.dumps({**more, "commands": [command]}).encode())
        up = [0, [*OPTIONS], 1]
        for value in nonsense:
            self.log.add(json.dumps({**more, "node": "x", "up": value}).encode())
            self.log.add(json.dumps({**more, "node": "x", "up": [value, *up[1:]]}).encode())
            self.log.add(json.dumps({**more, "node": "x", "up": [*up[:2], value]}).encode())
            for name in ("gone", "forget", "down"):
                self.log.add(json.dumps({**more, name: [value]}).encode())
        self.run_for(3)
        self.assertEqual(a.said, ["reachable"])
        self.assertEqual(b.said, ["reachable"])
        self.assert_equal_archives(a, b)
        a.propose(say(1, "go on"), "said")
        self.run_for(1)
        self.assertEqual(texts(b)[-1], "go on")


class FormatTests(ClusterTestCase):
    """A cluster whose nodes are upgraded one by one."""

    def write_up_to(self, version: int) -> None:
        """Let all nodes write no newer version of the format than this."""
        self.patch(replicated, "FORMAT", version)
        self.patch(admission, "FORMAT", version)

    def test_a_new_kind_of_command_waits_until_all_members_know_it(self) -> None:
        a = self.node("a")
        self.run_for(0.5)
        newer = records.FORMAT + 1
        self.patch(records, "FORMAT", newer)
        self.write_up_to(newer)
        kinds = dict(records._KINDS)
        kinds[17] = (c.SetTopic, (*[4] * (newer - 1), 5))  # the last field is new
        kinds[19] = (c.SetMode, (*[0] * (newer - 1), 5))  # the kind is new
        self.patch(records, "_KINDS", kinds)
        b = self.node("b")
        self.run_for(0.5)
        b.propose(c.SetMode(1, 1, "#r", c.PRIVATE, on=True), "new kind")
        b.propose(c.SetTopic(1, 1, "#r", "t", 7), "new field")
        b.propose(c.SetTopic(1, 1, "#r", "t"), "as before")
        self.run_for(0.5)
        self.assertEqual([request for request, _ in b.refused], ["new kind", "new field"])
        self.assertIsInstance(b.result("as before"), NoSession)
        a.ledger.stop()
        self.run_for(0.5)
        b.propose(c.SetMode(1, 1, "#r", c.PRIVATE, on=True), "now")
        b.propose(c.SetTopic(1, 1, "#r", "t", 7), "now too")
        self.run_for(0.5)
        self.assertIsInstance(b.result("now"), NoSession)
        self.assertIsInstance(b.result("now too"), NoSession)
        self.assertTrue(any(b'"format":%d' % newer in data for data in self.log.records))

    def test_a_record_that_all_members_know_stops_a_node_that_does_not(self) -> None:
        [a] = self.up("a")
        a.ledger.stop()
        self.run_for(0.2)
        self.patch(records, "FORMAT", 2)
        self.write_up_to(2)
        b = self.node("b")
        self.run_for(3)
        b.kill()
        self.patch(records, "FORMAT", 1)
        again = self.node("a")
        self.run_for(0.2)
        self.assertIn("broken: version 2 of the log's format", again.said[-1])

    def test_a_record_that_a_new_member_can_not_read_is_ignored_by_all(self) -> None:
        a = self.node("a")
        self.run_for(0.5)
        self.patch(records, "FORMAT", 2)
        self.write_up_to(2)
        self.patch(replicated, "BEAT", 99)
        a.ledger.stop()
        self.run_for(0.5)
        b = self.node("b")
        self.run_for(0.5)
        b.line.delays = True
        login(b, "ann", 1)  # on its way in version 2 when a node of version 1 joins
        self.run_for(0.1)
        self.write_up_to(1)
        again = self.node("a")
        self.run_for(0.5)
        self.assertEqual(again.said, ["reachable"])
        b.line.deliver_late()
        b.line.delays = False
        self.run_for(0.5)
        self.assertEqual([request for request, _ in b.refused], ["login"])
        self.assert_equal_archives(again, b)


class RandomTests(ClusterTestCase):
    """Random commands on three nodes whose lines fail at random."""

    @settings(deadline=None, max_examples=12, derandomize=True)
    @given(st.integers(0, 2**32))
    def test_all_nodes_decide_the_same(self, seed: int) -> None:
        self.setUp()
        draw = random.Random(seed)
        nodes = self.up("a", "b", "d")
        maker = Maker(draw)
        maker.sessions, proposed = [], 0
        for _ in range(150):
            node = draw.choice(nodes)
            line = node.line
            node.writer.takes = draw.choice((0, 0, 0.02, 0.3))
            line.loses_answers = draw.random() < 0.1
            line.repeats = draw.choice((1, 1, 1, 2))
            line.delays = draw.random() < 0.05
            line.holds_back = draw.random() < 0.2
            line.plan()
            maker.state = node.ledger.state
            command = maker.command()
            if isinstance(command, c.Start):
                continue
            proposed += 1
            node.propose(command, proposed)
            self.run_for(draw.choice((0, 0, 0.05, 0.3)))
            if draw.random() < 0.1:
                line.deliver_late()
            for outcome, _ in node.committed[-3:]:
                if isinstance(outcome.result, LoggedIn):
                    maker.sessions.append((outcome.result.user, outcome.result.epoch))
        for node in nodes:
            node.writer.takes = 0
            node.line.loses_answers = node.line.delays = node.line.holds_back = False
            node.line.repeats = 1
            node.line.plan()
        self.run_for(3)
        for node in nodes:
            node.line.deliver_late()
        self.run_for(3)
        self.assert_equal_archives(*nodes)
        answered = [request for node in nodes for request in node.requests]
        answered += [request for node in nodes for request, _ in node.refused]
        self.assertEqual(sorted(answered), [*range(1, proposed + 1)])


class ClockTests(ClusterTestCase):
    """The time of day of one machine is wrong."""

    def test_a_node_that_joins_an_hour_ahead_does_not_move_the_time_of_the_log(self) -> None:
        a = self.node("a")
        self.run_for(0.5)
        login(a, "ann", 1)
        self.run_for(0.1)
        a.propose(c.Detach(1, 1), "gone")
        self.run_for(0.1)
        b = self.node("b", ahead=3600)
        self.run_for(10)
        self.assertEqual((a.said, b.said), (["reachable"], ["reachable"]))
        self.assertTrue(a.ledger.state.holds.get(1))
        head = json.loads(self.log.records[-1])
        self.assertLess(head["time"] / 1000, EPOCH + 60)

    def test_it_does_not_take_a_name_or_bring_other_options(self) -> None:
        self.node("a")
        self.run_for(0.5)
        b = self.node("b", c.Options(guests=False), ahead=3600)
        twin = self.node("a", folder="twin", ahead=3600)
        self.run_for(15)
        self.assertIn("decide by other options", b.said[-1])
        self.assertIn("another node is called a", twin.said[-1])
        self.assertEqual(self.nodes[0].said, ["reachable"])

    def test_a_jump_of_the_time_of_the_log_ends_no_member(self) -> None:
        a, b, d = self.up("a", "b", "d")
        self.run_for(6)
        d.line.delays = True
        self.run_for(1)
        a.ledger._log_time.reach(a.ledger._log_time() + 3_600_000)
        self.run_for(1)
        d.line.deliver_late()
        d.line.delays = False
        self.run_for(3)
        for node in (a, b, d):
            self.assertEqual(node.said, ["reachable"], node.name)

    def test_a_node_whose_clock_is_ahead_is_not_believed_when_it_leads(self) -> None:
        a = self.node("a")
        self.run_for(0.5)
        b = self.node("b", ahead=3600)
        self.run_for(1)
        a.ledger.stop()
        self.run_for(3)
        self.assertEqual(b.said, ["reachable"])
        head = json.loads(self.log.records[-1])
        self.assertLess(head["time"] / 1000, EPOCH + 60)

    def test_the_first_node_of_all_brings_the_time_of_day(self) -> None:
        self.node("a")
        self.run_for(3)
        head = json.loads(self.log.records[-1])
        self.assertGreaterEqual(head["time"] / 1000, EPOCH)


class ChainTests(ClusterTestCase):
    def test_it_is_compared_even_if_a_node_is_behind(self) -> None:
        a, b = self.up("a", "b")
        b.line.holds_back = True
        self.run_for(1)
        b.line.holds_back = False
        b.line.plan()
        self.run_for(1)
        self.assertEqual(a.ledger._applier.others_agree, (["b"], []))
        self.assertLess(len(a.ledger._applier._chains), applying.KNOWN_CHAINS)
