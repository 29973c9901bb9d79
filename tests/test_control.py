"""What the operator's command may ask of the chat."""

from __future__ import annotations

import json

from chat_twisted import control as control_module
from tests.test_control_socket import ControlTestCase
from tests.test_gate import KEY

HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$c29tZWhhc2g"


class AskingTests(ControlTestCase):
    def test_what_an_operator_does_takes_effect_and_is_in_the_log_as_the_admins(self) -> None:
        bob = self.user("bob")
        for ask, fields in (
            ("add account", {"name": "ci", "key": KEY, "hash": HASH}),
            ("set password", {"name": "ci", "hash": ""}),
            ("set password", {"name": "ci", "hash": HASH}),
            ("remove key", {"name": "ci", "key": KEY}),
            ("add key", {"name": "ci", "key": KEY}),
            ("make operator", {"name": "ci"}),
            ("make no operator", {"name": "ci"}),
            ("remove account", {"name": "ci"}),
            ("mute", {"subject": "bob", "duration": "2h", "reason": "spam"}),
            ("ban", {"subject": "bob", "duration": "", "reason": "spam"}),
            ("pardon", {"subject": "bob"}),
        ):
            self.assertEqual(self.ask(ask, **fields), {}, ask)
        self.assertIn(b"Banned by admin: spam", bob.transport.take())
        audit = [line.removeprefix("audit: ") for line in self.logged if line.startswith("audit:")]
        self.assertEqual(
            [line.split(" until ")[0] for line in audit],
            [
                *("admin add account ci", "admin set password ci", "admin set password ci"),
                *("admin remove key ci", "admin add key ci"),
                *("admin make operator ci", "admin make no operator ci", "admin remove account ci"),
                *("admin mute bob", "admin ban bob"),
                *("admin unban bob", "admin unmute bob"),
            ],
        )
        self.assertRegex(audit[-4], r"until \d+: 'spam'")
        self.assertRegex(audit[-3], "until ever: 'spam'")
        self.assertNotIn("ci", self.hub.state.names)

    def test_who_is_kicked_is_told_why(self) -> None:
        bob = self.user("bob")
        self.assertEqual(self.ask("kick", name="BOB", reason="loud"), {"name": "bob"})
        self.assertIn(b"Kicked by admin: loud", bob.transport.take())
        self.assertIn("is not here", self.ask("kick", name="bob", reason=""))

    def test_lists_come_by_page_and_in_order(self) -> None:
        self.patch(control_module, "PAGE", 2)
        for name in ("carol", "Bob", "alice"):
            self.ask("add account", name=name, key="", hash=HASH)
            self.ask("ban", subject=name, duration="", reason="")
        names, after, more = [], "", True
        while more:
            page = self.ask("list accounts", after=after)
            names += [item["name"] for item in page["items"]]
            after, more = page["items"][-1]["key"], page["more"]
        self.assertEqual(names, ["alice", "Bob", "carol"])
        page = self.ask("list sanctions", after="")
        self.assertEqual([item["subject"] for item in page["items"]], ["alice", "bob"])
        page = self.ask("list sanctions", after=page["items"][-1]["key"])
        self.assertEqual(([i["subject"] for i in page["items"]], page["more"]), (["carol"], False))

    def test_the_status_counts_who_is_here(self) -> None:
        self.user("alice")
        self.user("bob").gone()
        self.ask("add account", name="ci", key=KEY, hash="")
        found = self.ask("status")
        self.assertEqual(
            {name: found[name] for name in ("users", "sessions", "held", "accounts", "uptime")},
            {"users": 1, "sessions": 1, "held": 1, "accounts": 1, "uptime": 5},
        )

    def test_it_lists_who_is_here_and_up_to_where_they_have_confirmed(self) -> None:
        alice, bob = self.user("alice"), self.user("Bob")
        self.user("carol").gone()
        bob.protocol.dataReceived(b"SEND ALL\nContent-length: 2\n\nhi")
        self.commit()
        number = self.hub.newest
        alice.protocol.dataReceived(f"RECEIVED bob\nMessage: {number}\n\n".encode())
        page = self.ask("list users", after="")
        found = {item["name"]: item for item in page["items"]}
        self.assertEqual((list(found), page["more"]), (["alice", "Bob"], False))
        self.assertEqual(found["alice"]["confirmed"], number)
        self.assertLess(found["Bob"]["confirmed"], number)
        found["alice"].pop("user")
        self.assertEqual(
            found["alice"],
            {
                **{"key": "alice", "name": "alice", "account": False, "operator": False},
                **{"sessions": 1, "from": ["127.0.0.1"], "away": None, "confirmed": number},
                **{"by": ["plain version 2"], "since": 0, "spoke": None, "rooms": []},
            },
        )
        page = self.ask("list users", after="alice")
        self.assertEqual([item["name"] for item in page["items"]], ["Bob"])

    def test_a_user_has_the_ways_times_and_rooms_of_the_sessions(self) -> None:
        self.clock.advance(5)
        alice = self.user("alice")
        alice.ask("JOIN #tea\n\n")
        self.clock.advance(10)
        alice.ask("SEND #tea\nContent-length: 2\n\nhi")
        self.original("bob")
        alice, bob = self.ask("list users", after="")["items"]
        self.assertEqual((alice["rooms"], alice["spoke"] - alice["since"]), (["#tea"], 10_000))
        self.assertEqual((bob["by"], bob["spoke"]), (["plain version 1"], None))

    def test_everybody_is_told_what_the_operator_says(self) -> None:
        bob = self.user("bob")
        self.assertEqual(self.ask("say", text="back soon"), {})
        self.assertIn(b"back soon", bob.transport.take())
        self.assertIn("has no control characters", self.ask("say", text="\x1b[31mred"))
        self.assertIn("one line of 1 to 400 bytes", self.ask("say", text=""))

    def test_a_ban_is_lifted_without_the_mute(self) -> None:
        for kind in "ban", "mute":
            self.ask(kind, subject="bob", duration="", reason="")
        self.assertEqual(self.ask("lift", kind="ban", subject="BOB"), {})
        [left] = self.ask("list sanctions", after="")["items"]
        self.assertEqual(left["kind"], "mute")
        self.assertIn("no such ban", self.ask("lift", kind="ban", subject="bob"))

    def test_the_message_of_the_day_is_shown_and_set(self) -> None:
        self.assertEqual(self.ask("motd"), {"text": ""})
        self.assertEqual(self.ask("set motd", text="Hello.\n"), {})
        self.assertEqual(self.ask("motd"), {"text": "Hello.\n"})
        self.assertEqual(self.ask("set motd", text=""), {})
        self.assertIn("at most 10000 characters", self.ask("set motd", text="x" * 10_001))
        audit = [line for line in self.logged if line.startswith("audit:")]
        self.assertEqual(
            [line.split(" until")[0] for line in audit],
            ["audit: admin set motd server", "audit: admin remove motd server"],
        )

    def test_old_messages_are_deleted_in_parts_and_logged_once(self) -> None:
        deleted = 0
        while found := self.ask("delete old", seconds=86_400, deleted=deleted)["deleted"]:
            deleted += found
        self.assertEqual((deleted, self.server_side.ages), (5, [86_400] * 3))
        audit = [line for line in self.logged if line.startswith("audit:")]
        self.assertEqual(len(audit), 1)
        self.assertIn("admin delete messages older than 86400 seconds", audit[0])

    def test_what_retain_keeps_is_not_deleted_unless_an_age_is_given(self) -> None:
        self.assertIn("keeps all messages", self.ask("delete old", seconds=None, deleted=0))
        self.assertIn("900 seconds at least", self.ask("delete old", seconds=899, deleted=0))
        for far in (10**12, 10**400):
            self.assertIn("at most", self.ask("delete old", seconds=far, deleted=0))
        self.server_side.retain = 7 * 86_400.0
        answer = self.ask("delete old", seconds=None, deleted=0)
        self.assertEqual(answer, {"deleted": 3, "seconds": 7 * 86_400})

    def test_what_is_no_request_is_refused(self) -> None:
        fine = {"ask": "add account", "name": "ci", "key": "", "hash": HASH}
        for request in (
            b"",
            b"nonsense",
            b"[" * 16_000,
            b"\xff\xfe",
            b"[]",
            b"null",
            b'{"ask": "kick"}',
            b'{"ask": ["kick"], "name": "bob", "reason": ""}',
            b'{"ask": "kick", "name": "bob", "reason": null}',
            b'{"ask": "kick", "name": "\\ud800", "reason": ""}',
            b'{"ask": "ban", "subject": "bob", "duration": "", "reason": "\\ud800"}',
            b'{"ask": "set password", "name": "\\udcff", "hash": ""}',
            *(
                json.dumps({**fine, **wrong}).encode()
                for wrong in (
                    {"hash": "right"},
                    {"hash": HASH + "\n" * 1000},
                    {"hash": "\udcff"},
                    {"key": "\udcff"},
                    {"key": "ssh-ed25519 AAAA"},
                    {"name": "\udcff"},
                    {"name": 5},
                )
            ),
        ):
            protocol, transport = self.command()
            protocol.dataReceived(request + b"\n")
            self.commit()
            [answer] = transport.take()
            self.assertEqual(list(answer), ["refused"], request)
            self.assertNotIn("fault", answer["refused"], request)
        self.assertEqual(len(self.hub.state.accounts), 0)
