"""The service that the options of twistd chatserver make."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from chat_twisted import listening, reactor_loop
from chat_twisted.auth.gate import Gate
from chat_twisted.core.limits import OFF, Limiter
from chat_twisted.doors.framed import FIRST_WORDS, FramedFactory
from chat_twisted.doors.front import Choice, FrontFactory
from chat_twisted.doors.tls import ServerTLS, ensure
from chat_twisted.files import ProcessFile
from chat_twisted.options import Options
from chat_twisted.service import ChatService, makeService
from chat_twisted.state_folder import Watcher
from chat_twisted.storage import archive
from chat_twisted.testing import MemoryServer
from tests.door import Client, DoorTestCase
from tests.start import CommandTestCase
from tests.store import InlineStore, quick_passwords
from tests.test_listening import Port


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

    def watch(self, watcher: Watcher) -> None:
        self.watcher = watcher

    def wind_down(self) -> None:
        self.ended.append("what nobody must wait for")

    async def stop_storage(self) -> None:
        self.ended.append("storage")

    def stop_as_failed(self) -> None:
        self.ended.append("failed")

    def make_service(
        self, *ports: Port, lock: ProcessFile | None = None, **more: Any
    ) -> ChatService:
        return ChatService(
            ports,
            self.factory,
            [self.framed],
            self.tls,
            None,
            self.control,
            self.watch,
            self.wind_down,
            self.stop_storage,
            self.stop_as_failed,
            lock or self.process_file("lock"),
            **more,
        )

    def log(self) -> list[str]:
        """Return a list that gets the lines of the log."""
        logged: list[str] = []

        def observe(event: Any) -> None:
            if str(event.get("log_namespace", "")).startswith("chat_twisted"):
                logged.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        return logged

    def accepts(self) -> bool:
        return self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5)) is not None

    def process_file(self, name: str) -> ProcessFile:
        file = ProcessFile(Path(self.folder(), name))
        self.addCleanup(file.close)
        return file

    def test_it_says_which_process_serves_and_stops_listening_at_the_end(self) -> None:
        ports = [Port(), Port()]
        lock, pidfile = self.process_file("lock"), self.process_file("pid")
        service = self.make_service(*ports, lock=lock, pidfile=pidfile)
        service.privilegedStartService()
        service.startService()
        for file in lock, pidfile:
            self.assertEqual(file.path.read_text(), f"{os.getpid()}\n")
        self.successResultOf(service.stopService())
        self.assertEqual([port.listening for port in ports], [False, False])
        self.assertEqual(self.ended, ["what nobody must wait for", "commands", "storage"])
        self.assertEqual((lock.path.read_text(), pidfile.path.exists()), ("", False))

    def test_metrics_are_served_while_it_runs(self) -> None:
        done: list[str] = []

        class Site:
            def start(self) -> None:
                done.append("started")

            def stop(self) -> Deferred[None]:
                done.append("stopped")
                return succeed(None)

        service = self.make_service(metrics=Site())
        self.assertEqual(done, [])
        service.startService()
        self.assertEqual(done, ["started"])
        self.successResultOf(service.stopService())
        self.assertEqual(done, ["started", "stopped"])

    def test_clients_are_accepted_while_the_storage_is_reachable(self) -> None:
        service, logged = self.make_service(Port()), self.log()
        self.assertFalse(self.accepts())
        service.startService()
        self.assertFalse(self.accepts())
        self.assertFalse([line for line in logged if "listening" in line])
        self.watcher.reachable()
        self.assertTrue(self.accepts())
        self.assertTrue([line for line in logged if "listening on" in line])
        client = Client(self.framed)
        self.watcher.unreachable("the log does not answer")
        self.assertFalse(self.accepts())
        self.assertTrue(client.closed)
        self.assertIn("accepting no connections: the log does not answer", logged)
        before = len(logged)
        self.watcher.reachable()
        self.assertTrue(self.accepts())
        self.assertEqual(logged[before:], ["accepting connections again"])

    def test_users_are_told_why_they_are_dropped(self) -> None:
        self.make_service().startService()
        self.watcher.reachable()
        alice = Client(self.framed)
        self.assertIn(b"REGISTERED", alice.ask("REGISTER alice\n\n"))
        self.watcher.unreachable("the log does not answer")
        self.assertEqual(
            alice.transport.take(), b"BYE The server can't serve now: the log does not answer\n\n"
        )

    def test_a_server_that_can_not_go_on_stops_and_says_so(self) -> None:
        self.make_service().startService()
        logged = self.log()
        self.watcher.broken("messages are missing in the log")
        self.assertEqual(logged, ["the server stops: messages are missing in the log"])
        self.assertEqual(self.ended, ["failed"])

    def test_what_the_storage_tells_a_server_that_stops_changes_nothing(self) -> None:
        service = self.make_service()
        service.startService()
        self.watcher.reachable()
        self.successResultOf(service.stopService())
        ended = list(self.ended)
        self.watcher.unreachable("the log does not answer")
        self.watcher.reachable()
        self.watcher.broken("messages are missing in the log")
        self.assertFalse(self.accepts())
        self.assertEqual(self.ended, ended)

    def make(self, *arguments: str) -> Service:
        self.patch(archive, "lock", self.keep(archive.lock))
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.patch(sys, "setswitchinterval", lambda seconds: None)
        self.addCleanup(reactor_loop.leave)
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

    def test_what_is_no_endpoint_is_refused_before_a_file_is_made(self) -> None:
        state = os.path.join(self.folder(), "state")
        self.assertFails("not an endpoint", self.make, "--state", state, "--listen", "foo")
        self.assertFalse(os.path.exists(state))

    def test_metrics_are_refused_before_a_file_is_made(self) -> None:
        state = os.path.join(self.folder(), "state")
        arguments = ("--state", state, "--metrics")
        self.assertFails("--metrics foo:interface=", self.make, *arguments, "foo:interface=")
        self.patch(listening, "find_spec", lambda name: None)
        self.assertFails("pip install 'chat_twisted[metrics]'", self.make, *arguments, "tcp:0")
        self.assertFalse(os.path.exists(state))

    def test_without_state_it_is_the_folder_of_the_xdg_specification(self) -> None:
        base = self.folder()
        self.patch(os, "environ", {**os.environ, "XDG_STATE_HOME": base})
        self.make()
        self.assertTrue(os.path.exists(os.path.join(base, "chat_twisted", "chat.sqlite")))

    def test_the_files_for_the_servers_of_a_cluster_must_be_there_and_secret(self) -> None:
        secret = Path(self.folder(), "secret")
        node = ("--state", self.folder(), "--cluster", "nats://h", "--node", "a")
        credentials = ("--cluster-credentials", str(secret))
        self.assertFails(f"{secret}: No such file", self.make, *node, *credentials)
        self.assertFails("/no: No such file", self.make, *node, "--cluster-ca", "/no")
        secret.touch(0o600)
        secret.chmod(0o644)
        self.assertFails("all users may read it", self.make, *node, *credentials)

    def test_two_servers_on_one_state_folder_are_one_line_and_exit_code_1(self) -> None:
        state = self.folder()
        self.make("--state", state)
        self.assertFails("another server uses it", self.make, "--state", state)

    def test_what_is_no_archive_is_one_line_and_exit_code_1(self) -> None:
        state = self.folder()
        with open(os.path.join(state, "chat.sqlite"), "w") as file:
            file.write("this is a letter to my aunt. " * 100)
        self.assertFails("chat.sqlite: file is not a database", self.make, "--state", state)


class EndTests(DoorTestCase):
    def test_guests_are_held_from_the_next_start_on_when_the_server_ends(self) -> None:
        """The grace does not run while there is no server."""
        bob = self.user("bob")
        self.hub.logins.stop()
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
        self.hub.logins.stop()
        bob.protocol.dataReceived(b"QUIT\n\n")
        self.commit()
        self.assertNotIn("bob", self.hub.state.names)
