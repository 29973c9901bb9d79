"""How texts are written for the full-text index, and how queries ask it."""

from __future__ import annotations

import sqlite3
import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from chat_twisted.storage.terms import MAY_CHANGE, expressions, rewrite

TYPED = st.text(
    st.sampled_from('ab "*()^:{}+-#.,\0\n東京都ー서울😀́') | st.characters(codec="utf-8"),
    max_size=30,
) | st.lists(
    st.sampled_from(["AND", "OR", "NOT", "NEAR", "a", '"', "b*", "*", "(c", "-", "東"]), max_size=12
).map(" ".join)


class TermsTests(TestCase):
    def setUp(self) -> None:
        self.connection = sqlite3.connect(":memory:")
        self.addCleanup(self.connection.close)
        self.connection.execute(
            "CREATE VIRTUAL TABLE words USING fts5 "
            "(text, content = '', tokenize = 'unicode61 remove_diacritics 2')"
        )

    def matches(self, expression: str) -> int:
        [count] = self.connection.execute(
            "SELECT count(*) FROM words WHERE words MATCH ?", (expression,)
        ).fetchone()
        return count

    @given(TYPED)
    def test_no_query_is_an_error(self, query: str) -> None:
        for expression in expressions(query):
            self.matches(expression)

    def test_the_longest_queries_are_no_error(self) -> None:
        for part in ("a ", "a OR ", "a NOT ", "a AND b OR ", '"', '"a" ', "( ", "東a", "a++ "):
            for expression in expressions((part * 500)[:500]):
                self.matches(expression)

    @given(TYPED)
    def test_only_texts_that_sqlite_can_tell_are_changed(self, text: str) -> None:
        rows = self.connection.execute(f"SELECT {MAY_CHANGE} FROM (SELECT ? AS text)", (text,))
        if rewrite(text) != text:
            self.assertEqual(rows.fetchall(), [(1,)])

    def test_a_word_in_colour_is_found(self) -> None:
        for text in ("a \x0304red\x03 b", "\x04ff0000red", "\x02red\x02", "\x0312,1東京都"):
            self.connection.execute("INSERT INTO words (words) VALUES ('delete-all')")
            self.connection.execute("INSERT INTO words VALUES (?)", (rewrite(text),))
            word = "red" if "red" in text else "東京"
            self.assertEqual(self.matches(expressions(word)[0]), 1, text)

    @given(st.text(st.sampled_from("東京都庁ーんサ서울"), min_size=1, max_size=9), st.data())
    def test_each_part_of_a_text_without_blanks_is_found(
        self, text: str, data: st.DataObject
    ) -> None:
        begin = data.draw(st.integers(0, len(text) - 1))
        end = data.draw(st.integers(begin + 1, len(text)))
        self.connection.execute("INSERT INTO words (words) VALUES ('delete-all')")
        self.connection.execute("INSERT INTO words VALUES (?)", (rewrite(f"x{text}y z"),))
        for query, found in ((text[begin:end], 1), (f"x{text}y", 1), (text + "東", 0)):
            self.assertEqual(self.matches(expressions(query)[0]), found, query)

    def test_words_of_a_query(self) -> None:
        for query, exact in (
            ("red wine", '"red" "wine"'),
            ("deplo*", '"deplo"*'),
            ('"red wine" tea', '"red wine" "tea"'),
            ('"red wine', '"red wine"'),
            ("wine OR tea NOT milk", '"wine" OR "tea" NOT "milk"'),
            ("OR wine AND", '"OR" "wine" "AND"'),
            ("(red OR OR wine)", '"(red" OR "OR" "wine)"'),
            ("node.js -x ^y z:", '"node.js" "-x" "^y" "z:"'),
        ):
            self.assertEqual(expressions(query)[0], exact)

    def test_words_are_taken_as_prefixes_after_that_except_short_ones_and_excluded_ones(
        self,
    ) -> None:
        self.assertEqual(
            expressions("depl a OR fail NOT skip")[1:], ['"depl"* "a" OR "fail"* NOT "skip"']
        )
        for query in ("deplo*", '"red wine"', "a b", "東京", "京"):
            self.assertEqual(len(expressions(query)), 1, query)

    def test_nothing_that_has_a_letter_or_digit_is_no_query(self) -> None:
        for query in ("", "*", "- + ?", '"', '""', "😀", '"-" *'):
            self.assertEqual(expressions(query), [], query)

    def test_rewriting_takes_time_in_proportion_to_the_text(self) -> None:
        size = 65536
        begun = time.process_time()
        for text in ("a" * size, "a+" * size, "+" * size, "a" + "+" * size + "b", "東" * size):
            rewrite(text[:size])
            expressions(text[:500])
        self.assertLess(time.process_time() - begun, 5)  # a quadratic one takes a minute
