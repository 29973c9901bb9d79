"""What the operator's monitoring is told of a server's parts."""

from __future__ import annotations

import sqlite3

from twisted.internet.defer import Deferred

from chat_twisted import collecting as m
from chat_twisted.collecting import METRICS, Kind
from chat_twisted.metrics import Histogram
from tests.door import Client, server_tls
from tests.monitoring import MonitoredTestCase


class CollectingTests(MonitoredTestCase):
    max_clients = 4

    def registered(self, name: str) -> Client:
        client = self.connect()
        self.assertIn(b"REGISTERED", client.ask(f"REGISTER {name}\nVersion: 2\n\n"))
        return client

    def test_every_metric_has_values_of_its_kind_and_labels(self) -> None:
        self.be_a_node()
        self.registered("alice").ask("SEND nobody\nId: 1\nContent-length: 1\n\nx")
        found = self.collector.collect()
        self.assertEqual(set(found), set(METRICS))
        for metric, values in found.items():
            self.assertTrue(values, metric.name)
            self.assertEqual(metric.name.endswith("_total"), metric.kind is Kind.COUNTER)
            for labels, value in values:
                self.assertEqual(len(labels), len(metric.labels), metric.name)
                self.assertEqual(isinstance(value, Histogram), metric.kind is Kind.HISTOGRAM)

    def test_a_single_server_says_nothing_of_a_cluster(self) -> None:
        missing = set(METRICS) - set(self.collector.collect())
        self.assertTrue(missing)
        self.assertTrue(all(metric.name.startswith("chat_cluster_") for metric in missing))

    def test_a_node_tells_of_itself_and_of_the_others(self) -> None:
        self.be_a_node()
        self.assertEqual((self.value(m.IN_TOUCH), self.value(m.POSITION)), (1, 7))
        self.assertEqual(self.value(m.NODE_MEMBER, "b"), 0)
        self.assertEqual(self.value(m.NODE_POSITION, "b"), 5)
        self.assertEqual(self.value(m.NODE_SILENT, "b"), 60.5)

    def test_connections_by_door_kind_and_encryption(self) -> None:
        self.connect()
        self.registered("alice")
        self.registered("bob").gone()
        Client(self.factory, encrypted=True)
        self.join("carol")
        self.assertEqual(self.value(m.CONNECTIONS, "framed", "unregistered", "plain"), 1)
        self.assertEqual(self.value(m.CONNECTIONS, "framed", "version 2", "plain"), 1)
        self.assertEqual(self.value(m.CONNECTIONS, "framed", "unregistered", "TLS"), 1)
        self.assertEqual(self.value(m.CONNECTIONS, "irc", "IRC", "plain"), 1)
        self.assertEqual(self.value(m.OPENED, "framed"), 4)

    def test_connections_that_the_front_turns_away(self) -> None:
        self.front.pause("the log does not answer")
        self.assertIsNone(self.front.buildProtocol(None))
        self.assertEqual(self.value(m.TURNED_AWAY, "paused"), 1)
        self.assertEqual(self.value(m.ACCEPTING), 0)
        self.front.resume()
        self.assertEqual(self.value(m.ACCEPTING), 1)

    def test_sessions_users_and_held_guests(self) -> None:
        self.registered("alice")
        bob = self.registered("bob")
        self.assertEqual((self.value(m.USERS), self.value(m.HELD)), (2, 0))
        self.assertEqual(self.value(m.SESSIONS, "live"), 2)
        bob.gone()
        self.commit()
        self.assertEqual((self.value(m.USERS), self.value(m.HELD)), (1, 1))
        self.assertEqual(self.value(m.SESSIONS, "live"), 1)
        self.assertEqual(self.value(m.SESSIONS, "arriving"), 0)

    def test_logins_by_outcome(self) -> None:
        self.registered("alice")
        self.join("bob")
        self.connect().ask("REGISTER alice\nVersion: 2\n\n")
        self.registered("carol")
        self.registered("dave")
        self.connect().ask("REGISTER eve\nVersion: 2\n\n")  # the server is full
        outcomes = dict(self.values(m.LOGINS))
        self.assertEqual(outcomes[("guest",)], 4)
        self.assertEqual(outcomes[("NameInUse",)], 1)
        self.assertEqual(outcomes[("Unavailable",)], 1)
        self.assertEqual(outcomes[("AuthenticationFailed",)], 0)

    def test_logins_of_accounts_and_wrong_passwords(self) -> None:
        self.add_account("alice", password="right")
        for password in ("right", "wrong"):
            client = Client(self.factory, encrypted=True)
            client.ask("REGISTER alice\nVersion: 2\n\n")
            client.ask(f"AUTH password\nContent-length: 5\n\n{password}")
            self.clock.advance(5)
        outcomes = dict(self.values(m.LOGINS))
        self.assertEqual((outcomes[("account",)], outcomes[("AuthenticationFailed",)]), (1, 1))
        self.assertEqual(self.value(m.ACCOUNTS), 1)

    def test_messages_by_target_and_deliveries(self) -> None:
        alice, bob = self.registered("alice"), self.registered("bob")
        self.join("carol", "#room")
        for client in (alice, bob):
            client.ask("JOIN #room\n\n")
        self.assertEqual(self.value(m.ROOMS), 1)
        targets = enumerate(("ALL", "#room", "#room", "bob"))
        send = "SEND {}\nId: {}\nContent-length: 1\n\nx"
        alice.ask("".join(send.format(target, number) for number, target in targets))
        self.assertEqual(self.value(m.MESSAGES, "all"), 1)
        self.assertEqual(self.value(m.MESSAGES, "room"), 2)
        self.assertEqual(self.value(m.MESSAGES, "user"), 1)
        self.assertEqual(self.value(m.DELIVERIES), 2 + 2 * 2 + 1)  # not to the author

    def test_missed_messages_count_as_deliveries_when_they_are_brought(self) -> None:
        alice, bob = self.registered("alice"), self.registered("bob")
        token = self.hub.state.names["bob"].name and self.token_of(bob)
        bob.gone()
        alice.ask("SEND bob\nId: 1\nContent-length: 1\n\nx")
        self.assertEqual(self.value(m.DELIVERIES), 0)
        again = self.connect()
        again.ask(f"REGISTER bob\nVersion: 2\nSession: {token}\n\n")
        self.assertEqual(self.value(m.DELIVERIES), 1)

    def token_of(self, client: Client) -> str:
        session = client.protocol.session
        assert session is not None
        return session.token

    def test_refusals_by_door_and_error(self) -> None:
        alice = self.registered("alice")
        alice.ask("SEND nobody\nId: 1\nContent-length: 1\n\nx")
        alice.ask("JOIN #\n\n")
        carol = self.join("carol")
        carol.say("PRIVMSG nobody :x")
        carol.say("NOTICE nobody :x")  # not answered, but refused
        refused = dict(self.values(m.REFUSALS))
        self.assertEqual(refused["framed", "UnableToSend"], 1)
        self.assertEqual(refused["irc", "UnableToSend"], 2)
        self.assertEqual(sum(n for (door, _), n in refused.items() if door == "framed"), 2)

    def test_no_name_or_text_of_a_user_is_in_a_label(self) -> None:
        alice, bob = self.registered("secret-a"), self.join("secret-b", "#secret-room")
        alice.ask("SEND secret-b\nId: 1\nContent-length: 6\n\nsecret")
        alice.ask("SEND secret-nobody\nId: 1\nContent-length: 6\n\nsecret")
        bob.say("PRIVMSG #secret-other :secret", "JOIN secret", "secret")
        said = {
            label
            for values in self.collector.collect().values()
            for ls, _ in values
            for label in ls
        }
        self.assertEqual([label for label in said if "secret" in label.lower()], [])

    def test_output_that_waits_and_clients_that_are_cut_off(self) -> None:
        alice, bob = self.registered("alice"), self.registered("bob")
        bob.transport.room = 0
        text = "x" * 60_000
        number = 0
        while not bob.aborted:
            self.assertEqual(self.value(m.CUT, "framed"), 0)
            waiting = self.value(m.UNSENT, "framed")
            number += 1
            alice.ask(f"SEND bob\nId: {number}\nContent-length: {len(text)}\n\n{text}")
            self.assertLess(number, 1000)
        self.assertGreater(waiting, 500_000)
        self.assertEqual((self.value(m.CUT, "framed"), self.value(m.UNSENT, "framed")), (1, 0))

    def test_commits_with_their_size_and_those_that_fail(self) -> None:
        alice = self.registered("alice")
        before = self.histogram(m.COMMIT_COMMANDS)
        count, commands = before.total, before.sum
        seconds = self.histogram(m.COMMIT_SECONDS).sum
        self.store.seconds = 0.5
        for number in range(3):
            alice.say(f"SEND ALL\nId: {number}\nContent-length: 1\n\nx")
        self.clock.advance(0)
        self.assertEqual(self.value(m.QUEUES, "commands"), 0)
        alice.say("SEND ALL\nId: 4\nContent-length: 1\n\nx")
        self.assertEqual(self.value(m.QUEUES, "commands"), 1)
        self.clock.pump([0.5, 0.5, 0])
        self.store.seconds = 0
        self.commit()
        after = self.histogram(m.COMMIT_COMMANDS)
        self.assertEqual((after.total, after.sum), (count + 2, commands + 4))
        self.assertAlmostEqual(self.histogram(m.COMMIT_SECONDS).sum, seconds + 1)
        self.store.broken = sqlite3.OperationalError("disk full")
        alice.ask("SEND ALL\nId: 9\nContent-length: 1\n\nx")
        self.assertEqual(self.value(m.COMMIT_FAILURES), 1)
        self.assertEqual(self.histogram(m.COMMIT_SECONDS).total, count + 2)

    def test_messages_that_are_not_indexed_yet(self) -> None:
        self.registered("alice").ask("SEND ALL\nId: 1\nContent-length: 1\n\nx")
        self.assertEqual(self.value(m.INDEX_LAG), 1)
        self.clock.advance(1.5)
        self.commit()
        self.assertEqual(self.value(m.INDEX_LAG), 0)

    def test_files_and_the_disk(self) -> None:
        (self.folder / "chat.sqlite").write_bytes(b"x" * 10)
        (self.folder / "chat.sqlite-wal").write_bytes(b"x" * 20)
        (self.folder / "index.sqlite").write_bytes(b"x" * 30)
        sizes = {labels[0]: value for labels, value in self.values(m.FILES)}
        expected = {"archive": 10, "archive_log": 20, "index": 30, "index_log": 0}
        self.assertEqual(sizes, expected)
        self.assertGreater(self.value(m.DISK_FREE), 0)

    def test_a_server_checks_that_it_can_write(self) -> None:
        def check() -> Deferred[None]:
            checked = Deferred.fromCoroutine(self.storage.check_writing())
            self.commit()
            return checked

        self.assertIsNone(self.successResultOf(check()))
        self.store.broken = sqlite3.OperationalError("disk full")
        self.assertEqual(str(self.failureResultOf(check()).value), "disk full")

    def test_readings(self) -> None:
        reading = self.storage.reading
        reading.searches.seconds.add(0.2)
        reading.searches.deadlines = 2
        reading.short.refused = 4
        self.assertEqual(self.value(m.READ_DEADLINES, "search"), 2)
        self.assertEqual(self.value(m.READ_REFUSALS, "short"), 4)
        self.assertEqual(self.value(m.QUEUES, "readings"), 3)
        totals = {labels: value.total for labels, value in self.values(m.READ_SECONDS)}
        self.assertEqual(totals, {("short",): 0, ("search",): 1})

    def test_the_end_of_the_certificate(self) -> None:
        self.assertEqual(self.value(m.CERTIFICATE_END), server_tls().valid_until)
        self.assertGreater(server_tls().valid_until, 1.7e9)
