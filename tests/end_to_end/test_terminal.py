"""The client on a terminal as people use it: a real server, and the screen as tmux sees it.

What stands on a screen can only be looked at again and again; ``Terminal.see`` does so until it is
there, or for ``PATIENCE`` seconds. The client may erase the prompt at any moment, and draw it a
little later, so a look has to be one at which the prompt is there: ``Terminal.all``.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.support import PATIENCE, Peer, ServerTestCase, environment, ids

COLUMNS, ROWS = 90, 24

LOOK_EVERY = 0.03  # seconds

COLOUR = re.compile(r"\x1b\[[0-9;]*\b(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")

TO_THE_END = """trap : INT; "$0" "$@"; echo $?"""  # for tmux does not always know the exit code

GOING_ON = """set -m; "$0" "$@"; echo stopped; fg > /dev/null; echo $?"""  # after Ctrl-Z

LIVING = "#{?pane_dead,,#{pane_pid}}"

DAY = r"── \w{3} \d\d \w{3} \d{4} ──"


def wait_until(is_so: Callable[[], object], what: Callable[[], str]) -> object:
    """Return the first true result of ``is_so``.

    It polls, because tmux reports no event when the contents of a pane change.
    """
    end = time.monotonic() + PATIENCE
    while not (found := is_so()):
        if time.monotonic() > end:
            raise AssertionError(what())
        time.sleep(LOOK_EVERY)
    return found


class Terminal:
    """A terminal of tmux, with a program in it. ``name`` is the session's; ``files`` is where
    its output and its exit code are, with a suffix for each.
    """

    def __init__(self, tmux: Callable[..., str], name: str, pane: str, files: Path) -> None:
        self.name = name
        self._tmux = tmux
        self._pane = pane
        self._files = files

    # What can be done

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-t", self._pane, "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Press keys that have names: Enter, Tab, C-c."""
        self._tmux("send-keys", "-t", self._pane, *keys)

    def say(self, line: str) -> None:
        self.type(line)
        self.press("Enter")

    def paste(self, text: str) -> None:
        self._tmux("set-buffer", "--", text)
        self._tmux("paste-buffer", "-p", "-d", "-t", self._pane)

    def resize(self, columns: int, rows: int = ROWS) -> None:
        self._tmux("resize-window", "-t", self._pane, "-x", str(columns), "-y", str(rows))

    def resize_at_once(self, columns: int) -> None:
        """Change the width, and wait until the program can see it: tmux takes its time."""
        self.resize(columns)
        tty = self._tmux("display-message", "-p", "-t", self._pane, "#{pane_tty}").strip()
        descriptor = os.open(tty, os.O_RDONLY | os.O_NOCTTY)
        try:
            wait_until(
                lambda: os.get_terminal_size(descriptor).columns == columns,
                lambda: f"not {columns} columns",
            )
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the terminal under the program."""
        self._tmux("kill-session", "-t", f"={self.name}")

    # What is seen

    def screen(self, *options: str) -> str:
        """What stands there; with ``-S -`` also what was scrolled out, with ``-e`` the colours."""
        lines = self._tmux("capture-pane", "-p", *options, "-t", self._pane).split("\n")
        return "\n".join(line.rstrip() for line in lines).rstrip("\n")

    def all(self, pattern: str = "") -> str:
        """What stands there and what was scrolled out, when ``pattern`` is among it."""
        return self.see(pattern, "-S", "-").string

    def see(self, pattern: str, *options: str) -> re.Match[str]:
        """Wait until ``pattern`` is on the screen; ^ and $ are the ends of a line. ``options`` are
        those of ``screen``.
        """
        search = re.compile(pattern, re.MULTILINE).search
        found = wait_until(
            lambda: search(self.screen(*options)),
            lambda: f"no {pattern!r} in\n{self.screen(*options)}",
        )
        assert isinstance(found, re.Match)
        return found

    def see_last(self, line: str) -> None:
        """Wait until ``line`` is the last on the screen: the prompt."""
        self.see(rf"^{re.escape(line)}\Z")

    def see_cursor(self, column: int) -> None:
        wait_until(
            lambda: self.tell("#{cursor_x}") == str(column),
            lambda: f"the cursor is at {self.tell('#{cursor_x}')}, not {column}:\n{self.screen()}",
        )

    def tell(self, what: str) -> str:
        return self._tmux("display-message", "-p", "-t", self._pane, what).rstrip("\n")

    def written(self) -> bytes:
        """All that the program has written."""
        return self._files.with_suffix(".written").read_bytes()

    def hear(self, text: str, bells: int) -> None:
        """Wait until ``text`` is written and the bell has rung so often, which may be a little
        after ``text`` is seen.
        """

        def heard() -> tuple[bool, int]:
            written = self.written()
            return text.encode() in written, written.count(b"\a")

        wait_until(lambda: heard() == (True, bells), lambda: f"{heard()} and not {bells}: {text}")

    def kill(self) -> None:
        """End the program as a crash does."""
        os.killpg(int(self.tell("#{pane_pid}")), signal.SIGKILL)
        wait_until(lambda: self.tell("#{pane_dead}") == "1", lambda: f"alive:\n{self.screen()}")

    def code(self) -> int:
        """Wait for the end; return the exit code."""
        code = self._files.with_suffix(".code")
        wait_until(lambda: code.exists() and code.read_text(), lambda: f"alive:\n{self.screen()}")
        return int(code.read_text())


class Friend(Peer):
    """A peer to talk with, faster than a client. It confirms messages only when it is told to."""

    def say(self, to: str, text: str) -> None:
        body = text.encode()
        head = f"SEND {to}\nId: {next(ids)}\nContent-length: {len(body)}\n\n"
        self.send(head.encode() + body)

    def request(self, request: str) -> None:
        self.send(f"{request}\n\n".encode())

    def hear(self) -> tuple[str, int]:
        """Wait for a message; return its text and number."""
        while True:
            start, headers, body = self.frame()
            if start.startswith("FORWARD "):
                return body.decode(), int(headers["message"])

    def confirm(self, sender: str, number: int) -> None:
        self.request(f"RECEIVED {sender}\nMessage: {number}")


class TerminalTestCase(ServerTestCase):
    def setUp(self) -> None:
        if shutil.which("tmux") is None:
            self.fail("tmux is not installed: these tests drive the client on a terminal of it")
        super().setUp()
        self._terminals: list[Terminal] = []
        self.addCleanup(self._close)

    def _close(self) -> None:
        for terminal in self._terminals:
            pid = self._look("display-message", "-p", "-t", terminal.name, LIVING)
            if pid.strip():  # it must not write into a folder that is being removed
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(int(pid), signal.SIGKILL)
        self._look("kill-server")

    def _look(self, *arguments: str) -> str:
        return self._run(*arguments).stdout

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        own = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        variables = {**environment(self.folder.name), **own}
        for name in ("TMUX", "NO_COLOR", "PROMPT_TOOLKIT_COLOR_DEPTH"):
            variables.pop(name, None)
        return subprocess.run(
            ["tmux", "-u", "-S", f"{self.folder.name}/tmux", "-f", "/dev/null", *arguments],
            capture_output=True,
            encoding="utf-8",
            env=variables,
            timeout=PATIENCE,
            check=False,
        )

    def tmux(self, *arguments: str) -> str:
        done = self._run(*arguments)
        if done.returncode:
            raise AssertionError(f"tmux {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def home(self, name: str) -> Path:
        """The client's folder of whom is called so."""
        return Path(self.folder.name) / "homes" / name / "chat_twisted"

    def terminal(
        self,
        name: str,
        *command: str,
        home: str = "",
        term: str = "screen-256color",
        ssh: bool = False,
        shell: str = TO_THE_END,
        **variables: str,
    ) -> Terminal:
        """Run the client on a new terminal. ``name`` is the terminal's; with ``ssh`` the client
        does not have the terminal's variables. ``shell`` runs the command.
        """
        client = (sys.executable, "-m", "chat_twisted.client", *command)
        variables["XDG_CONFIG_HOME"] = str(self.home(home or name).parent)
        return self.run_on_terminal(name, *client, term=term, ssh=ssh, shell=shell, **variables)

    def run_on_terminal(
        self,
        name: str,
        *command: str,
        term: str = "screen-256color",
        ssh: bool = False,
        shell: str = TO_THE_END,
        **variables: str,
    ) -> Terminal:
        """Run a command on a new terminal; see ``terminal``."""
        before = "unset TMUX TMUX_PANE TERM_PROGRAM; " if ssh else ""
        files = Path(self.folder.name) / f"terminal-{name}"
        files.with_suffix(".written").touch()
        settings = [f"-e{variable}={value}" for variable, value in variables.items()]
        pane = self.tmux(
            *("set-option", "-g", "default-terminal", term, ";"),
            *("set-option", "-g", "remain-on-exit", "on", ";"),
            *("set-option", "-g", "history-limit", "20000", ";"),
            *("set-option", "-gq", "scroll-on-clear", "off", ";"),
            *("new-session", "-d", "-P", "-F", "#{pane_id}", "-s", name, "-c", self.folder.name),
            *("-x", str(COLUMNS), "-y", str(ROWS), *settings),
            *("sh", "-c", f"{before}{shell} > '{files}.code'", *command, ";"),
            *("pipe-pane", "-t", name, f"cat >> '{files}.written'"),
        )
        terminal = Terminal(self.tmux, name, pane.strip(), files)
        self._terminals.append(terminal)
        return terminal

    def talk(
        self, user: str, *options: str, name: str = "", ssh: bool = False, **variables: str
    ) -> Terminal:
        """Somebody who has just come, on a terminal."""
        server = ("127.0.0.1", "--port", str(self.port), "--fingerprint", self.fingerprint)
        name = name or user
        terminal = self.terminal(name, user, *server, *options, home=user, ssh=ssh, **variables)
        terminal.see(rf"^· You are {user} on 127\.0\.0\.1:\d+\. Here: ")
        terminal.see(r"\bALL>\Z")
        return terminal

    def friend(self, name: str) -> Friend:
        friend = Friend(self.port)
        self.addCleanup(friend.close)
        friend.register(name)
        return friend


class FirstHelloTests(TerminalTestCase):
    def test_the_first_hello_on_an_empty_server_is_taken(self) -> None:
        alice = self.talk("alice")
        alice.say("hello")
        alice.see(r"^\d\d:\d\d \[ALL\] alice: hello$")
        alice.see_last("ALL>")


class LineTests(TerminalTestCase):
    """What is typed stands in its own line, whatever comes."""

    options = ("--limits", "off")

    def test_what_is_typed_stays_whole_while_messages_come_in(self) -> None:
        bob, alice = self.friend("bob"), self.talk("alice")
        typed, said = "", 0
        for number in range(10):
            for _ in range(20):
                said += 1
                bob.say(
                    "ALL", f"message {said}, which is so long that not all of it " + 6 * "fits "
                )
            alice.type(f"word{number} ")
            typed += f"word{number} "
        alice.see_last(f"ALL> {typed.rstrip()}")
        alice.see(rf"\] ~bob: message {said},")
        alice.see_last(f"ALL> {typed.rstrip()}")
        alice.see_cursor(len("ALL> ") + len(typed))
        shown = alice.all(rf"^ALL> {typed.rstrip()}\Z")
        self.assertEqual(
            re.findall(r"^\d\d:\d\d \[ALL\] ~bob: message (\d+), which", shown, re.MULTILINE),
            [str(number) for number in range(1, said + 1)],
        )
        # Nothing else is there but the end of each message, and the one line that is typed in.
        rest = re.sub(
            rf"^(?:\d\d:\d\d \[ALL\] ~bob: .*|        (?:fits ?)+|· .*|── new ──|{DAY})\n",
            "",
            shown,
            flags=re.MULTILINE,
        )
        self.assertEqual(rest, f"ALL> {typed.rstrip()}")
        alice.press("Enter")
        while (heard := bob.hear()[0]) != typed.strip():
            self.assertTrue(heard.startswith("message "), heard)

    def test_a_terminal_that_changes_its_width_keeps_the_line(self) -> None:
        bob, alice = self.friend("bob"), self.talk("alice")
        typed = "what is typed, and longer than thirty columns"
        alice.type(typed)
        alice.see_last(f"ALL> {typed}")
        for _ in range(2):
            alice.resize(30)
            alice.see(r"^ALL> what is typed, and longer\n {6}than thirty columns\Z")
            bob.say("ALL", "what is said is longer than thirty columns, too")
            alice.see(
                r"^\d\d:\d\d \[ALL\] ~bob: what is\n"
                r"        said is longer than\n"
                r"        thirty columns, too\n"
                r"ALL> what is typed, and longer\n {6}than thirty columns\Z"
            )
            alice.press("BSpace")
            alice.see(r"^ALL> what is typed, and longer\n {6}than thirty column\Z")
            alice.type("s")
            alice.see(r"^ALL> what is typed, and longer\n {6}than thirty columns\Z")
            alice.resize(COLUMNS)
            alice.see_last(f"ALL> {typed}")
            alice.see_cursor(len(f"ALL> {typed}"))
            bob.say("ALL", "wide again")
            alice.see(rf"bob: wide again\nALL> {typed}\Z")
        alice.press("Enter")
        alice.see(rf"\] alice: {typed}\nALL>\Z")
        # Nothing else is left of the line, nor is anything of what was said missing.
        shown = alice.all(r"^ALL>\Z")
        self.assertEqual(shown.count("ALL> what is typed"), 0, shown)
        self.assertEqual(shown.count("said is longer than"), 2, shown)
        self.assertEqual(shown.count("· You are alice"), 1, shown)

    def test_through_ssh_a_change_of_the_width_leaves_no_copy_of_the_line(self) -> None:
        bob, alice = self.friend("bob"), self.talk("alice", ssh=True)
        for number in range(30):
            bob.say("ALL", f"message {number}")
        alice.see("bob: message 29$")
        typed = "what is typed, and longer than thirty columns, and than forty"
        alice.type(typed)
        alice.see_last(f"ALL> {typed}")
        for columns in (60, 40, 25, 90, 33, COLUMNS):
            alice.resize(columns)
            rows = [typed[i : i + columns - 5] for i in range(0, len(typed), columns - 5)]
            prompt = re.escape("ALL> " + "\n     ".join(row.rstrip() for row in rows))
            alice.see(rf"^{prompt}\Z")
            bob.say("ALL", f"w{columns}")
            alice.see(rf"bob: w{columns}\n{prompt}\Z")
            shown = alice.all(rf"^{prompt}\Z")
            self.assertEqual(shown.count("ALL> what is typed"), 1, shown)
        alice.press("Enter")
        shown = alice.all(r"\] alice: what is typed,.*\nALL>\Z")
        self.assertNotIn("ALL> w", shown)
        for number in range(30):
            self.assertEqual(len(re.findall(rf"bob: message {number}$", shown, re.M)), 1, shown)

    def test_refused_messages_leave_no_copy_of_the_prompt_on_terminals_of_any_size(self) -> None:
        for columns, rows in ((90, 24), (40, 10), (60, 6)):
            alice = self.talk("alice", name=f"alice-{columns}")
            alice.resize(columns, rows)
            for number in range(7):
                alice.say(f"@n{number}: hello")
                alice.see(rf"^{number + 1} not sent\b[^>]*\nALL>\Z")
            alice.press("F8")
            alice.see(r"\A(?:(?!not sent)[^>])*^ALL>\Z")
            shown = alice.all(r"^ALL>\Z")
            self.assertEqual(shown.count("ALL>"), 1, shown)
            self.assertNotIn("not sent", shown)
            alice.press("C-d")
            self.assertEqual(alice.code(), 0)

    def test_a_long_address_is_one_for_the_terminal(self) -> None:
        bob, alice = self.friend("bob"), self.talk("alice")
        address = "https://example.org/" + "long/" * 40
        alice.resize_at_once(50)
        bob.say("ALL", f"see {address} there")
        alice.see("^ {8}there$")
        alice.see(rf"bob: see\n        {re.escape(address)}\n        there\nALL>", "-J")

    def test_page_up_reads_back_in_the_conversation_with_and_without_an_alternate_screen(
        self,
    ) -> None:
        bob = self.friend("bob")
        for number in range(250):
            bob.say("ALL", f"message {number}.")
        last = "the last"
        bob.say("ALL", last)
        for alternate in ("on", "off"):
            alice = self.talk("alice", name=f"alice-{alternate}")
            self.tmux("set-option", "-t", alice.name, "-w", "alternate-screen", alternate)
            alice.type("half a line")
            alice.see_last("ALL> half a line")
            alice.press("PPage")
            alice.see(rf"bob: {last}\n ALL Esc back, / search\Z")
            self.assertNotIn("half a line", alice.screen())
            wait_until(  # each time what is older is got
                lambda alice=alice: alice.press("Home") or "bob: message 0." in alice.screen(),
                alice.screen,
            )
            alice.see(r"bob: message 0\.$")
            alice.press("/")
            alice.say("message 1.")
            alice.press("End")
            alice.see(f"bob: {last}$")
            last = f"meanwhile {alternate}"
            bob.say("ALL", last)
            alice.press("Escape")
            alice.see(rf"bob: {last}\nALL> half a line\Z")
            self.assertNotIn("Esc back", alice.screen())
            alice.press("C-u", "C-d")
            self.assertEqual(alice.code(), 0)

    def test_wide_and_combined_characters_keep_the_line_straight(self) -> None:
        bob, alice = self.friend("bob"), self.talk("alice")
        strange = "e\u0301漢字😀ñ"
        width = 1 + 2 + 2 + 2 + 1
        alice.type(strange)
        alice.see_last(f"ALL> {strange}")
        alice.see_cursor(5 + width)
        bob.say("ALL", f"{strange} | {strange}")
        alice.see(rf"^\d\d:\d\d \[ALL\] ~bob: {strange} \| {strange}\nALL> {strange}\Z")
        alice.see_cursor(5 + width)
        alice.press("Left", "BSpace")
        alice.type("in")
        alice.see_last("ALL> e\u0301漢字inñ")
        alice.see_cursor(5 + 1 + 2 + 2 + 2)
        alice.press("C-e")
        alice.see_cursor(5 + width)
        alice.resize(30)
        bob.say("ALL", "漢字" * 10)  # broken by the client where it is full, not by the terminal
        alice.see(rf"^\d\d:\d\d \[ALL\] ~bob:\n        {'漢字' * 5}\n        {'漢字' * 5}\nALL> ")
        alice.press("Enter")
        alice.see(r"^\d\d:\d\d \[ALL\] alice: e\u0301漢字inñ\nALL>\Z")
        self.assertEqual([bob.hear()[0] for _ in range(1)], ["e\u0301漢字inñ"])

    def test_control_characters_of_others_do_not_reach_the_terminal(self) -> None:
        bob, alice = self.friend("bob"), self.talk("alice")
        evil = "\x1b[31mred\x1b]0;title\x07\x9b2Jclear\x08\x0c\u202eright"
        shown = "␛[31mred␛]0;title␇\ufffd2Jclear␈␌\ufffdright"
        bob.say("alice", evil)
        bob.say("ALL", f"one\r\n{evil}\rtwo")
        bob.say("ALL", "all is said")
        alice.see("bob: all is said")
        alice.see(rf"\[@bob\] ~bob: {re.escape(shown)}$")
        alice.see(rf"^\d\d:\d\d \[ALL\] ~bob:\n        one\n        {re.escape(shown)}␍two$")
        alice.say("/history @bob")
        alice.see("── now ──")
        written = alice.written()
        for harm in (
            b"\x1b[31mred",
            b"\x1b]0;",
            "\x9b".encode(),
            b"\x1b[2J",
            b"\x08",
            "\u202e".encode(),
        ):
            self.assertNotIn(harm, written)
        self.assertEqual(alice.tell("#{pane_title}"), self.tmux("display", "-p", "#{host}").strip())

    def test_what_is_pasted_is_one_message_and_a_long_one_is_asked_about(self) -> None:
        bob, alice = self.friend("bob"), self.talk("alice")
        alice.paste("one\n\ttwo\n\nfour\n")
        alice.see(r"^ALL> one\n")
        alice.press("Enter")
        self.assertEqual(bob.hear()[0], "one\n\ttwo\n\nfour")
        alice.see(r"^\d\d:\d\d \[ALL\] alice:\n {8}one\n +two\n\n {8}four\nALL>\Z")
        alice.paste("\n".join(f"line {number}" for number in range(20)))
        alice.press("Enter")
        self.assertEqual(bob.hear()[0].count("\n"), 19)
        long = "\n".join(f"line {number}" for number in range(21))
        for number, answer in enumerate(("n", "", "C-c", "y"), 1):
            alice.paste(long)
            alice.press("Enter")
            alice.see(r"^Send 21 lines to ALL\? \[y/N\]\Z")
            alice.press(*filter(None, (answer, "Enter" if answer != "C-c" else "")))
            if answer != "y":
                alice.see(rf"^(?:· Not sent\n){{{number}}}ALL>\Z")
        self.assertEqual(bob.hear()[0], long)
        alice.press("Up")  # the answers are not what was typed
        alice.see(r"line 19\n +line 20\Z")

    def test_what_is_pasted_while_messages_come_in_is_one_message(self) -> None:
        bob, alice = self.friend("bob"), self.talk("alice")
        pasted = [f"first {number}\nsecond {number}\nthird" for number in range(40)]
        for text in pasted:
            for _ in range(20):
                bob.say("ALL", "meanwhile")
            alice.paste(text)
            alice.press("Enter")
        self.assertEqual([bob.hear()[0] for _ in pasted], pasted)


class CompletionTests(TerminalTestCase):
    def test_tab_completes_names_rooms_and_commands_and_what_is_behind_them(self) -> None:
        bob, _, alice = self.friend("Bob"), self.friend("carol"), self.talk("alice")
        bob.request("JOIN #dev")
        bob.request("JOIN #design")
        alice.say("/rooms")
        alice.see("^#dev +1 member")
        (self.home("alice") / "key.pub").write_text("")
        for typed, completed in (
            ("@b", "@Bob:"),
            ("@ca", "@carol:"),
            ("@A", "@ALL:"),
            ("hello @c", "hello @carol"),
            ("see #dev", "see #dev"),
            ("#des", "#design:"),
            ("/jo", "/join"),
            ("/join #des", "/join #design"),
            ("/join #design p", "/join #design private"),
            ("/who #dev", "/who #dev"),
            ("/invite #dev c", "/invite #dev carol"),
            ("/ignore @b", "/ignore @Bob"),
            ("/history @c", "/history @carol"),
            ("/help ro", "/help rooms"),
            ("/bell of", "/bell off"),
            ("/keys ad", "/keys add"),
            (f"/keys add {self.home('alice')}/ke", f"/keys add {self.home('alice')}/key.pub"),
            ("/nonsense", "/nonsense"),
        ):
            alice.type(typed)
            alice.press("Tab")
            alice.see(rf"ALL> {re.escape(completed)[:70]}")
            alice.type("|")
            alice.see(rf"{re.escape(completed[-15:])} ?\|")
            alice.press("C-u")
            alice.see_last("ALL>")
        alice.type("/join #de")
        for key, completed in (("Tab", "#design"), ("Tab", "#dev"), ("BTab", "#design")):
            alice.press(key)
            alice.see(rf"^#design  #dev\nALL> /join {completed}\Z")
        alice.press("Enter")
        alice.see(r"^· alice joined #design\n")
        self.assertNotIn("#design  #dev", alice.all())


class TalkTests(TerminalTestCase):
    def test_what_became_of_a_message_is_seen(self) -> None:
        bob, alice = self.friend("bob"), self.talk("alice")
        alice.say("@bob: slow")
        alice.see(r"^\[@bob\] alice: slow \(sent\)\nALL>\Z")
        _, slow = bob.hear()
        alice.see(r"^\d\d:\d\d \[@bob\] alice: slow \(sent, not delivered yet\)\nALL>\Z")
        bob.confirm("alice", slow)
        alice.see(r"^· ✓ bob has it now: slow\nALL>\Z")
        alice.say("@bob")
        alice.see_last("@bob>")
        alice.say("quick")
        bob.confirm("alice", bob.hear()[1])
        alice.see(r"^\d\d:\d\d \[@bob\] alice: quick \(✓ delivered\)\n@bob>\Z")
        alice.say("@carol: too early")
        alice.say("@dave: dropped")
        alice.see(r"^2 not sent: /again, /drop, or edit with Up\n@bob>\Z")
        carol = self.friend("carol")
        alice.see("^· ~carol is here")
        alice.press("F5")
        text, number = carol.hear()
        carol.confirm("alice", number)
        self.assertEqual(text, "too early")
        alice.see(r"^\d\d:\d\d \[@carol\] alice: too early \(✓ delivered\)$")
        alice.see(r"^1 not sent: .*\n@bob>\Z")
        alice.press("F8")
        alice.see(r"too early \(✓ delivered\)\n@bob>\Z")

    def test_what_is_unread_is_counted_and_shown_where_one_turns_to_it(self) -> None:
        bob, alice = self.friend("bob"), self.talk("alice")
        alice.say("/join #dev")
        alice.see(r"^· In #dev: nobody else\n#dev>\Z")
        alice.say("/view current")
        bob.request("JOIN #dev")
        for number in (1, 2):
            bob.say("ALL", f"to all {number}")
            bob.say("#dev", f"to the room {number}")
        bob.say("alice", "to you")
        alice.see_last("[1:ALL 3:@bob!] #dev>")
        alice.say("/unread")
        alice.see(r"^· \[ALL\] 2 unread, the last ~?bob: to all 2$")
        alice.see(r"^· \[@bob\] 1 unread, the last ~?bob: to you$")
        alice.say("@ALL")
        alice.see(
            r"^── new ──\n"
            r"\d\d:\d\d \[ALL\] ~bob: to all 1\n"
            r"\d\d:\d\d \[ALL\] ~bob: to all 2\n"
            r"\[3:@bob!\] ALL>\Z"
        )
        alice.say("@bob")
        alice.see(r"^── new ──\n\d\d:\d\d \[@bob\] ~bob: to you\n@bob>\Z")
        alice.say("#dev")
        alice.see_last("#dev>")
        alice.say("@bob")
        alice.see_last("@bob>")
        self.assertEqual(alice.all().count("to you"), 2, "the list, and once where it was said")

    def test_the_bell_rings_for_what_is_for_oneself_and_not_when_it_is_off(self) -> None:
        bob, alice = self.friend("bob"), self.talk("alice")
        for text, bells in (("to all", 0), ("say, ALICE: are you there?", 1), ("malice", 1)):
            bob.say("ALL", text)
            alice.see(f"bob: {re.escape(text)}$")
            alice.hear(text, bells)
        bob.say("alice", "to you")
        alice.see("bob: to you$")
        alice.hear("to you", 2)
        self.assertEqual(alice.tell("#{window_bell_flag}"), "1")
        alice.say("/bell off")
        alice.see("^· bell: off")
        bob.say("alice", "quietly")
        bob.say("ALL", "after that")
        alice.see("bob: after that$")
        alice.hear("after that", 2)

    def test_conversations_are_told_apart_with_and_without_colours(self) -> None:
        # Both at once: the one sees what the other does.
        bob = self.friend("bob")
        with_, without = self.talk("alice"), self.talk("carol", NO_COLOR="1")
        for terminal in (with_, without):
            terminal.say("/join #dev")
            terminal.see_last("#dev>")
        bob.request("JOIN #dev")
        bob.say("ALL", "to everybody")
        bob.say("#dev", "to the room")
        for terminal, user in ((with_, "alice"), (without, "carol")):
            bob.say(user, "to you")
            terminal.say("@nobody: me")
            terminal.see(r"\[ALL\] ~bob: to everybody$")
            terminal.see(r"\[#dev\] ~bob: to the room$")
            terminal.see(r"\[@bob\] ~bob: to you$")
            terminal.see("^1 not sent:")
        self.assertRegex(with_.screen("-e"), COLOUR)
        self.assertNotRegex(without.screen("-e"), COLOUR)


class LossTests(TerminalTestCase):
    def test_a_server_that_is_killed_and_comes_back_costs_nothing(self) -> None:
        alice, bob = self.talk("alice"), self.talk("bob")
        alice.see("^· ~bob is here")
        alice.type("half a line")
        alice.see_last("ALL> half a line")
        self.kill()
        alice.see(
            r"^! Connection lost, trying again\. .*\n\(not connected.*\)\s+ALL> half a line\Z"
        )
        bob.say("@alice: said meanwhile")
        bob.see(r"^\[@alice\] bob: said meanwhile \(on its way\)\n\(not connected.*\)\s+ALL>\Z")
        self.start()
        dave = self.friend("dave")  # comes before those who wait a while between their tries
        dave.say("ALL", "a new one")
        alice.see(r"\[@bob\] ~bob: said meanwhile$")
        bob.see(r"^\d\d:\d\d \[@alice\] bob: said meanwhile \(✓ delivered\)$")
        alice.see(r"\] ALL> half a line\Z")
        alice.press("Enter")
        bob.see(r"\[ALL\] ~alice: half a line$")
        for terminal in (alice, bob):
            terminal.see(r"\[ALL\] ~dave: a new one$")
            shown = terminal.all()
            for once in (
                "! Connection lost",
                "· Connected again",
                "bob: said meanwhile",
                "dave: a new one",
                "alice: half a line",
            ):
                self.assertEqual(shown.count(once), 1, f"{once}:\n{shown}")
            self.assertNotIn("(not connected", shown)
        self.assertNoTraceback()

    def test_a_client_that_is_killed_comes_back_as_the_same_guest(self) -> None:
        bob, alice = self.friend("bob"), self.talk("alice")
        alice.say("before")
        self.assertEqual(bob.hear()[0], "before")
        alice.say("@bob")
        alice.see_last("@bob>")
        alice.kill()
        bob.say("alice", "while you were dead")
        other = self.client("alice")
        self.assertEqual(other.wait(), 2)
        [refused] = other.err
        self.assertRegex(refused, r"\AERROR 105 : Name in use until [-0-9T:.]+Z : alice\Z")
        server = ("127.0.0.1", "--port", str(self.port), "--fingerprint", self.fingerprint)
        again = self.terminal("again", "alice", *server, home="alice")
        again.see(
            rf"^── new ──\n(?:{DAY}\n)?\d\d:\d\d \[@bob\] ~bob: while you were dead\n@bob>\Z"
        )  # where alice was
        again.say("@ALL: after")  # and it is not taken for what was said before
        again.see(r"\[ALL\] alice: after$")
        bob.say("ALL", "end")
        self.assertEqual(bob.hear()[0], "after")

    def test_a_closed_terminal_leaves_the_name_free(self) -> None:
        alice = self.talk("alice")
        alice.type("half a line")
        alice.close()
        self.server.wait_for("alice went from .*: quit")
        other = self.client("alice")
        other.end_input()
        self.assertEqual((other.wait(), other.err), (0, []))


class EndTests(TerminalTestCase):
    def test_control_d_and_two_control_c_on_an_empty_line_leave(self) -> None:
        for key, code in (("C-c", 130), ("C-d", 0)):
            alice = self.talk("alice", name=f"with-{key}")
            alice.type("x")
            alice.press(key)  # what is typed is not left in a hurry
            if key == "C-d":
                alice.press("BSpace")
                alice.see_last("ALL>")
            else:
                alice.see(r"^Ctrl-C once more leaves\nALL>\Z")
                alice.see(r"^(?!Ctrl).*\nALL>\Z")  # a second later
                alice.press(key)
            alice.press(key)
            self.assertEqual(alice.code(), code)
            self.assertNotIn("ALL>", alice.screen())
            self.assertNotIn("Traceback", alice.all())

    def test_what_was_typed_is_found_again_and_no_password_is_kept(self) -> None:
        secret, other = "correct horse battery", "wrong donkey"
        _, alice = self.friend("bob"), self.talk("alice")
        alice.say("/register")
        alice.see("^· alice is yours from now on")
        for first, second, answer in (
            (secret, other, "! The two are not the same"),
            (secret, secret, "· The password is set"),
        ):
            alice.say("/password")
            alice.see_last("New password:")
            alice.type(first)
            alice.see(r"^New password: \*+\Z")
            alice.press("Enter")
            alice.see_last("Again:")
            alice.say(second)
            alice.see(rf"^{re.escape(answer)}\nALL>\Z")
        alice.say("remember the milk")
        alice.see(r"\[ALL\] alice: remember the milk$")
        alice.press("Up", "Up")
        alice.see_last("ALL> /password")
        alice.press("C-c")
        alice.see_last("ALL>")
        alice.press("C-d")
        self.assertEqual(alice.code(), 0)
        again = self.talk("alice", name="again")
        again.press("C-r")
        again.type("milk")
        again.see("remember the milk")
        again.press("Enter")
        again.see_last("ALL> remember the milk")
        again.press("Enter")
        again.see(r"\[ALL\] alice: remember the milk\nALL>\Z")
        home = self.home("alice")
        history = home / "input_history"
        self.assertEqual(history.stat().st_mode & 0o777, 0o600)
        self.assertIn("remember the milk", history.read_text())
        for path in [path for path in home.rglob("*") if path.is_file()]:
            self.assertNotIn(secret, path.read_text(), path)
        for terminal in (alice, again):
            self.assertNotIn(secret, terminal.all())
            for word in (*secret.split(), *other.split()):
                self.assertNotIn(word.encode(), terminal.written())

    def test_control_z_stops_the_client_and_it_goes_on_with_what_was_typed(self) -> None:
        server = ("127.0.0.1", "--port", str(self.port), "--fingerprint", self.fingerprint)
        alice = self.terminal("alice", "alice", *server, shell=GOING_ON)
        alice.see(r"\bALL>\Z")
        alice.type("half")
        alice.see_last("ALL> half")
        alice.press("C-z")
        alice.see(r"^stopped\nALL> half\Z")
        alice.say(" and all")
        alice.see(r"\[ALL\] alice: half and all\nALL>\Z")
        alice.press("C-d")
        self.assertEqual(alice.code(), 0)

    def test_a_line_is_finished_in_an_editor_and_one_that_is_open_holds_nobody_up(self) -> None:
        editor = Path(self.folder.name) / "editor"
        editor.write_text('#!/bin/sh\necho "edit $(cat $1)"; read it; printf "$it" > $1\n')
        editor.chmod(0o700)
        bob, alice = self.friend("bob"), self.talk("alice", EDITOR=str(editor))
        alice.type("half")
        alice.see_last("ALL> half")
        alice.press("C-x", "C-e")
        alice.see_last("edit half")
        bob.say("ALL", "meanwhile")
        alice.say("all of it")
        alice.see(r"\[ALL\] ~bob: meanwhile\nALL> all of it\Z")
        alice.press("C-x", "C-e")
        alice.see_last("edit all of it")
        # Ctrl-C is for the editor and for the client, which says goodbye at once.
        alice.press("C-c")
        self.server.wait_for("alice went from .*: quit")
        self.assertEqual(alice.code(), 130)
        self.assertNotIn("Traceback", alice.all())


class SettingTests(TerminalTestCase):
    def test_a_dumb_terminal_has_lines(self) -> None:
        server = ("127.0.0.1", "--port", str(self.port), "--fingerprint", self.fingerprint)
        alice = self.terminal("alice", "alice", *server, term="dumb")
        alice.see("^alice : REGISTERED")
        bob = self.friend("bob")
        alice.say("@bob: hello")
        text, number = bob.hear()
        bob.confirm("alice", number)
        self.assertEqual(text, "hello")
        alice.see("^Message delivered to bob")
        bob.say("alice", "hi")
        alice.see("^bob: hi")
        self.assertNotIn(b"\x1b", alice.written())
        alice.press("C-c")
        self.assertEqual(alice.code(), 130)

    def test_a_server_has_a_short_name_and_a_mistake_in_the_file_is_told_with_its_line(
        self,
    ) -> None:
        home = self.home("alice")
        home.mkdir(parents=True)
        config = home / "config.toml"
        config.write_text(
            f'keys = "vi"\nbell = "loud"\n\n[servers.work]\nhost = "127.0.0.1"\nuser = "alice"\n'
            f'port = {self.port}\nfingerprint = "{self.fingerprint}"\nrooms = ["#dev"]\n'
        )
        self.friend("bob")
        alice = self.terminal("alice", "work")
        alice.see(r"config\.toml:2: bell is true or false, not 'loud'$")
        alice.see(r"^· You are alice on 127\.0\.0\.1:\d+\.")
        alice.see("^· alice joined #dev$")
        alice.see_last("#dev>")
        alice.type("hello")
        alice.see_last("#dev> hello")
        alice.press("Escape")
        alice.see_cursor(len("#dev> hell"))
        alice.type("0xA world")
        alice.see_last("#dev> ello world")
        alice.press("Escape")
        alice.see_cursor(len("#dev> ello worl"))
        alice.type("bD")
        alice.see_last("#dev> ello")
        alice.press("Enter")
        alice.see(r"\[#dev\] alice: ello\n#dev>\Z")
        config.write_text("this is no\n toml = [\n")
        server = ("127.0.0.1", "--port", str(self.port), "--fingerprint", self.fingerprint)
        carol = self.terminal("carol", "carol", *server, home="alice")
        carol.see(r"config\.toml:1: ")
        carol.see_last("ALL>")
