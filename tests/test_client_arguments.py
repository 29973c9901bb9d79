"""The command line together with ``config.toml``."""

from __future__ import annotations

import contextlib
import io
import os
import pwd
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted import __version__
from chat_twisted.client import arguments
from chat_twisted.client.address import Host
from chat_twisted.client.arguments import Arguments, Mode
from chat_twisted.client.connection import PORT, Server
from chat_twisted.client.tls import parse_fingerprint

DIGITS = "ab" * 32
FINGERPRINT = parse_fingerprint(DIGITS)

CONFIG = f"""
user = "alice"

[servers.home]
host = "chat.example.org"
port = 9000
fingerprint = "{DIGITS}"
user = "al"
identity = "~/key"
rooms = ["#dev"]

[servers.near]
host = "127.0.0.1"
plain = true
"""


class ArgumentsTestCase(TestCase):
    terminals: tuple[int, ...] = ()

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.patch(
            os,
            "environ",
            {"XDG_CONFIG_HOME": str(self.folder), "HOME": "/home/al", "TERM": "xterm"},
        )
        self.patch(os, "isatty", lambda descriptor: descriptor in self.terminals)

    def configure(self, text: str = CONFIG) -> None:
        path = self.folder / "chat_twisted" / "config.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def parse(self, line: str, *more: str) -> Arguments:
        return arguments.parse([*line.split(), *more])

    def refused(self, line: str, *more: str) -> str:
        """The error message of a wrong command line."""
        said, nothing = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(nothing),
            self.assertRaises(SystemExit) as caught,
        ):
            self.parse(line, *more)
        self.assertEqual((caught.exception.code, nothing.getvalue()), (2, ""))
        return said.getvalue()


class NamesTests(ArgumentsTestCase):
    def test_user_and_host_are_enough(self) -> None:
        given = self.parse("alice chat.example.org")
        self.assertEqual((given.user, given.server), ("alice", Server("chat.example.org", PORT)))
        self.assertEqual((given.wait, given.rooms), (None, ()))
        self.assertEqual((given.identity, given.password_file), (None, None))
        self.assertEqual((given.once, given.tail), ("", ""))

    def test_a_server_of_the_config_is_named_by_its_short_name(self) -> None:
        self.configure()
        given = self.parse("home")
        self.assertEqual(given.user, "al")
        self.assertEqual(given.server, Server("chat.example.org", 9000, FINGERPRINT))
        self.assertEqual(given.identity, Path("/home/al/key"))
        self.assertEqual(given.rooms, ("#dev",))
        near = self.parse("near")
        self.assertEqual((near.user, near.server), ("alice", Server("127.0.0.1", plain=True)))

    def test_a_user_may_be_named_before_it(self) -> None:
        self.configure()
        given = self.parse("bob home")
        self.assertEqual((given.user, given.server.port, given.rooms), ("bob", 9000, ("#dev",)))

    def test_any_other_name_behind_a_user_is_a_host(self) -> None:
        self.configure()
        self.assertEqual(self.parse("bob HOME").server, Server("HOME"))

    def test_arguments_go_before_the_config(self) -> None:
        self.configure()
        other = parse_fingerprint("cd" * 32)
        given = self.parse(f"-p 1 --fingerprint {other} --identity k home")
        self.assertEqual(given.server, Server("chat.example.org", 1, other))
        self.assertEqual(given.identity, Path("k"))
        self.assertTrue(self.parse("--plain home").server.plain)
        self.assertIsNone(self.parse("bob example.org").identity)

    def test_a_host_is_accepted_as_people_type_it_and_as_the_client_prints_it(self) -> None:
        self.configure('user = "al"\n[servers.home]\nhost = "h:9000"\nuser = "bob"')
        for line, user, server in (
            ("alice h", "alice", Server("h")),
            ("alice h:1", "alice", Server("h", 1)),
            ("alice 192.0.2.1:1", "alice", Server("192.0.2.1", 1)),
            ("alice ::1", "alice", Server("::1")),
            ("alice [::1]", "alice", Server("::1")),
            ("alice [::1]:1", "alice", Server("::1", 1)),
            ("alice [fe80::1%eth0]:1", "alice", Server("fe80::1%eth0", 1)),
            ("alice@h", "alice", Server("h")),
            ("alice@[::1]:1", "alice", Server("::1", 1)),
            ("h:1", "al", Server("h", 1)),
            ("chat.example.org", "al", Server("chat.example.org")),
            ("home", "bob", Server("h", 9000)),
            ("alice@home", "alice", Server("h", 9000)),
            ("home:1", "bob", Server("h", 1)),
            ("alice home:1", "alice", Server("h", 1)),
            ("alice Alice@h:1 --port 1", "Alice", Server("h", 1)),
            ("alice home -p 2", "alice", Server("h", 2)),
        ):
            given = self.parse(line)
            self.assertEqual((given.user, given.server), (user, server), line)

    def test_a_chat_may_have_several_hosts(self) -> None:
        for line, server in (
            ("alice a --host b --host c:1", Server("a", others=(Host("b", 8828), Host("c", 1)))),
            ("alice a:1 --host b -p 2", Server("a", 1, others=(Host("b", 2),))),
            ("alice a:1 --host [::1]", Server("a", 1, others=(Host("::1", 8828),))),
            (
                "alice a -p 1 --host b --host c:2",
                Server("a", 1, others=(Host("b", 1), Host("c", 2))),
            ),
            ("alice --host a --host b", Server("a", others=(Host("b", 8828),))),
            ("--host a:1 alice", Server("a", 1)),
        ):
            given = self.parse(line)
            self.assertEqual((given.user, given.server), ("alice", server), line)

    def test_a_server_of_the_config_may_have_several_hosts(self) -> None:
        self.configure('user = "al"\n[servers.work]\nhosts = ["a", "b:1"]\nport = 2\nplain = true')
        for line, server in (
            ("work", Server("a", 2, None, True, (Host("b", 1),))),
            ("work --host c", Server("a", 2, None, True, (Host("b", 1), Host("c", 8828)))),
            ("work -p 3 --host c", Server("a", 3, None, True, (Host("b", 3), Host("c", 3)))),
            ("work:3", Server("a", 3, None, True, (Host("b", 3),))),
        ):
            given = self.parse(line)
            self.assertEqual((given.user, given.server), ("al", server), line)

    def test_contradicting_arguments_are_refused(self) -> None:
        for line, said in (
            ("alice bob@h", "the user is given twice: alice, and bob in bob@h"),
            ("alice h:1 -p 2", "the port is given twice: 2, and 1 in h:1"),
            ("alice h:x", "'x' is not a port"),
            ("alice h:", "'' is not a port"),
            ("alice @h", "'@h' has no user before the @"),
            ("alice bob@", "'bob@' has no host"),
            ("alice [h]:1", "'h' is no IP address of version 6"),
            ("alice [::1]x", "'[::1]x' is no address"),
            ("alice 1:2:3", "'1:2:3' is no IP address of version 6"),
            (f"alice h --plain --fingerprint {FINGERPRINT}", "--fingerprint is of a certificate"),
            (
                "alice h --certificate x --tail ALL",
                "argument --tail: not allowed with argument --c",
            ),
            ("alice h --tail ALL --once /who", "argument --once: not allowed with argument --t"),
        ):
            self.assertIn(said, self.refused(line))

    def test_one_name_that_is_no_server_is_not_guessed_at(self) -> None:
        self.configure()
        said = self.refused("alice")
        self.assertIn("alice is no server in config.toml; else both USER and HOST", said)

    def test_the_help_fits_a_narrow_terminal(self) -> None:
        self.patch(os, "environ", {**os.environ, "COLUMNS": "40"})
        _, _, rest = arguments.parser().format_help().partition("\n\n")
        self.assertIn("  1    a message was refused or not\n       answered,", rest)
        for line in rest.splitlines():
            self.assertLess(len(line), 40)

    def test_somebody_must_be_named(self) -> None:
        self.configure('[servers.home]\nhost = "x"')
        self.assertIn("who are you? Give USER, or set user in config.toml", self.refused("home"))
        self.assertIn("required: NAME", self.refused(""))
        self.assertIn("too many names: a b c", self.refused("a b c"))

    def test_a_name_that_nobody_can_have_is_refused_in_the_words_of_the_original(self) -> None:
        for name in ("b@d", "ALL", "x" * 33):
            said = self.refused(f"{name} example.org")
            self.assertEqual(said, f"ERROR 100 : Malformed Username : {name!r}\n")

    def test_errors_of_the_config_are_reported_first_with_any_arguments(self) -> None:
        problem = f"{self.folder}/chat_twisted/config.toml:2: bell is true or false, not 5\n"
        self.configure('user = "al"\nbell = 5')
        for line in ("alice host", "host:1", "", "--nothing", "a b c", "b@d host", "--version"):
            said = io.StringIO()
            with contextlib.redirect_stderr(said), contextlib.suppress(SystemExit):
                self.parse(line)
            self.assertTrue(said.getvalue().startswith(problem), said.getvalue())
            self.assertEqual(said.getvalue().count("config.toml:2"), 1)

    def test_a_config_that_can_not_be_read_hides_no_server_in_silence(self) -> None:
        self.configure(f"{CONFIG}\n[servers.x")
        said = self.refused("home")
        self.assertIn("config.toml:16: ", said.split("\n")[0])
        self.assertIn("home is no server in config.toml", said)

    def test_without_a_home_folder_the_error_tells_how_to_name_a_folder(self) -> None:
        def nobody(_: int) -> None:
            raise KeyError

        self.patch(pwd, "getpwuid", nobody)
        del os.environ["XDG_CONFIG_HOME"], os.environ["HOME"]
        said = self.refused("alice host")
        self.assertIn("has no home folder: name a folder by XDG_CONFIG_HOME\n", said)
        self.assertEqual(said.count("\n"), 1)

    def test_a_server_whose_fingerprint_is_wrong_is_not_connected_to(self) -> None:
        self.configure('user = "alice"\n[servers.home]\nhost = "x"\nfingerprint = "SHA256:y"')
        self.assertIn("home is no server in config.toml", self.refused("home"))


class OptionsTests(ArgumentsTestCase):
    def test_each_is_read(self) -> None:
        given = self.parse("--json --wait 0 --password-file p --tail #dev alice host")
        self.assertEqual((given.wait, given.password_file, given.tail), (0, Path("p"), "#dev"))
        self.assertEqual(self.parse("alice host --once", "@bob: hi").once, "@bob: hi")
        for text, tail in (("@bob", "bob"), ("@all", "ALL"), ("all", "ALL"), ("#Dev", "#Dev")):
            self.assertEqual(self.parse(f"alice host --tail {text}").tail, tail)

    def test_a_wrong_value_is_reported_with_its_option(self) -> None:
        for line, said in (
            ("--port 0", "argument -p/--port: '0' is not a port"),
            ("--port 65536", "argument -p/--port: '65536' is not a port"),
            ("--port x", "argument -p/--port: 'x' is not a port"),
            ("--port ٣", "argument -p/--port: '٣' is not a port"),
            ("--port -1", "argument -p/--port: "),
            ("--host h:x", "argument --host: 'x' is not a port"),
            ("--host bob@h", "argument --host: 'bob@h' has a user; here is only a host"),
            ("--wait 1.5", "argument --wait: '1.5' is not a number of seconds"),
            ("--wait 9999999999", "argument --wait: '9999999999' is not a number"),
            ("--tail b@d", "argument --tail: 'b@d' is no #room, @user or @ALL"),
            ("--tail #", "argument --tail: '#' is no #room, @user or @ALL"),
            ("--fingerprint x", "argument --fingerprint: 'x' is not the fingerprint"),
            ("--nothing", "unrecognized arguments: --nothing"),
        ):
            self.assertIn(said, self.refused(f"alice host {line}"))

    def test_once_is_one_thing_that_can_be_done(self) -> None:
        for text, said in (
            ("", "argument --once: there is nothing to send"),
            ("  ", "argument --once: there is nothing to send"),
            ("\udcff", "argument --once: not UTF-8"),
            ("hello", "--once: Use the following format for sending messages:"),
            ("/jion #dev", "--once: No such command: /jion"),
            ("/join", "--once: Usage: /join #room [private]"),
            ("/unread", "--once: /unread is for a terminal"),
            ("/ignore bob", "--once: /ignore is for what is read and shown later"),
        ):
            self.assertIn(said, self.refused("alice host --once", text))
        self.assertIn("not JSON", self.refused("alice host --json --once", "{"))
        for text in ('{"to": "bob", "text": "x"}', "@bob: x", "/who"):
            self.assertEqual(self.parse("alice host --json --once", text).once, text)

    def test_help_and_version_are_on_standard_output(self) -> None:
        for option, said in (("--version", __version__), ("--help", "config.toml")):
            out = io.StringIO()
            with contextlib.redirect_stdout(out), self.assertRaises(SystemExit) as caught:
                self.parse(option)
            self.assertIn(caught.exception.code, (0, None))
            self.assertIn(said, out.getvalue())
        for line in out.getvalue().split("\n"):
            self.assertLessEqual(len(line), 100)


class ModeTests(ArgumentsTestCase):
    def mode(self, *terminals: int, options: str = "") -> Mode:
        self.terminals = terminals
        return self.parse(f"alice host {options}").mode

    def test_a_screen_needs_a_terminal_on_both_sides(self) -> None:
        for terminals, mode in (
            ((0, 1, 2), Mode.SCREEN),
            ((0, 1), Mode.SCREEN),
            ((0, 2), Mode.PIPE),
            ((1, 2), Mode.PIPE),
            ((), Mode.PIPE),
        ):
            self.assertIs(self.mode(*terminals), mode)

    def test_a_terminal_that_can_do_nothing_is_as_a_pipe(self) -> None:
        os.environ["TERM"] = "dumb"
        self.assertIs(self.mode(0, 1), Mode.PIPE)
        del os.environ["TERM"]
        self.assertIs(self.mode(0, 1), Mode.PIPE)

    def test_options_for_scripts_need_no_screen(self) -> None:
        for options, mode in (
            ("--json", Mode.JSON),
            ("--once /who", Mode.PIPE),
            ("--tail ALL", Mode.PIPE),
            ("--json --once /who", Mode.JSON),
        ):
            self.assertIs(self.mode(0, 1, options=options), mode)
