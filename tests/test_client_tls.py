"""The trust in servers: authorities first, then the stored certificate, never a changed one."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted.client.address import Host
from chat_twisted.client.client_state import StateFile, config_folder
from chat_twisted.client.tls import (
    Trust,
    Untrusted,
    parse_fingerprint,
)

ONE, TWO = hashlib.sha256(b"1").digest(), hashlib.sha256(b"2").digest()
FIRST = parse_fingerprint(ONE.hex())
SECOND = parse_fingerprint(TWO.hex())


class KnownTestCase(TestCase):
    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.known = StateFile(folder / "config" / "known_servers")


class TrustTests(KnownTestCase):
    def trust(self, fingerprint: str | None = None, host: str = "Chat.example", port=8828) -> Trust:
        return Trust(Host(host, port), self.known, fingerprint)

    def test_a_new_server_is_shown_and_remembered_and_then_taken_silently(self) -> None:
        notice = self.trust().check(ONE, vouched=False)
        self.assertIn(FIRST, notice)
        self.assertEqual(self.trust(host="chat.EXAMPLE").check(ONE, vouched=False), "")
        self.assertEqual(self.known.path.read_text(), f"chat.example:8828 {FIRST}\n")
        self.assertEqual(self.known.path.parent.stat().st_mode & 0o777, 0o700)

    def test_another_port_is_another_server(self) -> None:
        self.trust().check(ONE, vouched=False)
        self.assertIn(SECOND, self.trust(port=1).check(TWO, vouched=False))
        self.assertEqual(self.trust().check(ONE, vouched=False), "")

    def test_a_changed_server_is_refused_with_what_it_may_mean_and_how_to_accept_it(self) -> None:
        self.trust().check(ONE, vouched=False)
        for _ in range(2):
            with self.assertRaises(Untrusted) as caught:
                self.trust().check(TWO, vouched=False)
        text = str(caught.exception)
        for part in (FIRST, SECOND, "has changed", f"--fingerprint {SECOND}", "nothing was sent"):
            self.assertIn(part, text)
        self.assertEqual(self.trust(SECOND).check(TWO, vouched=False), "")
        self.assertEqual(self.trust().check(TWO, vouched=False), "")

    def test_a_fingerprint_that_was_given_is_required_and_remembered(self) -> None:
        with self.assertRaises(Untrusted):
            self.trust(FIRST).check(TWO, vouched=True)
        self.assertEqual(self.trust(FIRST).check(ONE, vouched=False), "")
        self.assertEqual(self.trust().check(ONE, vouched=False), "")

    def test_what_authorities_vouch_for_is_taken_and_later_nothing_less(self) -> None:
        self.assertEqual(self.trust().check(ONE, vouched=True), "")
        self.assertEqual(self.trust().check(TWO, vouched=True), "")
        with self.assertRaisesRegex(Untrusted, "authorities"):
            self.trust().check(ONE, vouched=False)

    def test_what_can_not_be_remembered_is_said_and_does_no_harm(self) -> None:
        self.known.path.parent.parent.chmod(0o500)
        if os.geteuid() == 0:  # root ignores modes
            self.known = StateFile(Path("/dev/null/known_servers"))
            with self.assertRaisesRegex(Untrusted, "Not a directory"):
                self.trust().check(ONE, vouched=False)
        else:
            self.assertIn("can't be remembered", self.trust().check(ONE, vouched=False))
        self.known.path.parent.parent.chmod(0o700) if os.geteuid() else None

    def test_lines_that_are_none_are_passed_over(self) -> None:
        self.known.path.parent.mkdir()
        self.known.path.write_bytes(b"\xff\xfe x y\n\nchat.example:8828\n" + b"a b c\n")
        self.trust().check(ONE, vouched=False)
        self.assertEqual(self.known.get("chat.example:8828"), FIRST)

    def test_an_address_of_version_6_is_written_in_brackets(self) -> None:
        trust = self.trust(host="::1")
        trust.check(ONE, vouched=False)
        self.assertEqual((trust.names, trust.server_name), ([], None))
        self.assertEqual(self.known.get("[::1]:8828"), FIRST)


class SeveralHostsTests(KnownTestCase):
    """The hosts a, b and c of one chat."""

    hosts = (Host("a", 1), Host("b", 1), Host("c", 1))

    def of(self, name: str, fingerprint: str | None = None) -> Trust:
        [host] = [host for host in self.hosts if host.name == name]
        others = [host for host in self.hosts if host.name != name]
        return Trust(host, self.known, fingerprint, others)

    def check(self, name: str, digest: bytes) -> str:
        return self.of(name).check(digest, vouched=False)

    def test_a_certificate_that_was_met_at_one_host_is_taken_silently_at_the_others(self) -> None:
        self.assertIn("a:1 is new here", self.check("a", ONE))
        self.assertEqual((self.check("b", ONE), self.check("c", ONE)), ("", ""))
        self.assertEqual(self.known.get("b:1"), FIRST)

    def test_no_other_one_is_taken_at_a_host_that_is_new(self) -> None:
        self.check("a", ONE)
        with self.assertRaises(Untrusted) as caught:
            self.check("b", TWO)
        text = str(caught.exception)
        for part in ("b:1 is not that of the chat's other hosts", FIRST, SECOND, "nothing was"):
            self.assertIn(part, text)
        self.assertIsNone(self.known.get("b:1"))

    def test_a_new_certificate_that_was_accepted_at_one_host_is_valid_at_the_others(self) -> None:
        for name in "ab":
            self.check(name, ONE)
        self.of("a", SECOND).check(TWO, vouched=False)
        self.assertEqual(self.check("b", TWO), "")
        with self.assertRaisesRegex(Untrusted, "c:1 is not that of the chat's other hosts"):
            self.check("c", hashlib.sha256(b"3").digest())

    def test_a_host_of_no_chat_is_alone(self) -> None:
        self.check("a", ONE)
        self.assertIn("b:1 is new here", Trust(Host("b", 1), self.known).check(TWO, vouched=False))

    def test_what_authorities_vouch_for_at_one_host_is_not_less_at_the_others(self) -> None:
        self.of("a").check(ONE, vouched=True)
        self.assertEqual(self.of("b").check(TWO, vouched=True), "")
        with self.assertRaisesRegex(Untrusted, "Theirs is one that your system's authorities"):
            self.check("c", ONE)

    def test_a_fingerprint_that_was_given_is_required_of_all(self) -> None:
        self.of("a", FIRST).check(ONE, vouched=False)
        for vouched in (False, True):
            with self.assertRaisesRegex(Untrusted, "b:1 is not the one that was asked for"):
                self.of("b", FIRST).check(TWO, vouched=vouched)

    def test_an_authority_may_vouch_for_the_name_of_any_host(self) -> None:
        self.hosts = (Host("a", 1), Host("192.0.2.1", 1), Host("b", 1))
        self.assertEqual(self.of("a").names, ["a", "b"])
        trust = self.of("192.0.2.1")
        self.assertEqual((trust.names, trust.server_name), (["a", "b"], None))


class FingerprintTests(TestCase):
    def test_each_way_of_writing_one_is_read(self) -> None:
        digits = ONE.hex()
        with_colons = ":".join(digits[i : i + 2] for i in range(0, 64, 2)).upper()
        for text in (FIRST, FIRST + "=", digits, with_colons):
            self.assertEqual(parse_fingerprint(text), FIRST)

    def test_what_is_none_is_an_error(self) -> None:
        for text in ("", "SHA256:", "SHA256:!!", FIRST[:-1], "MD5:" + FIRST[7:], digits_of(63)):
            self.assertRaises(ValueError, parse_fingerprint, text)


def digits_of(count: int) -> str:
    return "a" * count


class FolderTests(TestCase):
    def test_it_is_that_of_the_xdg_specification(self) -> None:
        for value, folder in (
            ("/etc/x", "/etc/x/chat_twisted"),
            ("relative", "/home/bob/.config/chat_twisted"),
            ("", "/home/bob/.config/chat_twisted"),
        ):
            environment = {"XDG_CONFIG_HOME": value, "HOME": "/home/bob"}
            self.patch(os, "environ", environment)
            self.assertEqual(str(config_folder()), folder)
