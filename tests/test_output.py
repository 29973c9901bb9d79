"""Every path of foreign text to a terminal or a log: none of it acts there.

First, no path is forgotten: each function that writes is listed here, and uses
``chat_twisted.text``. Then every path is tried: a server in memory puts every kind of harmful
character into every text of its answers.
"""

from __future__ import annotations

import ast
import contextlib
import getpass
import io
import os
import re
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from twisted.internet.address import UNIXAddress
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from chat_twisted import accounts, admin, archive, options
from chat_twisted.client import ClientError, arguments, main
from chat_twisted.client.completion import CommandCompleter as Completer
from chat_twisted.client.identity import Identity, ask_at_the_terminal
from chat_twisted.doors import describe
from chat_twisted.frames import Frame, encode
from chat_twisted.logs import Logger
from chat_twisted.text import printable
from chat_twisted.ui.errors import IdentityError
from tests.hostile import FACES, BotFace, RecordsFace, TerminalFace, right, unasked
from tests.source import dotted, modules, statements
from tests.test_client_screen import ScreenTestCase, on_a_terminal

MARKS = (
    "\x1b]0;own\x07\x1b[2J\x08\x0b\x7f\x85\x9b1m\x9d\u200e\u200f\u061c\u2028\u2029\u202a\u202e"
    "\u2066\u2067\u2069\u200b\ufeff\u00ad\U000e0041\ue000\uffff\rx" + "\u0301" * 30
)
"""One character of each harmful kind that a frame can contain."""

WRITERS = {
    ("client.arguments", "parse"),
    ("client.main", "_tell"),
    ("client.identity", "ask_at_the_terminal"),
    ("client.pipe", "_show"),
    ("client.prompt", "render"),
    ("client.waiting_lines", "write"),
    ("client.screen", "notify"),
    ("options", "tell"),
    ("dependencies", "_end"),
    ("admin_actions", "complain"),
    ("admin_actions", "export"),
    ("admin_actions", "report"),
    ("admin_status", "status"),
    ("admin_status", "who"),
    ("doctor", "_show"),
    ("cluster_actions", "status"),
}
"""The functions that may write for people; all of them use ``text``."""

WITHOUT_FOREIGN_TEXT = {
    ("client.screen", "_is_drawn"),
    ("options", "opt_version"),
    ("admin_actions", "_ask_password"),
    ("accounts", "main"),
    ("archive", "main"),
}
"""Functions that may write for people without ``text``: they write nothing foreign."""

BY_WAY_OF = {"printable", "printable_lines", "escape_json", "wrap"}


def writes(call: ast.Call) -> bool:
    """Return whether a call writes for people."""
    name = dotted(call.func)
    return name in ("print", "print_formatted_text", "getpass.getpass", "warnings.warn") or (
        name.endswith((".write_raw", ".set_title"))
        or re.fullmatch(r"sys\.(__)?std(out|err)(__)?(\.buffer)?\.write(lines)?", name) is not None
        or name == "self.transport.write"
    )


class WriterTests(TestCase):
    def test_nothing_else_writes_and_all_of_it_is_made_printable(self) -> None:
        found = set()
        for module, source in modules().items():
            if module.startswith("doors") or module in (
                "client.session",
                "control_socket",
                "testing",
            ):
                continue  # it writes to the wire
            for function in ast.walk(ast.parse(source)):
                if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
                if not any(map(writes, calls)):
                    continue
                found.add((module, function.name))
                if (module, function.name) not in WITHOUT_FOREIGN_TEXT:
                    used = {ast.unparse(call.func) for call in calls}
                    used |= {ast.unparse(a) for call in calls for a in call.args}
                    self.assertTrue(used & BY_WAY_OF, (module, function.name))
        self.assertEqual(found, WRITERS | WITHOUT_FOREIGN_TEXT)

    def test_every_command_has_the_parser_that_complains_harmlessly(self) -> None:
        for module, source in modules().items():
            used = "ArgumentParser" in source and "argparse.ArgumentParser(" in ast.unparse(
                ast.parse(source)
            )
            self.assertTrue(module == "commandline" or not used, module)

    def test_everything_logs_by_the_logger_that_makes_it_printable(self) -> None:
        for module, source in modules().items():
            if "twisted.logger" not in source:
                continue
            for node in statements(ast.parse(source)):
                if isinstance(node, ast.ImportFrom) and node.module == "twisted.logger":
                    names = {alias.name for alias in node.names}
                    self.assertTrue(module == "logs" or "Logger" not in names, module)


class WalkTestCase(TestCase):
    def harmless(self, text: str, where: object) -> None:
        """Check that ``text`` is harmless except for its line ends."""
        for line in text.split("\n"):
            self.assertEqual(line, printable(line), where)


class ClientWalkTests(WalkTestCase):
    def test_nothing_that_a_server_says_acts_on_the_output_of_a_pipe_or_of_a_bot(
        self,
    ) -> None:
        greeting = right(Frame("REGISTER", "alice")) or b""
        for make in (face for face in FACES if face is not TerminalFace):
            said = greeting + b"".join(unasked(f"{MARKS}\n{MARKS}"))

            def script(request, said=said) -> bytes | None:
                return said if request.verb == "REGISTER" else right(request, MARKS)

            face = make(script)
            for thing in make.things:
                face.type(thing)
            face.leave()
            face.close()
            shown = "".join(face.output) + face.last
            self.harmless(shown, make)
            if make is not BotFace:
                self.assertIn("[2J", shown, "it was shown")
            if make is RecordsFace:
                self.assertTrue(shown.isascii())

    def test_no_refusal_acts_on_a_terminal_either(self) -> None:
        for make in (face for face in FACES if face is not TerminalFace):
            for refused in ("REGISTER", "SEND", "WHO", "JOIN", "HISTORY", "ACCOUNT", "BAN"):

                def script(request, refused=refused) -> bytes | None:
                    if request.verb != refused:
                        return right(request)
                    id = [] if request.id is None else [("Id", request.id)]
                    marks = MARKS.replace("\r", "")
                    return encode("ERROR", f"111 {marks}", [*id, ("Reason", marks)])

                face = make(script)
                for thing in make.things:
                    face.type(thing)
                face.leave()
                face.close()
                self.harmless("".join(face.output) + face.last, (make, refused))

    def test_what_a_bot_could_not_do_is_said_harmlessly(self) -> None:
        self.harmless(str(ClientError(f"{MARKS}\n{MARKS}")), "ClientError")


class TerminalWalkTests(WalkTestCase, ScreenTestCase):
    """On the real screen, with every answer that has a text."""

    environment = {"TERM": "foot", "PATH": os.environ.get("PATH", "")}

    def on_the_glass(self) -> None:
        """Check all output: except for the screen's own sequences, it is printable."""
        rest = re.sub(r"\x1b\](.*?)(?:\x07|\x1b\\)", "", self.glass.raw, flags=re.S)
        rest = re.sub(r"\x1b\[[?>0-9;]*[A-Za-z]", "", rest)
        self.harmless(re.sub(r"[\r\n\b\a]", "", rest), "on the glass")
        for told in self.glass.told:
            self.harmless(told, "told the desktop")
            self.assertNotIn("\t", told)

    async def answer_all(self, text: str) -> None:
        while asked := self.requests():  # an answer may lead to further requests
            for frame in asked:
                self.view.session.dataReceived(right(frame, text) or b"")

    @on_a_terminal
    async def test_nothing_that_a_server_says_acts_on_it(self) -> None:
        self.config.notify = "on"
        self.numbers = count(20)
        self.view.session.dataReceived(b"".join(unasked(f"{MARKS}\t\n{MARKS}")))
        for line in TerminalFace.things:
            if line != "/password":  # it asks a question
                self.view.take(line)
                await self.answer_all(MARKS)
        self.hear(MARKS, to="alice")
        self.view.take("/unread")
        self.view.take("@bob")
        self.view.take(f"@bob: {MARKS}")
        self.view.take(MARKS)
        self.view.disconnected(MARKS)
        self.view.tell(f"{MARKS}\n{MARKS}")
        self.view.take("/view all")  # one of the commands was /view
        self.hear("the end")
        await self.until(lambda: "the end" in self.glass.text)
        self.assertTrue(self.glass.told)
        self.on_the_glass()

    @on_a_terminal
    async def test_neither_does_what_is_refused_and_stays_beside_the_prompt(self) -> None:
        self.view.take(f"@bob: {MARKS}")
        for frame in self.requests():
            marks = MARKS.replace("\r", "")
            headers = [("Id", frame.id), ("Reason", marks)]
            self.view.session.dataReceived(encode("ERROR", f"999 {marks}", headers))
        await self.until(lambda: "not sent" in self.glass.text)
        self.on_the_glass()

    @on_a_terminal
    async def test_neither_does_a_question_or_what_is_pasted(self) -> None:
        answered = self.screen.ask(f"{MARKS}? ", secret=False)
        await self.until(lambda: "? " in self.glass.last)
        self.press("\r")
        await self.until(lambda: answered.called)
        self.press(f"\x1b[200~{MARKS}here\x1b[201~")
        await self.until(lambda: self.glass.text.rstrip().endswith("here"))
        self.on_the_glass()

    @on_a_terminal
    async def test_no_name_that_acts_on_it_is_offered(self) -> None:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        for name in ("a\x1b[2J", "a\u202e", "aplain"):
            (folder / name).touch()
        completer = Completer(lambda: self.view, files=True)
        for typed in ("@", "#", "/who #", "/invite #dev ", f"/keys add {folder}/a", "/", "hello @"):
            for completion in completer.completions(typed):
                self.harmless(completion, typed)
        names = completer.completions(f"/keys add {folder}/")
        self.assertEqual([Path(name).name for name in names], ["aplain"])


@contextlib.contextmanager
def standard_error() -> Iterator[io.StringIO]:
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        yield stream


class CommandWalkTests(WalkTestCase):
    """Standard error, with file names, arguments and contents of config files."""

    def test_the_client_says_harmlessly_what_is_wrong(self) -> None:
        with standard_error() as said:
            main._tell(f"{MARKS}\n{MARKS}")
        self.harmless(said.getvalue(), "_tell")
        self.assertIn("[2J", said.getvalue())

    def test_so_does_its_command_line(self) -> None:
        folder = tempfile.mkdtemp()
        self.patch(os, "environ", {"XDG_CONFIG_HOME": folder, "HOME": folder})
        for given in (
            [MARKS, "host"],
            ["alice", MARKS, MARKS],
            ["alice", "host", f"--{MARKS}"],
            ["alice", "host", "--port", MARKS],
            ["alice", "host", "--fingerprint", MARKS],
            ["alice", "host", "--tail", MARKS],
            ["alice", "host", "--wait", MARKS],
        ):
            with standard_error() as said, self.assertRaises(SystemExit):
                arguments.parse(given)
            self.harmless(said.getvalue(), given)

    def test_a_key_file_with_a_name_of_its_own_is_asked_about_harmlessly(self) -> None:
        asked: list[str] = []
        self.patch(getpass, "getpass", lambda what: asked.append(what) or "")
        ask_at_the_terminal(f"Passphrase of {MARKS}: ")
        self.harmless(asked[0], "getpass")
        with self.assertRaises(IdentityError):
            Identity(Path(f"/nowhere/{MARKS}"), own=False).unlock()

    def test_the_commands_of_the_server_say_harmlessly_what_is_wrong(self) -> None:
        folder = tempfile.mkdtemp()
        with standard_error() as said:
            key = ("--key", f"{folder}/{MARKS}")
            code = admin.main(["accounts", "add", "--state", folder, *key, MARKS])
        self.assertEqual(code, 2)
        self.harmless(said.getvalue(), "accounts")
        wrong = ([MARKS], ["list", MARKS], ["check", "a", MARKS], ["check", MARKS])
        more = tuple(["accounts", *given] for given in wrong)
        asked = (["ban", MARKS], ["kick", MARKS], ["accounts", "remove", MARKS])
        for run in (accounts.main, archive.main, admin.main):
            for given in (*wrong, *more, *asked):
                with standard_error() as said, contextlib.suppress(SystemExit):
                    run([*given, "--state", folder])
                self.harmless(said.getvalue(), given)
        stream = io.StringIO()
        self.patch(options.sys, "__stderr__", stream)
        with self.assertRaises(SystemExit):
            options.fail(f"can't listen on {MARKS}")
        self.harmless(stream.getvalue(), "service")


class LogWalkTests(WalkTestCase):
    log = Logger()

    def test_names_reasons_and_addresses_are_harmless_in_the_log(self) -> None:
        events: list[dict[str, object]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        peer = describe(UNIXAddress(f"/tmp/{MARKS}".encode()))
        self.log.info("{user} from {peer}: {why!r}", user=MARKS, peer=peer, why=f"a\n{MARKS}")
        (event,) = (e for e in events if e["log_namespace"] == f"{__name__}.LogWalkTests")
        shown = formatEvent(event)
        self.harmless(shown, "log")
        self.assertNotIn("\n", shown)
