"""What the hubs of several nodes do together, over one order of commands."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import succeed

from chat_twisted.core import commands as c
from chat_twisted.core.entries import Entry, Outcome, Progress
from chat_twisted.core.errors import Unavailable
from chat_twisted.core.events import Announcement, UserLeft
from chat_twisted.core.hub import Hub
from chat_twisted.core.ledger import Acknowledged, Committed, Failed
from chat_twisted.core.limits import OFF, Limiter
from chat_twisted.core.presence import HERE, TELL_AFTER, Presence
from chat_twisted.core.sessions import DISCONNECTED, Dismissal, Request
from chat_twisted.core.state import State
from chat_twisted.storage import tables
from chat_twisted.storage.reads import ArchiveReads
from chat_twisted.testing import MemoryStore
from tests.store import settle
from tests.test_hub import HubTestCase, ListSession

Proposed = tuple[Entry, "Request | None"]


class Order:
    """The order of the commands of all nodes, whose facts are stored at once.

    :ivar loses: whether what nodes tell each other beside the order is lost.
    """

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.ledgers: list[OneOrder] = []
        self.loses = False
        self._stored = State()

    def add(self, command: c.Command, request: Request | None, origin: OneOrder) -> None:
        entry = Entry(int(self.store.clock.seconds() * 1000), command)
        outcome = self._stored.apply(entry)
        if outcome.facts:
            progress = Progress(self._stored.version, self._stored.time, self._stored.number)
            tables.write(self.store.connection.cursor(), outcome.facts, progress)
            self.store.connection.commit()
        for ledger in self.ledgers:
            ledger.waiting.append((entry, request if ledger is origin else None))


class OneOrder:
    """The ledger of one node.

    :ivar lags: whether the node does not follow the order for now.
    :ivar is_cut_off: whether it can't propose anything.
    :ivar waiting: the commands that it has not applied.
    """

    has_backlog = False
    _committed: Committed[Request | None]
    _acknowledged: Acknowledged

    def __init__(self, order: Order) -> None:
        self.state = State()
        self.lags = False
        self.is_cut_off = False
        self.waiting: list[Proposed] = []
        self._order = order
        self._cursors: dict[int, int] = {}
        order.ledgers.append(self)

    def start(
        self,
        committed: Committed[Request | None],
        failed: Failed[Request | None],
        acknowledged: Acknowledged,
    ) -> None:
        self._committed = committed
        self._acknowledged = acknowledged

    def propose(self, command: c.Command, request: Request | None) -> None:
        if self.is_cut_off:
            raise Unavailable("can't reach the log")
        self._order.add(command, request, self)

    def acknowledge(self, user: int, number: int, *, lasting: bool = True) -> None:
        if lasting:
            self._cursors[user] = number
        for ledger in self._order.ledgers:
            if ledger is not self and not self._order.loses:
                ledger._acknowledged([(user, number)])

    def propose_cursors(self) -> None:
        cursors, self._cursors = self._cursors, {}
        self.propose(c.Acknowledge(tuple(cursors.items())), None)

    def follow(self) -> bool:
        """Apply what waits; return whether there was anything."""
        if self.lags or not self.waiting:
            return False
        waiting, self.waiting = self.waiting, []
        batch: list[tuple[Outcome, Request | None]] = [
            (self.state.apply(entry), request) for entry, request in waiting
        ]
        self._committed(batch)
        return True


class NodesTestCase(HubTestCase):
    """Two nodes, ``A`` and ``B``; sessions come to the one that was chosen last by ``on``."""

    A, B = 0, 1

    def start(self) -> None:
        order = Order(self.store)
        self.order = order
        self.ledgers = [OneOrder(order), OneOrder(order)]
        self.hubs = [
            Hub(
                ledger,
                ArchiveReads(self.store, lambda: succeed(None)),
                self.clock,
                self.store.wall,
                self.store.wall,
                Limiter(OFF),
                c.Start(number, c.Options(), 0),
                0,
                max_clients=10,
            )
            for number, ledger in enumerate(self.ledgers, 1)
        ]
        self.on(self.A)
        self.commit()

    def on(self, node: int) -> None:
        self.hub = self.hubs[node]

    def commit(self) -> None:
        settle(self.clock)
        while any(ledger.follow() for ledger in self.ledgers):
            settle(self.clock)

    def join_on(self, node: int, name: str, token: str | None = None, **more: Any) -> ListSession:
        self.on(node)
        session: ListSession = self.join(name, token, **more)
        return session

    def original_on(self, node: int, name: str) -> ListSession:
        self.on(node)
        session: ListSession = self.original(name)
        return session

    def send_on(self, node: int, session: ListSession, to: str, text: str) -> None:
        self.hubs[node].send(session, to, text, label=text)
        self.commit()

    def confirm_on(self, node: int, session: ListSession, number: int) -> None:
        self.hubs[node].received(session, number)
        self.commit()

    def remembered(self, node: int) -> dict[int, int]:
        return self.hubs[node]._delivery._unstored


class AnnouncingTests(NodesTestCase):
    def test_an_announcement_reaches_the_sessions_of_all_nodes(self) -> None:
        alice, bob = self.join_on(self.A, "alice"), self.join_on(self.B, "bob")
        self.hubs[self.A].ask(c.Announce(c.CONSOLE, 0, "back soon"))
        self.commit()
        for session in alice, bob:
            self.assertEqual(session.heard.count(Announcement("back soon")), 1)


class ReceiptTests(NodesTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.join_on(self.A, "alice")
        self.bob = self.join_on(self.B, "bob")

    def test_the_sender_hears_that_a_recipient_on_another_node_has_it(self) -> None:
        self.send_on(self.A, self.alice, "bob", "hi")
        self.assertEqual(self.bob.texts(), ["hi"])
        self.assertEqual(self.alice.heard, [("sent", "hi", 1)])
        self.confirm_on(self.B, self.bob, 1)
        self.assertEqual(self.alice.heard[1:], [("delivered", "hi", 1)])

    def test_the_sender_hears_it_even_if_that_node_has_it_first(self) -> None:
        self.ledgers[self.A].lags = True
        self.send_on(self.A, self.alice, "bob", "hi")
        self.confirm_on(self.B, self.bob, 1)
        self.assertEqual(self.alice.heard, [])
        self.ledgers[self.A].lags = False
        self.commit()
        self.assertEqual(self.alice.heard, [("sent", "hi", 1), ("delivered", "hi", 1)])

    def test_what_was_lost_between_nodes_comes_with_the_stored_cursor(self) -> None:
        self.order.loses = True
        self.send_on(self.A, self.alice, "bob", "hi")
        self.confirm_on(self.B, self.bob, 1)
        self.assertEqual(self.alice.heard, [("sent", "hi", 1)])
        self.ledgers[self.B].propose_cursors()
        self.commit()
        self.assertEqual(self.alice.heard[1:], [("delivered", "hi", 1)])

    def test_a_receipt_is_sent_once(self) -> None:
        self.send_on(self.A, self.alice, "bob", "hi")
        self.confirm_on(self.B, self.bob, 1)
        self.ledgers[self.B].propose_cursors()
        self.commit()
        self.assertEqual(self.alice.heard.count(("delivered", "hi", 1)), 1)

    def test_a_duplicate_gets_the_receipt_of_a_recipient_on_another_node(self) -> None:
        self.hubs[self.A].send(self.alice, "bob", "hi", label="first", key="1")
        self.commit()
        self.confirm_on(self.B, self.bob, 1)
        self.hubs[self.A].send(self.alice, "bob", "hi", label="again", key="1")
        self.commit()
        self.assertEqual(self.alice.heard[-2:], [("sent", "again", 1), ("delivered", "again", 1)])

    def test_the_original_client_on_another_node_confirms_too(self) -> None:
        dave = self.original_on(self.B, "dave")
        self.send_on(self.A, self.alice, "dave", "hi")
        self.confirm_on(self.B, dave, 1)
        self.assertEqual(self.alice.heard[1:], [("delivered", "hi", 1)])

    def test_a_note_to_oneself_is_confirmed_by_a_session_on_another_node(self) -> None:
        other = self.join_on(self.B, "alice", self.alice.token)
        self.send_on(self.A, self.alice, "alice", "note")
        self.confirm_on(self.A, self.alice, 1)
        self.ledgers[self.A].propose_cursors()
        self.commit()
        self.assertEqual(self.alice.heard, [("sent", "note", 1)])
        self.confirm_on(self.B, other, 1)
        self.assertEqual(self.alice.heard[1:], [("delivered", "note", 1)])

    def test_nothing_is_remembered_that_the_stored_cursor_has(self) -> None:
        self.send_on(self.A, self.alice, "bob", "hi")
        self.confirm_on(self.B, self.bob, 1)
        self.assertEqual(self.remembered(self.A), {self.bob.user: 1})
        self.ledgers[self.B].propose_cursors()
        self.commit()
        self.assertEqual(self.remembered(self.A), {})
        self.hubs[self.A]._outcomes.acknowledged(
            [(self.bob.user, 1)]
        )  # an old one that was held up
        self.assertEqual(self.remembered(self.A), {})

    def test_nothing_is_remembered_of_users_who_have_ended(self) -> None:
        self.send_on(self.A, self.alice, "bob", "hi")
        self.confirm_on(self.B, self.bob, 1)
        number = self.bob.user
        self.order.loses = True
        self.hubs[self.B].logins.leave(self.bob, for_good=True)
        self.commit()
        self.assertEqual(self.remembered(self.A), {})
        self.hubs[self.A]._outcomes.acknowledged([(number, 1)])
        self.assertEqual(self.remembered(self.A), {})


class ComingTests(NodesTestCase):
    def test_a_user_starts_after_what_they_have_confirmed_on_a_node_that_was_lost(self) -> None:
        alice = self.join_on(self.A, "alice")
        bob = self.join_on(self.B, "bob")
        for text in ("one", "two"):
            self.send_on(self.A, alice, "bob", text)
        self.confirm_on(self.B, bob, 1)
        # The node ends without a word; the stored cursor was not moved.
        self.ledgers[self.A].propose(c.Start(2, c.Options(), 0), None)
        self.commit()
        here = self.join_on(self.A, "bob", bob.token)
        self.assertEqual(here.texts(), ["two"])

    def test_a_user_starts_after_it_if_it_could_not_be_stored(self) -> None:
        alice = self.join_on(self.A, "alice")
        bob = self.join_on(self.B, "bob")
        for text in ("one", "two"):
            self.send_on(self.A, alice, "bob", text)
        self.confirm_on(self.B, bob, 1)
        self.order.loses = self.ledgers[self.B].is_cut_off = True
        self.leave(bob)
        self.ledgers[self.B].is_cut_off = False
        here = self.join_on(self.B, "bob", bob.token)
        self.assertEqual(here.texts(), ["two"])

    def test_a_user_who_leaves_starts_after_it_on_the_other_node(self) -> None:
        alice = self.join_on(self.A, "alice")
        bob = self.join_on(self.B, "bob")
        self.order.loses = True
        for text in ("one", "two"):
            self.send_on(self.A, alice, "bob", text)
        self.confirm_on(self.B, bob, 1)
        self.leave(bob)
        here = self.join_on(self.A, "bob", bob.token)
        self.assertEqual(here.texts(), ["two"])


class LeavingTests(NodesTestCase):
    """Users are gone only when their last session on any node has ended."""

    def setUp(self) -> None:
        super().setUp()
        self.bob = self.join_on(self.A, "bob")
        self.other = self.join_on(self.B, "bob", self.bob.token)

    def test_the_sender_is_not_told_while_a_session_on_another_node_may_get_it(self) -> None:
        dave = self.original_on(self.A, "dave")
        self.send_on(self.A, dave, "bob", "hi")
        self.on(self.A)
        self.leave(self.bob)
        self.assertEqual(dave.heard, [("sent", "hi", 1)])
        self.confirm_on(self.B, self.other, 1)
        self.assertEqual(dave.heard[1:], [("delivered", "hi", 1)])

    def test_the_sender_is_told_when_the_last_session_has_ended_on_another_node(self) -> None:
        dave = self.original_on(self.A, "dave")
        self.send_on(self.A, dave, "bob", "hi")
        self.on(self.A)
        self.leave(self.bob)
        self.on(self.B)
        self.leave(self.other)
        self.assertEqual(dave.heard[1:], [("undelivered", "hi")])

    def test_nobody_hears_that_they_left_before(self) -> None:
        self.on(self.A)
        carol = self.join_on(self.A, "carol")
        eve = self.follow("eve")
        self.hub.watch(carol, watches=True)
        self.leave(self.bob)
        self.clock.advance(TELL_AFTER)
        self.assertEqual((eve.heard, carol.heard), ([], []))
        self.assertEqual(self.hub.departures.find("bob"), [])
        self.on(self.B)
        self.leave(self.other)
        self.clock.advance(TELL_AFTER)
        [left] = eve.heard
        self.assertIsInstance(left, UserLeft)
        self.assertEqual([what for what, *_ in carol.heard], ["saw"])
        for hub in self.hubs:
            self.assertEqual([gone.name for gone in hub.departures.find("bob")], ["bob"])

    def test_a_user_who_comes_to_another_node_was_here_before(self) -> None:
        carol = self.join_on(self.A, "carol")
        self.hub.watch(carol, watches=True)
        erin = self.join_on(self.B, "erin")
        self.join_on(self.A, "erin", erin.token)
        self.clock.advance(TELL_AFTER)
        [(_, *seen)] = carol.heard
        self.assertEqual(
            [(p.name, p.state) for p in seen if isinstance(p, Presence)], [("erin", HERE)]
        )

    def test_an_operator_ends_sessions_on_all_nodes(self) -> None:
        self.hubs[self.A].ask(c.Disconnect(c.CONSOLE, 0, "bob", "enough"))
        self.commit()
        for session in (self.bob, self.other):
            self.assertEqual(session.heard, [Dismissal(DISCONNECTED, "", "enough")])
            self.assertTrue(session.ended)

    def test_sessions_of_a_node_that_was_taken_for_lost_are_dropped(self) -> None:
        """Nobody has ended them, so their clients shall connect again."""
        self.ledgers[self.B].propose(c.Start(1, c.Options(), 0), None)
        self.commit()
        self.assertEqual((self.bob.heard, self.bob.ended), ([("dropped",)], True))
        self.assertEqual((self.other.heard, self.other.ended), ([], False))
        self.assertEqual(self.hubs[self.A].logins.count, 0)


STEPS = ("say", "say", "confirm", "move", "lag", "follow", "store", "lose")


class RandomTests(NodesTestCase):
    """A user who moves between nodes that follow the order as fast as they like."""

    def test_a_user_who_moves_gets_each_message_once_and_each_sender_each_receipt(self) -> None:
        for seed in range(60):
            with self.subTest(seed=seed):
                self.setUp()
                self.run_randomly(random.Random(seed))

    def run_randomly(self, chance: random.Random) -> None:
        senders = [self.join_on(node, f"sender{node}") for node in (self.A, self.B)]
        bob, where = self.join_on(self.A, "bob"), self.A
        sent = confirmed = 0
        for _ in range(60):
            node = chance.choice((self.A, self.B))
            ledger = self.ledgers[node]
            match chance.choice(
                ["say", "say", "confirm", "move", "lag", "follow", "store", "lose"]
            ):
                case "say":
                    sent += 1
                    self.hubs[node].send(senders[node], "bob", str(sent), label=str(sent))
                case "confirm" if bob.got:
                    confirmed = chance.randint(confirmed, bob.got[-1].number)
                    self.hubs[where].received(bob, confirmed)
                case "move":
                    self.check(bob)
                    self.hubs[where].logins.leave(bob, for_good=False)
                    ledger.lags = False
                    self.commit()
                    begin, bob, where = confirmed, self.join_on(node, "bob", bob.token), node
                    self.assertTrue(not bob.got or bob.got[0].number == begin + 1, bob.texts())
                case "lag":
                    ledger.lags = True
                case "follow":
                    ledger.lags = False
                case "store":
                    ledger.propose_cursors()
                case "lose":
                    self.order.loses = not self.order.loses
            self.commit()
        for ledger in self.ledgers:
            ledger.lags = False
            ledger.propose_cursors()
        self.commit()
        self.check(bob)
        if bob.got:
            self.assertEqual(bob.got[-1].number, sent)
        self.hubs[where].received(bob, sent)
        self.ledgers[where].propose_cursors()
        self.commit()
        delivered = [heard[1] for s in senders for heard in s.heard if heard[0] == "delivered"]
        self.assertEqual(sorted(map(int, delivered)), list(range(1, sent + 1)))
        self.assertEqual([self.remembered(node) for node in (self.A, self.B)], [{}, {}])

    def check(self, bob: ListSession) -> None:
        """See that a session has got consecutive messages."""
        numbers = [message.number for message in bob.got]
        self.assertEqual(numbers, list(range(numbers[0], numbers[-1] + 1)) if numbers else [])
        self.assertEqual(bob.texts(), [str(number) for number in numbers])
