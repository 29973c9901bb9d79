"""Imports go down the layers of docs/architecture.rst, and the reactor comes as an argument."""

from __future__ import annotations

import ast
from pathlib import Path

from twisted.trial.unittest import TestCase

PACKAGE = Path(__file__).resolve().parents[1] / "chat_twisted"

# What each module may import of ours. A module that is not here has no place in the house yet.
MAY_IMPORT = {
    "__init__": set(),
    "errors": set(),
    "text": set(),
    "logs": {"text"},
    "commandline": {"text"},
    "message": {"errors"},
    "frames": {"errors"},
    "changes": set(),
    "clocks": set(),
    "sql": set(),
    "files": set(),
    "logfile": {"files"},
    "index": {"message", "sql"},
    "archive": {"", "changes", "files", "index", "maintenance", "message", "sql"},
    # archive has its command from there alone, when it is run as a program
    "maintenance": {"commandline", "", "archive", "files", "index", "sql", "text"},
    "turns": {"errors", "logs"},
    "reading": {"", "archive", "errors", "index", "logs", "sql", "turns"},
    "writing": {"", "archive", "index", "reading", "sql"},
    "ledger": {
        "clocks",
        "",
        "archive",
        "changes",
        "errors",
        "index",
        "logs",
        "message",
        "reading",
        "sql",
        "turns",
        "writing",
    },
    "limits": {"errors"},
    "memory": set(),
    "peerlog": {"limits"},
    "ordered": set(),
    "held": set(),
    "moderation": {"changes", "clocks", "errors", "message", "ordered"},
    "accounts": {
        "commandline",
        "text",
        "logs",
        "",
        "archive",
        "changes",
        "errors",
        "files",
        "limits",
        "message",
        "peerlog",
        "turns",
    },
    "presence": {"errors", "ordered"},
    "rooms": {"changes", "errors", "message", "ordered"},
    "sessions": {"accounts", "errors", "limits", "message", "presence", "rooms"},
    "hub": {
        "logs",
        "",
        "accounts",
        "archive",
        "changes",
        "errors",
        "held",
        "ledger",
        "limits",
        "message",
        "moderation",
        "ordered",
        "presence",
        "rooms",
        "sessions",
        "turns",
    },
    "doors": {"errors"},
    "doors.version1": {
        "text",
        "doors",
        "errors",
        "frames",
        "hub",
        "message",
        "presence",
        "sessions",
    },
    "doors.version2": {
        "logs",
        "accounts",
        "archive",
        "doors",
        "errors",
        "frames",
        "hub",
        "message",
        "moderation",
        "ordered",
        "presence",
        "rooms",
        "sessions",
        "turns",
    },
    "doors.framed": {
        "logs",
        "accounts",
        "doors",
        "doors.poller",
        "doors.sockets",
        "doors.version1",
        "doors.version2",
        "errors",
        "frames",
        "hub",
        "limits",
        "peerlog",
        "sessions",
        "turns",
    },
    "doors.poller": {"logs", "turns"},
    "doors.sockets": set(),
    "doors.tls": {"files"},
    "doors.front": {"logs", "doors", "doors.sockets", "doors.tls", "errors", "limits", "peerlog"},
    "service": {
        "text",
        "logs",
        "",
        "accounts",
        "archive",
        "clocks",
        "doors.framed",
        "doors.front",
        "doors.poller",
        "doors.tls",
        "files",
        "frames",
        "hub",
        "ledger",
        "limits",
        "memory",
        "logfile",
        "reading",
        "turns",
    },
    "client": {"clocks", "client.chat", "client.incoming", "text"},
    "client.incoming": {"errors", "frames", "message"},
    "client.session": {"client.incoming", "errors", "frames", "message"},
    "client.identity": {"client.remembered", "text"},
    "client.history": {"client.remembered"},
    "client.address": set(),
    "client.remembered": {"files"},
    "client.standard": set(),
    "client.secure": {"client.address", "client.remembered"},
    "client.orders": {"message"},
    "client.words": {"client.incoming", "text", "client.orders", "client.session", "message"},
    "client.records": {"client.incoming", "client.orders", "client.session"},
    "client.pipe": {
        "client.incoming",
        "text",
        "client",
        "client.identity",
        "client.orders",
        "client.records",
        "client.session",
        "client.words",
        "errors",
        "message",
    },
    "client.connection": {
        "client",
        "client.address",
        "client.remembered",
        "client.secure",
        "client.session",
    },
    "client.config": {"client.address", "client.connection", "client.secure", "message"},
    "client.chat": {
        "client.address",
        "client.incoming",
        "text",
        "logs",
        "client.connection",
        "client.identity",
        "client.remembered",
        "client.secure",
        "client.session",
        "errors",
        "files",
        "frames",
        "message",
    },
    "client.arguments": {
        "commandline",
        "text",
        "",
        "client",
        "client.address",
        "client.config",
        "client.connection",
        "client.orders",
        "client.records",
        "client.remembered",
        "client.secure",
        "client.session",
        "client.words",
        "errors",
        "files",
        "message",
    },
    "client.talk": {
        "client.incoming",
        "text",
        "logs",
        "client",
        "client.config",
        "client.identity",
        "client.orders",
        "client.session",
        "client.words",
        "errors",
        "message",
    },
    "client.screen": {"text", "client", "client.config", "client.orders", "client.talk"},
    "client.command": {
        "text",
        "client.arguments",
        "client.connection",
        "client.history",
        "client.identity",
        "client.pipe",
        "client.records",
        "client.remembered",
        "client.screen",
        "client.standard",
        "client.talk",
        "client.words",
        "clocks",
        "message",
    },
    "client.__main__": {"client.arguments", "client.command"},
    "testing": {
        "",
        "accounts",
        "archive",
        "client.chat",
        "doors.framed",
        "errors",
        "frames",
        "hub",
        "index",
        "ledger",
        "limits",
        "sql",
        "turns",
    },
}

MAY_IMPORT_THE_REACTOR = {"service"}


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] == "__init__" and len(parts) > 1:
            parts = parts[:-1]
        found[".".join(parts)] = ast.parse(path.read_text())
    return found


def imported(tree: ast.Module) -> set[str]:
    """The full names that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


class LayerTests(TestCase):
    def test_every_module_has_its_place(self) -> None:
        self.assertEqual(set(modules()), set(MAY_IMPORT))

    def test_imports_go_down_the_layers(self) -> None:
        ours = set(MAY_IMPORT) - {"__init__"}
        for module, tree in modules().items():
            for name in imported(tree):
                if not name.startswith("chat_twisted"):
                    continue
                name = name.removeprefix("chat_twisted").removeprefix(".")
                while name and name not in ours:  # down from what is imported to its module
                    name = name.rpartition(".")[0]
                self.assertIn(name, MAY_IMPORT[module], f"{module} imports {name or 'the package'}")

    def test_the_global_reactor_is_taken_by_those_who_put_the_parts_together(self) -> None:
        for module, tree in modules().items():
            if "twisted.internet.reactor" in imported(tree):
                self.assertIn(module, MAY_IMPORT_THE_REACTOR)

    def test_only_the_service_has_threads_and_only_for_passwords(self) -> None:
        for module, tree in modules().items():
            for name in imported(tree):
                threads = name.startswith(
                    ("thread", "_thread", "concurrent", "twisted.internet.threads")
                )
                if threads or "threadpool" in name:
                    self.assertEqual(module, "service", name)
