"""What the service manager is told, and when."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.service_manager import LONGEST_STOP, REPORT_EVERY, ServiceManager

MORE_TIME = "EXTEND_TIMEOUT_USEC=30000000"


class ServiceManagerTests(TestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.path = Path(self.mktemp()).absolute()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.state = "3 users"

    def hear(self, address: str | None = None) -> str:
        """Listen as a service manager does; return the value of the variable."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.addCleanup(self.socket.close)
        if address is not None:
            self.socket.bind(f"\0{address}")
            return f"@{address}"
        # A Unix socket's path is short.
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, folder)
        short = f"/proc/self/fd/{folder}/{self.path.name}"
        self.socket.bind(short)
        return short

    def heard(self) -> list[list[str]]:
        """Return the datagrams that have come since the last call, as lines."""
        datagrams = []
        while True:
            try:
                datagrams.append(self.socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return datagrams

    def make(self, **variables: str) -> ServiceManager:
        self.environment = {"NOTIFY_SOCKET": self.hear(), "HOME": "/", **variables}
        manager = ServiceManager(self.environment, self.clock)
        manager.describe = lambda: self.state
        self.addCleanup(manager.stop)
        return manager

    def make_ready(self, **variables: str) -> ServiceManager:
        manager = self.make(**variables)
        manager.start()
        manager.ready()
        self.heard()
        return manager

    def test_no_child_inherits_the_variables(self) -> None:
        self.make(WATCHDOG_USEC="1000000", WATCHDOG_PID=str(os.getpid()))
        self.assertEqual(self.environment, {"HOME": "/"})

    def test_it_says_once_that_the_server_is_ready(self) -> None:
        manager = self.make()
        manager.ready()
        manager.ready()
        self.assertEqual(self.heard(), [["READY=1", "STATUS=3 users"]])

    def test_an_address_in_the_abstract_namespace_is_reached(self) -> None:
        address = self.hear(f"chat-{os.getpid()}-{id(self)}")
        ServiceManager({"NOTIFY_SOCKET": address}, self.clock).ready()
        self.assertEqual(self.heard(), [["READY=1"]])

    def test_without_a_service_manager_nothing_happens(self) -> None:
        gone = self.hear()
        self.socket.close()
        for environment in ({}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": gone}):
            manager = ServiceManager(environment, self.clock)
            manager.opening()
            manager.start()
            manager.ready()
            with manager.reloading():
                pass
            manager.stopping()
            manager.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_service_manager_that_does_not_read_holds_up_nothing(self) -> None:
        manager = self.make_ready()
        for i in range(2000):  # more than the system keeps
            self.state = str(i)
            manager.changed()
        self.assertLess(len(self.heard()), 2000)

    def test_the_state_is_told_when_it_has_changed(self) -> None:
        self.make_ready()
        self.clock.advance(REPORT_EVERY)
        self.assertEqual(self.heard(), [])
        self.state = "4 users\nREADY=1"
        self.clock.advance(REPORT_EVERY)
        self.assertEqual(self.heard(), [["STATUS=4 users READY=1"]])

    def test_the_watchdog_is_fed_twice_as_often_as_needed(self) -> None:
        self.make_ready(WATCHDOG_USEC="8000000", WATCHDOG_PID=str(os.getpid()))
        for _ in range(2):
            self.clock.advance(3.9)
            self.assertEqual(self.heard(), [])
            self.clock.advance(0.1)
            self.assertEqual(self.heard(), [["WATCHDOG=1"]])

    def test_an_interval_of_the_watchdog_that_is_none_is_ignored(self) -> None:
        for interval in ("9" * 400, "9" * 5000, "-1", "\u00b2", "0", ""):
            self.make_ready(WATCHDOG_USEC=interval)
            self.socket.close()
            self.path.unlink()

    def test_a_watchdog_that_is_too_fast_does_not_keep_the_server_from_its_work(self) -> None:
        manager = self.make(WATCHDOG_USEC="1")
        manager.start()
        self.heard()
        [call] = self.clock.getDelayedCalls()
        self.assertGreaterEqual(call.getTime() - self.clock.seconds(), 0.05)

    def test_a_state_that_is_no_text_in_utf_8_does_not_end_the_reports(self) -> None:
        self.make_ready(WATCHDOG_USEC="8000000")
        self.state = "no clients: /srv/\udcff: No such file or directory"
        self.clock.advance(4)
        self.clock.advance(4)
        self.assertEqual([lines[-1] for lines in self.heard()], ["WATCHDOG=1"] * 2)

    def test_a_watchdog_of_any_process_of_the_service_is_fed(self) -> None:
        self.make_ready(WATCHDOG_USEC="8000000")
        self.clock.advance(4)
        self.assertEqual(self.heard(), [["WATCHDOG=1"]])

    def test_the_watchdog_of_another_process_is_not_fed(self) -> None:
        self.make_ready(WATCHDOG_USEC="8000000", WATCHDOG_PID=str(os.getpid() + 1))
        self.clock.advance(REPORT_EVERY)
        self.assertEqual(self.heard(), [])

    def test_a_server_that_starts_asks_for_more_time(self) -> None:
        manager = self.make()
        self.state = "no clients: the server is not ready"
        manager.start()
        self.clock.advance(REPORT_EVERY)
        self.assertEqual(self.heard(), [[f"STATUS={self.state}", MORE_TIME], [MORE_TIME]])
        manager.ready()
        self.heard()
        self.clock.advance(REPORT_EVERY)
        self.assertEqual(self.heard(), [])

    def test_much_time_is_asked_for_before_files_are_opened(self) -> None:
        self.make().opening()
        self.assertEqual(self.heard(), [["EXTEND_TIMEOUT_USEC=3600000000"]])

    def test_a_server_that_stops_asks_for_more_time_up_to_a_limit(self) -> None:
        manager = self.make_ready()
        manager.stopping()
        self.assertEqual(self.heard(), [["STOPPING=1"]])
        asked = []
        for _ in range(int(2 * LONGEST_STOP / REPORT_EVERY)):
            self.clock.advance(REPORT_EVERY)
            asked += self.heard()  # the system keeps few datagrams
        self.assertEqual(asked, [[MORE_TIME]] * int(LONGEST_STOP / REPORT_EVERY - 1))

    def test_a_reload_is_told_with_its_time_and_its_end(self) -> None:
        manager = self.make_ready()
        with manager.reloading():
            [[reloading, time]] = self.heard()
            self.assertEqual(reloading, "RELOADING=1")
            self.assertRegex(time, r"^MONOTONIC_USEC=\d+$")
        self.assertEqual(self.heard(), [["READY=1"]])

    def test_a_reload_that_fails_ends(self) -> None:
        manager = self.make_ready()
        with self.assertRaises(ZeroDivisionError), manager.reloading():
            1 / 0  # noqa: B018
        self.assertEqual(self.heard()[1:], [["READY=1"]])

    def test_a_reload_of_a_server_that_starts_or_stops_does_not_make_it_ready(self) -> None:
        manager = self.make()
        with manager.reloading():
            pass
        manager.stopping()
        self.heard()
        with manager.reloading():
            pass
        self.assertEqual(self.heard(), [])

    def test_a_server_that_has_stopped_says_nothing_more(self) -> None:
        manager = self.make_ready(WATCHDOG_USEC="1000000")
        manager.stop()
        self.clock.advance(REPORT_EVERY)
        self.assertEqual(self.heard(), [])
