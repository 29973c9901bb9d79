"""Server addresses, as they are typed and printed."""

from __future__ import annotations

import contextlib
from operator import add
from string import ascii_letters, ascii_lowercase, digits

from hypothesis import given
from hypothesis.strategies import builds, integers, ip_addresses, one_of, sampled_from, text
from twisted.trial.unittest import TestCase

from chat_twisted.client.address import (
    Address,
    address_key,
    format_address,
    parse_address,
    parse_port,
)


class AddressTests(TestCase):
    def test_each_form_is_read(self) -> None:
        for written, address in (
            ("h", Address("h")),
            ("Chat.example.org", Address("Chat.example.org")),
            ("h:8828", Address("h", 8828)),
            ("127.0.0.1:1", Address("127.0.0.1", 1)),
            ("::1", Address("::1")),
            ("0:0:0:0:0:0:0:1", Address("::1")),
            ("2001:DB8::8828", Address("2001:db8::8828")),
            ("[::1]", Address("::1")),
            ("[::1]:65535", Address("::1", 65535)),
            ("fe80::1%eth0", Address("fe80::1%eth0")),
            ("[fe80::1%eth0]:1", Address("fe80::1%eth0", 1)),
            ("alice@h", Address("h", None, "alice")),
            ("alice@h:1", Address("h", 1, "alice")),
            ("alice@::1", Address("::1", None, "alice")),
            ("alice@[::1]:1", Address("::1", 1, "alice")),
        ):
            self.assertEqual(parse_address(written), address, written)

    def test_anything_else_is_none(self) -> None:
        for written in (
            *("", ":", ":1", "@", "@h", "a@", "h:", "h:0", "h:65536", "h:-1", "h:1x", "h:٣"),
            *("[", "[]", "[::1", "::1]", "[::1]:", "[::1]1", "[::1]:x", "[h]", "[127.0.0.1]:1"),
            *("1:2:3", ":::", "::1%", "::g", "a:b:c", "fe80::1%a%b"),
        ):
            with self.assertRaises(ValueError, msg=written) as caught:
                parse_address(written)
            self.assertTrue(str(caught.exception).isprintable())

    @given(
        one_of(
            ip_addresses().map(str),
            builds(add, sampled_from(ascii_lowercase), text(ascii_lowercase + digits + ".-")),
        ),
        integers(1, 65535),
        text(ascii_letters + digits, max_size=32),
    )
    def test_a_printed_address_can_be_typed(self, host: str, port: int, user: str) -> None:
        host = parse_address(host).host
        before = f"{user}@" if user else ""
        printed = f"{before}{format_address(host, port)}"
        self.assertEqual(parse_address(printed), Address(host, port, user))

    @given(text())
    def test_no_text_is_more_than_wrong(self, text: str) -> None:
        with contextlib.suppress(ValueError):
            parse_address(text)

    def test_the_remembered_address_does_not_depend_on_how_it_was_written(self) -> None:
        for written in ("h:1", "H:1"):
            address = parse_address(written)
            self.assertEqual(address_key(address.host, address.port or 0), "h:1")
        for written in ("[::1]:1", "[0::1]:1"):
            address = parse_address(written)
            self.assertEqual(address_key(address.host, address.port or 0), "[::1]:1")

    def test_a_port_is_a_number_of_one(self) -> None:
        self.assertEqual([parse_port(text) for text in ("1", "08828", "65535")], [1, 8828, 65535])
