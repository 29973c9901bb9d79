"""Nodes and servers that fail cost nobody a message: the short form of benchmarks/cluster-chaos."""

from __future__ import annotations

import subprocess
import unittest

from tests.end_to_end.cluster import NATS_SERVER
from tests.end_to_end.forks import ROOT
from tests.end_to_end.machines import alone, why_not_alone
from tests.end_to_end.support import PATIENCE, environment


class ClusterChaosTests(unittest.TestCase):
    def setUp(self) -> None:
        if why_not := why_not_alone():
            self.skipTest(f"no machines: {why_not}")
        if subprocess.run([NATS_SERVER, "--version"], capture_output=True, check=False).returncode:
            self.skipTest("no nats-server")

    def run_through(self, servers: int, *faults: str) -> None:
        """Run a cluster of two nodes through faults (``faults.named``)."""
        arguments = ["--seed=7", "--patient", *(f"--fault={fault}" for fault in faults)]
        command = alone("tests.end_to_end.cluster_chaos", "0", f"--servers={servers}")
        done = subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env=environment(str(ROOT)),
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE,
            check=False,
        )
        print(done.stdout)  # noqa: T201  the figures are to be seen
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertIn(f"rounds={len(faults)} ", done.stdout)

    def test_a_single_server(self) -> None:
        self.run_through(0, "node:kill:0", "node:terminate:0")

    def test_nodes_with_one_nats_server(self) -> None:
        self.run_through(1, "servers:kill:0", "node:kill:0", "stream-full")

    def test_nodes_with_three_nats_servers(self) -> None:
        self.run_through(3, "leader:terminate:0", "node:cut:0", "follower:kill:0")
