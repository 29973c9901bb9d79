"""Where folders and files are by default, and who may use them."""

from __future__ import annotations

import io
import os
import pwd
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted import accounts, archive
from chat_twisted.files import FilesError, base_folder
from chat_twisted.service import Options, makeService

NOBODY_HAS = 4_000_000_000  # a number that no user has


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


class NoHomeTests(TestCase):
    """Whatever has a folder of its own says in one line that it does not know where that is."""

    def setUp(self) -> None:
        def no_such_user(number: int) -> None:
            raise KeyError(number)

        self.patch(pwd, "getpwuid", no_such_user)
        self.patch(os, "environ", {"PATH": os.environ["PATH"]})
        self.error = io.StringIO()
        self.patch(sys, "stderr", self.error)
        self.patch(sys, "__stderr__", self.error)
        self.addCleanup(os.chdir, os.getcwd())
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        os.chdir(self.folder)

    def assertSaid(self) -> None:
        self.assertRegex(self.error.getvalue(), r"^[^\n]*HOME is not set [^\n]* by --state\n$")
        self.assertEqual(os.listdir(), [])

    def test_the_archive_command(self) -> None:
        for action in ("check", "export"):
            self.assertEqual(archive.main([action]), 2)
            self.assertSaid()
            self.error.truncate(self.error.seek(0))

    def test_the_accounts_command(self) -> None:
        self.assertEqual(accounts.main(["list"]), 1)
        self.assertSaid()

    def test_the_server(self) -> None:
        options = Options()
        options.parseOptions([])
        self.assertEqual(self.assertRaises(SystemExit, makeService, options).code, 1)
        self.assertSaid()
