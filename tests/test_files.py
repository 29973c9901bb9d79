"""Default folders, and file permissions."""

from __future__ import annotations

import io
import os
import pwd
import shutil
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted import admin
from chat_twisted.files import (
    FilesError,
    acting_as,
    base_folder,
    make_private,
    make_private_folder,
    require_trusted,
)
from chat_twisted.options import Options
from chat_twisted.service import makeService

NOBODY_HAS = 4_000_000_000  # a user ID that does not exist


class BaseFolderTests(TestCase):
    def folder(self, user: int | None = None, **environment: str) -> Path:
        self.patch(os, "environ", environment)
        return base_folder("XDG_STATE_HOME", ".local/state", "--state", user)

    def no_such_user(self, number: int) -> None:
        raise KeyError(number)

    def test_it_is_what_the_variable_says_if_that_is_absolute(self) -> None:
        self.assertEqual(self.folder(XDG_STATE_HOME="/x", HOME="/home/a"), Path("/x"))
        for value in ("", "x", "~/x"):
            self.assertEqual(
                self.folder(XDG_STATE_HOME=value, HOME="/home/a"), Path("/home/a/.local/state")
            )

    def test_without_home_it_is_in_the_home_folder_of_the_user(self) -> None:
        home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
        for environment in ({}, {"HOME": ""}, {"HOME": "~"}):
            self.assertEqual(self.folder(**environment), home / ".local/state")

    def test_without_any_home_folder_it_is_said_what_is_missing_and_what_to_name(self) -> None:
        self.patch(pwd, "getpwuid", self.no_such_user)
        with self.assertRaises(FilesError) as caught:
            self.folder()
        self.assertEqual(
            str(caught.exception),
            f"HOME is not set and user {os.geteuid()} has no home folder: name a folder by --state",
        )
        self.assertEqual(self.folder(HOME="/home/a"), Path("/home/a/.local/state"))

    def test_of_another_user_the_environment_says_nothing(self) -> None:
        own = os.geteuid()
        home = Path(pwd.getpwuid(own).pw_dir)
        self.assertEqual(
            self.folder(own, XDG_STATE_HOME="/x", HOME="/home/a"), home / ".local/state"
        )
        with self.assertRaisesRegex(FilesError, f"^user {NOBODY_HAS} has no home folder: name"):
            self.folder(NOBODY_HAS, HOME="/home/a")


class PrivateTests(TestCase):
    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, self.base)
        self.folder = self.base / "state"
        self.said: list[str] = []

    def make(self) -> Path:
        return make_private_folder(self.folder, self.said.append)

    def assertRefused(self, reason: str, function, *arguments) -> None:
        with self.assertRaises(FilesError) as caught:
            function(*arguments)
        self.assertRegex(str(caught.exception), reason)
        self.assertNotIn("\n", str(caught.exception))

    def test_a_folder_is_made_for_its_user_alone(self) -> None:
        self.folder = self.base / "a" / "b"
        self.assertEqual(self.make(), self.folder)
        self.assertEqual(self.folder.stat().st_mode & 0o777, 0o700)
        self.assertEqual(self.make(), self.folder)
        self.assertEqual(self.said, [])

    def test_a_folder_that_others_may_write_in_is_refused(self) -> None:
        self.make()
        for mode in (0o777, 0o770, 0o1777, 0o702):
            self.folder.chmod(mode)
            self.assertRefused("other users may write in it .chmod 700", self.make)
        self.assertEqual(self.folder.stat().st_mode & 0o777, 0o702)  # for the operator to correct

    def test_a_folder_that_others_may_list_is_used_and_it_is_said(self) -> None:
        self.make()
        self.folder.chmod(0o755)
        self.make()
        [line] = self.said
        self.assertIn("other users may list what is in it (chmod 700", line)

    def test_a_folder_that_is_none_or_can_not_be_made_is_refused(self) -> None:
        self.folder.write_text("")
        self.assertRefused("File exists", self.make)
        self.folder = self.folder / "below"
        self.assertRefused("Not a directory", self.make)

    def test_a_link_to_a_folder_is_followed_once_and_it_is_said(self) -> None:
        self.make()
        self.folder, target = self.base / "link", self.folder
        self.folder.symlink_to(target)
        self.assertEqual(self.make(), target)
        self.assertEqual(self.said, [f"{self.folder} is a symbolic link to {target}"])
        target.rmdir()
        self.assertRefused("link: File exists", self.make)

    def test_the_link_that_systemd_makes_for_a_dynamic_user_is_usual(self) -> None:
        target = self.base / "private" / "state"
        target.mkdir(mode=0o700, parents=True)
        self.folder = self.base / "state"
        self.folder.symlink_to(target)
        self.assertEqual(self.make(), target)
        self.assertEqual(self.said, [])

    def test_a_file_that_others_may_read_or_write_is_taken_from_them(self) -> None:
        file = self.make() / "file"
        for mode, verb in ((0o666, "write"), (0o644, "read"), (0o640, "read"), (0o602, "write")):
            self.said.clear()
            file.write_text("x")
            file.chmod(mode)
            make_private(file, self.said.append)
            self.assertEqual(file.stat().st_mode & 0o777, 0o600)
            [line] = self.said
            self.assertIn(f"{file}: other users could {verb} it", line)
        make_private(file, self.fail)
        make_private(file.with_name("absent"), self.fail)

    def test_a_link_or_what_is_no_file_is_refused(self) -> None:
        folder = self.make()
        (folder / "file").touch(0o600)
        (folder / "link").symlink_to("file")
        (folder / "hanging").symlink_to("absent")
        (folder / "folder").mkdir()
        os.mkfifo(folder / "pipe")
        for name, reason in (
            ("link", "a symbolic link"),
            ("hanging", "a symbolic link"),
            ("folder", "Is a directory"),
            ("pipe", "Not a regular file"),
        ):
            self.assertRefused(reason, make_private, folder / name, self.fail)

    def test_what_belongs_to_another_user_is_refused(self) -> None:
        file = self.make() / "file"
        file.touch(0o600)
        self.patch(os, "geteuid", lambda: NOBODY_HAS)
        mine = pwd.getpwuid(os.getuid()).pw_name
        for function, path in ((make_private_folder, self.folder), (make_private, file)):
            reason = f"^{path}: belongs to {mine}, not user {NOBODY_HAS}$"
            self.assertRefused(reason, function, path, self.fail)

    def test_a_file_that_is_named_may_not_be_writable_for_everybody(self) -> None:
        file = self.make() / "motd"
        file.write_text("hello")
        for mode in (0o644, 0o664):
            file.chmod(mode)
            require_trusted(file)
        file.chmod(0o666)
        self.assertRefused("other users may write it", require_trusted, file)


class ActingTests(TestCase):
    def test_who_is_not_root_can_be_nobody_else(self) -> None:
        self.patch(os, "geteuid", lambda: NOBODY_HAS)
        with acting_as(None, None), acting_as(NOBODY_HAS, None):
            pass
        with self.assertRaisesRegex(FilesError, "only root"), acting_as(1, None):
            self.fail("it was done")

    def test_root_makes_files_as_another_user_and_is_root_again(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        own = os.geteuid(), os.getegid(), os.getgroups()
        nobody = pwd.getpwnam("nobody")
        folder.chmod(0o777)
        with acting_as(nobody.pw_uid, None):
            (folder / "file").touch()
        found = (folder / "file").stat()
        self.assertEqual((found.st_uid, found.st_gid), (nobody.pw_uid, nobody.pw_gid))
        with self.assertRaises(ZeroDivisionError), acting_as(nobody.pw_uid, None):
            raise ZeroDivisionError
        self.assertEqual((os.geteuid(), os.getegid(), os.getgroups()), own)
        with self.assertRaisesRegex(FilesError, "there is no user"), acting_as(NOBODY_HAS, None):
            self.fail("it was done")

    if os.geteuid() != 0:
        test_root_makes_files_as_another_user_and_is_root_again.skip = "only root can"


class NoHomeTests(TestCase):
    """Each command reports in one line if its folder is not known."""

    def setUp(self) -> None:
        def no_such_user(number: int) -> None:
            raise KeyError(number)

        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.patch(pwd, "getpwuid", no_such_user)
        self.patch(os, "environ", {"PATH": os.environ["PATH"]})
        self.error = io.StringIO()
        self.patch(sys, "stderr", self.error)
        self.patch(sys, "__stderr__", self.error)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def assertSaid(self) -> None:
        self.assertRegex(self.error.getvalue(), r"^[^\n]*HOME is not set [^\n]* by --state\n$")
        self.assertEqual(os.listdir(), [])

    def test_the_operators_command(self) -> None:
        for action in ("check", "export", "status"):
            self.assertEqual(admin.main([action]), 2)
            self.assertSaid()
            self.error.truncate(self.error.seek(0))

    def test_the_server(self) -> None:
        options = Options()
        options.parseOptions([])
        self.assertEqual(self.assertRaises(SystemExit, makeService, options).code, 1)
        self.assertSaid()
