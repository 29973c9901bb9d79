"""SIGHUP: what a running server takes over from the file of --config, and what it only tells."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from chat_twisted.core.errors import Unavailable
from chat_twisted.core.limits import Limits, Rate
from chat_twisted.doors.tls import ServerTLS, ensure
from chat_twisted.log_output import LogOutput, StandardFile
from chat_twisted.options import Options
from chat_twisted.reloading import Reloading
from tests.door import DoorTestCase
from tests.irc import IRCTestCase


class ReloadingTests(DoorTestCase):
    limits = Limits()

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.path = self.folder / "chat.toml"
        self.tls = ServerTLS(*ensure(self.folder))
        self.output = LogOutput(StandardFile(-1, {}), as_objects=False, level="info")
        self.start("max-clients = 100\n")

    def start(self, text: str) -> None:
        """Begin with a file, as after a start."""
        self.path.write_text(text)
        self.options = Options()
        self.options.parseOptions(["--config", str(self.path)])
        self.reloading = Reloading(
            self.options, self.folder, self.hub, [self.factory], self.tls, self.output
        )
        self.hub.change_options(self.options.decide)
        self.commit()

    def reload(self, text: str) -> list[str]:
        """Change the file, and reload; return what was logged."""
        self.path.write_text(text)
        del self.logged[:]
        self.reloading.take_over()
        self.commit()
        return self.logged

    def test_guests_can_be_refused_from_now_on(self) -> None:
        alice = self.user("alice")
        self.assertEqual(self.reload("guests = false\nmax-clients = 100\n"), ["--guests is now no"])
        self.assertIn(b"ERROR 106", self.connect().ask("REGISTER bob\n\n"))
        self.assertFalse(alice.closed)
        self.assertEqual(self.reload("max-clients = 100\n"), ["--guests is now yes"])
        self.assertIn(b"REGISTERED", self.connect().ask("REGISTER bob\n\n"))

    def test_limits_are_changed_for_sessions_that_exist(self) -> None:
        alice = self.user("alice")
        self.reload('messages = "1:1"\nmax-clients = 100\n')
        alice.ask("SEND ALL\nId: 1\nContent-length: 1\n\nx")
        self.assertIn(b"ERROR 109", alice.ask("SEND ALL\nId: 2\nContent-length: 1\n\nx"))
        self.reload("limits = false\nmax-clients = 100\n")
        self.assertIn(b"SENT", alice.ask("SEND ALL\nId: 3\nContent-length: 1\n\nx"))

    def test_limits_are_changed_for_addresses_and_new_sessions(self) -> None:
        self.connect()
        self.reload('logins = "1:1"\nmax-clients = 100\n')
        self.connect().ask("REGISTER alice\n\n")
        self.assertIn(b"ERROR 109", self.connect().ask("REGISTER bob\n\n"))
        self.assertEqual(self.limiter.limits.logins, Rate(1, 1))

    def test_the_limit_of_unread_output_is_changed(self) -> None:
        before = self.factory.streams.max_unread
        self.reload("unread = 16777216\nmax-clients = 100\n")
        self.assertEqual(self.factory.streams.max_unread - before, 8 << 20)
        self.assertEqual(self.factory.version_1.max_unread, 16 << 20)

    def test_the_message_of_the_day_is_read_again(self) -> None:
        (self.folder / "motd").write_text("one")
        self.start('motd = "motd"\n')
        (self.folder / "motd").write_text("two")
        self.assertEqual(self.reload('motd = "motd"\n'), [f"--motd is now {self.folder}/motd"])
        self.assertIn(b"\n\ntwo", self.connect().ask("REGISTER alice\nVersion: 2\n\n"))
        self.assertEqual(self.reload('motd = "motd"\n'), [])

    def test_the_level_of_the_log_is_changed(self) -> None:
        levels: list[str] = []
        self.patch(self.output, "set_level", levels.append)
        self.reload('log-level = "debug"\n')
        self.assertEqual(levels, ["debug"])

    def test_another_certificate_is_used_at_the_next_reload(self) -> None:
        other = self.folder / "other"
        other.mkdir()
        certificate, key = ensure(other)
        before = self.tls.fingerprint
        self.reload(f'certificate = "{certificate}"\nprivate-key = "{key}"\n')
        self.tls.reload()
        self.assertNotEqual(self.tls.fingerprint, before)
        self.reload("")
        self.tls.reload()
        self.assertEqual(self.tls.fingerprint, before)

    def test_what_needs_a_restart_is_told_and_stays_as_it_was(self) -> None:
        told = ["--max-clients has changed: that needs a restart"]
        self.assertEqual(self.reload("max-clients = 5\n"), told)
        self.assertEqual(self.reload("max-clients = 5\n"), told)  # as long as it is so
        self.assertEqual(self.hub.state.options.held, 100)
        self.assertEqual(self.reload("max-clients = 100\n"), [])

    def test_a_mistake_in_the_file_changes_nothing(self) -> None:
        logged = self.reload("guests = false\nbogus = 1\nidle = 0\n")
        self.assertEqual(
            logged,
            [
                f"the options stay as they were: {self.path}:2: bogus is not an option",
                f"the options stay as they were: {self.path}:3: idle is a whole number from 1 on, "
                "not '0'",
            ],
        )
        self.assertTrue(self.hub.state.options.guests)
        logged = self.reload('guests = false\nmotd = "nowhere"\n')
        self.assertEqual(len(logged), 1)
        self.assertIn("No such file", logged[0])
        self.assertTrue(self.hub.state.options.guests)

    def test_what_has_not_changed_here_is_not_proposed(self) -> None:
        """Another node of the cluster has changed it."""
        self.hub.change_options(self.options.decide._replace(guests=False, rooms=7))
        self.commit()
        self.reload("max-clients = 100\n")
        self.assertEqual(self.hub.state.options.rooms, 7)
        self.reload("max-clients = 100\nrooms = 8\n")
        self.assertEqual(self.hub.state.options.rooms, 8)
        self.assertFalse(self.hub.state.options.guests)

    def test_a_change_that_is_refused_is_proposed_again(self) -> None:
        propose = self.server.ledger.propose

        def refuse(*_: object) -> None:
            raise Unavailable("can't write")

        self.patch(self.server.ledger, "propose", refuse)
        logged = self.reload("guests = false\nmax-clients = 100\n")
        self.assertEqual(logged[-1], "the options stay as they were: can't write")
        self.patch(self.server.ledger, "propose", propose)
        self.reload("guests = false\nmax-clients = 100\n")
        self.assertFalse(self.hub.state.options.guests)


class IRCReloadingTests(IRCTestCase):
    def test_the_message_of_the_day_is_that_of_the_next_login(self) -> None:
        self.irc.set_motd("new text")
        nick = "alice"
        welcome = self.client().say(f"NICK {nick}", f"USER {nick} 0 * :{nick}")
        self.assertTrue(any("new text" in line for line in welcome), welcome)
