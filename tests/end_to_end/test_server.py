"""twistd chatserver as an operator runs it: starting, wrong starts, bad peers, stopping."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import resource
import signal
import socket
import sys
import time
import unittest
from pathlib import Path

from chat_twisted.doors.tls import ensure
from tests.end_to_end.support import TWISTD, DaemonTestCase, Peer, ServerTestCase

FORWARDED = 300


class StartTests(ServerTestCase):
    def second(self, *arguments: str) -> tuple[int, list[str]]:
        """Run a second server to its end."""
        process = self.process(
            TWISTD, "-n", "--pidfile", "second.pid", "chatserver", *arguments, "--state", "s"
        )
        code = process.wait()
        self.assertNotIn("Traceback", "\n".join(process.out + process.err))
        self.assertFalse((Path(self.folder.name) / "second.pid").exists())
        return code, process.err

    def test_a_port_in_use_is_one_line_and_a_non_zero_exit(self) -> None:
        listen = f"tcp:{self.port}:interface=127.0.0.1"
        self.assertEqual(
            self.second("--listen", listen),
            (1, [f"chatserver: can't listen on {listen}: Address already in use"]),
        )

    def test_a_wrong_command_line_is_one_line_and_a_non_zero_exit(self) -> None:
        for arguments in (("--listen", "nonsense:1"), ("--bogus",), ("--idle", "soon"), ("x",)):
            code, lines = self.second(*arguments)
            self.assertEqual((code, len(lines)), (1, 1), lines)
            self.assertTrue(lines[0].startswith("chatserver: "), lines)

    def test_twistd_lists_the_plugin_and_shows_its_manual_page(self) -> None:
        listing = self.process(TWISTD, "--help")
        listing.wait_for(r"^ +chatserver +\w")
        page = self.process(TWISTD, "chatserver", "--help")
        self.assertEqual(page.wait(), 0)
        self.assertEqual(page.out[0], "NAME")

    def test_it_may_listen_on_several_endpoints(self) -> None:
        path = str(Path(self.folder.name) / "socket")
        process = self.process(
            TWISTD,
            "-n",
            "--pidfile",
            "second.pid",
            "chatserver",
            "--listen",
            "tcp:0:interface=127.0.0.1",
            "--listen",
            f"unix:{path}",
            "--state",
            "second",
        )
        port = int(process.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1])
        process.wait_for("listening on unix:")
        with socket.socket(socket.AF_UNIX) as local:
            local.connect(path)
            local.sendall(b"REGISTER bob\n\n")
            self.assertTrue(local.recv(2048).startswith(b"REGISTERED bob\n"))
            alice = Peer(port)
            self.addCleanup(alice.close)
            alice.register("alice")
            alice.send(b"SEND bob\nContent-length: 1\n\nx")
            self.assertIn(b"FORWARD alice\n", local.recv(2048))


class DaemonTests(DaemonTestCase):
    def listening(self) -> int:
        """The port that the log says."""
        log = (self.folder / "twistd.log").read_text()
        return int(re.findall(r"listening on 127\.0\.0\.1:(\d+)", log)[-1])

    def test_it_serves_when_the_command_ends_and_leaves_no_pid_file(self) -> None:
        daemon = self.daemon()
        self.assertEqual(self.names(), {"state", "twistd.log"})
        peer = Peer(self.listening())
        self.addCleanup(peer.close)
        peer.register("alice")
        daemon.signal(signal.SIGTERM)
        self.assertEqual(peer.rest(), b"BYE The server is stopping\n\n")
        daemon.wait()
        self.assertEqual((self.state / "lock").read_text(), "")
        self.assertEqual(self.names(), {"state", "twistd.log"})

    def test_where_it_can_not_listen_the_reason_is_on_standard_error_and_nothing_is_left(
        self,
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            long = "x" * 200
            for endpoint, reason in (
                (f"tcp:{port}:interface=127.0.0.1", "Address already in use"),
                ("tcp:0:interface=192.0.2.1", "Cannot assign requested address"),
                ("unix:nowhere/socket", "No such file or directory"),
                (f"unix:{long}", "AF_UNIX path too long"),
            ):
                listen = ("--listen", "unix:first", "--listen", endpoint)
                self.assertEqual(
                    self.start(*listen, twistd=("--pidfile", "chat.pid")),
                    (1, f"chatserver: can't listen on {endpoint}: {reason}\n"),
                )
                self.assertEqual(self.names(), {"state", "twistd.log"})
                self.assertEqual(processes(bytes(self.state)), set())

    def test_a_file_where_a_socket_should_be_stays_what_it_is(self) -> None:
        (self.folder / "file").write_text("not a socket")
        self.assertEqual(
            self.start("--listen", "unix:file"),
            (1, "chatserver: can't listen on unix:file: Address already in use\n"),
        )
        self.assertEqual((self.folder / "file").read_text(), "not a socket")

    def test_what_twistd_can_not_do_is_one_line_too(self) -> None:
        (self.folder / "file").touch()
        for twistd, reason in (
            (("--pidfile", "nowhere/pid"), "--pidfile .*/nowhere/pid: No such file or directory"),
            (("--logfile", "nowhere/log"), "/nowhere/log: No such file or directory"),
            (("--rundir", "file"), "--rundir file: no such folder, or not for this user"),
            (("--chroot", "."), "--chroot: "),
            (("--uid", "4000000000"), "there is no user 4000000000|only root can run it"),
        ):
            code, error = self.start("--listen", "tcp:0:interface=127.0.0.1", twistd=twistd)
            self.assertRegex(error, f"^chatserver: .*({reason}).*\n$")
            self.assertEqual((code, error.count("\n")), (1, 1))

    def test_a_stale_pid_file_keeps_nothing_from_starting(self) -> None:
        for name in ("twistd.pid", "chat.pid"):
            (self.folder / name).write_text(f"{os.getpid()}\n")  # a process that is alive
        daemon = self.daemon(twistd=("--pidfile", "chat.pid"))
        self.assertEqual((self.folder / "chat.pid").read_text(), f"{daemon.pid}\n")
        self.assertEqual((self.folder / "twistd.pid").read_text(), f"{os.getpid()}\n")
        other = ("--state", str(self.folder / "other"))
        self.assertEqual(
            self.start(*other, twistd=("--pidfile", "chat.pid")),
            (
                1,
                f"chatserver: --pidfile {self.folder}/chat.pid: another server uses it "
                f"(process {daemon.pid})\n",
            ),
        )
        daemon.signal(signal.SIGTERM)
        daemon.wait()
        self.assertNotIn("chat.pid", self.names())

    def test_twistd_pid_is_written_if_just_that_is_asked_for(self) -> None:
        daemon = self.daemon(twistd=("--pidfile", "twistd.pid"))
        self.assertEqual((self.folder / "twistd.pid").read_text(), f"{daemon.pid}\n")

    def test_a_second_one_on_the_same_state_says_which_process_has_it(self) -> None:
        daemon = self.daemon()
        self.assertEqual(
            self.start("--listen", "tcp:0:interface=127.0.0.1"),
            (1, f"chatserver: {self.state}: another server uses it (process {daemon.pid})\n"),
        )

    def test_a_socket_that_a_killed_one_has_left_is_taken_over_and_a_living_one_is_not(
        self,
    ) -> None:
        path = self.folder / "socket"
        first = self.daemon("--listen", f"unix:{path}")
        self.assertEqual(
            self.start("--state", "other", "--listen", f"unix:{path}"),
            (1, f"chatserver: can't listen on unix:{path}: Address already in use\n"),
        )
        first.signal(signal.SIGKILL)
        first.wait()
        second = self.daemon("--listen", f"unix:{path}")
        with socket.socket(socket.AF_UNIX) as local:
            local.connect(str(path))
            local.sendall(b"REGISTER bob\n\n")
            self.assertTrue(local.recv(2048).startswith(b"REGISTERED bob\n"))
        second.signal(signal.SIGTERM)
        second.wait()
        self.assertEqual(self.names(), {"state", "other", "twistd.log"})

    def test_other_signals_open_the_log_anew_and_end_nothing(self) -> None:
        daemon = self.daemon("--listen", "unix:socket", twistd=("--logfile", "chat.log"))
        with socket.socket(socket.AF_UNIX) as local:
            local.connect(str(self.folder / "socket"))
            local.sendall(b"REGISTER bob\n\n")
            self.assertTrue(local.recv(2048).startswith(b"REGISTERED bob\n"))  # it runs
        log, old = self.folder / "chat.log", self.folder / "old.log"
        log.rename(old)
        before = old.read_text()
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
            daemon.signal(number)
        daemon.signal(signal.SIGTERM)  # which is handled after the others
        daemon.wait()
        self.assertTrue(old.read_text().startswith(before))
        self.assertNotIn("Received SIGTERM", old.read_text())
        self.assertIn("the certificate's fingerprint is", log.read_text())
        self.assertIn("Received SIGTERM", log.read_text())

    @unittest.skipUnless(os.geteuid() == 0, "only root can run it as another user")
    def test_files_are_made_as_who_will_use_them_also_on_a_low_port(self) -> None:
        user = pwd.getpwnam("nobody")
        home = self.folder / "home"
        home.mkdir()
        self.folder.chmod(0o755)
        os.chown(home, user.pw_uid, user.pw_gid)
        self.state = home / "state"
        uid = ("--uid", "nobody")
        twistd = (*uid, "--logfile", str(home / "chat.log"), "--pidfile", "chat.pid")
        port = free_low_port()
        listen = f"tcp:{port}:interface=127.0.0.1"
        daemon = self.daemon("--listen", listen, twistd=twistd)
        self.assertEqual(os.stat(f"/proc/{daemon.pid}").st_uid, user.pw_uid)
        peer = Peer(port)
        self.addCleanup(peer.close)
        peer.register("alice")
        for path in (home, *home.rglob("*")):
            self.assertEqual((path.stat().st_uid, path.name), (user.pw_uid, path.name))
        (home / "chat.log").rename(home / "old.log")
        daemon.signal(signal.SIGHUP)
        daemon.signal(signal.SIGTERM)
        daemon.wait()
        self.assertIn("Received SIGTERM", (home / "chat.log").read_text())
        self.assertNotIn("Traceback", (home / "chat.log").read_text())
        # It may not delete what is in a folder of root's.
        self.assertEqual((self.folder / "chat.pid").read_text(), "")
        # Nor make anything there, which it could not use later.
        self.state = self.folder / "of_root"
        code, error = self.start(twistd=twistd)
        self.assertEqual((code, error), (1, f"chatserver: {self.state}: Permission denied\n"))


def free_low_port() -> int:
    """A port that only root may listen on."""
    for port in range(1023, 600, -1):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("all are in use")


def processes(state: bytes) -> set[int]:
    """The processes that were started with a state folder."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if state in path.read_bytes():
                found.add(int(path.parent.name))
    return found


class ReloadTests(ServerTestCase):
    def test_a_signal_reloads_the_certificate_and_drops_nobody(self) -> None:
        bob = self.client("bob")
        self.came("bob")
        certificate = self.state / "certificate.pem"
        certificate.write_text("broken")
        self.server.popen.send_signal(signal.SIGHUP)
        self.server.wait_for("the certificate stays as it was: .*certificate.pem")
        ci = self.client("ci")
        ci.write("@bob: with the old one\n")
        self.assertEqual(bob.next_line(), "ci: with the old one")
        certificate.unlink()
        ensure(self.state)
        self.server.popen.send_signal(signal.SIGHUP)
        fingerprint = self.server.wait_for(r"fingerprint is (SHA256:\S+)")[1]
        self.assertNotEqual(fingerprint, self.fingerprint)
        self.fingerprint = fingerprint
        other = self.client("other")
        other.write("@bob: with the new one\n")
        self.assertEqual(bob.next_line(), "other: with the new one")
        self.assertNoTraceback()


class StopTests(ServerTestCase):
    def test_a_signal_says_bye_to_every_client_and_ends_within_a_second(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            if number is signal.SIGINT:
                self.setUp()
            alice = self.connect()
            alice.register("alice")
            first = self.connect()
            first.send(b"REGISTER TOSEND bob\n\n")
            first.head()
            stuck = self.connect()
            stuck.register("stuck")
            before = time.monotonic()
            self.server.popen.send_signal(number)
            self.assertEqual(alice.rest(), b"BYE The server is stopping\n\n")
            self.assertEqual(first.rest(), b"")
            self.server.wait()
            self.assertLess(time.monotonic() - before, 5)  # a second, on a machine that is idle
            self.assertNoTraceback()


class BadPeersTests(ServerTestCase):
    options = ("--max-clients", "20", "--max-message", "1000")

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.connect(), self.connect()
        self.alice.register("alice")
        self.bob.register("bob")

    def tearDown(self) -> None:
        """Whatever was done, the others go on talking and nothing unforeseen is logged."""
        self.alice.send(b"SEND bob\nContent-length: 5\n\nstill")
        while self.bob.frame()[2] != b"still":
            pass
        self.assertNoTraceback()

    def refusal(self, data: bytes) -> bytes:
        peer = self.connect()
        with contextlib.suppress(OSError):  # closed before all was sent: what can be read counts
            peer.send(data)
        return peer.rest()

    def test_each_wrong_start_gets_its_error(self) -> None:
        for data, answer in (
            (b"X" * 1000, b"ERROR 103 Header Incomplete\n\n"),
            (b"REGISTER x\nno colon\n\n", b"ERROR 103 Header Incomplete\n\n"),
            (b"HTTP-2.0\r\n\r\n", b"ERROR 101 No user registered\n\n"),
            (b"REGISTER b@d\n\n", b"ERROR 100 Malformed username\n\n"),
            (b"REGISTER x\nContent-length: 16777217\n\n", b"ERROR 108 Message too long\n\n"),
        ):
            self.assertEqual(self.refusal(data), answer, data[:40])

    def test_without_the_ssh_door_ssh_clients_are_disconnected_at_once(self) -> None:
        peer = self.connect()
        peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        self.assertRaises(ConnectionResetError, peer.rest)

    def test_a_hundred_megabytes_without_a_line_end_are_refused_and_not_kept(self) -> None:
        before = self.resident()
        self.assertEqual(self.refusal(b"x" * 100_000_000), b"ERROR 103 Header Incomplete\n\n")
        self.assertLess(self.resident() - before, 20_000)

    def resident(self) -> int:
        """The server's memory in KiB."""
        status = Path(f"/proc/{self.server.popen.pid}/status")
        if not status.exists():  # not Linux: then only the answer is looked at
            return 0
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmRSS")]
        return int(line.split()[1])

    def test_half_a_frame_and_gone_leaves_nothing(self) -> None:
        peer = self.connect()
        peer.send(b"REGISTER car")
        peer.close()
        peer = self.connect()
        token = peer.register("carol")["session"]
        peer.send(b"SEND bob\nContent-length: 9\n\nhal")
        peer.close()
        self.server.wait_for("carol went")
        self.connect().register("carol", f"Session: {token}")

    def test_a_full_server_refuses_and_lets_in_again(self) -> None:
        others = [self.connect() for _ in range(18)]
        for i, other in enumerate(others):
            other.register(f"u{i}")
        late = self.connect()
        late.send(b"REGISTER late\n\n")
        self.assertEqual(late.head(), b"ERROR 112 Unavailable\nRetry-after: 30\n\n")
        others[0].close()
        self.server.wait_for("u0 went")
        late.register("late")


class NotReadingTests(ServerTestCase):
    options = ("--limits", "off")

    def test_a_peer_that_stops_reading_is_cut_off_and_the_others_get_everything(self) -> None:
        alice, bob, stuck = self.connect(), self.connect(), self.connect()
        for peer, name in ((alice, "alice"), (bob, "bob"), (stuck, "stuck")):
            peer.register(name)
        text = b"x" * 65536
        for _ in range(FORWARDED):  # 20 MB, which is more than the kernel and the server hold
            alice.send(b"SEND ALL\nContent-length: 65536\n\n" + text)
            self.assertTrue(alice.frame()[0].startswith("SENT"))
            self.assertEqual(bob.frame()[2], text)
        self.server.wait_for("stuck went from .*: does not read")
        alice.send(b"WHO\n\n")
        self.assertEqual(alice.frame()[2], b"alice\nbob\n")
        self.assertNoTraceback()


class SilentPeersTests(ServerTestCase):
    options = ("--idle", "1")

    def test_silent_connections_are_closed_and_answering_ones_stay(self) -> None:
        unregistered, dead, living = self.connect(), self.connect(), self.connect()
        dead.register("dead")
        living.register("living")
        self.assertEqual(unregistered.rest(), b"")
        self.assertEqual(living.head(), b"PING idle\n\n")
        living.send(b"PONG idle\n\n")
        self.assertEqual(dead.rest(), b"PING idle\n\nBYE Silent for too long\n\n")
        self.assertEqual(living.head(), b"PING idle\n\n")
        living.send(b"QUIT\n\n")
        self.assertEqual(living.rest(), b"BYE\n\n")


class TwistTests(unittest.TestCase):
    def test_the_tests_run_in_an_environment_with_twistd(self) -> None:
        self.assertTrue(Path(TWISTD).exists(), f"{sys.executable} has no twistd beside it")


class StorageTests(ServerTestCase):
    def token(self, peer: Peer, name: str) -> str:
        return f"Session: {peer.register(name)['session']}"

    def send(self, peer: Peer, to: str, text: str) -> tuple[str, dict[str, str], bytes]:
        """Send a text; return the answer."""
        peer.send(f"SEND {to}\nId: {text}\nContent-length: {len(text)}\n\n{text}".encode())
        return peer.frame()

    def test_what_was_sent_to_somebody_away_survives_a_kill_and_comes_once(self) -> None:
        alice, bob = self.connect(), self.connect()
        alice.register("alice")
        token = self.token(bob, "bob")
        bob.close()
        self.server.wait_for("bob went")
        self.assertEqual(self.send(alice, "bob", "hello")[0], "SENT bob")
        self.kill()
        self.start()
        bob = self.connect()
        bob.register("bob", token)
        start, headers, body = bob.frame()
        self.assertEqual((start, body), ("FORWARD alice", b"hello"))
        bob.send(f"RECEIVED alice\nMessage: {headers['message']}\n\nPING\n\n".encode())
        self.assertEqual(bob.frame()[0], "PONG")

    def test_a_second_server_on_the_same_state_is_refused(self) -> None:
        process = self.process(
            TWISTD,
            "-n",
            "--pidfile=",
            "chatserver",
            "--listen",
            "tcp:0",
            "--state",
            str(self.state),
        )
        self.assertEqual(process.wait(), 1)
        who = f"process {self.server.popen.pid}"
        self.assertEqual(process.err, [f"chatserver: {self.state}: another server uses it ({who})"])

    def test_a_full_disk_refuses_what_can_not_be_written_and_goes_on_by_itself(self) -> None:
        alice, bob = self.connect(), self.connect()
        alice.register("alice")
        bob.register("bob")
        self.assertEqual(self.send(alice, "bob", "before")[0], "SENT bob")
        pid = self.server.popen.pid
        # A file may not grow: to the server that is a disk that is full.
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        start, headers, _ = self.send(alice, "bob", "during")
        self.assertEqual((start, "retry-after" in headers), ("ERROR 112 Unavailable", True))
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        self.assertEqual(self.send(alice, "bob", "after")[0], "SENT bob")
        self.assertEqual([bob.frame()[2] for _ in range(2)], [b"before", b"after"])
        self.assertNoTraceback()
