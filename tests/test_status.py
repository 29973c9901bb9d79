"""What a running server tells the operator's command of itself."""

from __future__ import annotations

import json

from chat_twisted.status import RunningServer
from tests.door import server_tls
from tests.monitoring import MonitoredTestCase


class RunningServerTests(MonitoredTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.storage.retain = None
        self.running = RunningServer(
            *(self.hub, self.gate, [self.factory, self.irc], self.front, server_tls(), None),
            *(self.storage, self.clock),
        )

    def test_it_describes_itself_as_values_for_json(self) -> None:
        self.running.rates.start()
        alice = self.user("alice")
        self.join("bob")
        alice.ask("SEND ALL\nContent-length: 2\n\nhi")
        self.clock.advance(4)
        found = json.loads(json.dumps(self.running.describe()))
        self.assertEqual(found["connections"], {"plain version 2": 1, "plain IRC": 1})
        rates = found["rates"]
        self.assertEqual((rates["messages"], rates["logins"]), (0.25, 0.5))
        self.assertGreater(rates["commits"], 0)
        self.assertEqual(found["queues"]["readings"], 3)
        self.assertEqual((found["uptime"], found["not_accepting"]), (4, ""))
        self.assertEqual(found["certificate"]["until"] // 1000, server_tls().valid_until)
        self.assertGreater(found["descriptors"], 0)
        self.assertNotIn("cluster", found)

    def test_a_node_has_its_position_and_how_far_it_is_behind(self) -> None:
        self.be_a_node()
        self.assertEqual(
            self.running.describe()["cluster"],
            {"node": "a", "in_touch": True, "position": 7, "behind": 0},
        )

    def test_the_message_of_the_day_reaches_the_next_logins_through_every_door(self) -> None:
        self.running.set_motd("Closed from 18:00.")
        self.assertEqual(self.running.motd, "Closed from 18:00.")
        self.assertIn(b"Closed from 18:00.", self.register("alice")[1])
        client = self.client()
        welcome = client.say("NICK bob", "USER bob 0 * :bob")
        self.assertTrue(any(line.endswith("Closed from 18:00.") for line in welcome), welcome)
        self.running.set_motd("")
        self.assertNotIn(b"NOTICE", self.register("carol")[1])

    def test_old_messages_are_deleted_by_the_storage(self) -> None:
        deleted = self.running.delete_older(3600)
        self.commit()
        self.assertEqual(self.successResultOf(deleted), 0)
