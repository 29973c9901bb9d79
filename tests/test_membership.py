"""Who is a member of a cluster, and whose batches count."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from chat_twisted.core.commands import Options, Start
from chat_twisted.storage.membership import (
    LEASE,
    Membership,
    NameTaken,
    Node,
    OtherOptions,
    Verdict,
    node_number,
)
from chat_twisted.storage.records import Record, Up

OPTIONS = Options()


class MembershipTests(TestCase):
    def setUp(self) -> None:
        self.membership = Membership()
        self.position = 0
        self.options = Options()

    def take(
        self, node: str, incarnation: int = 1, number: int = 2, time: int = 0, **more: object
    ) -> Verdict:
        self.position += 1
        record = Record(node, incarnation, number, time, self.position - 1, b"")
        return self.membership.take(record._replace(**more), self.position, self.options)  # type: ignore[arg-type]

    def up(
        self,
        node: str,
        incarnation: int = 1,
        time: int = 0,
        previous: int = 0,
        options: Options = OPTIONS,
        format: int = 1,
    ) -> Verdict:
        up = Up(previous, options, format)
        return self.take(node, incarnation, 1, time, up=up)

    def test_a_node_that_comes_up_ends_its_old_sessions_by_its_options(self) -> None:
        options = Options(grace=7)
        verdict = self.up("a", options=options)
        # The first node may have the archive of a single server.
        self.assertEqual(
            verdict.before, (Start(0, options, 0), Start(node_number("a"), options, 0))
        )
        self.options = options
        verdict = self.up("b", options=options)
        self.assertEqual(verdict.before, (Start(node_number("b"), options, 0),))
        self.assertTrue(self.membership.is_member("a", 1))

    def test_batches_count_once_and_in_their_order(self) -> None:
        self.up("a")
        self.assertTrue(self.take("a", number=3).taken)
        for number in (1, 2, 3):
            self.assertFalse(self.take("a", number=number).taken)
        self.assertTrue(self.take("a", number=4).taken)

    def test_a_repeated_request_to_come_up_changes_nothing(self) -> None:
        self.up("a")
        self.take("a", number=2)
        self.assertEqual(self.up("a"), Verdict(taken=False))
        self.assertTrue(self.take("a", number=3).taken)

    def test_strangers_and_earlier_incarnations_are_ignored(self) -> None:
        self.assertFalse(self.take("a").taken)
        self.up("a")
        self.up("a", incarnation=2, previous=1)
        self.assertFalse(self.take("a", incarnation=1, number=9).taken)
        self.assertTrue(self.take("a", incarnation=2).taken)

    def test_a_name_is_free_when_its_lease_is_over(self) -> None:
        self.up("a")
        refused = self.up("a", 2, time=LEASE - 1)
        self.assertIsInstance(refused.refusal, NameTaken)
        self.assertTrue(self.membership.is_member("a", 1))
        self.assertTrue(self.up("a", 2, time=LEASE).taken)

    def test_a_member_is_gone_only_after_its_lease(self) -> None:
        self.up("a")
        self.up("b")
        early = self.take("b", time=LEASE - 1, gone=("a",))
        self.assertEqual(early, Verdict(taken=True))
        late = self.take("b", number=3, time=LEASE, gone=("a", "a", "b", "x"))
        self.assertEqual(late.after, (Start(node_number("a"), None, 0),))
        self.assertFalse(self.take("a").taken)
        self.assertEqual(self.membership.overdue(2 * LEASE), ["b"])

    def test_the_time_of_the_log_does_not_go_back(self) -> None:
        self.up("a", time=1000)
        self.up("b", time=10)
        self.assertEqual(self.membership.nodes["b"].heard, 1000)

    def test_a_node_that_ends_is_no_member_and_its_sessions_end(self) -> None:
        self.up("a")
        verdict = self.take("a", down=True)
        self.assertEqual(verdict.after, (Start(node_number("a"), None, 0),))
        self.assertFalse(self.take("a", number=3).taken)
        self.assertTrue(self.up("a", incarnation=2).taken)

    def test_other_options_are_refused_while_other_members_live(self) -> None:
        self.up("a")
        other = Options(grace=7000, rooms=None, address_rooms=None, held=5)
        verdict = self.up("b", options=other)
        self.assertIsInstance(verdict.refusal, OtherOptions)
        self.assertEqual(
            str(verdict.refusal),
            "a decide by other options: --grace 600 --rooms 100 --address-rooms 5000 "
            "--max-clients 10000; this node has --grace 7 --limits off --max-clients 5",
        )
        self.assertTrue(self.up("b", options=other, time=LEASE).taken)  # a is silent

    def test_a_known_node_holds_the_log_until_it_is_forgotten(self) -> None:
        self.up("a")
        self.up("b")
        self.take("b", down=True)
        self.take("a", number=2)
        self.assertEqual(self.membership.lowest, 2)
        self.take("a", number=3, forget=("a", "b", "x"))
        self.assertEqual(list(self.membership.nodes), ["a"])
        self.assertEqual(self.membership.lowest, 4)

    def test_the_format_is_the_newest_that_all_members_know(self) -> None:
        # Whatever the program knows: all programs must agree on it.
        self.assertEqual(self.membership.format, 1)
        self.up("a", format=3)
        self.assertEqual(self.membership.format, 3)
        self.up("b", format=2)
        self.assertEqual(self.membership.format, 2)
        self.take("b", down=True)
        self.assertEqual(self.membership.format, 3)

    def test_the_changes_are_those_since_the_last_time(self) -> None:
        self.up("a")
        self.assertEqual([name for name, _ in self.membership.changes()], ["a"])
        self.assertEqual(self.membership.changes(), [])
        self.up("b", time=0)
        self.take("a", time=LEASE, gone=("b",))
        [(a, _), (b, node)] = self.membership.changes()
        self.assertEqual((a, b), ("a", "b"))
        assert node is not None
        self.assertEqual(node.row[-1], False)
        self.take("a", number=3, forget=("b",))
        self.assertIn(("b", None), self.membership.changes())

    def test_rows_make_the_same_node(self) -> None:
        self.up("a")
        node = self.membership.nodes["a"]
        self.assertEqual(Node(*node.row).row, node.row)

    def test_the_number_of_a_node_is_never_that_of_a_single_server(self) -> None:
        numbers = {node_number(str(number)) for number in range(1000)}
        self.assertEqual(len(numbers), 1000)
        self.assertTrue(all(0 < number < 1 << 63 for number in numbers))
