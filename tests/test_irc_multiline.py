"""Batches of lines that are one message: collected within their limits, or refused once and wholly;
and written so that the reader gets the same text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from chat_twisted.doors.irc.grammar import Line, LineReader
from chat_twisted.doors.irc.multiline import (
    CONCAT,
    BatchRefused,
    Collected,
    Collector,
    encode_batch,
)
from chat_twisted.doors.irc.splitting import harmless


def read(data: bytes) -> list[Line]:
    reader = LineReader()
    reader.receive(data)
    lines = []
    while (line := reader.next()) is not None:
        assert isinstance(line, Line)
        lines.append(line)
    return lines


class CollectingTests(TestCase):
    def setUp(self) -> None:
        self.collector = Collector(max_bytes=100, max_lines=5)

    def take(self, *texts: str) -> list[Collected | list[str] | None]:
        """What becomes of lines; a refusal as the parameters of its FAIL without the reason."""
        results: list[Collected | list[str] | None] = []
        for line in read("\n".join([*texts, ""]).replace("CONCAT", CONCAT).encode()):
            self.assertTrue(self.collector.concerns(line))
            try:
                results.append(self.collector.take(line))
            except BatchRefused as refused:
                self.assertEqual(refused.params[0], "BATCH")
                self.assertRegex(refused.params[-1], "^[A-Z].* ")
                results.append(refused.params[1:-1])
                self.tags = refused.tags
        return results

    def opened(self, *texts: str) -> list[Collected | list[str] | None]:
        """The same in a batch for #a."""
        results = self.take("@label=x BATCH +1 draft/multiline #a", *texts)
        self.assertIsNone(results[0])
        return results[1:]

    def check_refused(self, texts: list[str], *params: str) -> None:
        """The last of the lines is refused, and the rest of the batch is ignored."""
        *before, last = self.opened(*texts)
        self.assertEqual((before, last), ([None] * len(before), list(params)))
        self.assertEqual(self.tags, {"label": "x"})
        self.assertFalse(self.collector.is_open)
        self.assertEqual(
            self.take("@batch=1 PRIVMSG #a :b", "@batch=1 X", "BATCH -1"), [None, None, None]
        )
        self.check_usable()

    def check_usable(self) -> None:
        [*_, result] = self.opened("@batch=1 PRIVMSG #a :b", "BATCH -1")
        self.assertEqual(result, Collected("PRIVMSG", "#a", "b", (), {"label": "x"}))
        self.assertFalse(self.collector.is_open)

    def test_lines_of_a_batch_are_one_text(self) -> None:
        self.assertFalse(self.collector.is_open)
        results = self.opened(
            "@batch=1 PRIVMSG #a hello",
            "@batch=1 PRIVMSG #A :",
            "@batch=1 privmsg #a :how is ",
            "@batch=1;CONCAT PRIVMSG #a :everyone?",
        )
        self.assertEqual(results, [None] * 4)
        self.assertTrue(self.collector.is_open)
        text = "hello\n\nhow is everyone?"
        self.assertEqual(
            self.take("BATCH -1"),
            [Collected("PRIVMSG", "#a", text, (text.index("every"),), {"label": "x"})],
        )
        self.assertFalse(self.collector.is_open)

    def test_notices_are_collected_likewise(self) -> None:
        [*_, result] = self.opened("@batch=1 NOTICE #a :b", "@batch=1 NOTICE #a :c", "BATCH -1")
        self.assertEqual(result, Collected("NOTICE", "#a", "b\nc", (), {"label": "x"}))

    def test_a_first_line_that_continues_none_is_a_line(self) -> None:
        [*_, result] = self.opened("@batch=1;CONCAT PRIVMSG #a :b", "BATCH -1")
        self.assertEqual(result, Collected("PRIVMSG", "#a", "b", (), {"label": "x"}))

    def test_places_of_joins_are_counted_in_characters(self) -> None:
        [*_, result] = self.opened(
            "@batch=1 PRIVMSG #a :é😀",
            "@batch=1;CONCAT PRIVMSG #a :b",
            "@batch=1 PRIVMSG #a :c",
            "@batch=1;CONCAT PRIVMSG #a :d",
            "BATCH -1",
        )
        self.assertEqual(result, Collected("PRIVMSG", "#a", "é😀b\ncd", (2, 5), {"label": "x"}))

    def test_other_lines_are_not_for_the_collector(self) -> None:
        for line in read(
            b"PRIVMSG #a :b\n@label=x PING z\n@draft/multiline-concat PRIVMSG #a :b\n"
        ):
            self.assertFalse(self.collector.concerns(line))

    def test_a_batch_has_at_most_so_many_lines(self) -> None:
        line = "@batch=1 PRIVMSG #a :b"
        self.check_refused([line] * 6, "MULTILINE_MAX_LINES", "5")
        self.assertIsInstance(self.opened(*[line] * 5, "BATCH -1")[-1], Collected)

    def test_a_batch_has_at_most_so_many_bytes_with_its_line_ends(self) -> None:
        line = "@batch=1 PRIVMSG #a :" + 16 * "é"
        results = self.opened(line, line, line, "@batch=1;CONCAT PRIVMSG #a :xx", "BATCH -1")
        self.assertEqual(len(results[-1].text.encode()), 100)
        self.check_refused(
            [line, line, line, "@batch=1;CONCAT PRIVMSG #a :xxx"], "MULTILINE_MAX_BYTES", "100"
        )

    def test_all_lines_have_the_target_of_the_batch(self) -> None:
        self.check_refused(
            ["@batch=1 PRIVMSG #a :b", "@batch=1 PRIVMSG #b :b"],
            *("MULTILINE_INVALID_TARGET", "#a", "#b"),
        )

    def test_other_faults_are_invalid(self) -> None:
        first = "@batch=1 PRIVMSG #a :b"
        for lines in (
            [first, "@batch=1 NOTICE #a :b"],
            [first, "@batch=1 TAGMSG #a"],
            [first, "@batch=1 PRIVMSG #a"],
            [first, "@batch=1 BATCH +2 draft/multiline #a"],
            [first, "@batch=1;CONCAT PRIVMSG #a :"],
            ["BATCH -1"],
            ["@batch=1 PRIVMSG #a :", "@batch=1 PRIVMSG #a :", "BATCH -1"],
        ):
            self.check_refused(lines, "MULTILINE_INVALID")

    def test_a_line_of_another_batch_is_invalid(self) -> None:
        self.assertEqual(self.opened("@batch=2 PRIVMSG #a :b"), [["MULTILINE_INVALID"]])
        self.assertEqual(self.take("BATCH -1"), [None])
        self.assertEqual(self.opened("BATCH -2", "BATCH -1"), [["MULTILINE_INVALID"], None])
        self.check_usable()

    def test_lines_without_an_open_batch_are_invalid(self) -> None:
        self.assertEqual(
            self.take("@batch=1;label=y PRIVMSG #a :b", "@label=y BATCH -1"),
            [["MULTILINE_INVALID"]] * 2,
        )
        self.assertEqual(self.tags, {"label": "y"})

    def test_a_batch_within_a_batch_ends_both(self) -> None:
        self.assertEqual(
            self.opened("BATCH +2 draft/multiline #a", "@batch=2 PRIVMSG #a :b", "BATCH -2"),
            [["MULTILINE_INVALID"], None, None],
        )
        self.assertEqual(self.take("@batch=1 PRIVMSG #a :b"), [["MULTILINE_INVALID"]])
        self.check_usable()

    def test_an_opening_that_is_refused(self) -> None:
        for text, *params in (
            ("BATCH +3 netsplit #a", "UNKNOWN_TYPE", "3", "netsplit"),
            ("BATCH +3", "UNKNOWN_TYPE", "3", ""),
            ("BATCH +3 draft/multiline", "MULTILINE_INVALID"),
            ("BATCH +é draft/multiline #a", "INVALID_REFTAG", "é"),
            ("BATCH + draft/multiline #a", "INVALID_REFTAG", ""),
            ("BATCH 3 draft/multiline #a", "INVALID_REFTAG", "3"),
            ("BATCH", "INVALID_REFTAG", ""),
        ):
            self.assertEqual(self.take(f"@label=z {text}"), [params])
            self.assertEqual(self.tags, {"label": "z"})
            self.assertFalse(self.collector.is_open)
        self.assertEqual(self.take("BATCH +3 x", "@batch=3 X a", "BATCH -3")[1:], [None, None])
        self.check_usable()

    def test_a_batch_with_an_unreadable_line_is_not_taken(self) -> None:
        self.collector.spoil({"batch": "1"})
        self.opened("@batch=1 PRIVMSG #a :b")
        self.collector.spoil({})
        self.collector.spoil({"batch": "2"})
        self.assertTrue(self.collector.is_open)
        self.collector.spoil({"batch": "1"})
        self.assertFalse(self.collector.is_open)
        self.assertEqual(self.take("@batch=1 PRIVMSG #a :b", "BATCH -1"), [None, None])
        self.check_usable()

    def test_a_batch_that_is_open_for_too_long_is_discarded(self) -> None:
        self.opened("@batch=1 PRIVMSG #a :b")
        refused = self.collector.expire()
        self.assertEqual(refused.params[:3], ["BATCH", "TIMEOUT", "1"])
        self.assertEqual(refused.tags, {"label": "x"})
        self.assertEqual(self.take("@batch=1 PRIVMSG #a :b", "BATCH -1"), [None, None])
        self.check_usable()


class WritingTests(TestCase):
    def test_a_text_is_one_batch_with_the_tags_at_its_opening(self) -> None:
        data = encode_batch(
            "7",
            "PRIVMSG",
            "#a",
            "hello\n\nhow is everyone?",
            source="n!n@c",
            tags={"msgid": "42"},
            joins=[14],
        )
        self.assertEqual(
            data.decode(),
            "@msgid=42 :n!n@c BATCH +7 draft/multiline #a\r\n"
            "@batch=7 :n!n@c PRIVMSG #a :hello\r\n"
            "@batch=7 :n!n@c PRIVMSG #a :\r\n"
            "@batch=7 :n!n@c PRIVMSG #a :how is \r\n"
            "@batch=7;draft/multiline-concat :n!n@c PRIVMSG #a :everyone?\r\n"
            ":n!n@c BATCH -7\r\n",
        )

    def test_a_long_line_is_continued_at_words(self) -> None:
        data = encode_batch("7", "NOTICE", "bob", "word " * 200, source="n!n@c", tags={})
        for line in data.split(b"\r\n")[1:-3]:
            self.assertTrue(line.endswith(b" "))

    @given(
        st.text(st.sampled_from("ab \n\r\0é😀") | st.characters(exclude_categories=["Cs"])).map(
            lambda text: text * 20
        ),
        st.lists(st.integers(0, 100)).map(sorted),
    )
    def test_what_is_written_is_collected_as_the_same_text(self, text, joins) -> None:
        data = encode_batch(
            "1", "PRIVMSG", "#a", text, source="n!n@c", tags={"a": "b"}, joins=joins
        )
        for line in data.removesuffix(b"\r\n").split(b"\r\n"):
            self.assertLessEqual(len(line[line.index(b":") :]), 510)
        collector = Collector(100_000, 10_000)
        *lines, last = read(data)
        for line in lines:
            self.assertIsNone(collector.take(line))
        result = collector.take(last)
        assert result is not None
        written = harmless(text.replace("\r\n", "\n"))
        self.assertEqual(result.text, written if written.strip("\n") else " ")
        self.assertEqual(result.tags, {"a": "b"})
        self.assertEqual(result.verb, "PRIVMSG")
        again = encode_batch(
            *("1", "PRIVMSG", "#a", result.text),
            source="n!n@c",
            tags={"a": "b"},
            joins=result.joins,
        )
        self.assertEqual(again, data)

    def test_65536_line_ends_are_a_text_for_the_reader(self) -> None:
        data = encode_batch("1", "PRIVMSG", "#a", "a" + 65_535 * "\n", source="n!n@c", tags={})
        self.assertEqual(data.count(b"\r\n"), 65_538)


RANDOM_LINES = st.lists(
    st.sampled_from(
        [
            *("BATCH +1 draft/multiline #a", "BATCH +2 draft/multiline #a", "BATCH -1", "BATCH -2"),
            *("BATCH +1 x", "BATCH", "BATCH +", "BATCH -", "@batch=1 BATCH -1", "@batch X"),
            *("@batch=1 PRIVMSG #a :b", "@batch=2 PRIVMSG #a :b", "@batch=1 NOTICE #a :b"),
            *("@batch=1 PRIVMSG #a :", f"@batch=1;{CONCAT} PRIVMSG #a :b", "@batch=1 PRIVMSG #b b"),
        ]
    ),
    max_size=40,
)


class RandomTests(TestCase):
    @given(RANDOM_LINES)
    def test_any_lines_are_collected_or_refused(self, texts) -> None:
        collector = Collector(20, 4)
        for line in read("\n".join([*texts, ""]).encode()):
            try:
                result = collector.take(line)
            except BatchRefused:
                self.assertFalse(collector.is_open)
            else:
                if result is not None:
                    self.assertTrue(result.text.strip("\n"))
                    self.assertLessEqual(len(result.text.encode()), 20)
                    self.assertLessEqual(result.text.count("\n") + len(result.joins), 3)
                    self.assertFalse(collector.is_open)
