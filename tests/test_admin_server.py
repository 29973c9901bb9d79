"""The operator's command beside a running server, which is in memory: who, say, motd, retention."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import TestCase

from chat_twisted import admin, admin_actions, admin_status, reaching
from chat_twisted import control as control_module
from chat_twisted.reaching import Refused
from chat_twisted.storage import archive
from tests.test_control_socket import ControlTestCase


class ServerTestCase(ControlTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.asked = 0
        self.answers_before_interrupt: int | None = None
        for module in admin_actions, admin_status:
            self.patch(module, "reach", self.reach)

    @contextlib.contextmanager
    def reach(self, *_: object, **__: object) -> Iterator[Any]:
        yield self.answer, True

    def answer(self, ask: str, **fields: object) -> Any:
        if self.asked == self.answers_before_interrupt:
            raise KeyboardInterrupt
        self.asked += 1
        answer = self.ask(ask, **fields)
        if isinstance(answer, str):
            raise Refused(answer)
        return answer

    def run_command(self, *arguments: str, typed: str | None = None) -> tuple[int, str, str]:
        """Return the exit code, the output, and what it complains of.

        :param typed: what is typed at the terminal; None if there is none.
        """
        out, err, terminal = io.StringIO(), io.StringIO(), io.StringIO(typed)
        terminal.isatty = lambda: typed is not None  # type: ignore[method-assign]
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch("sys.stdin", terminal),
        ):
            code = admin.main([*arguments, "--state", str(self.folder)])
        return code, out.getvalue(), err.getvalue()


class TooLongTests(TestCase):
    def test_a_server_that_refuses_a_request_before_its_end_is_heard(self) -> None:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        theirs.sendall(b'{"refused": "the request is too long"}\n')
        theirs.close()
        server = reaching._Server(Path("state"), ours)
        with self.assertRaisesRegex(Refused, "the request is too long"):
            server.ask("set motd", text="x" * 1_000_000)


class OtherVersionTests(ServerTestCase):
    def test_a_server_that_says_less_is_one_line_and_exit_code_1(self) -> None:
        archive.prepare(self.folder)
        listed = {"items": [{"name": "alice", "operator": False, "account": True}], "more": False}
        for action, answer in (("status", {"version": "0.9"}), ("who", listed)):
            self.patch(self, "answer", lambda *_, answer=answer, **__: answer)
            code, out, err = self.run_command(action)
            self.assertEqual((code, out, err.count("\n")), (1, "", 1))
            self.assertIn("another version: restart it", err)


class WhoTests(ServerTestCase):
    def test_everybody_who_is_here_has_a_line(self) -> None:
        alice = self.user("alice")
        alice.ask("JOIN #tea\n\n")
        self.original("bob")
        with mock.patch("time.time", return_value=3725.0):
            code, out, err = self.run_command("who")
        self.assertEqual((code, err), (0, ""))
        when = ["1970-01-01T00:00:00Z", "1:02:05", "127.0.0.1"]
        self.assertEqual(
            [line.split() for line in out.splitlines()],
            [
                [*["alice?", "plain", "version", "2"], *when, "#tea"],
                [*["bob?", "plain", "version", "1"], *when],
            ],
        )

    def test_a_list_of_any_length_is_asked_for_page_by_page(self) -> None:
        self.patch(control_module, "PAGE", 2)
        for number in range(5):
            self.user(f"user{number}")
        _, out, _ = self.run_command("who", "--json")
        names = [json.loads(line)["name"] for line in out.splitlines()]
        self.assertEqual(names, [f"user{number}" for number in range(5)])
        self.assertEqual(self.asked, 3)


class SayTests(ServerTestCase):
    def test_everybody_is_told(self) -> None:
        alice = self.user("alice")
        self.assertEqual(self.run_command("say", "back at 18:00"), (0, "", ""))
        self.assertIn(b"back at 18:00", alice.transport.take())

    def test_what_can_not_be_said_is_one_line_and_exit_code_1(self) -> None:
        for text in ("", "two\nlines", "\x1b[2J", "x" * 401, "\udcff"):
            code, out, err = self.run_command("say", text)
            self.assertEqual((code, out, err.count("\n")), (1, "", 1), text)


class MotdTests(ServerTestCase):
    def test_it_is_set_from_a_text_or_a_file_and_removed(self) -> None:
        file = self.folder / "motd.txt"
        file.write_text("\ufeffBe kind.\nClosed on Sunday.\n")
        self.assertEqual(self.run_command("motd"), (0, "", ""))
        for arguments, shown in (
            (("Hello.",), "Hello.\n"),
            (("--file", str(file)), "Be kind.\nClosed on Sunday.\n"),
            (("--remove",), ""),
        ):
            code, out, err = self.run_command("motd", *arguments)
            self.assertEqual((code, err), (0, ""))
            self.assertIn("until the server ends or gets SIGHUP", out)
            self.assertEqual(self.run_command("motd"), (0, shown, ""))

    def test_what_can_not_be_one_changes_nothing(self) -> None:
        self.run_command("motd", "Hello.")
        for arguments, expected in (
            (("a", "--remove"), 1),
            (("x" * 10_001,), 1),
            (("--file", str(self.folder / "nowhere")), 2),
        ):
            code, out, err = self.run_command("motd", *arguments)
            self.assertEqual((code, out, err.count("\n")), (expected, "", 1))
        self.assertEqual(self.run_command("motd")[1], "Hello.\n")


class RetentionTests(ServerTestCase):
    def test_what_retain_does_not_keep_is_deleted_without_a_question(self) -> None:
        self.assertEqual(self.run_command("retention")[0], 1)
        self.server_side.retain = 86_400.0
        self.assertEqual(self.run_command("retention"), (0, "5 messages are deleted\n", ""))

    def test_an_age_of_ones_own_must_be_confirmed(self) -> None:
        for typed in None, "no\n", "\n":
            code, _, err = self.run_command("retention", "--older-than", "30d", typed=typed)
            self.assertEqual((code, err.count("\n")), (1, 1), typed)
        self.assertEqual(self.server_side.ages, [])
        code, out, _ = self.run_command("retention", "--older-than", "30d", typed="yes\n")
        self.assertEqual((code, out.endswith("5 messages are deleted\n")), (0, True), out)
        self.assertEqual(set(self.server_side.ages), {30 * 86_400})
        self.server_side.old = [0]
        code, out, _ = self.run_command("retention", "--older-than", "1h", "--yes")
        self.assertEqual((code, out), (0, "0 messages are deleted\n"))

    def test_no_age_that_is_too_short_or_none(self) -> None:
        for age in ("1m", "soon", "-5"):
            code, _, err = self.run_command("retention", f"--older-than={age}", "--yes")
            self.assertEqual((code, err.count("\n")), (1, 1), age)

    def test_an_interrupt_tells_how_many_are_deleted(self) -> None:
        self.answers_before_interrupt = 2
        code, out, _ = self.run_command("retention", "--older-than", "1h", "--yes")
        self.assertEqual((code, out.startswith("5 messages are deleted; inter")), (2, True))


class StoppedTests(ControlTestCase):
    def test_without_a_server_it_says_so(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        archive.prepare(folder)
        for arguments in (("say", "x"), ("motd",), ("retention", "--older-than=1h", "--yes")):
            err = io.StringIO()
            with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
                code = admin.main([*arguments, "--state", str(folder)])
            self.assertEqual(code, 1)
            self.assertIn("the server does not run", err.getvalue())
