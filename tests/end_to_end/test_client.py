"""python -m chat_twisted.client as people and scripts use it."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

from chat_twisted import __version__
from tests.end_to_end.support import PATIENCE, ServerTestCase, environment

IMPATIENT = """
from chat_twisted.client import connection, session
from chat_twisted.client.__main__ import run

connection.CONNECTED_WITHIN = session.ANSWERED_WITHIN = 1
run()
"""


class ClientTestCase(ServerTestCase):
    def run_client(self, user: str, given: str, *options: str) -> tuple[int, str, str]:
        """Run a client to its end with ``given`` as its input."""
        client = self.client(user, *options)
        client.write(given)
        client.end_input()
        code = client.wait()
        return code, "\n".join(client.out), "\n".join(client.err)

    def pour(self, count: int) -> None:
        """Send so many lines to bob, who gets them all."""
        bob = self.client("bob")
        self.came("bob")
        code, out, _ = self.run_client("ci", "".join(f"@bob: {i}\n" for i in range(count)))
        self.assertEqual((code, out.count("Message delivered to bob")), (0, count))
        for i in range(count):
            self.assertEqual(bob.next_line(), f"ci: {i}")


class UnlimitedTests(ClientTestCase):
    options = ("--limits", "off")

    def test_ten_thousand_lines_arrive_in_their_order(self) -> None:
        self.pour(10_000)


class TooFastTests(ClientTestCase):
    options = ("--messages", "1000:50")

    def test_what_is_too_fast_for_the_server_arrives_all_the_same_and_in_its_order(self) -> None:
        self.pour(200)


class RoomTests(ClientTestCase):
    def test_ranks_names_deleted_messages_and_an_export(self) -> None:
        alice, bob = self.client("alice"), self.client("bob")
        self.came(r"\w+", 2)
        alice.write("/register\n/join #dev\n")
        alice.wait_for("alice joined #dev")
        bob.write("/join #dev\n")
        bob.wait_for("bob joined #dev")
        alice.write("/voice #dev bob\n/mode #dev moderated\n")
        bob.wait_for("alice gave bob a voice in #dev")
        bob.wait_for("alice made #dev moderated")
        bob.write("#dev: a secret\n")
        bob.wait_for("Message delivered to #dev")
        bob.write("/delete\n/nick bobby\n")
        alice.wait_for(r"bob deleted message \d+ in #dev")
        alice.wait_for("bob is bobby now")
        alice.write("/history #dev\n/op #dev bobby\n#dev: mine\n")
        alice.wait_for(r" bob to #dev: \(deleted\)")
        alice.wait_for("alice made bobby an operator of #dev")
        alice.wait_for("Message delivered to #dev")
        file = Path(self.folder.name) / "said"
        alice.write(f"/account export {file}\n")
        alice.wait_for("1 message saved")
        self.assertEqual(json.loads(file.read_text())["text"], "mine")
        alice.write("/account unregister erase\n")
        alice.wait_for("alice has no account any more")
        bob.write("/kick #dev alice too loud\n")
        alice.wait_for("alice was removed from #dev by bobby: too loud")
        self.assertNoTraceback()


class FirstHelloTests(ClientTestCase):
    def test_a_message_to_all_is_taken_while_nobody_else_is_there(self) -> None:
        taken = (0, "Message delivered to ALL")
        self.assertEqual(self.run_client("alice", "@ALL: hello\n")[:2], taken)
        self.assertEqual(self.run_client("bob", "", "--once", "@ALL: hello")[:2], taken)


class FilterTests(ClientTestCase):
    def test_a_message_is_sent_answered_and_shown(self) -> None:
        bob = self.client("bob")
        self.came("bob")
        answer = self.run_client("ci", "@bob: build done é漢字😀\n")
        self.assertEqual(answer, (0, "Message delivered to bob", ""))
        self.assertEqual(bob.next_line(), "ci: build done é漢字😀")

    def test_the_last_line_needs_no_end_and_everybody_hears_all(self) -> None:
        bob, carol = self.client("bob"), self.client("carol")
        self.came(r"\w+", 2)
        self.assertEqual(
            self.run_client("ci", "@ALL: one\n@ALL: two"),
            (0, "Message delivered to ALL\nMessage delivered to ALL", ""),
        )
        for client in (bob, carol):
            self.assertEqual(client.next_line(), "ci to ALL: one")
            self.assertEqual(client.next_line(), "ci to ALL: two")

    def test_a_refused_message_is_exit_code_1(self) -> None:
        self.assertEqual(
            self.run_client("ci", "@bob: x\n"),
            (1, "ERROR 102 : Unable to Send : Message not delivered to bob", ""),
        )

    def test_input_may_be_a_file_or_nothing(self) -> None:
        bob = self.client("bob")
        self.came("bob")
        path = self.folder.name + "/input"
        with open(path, "w") as file:
            file.write("@bob: from a file\n")
        command = [*bob.popen.args]
        command[3] = "ci"
        for given, shown in ((path, "Message delivered to bob\n"), ("/dev/null", "")):
            with open(given) as stdin:
                done = subprocess.run(
                    command,
                    stdin=stdin,
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                    env=environment(self.folder.name),
                    cwd=self.folder.name,
                    check=False,
                )
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, shown, ""))
        self.assertEqual(bob.next_line(), "ci: from a file")

    def test_why_there_is_no_session_is_one_line_and_exit_code_2(self) -> None:
        self.connect().register("bob")
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            closed = str(unused.getsockname()[1])
            self.assertEqual(self.run_client("ci", "", "--port", "99999")[0], 2)
            for user, options, reason in (
                ("BOB", (), "ERROR 105 : Name in use : BOB"),
                ("b@d", (), "ERROR 100 : Malformed Username : 'b@d'"),
                ("all", (), "ERROR 100 : Malformed Username : 'all'"),
                (
                    "ci",
                    ("--port", closed),
                    f"connection refused: no server at 127.0.0.1:{closed}",
                ),
            ):
                self.assertEqual(self.run_client(user, "@bob: x\n", *options), (2, "", reason))

    def test_a_host_that_is_not_found_is_exit_code_2(self) -> None:
        for host in ("no-such-host.invalid", "a..b", "-"):
            client = self.process(sys.executable, "-m", "chat_twisted.client", "--", "ci", host)
            self.assertEqual((client.wait(), client.err), (2, [f"host not found: {host}"]))

    def test_nobody_reading_its_output_is_a_quiet_end(self) -> None:
        command = shlex.join(self.client("bob").popen.args).replace("bob", "carol", 1)
        self.came("bob")
        pipeline = self.process("bash", "-c", f"{command} | head -n 1; echo ${{PIPESTATUS[@]}}")
        self.came("carol")
        for number in (1, 2):  # head has ended after the first; the second finds nobody
            self.run_client("ci", f"@carol: {number}\n")
        self.assertEqual((pipeline.wait(), pipeline.out), (0, ["ci: 1", "1 0"]))
        self.assertEqual(pipeline.err, [])

    def test_a_closed_standard_file_is_one_that_nobody_reads_or_writes(self) -> None:
        command = shlex.join(self.client("bob").popen.args).replace("bob", "ci", 1)
        self.came("bob")
        for redirect in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            script = f"echo '@bob: hello' | {command} {redirect}"
            process = self.process("bash", "-c", script)
            self.assertEqual((process.wait(), process.err), (0, []), redirect)

    def test_control_c_is_quiet(self) -> None:
        bob = self.client("bob")
        self.came("bob")
        bob.popen.send_signal(signal.SIGINT)
        self.assertEqual((bob.wait(), bob.out, bob.err), (130, [], []))

    def test_a_signal_says_goodbye_and_then_ends_the_process_as_signals_do(self) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        for number, code in ((signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)):
            bob = self.client("bob")
            self.came("bob")
            for harmless in (signal.SIGUSR1, signal.SIGUSR2):
                bob.popen.send_signal(harmless)
            bob.popen.send_signal(number)
            self.assertEqual((bob.wait(), bob.out, bob.err), (code, [], []))
            self.assertEqual(bob.popen.returncode, -number)
            peer = self.connect()
            peer.register("bob")  # the name is free
            self.came("bob")
            self.assertIn(b"BYE", peer.end(b"QUIT\n\n"))

    def test_a_signal_before_there_is_a_connection_ends_it_with_the_same_code(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
                address = f"127.0.0.1:{silent.getsockname()[1]}"
                bob = self.process(sys.executable, "-m", "chat_twisted.client", "bob", address)
                peer, _ = silent.accept()
                with peer:
                    peer.recv(1)  # it says hello
                    bob.popen.send_signal(number)
                    self.assertEqual((bob.wait(), bob.out, bob.err), (code, [], []))

    def test_what_is_ignored_from_the_start_stays_ignored(self) -> None:
        command = self.client("bob").popen.args
        self.came("bob")
        bob = self.process("bash", "-c", "trap '' HUP INT; exec \"$@\"", "bash", *command)
        self.came("bob")
        for number in (signal.SIGHUP, signal.SIGINT):
            bob.popen.send_signal(number)
        bob.write("/who\n")
        bob.wait_for("1 here: bob")
        bob.popen.send_signal(signal.SIGTERM)
        self.assertEqual(bob.wait(), 143)

    def test_standard_files_are_for_others_as_they_were_whatever_happens(self) -> None:
        command = [*self.client("bob").popen.args]
        self.came("bob")
        command[3] = "ci"

        def flags(*files: int) -> list[int]:
            return [fcntl.fcntl(file, fcntl.F_GETFL) for file in files]

        for how in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, None):
            (stdin, writes), (reads, stdout) = os.pipe(), os.pipe()
            before = flags(stdin, stdout)
            ci = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=stdout,
                env=environment(self.folder.name),
                cwd=self.folder.name,
            )
            self.addCleanup(ci.wait)
            os.write(writes, b"/who\n")
            self.assertEqual(os.read(reads, 100), b"2 here: bob ci\n")
            self.assertEqual(flags(stdin, stdout), before)
            if how is None:
                os.close(writes)
            else:
                ci.send_signal(how)
            self.assertEqual(ci.wait(PATIENCE), 0 if how is None else -how)
            self.assertEqual(flags(stdin, stdout), before)
            for file in (stdin, reads, stdout, *(() if how is None else (writes,))):
                os.close(file)

    def test_another_reads_on_where_the_client_has_ended(self) -> None:
        command = shlex.join(self.client("bob").popen.args).replace("bob", "ci", 1)
        self.came("bob")
        both = self.process("bash", "-c", f"{command}; echo $?; cat")
        both.write("/quit\n")
        self.assertEqual(both.next_line(), "0")
        both.write("for cat\n")
        self.assertEqual(both.next_line(), "for cat")
        both.end_input()
        self.assertEqual((both.wait(), both.err), (0, []))

    def test_a_guest_that_was_killed_comes_back_with_what_was_said_meanwhile(self) -> None:
        ci, bob = self.client("ci"), self.client("bob")
        self.came(r"\w+", 2)
        bob.write("@ci: hello\n")
        self.assertEqual(ci.next_line(), "bob: hello")  # ci knows that it is registered
        for tail in (), ("--tail", "@bob"):
            ci.popen.kill()
            ci.wait()
            bob.write("@ci: meanwhile\n")
            ci = self.client("ci", *tail)
            self.assertEqual(ci.next_line(), "bob: meanwhile")
        bob.end_input()
        self.assertEqual(bob.wait(), 0)
        sessions = Path(self.folder.name) / "config" / "chat_twisted" / "sessions"
        self.assertNotIn("/bob ", sessions.read_text())  # who says goodbye needs nothing

    def test_two_clients_of_one_guest_are_one_user_until_both_have_left(self) -> None:
        one, bob = self.client("ci"), self.client("bob")
        self.came(r"\w+", 2)
        bob.write("@ci: hello\n")
        self.assertEqual(one.next_line(), "bob: hello")  # one has stored the token that two needs
        two = self.client("ci")
        self.came("ci")
        bob.write("@ci: to both\n")
        for client in (one, two):
            self.assertEqual(client.next_line(), "bob: to both")
        for client in (one, two):
            client.write("@bob: from one of them\n")
            bob.wait_for("ci: from one of them")
        one.end_input()
        self.assertEqual(one.wait(), 0)
        two.popen.kill()
        two.wait()
        bob.write("@ci: meanwhile\n")
        three = self.client("ci")
        self.assertEqual(three.next_line(), "bob: meanwhile")

    def test_who_brings_a_proof_is_judged_by_it(self) -> None:
        ci = self.client("ci")
        self.came("ci")
        ci.popen.kill()
        ci.wait()
        secret = Path(self.folder.name) / "secret"
        secret.write_text("right\n")
        other = self.client("ci", "--password-file", str(secret))
        self.assertEqual(other.wait(), 2)
        [refused] = other.err
        self.assertRegex(refused, r"^ERROR 105 : Name in use until \S+Z : ci$")

    def test_a_server_that_goes_away_is_exit_code_1(self) -> None:
        bob = self.client("bob", "--wait", "0")
        self.came("bob")
        self.server.popen.send_signal(signal.SIGTERM)
        self.assertEqual(bob.wait(), 1)
        self.assertEqual(bob.out, ["Server Inactive : The server is stopping"])

    def test_a_server_that_is_killed_and_comes_back_costs_nothing(self) -> None:
        alice = self.client("alice")
        self.came("alice")
        bob = self.client("bob")
        self.came("bob")
        alice.write("@bob: before\n")
        self.assertEqual(bob.next_line(), "alice: before")
        self.kill()
        alice.write("@bob: meanwhile\n")
        self.start()
        self.assertEqual(bob.next_line(), "alice: meanwhile")
        alice.write("@bob: after\n/history @bob 3\n")
        self.assertEqual(bob.next_line(), "alice: after")
        for text in ("before", "meanwhile", "after"):
            alice.wait_for(f"alice to bob: {text}$")

    def first_line_on_error(self, *options: str) -> tuple[int, list[str]]:
        command = [sys.executable, "-m", "chat_twisted.client", "ci", "127.0.0.1"]
        client = self.process(*command, "--port", str(self.port), *options)
        client.end_input()
        return client.wait(), client.err

    def test_a_certificate_of_the_key_is_written_without_a_connection(self) -> None:
        file = Path(self.folder.name) / "alice.pem"
        command = [sys.executable, "-m", "chat_twisted.client", "alice", "nowhere.example"]
        client = self.process(*command, "--certificate", str(file))
        self.assertEqual(client.wait(), 0)
        warning, public = client.err
        self.assertIn("keep it secret", warning)
        self.assertTrue(public.startswith("ssh-ed25519 AAAA"), public)
        self.assertEqual((client.out, file.stat().st_mode & 0o777), ([], 0o600))
        again = self.process(*command, "--certificate", str(file))
        self.assertEqual((again.wait(), again.err), (2, [f"{file}: File exists"]))

    def test_a_server_that_is_new_is_shown_once_and_a_changed_one_refused(self) -> None:
        code, lines = self.first_line_on_error()
        self.assertEqual((code, len(lines)), (0, 1))
        self.assertIn(self.fingerprint, lines[0])
        self.assertEqual(self.first_line_on_error(), (0, []))
        before = self.fingerprint
        self.server.popen.send_signal(signal.SIGTERM)
        self.server.wait()
        for file in self.state.glob("*.pem"):
            file.unlink()
        self.start()
        code, lines = self.first_line_on_error()
        self.assertEqual(code, 2)
        self.assertIn("has changed", lines[0])
        for fingerprint in (before, self.fingerprint):
            self.assertIn(fingerprint, "\n".join(lines))
        self.assertEqual(self.first_line_on_error("--fingerprint", before)[0], 2)
        self.assertEqual(self.first_line_on_error("--fingerprint", self.fingerprint), (0, []))
        self.assertEqual(self.first_line_on_error(), (0, []))

    def test_a_port_that_drops_what_comes_and_one_that_says_nothing_are_given_up(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as waits:
            waits.connect(full.getsockname())  # what comes now is dropped
            drops = f"127.0.0.1:{full.getsockname()[1]}"
            with socket.create_server(("127.0.0.1", 0)) as silent:
                says_nothing = f"127.0.0.1:{silent.getsockname()[1]}"
                for address, options in (
                    (drops, ()),
                    (drops, ("--once", "/who")),
                    (drops, ("--plain",)),
                    (drops, ("--plain", "--once", "/who", "--json")),
                    (says_nothing, ()),
                    (says_nothing, ("--plain", "--once", "/who")),
                ):
                    command = (sys.executable, "-c", IMPATIENT, "ci", address, *options)
                    client = self.process(*command)
                    said = f"no answer from {address} within 1 s"
                    self.assertEqual((client.wait(), client.out), (2, []), options)
                    self.assertEqual(client.err, [said], options)

    def test_a_server_is_where_people_type_that_it_is(self) -> None:
        client = [sys.executable, "-m", "chat_twisted.client"]
        config = Path(self.folder.name) / "config" / "chat_twisted" / "config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(f'[servers.here]\nhost = "ci@127.0.0.1:{self.port}"\nport = x\n')
        ci = self.process(*client, "ci", f"127.0.0.1:{self.port}", "--once", "/who")
        self.assertEqual((ci.wait(), ci.out), (0, ["1 here: ci"]))
        self.assertRegex(ci.err[0], r"config\.toml:3: \w")
        self.assertIn(f"127.0.0.1:{self.port} is new here", ci.err[1])
        config.write_text(f'[servers.here]\nhost = "ci@127.0.0.1:{self.port}"\n')
        for address in (f"ci@127.0.0.1:{self.port}", f"ci@localhost:{self.port}", "here"):
            ci = self.process(*client, address, "--once", "/who")
            self.assertEqual((ci.wait(), ci.out), (0, ["1 here: ci"]))

    def test_a_plain_connection_is_made_when_asked_for(self) -> None:
        self.assertEqual(self.first_line_on_error("--plain"), (0, []))
        folder = Path(self.folder.name) / "config" / "chat_twisted"
        self.assertFalse((folder / "known_servers").exists())

    def test_what_does_not_speak_tls_is_one_line_and_exit_code_2(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = str(listening.getsockname()[1])
            command = [sys.executable, "-m", "chat_twisted.client", "ci", "127.0.0.1"]
            client = self.process(*command, "--port", port)
            peer, _ = listening.accept()
            with peer:
                peer.recv(100)
                peer.sendall(b"220 mail.example ESMTP\r\n")
                self.assertEqual(client.wait(), 2)
        self.assertEqual(
            client.err,
            [f"127.0.0.1:{port} does not speak TLS (--plain connects without encryption)"],
        )

    def test_a_certificate_that_changes_while_connected_ends_the_session(self) -> None:
        bob = self.client("bob")
        bob.write("/who\n")
        bob.wait_for("1 here")
        self.kill()
        for file in self.state.glob("*.pem"):
            file.unlink()
        self.start()
        self.assertEqual(bob.wait(), 1)
        self.assertIn("is not the one that was asked for", "\n".join(bob.out))

    def test_a_key_for_which_there_is_no_room_is_one_line_and_nothing_is_left_of_it(self) -> None:
        command = [*self.client("bob").popen.args]
        command[3] = "ci"
        limited = ("bash", "-c", 'ulimit -f 0; exec "$@"', "bash", *command)
        client = self.process(*limited)
        client.write("/register\n")
        client.end_input()
        self.assertEqual(client.wait(), 1)
        folder = Path(self.folder.name) / "config" / "chat_twisted"
        self.assertEqual(client.out, [f"{folder}/id_ed25519: File too large"])
        self.assertEqual(list(folder.glob("*id_ed25519*")), [])

    def test_a_public_room_is_not_joined_as_a_private_one_and_it_is_said_why(self) -> None:
        self.run_client("bob", "/join #x\n")
        bob = self.client("bob")
        bob.write("/join #x\n")
        bob.wait_for("bob joined #x")
        self.assertEqual(
            self.run_client("ci", "/join #x private\n/join #y private\n/join #y private\n"),
            (
                1,
                "ERROR 111 : Not permitted: there is a public room of that name : /join #x\n"
                "ci joined #y [private]\nci joined #y [private]",
                "",
            ),
        )

    def test_help_and_version(self) -> None:
        for option, text in (("--help", "exit status:"), ("--version", __version__)):
            process = self.process(sys.executable, "-m", "chat_twisted.client", option)
            self.assertEqual((process.wait(), process.err), (0, []))
            self.assertIn(text, "\n".join(process.out))

    def test_commands(self) -> None:
        code, out, _ = self.run_client("ci", "/who\n/help\n/quit\n@bob: never sent\n")
        self.assertEqual(code, 0)
        self.assertIn("@[RECIPIENT NAME]: Message", out)
