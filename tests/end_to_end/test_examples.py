"""The examples as people start them: real processes, a real server, TLS."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from tests.end_to_end.support import ROOT, Process, ServerTestCase
from tests.test_examples import block


class BotTestCase(ServerTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice = self.client("alice")
        self.came("alice")

    def bot(self, name: str, *arguments: str, user: str = "bot") -> Process:
        path = str(ROOT / "examples" / f"{name}.py")
        bot = self.process(sys.executable, path, user, f"127.0.0.1:{self.port}", *arguments)
        self.came(user)
        return bot

    def join(self, room: str) -> None:
        self.alice.write(f"/join {room}\n")
        self.alice.wait_for("alice joined")

    def stop(self, bot: Process, how: signal.Signals = signal.SIGINT) -> None:
        bot.popen.send_signal(how)
        self.assertEqual((bot.wait(), bot.out, bot.err), (0, [], []))


class ExampleTests(BotTestCase):
    def test_echo_answers_also_after_the_server_was_killed(self) -> None:
        bot = self.bot("echo")
        self.alice.write("@bot: hello\n")
        self.alice.wait_for("^bot: hello$")
        self.kill()
        self.alice.write("@bot: are you there?\n")
        self.start()
        self.alice.wait_for(r"^bot: are you there\?$")
        self.stop(bot)

    def test_a_bot_that_is_stopped_leaves_its_name_free(self) -> None:
        for how in (signal.SIGINT, signal.SIGTERM):
            bot = self.bot("echo")
            self.alice.write("@bot: hello\n")
            self.alice.wait_for("^bot: hello$")
            self.stop(bot, how)

    def test_a_bot_with_an_account_answers_what_was_said_while_it_did_not_run(self) -> None:
        owner = self.client("bot")
        owner.write("/register\n")
        owner.end_input()
        self.assertEqual((owner.wait(), owner.err), (0, []))
        for text in ("one", "two"):  # the second is not taken for a repetition of the first
            self.alice.write(f"@bot: {text}\n/history @bot 1\n")
            self.alice.wait_for(f"alice to bot: {text}$")
            bot = self.bot("echo")
            self.alice.wait_for(f"^bot: {text}$")
            self.stop(bot)

    def test_why_a_bot_can_not_start_is_one_line(self) -> None:
        path = str(ROOT / "examples" / "echo.py")
        for arguments, reason in (
            (("ALICE", f"127.0.0.1:{self.port}"), "ERROR 105 Name in use"),
            (("a b", f"127.0.0.1:{self.port}"), "ERROR 100 Malformed username"),
            (("bot", "127.0.0.1:1"), "connection refused: no server at 127.0.0.1:1"),
        ):
            bot = self.process(sys.executable, path, *arguments)
            self.assertEqual((bot.wait(), bot.err), (1, [reason]))

    def test_a_log_is_posted_line_by_line_through_its_rotation(self) -> None:
        log = Path(self.folder.name) / "app.log"
        log.write_text("before\n")
        self.join("#ops")
        bot = self.bot("tail_to_room", str(log), "#ops")
        self.alice.wait_for("bot joined #ops")
        with log.open("a") as file:
            file.write("one\n\ntwo\nthr")
            file.flush()
            self.alice.wait_for("^bot to #ops: one$")
            self.alice.wait_for("^bot to #ops: two$")
            file.write("ee\n")
            file.flush()
            self.alice.wait_for("^bot to #ops: three$")
            log.rename(log.with_suffix(".1"))
            file.write("four\n")
        log.write_text("five\n")
        self.alice.wait_for("^bot to #ops: four$")
        self.alice.wait_for("^bot to #ops: five$")
        self.assertEqual([line for line in self.alice.out if "before" in line], [])
        self.stop(bot)

    def test_remind_answers_in_a_room_that_it_has_joined(self) -> None:
        self.join("#dev")
        bot = self.bot("remind", "#dev")
        self.alice.wait_for("bot joined #dev")
        self.alice.write("#dev: !remind 0s stand-up\n@bot: !remind 0m tea\n")
        self.alice.wait_for("^bot to #dev: alice: stand-up$")
        self.alice.wait_for("^bot: alice: tea$")
        self.stop(bot)


class AsyncioTests(BotTestCase):
    def test_a_bot_in_asyncio_works_on_several_things_at_once(self) -> None:
        path = Path(self.folder.name) / "bot.py"
        path.write_text(block("asyncioreactor"))
        bot = self.process(
            sys.executable, "-W", "error", str(path), "bot", "127.0.0.1", str(self.port)
        )
        self.came("bot")
        self.alice.write("@bot: one\n@bot: two\n@bot: three\n")
        for text in ("one", "two", "three"):
            self.alice.wait_for(f"^bot: done: {text}$")
        self.kill()
        self.alice.write("@bot: four\n")
        self.start()
        self.alice.wait_for("^bot: done: four$")
        self.stop(bot)
        self.bot("echo")
