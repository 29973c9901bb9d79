"""Who is kept out and who may not talk, asked of the state; and how that is written."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from chat_twisted.core import commands as c
from chat_twisted.core import errors, facts, sanctions
from chat_twisted.core.commands import BAN, CONSOLE, MUTE
from chat_twisted.core.sanctions import is_within, network_of, parse_duration, parse_subject
from tests.test_state import KEY, MINUTE, Chat, StateTests


class ParsingTests(TestCase):
    def test_a_subject_is_a_name_an_address_or_a_network(self) -> None:
        for text, subject in (
            ("Bob", "bob"),
            ("b-o_b", "b-o_b"),
            ("123", "123"),
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("192.0.2.77/24", "192.0.2.0/24"),
            ("2001:DB8::1", "2001:db8::1"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1/120", "192.0.2.0/24"),
        ):
            self.assertEqual(parse_subject(text), subject)
        for text in ("", "b@d", "all", "1.2.3", "10.0.0.0/33", "a.b", "#dev", "x" * 33, "/"):
            with self.assertRaises(errors.NotPermitted):
                parse_subject(text)

    def test_a_duration_has_a_unit_or_is_in_seconds(self) -> None:
        for text, seconds in (("90", 90), ("1s", 1), ("10m", 600), ("2h", 7200), ("1d", 86400)):
            self.assertEqual(parse_duration(text, 1000.5), (1000.5 + seconds) * 1000)
        self.assertEqual(parse_duration("", 1000.5), 0)  # for ever
        for text in ("0", "-1", "1w", "m", "1.5h", "9" * 10, "4000d", "\u0663"):
            with self.assertRaises(errors.NotPermitted):
                parse_duration(text, 1000.5)

    def test_addresses_are_within_networks(self) -> None:
        for subject, host, means in (
            ("10.0.0.0/8", "10.1.1.1", True),
            ("10.1.1.1", "::ffff:10.1.1.1", True),
            ("10.0.0.0/8", "2001:db8::1", False),
            ("fe80::/10", "fe80::1%eth0", True),
            ("10.0.0.0/8", "", False),
            ("10.0.0.0/8", "nonsense", False),
        ):
            banned = network_of(subject)
            assert banned is not None
            self.assertEqual(is_within(host, banned), means)
        self.assertIsNone(network_of("bob"))


class SanctionTests(StateTests):
    def setUp(self) -> None:
        self.chat = Chat()

    def impose(self, kind: str, subject: str, minutes: int = 0, reason: str = "why") -> Any:
        until = self.chat.now + minutes * MINUTE if minutes else 0
        return self.chat.ask(c.Impose(CONSOLE, 0, kind, subject, until, reason))

    def is_banned(self, name: str = "x", host: str = "203.0.113.9") -> bool:
        try:
            at = self.chat.login(name, host=host)
        except errors.Banned:
            return True
        self.chat.do(c.Detach(*at, True))
        return False

    def listed(self, after: str = "") -> list[str]:
        return [sanction.key for sanction in self.chat.state.sanctions_in_order.after(after)]

    def test_a_name_an_address_and_a_network_are_kept_out(self) -> None:
        for subject in ("bob", "192.0.2.1", "198.51.100.0/24", "198.51.0.0/20", "2001:db8::/32"):
            self.impose(BAN, subject)
        for name, host in (
            ("bOB", ""),
            ("x", "192.0.2.1"),
            ("x", "::ffff:192.0.2.1"),
            ("x", "198.51.100.200"),
            ("x", "198.51.1.1"),
            ("x", "2001:db8:ffff::1"),
        ):
            self.assertTrue(self.is_banned(name, host), (name, host))
        for name, host in (
            ("bobby", ""),
            ("x", ""),
            ("x", "192.0.2.2"),
            ("x", "198.51.101.1"),
            ("x", "2001:db9::1"),
            ("x", "nonsense"),
        ):
            self.assertFalse(self.is_banned(name, host), (name, host))

    def test_neither_a_token_nor_a_proof_lets_in_who_is_banned(self) -> None:
        chat = self.chat
        ann, bob = chat.login("ann"), chat.login("bob")
        chat.register(ann)
        self.impose(BAN, "ann")
        self.impose(BAN, "bob")
        for name, token, proof in (
            ("ann", chat.tokens[ann], ""),
            ("ann", b"", KEY),
            ("bob", chat.tokens[bob], ""),
        ):
            with self.assertRaises(errors.Banned):
                chat.login(name, token, proof)

    def test_ban_of_an_address_ends_its_sessions_and_stops_renaming(self) -> None:
        chat = self.chat
        ann = chat.login("ann", host="192.0.2.1")
        other = chat.login("other", host="192.0.2.2")
        chat.join(ann, "#dev")
        changed = self.impose(BAN, "192.0.2.1").facts
        gone = [fact.user for fact in changed if isinstance(fact, facts.SessionGone)]
        self.assertEqual(gone, [ann[0]])
        self.assertEqual((list(chat.state.users), chat.state.rooms), ([other[0]], {}))
        self.refuses(errors.Banned, self.ask_for_name(other, "other2", "192.0.2.1"))

    def ask_for_name(self, at: tuple[int, int], name: str, host: str) -> Any:
        """What becomes of it if a session at a banned address is given another name."""
        self.chat.state.users[at[0]].sessions[at[1]].host = host
        return self.chat.ask(c.Rename(*at, name))

    def test_it_ends_at_its_time_or_when_it_is_lifted(self) -> None:
        self.impose(BAN, "bob", 10)
        self.impose(BAN, "10.0.0.0/8")
        self.chat.after(10 * MINUTE - 1)
        self.assertTrue(self.is_banned("bob"))
        self.chat.after(1)
        self.assertFalse(self.is_banned("bob"))  # also before it is swept
        self.assertTrue(self.is_banned(host="10.0.0.1"))
        self.chat.do(c.Lift(CONSOLE, 0, BAN, "10.0.0.0/8"))
        self.assertFalse(self.is_banned(host="10.0.0.1"))
        self.refuses(errors.NoSuchSanction, self.chat.ask(c.Lift(CONSOLE, 0, BAN, "10.0.0.0/8")))

    def test_another_ban_of_the_same_takes_its_place(self) -> None:
        self.impose(BAN, "10.0.0.0/8", 1)
        self.impose(BAN, "10.0.0.0/8")
        self.chat.after(10**9)
        self.assertEqual(self.chat.ask(c.Sweep(10)).facts, ())
        self.assertTrue(self.is_banned(host="10.0.0.1"))
        self.assertEqual(self.listed(), ["10.0.0.0/8 ban"])

    def test_muting_is_for_users_alone_and_no_ban(self) -> None:
        self.impose(MUTE, "bob", 60, "loud")
        with self.assertRaises(errors.Muted) as caught:
            bob = self.chat.login("bob")
            self.chat.do(c.Send(*bob, "ALL", "x", 1))
        until = self.chat.now + 60 * MINUTE
        self.assertEqual((caught.exception.until, caught.exception.why), (until, "loud"))
        for subject in ("192.0.2.1", "192.0.2.0/24"):
            self.refuses(errors.NotPermitted, self.impose(MUTE, subject))

    def test_muted_user_can_not_use_topics_reasons_or_names_either(self) -> None:
        chat = self.chat
        ann, bob = chat.login("ann"), chat.login("bob")
        for at in (ann, bob):
            chat.join(at, "#dev")
        for at in (bob, ann):
            chat.join(at, "#den")
        self.impose(MUTE, "bob")
        for command in (
            c.Send(*bob, "#dev", "x", 1),
            c.Send(*bob, "ann", "x", 1),
            c.SetTopic(*bob, "#dev", "x"),
            c.SetAway(*bob, "x"),
            c.Rename(*bob, "x"),
            c.Part(*bob, "#dev", "x"),
            c.RemoveMember(*bob, "#den", "ann", "x"),
            c.BanFromRoom(*bob, "#den", "ann", True, "x"),
        ):
            self.refuses(errors.Muted, chat.ask(command))
        chat.do(c.SetAway(*bob, ""))  # which says nothing
        chat.do(c.BanFromRoom(*bob, "#den", "ann", True))
        chat.do(c.Part(*bob, "#dev", " "))
        chat.say(ann, "bob")

    def test_a_reason_is_a_line(self) -> None:
        for reason in ("x" * 201, "é" * 101, "a\nb", "a\u2028b"):
            self.refuses(errors.TextTooLong, self.impose(BAN, "bob", 0, reason))
            refused = self.chat.ask(c.Disconnect(CONSOLE, 0, "bob", reason))
            self.refuses(errors.TextTooLong, refused)
        [imposed] = self.impose(BAN, "bob", 1, " why\n").facts
        until = self.chat.now + MINUTE
        self.assertEqual(imposed, facts.Imposed(BAN, "bob", until, "why", "", 0))

    def test_the_number_is_limited_and_swept_ones_do_not_count(self) -> None:
        self.patch(sanctions, "MAX_SANCTIONS", 2)
        self.impose(BAN, "a", 1)
        self.impose(BAN, "b")
        self.refuses(errors.TooManyThere, self.impose(BAN, "c"))
        self.assertEqual(len(self.impose(BAN, "b").facts), 1)
        self.chat.after(MINUTE)
        self.chat.do(c.Sweep(10))
        self.impose(BAN, "c")
        self.assertEqual(self.listed(), ["b ban", "c ban"])

    def test_list_is_in_order_and_begins_where_asked(self) -> None:
        for subject, minutes in (("b", 1), ("a", 0), ("c", 3), ("192.0.2.0/24", 0)):
            self.impose(BAN, subject, minutes)
        self.impose(MUTE, "a")
        self.impose(BAN, "c", 2)
        everything = ["192.0.2.0/24 ban", "a ban", "a mute", "b ban", "c ban"]
        self.assertEqual(self.listed(), everything)
        self.assertEqual(self.listed("a mute"), ["b ban", "c ban"])
        self.chat.after(MINUTE)
        self.chat.do(c.Sweep(10))
        self.assertEqual(self.listed("a ban"), ["a mute", "c ban"])
        self.chat.after(MINUTE)
        self.chat.do(c.Sweep(10))
        self.assertEqual(self.listed("a ban"), ["a mute"])

    def test_an_operator_is_one_as_long_as_the_console_says_so(self) -> None:
        chat = self.chat
        ann, _ = chat.login("ann"), chat.login("bob")
        chat.register(ann)
        asked = (
            c.Impose(*ann, BAN, "eve"),
            c.Impose(*ann, MUTE, "bob"),
            c.Lift(*ann, BAN, "eve"),
            c.Disconnect(*ann, "bob"),
        )
        for on in (False, True, False):
            chat.ask(c.SetOperator(CONSOLE, 0, "ann", on))
            for command in asked:
                if on:
                    chat.do(command)
                else:
                    self.refuses(errors.OperatorRequired, chat.ask(command))
        [mute] = chat.state.sanctions.values()
        self.assertEqual((mute.kind, mute.author), (MUTE, "ann"))
