"""The client's private state files."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted.client import client_state
from chat_twisted.client.client_state import StateFile, locked, replace

ROOT = Path(__file__).resolve().parents[1]

REMEMBER = """
import sys
from pathlib import Path
from chat_twisted.client.client_state import StateFile

name = sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(5):
    StateFile(Path(sys.argv[1])).set(f"{name}.{number}", name)
"""


class RememberedTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "config" / "chat" / "sessions"
        self.known = StateFile(self.path)

    def test_nothing_is_known_before_there_is_a_file_and_none_is_made_for_nothing(self) -> None:
        self.assertIsNone(self.known.get("a"))
        self.known.set("a", None)
        self.assertFalse(self.path.parent.exists())

    def test_a_value_that_was_set_is_known_to_the_next_reader(self) -> None:
        self.known.set("a", "1")
        self.known.set("b", "2")
        self.known.set("a", "3")
        again = StateFile(self.path)
        self.assertEqual((again.get("a"), again.get("b"), again.get("c")), ("3", "2", None))

    def test_none_is_to_know_nothing_of_it_any_more(self) -> None:
        self.known.set("a", "1")
        self.known.set("b", "2")
        self.known.set("a", None)
        self.assertIsNone(self.known.get("a"))
        self.assertEqual(self.path.read_text(), "b 2\n")

    def test_nobody_else_can_read_it_with_any_mask(self) -> None:
        self.addCleanup(os.umask, os.umask(0))
        self.known.set("a", "1")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.path.parent.stat().st_mode & 0o777, 0o700)
        self.path.chmod(0o644)
        self.known.set("a", "2")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_the_file_is_never_half_written(self) -> None:
        self.known.set("a", "1")
        self.patch(Path, "replace", lambda *_: 1 / 0)
        with self.assertRaises(ZeroDivisionError):
            self.known.set("a", "2")
        self.assertEqual(self.path.read_text(), "a 1\n")
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_no_other_file_stays_and_known_values_are_not_written_again(self) -> None:
        self.known.set("a", "1")
        before = self.path.stat()
        self.known.set("a", "1")
        self.assertEqual(self.path.stat().st_ino, before.st_ino)
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_lines_that_say_nothing_are_passed_over(self) -> None:
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"\xff\xfe\n\n a  1 \nb 2 3\nc\n")
        self.assertEqual([self.known.get(name) for name in "abc"], ["1", None, None])
        self.known.set("b", "2")
        self.assertEqual(self.known.get("a"), "1")

    def test_a_file_that_can_not_be_read_or_written_is_an_error_of_the_system(self) -> None:
        (self.folder / "config").write_text("")
        self.assertRaises(NotADirectoryError, self.known.get, "a")
        self.assertRaises(OSError, self.known.set, "a", "1")

    def test_a_link_to_where_one_keeps_ones_settings_stays_a_link(self) -> None:
        real = self.folder / "settings"
        real.write_text("a 1\n")
        self.path.parent.mkdir(parents=True)
        self.path.symlink_to(real)
        self.known.set("b", "2")
        self.assertTrue(self.path.is_symlink())
        self.assertEqual(real.read_text(), "a 1\nb 2\n")

    def test_only_the_newest_are_kept_where_there_may_be_many(self) -> None:
        known = StateFile(self.path, most=2)
        for name in "abca":
            known.set(name, name)
        self.assertEqual(self.path.read_text(), "c c\na a\n")

    def test_a_mark_at_the_start_of_the_file_is_not_part_of_a_name(self) -> None:
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"\xef\xbb\xbfa 1\n")
        self.assertEqual(self.known.get("a"), "1")


class SeveralClientsTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def test_values_set_by_twenty_clients_at_once_are_all_remembered(self) -> None:
        path = self.folder / "known"
        clients = []
        for number in range(20):
            client = subprocess.Popen(
                [sys.executable, "-c", REMEMBER, str(path), f"server{number}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            clients.append(client)
            self.addCleanup(client.stdout.close)
            self.addCleanup(client.wait)
            self.addCleanup(client.stdin.close)
        for client in clients:
            client.stdout.readline()
        for client in clients:
            client.stdin.write(b"go\n")
            client.stdin.flush()
        self.assertEqual([client.wait() for client in clients], [0] * 20)
        self.assertEqual(len(path.read_text().splitlines()), 100)
        self.assertEqual(list(self.folder.iterdir()), [path])

    def test_another_that_does_not_let_go_is_not_waited_for_for_ever(self) -> None:
        self.patch(client_state, "LOCKED_WITHIN", 0)
        with locked(self.folder), self.assertRaises(OSError), locked(self.folder):
            pass

    def test_a_file_system_without_locks_is_written_all_the_same(self) -> None:
        def flock(*_: object) -> None:
            raise OSError(9, "Bad file descriptor")

        self.patch(fcntl, "flock", flock)
        with locked(self.folder):
            replace(self.folder / "x", b"1")
        self.assertEqual((self.folder / "x").read_bytes(), b"1")
