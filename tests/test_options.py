"""The options of twistd chatserver, and its manual page."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from chat_twisted import __version__, manual
from chat_twisted.option_values import show
from chat_twisted.options import Options
from chat_twisted.schema import OPTIONS
from tests.start import CommandTestCase

DOCS = Path(__file__).resolve().parents[1] / "docs"
NODE = ["--cluster", "nats://h", "--node", "a"]
BAD_NODES = ["", "A", "a" * 33, "a.b", "a\n", "é"]
BAD_URLS = [
    "",
    "h:4222",
    "nats://",
    "http://h",
    "nats://h:99999",
    "nats://h/x",
    "nats://h?x",
    "nats://[::1",
    "nats://h,",
    "nats://user:secret@h",
]


class OptionsTests(CommandTestCase):
    def parse(self, *arguments: str) -> Options:
        options = Options()
        options.parseOptions(arguments)
        return options

    def test_defaults(self) -> None:
        options = self.parse()
        self.assertEqual(options["listen"], ("tcp:8828",))
        self.assertEqual(
            [options[name] for name in ("max-message", "max-clients", "idle")], [65536, 10000, 60]
        )

    def test_listen_may_be_given_several_times(self) -> None:
        options = self.parse("--listen", "tcp:1:interface=127.0.0.1", "-l", "tcp6:2")
        self.assertEqual(options["listen"], ("tcp:1:interface=127.0.0.1", "tcp6:2"))

    def test_a_wrong_command_line_is_one_line_and_exit_code_1(self) -> None:
        for arguments, text in (
            (["--bogus"], "--bogus"),
            (["--idle"], "--idle"),
            (["--idle", "x"], "--idle is a whole number from 1 on, not 'x'"),
            (["--idle", "0"], "--idle"),
            (["--max-message", "-1"], "--max-message"),
            (["--max-clients", "9" * 5000], "--max-clients"),
            (["8828"], "not an option: 8828"),
            (["--sync", "sometimes"], "--sync is normal or full, not 'sometimes'"),
            (["--grace", "-1"], "--grace is a whole number from 0 on"),
            (["--retain", "0"], "--retain is a whole number from 1 on"),
            (["--plaintext", "x"], "--plaintext is loopback, anywhere or nowhere, not 'x'"),
            (["--guests", "x"], "--guests is yes or no, not 'x'"),
            (["--messages", "50"], "--messages is PER_SECOND:BURST, like 50:500, not '50'"),
            (["--messages", "nan:5"], "--messages is PER_SECOND:BURST"),
            (["--logins", "0:1"], "--logins is PER_SECOND:BURST"),
            (["--node", "a"], "--node is for a node of a cluster (--cluster)"),
            (["--cluster-ca", "/x"], "--cluster-ca is for a node of a cluster"),
            (["--cluster-monitor", "http://h"], "--cluster-monitor is for a node of a cluster"),
            (["--cluster-monitor", "h:8222"], "--cluster-monitor is http://HOST:PORT"),
            (["--cluster-monitor", "http://[x"], "--cluster-monitor is http://HOST:PORT"),
            (["--cluster", "nats://h"], "--cluster needs the name of this node (--node)"),
            *((["--node", name], "--node is 1 to 32 of a-z, 0-9 and -") for name in BAD_NODES),
            *((["--cluster", urls], "--cluster is nats://HOST:PORT") for urls in BAD_URLS),
            (["--certificate", "x"], "--certificate and --private-key go together"),
            (["--motd", "/nowhere"], "--motd /nowhere: No such file or directory"),
        ):
            self.assertFails(text, self.parse, *arguments)

    def test_a_node_of_a_cluster(self) -> None:
        self.assertIsNone(self.parse().cluster)
        urls = "nats://h1:4223, tls://[::1]"
        files = ("--cluster-credentials", "/secret", "--cluster-ca", "/ca")
        options = self.parse("--cluster", urls, "--node", "a-1", *files)
        servers = ("nats://h1:4223", "tls://[::1]:4222")
        monitors = ("http://h1:8222", "http://[::1]:8222")
        self.assertEqual(options.cluster, (servers, "a-1", Path("/secret"), Path("/ca"), monitors))
        options = self.parse(*NODE, "--cluster-monitor", "http://m:1/, https://n")
        monitors = ("http://m:1", "https://n")
        self.assertEqual(options.cluster, (("nats://h:4222",), "a", None, None, monitors))

    def test_a_mark_at_the_start_of_the_message_of_the_day_is_not_part_of_it(self) -> None:
        path = Path(self.folder(), "motd")
        path.write_bytes(b"\xef\xbb\xbfhello")
        self.assertEqual(self.parse("--motd", str(path)).motd, "hello")

    def test_the_manual_page_tells_of_every_option(self) -> None:
        page = str(Options())
        words = " ".join(page.split())
        for option in OPTIONS.values():
            self.assertIn(f"--{option.name} {option.form}\n", page)
            if option.default is not None:
                self.assertIn(f"Default: {show(option.default)}.", words)
        for name in ("--check", "--help", "--version"):
            self.assertIn(f"    {name}\n", page)
        self.assertLessEqual(max(map(len, page.splitlines())), 100)

    def test_the_page_of_the_options_is_made_from_them(self) -> None:
        """``docs/make-options`` makes it."""
        self.assertEqual((DOCS / "options.rst").read_text(), manual.page())

    def test_version(self) -> None:
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        exit = self.assertRaises(SystemExit, self.parse, "--version")
        self.assertEqual((exit.code, out.getvalue()), (0, f"chat_twisted {__version__}\n"))
