"""The operator's command for the nodes of a cluster, and what is refused on a node's archive."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, fail, succeed

from chat_twisted import admin, cluster_actions
from chat_twisted.control import Control
from chat_twisted.control_socket import ControlFactory
from chat_twisted.core.commands import Login, Send
from chat_twisted.core.errors import NotPermitted, Unavailable
from chat_twisted.core.facts import SessionCame, UserCame
from chat_twisted.core.snapshot import load
from chat_twisted.doors import tls
from chat_twisted.files import FilesError
from chat_twisted.options import Options
from chat_twisted.state_folder import StateFolder
from chat_twisted.storage import archive, membership, replica
from chat_twisted.storage.clustered import Node, find_node
from chat_twisted.storage.replica import Replica
from tests import test_bundle
from tests.memory_log import ClusterTestCase, MemoryLog
from tests.memory_log import Node as MemoryNode
from tests.store import write
from tests.test_admin import AdminTestCase
from tests.test_control_socket import ControlTestCase
from tests.test_gate import KEY

STATUS: dict[str, Any] = {
    **{"node": "a", "incarnation": 3, "stream": "7f3c", "position": 1234, "last": 1240},
    **{"chain": "00ff", "format": 1, "in_touch": True},
    "nodes": [
        {"name": "a", "member": True, "position": 1234, "silent": 0.42, "format": 1},
        {"name": "b", "member": False, "position": 900, "silent": 3600.0, "format": 1},
    ],
}


def make_node(path: Path, name: str = "a") -> None:
    """Make an archive a node's."""
    with contextlib.closing(archive.connect(path)) as connection:
        cursor = connection.cursor()
        replica.join(cursor, Replica("stream", 1234, b"chain", name, 3))
        other = membership.Node("b", 7, 1, 0, 900, 1, 5, live=False)
        cursor.execute("INSERT INTO node VALUES (?, ?, ?, ?, ?, ?, ?, ?)", other.row)
        connection.commit()


class NodeTestCase(AdminTestCase):
    @property
    def path(self) -> Path:
        return self.folder / archive.FILE

    def node(self) -> Node | None:
        """The node that the archive belongs to."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return find_node(connection)


class FakeCluster:
    """A node with a failure for each name that it can't forget."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.refusals: dict[str, Exception] = {}

    def status(self) -> dict[str, Any]:
        return STATUS

    def forget(self, name: str) -> Deferred[None]:
        if name in self.refusals:
            return fail(self.refusals[name])
        self.forgotten.append(name)
        return succeed(None)


class AskingTests(ControlTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.cluster = FakeCluster()
        control = Control(self.hub, None, self.cluster)
        self.commands = ControlFactory(control, self.clock)

    def test_a_node_tells_how_the_cluster_is(self) -> None:
        self.assertEqual(self.ask("cluster status"), STATUS)

    def test_a_node_is_forgotten_when_that_is_committed(self) -> None:
        self.assertEqual(self.ask("forget node", name="b"), {})
        self.assertEqual(self.cluster.forgotten, ["b"])

    def test_a_reason_why_not_is_told(self) -> None:
        self.cluster.refusals = {
            "b": NotPermitted("node b is a member: stop it first"),
            "c": Unavailable("the log does not answer"),
        }
        self.assertEqual(self.ask("forget node", name="b"), "node b is a member: stop it first")
        self.assertIn("log does not answer", self.ask("forget node", name="c"))
        for name in ("", "B", "b b", "b\n", "x" * 33, "\ud800"):
            self.assertIn("is no name of a node", self.ask("forget node", name=name))
        self.assertEqual(self.cluster.forgotten, [])

    def test_a_single_server_says_that_it_is_none(self) -> None:
        self.commands = ControlFactory(Control(self.hub, None), self.clock)
        for ask, fields in (("cluster status", {}), ("forget node", {"name": "b"})):
            self.assertEqual(self.ask(ask, **fields), "this server is not in a cluster")


class StatusTests(NodeTestCase):
    def test_a_running_node_is_described(self) -> None:
        @contextlib.contextmanager
        def reach(*_: object) -> Iterator[Any]:
            yield lambda ask: STATUS, True

        with mock.patch.object(cluster_actions, "reach", reach):
            code, out, err = self.run_command("cluster", "status")
            self.assertEqual((code, err), (0, ""))
            self.assertEqual(
                out.splitlines(),
                [
                    "node         a, incarnation 3",
                    "log          position 1234 of 1240, stream 7f3c",
                    "format       1",
                    "chain        00ff",
                    "clients      served",
                    "a member position=1234 behind=6 silent=0.4s format=1",
                    "b gone position=900 behind=340 silent=3600.0s format=1",
                ],
            )
            code, out, err = self.run_command("cluster", "status", "--json")
            self.assertEqual(json.loads(out), {"running": True, **STATUS})
            with mock.patch.dict(STATUS, {"in_touch": False}):
                for name in ("incarnation", "stream", "last"):  # which not each node knows
                    del STATUS[name]
                out = self.run_command("cluster", "status")[1]
        self.assertIn("node         a\nlog          position 1234\n", out)
        self.assertIn("clients      none, until the log can be reached\n", out)
        self.assertIn("b gone position=900 behind=334 silent=3600.0s format=1\n", out)

    def test_a_stopped_node_tells_what_is_in_its_archive(self) -> None:
        make_node(self.path)
        code, out, err = self.run_command("cluster", "status")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(
            out.splitlines(),
            [
                "node         a, incarnation 3, not running",
                "log          position 1234, stream stream",
            ],
        )
        found = json.loads(self.run_command("cluster", "status", "--json")[1])
        self.assertEqual(
            found,
            {
                **{"running": False, "node": "a", "incarnation": 3},
                **{"stream": "stream", "position": 1234},
            },
        )

    def test_a_single_server_is_none(self) -> None:
        for action in (("status",), ("forget", "b"), ("leave",)):
            code, out, err = self.run_command("cluster", *action)
            self.assertEqual((code, out, err), (1, "", "this server is not in a cluster\n"))


class StoppedNodeTests(NodeTestCase):
    def test_its_archive_is_read_and_not_changed(self) -> None:
        self.run_command("ban", "bob")
        make_node(self.path)
        key = self.folder / "id.pub"
        key.write_text(KEY)
        for arguments in (
            ("accounts", "add", "ci", "--key", str(key)),
            ("ban", "carol"),
            ("pardon", "bob"),
            ("kick", "bob"),
            ("cluster", "forget", "b"),
        ):
            code, out, err = self.run_command(*arguments)
            self.assertEqual((code, out, err.count("\n")), (2, "", 1), (arguments, err))
            self.assertIn("it belongs to node a of a cluster, and only the cluster's log may", err)
        self.assertEqual(self.run_command("sanctions")[1], "ban bob until ever by admin\n")
        self.assertEqual(self.run_command("status")[0], 0)
        self.assertEqual(self.run_command("accounts", "list"), (0, "", ""))
        self.assertEqual(self.run_command("check"), (0, "sound\n", ""))
        self.assertEqual(self.run_command("export"), (0, "", ""))

    def test_it_is_not_started_as_a_single_server(self) -> None:
        make_node(self.path)
        options = Options()
        options.parseOptions(["--state", str(self.folder), "--ssh", "no"])
        with self.assertRaisesRegex(FilesError, "start it with --cluster and --node a, or run"):
            StateFolder(options, None, None, lambda line: None)
        self.assertFalse((self.folder / tls.CERTIFICATE).exists())


class LeavingTests(NodeTestCase):
    def test_the_archive_is_a_single_servers_then(self) -> None:
        self.say("kept")
        make_node(self.path)
        code, out, err = self.run_command("cluster", "leave")
        self.assertEqual((code, err), (0, ""))
        self.assertIn("it was node a. Start it without --cluster; or with it, ", out)
        self.assertIn('run "cluster forget a" on one of them', out)
        self.assertIsNone(self.node())
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            self.assertEqual(connection.execute("SELECT * FROM node").fetchall(), [])
        self.assertEqual(self.run_command("ban", "bob"), (0, "", ""))
        self.assertIn('"kept"', self.run_command("export")[1])
        self.assertEqual(self.run_command("cluster", "leave")[0], 1)

    def test_users_who_were_on_any_node_are_gone(self) -> None:
        with contextlib.closing(archive.connect(self.path)) as connection:
            for user, name, node in ((7, "alice", 11), (8, "bob", 22), (9, "carol", 0)):
                came = UserCame(user, name, True, 0, user)
                session = SessionCame(user, 1, node, "192.0.2.1", b"", "", True, ())
                write(connection.cursor(), [came, session])
            connection.commit()
        make_node(self.path)
        self.assertEqual(self.run_command("cluster", "leave")[0], 0)
        state = load(archive.prepare(self.folder).snapshot)
        self.assertEqual([len(user.sessions) for user in state.users.values()], [0, 0, 0])
        with contextlib.closing(archive.connect(self.path)) as connection:
            self.assertEqual(connection.execute("SELECT * FROM session").fetchall(), [])

    def test_nothing_is_changed_if_it_fails(self) -> None:
        make_node(self.path)
        with contextlib.closing(archive.connect(self.path)) as connection:
            connection.execute(
                "CREATE TRIGGER full BEFORE DELETE ON cluster "
                "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        code, out, err = self.run_command("cluster", "leave")
        self.assertEqual((code, out), (2, ""))
        self.assertIn("chat.sqlite: disk full", err)
        self.assertIsNotNone(self.node())

    def test_a_folder_that_is_not_there_is_not_made(self) -> None:
        self.folder = self.folder / "nowhere"
        code, _, err = self.run_command("cluster", "leave")
        self.assertEqual((code, err), (2, f"{self.folder}: No such file or directory\n"))
        self.assertFalse(self.folder.exists())


class LostLogTests(ClusterTestCase):
    def admin(self, node: MemoryNode, *arguments: str) -> str:
        """Run the command on the folder of a node that has ended."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = admin.main([*arguments, "--state", str(node.folder)])
        self.assertEqual(code, 0, out.getvalue())
        return out.getvalue()

    def test_a_node_that_leaves_can_begin_a_new_log_with_all_that_it_has(self) -> None:
        a, b = self.up("a", "b")
        for node, name, id in ((a, "ann", 1), (b, "bob", 2)):
            login = Login(name, id, b"token of %d" % id, node=node.number, time=1)
            node.propose(login, "login")
        self.run_for(0.1)
        a.propose(Send(1, 1, "ALL", "hello", 5, None), "said")
        self.run_for(0.1)
        position = a.ledger.status()["position"]
        for node in (a, b):
            node.kill()
        self.assertIn(f"position {position}, stream one", self.admin(a, "cluster", "status"))
        self.admin(a, "cluster", "leave")

        self.log = MemoryLog(self.clock)
        self.log.identity = "two"
        [again] = self.up("a")
        users = again.ledger.state.users.values()
        self.assertEqual(
            [(user.name, len(user.sessions)) for user in users], [("ann", 0), ("bob", 0)]
        )
        again.propose(Login("cat", 3, b"token of 3", node=again.number, time=1), "login")
        self.run_for(0.1)
        self.assertEqual(again.result("login").user, 3)
        again.kill()
        self.assertIn("stream two", self.admin(again, "cluster", "status"))
        self.assertIn('"hello"', self.admin(again, "export"))

    def test_the_status_of_a_running_node_can_be_shown(self) -> None:
        a, _ = self.up("a", "b")
        self.run_for(2)

        @contextlib.contextmanager
        def reach(*_: object) -> Iterator[Any]:
            yield lambda ask: json.loads(json.dumps(a.ledger.status())), True

        with mock.patch.object(cluster_actions, "reach", reach):
            lines = self.admin(a, "cluster", "status").splitlines()
        self.assertEqual(lines[0], "node         a")
        self.assertIn("clients      served", lines)
        for line, name in zip(lines[-2:], "ab", strict=True):
            self.assertRegex(
                line, rf"^{name} member position=\d+ behind=\d silent=\d\.\ds format=1$"
            )


class BackupTests(NodeTestCase):
    def backup(self) -> str:
        file = str(self.folder / "backup.sqlite")
        self.assertEqual(self.run_command("backup", file)[0], 0)
        self.assertEqual(self.run_command("check", file), (0, "sound\n", ""))
        return file

    def test_the_copy_of_a_node_can_be_restored_and_says_whose_it_is(self) -> None:
        make_node(self.path)
        file = self.backup()
        for _ in "on the node", "on a single server":
            code, out, err = self.run_command("restore", file)
            self.assertEqual((code, err), (0, ""))
            self.assertIn("it is a copy of node a of a cluster up to position 1234 of the log", out)
            # A namesake that starts with it can't prove to be the node.
            self.assertEqual(self.node(), Node("a", 0, "stream", 1234))
            self.run_command("cluster", "leave")

    def test_the_copy_of_a_single_server_is_no_nodes(self) -> None:
        file = self.backup()
        self.assertNotIn("single server", self.run_command("restore", file)[1])
        make_node(self.path)
        code, out, err = self.run_command("restore", file)
        self.assertEqual((code, err), (0, ""))
        self.assertIn("it is a single server's: a node can't follow the log from it", out)
        self.assertIsNone(self.node())

    def test_a_damaged_node_can_be_replaced(self) -> None:
        make_node(self.path)
        file = self.backup()
        self.path.write_bytes(b"damaged" * 1000)
        code, out, _ = self.run_command("restore", file)
        self.assertEqual(code, 0)
        self.assertIn("it is a copy of node a", out)

    def test_an_archive_of_an_older_version_is_no_nodes(self) -> None:
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            self.assertIsNone(find_node(connection))


class BundleTests(AdminTestCase):
    def test_two_nodes_get_the_same_files(self) -> None:
        test_bundle.bundle.install(self.folder, test_bundle.contents(), lambda line: None)
        file, first = self.folder / "bundle.tar", self.folder
        code, made, err = self.run_command("cluster", "init", str(file))
        self.assertEqual((code, err), (0, ""))
        *prints, advice = made.splitlines()
        self.assertEqual([line.split(" ")[0] for line in prints], ["certificate", "host", "host"])
        self.assertTrue(advice.startswith(f"{file}: copy it to the other machines"))
        self.folder = first / "second"
        code, out, err = self.run_command("cluster", "join", str(file))
        self.assertEqual((code, out.splitlines(), err), (0, prints, ""))
        self.assertEqual((self.folder / tls.KEY).read_bytes(), (first / tls.KEY).read_bytes())

    def test_what_is_refused_is_one_line(self) -> None:
        test_bundle.bundle.install(self.folder, test_bundle.contents(), lambda line: None)
        file = self.folder / "bundle.tar"
        self.run_command("cluster", "init", str(file))
        own = str(self.folder / tls.CERTIFICATE)
        (self.folder / "text").write_text("text")
        (self.folder / "text").chmod(0o600)
        for arguments, expected, reason in (
            (("init", str(file)), 2, "bundle.tar: File exists"),
            (("init", "/nowhere/b"), 2, "/nowhere/b: No such file or directory"),
            (("init", "b", "--certificate", own), 1, "--certificate and --private-key go together"),
            (("init", "b", "--certificate", own, "--private-key", own), 1, "unencrypted private"),
            (("join", str(self.folder / "text")), 1, "text: not a bundle"),
            (("join", "/nowhere"), 2, "/nowhere: No such file or directory"),
        ):
            code, out, err = self.run_command("cluster", *arguments)
            self.assertEqual((code, out, err.count("\n")), (expected, "", 1), (arguments, err))
            self.assertIn(reason, err)
        (self.folder / tls.CERTIFICATE).write_text("another")
        code, _, err = self.run_command("cluster", "join", str(file))
        self.assertEqual(code, 1)
        self.assertIn("certificate.pem: another one than in the bundle", err)

    def test_without_an_action_it_is_a_wrong_command_line(self) -> None:
        err = io.StringIO()
        with contextlib.redirect_stderr(err), self.assertRaises(SystemExit) as ended:
            admin.main(["cluster"])
        self.assertEqual(ended.exception.code, 2)
        self.assertIn("ACTION", err.getvalue())
