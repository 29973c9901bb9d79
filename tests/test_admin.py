"""The operator's command, without a server: it works on the files."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import sqlite3
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted import accounts as old_accounts
from chat_twisted import admin, admin_actions, admin_parser, reaching
from chat_twisted import archive as old_archive
from chat_twisted.core.commands import ACTION
from chat_twisted.core.facts import AuthorErased, Deleted, UserCame
from chat_twisted.core.message import Message
from chat_twisted.storage import archive, index, tables, upgrade
from tests.store import write
from tests.test_gate import BOB, KEY
from tests.test_tables import steps


class AccountTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        archive.prepare(self.folder)
        (self.folder / "secret").write_text("right\nnot this\n")
        (self.folder / "id.pub").write_text(f"{KEY} alice@home\n")

    def run_command(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code, and what was printed, wherever."""
        out = io.StringIO()
        action, *rest = arguments
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = admin.main(["accounts", action, "--state", str(self.folder), *rest])
        return code, out.getvalue()

    def listed(self) -> str:
        code, out = self.run_command("list")
        self.assertEqual(code, 0)
        return out

    def test_an_account_can_be_made_before_the_server_is_started_first(self) -> None:
        key = str(self.folder / "id.pub")
        self.folder = self.folder / "new" / "state"
        self.assertEqual(self.run_command("add", "bob", "--key", key), (0, ""))
        self.assertEqual(self.listed(), "bob keys=1\n")
        self.assertEqual(self.folder.stat().st_mode & 0o777, 0o700)

    def test_accounts_are_made_changed_listed_and_removed(self) -> None:
        secret, key = str(self.folder / "secret"), str(self.folder / "id.pub")
        for arguments, listed in (
            (("add", "Alice", "--password-file", secret), "Alice keys=0 password\n"),
            (("key", "alice", key), "Alice keys=1 password\n"),
            (("password", "ALICE", "--remove"), "Alice keys=1\n"),
            (("operator", "alice"), "Alice operator keys=1\n"),
            (("operator", "alice", "--remove"), "Alice keys=1\n"),
            (("password", "alice", "--password-file", secret), "Alice keys=1 password\n"),
            (("key", "alice", key, "--remove"), "Alice keys=0 password\n"),
            (("remove", "alice"), ""),
            (("add", "bob", "--key", key), "bob keys=1\n"),
        ):
            self.assertEqual(self.run_command(*arguments), (0, ""), arguments)
            self.assertEqual(self.listed(), listed)

    def test_keys_are_listed_as_files_of_keys_have_them(self) -> None:
        key = self.folder / "id.pub"
        self.run_command("add", "bob", "--key", str(key))
        self.run_command("password", "bob", "--password-file", str(self.folder / "secret"))
        code, out = self.run_command("keys", "BOB")
        self.assertEqual((code, out), (0, key.read_text()))
        (self.folder / "listed.pub").write_text(out)
        removed = self.run_command("key", "bob", str(self.folder / "listed.pub"), "--remove")
        self.assertEqual(removed, (0, ""))
        self.assertEqual(self.run_command("keys", "bob"), (0, ""))

    def test_a_mark_at_the_start_of_a_file_is_no_part_of_the_password_or_the_key(self) -> None:
        for name in ("secret", "id.pub"):
            path = self.folder / name
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        secret, key = str(self.folder / "secret"), str(self.folder / "id.pub")
        self.assertEqual(admin_actions._ask_password(Path(secret)), "right")
        self.assertEqual(self.run_command("add", "bob", "--key", key), (0, ""))

    def test_what_can_not_be_done_is_one_line_and_changes_nothing(self) -> None:
        key = str(self.folder / "id.pub")
        self.run_command("add", "alice", "--key", key)
        (self.folder / "empty").write_text("\n")
        (self.folder / "binary").write_bytes(b"\xff\xfe")
        for arguments, expected, reason in (
            (("add", "Alice", "--key", key), 1, "Alice is the name of somebody"),
            (("add", "b@d", "--key", key), 1, "'b@d' is no name"),
            (("add", "\udcff", "--key", key), 1, "not a text in UTF-8"),
            (("add", "all", "--key", key), 1, "'all' is no name"),
            (("add", "bob", "--key", str(self.folder / "secret")), 1, "a kind of key that is not"),
            (("add", "bob", "--key", "/nowhere"), 2, "/nowhere: No such file or directory"),
            (("add", "bob", "--key", str(self.folder / "binary")), 1, "not a text"),
            (("add", "bob", "--password-file", str(self.folder / "empty")), 1, "a password has 1"),
            (("remove", "bob"), 1, "there is no account bob"),
            (("keys", "bob"), 1, "there is no account bob"),
            (("remove", "\udcff"), 1, "not a text in UTF-8"),
            (("key", "alice", key, "--remove"), 1, "its last way in"),
            (("password", "alice", "--remove", "--state", "/dev/null"), 2, "/dev/null: Not a dir"),
        ):
            code, out = self.run_command(*arguments)
            self.assertEqual((code, out.count("\n")), (expected, 1), (arguments, out))
            self.assertIn(reason, out)
        self.assertEqual(self.listed(), "alice keys=1\n")
        self.folder = self.folder / "nowhere"
        code, out = self.run_command("list")
        self.assertEqual((code, out), (2, f"{self.folder}: No such file or directory\n"))

    def test_an_account_is_not_made_of_a_guest_who_is_there(self) -> None:
        connection = archive.connect(self.folder / archive.FILE)
        write(connection.cursor(), [UserCame(BOB, "Bob", True, 0, 1)])
        connection.commit()
        connection.close()
        code, out = self.run_command("add", "bob", "--key", str(self.folder / "id.pub"))
        self.assertEqual(code, 1)
        self.assertIn("a guest", out)


class AdminTestCase(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        archive.prepare(self.folder)

    def run_command(self, *arguments: str, main=admin.main) -> tuple[int, str, str]:
        """Return the exit code, the output, and what it complains of."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*arguments, "--state", str(self.folder)])
        return code, out.getvalue(), err.getvalue()

    def say(self, *texts: str) -> None:
        with contextlib.closing(archive.connect(self.folder / archive.FILE)) as connection:
            messages = [
                Message(number, 1000 * number, 7, "alice", 0, 0, "ALL", text, None)
                for number, text in enumerate(texts, 1)
            ]
            write(connection.cursor(), messages)
            connection.commit()


class ModerationTests(AdminTestCase):
    def test_sanctions_are_imposed_listed_and_ended(self) -> None:
        self.assertEqual(self.run_command("ban", "Bob", "--reason", "so\x1b"), (0, "", ""))
        self.assertEqual(self.run_command("mute", "bob", "--for", "2h"), (0, "", ""))
        self.assertEqual(self.run_command("ban", "192.0.2.9/24", "--for=1d"), (0, "", ""))
        code, out, err = self.run_command("sanctions")
        time = r"until \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ by admin"
        self.assertRegex(
            out,
            rf"\Aban 192\.0\.2\.0/24 {time}\nban bob until ever by admin: so\u241b\n"
            rf"mute bob {time}\n\Z",
        )
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(self.run_command("pardon", "BOB"), (0, "", ""))
        self.assertEqual(self.run_command("sanctions")[1].count("\n"), 1)

    def test_what_is_refused_is_one_line_and_exit_code_1(self) -> None:
        for arguments in (
            ("pardon", "bob"),
            ("kick", "bob"),
            ("ban", "no name"),
            ("ban", "bob", "--for", "soon"),
            ("ban", "bob", "--reason", "two\nlines"),
            ("ban", "bob", "--reason", "\udcff"),
            ("mute", "192.0.2.1"),
        ):
            code, out, err = self.run_command(*arguments)
            self.assertEqual((code, out, err.count("\n")), (1, "", 1), arguments)

    def test_a_list_of_any_length_comes_by_page(self) -> None:
        with contextlib.closing(archive.connect(self.folder / archive.FILE)) as connection:
            connection.executemany(
                "INSERT INTO sanction VALUES ('ban', ?, 0, '', 'x')",
                [(f"user{number}",) for number in range(250)],
            )
            connection.commit()
        self.assertEqual(self.run_command("sanctions")[1].count("\n"), 250)


class StatusTests(AdminTestCase):
    def test_it_counts_what_there_is(self) -> None:
        self.say("a", "b")
        code, out, err = self.run_command("status", "--json")
        found = json.loads(out)
        sizes = found.pop("files")
        self.assertGreater(found.pop("free"), 0)
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(
            found,
            {
                "running": False,
                "version": found["version"],
                **dict.fromkeys(("users", "sessions", "held", "accounts", "rooms"), 0),
                "newest": 2,
                "newest_time": 2000,
                "messages": 2,
                "unindexed": 0,
            },
        )
        self.assertEqual(sizes["chat.sqlite"], (self.folder / "chat.sqlite").stat().st_size)
        code, out, err = self.run_command("status", "--users")
        self.assertIn("2, the newest number 2 of 1970-01-01T00:00:02Z; 0 wait to be indexed", out)


class ExportTests(AdminTestCase):
    def export(self) -> list[dict[str, object]]:
        code, out, err = self.run_command("export")
        self.assertEqual((code, err), (0, ""))
        return [json.loads(line) for line in out.splitlines()]

    def test_a_message_is_exported_with_its_kind(self) -> None:
        with contextlib.closing(archive.connect(self.folder / archive.FILE)) as connection:
            message = Message(1, 1000, 7, "alice", 0, 0, "ALL", "waves", None, ACTION)
            write(connection.cursor(), [message])
            connection.commit()
        self.assertEqual(
            self.export(),
            [
                {
                    **{"message": 1, "time": 1000, "sender": "alice", "to": "ALL"},
                    **{"text": "waves", "kind": "action"},
                }
            ],
        )

    def test_a_deleted_message_is_exported_without_its_text_and_is_no_problem(self) -> None:
        self.say("kept", "deleted")
        archive.prepare(self.folder)  # which indexes them
        with contextlib.closing(archive.connect(self.folder / archive.FILE)) as connection:
            write(connection.cursor(), [Deleted(2, 7, 0, 0, 7)])
            connection.commit()
        for _ in "while the index still has it", "after that":
            found = [(each["text"], each.get("deleted")) for each in self.export()]
            self.assertEqual(found, [("kept", None), ("", True)])
            self.assertEqual(self.run_command("check"), (0, "sound\n", ""))
            with contextlib.closing(archive.connect(self.folder / archive.FILE)) as connection:
                index.attach(connection, self.folder)
                cursor = connection.cursor()
                archive.forget_deletions(cursor, index.remove_texts(cursor, 10))
                connection.commit()

    def test_what_is_to_be_deleted_with_its_authors_account_is_not_exported_any_more(self) -> None:
        self.say("gone", "gone too")
        with contextlib.closing(archive.connect(self.folder / archive.FILE)) as connection:
            write(connection.cursor(), [AuthorErased(7, 1)])
            connection.commit()
        self.assertEqual([message["text"] for message in self.export()], ["", "gone too"])

    def test_a_deleted_text_that_is_still_there_is_a_problem(self) -> None:
        self.say("secret")
        archive.prepare(self.folder)
        with contextlib.closing(archive.connect(self.folder / archive.FILE)) as connection:
            connection.execute("INSERT INTO deletion VALUES (1, 'secret')")
            connection.commit()
            _, out, _ = self.run_command("check")
            self.assertEqual(out, "1 texts of deleted messages\n")
            connection.execute("DELETE FROM deletion")
            connection.execute("UPDATE message SET text = ''")
            connection.commit()
        self.assertEqual(self.run_command("check"), (1, "1 words of deleted messages\n", ""))

    def test_rows_of_users_that_are_not_there_are_a_problem(self) -> None:
        with contextlib.closing(archive.connect(self.folder / archive.FILE)) as connection:
            connection.execute("INSERT INTO account VALUES (5, 0, 0, '')")
            connection.commit()
        code, out, _ = self.run_command("check")
        self.assertEqual((code, out), (1, "1 rows of users that are not there (account)\n"))

    def test_a_backup_of_any_version_is_exported_and_checked(self) -> None:
        for version in range(1, upgrade.newest_schema() + 1):
            path = self.folder / f"{version}.sqlite"
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.executescript(steps(version))
                connection.execute(f"PRAGMA user_version = {version}")
                connection.execute(
                    'INSERT INTO message (number, time, author, sender, recipient, room, "to", '
                    "text) VALUES (1, 2, 3, 'ann', 0, 0, 'ALL', 'old')"
                )
                connection.commit()
            self.assertEqual(self.run_command("check", str(path)), (0, "sound\n", ""))
            code, out, _ = self.run_command("export", str(path))
            found = json.loads(out)
            self.assertEqual((code, found["text"], found["kind"]), (0, "old", "text"))


class FaultTests(AdminTestCase):
    def test_a_folder_that_another_command_has_is_waited_for_as_long_as_it_takes(self) -> None:
        lock = archive.lock(self.folder)
        looks: list[float] = []

        def look(seconds: float) -> None:
            looks.append(seconds)
            if len(looks) == 3:
                lock.close()

        self.patch(reaching.time, "sleep", look)
        self.assertEqual(self.run_command("accounts", "list"), (0, "", ""))
        self.assertEqual(len(looks), 3)

    def test_a_server_that_takes_no_commands_is_one_line_and_exit_code_2(self) -> None:
        lock = archive.lock(self.folder)
        self.addCleanup(lock.close)
        lock.write()
        self.patch(reaching, "COME_WITHIN", 0.0)
        code, out, err = self.run_command("accounts", "list")
        self.assertEqual((code, out), (2, ""))
        self.assertEqual(
            err,
            f"{self.folder}: the server (process {os.getpid()}) does not answer; is it of an older "
            "version?\n",
        )

    def test_a_file_that_can_not_be_written_is_one_line_and_exit_code_2(self) -> None:
        def full(*arguments: object, **more: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        self.patch(tables, "write", full)
        self.assertEqual(
            self.run_command("ban", "bob"),
            (2, "", f"{self.folder / archive.FILE}: database or disk is full\n"),
        )
        self.assertEqual(self.run_command("sanctions"), (0, "", ""))

    def test_what_is_no_archive_is_one_line_and_exit_code_2(self) -> None:
        for suffix in ("-wal", "-shm"):
            (self.folder / f"{archive.FILE}{suffix}").unlink(missing_ok=True)
        (self.folder / archive.FILE).write_text("a letter to my aunt. " * 500)
        for arguments in (("accounts", "list"), ("check",), ("export",), ("ban", "bob")):
            code, out, err = self.run_command(*arguments)
            self.assertEqual((code, out, err.count("\n")), (2, "", 1), arguments)
            self.assertIn("file is not a database", err)


class OldNameTests(AdminTestCase):
    """The old commands do what they did, and say what they are now."""

    def test_accounts(self) -> None:
        now = "python -m chat_twisted.accounts is now python -m chat_twisted.admin accounts\n"
        (self.folder / "id.pub").write_text(KEY)
        added = ("add", "bob", "--key", str(self.folder / "id.pub"))
        self.assertEqual(self.run_command(*added, main=old_accounts.main), (0, "", now))
        listed = self.run_command("list", main=old_accounts.main)
        self.assertEqual(listed, (0, "bob keys=1\n", now))
        code, out, err = self.run_command("remove", "carol", main=old_accounts.main)
        self.assertEqual((code, out, err.count("\n")), (1, "", 2))
        self.folder = self.folder / "nowhere"
        self.assertEqual(self.run_command("list", main=old_accounts.main)[0], 1)

    def test_archive(self) -> None:
        now = "python -m chat_twisted.archive is now python -m chat_twisted.admin\n"
        self.say("x")
        self.assertEqual(self.run_command("check", main=old_archive.main), (0, "sound\n", now))
        exported = self.run_command("export", main=old_archive.main)
        self.assertEqual((exported[0], exported[2]), (0, now))
        self.assertEqual(json.loads(exported[1])["text"], "x")
        backup = str(self.folder / "backup")
        self.assertEqual(self.run_command("backup", backup, main=old_archive.main)[0], 0)
        for order in (("check", backup), ("--state", "/nowhere", "check", backup)):
            done = self.run_command(*order, main=old_archive.main)
            self.assertEqual(done, (0, "sound\n", now))
        nowhere = ("export", str(self.folder / "nowhere"))
        self.assertEqual(self.run_command(*nowhere, main=old_archive.main)[0], 2)


class HelpTests(TestCase):
    def test_each_action_has_a_page_with_examples_that_can_be_parsed(self) -> None:
        found = 0
        for action in (
            *(f"accounts {name}" for name in ("add", "remove", "password", "key", "keys", "list")),
            *("accounts operator", "kick", "ban", "mute", "pardon", "sanctions", "status"),
            *("unban", "unmute", "who", "say", "motd", "retention", "doctor"),
            *("export", "check", "backup", "restore"),
        ):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exit = self.assertRaises(SystemExit, admin.main, [*action.split(), "--help"])
            self.assertEqual(exit.code, 0)
            page = out.getvalue()
            self.assertIn("exit status: 0 done", page)
            for line in page.splitlines():
                if line.startswith(f"  {admin_parser.PROGRAM} {action}"):
                    admin_parser.make_parser().parse_args(shlex.split(line)[3:])
                    found += 1
        self.assertGreater(found, 20)
