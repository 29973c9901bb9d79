"""The grammar of IRC: bytes in, lines out, whatever the split; and nothing that is written forges a
line."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterable

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from chat_twisted.doors.irc.grammar import (
    MAX_LINE,
    MAX_TAGS,
    BadEncoding,
    Line,
    LineReader,
    TooLong,
    cut,
    encode,
    encode_tags,
    escape_tag,
    unescape_tag,
)


def read(pieces: Iterable[bytes], reader: LineReader | None = None):
    reader = LineReader() if reader is None else reader
    found = []
    for piece in pieces:
        reader.receive(piece)
        while (line := reader.next()) is not None:
            found.append(line)
        assert not reader.has_more
    return found


def bytewise(data: bytes, step: int = 1) -> list[bytes]:
    return [data[i : i + step] for i in range(0, len(data), step)]


def line(verb: str, *params: str, **tags: str) -> Line:
    return Line(tags, verb, list(params))


class ReadingTests(TestCase):
    def check(self, data: bytes, *lines: Line | TooLong | BadEncoding) -> None:
        """The data, whole and a byte at a time, is these lines."""
        self.assertEqual(read([data]), list(lines))
        self.assertEqual(read(bytewise(data)), list(lines))

    def test_a_line_is_a_command_and_parameters(self) -> None:
        self.check(
            b"PRIVMSG #dev :hello, you\r\nPING z\nQUIT\n",
            line("PRIVMSG", "#dev", "hello, you"),
            line("PING", "z"),
            line("QUIT"),
        )

    def test_the_last_parameter_may_be_empty_and_begin_with_a_colon(self) -> None:
        self.check(b"CAP LIST :\n", line("CAP", "LIST", ""))
        self.check(b"PRIVMSG a ::-)\n", line("PRIVMSG", "a", ":-)"))
        self.check(b"PRIVMSG a: b:c :d :e\n", line("PRIVMSG", "a:", "b:c", "d :e"))
        self.check(b"AWAY :\nAWAY ::\n", line("AWAY", ""), line("AWAY", ":"))

    def test_commands_are_in_upper_case(self) -> None:
        self.check(b"nick a\nPrivmsg b :c\n", line("NICK", "a"), line("PRIVMSG", "b", "c"))

    def test_only_letters_of_ascii_have_an_upper_case(self) -> None:
        self.check(
            "pr\u017fvmsg b :c\nli\u017ft\néa\n".encode(),
            line("pr\u017fvmsg", "b", "c"),
            line("li\u017ft"),
            line("éa"),
        )

    def test_parts_are_separated_by_any_number_of_spaces_and_by_nothing_else(self) -> None:
        self.check(b"  A  b   c  :d  e \n", line("A", "b", "c", "d  e "))
        self.check("A b\tc\u00a0d\u3000e \n".encode(), line("A", "b\tc\u00a0d\u3000e"))

    def test_a_line_has_any_number_of_parameters(self) -> None:
        params = [str(i) for i in range(100)]
        self.check(f"A {' '.join(params)}\n".encode(), line("A", *params))

    def test_lf_and_crlf_and_a_lone_cr_end_a_line(self) -> None:
        self.check(
            b"A\nB\r\nC\rD e\r\r\nE\n\rF\n",
            *(line(*parts.split()) for parts in ("A", "B", "C", "D e", "E", "F")),
        )
        self.check(
            b"QUIT :a\r:chat NOTICE b :forged\r\n",
            line("QUIT", "a"),
            line("NOTICE", "b", "forged"),
        )

    def test_the_source_that_a_client_sends_is_ignored(self) -> None:
        self.check(b":bob!b@c PRIVMSG a :x\n:  A\n", line("PRIVMSG", "a", "x"), line("A"))

    def test_empty_lines_and_lines_without_a_command_are_passed_over(self) -> None:
        self.check(b"\n\r\n\r\r  \n:y\n:y \n@\n@;;= \n@a=b :c\n\0\nPING z\n", line("PING", "z"))

    def test_nul_is_left_out_and_ends_nothing(self) -> None:
        self.check(
            b"PRIVMSG a :b\0c\0\n\0PING\0 z\n@a=\0b;\0c P\n",
            line("PRIVMSG", "a", "bc"),
            line("PING", "z"),
            line("P", a="b", c=""),
        )

    def test_tags(self) -> None:
        self.check(
            rb"@label=1;+draft/reply=a\:b\s\\c\r\n;x;y=;z=p=q;x=2 PRIVMSG a :b" + b"\n",
            Line(
                {"label": "1", "+draft/reply": "a;b \\c\r\n", "x": "2", "y": "", "z": "p=q"},
                "PRIVMSG",
                ["a", "b"],
            ),
        )
        self.check(b"@a   :src   B c\n", line("B", "c", a=""))

    def test_utf8_may_be_split_anywhere(self) -> None:
        self.check("USER x 0 * :é🙂\n".encode(), line("USER", "x", "0", "*", "é🙂"))

    def test_what_is_not_utf8_is_reported_with_its_command_and_tags(self) -> None:
        self.check(b"PRIVMSG a :\xff\nPING z\n", BadEncoding({}, "PRIVMSG"), line("PING", "z"))
        self.check(
            b"@label=x;b=\xff;c :y  user a \xff\n", BadEncoding({"label": "x", "c": ""}, "USER")
        )
        self.check(b"@label=\xff PING z\n", BadEncoding({}, "PING"))
        self.check(b"\xff b\n:\xff\n", BadEncoding({}, "*"), BadEncoding({}, "*"))
        self.check("É \n".encode("latin-1"), BadEncoding({}, "*"))

    def test_a_line_has_at_most_512_bytes_without_its_tags(self) -> None:
        for end in (b"\n", b"\r\n", b"\r"):
            for tags in (b"", b"@a=b ", b"@" + MAX_TAGS * b"a" + b" "):
                for start in (b"PRIVMSG a :", b"PING ", b":x :"):
                    text = (MAX_LINE - len(start)) * b"x"
                    [found] = read([tags + start + text + end]) or [Line({}, "", [])]
                    self.assertIsInstance(found, Line)
                    for pieces in (
                        [tags + start + text + b"x" + end],
                        bytewise(tags + start + text + b"x" + end),
                    ):
                        [found] = read(pieces)
                        self.assertIsInstance(found, TooLong)
                        self.assertEqual(len(found.tags), bool(tags))

    def test_tags_have_at_most_4094_bytes(self) -> None:
        tags = b"@label=" + (MAX_TAGS - 6) * b"a"
        self.assertEqual(
            read([tags + b" PING z\n"]), [line("PING", "z", label=(MAX_TAGS - 6) * "a")]
        )
        self.check(tags + b"a PING z\n", TooLong("PING"))
        self.check(tags + b"a\n", TooLong("*"))

    def test_a_line_that_is_too_long_is_reported_once_with_its_command_and_tags(self) -> None:
        self.check(
            b"@label=7 privmsg a :" + 600 * b"x" + b"\nPING z\n",
            TooLong("PRIVMSG", {"label": "7"}),
            line("PING", "z"),
        )
        self.check(600 * b"x" + b"\n", TooLong("*"))
        self.check(
            b"@a" + 4500 * b" " + b"PRIVMSG b :" + 600 * b"x" + b"\n", TooLong("PRIVMSG", {"a": ""})
        )

    def test_200_kb_without_a_line_end_are_one_line_that_is_too_long(self) -> None:
        for first in (b"PING ", b"@label=x ", b"@"):
            for step in (1, 1000, 65536, 200_000):
                reader = LineReader()
                self.assertEqual(read(bytewise(first + 200_000 * b"x", step), reader), [])
                self.assertLess(sys.getsizeof(reader._line) + len(reader._data), 8192)
                [found, ping] = read([b"\r\nPING z\r\n"], reader)
                self.assertIsInstance(found, TooLong)
                self.assertEqual(ping, line("PING", "z"))
                self.assertEqual(len(reader._line), 0)

    def test_received_bytes_are_kept_until_their_lines_are_taken(self) -> None:
        reader = LineReader()
        self.assertFalse(reader.has_more)
        for piece in (b"A\nB", b"\nC", b"\n"):
            reader.receive(piece)
        self.assertTrue(reader.has_more)
        self.assertEqual(reader.next(), line("A"))
        reader.receive(b"D")
        self.assertEqual([reader.next(), reader.next()], [line("B"), line("C")])
        self.assertTrue(reader.has_more)
        self.assertIsNone(reader.next())
        self.assertFalse(reader.has_more)
        self.assertEqual(read([b"E\n"], reader), [line("DE")])


class WorkTests(TestCase):
    def work(self, data: bytes, step: int) -> int:
        """How many lines of Python run to read data in pieces of ``step`` bytes."""
        lines = 0

        def trace(frame, event, argument):
            nonlocal lines
            lines += 1
            return trace

        pieces = bytewise(data, step)
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            read(pieces)
        finally:
            sys.settrace(before)
        return lines

    def test_the_work_is_linear_in_the_bytes_whatever_the_split(self) -> None:
        for part in (
            b"x",
            b"\r",
            b" ",
            b"@",
            b"PING z\r",
            b"PRIVMSG a :b\n",
            b":\n",
            b"@a;b;c x\0\n",
        ):
            for step in (1, 7, 65536):
                self.assertLess(
                    self.work(part * (8000 // len(part)), step),
                    4.5 * self.work(part * (2000 // len(part)), step) + 100,
                )

    def test_a_piece_of_blanks_is_one_step(self) -> None:
        self.assertLess(self.work(60_000 * b" \r\n", 180_000), 60)


class WritingTests(TestCase):
    def test_a_line(self) -> None:
        self.assertEqual(encode("PING", ["z"]), b"PING z\r\n")
        self.assertEqual(encode("QUIT"), b"QUIT\r\n")
        self.assertEqual(
            encode("353", ["a", "=", "#b", "a @b"], source="chat.server"),
            b":chat.server 353 a = #b :a @b\r\n",
        )

    def test_the_last_parameter_has_a_colon_if_it_needs_one_or_on_request(self) -> None:
        for last, written in (("", ":"), (":)", "::)"), ("a b", ":a b"), ("a:b", "a:b")):
            self.assertEqual(encode("A", ["b", last]), f"A b {written}\r\n".encode())
        self.assertEqual(encode("A", ["b"], trailing=True), b"A :b\r\n")

    def test_a_last_parameter_that_is_a_text_always_has_a_colon(self) -> None:
        self.assertEqual(encode("PRIVMSG", ["b", "c"]), b"PRIVMSG b :c\r\n")
        self.assertEqual(encode("PART", ["#b"]), b"PART #b\r\n")
        self.assertEqual(encode("PART", ["#b", "c"]), b"PART #b :c\r\n")

    def test_tags_are_written_before_the_line(self) -> None:
        self.assertEqual(
            encode("A", ["é"], source="b!b@c", tags={"x": "1 2;\\\r\n\0", "y": None, "+z": ""}),
            rb"@x=1\s2\:\\\r\n\s;y;+z :b!b@c A ".decode().encode() + "é\r\n".encode(),
        )
        self.assertEqual(encode("A", tags={}), b"A\r\n")
        self.assertEqual(encode_tags({}), "")
        self.assertEqual(encode_tags({"a": "b"}), "@a=b ")

    def test_tags_with_names_that_cannot_be_written_are_left_out(self) -> None:
        for name in ("", "a b", "a\nb", "a;b", "a=b", "\0"):
            self.assertEqual(encode("A", tags={name: "x"}), b"A\r\n")
            self.assertEqual(encode("A", tags={name: "x", "c": "d"}), b"@c=d A\r\n")

    def test_line_ends_and_nul_become_spaces(self) -> None:
        self.assertEqual(
            encode("QUIT", ["a\r:chat NOTICE b\0\n:forged"], source="c"),
            b":c QUIT :a :chat NOTICE b  :forged\r\n",
        )

    def test_other_parts_than_the_last_are_one_word(self) -> None:
        for word, written in (("", "*"), (":", "*"), ("::a", "a"), ("a b", "a"), ("\r\na\nb", "a")):
            self.assertEqual(encode("A", [word, "c"]), f"A {written} c\r\n".encode())
        self.assertEqual(encode("A", ["c"], source="a b"), b":a A c\r\n")
        self.assertEqual(encode("A", ["c"], source=" "), b":* A c\r\n")
        for verb, written in (("", "*"), ("@a", "a"), (":a", "a"), ("a b", "a"), ("@", "*")):
            self.assertEqual(encode(verb, ["c"]), f"{written} c\r\n".encode())

    def test_a_line_is_cut_at_512_bytes_between_two_characters(self) -> None:
        for text in ("x", "é", "漢", "😀"):
            for start in ("", "a", "ab", "abc"):
                data = encode(
                    "PRIVMSG", ["#dev", start + text * 600], source="a!a@c", tags={"x": "y"}
                )
                data = data.removeprefix(b"@x=y ")
                self.assertLessEqual(len(data), 512)
                self.assertGreater(len(data) + len(text.encode()), 512)
                self.assertTrue((start + text * 600).startswith(data[21:-2].decode()))
        self.assertEqual(encode("A", 600 * ["b"]), b"A" + 254 * b" b" + b"\r\n")
        self.assertEqual(encode("A", [507 * "b", "c"]), b"A " + 507 * b"b" + b"\r\n")

    def test_cut_leaves_whole_characters(self) -> None:
        for octets, result in enumerate(
            ("", "a", "a", "aé", "aé", "aé", "aé", "aé😀", "aé😀b", "aé😀b")
        ):
            self.assertEqual(cut("aé😀b", octets), result)
        self.assertEqual(cut("x" * 10, 4), "xxxx")

    def test_escapes_of_tags(self) -> None:
        for value, escaped in (("", ""), ("a b", r"a\sb"), (";\\\r\n", r"\:\\\r\n"), ("é", "é")):
            self.assertEqual(escape_tag(value), escaped)
            self.assertEqual(unescape_tag(escaped), value)
        for escaped, value in (("test\\", "test"), (r"\b", "b"), (r"\\s", r"\s"), (r"a\é", "aé")):
            self.assertEqual(unescape_tag(escaped), value)


TEXT = st.text(st.sampled_from("ab:@ ;=\\\r\n\0é😀\x01") | st.characters(exclude_categories=["Cs"]))
NAMES = st.text(st.sampled_from("ab+/-é"), min_size=1)
VALUES = TEXT.map(lambda text: text.replace("\0", ""))
PARAMS = st.lists(TEXT, max_size=5)
FITTING = st.lists(TEXT.filter(lambda text: len(text.encode()) <= 90), max_size=5)
"""Parameters that fit into one line together."""


class PropertyTests(TestCase):
    """Whatever the split, the same lines; whatever the bytes, no exception; whatever the parts, one
    line."""

    @given(st.dictionaries(NAMES, VALUES, max_size=4), FITTING)
    def test_what_is_written_is_read_as_one_line(self, tags, params) -> None:
        data = encode("PRIVMSG", params, source="a!a@c", tags=tags)
        self.assertEqual(data.count(b"\r") + data.count(b"\n") + data.count(b"\0"), 2)
        [found] = read([data])
        self.assertIsInstance(found, Line)
        self.assertEqual((found.tags, found.verb), (tags, "PRIVMSG"))
        self.assertEqual(len(found.params), len(params))
        if params:
            last = params[-1].translate({0: " ", 10: " ", 13: " "})
            self.assertEqual(found.params[-1], last)

    @given(TEXT, PARAMS, TEXT, st.dictionaries(TEXT, TEXT | st.none(), max_size=4), st.booleans())
    def test_nothing_forges_a_second_line(self, verb, params, source, tags, trailing) -> None:
        data = encode(verb, params, source=source, tags=tags, trailing=trailing)
        self.assertTrue(data.endswith(b"\r\n"))
        [found] = read([data])
        self.assertEqual(len(found.params), len(params))

    @given(TEXT)
    def test_a_value_is_read_as_it_was_written(self, value) -> None:
        value = value.replace("\0", "")
        self.assertEqual(unescape_tag(escape_tag(value)), value)
        self.assertNotRegex(escape_tag(value), "[\r\n\0; ]")

    @given(TEXT, st.integers(0, 40))
    def test_cut_is_the_longest_beginning_that_fits(self, text, octets) -> None:
        result = cut(text, octets)
        self.assertTrue(text.startswith(result))
        self.assertLessEqual(len(result.encode()), octets)
        if result != text:
            self.assertGreater(len(text[: len(result) + 1].encode()), octets)

    @given(
        st.lists(
            st.sampled_from(
                [b"PRIVMSG #a :b", b"@", b":", b" ", b"\r", b"\n", b";", b"=", b"\\", b"\0"]
            )
            | st.sampled_from([600 * b"x", 4000 * b"y", "é😀".encode(), b"\xff", b"\xf0\x9f"])
            | st.binary(max_size=4),
            max_size=30,
        ),
        st.lists(st.integers(0, 6000)),
    )
    @example([b"@", 4000 * b"y", 94 * b"y", b" ", 510 * b"x", b"\n"], [4605])
    def test_any_bytes_are_the_same_lines_whatever_the_split(self, parts, cuts) -> None:
        data = b"".join(parts)
        marks = sorted({0, len(data), *(place for place in cuts if place < len(data))})
        whole = read([data])
        self.assertEqual(read(data[a:b] for a, b in itertools.pairwise(marks)), whole)
        for found in whole:
            self.assertTrue(found.verb)
            if isinstance(found, Line):
                self.assertFalse(set("\0") & set("".join(found.params)))
                self.assertFalse(set("\r\n") & set("".join(found.params) + found.verb))
                for word in found.params[:-1]:
                    self.assertTrue(word)
                    self.assertNotIn(" ", word)

    def test_random_bytes_in_random_pieces(self) -> None:
        chance = random.Random(17)
        letters = b"@:; =\\\r\n\0aPRIVMSG \xc3\xa9\xff"
        for _ in range(30):
            data = bytes(chance.choices(letters, k=3000))
            whole = read([data])
            for step in (1, 2, 3, 61):
                self.assertEqual(read(bytewise(data, step)), whole)
            read([b"\n"])
