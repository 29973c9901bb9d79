"""The SSH door without a terminal: who gets in, scripts, and what is refused, with the programs
that people have.
"""

from __future__ import annotations

import json
import signal
import socket

from tests.end_to_end.irc import IRCPeer
from tests.end_to_end.original import Original
from tests.end_to_end.ssh import CLIENTS, SAID, SSHTestCase, quoted, starts_until, stopped
from tests.end_to_end.support import Process, ServerTestCase

PASSWORD = f"{SAID} correct horse"
IN_USE = r"\AERROR 105 : Name in use( until [-0-9T:.]+Z)? : alice\Z"


class KeyTests(SSHTestCase):
    options = ("--plaintext", "nowhere")

    def test_an_account_has_each_kind_of_key_and_no_other_gets_in(self) -> None:
        for kind in ("ed25519", "rsa", "ecdsa"):
            self.key(kind, kind)
            registered = self.finish(*self.ssh(kind), given="/register\n")
            self.assertEqual(registered, (0, f"{kind} is yours from now on", ""))
        for kind in ("ed25519", "rsa", "ecdsa"):
            for client in CLIENTS:
                code, out, error = self.finish(*self.command(client, kind, "/who"))
                self.assertEqual((code, out), (0, f"1 here: {kind}"), f"{client}: {error}")
        for client, refused in (("ssh", 255), ("plink", 1)):
            wrong = self.command(client, "ed25519", "/who", key="other")
            code, out, error = self.finish(*wrong)
            self.assertEqual((code, out), (refused, ""), error)

    def test_the_key_of_an_account_is_the_last_of_twelve_that_an_agent_offers(self) -> None:
        self.finish(*self.ssh("alice", key="key11"), given="/register\n")
        agent = self.agent(*(f"key{number}" for number in range(12)))
        by_agent = {
            "ssh": self.ssh(
                "alice", "/who", key=None, options=(f"-oIdentityAgent={agent}", "-oBatchMode=yes")
            ),
            "plink": self.plink("alice", "/who", key=None, options=("-agent",)),
            "dbclient": self.dbclient("alice", "/who", key=None),
        }
        by_agent["ssh"] = tuple(
            word
            for word in by_agent["ssh"]
            if word not in ("-oPubkeyAuthentication=no", "-oIdentitiesOnly=yes")
        )
        for client, command in by_agent.items():
            command = tuple(word for word in command if word not in ("-u", "SSH_AUTH_SOCK"))
            at = command.index("env") + 1
            command = (*command[:at], f"SSH_AUTH_SOCK={agent}", *command[at:])
            code, out, error = self.finish(*command)
            self.assertEqual((code, out), (0, "1 here: alice"), f"{client}: {error}")

    def test_without_a_key_and_without_a_question_a_guest_gets_in(self) -> None:
        for client in CLIENTS:
            code, out, error = self.finish(*self.command(client, client, "/who", key=None))
            self.assertEqual((code, out), (0, f"1 here: {client}"), error)

    def test_the_logged_line_is_the_host_key_as_ssh_keygen_shows_it(self) -> None:
        kinds = (("ed25519", "ED25519", "256"), ("rsa", "RSA", r"\d{4}"))
        for kind, shown, size in kinds:
            line = self.logged(rf"(\[127\.0\.0\.1\]:{self.port} ssh-{kind} [\w+/=]+)")
            file = self.path(kind)
            file.write_text(f"{line}\n")
            code, out, _ = self.finish("ssh-keygen", "-lf", str(file))
            self.assertEqual(code, 0)
            fingerprint = self.logged(rf"\b{size} (SHA256:\S+).*\({shown}\)")
            self.assertEqual(out.split()[1], fingerprint)
            only = (f"-oUserKnownHostsFile={file}", f"-oHostKeyAlgorithms={_algorithm(kind)}")
            self.assertEqual(self.finish(*self.ssh("alice", "/quit", options=only))[0], 0)
        secret = [file for file in self.state.rglob("*") if b"PRIVATE KEY" in _start_of(file)]
        self.assertGreaterEqual(len(secret), 2)
        for file in secret:
            self.assertEqual(file.stat().st_mode & 0o777, 0o600, file)


def _algorithm(kind: str) -> str:
    return {"ed25519": "ssh-ed25519", "rsa": "rsa-sha2-512"}[kind]


def _start_of(file) -> bytes:
    if not file.is_file():
        return b""
    with file.open("rb") as opened:
        return opened.read(100)


class PasswordTests(SSHTestCase):
    """Only accounts get in, and one terminal at a time."""

    options = ("--guests", "no", "--ssh-terminals", "1")

    def test_a_password_is_enough_and_neither_a_wrong_one_nor_a_guest_gets_in(self) -> None:
        file = self.path("password")
        file.write_text(f"{PASSWORD}\n")
        self.assertEqual(self.accounts("add", "alice", "--password-file", str(file)).err, [])
        wrong = f"{SAID} wrong"
        ways = [f"-oPreferredAuthentications={way}" for way in ("password", "keyboard-interactive")]
        for command in (
            *(self.ssh("alice", "/who", key=None, password=PASSWORD, options=(w,)) for w in ways),
            *(
                self.command(client, "alice", "/who", key=None, password=PASSWORD)
                for client in ("plink", "dbclient")
            ),
        ):
            code, out, error = self.finish(*command)
            self.assertEqual((code, out), (0, "1 here: alice"), error)
        for command, refused in (
            (self.ssh("alice", "/who", key=None, password=wrong, options=(ways[1],)), 255),
            (self.plink("alice", "/who", key=None, password=wrong), 1),
        ):
            code, out, error = self.finish(*command)
            self.assertEqual((code, out), (refused, ""), error)
        for key in ("", None):
            code, out, error = self.finish(*self.ssh("guest", "/who", key=key))
            self.assertEqual((code, out), (255, ""))
            self.assertIn("Permission denied (publickey,password,keyboard-interactive)", error)

        options = ("-oPreferredAuthentications=keyboard-interactive",)
        terminal = self.ssh_terminal("alice", key=None, options=options)
        terminal.see(r"[Pp]assword.*:\Z")
        terminal.say(PASSWORD)
        terminal.see(r"^· You are alice on ")
        terminal.see(r"\bALL>\Z")
        self.assertNotIn(PASSWORD, terminal.all())

    def test_terminals_too_many_are_refused_and_pipes_are_not(self) -> None:
        for user in ("alice", "bob"):
            code = self.accounts("add", user, "--key", f"{self.key(user)}.pub").popen.returncode
            self.assertEqual(code, 0)
        first = self.process(*self.ssh("alice", terminal=True))
        self.came("alice")
        second = self.process(*self.ssh("bob", terminal=True))
        code, out, error = self.outcome(second)
        self.assertEqual(code, 2, f"{out} {error}")
        self.assertEqual(self.finish(*self.ssh("bob", "/who"))[:2], (0, "2 here: alice bob"))
        first.popen.kill()
        self.server.wait_for(r"\balice went from")
        third = self.process(*self.ssh("bob", terminal=True))
        self.came("bob")
        third.popen.kill()


class NoDoorTests(ServerTestCase):
    def test_without_the_door_a_client_is_closed_and_no_key_is_made(self) -> None:
        peer = self.connect()
        self.assertNotIn(b"SSH-", peer.end(b"SSH-2.0-client\r\n"))
        self.assertNotIn("ssh-ed25519", "\n".join(self.server.out))
        self.assertEqual([file for file in self.state.iterdir() if "ssh" in file.name], [])
        self.assertNoTraceback()


class ScriptTests(SSHTestCase):
    options = ("--limits", "off")

    def test_lines_of_a_pipe_or_a_file_are_sent_and_the_exit_code_tells(self) -> None:
        bob = self.friend("bob")
        file = self.path("input")
        file.write_text(f"@bob: {SAID} from a file\n")
        for command in (
            f"printf '@bob: {SAID} from a pipe' | {quoted(self.ssh('ci'))}",
            f"{quoted(self.ssh('ci'))} < {file}",
            f"echo '@bob: {SAID} by plink' | {quoted(self.plink('ci'))}",
            f"echo '@bob: {SAID} by dbclient' | {quoted(self.dbclient('ci'))}",
        ):
            process = self.begin("sh", "-c", command)
            text, number = bob.hear()
            self.assertTrue(text.startswith(f"{SAID} "), text)
            bob.confirm("ci", number)
            self.assertEqual(self.outcome(process), (0, "Message delivered to bob", ""), command)
        refused = self.finish(*self.ssh("ci"), given=f"@nobody: {SAID}\n/who\n")
        self.assertEqual(refused[0], 1)
        self.assertEqual(
            {*refused[1].split("\n")},
            {"ERROR 102 : Unable to Send : Message not delivered to nobody", "2 here: bob ci"},
        )
        self.assertEqual(self.finish(*self.ssh("ci"), given=""), (0, "", ""))

    def test_one_message_or_one_command_is_the_command_line(self) -> None:
        bob = self.friend("bob")
        text = f"{SAID} é日本 one: two"
        for client in CLIENTS:
            process = self.begin(*self.command(client, "ci", f"@bob: {text}", key="ci"))
            heard, number = bob.hear()
            self.assertEqual(heard, text)
            bob.confirm("ci", number)
            code, out, error = self.outcome(process)
            self.assertEqual((code, out), (0, "Message delivered to bob"), error)
            code, out, error = self.finish(*self.command(client, "ci", "/who", key="ci"))
            self.assertEqual((code, out), (0, "2 here: bob ci"), error)
            code, out, error = self.finish(*self.command(client, "ci", f"@x: {SAID}", key="ci"))
            answer = "ERROR 102 : Unable to Send : Message not delivered to x"
            self.assertEqual((code, out), (1, answer), error)
        for words, reason in (("no address", "Use the following format"), ("/jion", "/jion")):
            code, out, error = self.finish(*self.ssh("ci", words))
            self.assertEqual((code, out), (2, ""))
            self.assertIn(reason, error)

    def test_json_is_read_and_written_and_one_conversation_is_followed(self) -> None:
        bob = self.friend("bob")
        ci = self.process(*self.ssh("ci", "json"))
        self.assertEqual(json.loads(ci.next_line())["event"], "registered")
        ci.write(json.dumps({"to": "bob", "text": f"{SAID}\n日本", "id": 7}) + "\n")
        text, number = bob.hear()
        self.assertEqual(text, f"{SAID}\n日本")
        self.assertEqual(json.loads(ci.next_line())["id"], 7)
        bob.confirm("ci", number)
        delivered = json.loads(ci.next_line())
        self.assertEqual((delivered["event"], delivered["id"]), ("delivered", 7))
        bob.say("ci", f"{SAID} back")
        self.assertEqual(json.loads(ci.next_line())["text"], f"{SAID} back")
        ci.end_input()
        self.assertEqual(ci.wait(), 0, ci.err)
        bob.ask("JOIN #dev")
        tail = self.process(*self.ssh("log", "tail", "#dev"))
        while bob.frame()[0] != "JOINED #dev":
            pass
        for to in ("ALL", "log", "#dev"):
            bob.say(to, f"{SAID} {to}")
        self.assertEqual(tail.next_line(), f"bob to #dev: {SAID} #dev")
        on_a_terminal = self.process(*self.ssh("tty", "tail", "#dev", terminal=True))
        while bob.frame()[0] != "JOINED #dev":
            pass
        on_a_terminal.write("\x03")
        self.assertEqual(on_a_terminal.wait(), 130)
        tail.popen.send_signal(signal.SIGTERM)
        self.server.wait_for(r"\blog went from")

    def test_a_thousand_lines_arrive_in_their_order_by_each_client(self) -> None:
        new_keys = self.ssh("ci", options=("-oRekeyLimit=4K",))  # several times
        commands = (new_keys, self.plink("ci"), self.dbclient("ci"))
        for client, command in zip(CLIENTS, commands, strict=True):
            bob = self.friend(f"bob-{client}")
            lines = [f"{SAID} {number}" for number in range(1000)]
            process = self.begin(*command, given="".join(f"@bob-{client}: {x}\n" for x in lines))
            for line in lines:
                text, number = bob.hear()
                self.assertEqual(text, line)
                bob.confirm("ci", number)
            code, out, error = self.outcome(process)
            self.assertEqual((code, out.count("Message delivered")), (0, 1000), error)

    def test_why_there_is_no_session_is_one_line_and_exit_code_2(self) -> None:
        self.friend("alice")
        for client in CLIENTS:
            for words in ((), ("/who",)):
                command = self.command(client, "alice", *words, key="other")
                code, out, error = self.finish(*command, given=f"@alice: {SAID}\n")
                self.assertEqual((code, out), (2, ""), client)
                self.assertRegex(error, IN_USE)
        code, out, error = self.finish(*self.ssh("all", "/who"))
        self.assertEqual((code, out, error), (2, "", "ERROR 100 : Malformed username : all"))


class RefusalTests(SSHTestCase):
    def test_nothing_but_one_session_is_opened(self) -> None:
        bob = self.friend("bob")
        who = "2 here: alice bob"
        code, out, error = self.finish(*self.ssh("alice", options=("-W", f"127.0.0.1:{self.port}")))
        self.assertEqual((code, out), (255, ""))
        self.assertIn("open failed", error)
        through = self.plink("alice", options=("-nc", f"127.0.0.1:{self.port}"))
        code, out, error = self.finish(*through)
        self.assertEqual((code, out), (1, ""))
        self.assertIn("Nothing is forwarded here", error)
        remote = ("-oExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1")
        code, out, error = self.finish(*self.ssh("alice", "/who", options=remote))
        self.assertEqual((code, out), (255, ""))
        self.assertIn("remote port forwarding failed", error)
        with socket.create_server(("127.0.0.1", 0)) as free:
            local = str(free.getsockname()[1])
        forwarding = self.process(
            *self.ssh("log", "tail", "@bob", options=("-L", f"{local}:127.0.0.1:{self.port}"))
        )
        self.came("log")
        with socket.create_connection(("127.0.0.1", int(local))) as through:
            self.assertEqual(through.recv(1), b"")
        forwarding.popen.kill()
        self.server.wait_for(r"\blog went from")
        agent = self.agent("alice")
        display = ("env", "DISPLAY=127.0.0.1:99", f"XAUTHORITY={self.path('xauthority')}")
        for before, options in (
            ((), (f"-oForwardAgent={agent}",)),
            (display, ("-X",)),
            (display, ("-Y",)),
        ):
            code, out, error = self.finish(*before, *self.ssh("alice", "/who", options=options))
            self.assertEqual((code, out), (0, who), error)
        for option in (("-A",), ("-X",), ("-R", "0:127.0.0.1:1")):
            code, out, error = self.finish(*self.plink("alice", "/who", options=option))
            self.assertEqual((code, out), (0, who), error)
        code, out, error = self.finish(*self.ssh("alice", "thing", options=("-s",)))
        self.assertNotEqual(code, 0)
        self.assertEqual(out, "")
        control = str(self.path("control"))
        options = ("-M", "-S", control)
        first = self.process(*self.ssh("carol", "tail", "@bob", options=options))
        self.came("carol")
        second = ("-S", control, "-oControlMaster=no")
        # Where the first connection refuses, the client tries one of its own: on a closed port.
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        code, out, error = self.finish(*self.ssh("carol", "/who", options=second, port=port))
        self.assertEqual((code, out), (255, ""))
        self.assertIn("refused", error)
        bob.say("carol", f"{SAID} still there")
        self.assertEqual(first.next_line(), f"bob: {SAID} still there")

    def test_there_are_no_files(self) -> None:
        (file := self.path("file")).write_text(SAID)
        ssh = self.ssh("alice")
        options = ssh[ssh.index("-F") : -1]
        options = tuple("-P" if word == "-p" else word for word in options)
        env = ssh[: ssh.index("ssh")]
        for command in (
            ("sftp", "-b", "-", *options, "alice@127.0.0.1"),
            ("scp", *options, str(file), "alice@127.0.0.1:file"),
            ("scp", *options, "alice@127.0.0.1:/etc/passwd", str(self.path("taken"))),
            ("scp", "-O", *options, str(file), "alice@127.0.0.1:file"),
            ("scp", "-O", *options, "alice@127.0.0.1:/etc/passwd", str(self.path("taken"))),
        ):
            code, out, error = self.finish(*env, *command, given="ls\n")
            self.assertNotEqual(code, 0, command)
            self.assertEqual(out.replace("sftp> ls", "").strip(), "")
            self.assertTrue(error, command)
        self.assertFalse(self.path("taken").exists())


class ReturnTests(SSHTestCase):
    def alice_gets(self, *texts: str, client: str = "ssh") -> None:
        """Alice comes with her key, and gets messages from bob and then nothing else."""
        alice = self.process(*self.command(client, "alice"))
        for text in texts:
            self.assertEqual(alice.next_line(), f"bob: {text}")
        alice.end_input()
        self.assertEqual(alice.wait(), 0)
        self.assertEqual(len(alice.out), len(texts))
        self.server.wait_for(r"\balice went from")

    def others_are_refused(self) -> None:
        for key in ("other", None):
            code, out, error = self.finish(*self.ssh("alice", "/who", key=key))
            self.assertEqual((code, out), (2, ""))
            self.assertRegex(error, IN_USE)

    def lose(self, *command: str) -> None:
        """Kill a client, when it has come."""
        client = self.process(*command)
        self.came("alice")
        client.popen.kill()
        self.server.wait_for(r"\balice went from")

    def test_who_is_lost_comes_back_with_the_key_and_gets_what_was_missed(self) -> None:
        bob = self.connect()
        token = bob.register("bob")["session"]
        said = iter(f"{SAID} {number}" for number in range(100))
        for client in CLIENTS:
            self.lose(*self.command(client, "alice", "tail", "@bob"))
            self.others_are_refused()
            self.assertEqual(bob.ask("SEND alice", body=(text := next(said)))[0], "SENT alice")
            # The session of a guest ends with its client, and with it the name is free.
            self.alice_gets(text, client=client)
        alice = self.process(*self.ssh("alice"))
        self.came("alice")
        self.kill()
        self.assertEqual(alice.wait(), 255)
        self.start()
        self.others_are_refused()
        bob = self.connect()
        bob.register("bob", f"Session: {token}")
        bob.ask("SEND alice", body=(text := next(said)))
        self.alice_gets(text)
        self.assertEqual(self.finish(*self.ssh("alice", "/register"))[0], 0)
        self.server.wait_for(r"\balice went from")
        self.lose(*self.ssh("alice"))
        bob.ask("SEND alice", body=(first := next(said)))
        self.kill()
        self.start()
        bob = self.connect()
        bob.register("bob", f"Session: {token}")
        bob.ask("SEND alice", body=(second := next(said)))
        self.alice_gets(first, second)
        code, out, _ = self.finish(*self.ssh("alice", "/who", key="other"))
        self.assertEqual((code, out), (255, ""))

    def test_a_message_is_delivered_when_the_client_has_taken_it_and_not_before(self) -> None:
        bob = self.friend("bob")
        alice = self.process(*self.ssh("alice"))
        self.process(*self.ssh("carol"))
        self.came(r"(?:alice|carol)", 2)
        with stopped(alice.popen.pid):
            for user in ("alice", "carol"):
                bob.say(user, SAID)
            before = starts_until(bob, "DELIVERED carol")
            bob.request("PING then")
            self.assertNotIn("DELIVERED alice", before + starts_until(bob, "PONG then"))
            self.assertEqual(alice.out, [])
        starts_until(bob, "DELIVERED alice")
        self.assertEqual(alice.next_line(), f"bob: {SAID}")


class EverybodyTests(SSHTestCase):
    def test_users_of_every_client_are_in_one_chat(self) -> None:
        oscar = Original(self.port, "oscar")
        self.addCleanup(oscar.close)
        oscar.register()
        irene = IRCPeer(self.port)
        self.addCleanup(irene.close)
        irene.join("irene", "#dev")
        alice, carol = self.process(*self.ssh("alice")), self.client("carol")
        self.came(r"(?:alice|carol)", 2)
        for client, name in ((alice, "alice"), (carol, "carol")):
            client.write("/join #dev\n")
            client.wait_for(f"{name} joined #dev")
        irene.until("carol@chat JOIN #dev")
        for client, name in ((alice, "alice"), (carol, "carol")):
            client.write(f"@ALL: {SAID} {name}\n#dev: {SAID} in #dev, {name}\n")
            self.assertEqual(oscar.hear(), (name, f"{SAID} {name}"))
            client.wait_for("Message delivered to ALL")
            client.wait_for("Message delivered to #dev")
        irene.say(f"PRIVMSG #dev :{SAID} in #dev, irene", f"PRIVMSG &ALL :{SAID} irene")
        self.assertEqual(oscar.hear(), ("irene", f"{SAID} irene"))
        self.assertEqual(oscar.send("ALL", f"{SAID} oscar"), "SEND ALL\n\n")
        self._hears(alice, "carol", oscar)
        self._hears(carol, "alice", oscar)
        heard = irene.until(f":{SAID} oscar")
        for name in ("alice", "carol"):
            self.assertIn(f":{name}!{name}@chat PRIVMSG #dev :{SAID} in #dev, {name}", heard)
            self.assertIn(f":{name}!{name}@chat PRIVMSG &ALL :{SAID} {name}", heard)
        self.server.popen.terminate()
        self.assertEqual(alice.wait(), 1)
        self.assertEqual(alice.out[-1], "Server Inactive : The server is stopping")
        self.assertEqual(self.server.wait(), 143)

    def _hears(self, client: Process, other: str, oscar: Original) -> None:
        """Wait until a client has everything that others have said."""
        client.wait_for(f"^oscar to ALL: {SAID} oscar$")
        for line in (
            f"{other} to ALL: {SAID} {other}",
            f"{other} to #dev: {SAID} in #dev, {other}",
            f"irene to #dev: {SAID} in #dev, irene",
            f"irene to ALL: {SAID} irene",
        ):
            self.assertEqual(client.out.count(line), 1, client.out)
