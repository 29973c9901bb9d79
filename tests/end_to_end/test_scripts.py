"""The client as a part of scripts: one message, one conversation, and JSON (docs/scripts.rst)."""

from __future__ import annotations

import configparser
import json
import pkgutil
import shlex
import signal
import socket
from typing import Any

from tests.end_to_end.support import ROOT, Process, ServerTestCase


class ScriptTestCase(ServerTestCase):
    def end(self, user: str, *options: str) -> tuple[int, list[str], list[str]]:
        """Run a client to its end, with an input that would make it fail if it were read."""
        client = self.client(user, *options)
        client.write("@nobody: this is not for the client\n")
        code = client.wait()
        return code, client.out, client.err

    def bob(self, *options: str) -> Process:
        bob = self.client("bob", *options)
        self.came("bob")
        return bob


class OnceTests(ScriptTestCase):
    def test_one_message_is_sent_and_the_exit_code_says_what_became_of_it(self) -> None:
        bob = self.bob()
        for line, shown in (("@bob: one: two", "ci: one: two"), ("@ALL: all", "ci to ALL: all")):
            code, out, err = self.end("ci", "--once", line)
            self.assertEqual((code, out, err), (0, [f"Message delivered to {line[1:4]}"], []))
            self.assertEqual(bob.next_line(), shown)
        self.assertEqual(
            self.end("ci", "--once", "@carol: x"),
            (1, ["ERROR 102 : Unable to Send : Message not delivered to carol"], []),
        )
        code, out, _ = self.end("ci", "--once", "#dev: x")
        self.assertEqual((code, len(out)), (1, 1))
        code, out, err = self.end("ci", "--once", "no address")
        self.assertEqual((code, out), (2, []))
        self.assertIn("--once: Use the following format", "\n".join(err))

    def test_one_command_is_done(self) -> None:
        self.bob()
        self.assertEqual(self.end("ci", "--once", "/who"), (0, ["2 here: bob ci"], []))
        self.assertEqual(self.end("ci", "--once", "/rooms"), (0, ["No rooms"], []))
        self.assertEqual(self.end("ci", "--once", "/topic #dev x")[0], 1)
        code, out, err = self.end("ci", "--once", "/jion #dev")
        self.assertEqual((code, out), (2, []))
        self.assertIn("No such command: /jion", err[-1])

    def test_no_server_is_exit_code_2(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = str(unused.getsockname()[1])
            code, out, err = self.end("ci", "--once", "@bob: x", "--port", port)
        self.assertEqual((code, out), (2, []))
        self.assertEqual(err, [f"connection refused: no server at 127.0.0.1:{port}"])

    def test_each_message_of_an_account_arrives_however_soon_the_next_client_sends_it(self) -> None:
        self.assertEqual(self.end("ci", "--once", "/register")[0], 0)
        bob = self.bob()
        for text in ("one", "two", "three"):
            self.assertEqual(self.end("ci", "--once", f"@bob: {text}")[0], 0)
            self.assertEqual(bob.next_line(), f"ci: {text}")


class TailTests(ScriptTestCase):
    def tail(self, conversation: str, user: str = "log") -> Process:
        tail = self.client(user, "--tail", conversation)
        tail.write("@ALL: this is not read\n")
        self.came(user)
        return tail

    def test_each_conversation_alone_is_shown_as_long_as_it_is_wanted(self) -> None:
        bob, carol = self.bob(), self.client("carol")
        self.came("carol")
        bob.write("/join #dev\n/join #other\n")
        bob.wait_for("bob joined #other")
        room, user, everybody = (
            self.tail("#dev", "room"),
            self.tail("@Bob", "user"),
            self.tail("@ALL", "everybody"),
        )
        bob.wait_for("room joined #dev")
        bob.write("#other: in another room\n#dev: in the room\n@ALL: to all\n/topic #dev new\n")
        for name in ("room", "user", "everybody"):
            bob.write(f"@{name}: to you\n")
            carol.write(f"@{name}: from carol\n")
            for client in (bob, carol):
                client.wait_for(f"Message delivered to {name}")
        bob.write("#dev: in the room again\n@ALL: to all again\n@user: to you again\n")
        for tail, lines in (
            (room, ["bob to #dev: in the room", "bob to #dev: in the room again"]),
            (user, ["bob: to you", "bob: to you again"]),
            (everybody, ["bob to ALL: to all", "bob to ALL: to all again"]),
        ):
            self.assertEqual([tail.next_line(), tail.next_line()], lines)
            tail.popen.send_signal(signal.SIGINT)
            self.assertEqual((tail.wait(), tail.out, tail.err), (130, lines, []))

    def test_it_ends_when_nobody_reads_it_any_more(self) -> None:
        bob = self.bob()
        command = shlex.join([*bob.popen.args, "--tail", "@ALL"]).replace("bob", "log", 1)
        pipeline = self.process("bash", "-c", f"{command} | head -n 1; echo ${{PIPESTATUS[@]}}")
        self.came("log")
        bob.write("@ALL: one\n@ALL: two\n")
        bob.wait_for("Message delivered to ALL")
        bob.wait_for("Message delivered to ALL")
        bob.write("@ALL: three\n")
        self.assertEqual(pipeline.wait(), 0)
        self.assertEqual((pipeline.out, pipeline.err), (["bob to ALL: one", "1 0"], []))

    def test_it_goes_on_when_the_server_has_been_killed_and_started_again(self) -> None:
        bob = self.bob()
        bob.write("/join #dev\n")
        bob.wait_for("bob joined #dev")
        tail = self.tail("#dev")
        bob.wait_for("log joined #dev")
        bob.write("#dev: before\n")
        self.assertEqual(tail.next_line(), "bob to #dev: before")
        self.kill()
        bob.write("#dev: meanwhile\n")
        self.start()
        self.assertEqual(tail.next_line(), "bob to #dev: meanwhile")
        self.assertEqual(tail.out, ["bob to #dev: before", "bob to #dev: meanwhile"])

    def test_what_can_not_be_had_is_refused(self) -> None:
        bob = self.bob()
        bob.write("/join #secret private\n")
        bob.wait_for("bob joined #secret")
        code, out, _ = self.end("log", "--tail", "#secret")
        self.assertEqual((code, len(out)), (1, 1))
        for wrong in ("b@d", "#", "#a room"):
            code, out, err = self.end("log", "--tail", wrong)
            self.assertEqual((code, out), (2, []))
            self.assertIn("is no #room, @user or @ALL", err[-1])


class JsonTests(ScriptTestCase):
    def read(self, client: Process) -> dict[str, Any]:
        line = client.next_line()
        self.assertTrue(line.isascii(), line)
        return json.loads(line)

    def write(self, client: Process, **fields: Any) -> None:
        client.write(json.dumps(fields) + "\n")

    def test_objects_go_in_and_objects_come_out(self) -> None:
        bob = self.client("bob", "--json")
        self.assertEqual(self.read(bob), {"event": "registered", "user": "bob", "kept": "ever"})
        ci = self.client("ci", "--json")
        self.assertEqual(self.read(ci), {"event": "registered", "user": "ci", "kept": "ever"})

        text = "漢字\n@ALL: not to all\n\x1b[31m\N{GRINNING FACE}"
        self.write(ci, to="bob", text=text, id={"any": ["value"]})
        sent, delivered = self.read(ci), self.read(ci)
        number, time = sent.pop("number"), sent.pop("time")
        self.assertEqual(sent, {"event": "sent", "id": {"any": ["value"]}, "to": "bob"})
        self.assertEqual(delivered, {"event": "delivered", "id": {"any": ["value"]}, "to": "bob"})
        message = {"number": number, "time": time, "from": "ci", "to": "bob", "text": text}
        self.assertEqual(self.read(bob), {"event": "message", **message})
        self.assertRegex(time, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")

        self.write(ci, command="/history @bob", id=7)
        history = self.read(ci)
        self.assertEqual(history, {"event": "history", "id": 7, "messages": [message]})
        self.write(ci, command="/who")
        users = [{"user": user, "state": "here"} for user in ("bob", "ci")]
        self.assertEqual(self.read(ci), {"event": "who", "users": users})
        self.write(ci, command="/join #dev", id="join")
        joined = self.read(ci)
        self.assertEqual((joined["event"], joined["id"]), ("joined", "join"))
        self.assertEqual((joined["room"], joined["user"]), ("#dev", "ci"))
        self.write(ci, command="/rooms")
        room = {"room": "#dev", "members": 1, "member": True, "private": False}
        self.assertEqual(self.read(ci), {"event": "rooms", "rooms": [room]})
        ci.end_input()
        self.assertEqual((ci.wait(), ci.err), (0, []))
        self.write(bob, command="/quit")
        self.assertEqual((bob.wait(), bob.err), (0, []))

    def test_what_is_refused_or_not_understood_is_said_and_in_the_exit_code(self) -> None:
        ci = self.client("ci", "--json")
        self.assertEqual(self.read(ci)["event"], "registered")
        self.write(ci, to="nobody", text="x", id=1)
        refused = self.read(ci)
        self.assertEqual((refused["event"], refused["id"]), ("refused", 1))
        self.assertEqual((refused["code"], refused["to"]), (102, "nobody"))
        self.write(ci, command="/topic #none x", id=2)
        refused = self.read(ci)
        self.assertEqual((refused["event"], refused["id"]), ("refused", 2))
        self.assertEqual((refused["command"], refused["about"]), ("/topic", "#none"))
        ci.write("\n")  # which is nothing
        for line in ("@bob: hello", "[]", "7", "{}", '{"to": 1, "text": "x"}', "[" * 100_000):
            ci.write(f"{line}\n")
            self.assertEqual(self.read(ci)["event"], "mistake", line[:100])
        for fields in ({"to": "bob", "text": ""}, {"command": "who"}, {"command": "/nonsense"}):
            self.write(ci, **fields, id=3)
            mistake = self.read(ci)
            self.assertEqual((mistake["event"], mistake["id"]), ("mistake", 3), fields)
        ci.end_input()
        self.assertEqual((ci.wait(), ci.err), (1, []))

    def test_a_command_that_can_not_be_sent_is_refused_and_costs_no_connection(self) -> None:
        ci = self.client("ci", "--json")
        self.assertEqual(self.read(ci)["event"], "registered")
        long = "x" * 100_000
        for command in (
            "/away no\0text",
            "/search no\0text",
            f"/search {long}",
            f"/topic #dev {long}",
            f"/join #{long}",
            f"/invite #dev {long}",
            f"/history @{long}",
            "/ban a\0b",
            "/keys remove ssh-ed25519\n   AAAA",
        ):
            self.write(ci, command=command, id=7)
            answer = self.read(ci)
            self.assertIn(answer["event"], ("refused", "mistake"), command[:30])
            self.assertEqual(answer.get("id"), 7, command[:30])
        self.write(ci, command="/who")
        self.assertEqual(self.read(ci)["event"], "who")
        ci.end_input()
        self.assertEqual((ci.wait(), ci.err), (1, []))

    def test_with_once_and_tail_what_comes_out_is_json(self) -> None:
        tail = self.client("log", "--json", "--tail", "@ALL")
        self.came("log")
        ci = self.client("ci", "--json", "--once", '{"to": "ALL", "text": "done"}')
        self.assertEqual((ci.wait(), ci.err), (0, []))
        self.assertEqual([json.loads(line)["event"] for line in ci.out], ["sent"])
        self.assertEqual(self.read(tail)["text"], "done")
        ci = self.client("ci", "--json", "--once", "@ALL: done in words")
        self.assertEqual((ci.wait(), ci.err), (0, []))
        self.assertEqual([json.loads(line)["event"] for line in ci.out], ["sent"])
        self.assertEqual(self.read(tail)["text"], "done in words")

    def test_a_lost_connection_is_said(self) -> None:
        ci = self.client("ci", "--json")
        self.assertEqual(self.read(ci)["event"], "registered")
        self.kill()
        self.assertEqual(self.read(ci)["event"], "disconnected")
        self.start()
        self.assertEqual(self.read(ci), {"event": "reconnected"})


class NameTests(ScriptTestCase):
    def test_the_client_is_installed_as_a_command(self) -> None:
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg", encoding="utf-8")
        scripts = setup["options.entry_points"]["console_scripts"].strip().splitlines()
        commands = dict(line.replace(" ", "").split("=") for line in scripts)
        self.assertTrue(callable(pkgutil.resolve_name(commands["chat-twisted"])))
