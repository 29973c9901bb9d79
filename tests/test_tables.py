"""The state in the archive's tables: what is written of facts is loaded again; and the upgrade."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import tempfile
from pathlib import Path
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from chat_twisted.core import commands as c
from chat_twisted.core.changes import APPLY
from chat_twisted.core.commands import NONE, OPERATOR
from chat_twisted.core.entries import Entry, LoggedIn, Outcome
from chat_twisted.core.facts import Fact
from chat_twisted.core.message import Message
from chat_twisted.core.snapshot import dump, load
from chat_twisted.core.state import State
from chat_twisted.storage import archive, lookup, tables, upgrade
from tests.dying import killed_start
from tests.random_logs import Maker, everything, lower_bounds, plain

SCHEMA = Path(archive.__file__).with_name("schema")


def steps(upto: int) -> str:
    """The SQL that leads from nothing to a step of the schema."""
    files = (SCHEMA / f"{number}.sql" for number in range(1, upto + 1))
    return ";\n".join(file.read_text() for file in files)


def new_file() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.executescript(steps(upgrade.newest_schema()))
    return connection


TABLES = {
    "users": "user",
    "tokens": "token",
    "sessions": "session",
    "holds": "hold",
    "markers": "marker",
    "accounts": "account",
    "keys": "key",
    "rooms": "room",
    "members": "member WHERE until IS NULL",
    "invitations": "invitation",
    "room_bans": "room_ban",
    "sanctions": "sanction",
}
"""Where the rows of a snapshot are."""


class FactsTests(TestCase):
    @settings(deadline=None, max_examples=40, derandomize=True)
    @given(st.integers(0, 2**32), st.integers(1, 12))
    def test_what_was_written_in_batches_is_what_is_loaded(self, seed: int, most: int) -> None:
        lower_bounds(self)
        draw = random.Random(seed)
        maker = Maker(draw)
        log, expected = maker.make(150)
        came: list[Outcome] = []
        with contextlib.closing(new_file()) as connection:
            cursor = connection.cursor()
            state = State()
            while log:
                batch, log = log[:most], log[most:]
                outcomes = [state.apply(entry) for entry in batch]
                came += outcomes
                written = [fact for outcome in outcomes for fact in outcome.facts]
                if written:
                    tables.write(cursor, written, state.progress)
                if draw.randrange(4) == 0:
                    found = load(tables.load(cursor))
                    self.assertEqual(everything(found), everything(state))
                    state = found
                    self.check_rows(cursor, state)
        self.assertEqual([*map(plain, came)], [*map(plain, expected)])
        self.assertEqual(everything(state), everything(maker.state))

    def check_rows(self, cursor: sqlite3.Cursor, state: State) -> None:
        """Check that nothing is left in the file of what is no more."""
        rows = dump(state)
        for field, table in TABLES.items():
            [count] = cursor.execute(f"SELECT count(*) FROM {table}").fetchone()
            self.assertEqual(count, len(getattr(rows, field)), table)
        cursor.execute("SELECT count(*) FROM member WHERE user NOT IN (SELECT id FROM user)")
        self.assertEqual(cursor.fetchone(), (0,))

    def test_deleted_message_has_no_text_and_its_old_text_is_known_to_the_index(self) -> None:
        with contextlib.closing(new_file()) as connection:
            cursor = connection.cursor()
            state = State()
            written: list[Fact] = []

            def do(command: Any) -> Any:
                outcome = state.apply(Entry(1, command))
                written.extend(outcome.facts)
                return outcome.result

            login = do(c.Login("ann", 1, b"token"))
            assert isinstance(login, LoggedIn)
            said = do(c.Send(1, 1, "ALL", "oh no", 1))
            assert isinstance(said, Message)
            do(c.Delete(1, 1, said.number, 1, 0, 0, said.logged))
            tables.write(cursor, written, state.progress)
            rows = cursor.execute("SELECT number, text FROM message").fetchall()
            self.assertEqual(rows, [(said.number, "")])
            rows = cursor.execute("SELECT * FROM deletion").fetchall()
            self.assertEqual(rows, [(said.number, "oh no")])


OLD = """
INSERT INTO message VALUES (7, 1000, 1, 'ann', 0, 10, '#dev', 'old', 'id 7'),
    (9, 9000000, 2, 'Bob', 0, 0, 'ALL', 'new', 'id 9');
INSERT INTO user (id, name, token, since, position, account) VALUES
    (1, 'ann', x'', 2, 7, 2), (2, 'Bob', x'0b', 4, 9, 0), (3, 'cyd', x'0c', 3, 3, 0),
    (4, 'ANN', x'0d', 8, 8, 0), (5, 'dan', x'', 5, 5, 1);
INSERT INTO key VALUES (1, 'ssh-ed25519 B', 'b'), (1, 'ssh-ed25519 A', 'a'), (99, 'x', '');
INSERT INTO password VALUES (5, 'hash');
INSERT INTO room VALUES (10, '#dev', 'tea', 0, 1), (11, '#den', '', 1, 99), (12, '#gone', '', 0, 1);
INSERT INTO member (room, user, since, until, joined) VALUES
    (10, 2, 5, NULL, 1), (10, 1, 5, NULL, 2), (11, 3, 6, NULL, 3), (11, 2, 6, NULL, 4),
    (12, 1, 2, 6, 1), (10, 99, 4, NULL, 1), (13, 1, 4, NULL, 1);
INSERT INTO invitation VALUES (11, 1), (11, 99), (12, 2);
INSERT INTO sanction VALUES ('ban', '10.0.0.1', 0, 'spam', 'ann');
UPDATE progress SET number = 20, time = 9000500;
"""

OLDEST = """
INSERT INTO message VALUES (7, 1000, 1, 'ann', 0, 10, '#dev', 'old', 'id 7');
INSERT INTO user VALUES (1, 'ann', x'0a', 2, 7), (2, 'Bob', x'0b', 4, 7), (3, 'cyd', x'0c', 3, 3);
INSERT INTO room VALUES (10, '#dev', 'tea', 0, 1);
INSERT INTO member VALUES (10, 1, 5, NULL), (10, 2, 5, NULL);
"""


class UpgradeTestCase(TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "chat.sqlite"

    def make(self, version: int) -> None:
        """Make a file of a version, with rows as far as that one has them."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(steps(version))
            for statement in (OLD if version > 1 else OLDEST).split(";"):
                # What a version does not know, a file of that version does not have.
                with contextlib.suppress(sqlite3.OperationalError):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version}")
            connection.commit()

    def load(self) -> State:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return load(tables.load(connection.cursor()))

    def migrate(self) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            upgrade.migrate(connection)

    def interrupted_after(self, steps_taken: int) -> bool:
        left = steps_taken

        def end() -> int:
            nonlocal left
            left -= 1
            return left < 0

        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.set_progress_handler(end, 100)
            try:
                upgrade.migrate(connection)
            except sqlite3.OperationalError:
                return False
            return True

    def rows(self) -> list[str]:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return list(connection.iterdump())


class UpgradeTests(UpgradeTestCase):
    def test_a_file_of_the_version_before_has_all_that_it_had(self) -> None:
        self.make(5)
        self.migrate()
        state = self.load()
        self.assertEqual([u.name for u in state.users.values()], ["ann", "cyd", "Bob", "dan"])
        ann, bob, dan = (state.names[name] for name in ("ann", "bob", "dan"))
        assert ann.account is not None
        assert dan.account is not None
        self.assertEqual((ann.operator, dan.operator), (True, False))
        self.assertEqual(set(ann.account.keys), {"ssh-ed25519 A", "ssh-ed25519 B"})
        self.assertEqual((ann.account.password, dan.account.password), ("", "hash"))
        self.assertEqual((ann.cursor, bob.cursor), (7, 9))
        self.assertEqual(list(bob.tokens), [b"\x0b"])
        self.assertEqual(list(state.room_names), ["#dev", "#den"])
        dev, den = state.room_names["#dev"], state.room_names["#den"]
        ranks = [(id, member.rank) for id, member in dev.members.items()]
        self.assertEqual(ranks, [(2, NONE), (1, OPERATOR)])
        ranks = [(id, member.rank) for id, member in den.members.items()]
        self.assertEqual(ranks, [(3, OPERATOR), (2, NONE)])  # its owner is no more
        self.assertEqual((dev.topic, den.private, list(den.invited)), ("tea", True, [1]))
        self.assertEqual([s.author for s in state.sanctions.values()], ["ann"])
        self.assertEqual((state.time, state.number), (9000500, 9))

    def test_guests_are_held_from_the_start_on_and_come_back_by_their_tokens(self) -> None:
        self.make(5)
        self.migrate()
        state = self.load()
        state.apply(Entry(10_000_000, c.Start(0, c.Options(grace=1000), 100)))
        hold = state.holds.get(2)
        assert hold is not None
        self.assertEqual(hold.until, 10_001_000)
        outcome = state.apply(Entry(10_000_500, c.Login("bob", 77, b"new", b"\x0b")))
        assert isinstance(outcome.result, LoggedIn)
        self.assertEqual(outcome.result.user, 2)
        sent = state.users[2].find_sent("id 9", state.time - 9_000_000)
        assert sent is not None
        self.assertEqual(sent[0], 9)

    def test_what_a_killed_server_had_noted_no_time_of_is_known_as_sent_lately(self) -> None:
        for noted in (
            "UPDATE progress SET number = 0, time = 0",
            "UPDATE progress SET time = 1000; INSERT INTO moment VALUES (9, 9000100)",
        ):
            self.path.unlink(missing_ok=True)
            self.make(5)
            with contextlib.closing(sqlite3.connect(self.path)) as connection:
                connection.executescript(noted)
            self.migrate()
            state = self.load()
            self.assertGreaterEqual(state.time, 9000000)
            state.apply(Entry(9_100_000, c.Start(0, c.Options(), 100)))
            sent = state.users[2].find_sent("id 9", 9_100_000)
            assert sent is not None, noted
            self.assertEqual(sent[0], 9)

    def test_files_of_all_versions_are_brought_up_to_date(self) -> None:
        for version in range(1, 6):
            self.path.unlink(missing_ok=True)
            self.make(version)
            self.migrate()
            state = self.load()
            self.assertLessEqual({"Bob", "cyd"}, {user.name for user in state.users.values()})
            self.assertIn("#dev", state.room_names)
            self.assertEqual(dump(load(dump(state))), dump(state))

    def test_the_version_before_did_not_know_when_users_came(self) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(
                f"{steps(6)}; INSERT INTO user VALUES (1, 'ann', 1, 2, 3, 4, 5, 'lunch');"
                "PRAGMA user_version = 6"
            )
        self.migrate()
        ann = self.load().users[1]
        self.assertEqual((ann.name, ann.epoch, ann.away, ann.time), ("ann", 5, "lunch", 0))

    def test_the_version_before_had_fewer_modes_and_no_real_names(self) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(
                f"{steps(7)}; INSERT INTO user VALUES (1, 'ann', 1, 2, 3, 4, 5, NULL, 6);"
                "INSERT INTO room VALUES (9, '#a', '', 0, 7, 1, 0, 1, 'tea', 'ann', 8);"
                "PRAGMA user_version = 7"
            )
        self.migrate()
        state = self.load()
        ann, room = state.users[1], state.rooms[9]
        self.assertEqual((ann.time, ann.real_name, ann.bot), (6, "", False))
        self.assertEqual(room.modes, {c.PRIVATE, c.TOPIC_LOCKED})
        self.assertEqual((room.topic, room.topic_author, room.topic_time), ("tea", "ann", 8))

    def test_the_version_before_did_not_know_the_times_of_read_markers(self) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(
                f"{steps(7)}; INSERT INTO user VALUES (1, 'ann', 1, 2, 3, 4, 5, NULL, 6);"
                "INSERT INTO marker VALUES (1, 0, 'bob', 9); PRAGMA user_version = 7"
            )
        self.migrate()
        self.assertEqual(self.load().users[1].markers, {(0, "bob"): (9, 0)})

    def test_a_step_that_is_ended_anywhere_is_taken_wholly_or_not_at_all(self) -> None:
        self.make(5)
        file = self.path.read_bytes()
        whole = [self.rows()]
        for step in range(6, upgrade.newest_schema() + 1):
            with contextlib.closing(sqlite3.connect(self.path)) as connection:
                connection.executescript((SCHEMA / f"{step}.sql").read_text())
            whole.append(self.rows())
        self.path.write_bytes(file)
        taken: list[int] = []
        for steps_taken in range(1, 10_000, 7):
            done = self.interrupted_after(steps_taken)
            taken.append(whole.index(self.rows()))
            if done:
                break
        self.assertEqual(taken, sorted(taken))
        self.assertEqual((taken[0], taken[-1]), (0, len(whole) - 1))


class KilledTests(UpgradeTestCase):
    """The process is killed during the start that upgrades the file: each time a bit later."""

    def start(self) -> list[str]:
        """Start as a server does; return what the file has then."""
        archive.prepare(self.path.parent, wall=lambda: 9001.0)
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.execute("UPDATE progress SET stamp = x''")  # it is drawn at random
            connection.commit()
        return self.rows()

    def copies(self) -> list[Path]:
        return list(self.path.parent.glob(f"{archive.FILE}{upgrade.BEFORE}*"))

    def check_points(self, version: int, every: int) -> None:
        """Check each point at which the process may be killed, or ``every`` so many of them."""
        self.make(version)
        made, before = self.path.read_bytes(), self.rows()
        after = self.start()
        points = 0
        while True:
            for file in self.path.parent.iterdir():
                file.unlink()
            self.path.write_bytes(made)
            killed = killed_start(self.path.parent, points)
            with contextlib.closing(sqlite3.connect(self.path)) as connection:
                [reached] = connection.execute("PRAGMA user_version").fetchone()
            if reached > version:  # what was there before is kept
                [copy] = self.copies()
                with contextlib.closing(sqlite3.connect(copy)) as connection:
                    self.assertEqual(list(connection.iterdump()), before)
            self.assertEqual(self.start(), after, points)
            self.assertEqual(len(self.copies()), 1)
            if not killed:
                break
            points += every
        self.assertGreater(points, 50)

    def test_a_file_of_the_first_version_has_all_of_it_after_the_next_start(self) -> None:
        self.check_points(1, 5)

    def test_files_of_the_versions_between_have_all_of_it_after_the_next_start(self) -> None:
        for version in (2, 3, 4, 5):
            for file in self.path.parent.iterdir():
                file.unlink()
            self.check_points(version, 13)


class RealFileTests(UpgradeTestCase):
    """A file as the version before has left it, of guests, accounts, rooms and sanctions."""

    ALICE, BOB, DAVE, ERIN = (
        302035658922173558,
        3549979681779061575,
        1217013741609091401,
        2075040363551252351,
    )

    def setUp(self) -> None:
        super().setUp()
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(Path(__file__).with_name("version5.sql").read_text())
            connection.execute("PRAGMA user_version = 5")

    def check(self) -> None:
        """Check that all of it is there."""
        state = self.load()
        names = ["Bob", "Frank", "alice", "carol", "dave", "erin"]
        self.assertEqual(sorted(user.name for user in state.users.values()), names)
        erin, frank = state.names["erin"], state.names["frank"]
        assert erin.account is not None
        assert frank.account is not None
        self.assertTrue(erin.account.is_proof(erin.account.password))
        self.assertEqual((erin.account.operator, frank.account.operator), (False, True))
        [(key, (comment, _))] = frank.account.keys.items()
        self.assertEqual((key[:12], comment), ("ssh-ed25519 ", "frank@home"))
        tea, den = state.room_names["#tea"], state.room_names["#den"]
        self.assertEqual((tea.topic, tea.private, den.private), ("green or black", False, True))
        ranks = {id: member.rank for id, member in tea.members.items()}
        self.assertEqual(ranks, {self.ALICE: OPERATOR, self.BOB: NONE})
        self.assertEqual((list(den.members), list(den.invited)), ([self.ALICE], [self.DAVE]))
        sanctions = [(s.kind, s.subject, s.reason) for s in state.sanctions_in_order.after("")]
        self.assertEqual(
            sanctions,
            [("ban", "192.0.2.0/24", ""), ("mute", "carol", "loud"), ("ban", "mallory", "spam")],
        )
        self.assertEqual((state.names["dave"].cursor, erin.cursor, state.number), (4, 0, 5))
        keys = [key for key, _ in state.users[self.ALICE].remembered(state.time)]
        self.assertEqual(len(keys), 2)  # what is sent again is known
        state.apply(Entry(state.time, c.Start(0, c.Options(grace=1000), 100)))
        self.assertEqual(len(state.holds), 4)
        token = next(iter(state.names["dave"].tokens))
        back = state.apply(Entry(state.time, c.Login("dave", 7, b"fresh", token))).result
        assert isinstance(back, LoggedIn)
        self.assertEqual(back.user, self.DAVE)

    def test_all_of_it_is_there_after_the_upgrade(self) -> None:
        self.migrate()
        self.check()

    def test_all_of_it_is_there_whenever_the_upgrade_was_ended(self) -> None:
        for steps_taken in range(1, 10_000, 9):
            if self.interrupted_after(steps_taken):
                break
        self.check()
        self.assertGreater(steps_taken, 1)

    def test_what_was_missed_and_said_is_read(self) -> None:
        self.migrate()
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            page = lookup.missed(connection.cursor(), self.ERIN, 0, 5, own=False)
        self.assertEqual([m.text for m in page.messages], ["hello all", "read this when you come"])


class CostTests(TestCase):
    def test_no_fact_costs_a_walk_through_a_table(self) -> None:
        kinds = get_args(Fact)
        with contextlib.closing(new_file()) as connection:
            walks = []
            for kind in set(kinds) - {Message}:
                for statement in tables._STATEMENTS[kind]:
                    values = dict.fromkeys(kind._fields, 1)
                    plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)
                    walks += [f"{kind}: {row[3]}" for row in plan if "SCAN" in row[3]]
        self.assertEqual(walks, [])

    def test_every_kind_of_fact_can_be_written(self) -> None:
        self.assertEqual(set(tables._STATEMENTS), set(get_args(Fact)) - {Message})
        self.assertEqual(set(APPLY), set(get_args(Fact)))
