"""The lines of the log: named events, as text and as JSON, and what a fault may tell."""

from __future__ import annotations

import ast
import json
import re
import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import Any

from twisted.logger import LogEvent, globalLogPublisher
from twisted.python import log as legacy_log
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chat_twisted.core.errors import Unavailable
from chat_twisted.log_lines import AUDIT, FAULT, LIBRARY, Line, as_json, as_text, describe, explain
from chat_twisted.logs import Logger
from tests.source import dotted, modules

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "operations" / "logs.rst"
LEVELS = {"debug", "info", "warn", "error", "critical"}
OF_PEERS = {"login-failed": "warn"}
"""The level of events that ``PeerLog`` writes; of the others it is info."""

OTHERS = {FAULT: "critical", LIBRARY: "any level", "lines-omitted": "info or warn"}
"""Events whose level is not that of one call."""


def fail_with(error: Exception) -> Failure:
    try:
        raise error
    except Exception:  # noqa: BLE001  of any kind
        return Failure()


class LineTests(TestCase):
    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.log = Logger("chat_twisted.test")

    def line(self) -> Line:
        return describe(self.events[-1])

    def test_text_has_time_level_event_and_what_has_happened(self) -> None:
        self.log.warn("{user} came", event="login", user="a\nb", count=3)
        text = as_text(self.line()._replace(time=0.25))
        self.assertRegex(
            text, r"^19(70-01-01|69-12-31)T\d\d:\d\d:00\.250[+-]\d\d:\d\d warn login a␊b came\n$"
        )
        self.assertEqual(as_text(self.line(), with_time=False), "warn login a␊b came\n")

    def test_json_has_the_values_too(self) -> None:
        self.log.info(
            "{user} came", event="login", user="é\u2028", count=3, path=Path("/x"), no=None
        )
        text = as_json(self.line())
        self.assertEqual(text.count("\n"), 1)
        found = json.loads(text)
        self.assertRegex(found.pop("time"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d$")
        self.assertEqual(
            found,
            {
                "level": "info",
                "event": "login",
                "text": self.line().text,
                "user": found["user"],
                "count": 3,
                "path": "/x",
                "no": None,
            },
        )

    def test_a_value_can_not_stand_in_for_another_part(self) -> None:
        line = Line(0.0, "info", "login", "x", {"level": "error", "time": 1, "text": "y"})
        found = json.loads(as_json(line))
        self.assertEqual((found["level"], found["text"], found["event"]), ("info", "x", "login"))

    def test_events_of_libraries_have_one_name_and_no_values(self) -> None:
        legacy_log.msg("Starting\nup", secret="x")
        self.assertEqual(self.line()[1:], ("info", LIBRARY, "Starting␊up", {}))

    def test_a_fault_is_one_line_with_the_places(self) -> None:
        self.log.failure("while {function} ran", fail_with(TypeError("no int")), function="f")
        line = self.line()
        self.assertEqual((line.level, line.event), ("critical", FAULT))
        self.assertRegex(
            line.text,
            r"^while f ran: TypeError: no int\. Traceback: tests/test_log_lines\.py:\d+ in fail_",
        )
        self.assertEqual(line.fields["function"], "f")
        self.assertEqual(line.fields["exception"], "TypeError: no int")
        self.assertEqual(len(line.fields["traceback"]), 1)

    def test_the_message_of_an_exception_that_may_quote_a_user_is_left_out(self) -> None:
        for error in (KeyError("secret"), ValueError("secret"), UnicodeError("secret")):
            self.log.failure("while it ran", fail_with(error))
            line = self.line()
            self.assertNotIn("secret", as_text(line) + as_json(line))
            self.assertIn(type(error).__name__, line.text)

    def test_the_message_of_a_fault_in_a_library_is_left_out_too(self) -> None:
        legacy_log.err(fail_with(KeyError("secret")), "because of secret")
        line = self.line()
        self.assertNotIn("secret", as_text(line) + as_json(line))
        self.assertIn("KeyError. Traceback: tests/test_log_lines.py", line.text)
        self.assertEqual(line.event, FAULT)
        self.flushLoggedErrors(KeyError)

    def tearDown(self) -> None:
        self.flushLoggedErrors()

    def test_what_the_system_says_is_told(self) -> None:
        self.assertEqual(explain(OSError(28, "No space left")), "OSError: [Errno 28] No space left")
        self.assertEqual(
            explain(sqlite3.OperationalError("disk\nfull")), "OperationalError: disk␊full"
        )
        self.assertEqual(explain(Unavailable("can't write")), "can't write")
        self.assertEqual(explain(LookupError("secret")), "LookupError")


class EventTests(TestCase):
    """``docs/operations/logs.rst`` has each event of the server, and no other."""

    def setUp(self) -> None:
        self.levels: dict[str, set[str]] = defaultdict(set)
        self.fields: dict[str, set[str]] = defaultdict(set)
        self.unnamed: list[str] = []
        for module, source in modules().items():
            if module.partition(".")[0] not in ("client", "ui"):
                for node in ast.walk(ast.parse(source)):
                    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                        self.take(module, node, node.func)

    def take(self, module: str, call: ast.Call, function: ast.Attribute) -> None:
        values = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
        method, of = function.attr, dotted(function.value)
        logs = method in LEVELS and (of.endswith("log") or of.startswith("Logger"))
        if "event" not in values:
            if logs:
                self.unnamed.append(f"{module}:{call.lineno}")
            return
        event = values.pop("event")
        name = event.value if isinstance(event, ast.Constant) else AUDIT
        self.assertTrue(logs or method in ("emit", "_write"), f"{module}:{call.lineno}")
        level = method if logs else OTHERS.get(str(name), OF_PEERS.get(str(name), "info"))
        self.levels[str(name)].add(level)
        self.fields[str(name)] |= set(values)

    def test_each_call_names_its_event(self) -> None:
        self.assertEqual(self.unnamed, [])

    def test_the_page_has_each_event_with_its_level_and_values(self) -> None:
        documented = re.findall(
            r"^``([a-z-]+)`` \(([a-z ]+)(?:; ([a-z, ]+))?\)$", PAGE.read_text(), re.M
        )
        page: dict[str, Any] = {name: (level, fields) for name, level, fields in documented}
        self.assertEqual(len(page), len(documented))
        expected: dict[str, Any] = {
            name: (" or ".join(sorted(self.levels[name])), ", ".join(sorted(self.fields[name])))
            for name in self.levels
        }
        expected[FAULT] = (OTHERS[FAULT], "exception, traceback")
        expected[LIBRARY] = (OTHERS[LIBRARY], "")
        self.assertEqual(page, expected)
