"""The SSH door on a terminal: OpenSSH in tmux, as people use it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.end_to_end.ssh import SAID, SSHTestCase, client_of, starts_until, stopped
from tests.end_to_end.test_terminal import DAY, Terminal, wait_until

TEXT = f"{SAID} ä 日本 é"


class TalkTests(SSHTestCase):
    def test_texts_of_all_kinds_are_typed_and_shown_at_every_width(self) -> None:
        bob, alice = self.friend("bob"), self.talk_by_ssh("alice")
        alice.type(TEXT)
        alice.see_last(f"ALL> {TEXT}")
        alice.see_cursor(len("ALL> ") + len(TEXT) + len("日本"))
        bob.say("ALL", f"{TEXT} | {TEXT}")
        alice.see(rf"^\d\d:\d\d \[ALL\] ~bob: {TEXT} \| {TEXT}\nALL> {TEXT}\Z")
        alice.press("Left", "BSpace", "BSpace")
        alice.see_last("ALL> psst ä 日é")
        alice.press("Enter")
        alice.see(r"\[ALL\] ~?alice: psst ä 日é\nALL>\Z")
        self.assertEqual(bob.hear()[0], "psst ä 日é")
        typed = f"{SAID} is typed, and longer than thirty columns"
        alice.type(typed)
        alice.see_last(f"ALL> {typed}")
        alice.resize(30)
        alice.see(rf"^ALL> {typed[:25]}\n {{5}}{typed[25:]}\Z")
        bob.say("ALL", "日本" * 10)
        alice.see(rf"^\d\d:\d\d \[ALL\] ~bob:\n {{8}}{'日本' * 5}\n {{8}}{'日本' * 5}\nALL> ")
        alice.resize(90)
        alice.see_last(f"ALL> {typed}")
        alice.press("C-u")
        alice.paste(f"{SAID} one\n\ttwo\n\nfour\n")
        alice.see(rf"^ALL> {SAID} one\n")
        alice.press("Enter")
        self.assertEqual(bob.hear()[0], f"{SAID} one\n\ttwo\n\nfour")
        alice.see(rf"^\d\d:\d\d \[ALL\] ~?alice:\n {{8}}{SAID} one\n +two\n\n {{8}}four\nALL>\Z")

    def test_delivery_in_both_directions_history_the_reader_and_the_time_zone(self) -> None:
        bob = self.friend("bob")
        for number in range(60):
            bob.say("ALL", f"{SAID} {number}.")
        alice = self.talk_by_ssh("alice", options=("-oSetEnv=TZ=Asia/Tokyo",))
        alice.say(f"@bob: {SAID} quick")
        alice.see(rf"^\[@bob\] ~?alice: {SAID} quick \(sent\)\nALL>\Z")
        bob.confirm("alice", bob.hear()[1])
        alice.see(rf"^\d\d:\d\d \[@bob\] ~?alice: {SAID} quick \(✓ delivered\)\nALL>\Z")
        carol = self.friend("carol")
        with stopped(client_of(alice)):
            bob.say("alice", f"{SAID} frozen")
            bob.say("carol", f"{SAID} awake")
            carol.confirm("bob", carol.hear()[1])
            self.assertNotIn("DELIVERED alice", starts_until(bob, "DELIVERED carol"))
        starts_until(bob, "DELIVERED alice")
        alice.see(rf"\[@bob\] ~bob: {SAID} frozen$")
        alice.say("/history ALL 5")
        found = alice.see(rf"^(\d\d:\d\d) \[ALL\] ~bob: {SAID} 59\. \(message \d+\)\n── now")
        now = datetime.now(UTC) + timedelta(hours=9)
        minutes = [(now - timedelta(minutes=m)).strftime("%H:%M") for m in range(3)]
        self.assertIn(found[1], minutes)
        alice.type("half a line")
        alice.see(r"ALL> half a line\Z")
        alice.press("PPage")
        alice.see(r" ALL Esc back, / search\Z")
        wait_until(lambda: alice.press("Home") or f"bob: {SAID} 0." in alice.screen(), alice.screen)
        alice.press("Escape")
        alice.see(r"ALL> half a line\Z")
        self.assertNotIn("Esc back", alice.screen())

    def test_tab_completes_in_two_sessions_at_once_and_each_in_its_own(self) -> None:
        for user in ("carol", "carla", "dora"):
            self.friend(user)
        terminals = [self.talk_by_ssh(user) for user in ("alice", "bob")]
        typed = (("@car", r"^@carla:  @carol:\nALL> @carla:\Z"), ("@do", r"^ALL> @dora:\Z"))
        for terminal, (text, _) in zip(terminals, typed, strict=True):
            terminal.type(text)
        for terminal in terminals:
            terminal.press("Tab")
        for terminal, (_, completed) in zip(terminals, typed, strict=True):
            terminal.see(completed)
        self.assertNotIn("dora", _last(terminals[0]))
        self.assertNotIn("car", _last(terminals[1]))
        for terminal, to in zip(terminals, ("carla", "dora"), strict=True):
            terminal.say(f"{SAID} completed")
            terminal.see(rf"\[@{to}\] ~?\w+: {SAID} completed\b")

    def test_the_other_clients_have_the_same_terminal(self) -> None:
        bob = self.friend("bob")
        for client, make in (("plink", self.plink), ("dbclient", self.dbclient)):
            terminal = self.run_on_terminal(client, *make(client, terminal=True))
            terminal.see(rf"^· You are {client} on ")
            terminal.see_last("ALL>")
            terminal.say(TEXT)
            terminal.see(rf"\[ALL\] ~?{client}: {TEXT}\nALL>\Z")
            self.assertEqual(bob.hear()[0], TEXT)
            terminal.type(wide := "longer than thirty columns")
            terminal.see_last(f"ALL> {wide}")
            terminal.resize(30)
            terminal.see(rf"^ALL> {wide[:25]}\n {{5}}{wide[25:]}\Z")
            terminal.press("C-u")
            bob.say("ALL", "日本" * 10)
            terminal.see(rf"^ {{8}}{'日本' * 5}\n {{8}}{'日本' * 5}\nALL>\Z")
            terminal.press("C-d")
            self.assertEqual(terminal.code(), 0)

    def test_no_file_of_the_server_is_read_or_written(self) -> None:
        alice = self.talk_by_ssh("alice")
        alice.say("/register")
        alice.see("^· alice is yours from now on")
        (file := self.path("secret.pub")).write_text(self.public_key("other"))
        alice.type(f"/keys add {str(file)[:-3]}")
        alice.press("Tab", "Enter")
        alice.see(r"^! .*\n(?:.*\n)*ALL>")
        saved = self.path("saved")
        alice.press("C-u")
        alice.say(f"/account export {saved}")
        alice.see(r"^! .*export.*|^! .*file.*")
        self.assertFalse(saved.exists())
        self.assertEqual(self.finish(*self.ssh("alice", "/who", key="other"))[0], 255)
        alice.press("C-u")
        alice.say(f"/keys add {self.public_key('other')}")
        alice.see(r"^· .*\n(?:.*\n)*ALL>\Z")
        wait_until(
            lambda: self.finish(*self.ssh("alice", "/who", key="other"))[0] == 0, alice.screen
        )


def _last(terminal: Terminal) -> str:
    """The last two lines of a terminal: the completions, and the prompt."""
    return "\n".join(terminal.screen().split("\n")[-2:])


class EndTests(SSHTestCase):
    def test_keys_that_end_the_session_and_one_that_does_not(self) -> None:
        bob = self.friend("bob")
        alice = self.talk_by_ssh("alice")
        alice.press("C-z")
        alice.type("x")
        alice.see_last("ALL> x")
        self.assertEqual(bob.ask("PING")[0], "PONG")  # the server goes on, too
        alice.press("C-c")
        alice.see_last("ALL>")
        alice.press("C-c", "C-c")
        self.assertEqual(alice.code(), 130)
        alice = self.talk_by_ssh("alice", name="with-d")
        alice.press("C-d")
        self.assertEqual(alice.code(), 0)
        self.assertNotIn("ALL>", alice.screen())
        alice = self.talk_by_ssh("alice", name="with-tilde")
        alice.press("Enter")
        alice.type("~.")
        self.assertEqual(alice.code(), 255)
        alice = self.talk_by_ssh("alice", name="closed")
        alice.close()
        self.server.wait_for(r"\balice went from")
        alice = self.talk_by_ssh("alice", name="again")
        alice.say("/quit")
        self.assertEqual(alice.code(), 0)

    def test_a_killed_ssh_and_a_killed_server_cost_nothing_with_the_same_key(self) -> None:
        bob, alice = self.friend("bob"), self.talk_by_ssh("alice")
        alice.kill()
        wait_until(lambda: "alice went from" in "\n".join(self.server.out), alice.screen)
        bob.say("alice", f"{SAID} while you were dead")
        again = self.ssh_terminal("alice", name="again")
        again.see(rf"^(?:{DAY}\n)?\d\d:\d\d \[@bob\] ~bob: {SAID} while you were dead\n")
        again.say(f"@bob: {SAID} here")
        self.assertEqual(bob.hear()[0], f"{SAID} here")
        self.kill()
        self.assertEqual(again.code(), 255)
        self.start()
        dave = self.friend("dave")
        dave.say("alice", f"{SAID} after the crash")
        starts_until(dave, "SENT alice")
        last = self.ssh_terminal("alice", name="last")
        last.see(rf"\[@dave\] ~dave: {SAID} after the crash$")

    def test_a_name_that_somebody_has_is_told_and_another_is_asked_for(self) -> None:
        alice = self.talk_by_ssh("alice")
        client = self.ssh_terminal("alice", key="other", name="second")
        client.see(r"alice\b.*\n(?:.*\n)*.*[Nn]ame.*:\Z")
        client.say("alina")
        client.see(r"^· You are alina on ")
        alice.see(r"^· ~alina is here")
        client.press("C-c")
        alice.kill()
        self.server.wait_for(r"\balice went from")
        third = self.ssh_terminal("alice", key="other", name="third")
        third.see(r"alice\b.*\n(?:.*\n)*.*[Nn]ame.*:\Z")
        third.press("C-c")
        self.assertEqual(third.code(), 2)
