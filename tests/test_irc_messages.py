"""Messages as lines of IRC: nothing of a long text is lost, and every line fits."""

from __future__ import annotations

import random

from twisted.trial.unittest import TestCase

from chat_twisted.core.commands import ACTION, NOTICE, TEXT
from chat_twisted.core.message import Message
from chat_twisted.doors.irc import messages
from chat_twisted.doors.irc.capabilities import BITS, MESSAGE_TAGS
from chat_twisted.doors.irc.grammar import encode
from chat_twisted.doors.irc.messages import OLD, About, Extra, encode_message

NOW = 1_795_000_000_000.0
TEXTS = ("hi", " ", ":)", "", "a\nb", "\x02bold", "\x01VERSION\x01", "\x1b[2J", "\u200d", "\u2028")


def lines_of(text: str, kind: int = TEXT, caps: int = 0) -> list[bytes]:
    message = Message(42, 0, 1, "alice", 0, 1, "#dev", text, kind=kind)
    *lines, end = encode_message(message, caps, 0, About()).split(b"\r\n")
    assert end == b""
    return lines


class LongTextTests(TestCase):
    def test_64_kib_with_line_ends_are_complete_in_lines_of_512_bytes(self) -> None:
        text = "é漢 word\n" * 5000 + "😀" * 5000
        for kind, before, after in (
            (TEXT, b":alice!alice@chat PRIVMSG #dev :", b""),
            (NOTICE, b":alice!alice@chat NOTICE #dev :", b""),
            (ACTION, b":alice!alice@chat PRIVMSG #dev :\x01ACTION ", b"\x01"),
        ):
            lines = lines_of(text, kind)
            for line in lines:
                self.assertLessEqual(len(line), 510)
                self.assertTrue(line.startswith(before) and line.endswith(after))
            found = b"".join(line.removeprefix(before).removesuffix(after) for line in lines)
            self.assertEqual(found.decode(), text.replace("\n", ""))

    def test_the_number_is_on_the_first_line_only(self) -> None:
        first, *others = lines_of("a\nb\nc", caps=MESSAGE_TAGS)
        self.assertEqual(first, b"@msgid=42 :alice!alice@chat PRIVMSG #dev :a")
        self.assertEqual(
            others, [b":alice!alice@chat PRIVMSG #dev :" + part for part in (b"b", b"c")]
        )

    def test_no_text_is_a_command_to_a_client_or_its_terminal(self) -> None:
        [line] = lines_of("\x01VERSION\x01\x1b[2J\0")
        self.assertTrue(line.endswith(" :␁VERSION␁␛[2J␀".encode()))


class ShortWayTests(TestCase):
    def test_the_short_way_of_encoding_writes_the_same_as_the_long_one(self) -> None:
        chance = random.Random(1)
        for _ in range(2000):
            text = "".join(chance.choices((*TEXTS, "x" * 99, "\u00e9" * 40), k=chance.randrange(7)))
            said = int(NOW) - chance.choice((0, OLD, OLD + 1))
            to = chance.choice((("bob", 2, 0), ("#dev", 0, 3), ("ALL", 0, 0)))
            message = Message(
                chance.randrange(1, 10**6),
                said,
                1,
                "alice",
                to[1],
                to[2],
                to[0],
                text,
                kind=chance.choice((TEXT, TEXT, TEXT, ACTION, NOTICE)),
            )
            caps = sum(chance.sample(list(BITS.values()), 5))
            extra = Extra({"+x": "1"}, (1,)) if chance.random() < 0.2 else Extra()
            about = About(chance.choice(("", "alice")), chance.random() < 0.5, extra)
            lines = (
                encode(line.verb, line.params, source=line.source, tags=line.tags)
                for line in messages.lines_of(message, caps, NOW, about)
            )
            self.assertEqual(encode_message(message, caps, NOW, about), b"".join(lines), message)
