"""The operator's commands on archive files: reading copies, backing up, restoring."""

from __future__ import annotations

import contextlib
import io
import os
import pwd
import random
import resource
import shutil
import sqlite3
import tempfile
from pathlib import Path

from chat_twisted import admin as command
from chat_twisted import files
from chat_twisted.core.message import Message
from chat_twisted.files import FilesError
from chat_twisted.storage import archive, index, sql, upgrade
from chat_twisted.storage.archive import FILE
from chat_twisted.storage.upgrade import ArchiveError
from tests.dying import ended_restore
from tests.store import ALICE, BOB, ArchiveTestCase, write


class MaintenanceTestCase(ArchiveTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.outside = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, self.outside)
        self.path = self.folder / FILE
        self.file = self.outside / "backup.sqlite"

    def command(self, *arguments: object, state: Path | None = None) -> tuple[int, str, str]:
        """Run the command; return its exit code, its output and its errors."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command.main(["--state", str(state or self.folder), *map(str, arguments)])
        return code, out.getvalue(), err.getvalue()

    def close(self) -> None:
        """Close the archive as a stopping server does."""
        self.connection.close()

    def texts(self, path: Path) -> list[str]:
        with contextlib.closing(sql.open_to_read(path)) as connection:
            return [text for (text,) in connection.execute("SELECT text FROM message")]

    def copy_as_if_killed(self, target: Path) -> None:
        """Copy the files as a killed server leaves them."""
        target.mkdir()
        for path in self.folder.glob("*.sqlite*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, target)


class UnwritableTests(MaintenanceTestCase):
    def locked(self, folder: Path) -> contextlib.AbstractContextManager[None]:
        """Act as a user who may read a folder but not write in it."""
        self.outside.chmod(0o777)
        for path in folder.iterdir():
            path.chmod(0o444)
        folder.chmod(0o555)
        self.addCleanup(folder.chmod, 0o755)
        user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        return files.acting_as(user, None)

    def test_a_copy_of_files_that_are_at_rest_can_be_read(self) -> None:
        self.say(ALICE, BOB, "hello")
        self.close()
        copy = self.outside / "copy"
        self.copy_as_if_killed(copy)
        self.assertFalse((copy / f"{FILE}-wal").exists())
        with self.locked(copy):
            self.assertEqual(self.command("check", state=copy), (0, "sound\n", ""))
            self.assertIn('"hello"', self.command("export", state=copy)[1])

    def test_what_is_in_the_write_ahead_log_alone_is_read_too(self) -> None:
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.say(ALICE, BOB, "hello")
        copy = self.outside / "copy"
        self.copy_as_if_killed(copy)
        self.assertGreater((copy / f"{FILE}-wal").stat().st_size, 0)
        with self.locked(copy):
            self.assertEqual(self.command("check", state=copy), (0, "sound\n", ""))
            self.assertIn('"hello"', self.command("export", state=copy)[1])
            self.assertEqual(self.command("check", copy / FILE), (0, "sound\n", ""))

    def test_a_backup_of_it_can_be_made(self) -> None:
        self.say(ALICE, BOB, "hello")
        copy = self.outside / "copy"
        self.copy_as_if_killed(copy)
        with self.locked(copy):
            self.assertEqual(self.command("backup", self.file, state=copy)[0], 0)
        self.assertEqual(self.texts(self.file), ["hello"])


class ForeignLogTests(MaintenanceTestCase):
    def fill(self, count: int) -> None:
        """Store many messages, so that the file grows."""
        for _ in range(count):
            self.say(ALICE, BOB, "text " * 200)

    def put_back(self, old: Path) -> None:
        """Kill the server, and replace the newer file by an old one."""
        killed = self.outside / "killed"
        self.copy_as_if_killed(killed)
        self.close()
        for path in self.folder.iterdir():
            path.unlink()
        for path in killed.iterdir():
            shutil.copy(path, self.folder)
        shutil.copy(old, self.path)

    def assertMixed(self) -> None:
        with self.assertRaises(FilesError) as caught:
            archive.prepare(self.folder)
        self.assertRegex(str(caught.exception), "^[^\n]*chat.sqlite-wal beside it is of another")
        code, out, _ = self.command("check")
        self.assertEqual(code, 1)
        self.assertIn("write-ahead log of another file", out)

    def test_a_file_that_is_put_beside_the_log_of_a_newer_one_is_refused(self) -> None:
        self.fill(20)
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(self.path, self.file)
        self.fill(40)
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.fill(2)
        self.put_back(self.file)
        self.assertMixed()
        for suffix in ("-wal", "-shm"):  # as documented
            self.path.with_name(f"{FILE}{suffix}").unlink(missing_ok=True)
        self.assertEqual(archive.prepare(self.folder).snapshot.progress.number, 20)

    def test_a_newer_file_that_is_put_beside_an_older_log_is_refused(self) -> None:
        self.fill(3)
        killed = self.outside / "older"
        self.copy_as_if_killed(killed)
        for _ in range(3):  # servers that start and stop
            self.fill(20)
            self.close()
            self.connection = archive.connect(self.path)
            index.attach(self.connection, self.folder)
            self.cursor = self.connection.cursor()
        self.close()
        shutil.copy(killed / f"{FILE}-wal", self.folder)
        self.assertMixed()

    def test_a_file_and_its_own_log_are_never_refused(self) -> None:
        """At every step of two writers, with a checkpoint now and then."""
        self.close()
        for seed in range(30):
            chance = random.Random(seed)
            folder = self.outside / str(seed)
            shutil.copytree(self.folder, folder)
            path = folder / FILE
            both = [archive.connect(path) for _ in range(2)]
            for connection in both:
                connection.execute("PRAGMA wal_autocheckpoint = 0")
                connection.execute("PRAGMA synchronous = OFF")  # the machine does not crash
            number = 0
            for _ in range(40):
                connection = chance.choice(both)
                what = chance.randrange(8)
                if what < 5:
                    messages = []
                    for _ in range(chance.choice((1, 1, 5, 30))):
                        number += 1
                        text = "x" * chance.choice((1, 100, 5000))
                        messages.append(
                            Message(number, number, 1, "a", 2, 0, "b", text, str(number))
                        )
                    write(connection.cursor(), messages)
                    connection.commit()
                elif what == 5:
                    connection.execute("UPDATE progress SET number = number + 1")
                    connection.commit()
                elif what == 6:
                    connection.execute("DELETE FROM message WHERE number < ?", (number // 2,))
                    connection.commit()
                else:
                    mode = chance.choice(("PASSIVE", "RESTART", "TRUNCATE"))
                    connection.execute(f"PRAGMA wal_checkpoint({mode})")
                self.assertFalse(sql.has_foreign_log(path), seed)
            # An interrupted checkpoint has copied only the first pages.
            killed = folder / "killed"
            killed.mkdir()
            shutil.copy(path, killed)
            shutil.copy(f"{path}-wal", killed)
            both[0].execute("PRAGMA wal_checkpoint(PASSIVE)")
            with open(path, "rb") as after, open(killed / FILE, "r+b", buffering=0) as mixed:
                self.assertFalse(sql.has_foreign_log(killed / FILE), seed)
                while taken := after.read(8192):
                    mixed.write(taken)
                    self.assertFalse(sql.has_foreign_log(killed / FILE), (seed, mixed.tell()))
            for connection in both:
                connection.close()


class StepTests(MaintenanceTestCase):
    """A copy of the file is made before its schema is changed."""

    def setUp(self) -> None:
        super().setUp()
        self.say(ALICE, BOB, "kept")
        self.close()
        self.newest = upgrade.newest_schema()
        self.said: list[str] = []
        self.before = self.folder / f"{FILE}-before-{self.newest + 1}"

    def steps(self, *more: str) -> Path:
        folder = self.folder / "steps"
        shutil.copytree(Path(archive.__file__).parent / "schema", folder, dirs_exist_ok=True)
        for number, step in enumerate(more, self.newest + 1):
            (folder / f"{number}.sql").write_text(step)
        return folder

    def prepare(self, *more: str) -> archive.Opened:
        return archive.prepare(self.folder, schema=self.steps(*more), say=self.said.append)

    def version(self, path: Path) -> int:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return connection.execute("PRAGMA user_version").fetchone()[0]

    def test_the_copy_is_whole_and_for_its_owner_and_the_log_tells_of_it(self) -> None:
        self.prepare("ALTER TABLE user ADD COLUMN colour TEXT;")
        self.assertEqual(self.version(self.path), self.newest + 1)
        self.assertEqual(self.version(self.before), self.newest)
        self.assertEqual(self.texts(self.before), ["kept"])
        self.assertEqual(self.before.stat().st_mode & 0o777, 0o600)
        self.assertEqual(
            self.said,
            [
                f"the schema is brought from {self.newest} to {self.newest + 1}; "
                f"{self.before} is the file before that"
            ],
        )

    def test_without_a_step_or_a_file_there_is_no_copy(self) -> None:
        self.prepare()
        (self.outside / "new").mkdir()
        archive.prepare(self.outside / "new")
        self.assertEqual(list(self.folder.glob("*-before-*")), [])
        self.assertEqual(list((self.outside / "new").glob("*-before-*")), [])

    def test_a_step_that_fails_at_every_start_does_not_copy_again(self) -> None:
        for _ in range(3):
            with self.assertRaisesRegex(FilesError, "no such table: absent"):
                self.prepare("ALTER TABLE user ADD COLUMN colour TEXT; DROP TABLE absent;")
            made = self.before.stat().st_ino
        self.assertEqual(self.version(self.path), self.newest)
        with self.assertRaises(FilesError):
            self.prepare("DROP TABLE absent;")
        self.assertEqual(self.before.stat().st_ino, made)
        self.prepare("ALTER TABLE user ADD COLUMN colour TEXT;")
        self.assertEqual(self.before.stat().st_ino, made)

    def test_what_was_written_since_a_copy_is_in_the_next(self) -> None:
        with self.assertRaises(FilesError):
            self.prepare("DROP TABLE absent;")
        connection = archive.connect(self.path)
        message = Message(2, 2, ALICE, "alice", BOB, 0, "Bob", "later", None)
        write(connection.cursor(), [message])
        connection.commit()
        connection.close()
        with self.assertRaises(FilesError):
            self.prepare("DROP TABLE absent;")
        self.assertEqual(self.texts(self.before), ["kept", "later"])

    def test_one_copy_is_kept(self) -> None:
        first = "ALTER TABLE user ADD COLUMN colour TEXT;"
        self.prepare(first)
        self.prepare(first, "ALTER TABLE user ADD COLUMN shape TEXT;")
        [kept] = self.folder.glob("*-before-*")
        self.assertEqual(kept.name, f"{FILE}-before-{self.newest + 2}")

    def test_without_room_for_it_the_file_stays_as_it_was(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        steps = self.steps("ALTER TABLE user ADD COLUMN colour TEXT;")
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.path.stat().st_size // 2, hard))
        try:
            with self.assertRaises(ArchiveError) as caught:
                archive.prepare(self.folder, schema=steps)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.assertRegex(str(caught.exception), f"^{self.before}: .*: this copy is needed before")
        self.assertEqual(list(self.folder.glob("*-before-*")), [])
        self.assertEqual(self.version(self.path), self.newest)
        self.assertEqual(archive.prepare(self.folder).snapshot.progress.number, 1)


class BackupTests(MaintenanceTestCase):
    def test_it_is_a_sound_file_that_needs_nothing_beside_it(self) -> None:
        self.say(ALICE, BOB, "hello", time=1_700_000_000_000)
        code, out, err = self.command("backup", self.file)
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(
            out,
            f"{self.file}: sound, 1 messages, the newest of 2023-11-14 22:13:20 UTC\n",
        )
        self.assertEqual(os.listdir(self.outside), ["backup.sqlite"])
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.texts(self.file), ["hello"])
        self.assertEqual(self.command("check", self.file), (0, "sound\n", ""))
        self.assertIn('"hello"', self.command("export", self.file)[1])
        self.assertEqual(os.listdir(self.outside), ["backup.sqlite"])

    def test_it_does_not_wait_for_who_writes_nor_keep_him_waiting(self) -> None:
        self.say(ALICE, BOB, "hello")
        self.cursor.execute("BEGIN IMMEDIATE")
        self.cursor.execute("DELETE FROM message")
        self.assertEqual(self.command("backup", self.file)[0], 0)
        self.connection.commit()
        self.assertEqual(self.texts(self.file), ["hello"])

    def test_a_backup_is_replaced_and_nothing_else_is(self) -> None:
        self.command("backup", self.file)
        self.say(ALICE, BOB, "hello")
        self.assertEqual(self.command("backup", self.file)[0], 0)
        self.assertEqual(self.texts(self.file), ["hello"])
        self.file.write_text("a letter to my aunt")
        for path, reason in (
            (self.file, "is there, and no backup"),
            (self.outside, "a folder; name a file in it"),
            (self.path, "the archive itself"),
            (self.outside / "nowhere" / "x", "No such file or directory"),
        ):
            code, out, err = self.command("backup", path)
            self.assertEqual((code, out, err.count("\n")), (2, "", 1))
            self.assertIn(reason, err)
        self.assertEqual(self.file.read_text(), "a letter to my aunt")

    def test_an_archive_that_is_not_sound_replaces_no_backup(self) -> None:
        self.say(ALICE, BOB, "hello")
        self.command("backup", self.file)
        self.connection.execute("INSERT INTO member VALUES (77, 2, 1, NULL, 0, 0)")
        self.connection.commit()
        code, out, err = self.command("backup", self.file)
        self.assertEqual((code, out), (1, ""))
        self.assertEqual(err, f"{self.path}: 1 members of rooms that are not there\n")
        self.assertEqual(self.command("check", self.file), (0, "sound\n", ""))
        self.assertEqual(os.listdir(self.outside), ["backup.sqlite"])

    def test_without_room_there_is_one_line_and_nothing_left(self) -> None:
        for _ in range(30):
            self.say(ALICE, BOB, "text " * 500)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
        try:
            code, out, err = self.command("backup", self.file)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.assertEqual((code, out, err.count("\n")), (2, "", 1))
        self.assertEqual(os.listdir(self.outside), [])

    def test_a_command_line_without_what_it_needs_is_refused(self) -> None:
        for action in ("backup", "restore"):
            error = io.StringIO()
            with contextlib.redirect_stderr(error):
                exit = self.assertRaises(SystemExit, command.main, [action])
            self.assertEqual(exit.code, 2)
            self.assertIn("arguments are required: FILE", error.getvalue())


class RestoreTests(MaintenanceTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.say(ALICE, BOB, "old")
        self.assertEqual(self.command("backup", self.file)[0], 0)
        self.say(ALICE, BOB, "newer")

    def replaced(self, number: int = 1) -> Path:
        return self.folder / f"{FILE}-replaced-{number}"

    def test_the_backup_takes_the_place_of_the_archive_which_is_kept_whole(self) -> None:
        killed = self.outside / "killed"
        self.copy_as_if_killed(killed)
        self.close()
        shutil.copytree(killed, self.folder, dirs_exist_ok=True)
        code, out, err = self.command("restore", self.file)
        self.assertEqual((code, err), (0, ""))
        self.assertIn(f"what was there before is {self.replaced()} now\n", out)
        self.assertIn("restored: 1 messages", out)
        self.assertEqual(self.texts(self.path), ["old"])
        self.assertEqual(self.texts(self.replaced()), ["old", "newer"])
        self.assertEqual(list(self.folder.glob(f"{self.replaced().name}-*")), [])
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        for suffix in ("-wal", "-shm"):
            self.assertFalse(self.path.with_name(f"{FILE}{suffix}").exists())
        self.assertEqual(archive.prepare(self.folder).snapshot.progress.number, 1)

    def test_the_index_is_made_again(self) -> None:
        self.close()
        self.command("restore", self.file)
        archive.prepare(self.folder)
        self.assertEqual(self.command("check"), (0, "sound\n", ""))
        connection = sql.open_to_read(self.path)
        self.addCleanup(connection.close)
        index.attach(connection, self.folder, read_only=True)
        self.cursor = connection.cursor()
        self.assertEqual(self.search("old"), ["old"])
        self.assertEqual(self.search("newer"), [])

    def test_into_a_folder_without_an_archive(self) -> None:
        new = self.outside / "new" / "state"
        self.assertEqual(self.command("restore", self.file, state=new)[0], 0)
        self.assertEqual(archive.prepare(new).snapshot.progress.number, 1)

    def test_nothing_that_was_replaced_is_lost_by_the_next_restore(self) -> None:
        self.close()
        self.command("restore", self.file)
        self.command("restore", self.replaced())
        self.assertEqual(self.texts(self.path), ["old", "newer"])
        self.assertEqual(self.texts(self.replaced(1)), ["old", "newer"])
        self.assertEqual(self.texts(self.replaced(2)), ["old"])

    def test_a_running_server_or_command_is_not_disturbed(self) -> None:
        lock = archive.lock(self.folder)
        lock.write()
        code, out, err = self.command("restore", self.file)
        self.assertEqual((code, out), (2, ""))
        self.assertEqual(err, f"{self.folder}: another server uses it (process {os.getpid()})\n")
        lock.close()
        with files.sharing(self.folder):
            code, out, err = self.command("restore", self.file)
        self.assertEqual((code, out), (2, ""))
        self.assertIn("another command uses it", err)
        self.assertEqual(self.texts(self.path), ["old", "newer"])

    def test_what_is_no_sound_backup_changes_nothing(self) -> None:
        letter, other, newer = (self.outside / name for name in ("letter", "other", "newer"))
        letter.write_text("this is a letter to my aunt. " * 200)
        with contextlib.closing(sqlite3.connect(other)) as connection:
            connection.execute("CREATE TABLE t (x)")
        shutil.copy(self.file, newer)
        with contextlib.closing(sqlite3.connect(newer)) as connection:
            connection.execute("PRAGMA user_version = 99")
        broken = bytearray(self.file.read_bytes())
        broken[5000:-5000] = b"\xff" * (len(broken) - 10_000)
        damaged = self.outside / "damaged"
        damaged.write_bytes(broken)
        before = self.path.read_bytes()
        for path, reasons in (
            (letter, "file is not a database"),
            (other, "no archive of a server"),
            (newer, "made by a newer version of the server"),
            (damaged, "malformed|btree|page|Page"),
            (self.outside / "nowhere", "unable to open database file"),
            (self.path, "the archive itself"),
        ):
            code, out, err = self.command("restore", path)
            self.assertNotEqual((code, out), (0, ""))
            self.assertRegex(err, f"{path}.*({reasons})")
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(list(self.folder.glob("*-re*")), [])

    def test_a_damaged_archive_is_kept_as_it_is(self) -> None:
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.close()
        self.path.write_bytes(b"\xff" * 8192)
        log = self.folder / f"{FILE}-wal"
        log.write_bytes(b"what is left of it")
        self.assertEqual(self.command("restore", self.file)[0], 0)
        self.assertEqual(self.texts(self.path), ["old"])
        self.assertEqual(self.replaced().read_bytes(), b"\xff" * 8192)
        self.assertEqual(
            self.replaced().with_name(f"{self.replaced().name}-wal").read_bytes(),
            b"what is left of it",
        )

    def test_killed_at_any_point_it_leaves_the_old_one_or_the_new_one(self) -> None:
        killed = self.outside / "killed"
        self.copy_as_if_killed(killed)
        self.close()
        seen = set()
        for point in range(1, 100):
            state = self.outside / f"state{point}"
            shutil.copytree(killed, state)
            state.chmod(0o700)
            ended = ended_restore(state, self.file, point)
            found = self.texts(state / FILE)
            self.assertIn(found, (["old"], ["old", "newer"]), point)
            seen.add(tuple(found))
            self.assertEqual(archive.prepare(state).snapshot.progress.number, len(found))
            if not ended:
                break
            # It can be done again.
            self.assertEqual(self.command("restore", self.file, state=state)[0], 0)
            self.assertEqual(self.texts(state / FILE), ["old"])
        self.assertGreater(point, 5)
        self.assertEqual(seen, {("old",), ("old", "newer")})
