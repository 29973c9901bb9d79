"""The grammar: bytes in, frames out, whatever the split, and a clear refusal of all else."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterable

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from chat_twisted.core.errors import ChatError
from chat_twisted.frames import (
    Frame,
    FrameReader,
    HeaderIncomplete,
    MessageTooLong,
    encode,
    format_time,
    parse_time,
)
from tests.wire import frames


def read(pieces: Iterable[bytes], *, characters: bool = False, max_body: int = 65536):
    reader = FrameReader(max_body)
    reader.counts_characters = characters
    return [frame for piece in pieces for frame in frames(piece, reader)]


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


class GrammarTests(TestCase):
    def test_a_frame_without_a_body(self) -> None:
        self.assertEqual(read([b"PING x y\nId: 7\n\n"]), [Frame("PING", "x y", {"id": "7"})])

    def test_a_frame_with_a_body(self) -> None:
        [frame] = read([b"SEND bob\nContent-length: 5\n\nhello"])
        self.assertEqual((frame.verb, frame.argument, frame.body), ("SEND", "bob", "hello"))

    def test_a_carriage_return_before_the_line_end_is_dropped(self) -> None:
        [frame] = read([b"SEND bob\r\nContent-length: 2\r\n\r\n\r\n"])
        self.assertEqual((frame.argument, frame.body), ("bob", "\r\n"))

    def test_header_names_are_without_case_and_values_without_blanks_around(self) -> None:
        [frame] = read([b"X\nCONTENT-Length:  1 \nfOO:b:c\nE:\n\nz"])
        self.assertEqual(frame.headers, {"content-length": "1", "foo": "b:c", "e": ""})

    def test_an_empty_body_is_a_body(self) -> None:
        self.assertEqual(
            [frame.body for frame in read([b"A\nContent-length: 0\n\nB\n\n"])], ["", None]
        )

    def test_length_counts_bytes_or_characters(self) -> None:
        text = "é漢字😀"
        data = f"A\nContent-length: 12\n\n{text}B\n\n".encode()
        self.assertEqual([f.body for f in read([data])], [text, None])
        data = f"A\nContent-length: 4\n\n{text}B\n\n".encode()
        self.assertEqual([f.body for f in read([data], characters=True)], [text, None])

    def test_frames_split_at_every_byte(self) -> None:
        for characters in (False, True):
            data = b"".join(
                encode("SEND", "bob", [("Id", i)], text, count_characters=characters)
                for i, text in enumerate(("x", "é漢字😀", "a\n\nb\r\n", "😀" * 9))
            )
            whole = read([data], characters=characters)
            self.assertEqual(len(whole), 4)
            self.assertEqual(read(bytewise(data), characters=characters), whole)
            for cut in range(len(data)):
                pieces = [data[:cut], data[cut:]]
                self.assertEqual(read(pieces, characters=characters), whole)

    def test_ten_thousand_frames_in_one_piece(self) -> None:
        data = encode("SEND", "bob", [("Id", 1)], "hello") * 10_000
        self.assertEqual(len(read([data])), 10_000)

    def test_limits_are_what_they_are_said_to_be(self) -> None:
        line = b"X" * 512
        self.assertEqual(read([line + b"\r\n\n"])[0].verb, line.decode())
        header = b"a:" + b"x" * 4093 + b"\n"  # 4096 with its end
        self.assertEqual(len(read([b"X\n" + header + b"\n"])[0].headers["a"]), 4093)
        self.assertEqual(len(read([b"X\nContent-length: 9\n\n123456789"], max_body=9)), 1)

    def test_what_is_over_a_limit_is_refused_before_it_is_complete(self) -> None:
        for data in (
            b"X" * 514,
            b"X" * 513 + b"\n",
            b"X\na:" + b"x" * 5000,
            b"X\n" + b"a: b\n" * 1000,
            b"X\n" + b"a: b\n" * 800 + b"c" * 200,
        ):
            for pieces in ([data], bytewise(data)):
                with self.assertRaises(HeaderIncomplete):
                    read(pieces)

    def test_a_body_over_the_limit_is_refused_at_its_header(self) -> None:
        for length in ("65537", "99999999999", "9" * 4000):
            with self.assertRaises(MessageTooLong):
                read([f"X\nContent-length: {length}\n\n".encode()])

    def test_a_body_over_the_limit_may_be_thrown_away_at_no_cost(self) -> None:
        text = "é漢" * 100
        for characters, length in ((False, 500), (True, 200)):
            data = f"X\nContent-length: {length}\nId: 7\n\n{text}Y\n\n".encode()
            for step in (1, 7, 1000):
                reader = FrameReader(180, max_skipped=500)
                reader.counts_characters = characters
                found = []
                for i in range(0, len(data), step):
                    found += frames(data[i : i + step], reader)
                    self.assertLessEqual(len(reader._body), 180)
                self.assertEqual(
                    found,
                    [
                        Frame("X", "", {"content-length": str(length), "id": "7"}, None, True),
                        Frame("Y"),
                    ],
                )
            with self.assertRaises(MessageTooLong):
                frames(b"X\nContent-length: 501\nId: 7\n\n", reader)
            self.assertEqual(reader.id, "7")

    def test_the_limit_of_a_body_is_one_of_bytes_even_if_characters_are_counted(self) -> None:
        with self.assertRaises(MessageTooLong):
            read(["X\nContent-length: 9\n\nééééé".encode()], characters=True, max_body=9)

    def test_frames_against_the_grammar_are_refused(self) -> None:
        for data in (
            b"\n",
            b"\r\n",
            b"X\nno colon\n\n",
            b"X\n: no name\n\n",
            b"X\na b: blank in the name\n\n",
            b"X\n folded\n\n",
            b"X\n\xc3\xa9: not ASCII\n\n",
            b"X\nContent-length:\n\n",
            b"X\nContent-length: -1\n\n",
            b"X\nContent-length: +1\n\n",
            b"X\nContent-length: 1_0\n\n",
            b"X\nContent-length: 0x1\n\n",
            b"X\nContent-length: 1 1\n\n",
            "X\nContent-length: ٣\n\n".encode(),
            b"X\nContent-length: five\n\n",
            b"X\nContent-length: 1\nContent-length: 1\n\nz",
            b"X\nContent-length: 1\ncontent-LENGTH: 2\n\nz",
            b"\xff\n\n",
            b"X\0\n\n",
            b"X\na: \0\n\n",
            b"X\na: \xff\n\n",
            b"X\nContent-length: 1\n\n\0",
            b"X\nContent-length: 1\n\n\xff",
            b"X\nContent-length: 2\n\n\xed\xa0",
            b"X\nContent-length: 2\n\n\xc3\xc3",
        ):
            for pieces in ([data], bytewise(data)):
                with self.assertRaises(HeaderIncomplete, msg=data):
                    read(pieces)

    def test_text_that_is_not_utf8_is_refused_when_characters_are_counted(self) -> None:
        for body in (b"\xff\xfe", b"\x80\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"a\xffb"):
            with self.assertRaises(HeaderIncomplete):
                read([b"X\nContent-length: 2\n\n" + body], characters=True)

    def test_an_id_is_1_to_64_bytes_without_control_characters(self) -> None:
        self.assertIsNone(Frame("X").id)
        for token in ("x" * 64, "é" * 32, "a b", "~!"):
            self.assertEqual(Frame("X", "", {"id": token}).id, token)
        for token in ("", "x" * 65, "é" * 33, "a\tb", "a\rb", "\x1b[m", "\x7f", "\x9b"):
            with self.assertRaises(HeaderIncomplete):
                Frame("X", "", {"id": token}).id  # noqa: B018  it raises

    def test_yes_or_no_in_a_header(self) -> None:
        for value, flag in (("yes", True), ("YES", True), ("No", False)):
            self.assertIs(Frame("X", "", {"watch": value}).flag("watch"), flag)
        self.assertIsNone(Frame("X").flag("watch"))
        for value in ("", "true", "1", "yes "):
            with self.assertRaises(HeaderIncomplete):
                Frame("X", "", {"watch": value}).flag("watch")

    def test_a_number_in_a_header(self) -> None:
        self.assertEqual(Frame("X", "", {"message": "042"}).number("message"), 42)
        for value in ("", "-1", "1e3", "٣", "9" * 19):
            with self.assertRaises(HeaderIncomplete):
                Frame("X", "", {"message": value}).number("message")
        with self.assertRaises(HeaderIncomplete):
            Frame("X").number("message")


class WorkTests(TestCase):
    def work(self, size: int, step: int) -> int:
        """How many lines of Python run for a frame of ``size``, in pieces of ``step`` bytes."""
        data = encode("SEND", "bob", [("A", "x" * 3000)], "é" * size, count_characters=True)
        lines = 0

        def trace(frame, event, argument):
            nonlocal lines
            lines += 1
            return trace

        pieces = [data[i : i + step] for i in range(0, len(data), step)]
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            self.assertEqual(len(read(pieces, characters=True)), 1)
        finally:
            sys.settrace(before)
        return lines

    def test_the_work_is_linear_in_the_bytes_whatever_the_split(self) -> None:
        for step in (1, 7, 65536):
            self.assertLess(self.work(8000, step), 4.5 * self.work(2000, step))

    def test_one_byte_at_a_time_keeps_no_more_than_the_frame(self) -> None:
        reader = FrameReader()
        for byte in bytewise(b"X" * 500):
            frames(byte, reader)
        self.assertLess(sys.getsizeof(reader._line), 1024)


FRAMES = st.lists(
    st.tuples(
        st.sampled_from(["SEND", "FORWARD", "RECEIVED", "PING"]),
        st.sampled_from(["", "bob", "a b", "ALL", "é"]),
        st.lists(st.tuples(st.sampled_from(["Id", "To", "X-y"]), st.sampled_from(["1", "漢", ""]))),
        st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    ),
    max_size=6,
)


class PropertyTests(TestCase):
    """Whatever the split, the same frames; whatever the bytes, frames or a refusal."""

    @given(FRAMES, st.lists(st.integers(0, 400)), st.booleans())
    def test_streams_split_and_joined_at_random_give_the_same_frames(
        self, frames, cuts, characters: bool
    ) -> None:
        data = b"".join(encode(*frame, count_characters=characters) for frame in frames)
        marks = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        pieces = [data[a:b] for a, b in itertools.pairwise(marks)]
        result = read(pieces, characters=characters)
        self.assertEqual(
            [(f.verb, f.argument, f.body) for f in result],
            [(verb, argument, body) for verb, argument, _, body in frames],
        )
        self.assertEqual(read([data], characters=characters), result)

    @given(st.binary(), st.integers(1, 9), st.booleans())
    @example(b"X\nContent-length: 3\n\n\xf0\x9f", 1, True)
    def test_any_bytes_give_frames_or_a_refusal(self, data, step: int, characters: bool) -> None:
        pieces = [data[i : i + step] for i in range(0, len(data), step)]
        with contextlib.suppress(ChatError):
            read(pieces, characters=characters)


class TimeTests(TestCase):
    def test_a_time_is_read_as_it_is_written(self) -> None:
        for time in (0, 1, 999, 1795428000123, *range(1795428000000, 1795428001000, 7)):
            self.assertEqual(parse_time(format_time(time)), time)

    def test_forms_of_a_time(self) -> None:
        for text, seconds in (
            ("1970-01-02", 86400),
            ("1970-01-02T00:01", 86460),
            ("1970-01-02T00:01Z", 86460),
            ("1970-01-02T00:01:02", 86462),
            ("1970-01-02T00:01:02.5", 86462.5),
            ("1970-01-02T00:01:02.123456789Z", 86462.123),
            ("1970-01-02T01:00:00+01:30", 84600),
            ("1970-01-02T00:00-00:30", 88200),
            ("1969-12-31T23:59:59.999Z", -0.001),
        ):
            self.assertEqual(parse_time(text), round(seconds * 1000), text)
        for text in ("0001-01-01T00:00+23:59", "9999-12-31T23:59:59.999-23:59"):
            parse_time(text)

    def test_what_is_no_time_is_refused(self) -> None:
        for text in (
            "",
            "now",
            "1970",
            "19700102",
            "1970-W01-1",
            "1970-02-30",
            "1970-01-02 00:00",
            "1970-01-02t00:00",
            "1970-01-02T24:00",
            "1970-01-02T00",
            "1970-01-02T00:00:60",
            "1970-01-02T00:00:00,5",
            "1970-01-02T00:00:00.",
            "1970-01-02T00:00+0100",
            "1970-01-02T00:00+24:00",
            "1970-01-02T00:00+00:60",
            "1970-01-02Z",
            "0000-01-01",
            "١٩٧٠-01-02",
            "1970-01-02\n",
            "12345678",
        ):
            with self.assertRaises(HeaderIncomplete, msg=text):
                parse_time(text)


class WritingTests(TestCase):
    def test_time_is_utc_with_milliseconds(self) -> None:
        self.assertEqual(format_time(1795428000123), "2026-11-23T10:00:00.123Z")
        self.assertEqual(format_time(7), "1970-01-01T00:00:00.007Z")

    def test_a_body_brings_its_length(self) -> None:
        self.assertEqual(encode("A", body="é"), "A\nContent-length: 2\n\né".encode())
        self.assertEqual(
            encode("A", body="é", count_characters=True), "A\nContent-length: 1\n\né".encode()
        )
