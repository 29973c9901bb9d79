"""The alert rules, the dashboard and the page about metrics name what a server exports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import TestCase

from chat_twisted.collecting import METRICS
from chat_twisted.metrics_site import make_factory
from tests.monitoring import MonitoredTestCase
from tests.test_metrics_site import Visitor

ROOT = Path(__file__).resolve().parents[1]
OPERATIONS = ROOT / "docs" / "operations"
ALERTS = OPERATIONS / "alerts.yml"
PAGE = OPERATIONS / "metrics.rst"

OF_PROMETHEUS = {"job", "instance", "le"}
"""Labels that Prometheus adds, or that a histogram has."""

VARIABLES = {"$__rate_interval": "5m", "$job": "chat", "$instance": "a"}
"""The variables of the dashboard, each with a value."""


class Query(NamedTuple):
    """A query in PromQL, with the name of the alert or the panel, and the labels that its texts
    show.
    """

    where: str
    text: str
    shown: frozenset[str]

    @property
    def selectors(self) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
        """The names in the query, each with its conditions: label, operator and value."""
        bare = re.sub(r"\b(by|without|on|ignoring) *\([^)]*\)", "", self.text)
        bare = re.sub(r"\[[^\]]*\]", "", bare)
        for name, conditions in re.findall(r"\b([a-z_]+\b)(?! *\()(?:\{([^}]*)\})?", _cut(bare)):
            if name in ("or", "and", "unless"):
                continue
            yield name, re.findall(r'(\w+) *(=~|!~|!=|=) *"([^"]*)"', self._conditions(conditions))

    def _conditions(self, mark: str) -> str:
        return re.findall(r"\{([^}]*)\}", self.text)[int(mark)] if mark else ""

    @property
    def grouped_by(self) -> set[str]:
        groups = re.findall(r"\b(?:by|without|on|ignoring) *\(([^)]*)\)", self.text)
        return {label for group in groups for label in re.findall(r"\w+", group)}


def _cut(text: str) -> str:
    """Replace the conditions of selectors by their numbers."""
    numbers = iter(range(1000))
    return re.sub(r"\{[^}]*\}", lambda _: f"{{{next(numbers)}}}", text)


def alerts() -> list[Query]:
    """Return the alerts. The file has one rule after the other, each as a few plain lines."""
    found = []
    for rule in ALERTS.read_text().split("- alert: ")[1:]:
        [expression] = re.findall(r"^ +expr: (.+)$", rule, re.MULTILINE)
        shown = re.findall(r"\$labels\.(\w+)", rule)
        found.append(Query(rule.partition("\n")[0], expression, frozenset(shown)))
    return found


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((OPERATIONS / "dashboard.json").read_text())
    return loaded


def panels() -> list[Query]:
    found = []
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            text = target["expr"]
            for variable, value in VARIABLES.items():
                text = text.replace(variable, value)
            shown = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            found.append(Query(panel["title"], text, frozenset(shown)))
    return found


def promtool(*arguments: str, given: str = "") -> tuple[int, str]:
    """Run promtool, which comes with Prometheus (Debian: prometheus).

    :param given: its standard input.
    """
    beside_python = Path(sys.executable).with_name("promtool")
    program = str(beside_python) if beside_python.exists() else shutil.which("promtool")
    assert program, "promtool is missing: .ci/run installs it"
    command = [program, *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


class NameTests(MonitoredTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.be_a_node()
        self.irc.refused.add(ValueError())
        site = make_factory(self.collector.collect, lambda: None, lambda: "", self.clock)  # type: ignore[arg-type, return-value]
        self.factory = site  # type: ignore[assignment]
        _, self.exported = Visitor(self).get("/metrics")  # type: ignore[arg-type]
        self.labels: dict[str, set[str]] = {"up": set()}
        self.seen: dict[tuple[str, str], set[str]] = {}
        for family in text_string_to_metric_families(self.exported):
            for sample in family.samples:
                self.labels.setdefault(sample.name, set()).update(sample.labels)
                for label, value in sample.labels.items():
                    self.seen.setdefault((sample.name, label), set()).add(value)

    def test_queries_use_names_and_labels_that_are_exported(self) -> None:
        self.assertGreater(len(alerts()), 15)
        self.assertGreater(len(panels()), 40)
        for query in (*alerts(), *panels()):
            known = set(OF_PROMETHEUS)
            names = list(query.selectors)
            self.assertTrue(names, query)
            for name, conditions in names:
                self.assertIn(name, self.labels, query)
                known |= self.labels[name]
                for label, operator, value in conditions:
                    self.assertIn(label, self.labels[name] | OF_PROMETHEUS, query)
                    if label not in OF_PROMETHEUS:
                        values = value.split("|") if operator in ("=~", "!~") else [value]
                        self.assertLessEqual(set(values), self.seen[name, label], query)
            self.assertLessEqual(query.grouped_by, known, query)
            self.assertLessEqual(query.shown, known | OF_PROMETHEUS, query)

    def test_the_queries_are_read_correctly(self) -> None:
        query = Query(
            "", 'max by (node) (a_b{x="y", z!~"v|w"}) / rate(c_total[5m]) or d > 2e9', frozenset()
        )
        expected = [("a_b", [("x", "=", "y"), ("z", "!~", "v|w")]), ("c_total", []), ("d", [])]
        self.assertEqual(list(query.selectors), expected)
        self.assertEqual(query.grouped_by, {"node"})

    def test_the_dashboard_shows_every_metric(self) -> None:
        shown = {name for query in panels() for name, _ in query.selectors}
        for metric in METRICS:
            names = {metric.name, f"{metric.name}_bucket"}
            self.assertTrue(shown & names, metric.name)

    def test_what_is_exported_follows_the_conventions(self) -> None:
        _, said = promtool("check", "metrics", given=self.exported)
        own = [line for line in said.splitlines() if "chat_" in line]
        self.assertEqual(own, [])


class RuleTests(TestCase):
    def test_prometheus_can_read_the_rules(self) -> None:
        code, said = promtool("check", "rules", str(ALERTS))
        self.assertEqual(code, 0, said)
        self.assertIn(f"{len(alerts())} rules found", said)

    def test_alerts_fire_when_they_must_and_not_otherwise(self) -> None:
        code, said = promtool("test", "rules", self.file(self.situations()))
        self.assertEqual(code, 0, said)

    def test_a_situation_that_is_not_as_expected_would_be_noticed(self) -> None:
        wrong = self.situations().replace('values: "1 1 0 0 0"', 'values: "1 1 1 1 1"')
        code, said = promtool("test", "rules", self.file(wrong))
        self.assertNotEqual(code, 0, said)

    def test_prometheus_can_read_the_queries_of_the_dashboard(self) -> None:
        lines = ["groups:", "- name: dashboard", "  rules:"]
        for number, query in enumerate(panels()):
            lines += [f"  - record: q{number}", f"    expr: {json.dumps(query.text)}"]
        code, said = promtool("check", "rules", self.file("\n".join(lines)))
        self.assertEqual(code, 0, said)

    def situations(self) -> str:
        return (ROOT / "tests" / "alerts.test.yml").read_text().replace("RULES", str(ALERTS))

    def file(self, content: str) -> str:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        path = Path(folder, "file.yml")
        path.write_text(content)
        return str(path)


class DashboardTests(TestCase):
    def test_panels_have_places_of_their_own(self) -> None:
        taken: dict[tuple[int, int], str] = {}
        ids = [panel["id"] for panel in dashboard()["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        for panel in dashboard()["panels"]:
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24)
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertNotIn((x, y), taken, panel["title"])
                    taken[x, y] = panel["title"]


class PageTests(TestCase):
    def test_the_page_has_every_metric_as_it_is_exported_and_no_other(self) -> None:
        text = PAGE.read_text()
        described = " ".join(text.partition("All metrics\n")[2].split())
        for metric in METRICS:
            labels = ", ".join(f"``{label}``" for label in metric.labels)
            kind = f"{metric.kind.value} by {labels}" if labels else metric.kind.value
            self.assertIn(f"``{metric.name}`` ({kind}) {metric.help}", described)
        named = set(re.findall(r"``(chat_[a-z_]+)``", text))
        self.assertEqual(named, {metric.name for metric in METRICS} | {"chat_twisted"} & named)

    def test_the_page_says_what_to_do_at_every_alert(self) -> None:
        advice = re.findall(r"^``(Chat\w+)``\n    \S", PAGE.read_text(), re.MULTILINE)
        self.assertEqual(advice, [query.where for query in alerts()])
