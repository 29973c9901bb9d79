"""The file of --config: the options of the command line; mistakes are told with their line."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.python.usage import UsageError
from twisted.scripts._twistd_unix import ServerOptions

from chat_twisted.config_file import ConfigError, read
from chat_twisted.core.limits import Rate
from chat_twisted.option_values import Number, OneOf, rate, show
from chat_twisted.options import Options
from chat_twisted.schema import OPTIONS
from tests.start import CommandTestCase

VALUES = {
    "listen": "tcp:8829",
    "cluster": "nats://h:4222",
    "node": "a",
    "cluster-monitor": "http://h:8222",
    "guests": "no",
    "messages": "7:70",
    "log-level": "error",
}


class ConfigFileTests(CommandTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.folder(), "chat.toml")

    def write(self, text: str) -> Path:
        self.path.write_text(text)
        return self.path

    def parse(self, *arguments: str) -> Options:
        options = Options()
        options.parseOptions(["--config", str(self.path), *arguments])
        return options

    def assertProblems(self, text: str, *problems: str) -> None:
        error = self.assertRaises(ConfigError, read, self.write(text))
        self.assertEqual(list(error.problems), [f"{self.path}:{problem}" for problem in problems])

    def test_every_option_means_the_same_as_on_the_command_line(self) -> None:
        for option in OPTIONS.values():
            if not option.in_file:
                continue
            match option.parse:
                case Number():
                    value, written = "7", "7"
                case OneOf(words):
                    value, written = words[-1], f'"{words[-1]}"'
                case _ if option.parse is rate:
                    value, written = "7:70", '"7:70"'
                case _:
                    value = VALUES.get(option.name, "/a/file")
                    written = f'"{value}"'
            found = read(self.write(f"{option.name} = {written}\n"))[option.name]
            expected = option.parse(value)
            self.assertEqual(found, (expected,) if option.many else expected, option.name)
            self.assertEqual(show(found), value)

    def test_what_the_command_line_says_comes_first(self) -> None:
        self.write('max-clients = 5\nlisten = ["tcp:1", "tcp6:1"]\nguests = "no"\nidle = 9\n')
        options = self.parse("--max-clients", "7", "--listen", "tcp:2", "--idle", "60")
        self.assertEqual((options["max-clients"], options["listen"]), (7, ("tcp:2",)))
        self.assertEqual((options["guests"], options["idle"]), ("no", 60))
        self.assertEqual(self.parse()["listen"], ("tcp:1", "tcp6:1"))

    def test_a_key_that_is_no_option_is_refused_with_its_line(self) -> None:
        self.assertProblems(
            'guests = true\n\nmax_clients = 5\nconfig = "x"\n[limits]\nmessages = "1:1"\n',
            "3: max_clients is not an option",
            "4: config is not an option",
            "5: limits is on|off, not {'messages': '1:1'}",
        )
        self.assertProblems("a.b = 1\n", "1: a is not an option")
        self.assertProblems("\n[[servers]]\n", "2: servers is not an option")

    def test_a_wrong_value_is_refused_with_its_line(self) -> None:
        self.assertProblems(
            'idle = 0\nguests = "x"\nmessages = 50\nmotd = ""\nmax-clients = "x"\nssh = 1\n'
            "plaintext = true\nlisten = []\nretain = true\nlog = 5\n",
            "1: idle is a whole number from 1 on, not '0'",
            "2: guests is yes or no, not 'x'",
            "3: messages is RATE, not 50",
            "4: motd is the path of a file, not ''",
            "5: max-clients is a whole number from 1 on, not 'x'",
            "6: ssh is yes|no, not 1",
            "7: plaintext is loopback|anywhere|nowhere, not True",
            "8: listen is a list of at least one value, not []",
            "9: retain is DAYS, not True",
            "10: log is FILE|-, not 5",
        )

    def test_what_is_not_toml_is_refused_with_its_line(self) -> None:
        self.assertProblems_prefixed("guests = true\nidle =\n", f"{self.path}:2: ")
        self.path.write_bytes(b"motd = 'a'\n# \xff\n")
        error = self.assertRaises(ConfigError, read, self.path)
        self.assertEqual(error.problems, (f"--config {self.path}:2: not UTF-8",))

    def assertProblems_prefixed(self, text: str, start: str) -> None:
        error = self.assertRaises(ConfigError, read, self.write(text))
        [problem] = error.problems
        self.assertTrue(problem.startswith(f"--config {start}"), problem)

    def test_every_mistake_is_a_line_on_standard_error(self) -> None:
        self.write("max_clients = 5\nidle = 0\n")
        exit = self.assertRaises(SystemExit, self.parse)
        self.assertEqual((exit.code, self.error.getvalue().count("\n")), (1, 2))

    def test_a_file_that_everybody_may_write_is_refused(self) -> None:
        self.write("").chmod(0o666)
        self.assertFails("other users may write it", self.parse)

    def test_a_file_that_is_not_there_is_refused(self) -> None:
        self.assertFails("No such file or directory", self.parse)

    def test_switches_may_be_true_and_false(self) -> None:
        found = read(self.write("guests = false\nirc-all = true\nlimits = false\n"))
        self.assertEqual(found, {"guests": "no", "irc-all": "yes", "limits": "off"})

    def test_paths_are_relative_to_the_folder_of_the_file(self) -> None:
        folder = self.path.parent
        (folder / "motd.txt").write_text("hello")
        found = read(self.write('motd = "motd.txt"\nstate = "/s"\nlog = "-"\naudit = "a"\n'))
        self.assertEqual((found["motd"], found["audit"]), (folder / "motd.txt", folder / "a"))
        self.assertEqual((str(found["state"]), str(found["log"])), ("/s", "-"))
        self.assertFails("is for a server in the foreground", self.parse_in_twistd, [])

    def test_the_servers_of_a_cluster_may_be_a_list(self) -> None:
        self.write(
            'cluster = ["nats://a", "tls://b:1"]\ncluster-monitor = ["http://a:1", "http://b"]'
        )
        found = read(self.path)
        self.assertEqual(found["cluster"], ("nats://a:4222", "tls://b:1"))
        self.assertEqual(found["cluster-monitor"], ("http://a:1", "http://b"))

    def test_reading_the_file_again_gives_what_has_changed(self) -> None:
        motd = self.path.parent / "motd"
        motd.write_text("one")
        self.write('motd = "motd"\nmessages = "5:50"\nidle = 9\n')
        options = self.parse("--idle", "60")
        motd.write_text("two")
        self.write('motd = "motd"\nmessages = "6:60"\nidle = 8\nguests = false\n')
        fresh, taken, pending = options.read_again()
        self.assertEqual((options.motd, fresh.motd), ("one", "two"))
        self.assertEqual(fresh.limits.messages, Rate(6, 60))
        names = [option.name for option in taken]
        self.assertEqual(names, ["guests", "messages", "motd"])  # the command line has idle
        self.assertEqual(pending, [])

    def test_an_option_that_can_not_change_keeps_its_value(self) -> None:
        self.write("max-clients = 5\nheld = 5\n")
        options = self.parse()
        self.write("max-clients = 6\nheld = 6\n")
        fresh, taken, pending = options.read_again()
        self.assertEqual([option.name for option in taken], ["held"])
        self.assertEqual([option.name for option in pending], ["max-clients"])
        self.assertEqual(fresh["max-clients"], 5)
        self.assertEqual((fresh.decide.held, fresh.decide.address_held), (5, 6))

    def test_reading_a_file_with_mistakes_again_raises(self) -> None:
        self.write("")
        options = self.parse()
        self.write("bogus = 1\n")
        self.assertRaises(ConfigError, options.read_again)
        self.write("certificate = 'x'\n")
        self.assertRaises(UsageError, options.read_again)
        self.write("motd = 'x'\n")
        self.assertRaises(UsageError, options.read_again)

    def parse_in_twistd(self, twistd: list[str], *arguments: str) -> Options:
        options, options_of_twistd = Options(), ServerOptions()
        for name in ("nodaemon", "logfile", "syslog"):
            for argument in twistd:
                if argument.startswith(f"--{name}"):
                    options_of_twistd[name] = argument.partition("=")[2] or True
        options.parent = options_of_twistd
        options.parseOptions(["--config", str(self.path), *arguments])
        return options

    def test_where_the_server_logs(self) -> None:
        self.write("")
        here = Path(os.getcwd())
        for twistd, arguments, path, stream in (
            ([], [], here / "twistd.log", None),
            (["--nodaemon"], [], None, 1),
            (["--logfile=a"], [], here / "a", None),
            (["--nodaemon", "--logfile=-"], [], None, 1),
            (["--syslog"], [], None, None),
            ([], ["--log", "b"], here / "b", None),
            (["--nodaemon"], ["--log", "-"], None, 2),
        ):
            options = self.parse_in_twistd(twistd, *arguments)
            self.assertEqual((options.log_path, options.log_stream), (path, stream))
            again = options.read_again().options
            self.assertEqual((again.log_path, again.log_stream), (path, stream))
        self.assertFails("names another log", self.parse_in_twistd, ["--logfile=a"], "--log", "b")
        for arguments in (("--log", "b"), ("--audit", "b"), ("--log-format", "json")):
            self.assertFails("has a log already", self.parse_in_twistd, ["--syslog"], *arguments)
