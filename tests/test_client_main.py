"""The client's command: the stored session token. The rest is in tests/end_to_end."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import TestCase

from chat_twisted.client import main
from chat_twisted.client.address import Host
from chat_twisted.client.arguments import Arguments, Mode
from chat_twisted.client.config import Config
from chat_twisted.client.connection import Server
from chat_twisted.client.main import _SessionToken

SERVER = Server("H")


class TokenTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.patch(os, "environ", {"XDG_CONFIG_HOME": str(self.folder)})

    def token(self, user: str = "Alice", server: Server = SERVER) -> _SessionToken:
        return _SessionToken(Arguments(user, server, Mode.PIPE, Config()))

    def kept(self) -> str:
        return (self.folder / "chat_twisted" / "sessions").read_text()

    def test_it_is_kept_for_a_user_of_a_server_until_goodbye(self) -> None:
        one = self.token()
        self.assertEqual(one.get(), "")
        one.set("x")
        one.set("x")  # after a lost connection
        self.assertEqual(self.kept(), "h:8828/alice x,1\n")
        self.assertEqual((self.token("alice").get(), self.token("bob").get()), ("x", ""))
        one.set(None)
        self.assertEqual((self.kept(), self.token().get()), ("", ""))

    def test_state_shared_by_several_clients_is_kept_for_the_last(self) -> None:
        one, two = self.token(), self.token()
        for token in (one, two):
            token.set("x")
        one.set(None)
        self.assertEqual(self.token().get(), "x")
        two.set(None)
        self.assertEqual(self.token().get(), "")

    def test_a_client_with_another_session_does_not_forget_this_one(self) -> None:
        one, two = self.token(), self.token()
        one.set("x")
        two.set("y")  # the server had forgotten the user
        one.set(None)
        self.assertEqual(self.token().get(), "y")

    def test_under_a_new_name_it_is_kept_for_that(self) -> None:
        one = self.token()
        one.set("x")
        one.rename("Bobby")
        self.assertEqual((self.token().get(), self.token("bobby").get()), ("", "x"))
        one.set(None)
        self.assertEqual(self.kept(), "")

    def test_it_is_of_all_hosts_of_a_chat_in_any_order(self) -> None:
        one = self.token(server=Server("a", others=(Host("b", 8828),)))
        one.set("x")
        self.assertEqual(self.kept(), "a:8828/alice x,1\n")
        for host in "ac":
            two = self.token(server=Server("b", others=(Host(host, 8828),)))
            self.assertEqual(two.get(), "x" if host == "a" else "")
        two = self.token(server=Server("b", others=(Host("a", 8828),)))
        two.set("x")
        self.assertEqual(self.kept(), "a:8828/alice x,2\n")
        for token in (one, two):
            token.set(None)
        self.assertEqual(self.kept(), "")

    def test_one_that_was_kept_by_an_earlier_version_is_good(self) -> None:
        self.token().set("z")
        sessions = self.folder / "chat_twisted" / "sessions"
        sessions.write_text("h:8828/alice x\n")
        self.assertEqual(self.token().get(), "x")
        self.token().set("x")
        self.assertEqual(self.kept(), "h:8828/alice x,2\n")

    def test_so_many_are_kept(self) -> None:
        self.patch(main, "MAX_SESSIONS", 2)
        for user in "abc":
            self.token(user).set("x")
        self.assertEqual([self.token(user).get() for user in "abc"], ["", "x", "x"])

    def test_a_folder_that_can_not_be_used_harms_nothing(self) -> None:
        (self.folder / "chat_twisted").write_text("")
        one = self.token()
        one.set("x")
        self.assertEqual(one.get(), "")
