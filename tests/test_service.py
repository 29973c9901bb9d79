"""The options of twistd chatserver, and the service that they make."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted import __version__
from chat_twisted.auth.gate import Gate
from chat_twisted.core.limits import OFF, Limiter, Rate
from chat_twisted.doors.framed import FIRST_WORDS, FramedFactory
from chat_twisted.doors.front import Choice, FrontFactory
from chat_twisted.doors.tls import ServerTLS, ensure
from chat_twisted.files import ProcessFile
from chat_twisted.service import ChatService, Options, listen, makeService, stop_when_told
from chat_twisted.storage import archive
from chat_twisted.testing import MemoryServer
from tests.door import DoorTestCase
from tests.store import InlineStore, quick_passwords


class CommandTestCase(TestCase):
    def setUp(self) -> None:
        self.error = io.StringIO()
        self.patch(sys, "__stderr__", self.error)

    def assertFails(self, text: str, function, *arguments) -> None:
        """One line on standard error, and exit code 1."""
        exit = self.assertRaises(SystemExit, function, *arguments)
        self.assertEqual(exit.code, 1)
        self.assertIn(text, self.error.getvalue())
        self.assertEqual(self.error.getvalue().count("\n"), 1)
        self.error.truncate(0)


class OptionsTests(CommandTestCase):
    def parse(self, *arguments: str) -> Options:
        options = Options()
        options.parseOptions(arguments)
        return options

    def test_defaults(self) -> None:
        options = self.parse()
        self.assertEqual([text for text, _ in options.endpoints], ["tcp:8828"])
        self.assertEqual(
            [options[name] for name in ("max-message", "max-clients", "idle")], [65536, 10000, 60]
        )

    def test_listen_may_be_given_several_times(self) -> None:
        options = self.parse("--listen", "tcp:1:interface=127.0.0.1", "-l", "tcp6:2")
        self.assertEqual(
            [text for text, _ in options.endpoints], ["tcp:1:interface=127.0.0.1", "tcp6:2"]
        )

    def test_a_wrong_command_line_is_one_line_and_exit_code_1(self) -> None:
        for arguments, text in (
            (["--bogus"], "--bogus"),
            (["--idle"], "--idle"),
            (["--idle", "x"], "--idle is a whole number from 1 on, not 'x'"),
            (["--idle", "0"], "--idle"),
            (["--max-message", "-1"], "--max-message"),
            (["--max-clients", "9" * 5000], "--max-clients"),
            (["--listen", "foo"], "--listen foo: not an endpoint"),
            (["--listen", "tcp:port"], "--listen tcp:port: not an endpoint"),
            (["--listen", ""], "not an endpoint"),
            (["8828"], "not an option: 8828"),
            (["--sync", "sometimes"], "--sync is normal or full, not 'sometimes'"),
            (["--grace", "-1"], "--grace is a whole number from 0 on"),
            (["--retain", "0"], "--retain is a whole number from 1 on"),
            (["--plaintext", "x"], "--plaintext is loopback, anywhere or nowhere, not 'x'"),
            (["--guests", "x"], "--guests is yes or no, not 'x'"),
            (["--messages", "50"], "--messages is PER_SECOND:BURST, like 50:500, not '50'"),
            (["--messages", "nan:5"], "--messages is PER_SECOND:BURST"),
            (["--logins", "0:1"], "--logins is PER_SECOND:BURST"),
            (["--certificate", "x"], "--certificate and --private-key go together"),
            (["--motd", "/nowhere"], "--motd /nowhere: No such file or directory"),
        ):
            self.assertFails(text, self.parse, *arguments)

    def test_a_mark_at_the_start_of_the_message_of_the_day_is_not_part_of_it(self) -> None:
        path = Path(tempfile.mkdtemp()) / "motd"
        self.addCleanup(shutil.rmtree, path.parent)
        path.write_bytes(b"\xef\xbb\xbfhello")
        self.assertEqual(self.parse("--motd", str(path)).motd, "hello")

    def test_the_manual_page_tells_of_every_option(self) -> None:
        page = str(Options())
        for parameter in Options.optParameters:
            self.assertIn(f"--{parameter[0]} ", page)
            if parameter[2] is not None:
                default = parameter[2]
                shown = ":".join(map(str, default)) if isinstance(default, Rate) else default
                self.assertIn(str(shown), page)
        for option in ("--listen ENDPOINT", "--help", "--version"):
            self.assertIn(option, page)
        self.assertLessEqual(max(map(len, page.splitlines())), 100)

    def test_version(self) -> None:
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        exit = self.assertRaises(SystemExit, self.parse, "--version")
        self.assertEqual((exit.code, out.getvalue()), (0, f"chat_twisted {__version__}\n"))


class Port:
    listening = True

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 8828)

    def stopListening(self) -> Deferred[None]:
        self.listening = False
        return succeed(None)


class Turns:
    taken = 0

    def iterate(self) -> None:
        self.taken += 1


class Endpoint:
    def __init__(self, result: object) -> None:
        self.result = result
        self.factories: list[object] = []

    def listen(self, factory: object) -> Deferred[object]:
        self.factories.append(factory)
        return fail(self.result) if isinstance(self.result, Exception) else succeed(self.result)


class ServiceTests(CommandTestCase):
    def setUp(self) -> None:
        super().setUp()
        clock = Clock()
        limiter = Limiter(OFF)
        hub = MemoryServer(InlineStore(clock), max_clients=9).hub
        self.tls = ServerTLS(*ensure(Path(self.folder())))
        framed = self.framed = FramedFactory(
            hub, Gate(lambda: hub.state, quick_passwords(), clock), clock
        )
        self.factory = FrontFactory([Choice(framed, FIRST_WORDS)], self.tls, clock, limiter)
        self.ended: list[str] = []
        self.control = self  # what stops is enough

    def stop(self) -> Deferred[None]:
        self.ended.append("commands")
        return succeed(None)

    def wind_down(self) -> None:
        self.ended.append("what nobody must wait for")

    async def stop_storage(self) -> None:
        self.ended.append("storage")

    def listen(self, *results: object) -> list[Port]:
        self.endpoints = [(f"endpoint {i}", Endpoint(r)) for i, r in enumerate(results)]
        self.reactor = Turns()
        return listen(self.endpoints, self.factory, self.reactor)

    def process_file(self, name: str) -> ProcessFile:
        file = ProcessFile(Path(self.folder(), name))
        self.addCleanup(file.close)
        return file

    def test_it_listens_on_each_endpoint_and_stops_listening_at_the_end(self) -> None:
        ports = self.listen(Port(), Port())
        lock, pidfile = self.process_file("lock"), self.process_file("pid")
        service = ChatService(
            ports,
            self.factory,
            self.framed,
            self.tls,
            self.control,
            self.wind_down,
            self.stop_storage,
            lock,
            pidfile,
        )
        service.privilegedStartService()
        service.startService()
        self.assertEqual([e.factories for _, e in self.endpoints], [[self.factory]] * 2)
        for file in lock, pidfile:
            self.assertEqual(file.path.read_text(), f"{os.getpid()}\n")
        self.successResultOf(service.stopService())
        self.assertEqual([port.listening for port in ports], [False, False])
        self.assertEqual(self.ended, ["what nobody must wait for", "commands", "storage"])
        self.assertEqual((lock.path.read_text(), pidfile.path.exists()), ("", False))

    def test_a_port_in_use_is_one_line_and_exit_code_1_and_leaves_no_other_open(self) -> None:
        problem = CannotListenError(None, 8828, OSError(98, "Address already in use"))
        port = Port()
        self.assertFails(
            "chatserver: can't listen on endpoint 1: Address already in use",
            self.listen,
            port,
            problem,
        )
        self.assertEqual((port.listening, self.reactor.taken), (False, 1))

    def folder(self) -> str:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def make(self, *arguments: str) -> Service:
        self.patch(archive, "lock", self.keep(archive.lock))
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.patch(sys, "setswitchinterval", lambda seconds: None)
        options = Options()
        options.parseOptions(["--listen", "tcp:0:interface=127.0.0.1", *arguments])
        service = makeService(options)
        self.addCleanup(service.stopService)
        return service

    def keep(self, lock):
        """Let go of the lock when the test is over, as the end of a process does."""

        def keeping(*arguments, patience: float = 0) -> ProcessFile:
            file = lock(*arguments)
            self.addCleanup(file.close)
            return file

        return keeping

    def test_the_options_make_a_service_on_a_state_folder_for_its_user_alone(self) -> None:
        state = os.path.join(self.folder(), "a", "b")
        service = self.make("--max-message", "100", "--max-clients", "1", "--state", state)
        self.assertIsInstance(service, ChatService)
        self.assertEqual(os.stat(state).st_mode & 0o777, 0o700)
        self.assertEqual(os.stat(os.path.join(state, "chat.sqlite")).st_mode & 0o777, 0o600)

    def test_without_state_it_is_the_folder_of_the_xdg_specification(self) -> None:
        base = self.folder()
        self.patch(os, "environ", {**os.environ, "XDG_STATE_HOME": base})
        self.make()
        self.assertTrue(os.path.exists(os.path.join(base, "chat_twisted", "chat.sqlite")))

    def test_two_servers_on_one_state_folder_are_one_line_and_exit_code_1(self) -> None:
        state = self.folder()
        self.make("--state", state)
        self.assertFails("another server uses it", self.make, "--state", state)

    def test_what_is_no_archive_is_one_line_and_exit_code_1(self) -> None:
        state = self.folder()
        with open(os.path.join(state, "chat.sqlite"), "w") as file:
            file.write("this is a letter to my aunt. " * 100)
        self.assertFails("chat.sqlite: file is not a database", self.make, "--state", state)


class SignalTests(TestCase):
    def test_the_first_signal_stops_the_reactor_and_the_next_do_nothing(self) -> None:
        told: list[int] = []

        class Reactor:
            sigInt = sigTerm = told.append

            @staticmethod
            def callFromThread(function, number: int) -> None:
                function(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        stop_when_told(Reactor)
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        self.assertEqual(told, [signal.SIGTERM])


class EndTests(DoorTestCase):
    def test_guests_are_held_from_the_next_start_on_when_the_server_ends(self) -> None:
        """The grace does not run while there is no server."""
        bob = self.user("bob")
        self.hub.stop()
        bob.gone()
        self.commit()
        self.assertEqual(len(self.hub.state.holds), 0)
        self.server.stop()
        self.clock.advance(self.grace + 1)
        state = MemoryServer(self.store, grace=self.grace).hub.state
        self.commit()
        hold = state.holds.get(state.names["bob"].id)
        assert hold is not None
        self.assertGreaterEqual(hold.until - state.time, self.grace * 1000)

    def test_a_guest_who_says_so_is_no_more_though_the_server_ends(self) -> None:
        bob = self.user("bob")
        self.hub.stop()
        bob.protocol.dataReceived(b"QUIT\n\n")
        self.commit()
        self.assertNotIn("bob", self.hub.state.names)
