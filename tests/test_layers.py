"""Imports go down the layers of docs/architecture.rst, and the reactor comes as an argument."""

from __future__ import annotations

import ast
from functools import cache

from twisted.trial.unittest import TestCase

from tests.source import modules, statements

# The layers from the bottom up: a module may import modules of its own layer that come before it,
# and what its layer may. A module that is not here has no place in the house yet.
LAYERS = {
    "base": [
        "",
        "text",
        "dependencies",
        "log_lines",
        "logs",
        "metrics",
        "clocks",
        "commandline",
        "files",
        "toml_file",
        "logfile",
        "log_output",
        "memory",
        "memory_connection",
        "reactor_streams",
        "reactor_loop",
    ],
    "values": [
        "core",
        "core.errors",
        "core.message",
        "core.commands",
        "core.facts",
        "core.entries",
    ],
    "tools": [
        "core.ordered",
        "core.turns",
        "core.reads",
        "core.recent",
        "core.limits",
        "core.peerlog",
    ],
    "wire": ["frames", "refusals"],
    "auth": ["auth", "auth.keys", "auth.passwords"],
    "gate": ["auth.gate"],
    "state": [
        "core.model",
        "core.sanctions",
        "core.changes",
        "core.names",
        "core.messages",
        "core.room_rules",
        "core.accounts",
        "core.state",
        "core.snapshot",
        "core.ledger",
    ],
    "hub": [
        "core.events",
        "core.routes",
        "core.departures",
        "core.presence",
        "core.sessions",
        "core.usage",
        "core.delivery",
        "core.logins",
        "core.queries",
        "core.audit",
        "core.outcomes",
        "core.hub",
    ],
    "storage": [
        "storage",
        "storage.log",
        "storage.following",
        "storage.nats_client",
        "storage.nats_connection",
        "storage.nats",
        "storage.nats_peer",
        "storage.nats_durability",
        "storage.sql",
        "storage.terms",
        "storage.upgrade",
        "storage.clustered",
        "storage.tables",
        "storage.index",
        "storage.places",
        "storage.archive",
        "storage.lookup",
        "storage.maintenance",
        "storage.reading",
        "storage.writing",
        "storage.store",
        "storage.reads",
        "storage.copying",
        "storage.joining",
        "storage.offering",
        "storage.proposed",
        "storage.embedded",
        "storage.records",
        "storage.membership",
        "storage.replica",
        "storage.outbox",
        "storage.contact",
        "storage.cursors",
        "storage.duties",
        "storage.forgetting",
        "storage.applying",
        "storage.admission",
        "storage.agreement",
        "storage.replicated",
        "storage.housekeeping",
    ],
    "doors": [
        "doors",
        "doors.sockets",
        "doors.poller",
        "doors.tls",
        "doors.stream",
        "doors.streams",
        "doors.connecting",
        "doors.proof",
        "doors.version1",
        "doors.encoding",
        "doors.version2",
        "doors.reading",
        "doors.requests",
        "doors.framed",
        "doors.irc",
        "doors.irc.grammar",
        "doors.irc.splitting",
        "doors.irc.multiline",
        "doors.irc.masks",
        "doors.irc.numerics",
        "doors.irc.capabilities",
        "doors.irc.replies",
        "doors.irc.messages",
        "doors.irc.signals",
        "doors.irc.announcing",
        "doors.irc.context",
        "doors.irc.sasl",
        "doors.irc.negotiation",
        "doors.irc.running",
        "doors.irc.session",
        "doors.irc.door",
        "doors.irc.registration",
        "doors.irc.commands.accounts",
        "doors.irc.commands.sending",
        "doors.irc.commands.multiline",
        "doors.irc.commands.history",
        "doors.irc.commands.rooms",
        "doors.irc.commands.modes",
        "doors.irc.commands.lists",
        "doors.irc.commands.login",
        "doors.irc.commands.server",
        "doors.irc.commands.users",
        "doors.irc.commands.who",
        "doors.irc.commands.monitor",
        "doors.irc.commands.help",
        "doors.irc.commands",
        "doors.irc.welcome",
        "doors.irc.connection",
        "doors.ssh",
        "doors.ssh.visits",
        "doors.ssh.fields",
        "doors.ssh.host_keys",
        "doors.ssh.transport",
        "doors.ssh.authentication",
        "doors.ssh.output",
        "doors.ssh.channel",
        "doors.ssh.connection",
        "doors.turns",
        "doors.front",
    ],
    "ui": [
        "ui",
        "ui.values",
        "ui.errors",
        "ui.requests",
        "ui.session",
        "ui.settings",
        "ui.suggestions",
        "ui.when",
        "ui.commands",
        "ui.parsing",
        "ui.help",
        "ui.sentences",
        "ui.wording",
        "ui.records",
        "ui.conversations",
        "ui.highlight",
        "ui.folds",
        "ui.layout",
        "ui.outgoing",
        "ui.roster",
        "ui.pages",
        "ui.asking",
        "ui.console",
        "ui.turning",
        "ui.sending",
        "ui.following",
        "ui.commanding",
        "ui.arriving",
        "ui.conversation_view",
    ],
    "client": [
        "client.client_state",
        "client.address",
        "client.standard",
        "client.waiting",
        "client.incoming",
        "client.requests",
        "client.own_messages",
        "client.identity",
        "client.login",
        "client.liveness",
        "client.hosts",
        "client.reconnection",
        "client.restoration",
        "client.output",
        "client.inbox",
        "client.exchange",
        "client.session",
        "client.history",
        "client.tls",
        "client.srv",
        "client.connection",
        "client.config",
        "client.answers",
        "client.bot_session",
        "client.chat",
        "client",
        "client.export",
        "client.user_files",
        "client.pipe",
        "client.arguments",
        "client.wrapping",
        "client.completion",
        "client.themes",
        "client.terminal_kind",
        "client.terminal_output",
        "client.waiting_lines",
        "client.key_parser",
        "client.remote",
        "client.keys",
        "client.prompt",
        "client.reader",
        "client.screen",
        "client.main",
        "client.__main__",
    ],
    "inside": [
        "inside",
        "inside.confirming",
        "inside.files",
        "inside.connecting",
        "inside.pipe",
        "inside.terminal",
        "inside.host",
    ],
    "control": ["control", "control_socket"],
    "bundle": ["bundle"],
    "commands": [
        "offline",
        "reaching",
        "admin_actions",
        "admin_status",
        "cluster_actions",
        "machine",
        "doctor",
        "admin_parser",
        "admin",
        "accounts",
        "archive",
    ],
    "testing": ["testing"],
    "service": [
        "node_options",
        "option_values",
        "schema",
        "manual",
        "config_file",
        "options",
        "passed_sockets",
        "listening",
        "process",
        "state_folder",
        "cluster_storage",
        "checking",
        "collecting",
        "metrics_site",
        "reloading",
        "rates",
        "status",
        "password_threads",
        "storage_choice",
        "making_doors",
        "service_manager",
        "serving",
        "monitoring",
        "service",
    ],
}

MAY_IMPORT = {
    "base": set(),
    "values": set(),
    "tools": {"values"},
    "wire": {"values"},
    "auth": {"values", "tools"},
    "gate": {"values", "tools", "auth", "state"},
    "state": {"values", "tools"},
    "hub": {"values", "tools", "state"},
    "storage": {"values", "tools", "state"},
    "doors": {"values", "tools", "wire", "auth", "gate", "state", "hub"},
    "ui": {"values", "wire"},
    "client": {"values", "wire", "ui"},
    "inside": {"values", "wire", "doors", "ui", "client"},
    "control": {"values", "tools", "auth", "state", "hub"},
    "bundle": {"doors", "storage"},
    "commands": {"values", "tools", "auth", "state", "hub", "storage", "control", "bundle"},
    "testing": {
        "values",
        "tools",
        "wire",
        "auth",
        "gate",
        "state",
        "hub",
        "storage",
        "storage.log",
        "doors",
        "ui",
        "client",
    },
    "service": {
        "values",
        "tools",
        "state",
        "wire",
        "auth",
        "gate",
        "hub",
        "storage",
        "storage.log",
        "doors",
        "control",
        "inside",
    },
}
"""Beside ``base``, which all may import."""

VALUES_OF_THE_CLIENT = {"core.errors", "core.message"}
"""Of the chat's values the client and the user interface have these alone."""

MAY_IMPORT_THE_REACTOR = {"service"}


@cache
def imports() -> dict[str, set[str]]:
    """Return for each module the full names that it imports, wherever in it."""
    return {name: imported(source) for name, source in modules().items()}


def imported(source: str) -> set[str]:
    names = set()
    for node in statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


class LayerTests(TestCase):
    def test_every_module_has_its_place(self) -> None:
        there = {"" if name == "__init__" else name for name in imports()}
        placed = [name for layer in LAYERS.values() for name in layer]
        self.assertEqual(sorted(there), sorted(placed))

    def test_imports_go_down_the_layers(self) -> None:
        layer_of = {name: layer for layer, names in LAYERS.items() for name in names}
        for module, names in imports().items():
            module = "" if module == "__init__" else module
            layer = layer_of[module]
            before = LAYERS[layer][: LAYERS[layer].index(module)]
            for name in names:
                if not name.startswith("chat_twisted"):
                    continue
                name = name.removeprefix("chat_twisted").removeprefix(".")
                while name not in layer_of:  # down from what is imported to its module
                    name = name.rpartition(".")[0]
                allowed = name in before or layer_of[name] in {"base", *MAY_IMPORT[layer]} - {layer}
                self.assertTrue(allowed, f"{module} imports {name or 'the package'}")
                if layer in ("ui", "client") and layer_of[name] == "values":
                    self.assertIn(name, VALUES_OF_THE_CLIENT)

    def test_the_global_reactor_is_taken_by_those_who_put_the_parts_together(self) -> None:
        for module, names in imports().items():
            if "twisted.internet.reactor" in names:
                self.assertIn(module, MAY_IMPORT_THE_REACTOR)

    def test_only_passwords_have_threads(self) -> None:
        for module, names in imports().items():
            for name in names:
                threads = name.startswith(
                    ("thread", "_thread", "concurrent", "twisted.internet.threads")
                )
                if threads or "threadpool" in name:
                    self.assertEqual(module, "password_threads", name)
