"""The doctor finds what is wrong, says what to do, and changes nothing."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from chat_twisted import doctor, machine
from chat_twisted.doctor import DAY, NOTE, OK, PROBLEM, Case, Finding
from chat_twisted.reaching import NoAnswer
from chat_twisted.storage import archive
from tests.test_admin import AdminTestCase

NOW = 1_800_000_000.0


def certificate(days: float, *names: str) -> dict[str, Any]:
    """A certificate as a running server describes it."""
    return {"until": int((NOW + days * DAY) * 1000), "names": names, "vouched": bool(names)}


class ExaminationTests(AdminTestCase):
    def case(self, **values: Any) -> Case:
        return Case(self.folder, now=NOW, **values)

    def status(self, **values: Any) -> dict[str, Any]:
        return {
            **{"process": os.getpid(), "not_accepting": "", "descriptors": 65536},
            **{"version": doctor.__version__, "certificate": certificate(90), **values},
        }

    def found(self, examination: Any, case: Case) -> list[Finding]:
        """The findings, each of which must have a line of its own and advice if it is needed."""
        findings = list(examination(case))
        for finding in findings:
            self.assertEqual("\n" in finding.found + finding.advice, False, finding)
            self.assertEqual(bool(finding.advice), finding.level != OK, finding)
        return findings

    def levels(self, examination: Any, case: Case) -> list[str]:
        return [finding.level for finding in self.found(examination, case)]

    def test_a_server_that_runs_stops_or_does_not_answer(self) -> None:
        self.assertEqual(self.levels(doctor._server, self.case(status=self.status())), [OK])
        closed = self.status(not_accepting="the log can't be reached")
        self.assertEqual(self.levels(doctor._server, self.case(status=closed)), [OK, PROBLEM])
        self.assertEqual(self.levels(doctor._server, self.case()), [NOTE])
        self.addCleanup(archive.lock(self.folder).close)
        self.assertEqual(self.levels(doctor._server, self.case()), [PROBLEM])

    def test_permissions(self) -> None:
        self.assertEqual(self.levels(doctor._folder, self.case()), [OK])
        (self.folder / "chat.sqlite").chmod(0o644)
        [found] = self.found(doctor._folder, self.case())
        self.assertIn("chat.sqlite: other users can use it (mode 644)", found.found)
        (self.folder / "chat.sqlite").chmod(0o600)
        self.folder.chmod(0o755)
        self.assertEqual(self.levels(doctor._folder, self.case()), [NOTE, OK])
        self.folder.chmod(0o777)
        [found] = self.found(doctor._folder, self.case())
        self.assertIn("other users may write in it", found.found)

    def test_the_owner_of_the_files(self) -> None:
        with mock.patch("os.geteuid", return_value=os.geteuid() + 1):
            [found] = self.found(doctor._folder, self.case())
        self.assertIn("belongs to", found.found)

    def test_an_archive_that_can_not_be_read(self) -> None:
        self.assertEqual(self.levels(doctor._archive, self.case(unreadable="malformed")), [PROBLEM])
        measured = {"unindexed": 0, "messages": 5, "files": {"chat.sqlite": 4096}}
        self.assertEqual(self.levels(doctor._archive, self.case(archive=measured)), [OK])
        measured["unindexed"] = 30_000
        self.assertEqual(self.levels(doctor._archive, self.case(archive=measured)), [NOTE])

    def disk(self, free: int, *, grows: float | None = None, inodes: int = 10**6) -> list[str]:
        disk = SimpleNamespace(f_bavail=free, f_frsize=1, f_favail=inodes, f_files=10**6)
        case = self.case(archive={"files": {"chat.sqlite": 2 * 10**9}})
        with (
            mock.patch("os.statvfs", return_value=disk),
            mock.patch("chat_twisted.storage.maintenance.growth", return_value=grows),
        ):
            return self.levels(doctor._disk, case)

    def test_a_disk_that_is_full_or_soon_will_be(self) -> None:
        self.assertEqual(self.disk(10**10), [OK])
        self.assertEqual(self.disk(10**9), [NOTE])
        self.assertEqual(self.disk(10**8), [PROBLEM])
        self.assertEqual(self.disk(10**10, grows=10**9), [PROBLEM])
        self.assertEqual(self.disk(10**10, grows=10**8), [OK])
        self.assertEqual(self.disk(10**10, inodes=5), [OK, PROBLEM])

    def test_a_clock_that_was_ahead_or_is_not_kept(self) -> None:
        ahead = self.case(archive={"newest_time": (NOW + 3600) * 1000})
        for state, expected in ((True, [OK]), (False, [NOTE]), (None, [])):
            with mock.patch.object(machine, "is_synchronised", return_value=state):
                self.assertEqual(self.levels(doctor._clock, self.case()), expected)
                self.assertEqual(self.levels(doctor._clock, ahead), [PROBLEM, *expected])

    def test_descriptors_that_run_out(self) -> None:
        for used, allowed, expected in (
            (100, 65536, OK),
            (100, 1024, NOTE),
            (900, 1024, PROBLEM),
            (None, 65536, OK),
        ):
            case = self.case(status=self.status(descriptors=allowed))
            with mock.patch.object(machine, "descriptors_of", return_value=used):
                self.assertEqual(self.levels(doctor._descriptors, case), [expected])
        self.assertEqual(self.levels(doctor._descriptors, self.case()), [])

    def test_a_certificate_that_ends_or_is_for_another_host(self) -> None:
        def levels(given: dict[str, Any], *hosts: str) -> list[str]:
            status = self.status(certificate=given)
            return self.levels(doctor._certificate, self.case(status=status, hosts=hosts))

        self.assertEqual(levels(certificate(90)), [OK])
        self.assertEqual(levels(certificate(3)), [PROBLEM])
        self.assertEqual(levels(certificate(90), "chat.example"), [OK], "its clients pin it")
        names = ("Chat.example", "*.example.org")
        for host in "chat.example", "any.example.org":
            self.assertEqual(levels(certificate(90, *names), host), [OK])
        for host in "example.org", "a.b.example.org":
            self.assertEqual(levels(certificate(90, *names), host), [OK, PROBLEM])

    def test_names_of_the_host(self) -> None:
        case = self.case(hosts=("chat.example",))
        for addresses, expected in (
            (["127.0.0.1", "::1"], OK),
            (["192.0.2.7"], NOTE),
            ([], PROBLEM),
            (None, PROBLEM),
        ):
            with mock.patch.object(machine, "addresses_of", return_value=addresses):
                self.assertEqual(self.levels(doctor._hosts, case), [expected], addresses)

    def test_backups_that_are_old_or_not_there(self) -> None:
        self.assertEqual(self.levels(doctor._backups, self.case()), [NOTE])
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        case = self.case(backups=folder)
        self.assertEqual(self.levels(doctor._backups, case), [PROBLEM])
        (folder / "daily-1.sqlite").touch()
        for days, expected in ((1, OK), (3, PROBLEM)):
            os.utime(folder / "daily-1.sqlite", (NOW - days * DAY,) * 2)
            self.assertEqual(self.levels(doctor._backups, case), [expected])

    def test_memory_and_the_kernel(self) -> None:
        for available, expected in ((10**9, [OK]), (10**8, [PROBLEM]), (None, [])):
            with mock.patch.object(machine, "available_memory", return_value=available):
                self.assertEqual(self.levels(doctor._memory, self.case()), expected)
        for backlog, expected in ((4096, [OK]), (128, [NOTE]), (None, [])):
            with mock.patch.object(machine, "longest_backlog", return_value=backlog):
                self.assertEqual(self.levels(doctor._kernel, self.case()), expected)

    def test_an_older_version_that_still_runs(self) -> None:
        self.assertEqual(self.levels(doctor._versions, self.case(status=self.status())), [OK])
        old = self.case(status=self.status(version="0.9"))
        self.assertEqual(self.levels(doctor._versions, old), [OK, PROBLEM])

    def test_the_options_are_checked_by_the_server_itself(self) -> None:
        self.assertEqual(self.levels(doctor._options, self.case()), [NOTE])
        case = self.case(config=Path("chat.toml"))
        for code, said, expected in (
            (0, "chatserver: nothing is wrong\n", [OK]),
            (1, "chatserver: x: Permission denied\nchatserver: 1 problems\n", [PROBLEM]),
            (1, "chatserver: chat.toml:3: no option\n", [PROBLEM]),
        ):
            done = subprocess.CompletedProcess([], code, "", said)
            with mock.patch("subprocess.run", return_value=done) as run:
                self.assertEqual(self.levels(doctor._options, case), expected)
            python, *_, last, folder = run.call_args.args[0]
            self.assertEqual((python, last, folder), (sys.executable, "--state", str(case.folder)))
        with mock.patch("subprocess.run", side_effect=subprocess.TimeoutExpired("twistd", 1)):
            self.assertEqual(self.levels(doctor._options, case), [PROBLEM])

    def test_what_a_server_of_another_version_does_not_say_is_a_finding(self) -> None:
        old = self.case(status={"process": os.getpid(), "version": "0.9"})
        examinations = (doctor._server, doctor._descriptors, doctor._versions)
        with mock.patch.object(doctor, "EXAMINATIONS", examinations):
            findings = list(doctor.examine(old))
        self.assertEqual([f.level for f in findings], [OK, NOTE, NOTE, OK, PROBLEM])
        self.assertIn("a server of version 0.9 does not say its descriptors", findings[2].found)

    def test_a_file_that_vanishes_meanwhile_is_not_missed(self) -> None:
        there = list(self.folder.iterdir())
        with mock.patch.object(Path, "iterdir", return_value=[self.folder / "gone", *there]):
            self.assertEqual(self.levels(doctor._folder, self.case()), [OK])

    def test_what_can_not_be_examined_is_a_finding_and_the_others_follow(self) -> None:
        def broken(case: Case) -> Iterator[Finding]:
            raise PermissionError("no")
            yield

        with mock.patch.object(doctor, "EXAMINATIONS", (broken, doctor._versions)):
            levels = [finding.level for finding in doctor.examine(self.case())]
        self.assertEqual(levels, [PROBLEM, OK])


class CommandTests(AdminTestCase):
    def test_without_a_server_it_reads_the_files_and_changes_nothing(self) -> None:
        before = {path.name: path.stat().st_mtime_ns for path in self.folder.iterdir()}
        code, out, err = self.run_command("doctor", "--json")
        found = {record["about"]: record for record in map(json.loads, out.splitlines())}
        self.assertEqual(err, "")
        self.assertEqual((found["server"]["level"], found["files"]["level"]), (NOTE, OK))
        self.assertEqual(code, any(record["level"] == PROBLEM for record in found.values()))
        after = {path.name: path.stat().st_mtime_ns for path in self.folder.iterdir()}
        new = {name for name in after.keys() - before.keys() if not name.endswith(("-wal", "-shm"))}
        self.assertEqual(new, set())
        self.assertEqual(before["chat.sqlite"], after["chat.sqlite"])

    def test_a_problem_is_a_line_with_advice_below_it_and_exit_code_1(self) -> None:
        (self.folder / "copy").touch()
        (self.folder / "copy").chmod(0o644)
        code, out, _ = self.run_command("doctor")
        self.assertEqual(code, 1)
        lines = out.splitlines()
        [at] = [n for n, line in enumerate(lines) if "other users can use it" in line]
        self.assertTrue(lines[at].startswith("problem  files: "))
        self.assertTrue(lines[at + 1].startswith("         -> chmod go= copy"))

    def test_a_server_that_does_not_answer_is_a_problem(self) -> None:
        with mock.patch.object(doctor, "reach_server", side_effect=NoAnswer("it has not answered")):
            code, out, _ = self.run_command("doctor")
        self.assertEqual(code, 1)
        self.assertIn("problem  server: it has not answered", out)

    def test_a_folder_that_is_not_there(self) -> None:
        out = io.StringIO()
        self.folder = self.folder / "nowhere"
        with contextlib.redirect_stdout(out):
            self.assertEqual(self.run_command("doctor")[0], 2)

    def test_a_folder_that_its_owner_does_not_get_to(self) -> None:
        with mock.patch("os.access", return_value=False):
            code, out, err = self.run_command("doctor")
        self.assertEqual((code, out), (2, ""))
        self.assertIn("use chatserver-admin", err)


class MachineTests(AdminTestCase):
    def test_what_every_linux_tells(self) -> None:
        self.assertGreater(machine.available_memory() or 0, 0)
        self.assertGreater(machine.memory_of(os.getpid()) or 0, 1_000_000)
        self.assertGreater(machine.descriptors_of(os.getpid()) or 0, 2)
        self.assertGreater(machine.longest_backlog() or 0, 0)
        self.assertIn(machine.is_synchronised(), (True, False, None))

    def test_addresses(self) -> None:
        self.assertEqual(machine.addresses_of("127.0.0.1"), ["127.0.0.1"])
        self.assertTrue(machine.has_address("127.0.0.1"))
        self.assertFalse(machine.has_address("192.0.2.7"))
        late = subprocess.TimeoutExpired("getent", machine.LOOK_UP_WITHIN)
        with mock.patch("subprocess.run", side_effect=late):
            self.assertIsNone(machine.addresses_of("chat.example"))
