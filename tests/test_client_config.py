"""``config.toml``: valid settings, and the reports about invalid ones."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted.client import config
from chat_twisted.client.address import Host
from chat_twisted.client.config import Config, KnownServer
from chat_twisted.client.connection import PORT, Server
from chat_twisted.client.themes import THEMES
from chat_twisted.client.tls import parse_fingerprint

DIGITS = "ab" * 32
FINGERPRINT = parse_fingerprint(DIGITS)
BOTH = (Host("b", 1), Host("::1", PORT))


class ConfigTests(TestCase):
    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.path = folder / config.FILE

    def read(self, text: str) -> Config:
        self.path.write_text(text, encoding="utf-8")
        return config.read(self.path)

    def problems(self, text: str) -> list[str]:
        """The problems, without the file's name, which each must begin with."""
        found = self.read(text).problems
        for problem in found:
            self.assertTrue(problem.startswith(f"{self.path}:"), problem)
            self.assertNotIn("\n", problem)
        return [problem.removeprefix(f"{self.path}:") for problem in found]

    def test_without_a_file_and_with_an_empty_one_all_is_as_it_is_by_itself(self) -> None:
        default = Config(
            user="", keys="emacs", bell=True, notify="auto", colours={}, servers={}, problems=[]
        )
        self.assertEqual(config.read(self.path), default)
        self.assertEqual(self.read("# nothing\n"), default)

    def test_all_that_can_be_set(self) -> None:
        found = self.read(f"""
user = "alice"
keys = "vi"
bell = false
notify = "on"
history = 50
highlight = ["deploy", " on call "]
hide = ["joins"]
back = false
view = "current"
theme = "light"

[colours]
own = "bold #ff0000"
name-0 = ""

[servers.home]
host = "chat.example.org"
port = 9000
fingerprint = "{DIGITS}"
user = "al"
identity = "~/.ssh/id_ed25519"
rooms = ["#dev", "#a-b_c"]

[servers.near]
host = "::1"
plain = true
""")
        self.assertEqual(found.problems, [])
        self.assertEqual(
            (found.user, found.keys, found.bell, found.notify), ("alice", "vi", False, "on")
        )
        self.assertEqual(
            (found.history, found.highlight, found.hide, found.back, found.view, found.theme),
            (50, ("deploy", "on call"), ("joins",), False, "current", "light"),
        )
        self.assertEqual(found.colours, {"own": "bold #ff0000", "name-0": ""})
        self.assertEqual(
            found.servers,
            {
                "home": KnownServer(
                    Server("chat.example.org", 9000, FINGERPRINT),
                    "al",
                    "~/.ssh/id_ed25519",
                    ("#dev", "#a-b_c"),
                ),
                "near": KnownServer(Server("::1", PORT, None, True)),
            },
        )

    def test_every_style_of_the_screen_can_be_set(self) -> None:
        lines = "".join(f'{name} = "bold"\n' for name in THEMES["dark"])
        found = self.read(f"[colours]\n{lines}")
        self.assertEqual((found.problems, set(found.colours)), ([], set(THEMES["dark"])))

    def test_invalid_toml_is_reported_with_its_line_and_all_defaults_hold(self) -> None:
        for text, line in (
            ('user = "alice"\nbell = maybe\n', 2),
            ('user = "alice"\n\nuser = "bob"\n', 3),
            ('user = "alice"\n[colours', 2),
            ("user = \"'", 1),
        ):
            [problem] = self.problems(text)
            self.assertRegex(problem, rf"\A{line}: \w")
            self.assertNotIn(" line ", problem)
            self.assertEqual(config.read(self.path).user, "")

    def test_a_wrong_setting_is_reported_with_its_line_and_ignored(self) -> None:
        for text, problem in (
            ('\nusr = "x"', "2: usr is nothing that can be set here (user, keys, bell, notify, "),
            ("user = 1", "1: user is a text in quotes, not 1"),
            ('bell = "on"', "1: bell is true or false, not 'on'"),
            ("bell = 1", "1: bell is true or false, not 1"),
            ('keys = "nano"', '1: keys is "emacs" or "vi", not \'nano\''),
            ("notify = [1]", '1: notify is "auto" or "on" or "off", not [1]'),
            ("history = -1", "1: history: -1 is not a number from 0 to 1000"),
            ("history = true", "1: history: True is not a number from 0 to 1000"),
            ('highlight = "deploy"', '1: highlight: not a list of words like ["deploy"]'),
            ('highlight = [" "]', '1: highlight: not a list of words like ["deploy"]'),
            ('hide = ["topics"]', '1: hide: not a list of "joins"'),
            ("back = 1", "1: back is true or false, not 1"),
            ('view = "one"', '1: view is "all" or "current", not \'one\''),
            ('theme = "red"', '1: theme is "dark" or "light" or "auto", not \'red\''),
            ("servers = 5", "1: servers is a table, not 5"),
            ('servers.x = "y"', "1: x is a table, [servers.x]"),
            ("\n\n[colours]\nown = 5", "3: colours: own is not a colour"),
            ('[colours]\n"own;" = "red"', "1: colours: own; is not a colour"),
            ('[colours]\nown = "reddish"', "1: colours: own: Wrong color format 'reddish'"),
            ("colours = 5", "1: colours: not a table"),
        ):
            [found] = self.problems(text)
            self.assertIn(problem, found)
        found = self.read('user = 1\nkeys = "nano"\nbell = "on"\nnotify = true\n[colours]\nx=1')
        self.assertEqual(len(found.problems), 5)
        found.problems.clear()
        self.assertEqual(found, Config())
        found = self.read('user = 1\nbell = false\n[servers.near]\nhost = "::1"')
        self.assertEqual((found.bell, list(found.servers)), (False, ["near"]))

    def test_an_error_about_a_server_is_found_in_its_own_table(self) -> None:
        first = '[servers.a]\nhost = "a"\n[servers."b"]\nhost = "b"\n'
        for text, problem in (
            ("port = 0", "5: port: 0 is not a port"),
            ("port = 65536", "5: port: 65536 is not a port"),
            ("port = true", "5: port: True is not a port"),
            ('port = "1"', "5: port: '1' is not a port"),
            ('rooms = "#a"', '5: rooms: not a list of rooms like ["#dev"]'),
            ('rooms = ["dev"]', '5: rooms: not a list of rooms like ["#dev"]'),
            ('rooms = ["#dév"]', '5: rooms: not a list of rooms like ["#dev"]'),
            ("rooms = [1]", '5: rooms: not a list of rooms like ["#dev"]'),
            ("plain = 1", "5: plain is true or false, not 1"),
            ('  "adress"= 1', "5: adress is nothing that can be set here (host, port, "),
        ):
            [found] = self.problems(first + text)
            self.assertIn(problem, found)
            self.assertEqual(
                config.read(self.path).servers,
                {"a": KnownServer(Server("a")), "b": KnownServer(Server("b"))},
            )

    def test_a_server_without_a_host_is_not_there(self) -> None:
        found = self.read('[servers.a]\nport = 1\n[servers.b]\nhost = 1\n[servers.c]\nhost = "c"')
        self.assertEqual(list(found.servers), ["c"])
        self.assertEqual(
            [problem.removeprefix(f"{self.path}:") for problem in found.problems],
            ["1: a has no host", "4: host is a text in quotes, not 1", "3: b has no host"],
        )

    def test_a_host_is_written_as_it_can_be_typed(self) -> None:
        for host, known in (
            ("chat.example.org:9000", KnownServer(Server("chat.example.org", 9000))),
            ("[::1]", KnownServer(Server("::1"))),
            ("[::1]:9000", KnownServer(Server("::1", 9000))),
            ("fe80::1%eth0", KnownServer(Server("fe80::1%eth0"))),
            ("al@h:1", KnownServer(Server("h", 1), "al")),
        ):
            found = self.read(f'[servers.a]\nhost = "{host}"')
            self.assertEqual((found.servers, found.problems), ({"a": known}, []), host)
        for host in ("", "h:", "h:x", "[::1", "a:b:c"):
            found = self.read(f'[servers.a]\nhost = "{host}"')
            [problem] = found.problems
            self.assertTrue(problem.startswith(f"{self.path}:2: host: '"), problem)
            self.assertEqual(found.servers, {})

    def test_a_server_may_have_several_hosts(self) -> None:
        for text, server in (
            ('hosts = ["a", "b:1"]', Server("a", others=(Host("b", 1),))),
            ('host = "a:2"\nhosts = ["b:1", "::1"]', Server("a", 2, None, False, BOTH)),
            ('hosts = ["a:1", "b"]\nport = 3', Server("a", 1, others=(Host("b", 3),))),
        ):
            found = self.read(f"[servers.x]\n{text}")
            self.assertEqual(
                (found.servers, found.problems), ({"x": KnownServer(server)}, []), text
            )

    def test_a_wrong_list_of_hosts_is_reported(self) -> None:
        for wrong, said in (
            ('"a"', "hosts: not a list of hosts like"),
            ("[]", "hosts: not a list of hosts like"),
            ("[1]", "hosts: not a list of hosts like"),
            ('["a:x"]', "hosts: 'x' is not a port"),
            ('["bob@a"]', "hosts: 'bob@a' has a user; here is only a host"),
        ):
            [problem] = self.problems(f'[servers.x]\nhost = "h"\nhosts = {wrong}')
            self.assertTrue(problem.startswith(f"3: {said}"), problem)
            self.assertEqual(config.read(self.path).servers["x"], KnownServer(Server("h")))

    def test_a_part_that_a_host_has_already_is_not_given_twice(self) -> None:
        same = 'host = "al@h:1"\nport = 1\nuser = "AL"'
        self.assertEqual(self.problems(f"[servers.a]\n{same}"), [])
        problems = self.problems('[servers.a]\nhost = "al@h:1"\nport = 2\nuser = "bob"')
        self.assertEqual(
            problems,
            ["3: port: host has another one, 1", "4: user: host has another one, al"],
        )
        self.assertEqual(config.read(self.path).servers["a"], KnownServer(Server("h", 1), "al"))

    def test_a_mark_at_the_start_of_the_file_says_nothing(self) -> None:
        found = self.read('\ufeffuser = "alice"')
        self.assertEqual((found.user, found.problems), ("alice", []))

    def test_a_server_with_a_wrong_fingerprint_is_not_trusted_for_less(self) -> None:
        for wrong in ('"SHA256:x"', '""', "5", "[]", "true", f'"{DIGITS}0"'):
            found = self.read(f'[servers.a]\nhost = "a"\nfingerprint = {wrong}\nport = 1')
            self.assertEqual(found.servers, {})
            [problem] = found.problems
            self.assertRegex(problem, r":3: fingerprint: .* is not the fingerprint of a certif")

    def test_a_file_that_can_not_be_read_is_said(self) -> None:
        self.path.write_bytes(b'user = "\xff"')
        self.assertEqual(config.read(self.path).problems, [f"{self.path}:1: not UTF-8"])
        self.path.write_bytes(b'user = "a"\n\n# \xff\n')
        self.assertEqual(config.read(self.path).problems, [f"{self.path}:3: not UTF-8"])
        self.path.unlink()
        self.path.mkdir()
        self.assertEqual(config.read(self.path).problems, [f"{self.path}: Is a directory"])
