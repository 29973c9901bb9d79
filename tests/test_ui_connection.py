"""The terminal while there is no answer or no connection, and a name that is taken."""

from __future__ import annotations

from chat_twisted.frames import encode
from tests.terminal import LOST, Registered, TalkTestCase, registered

UNTIL = "2026-11-27T12:30:00.000Z"


class UnansweredTests(Registered):
    def test_the_prompt_says_for_how_long_a_message_is_unanswered(self) -> None:
        self.said("@Bob: hello")
        self.clock.advance(9)
        self.assertEqual(self.prompt(), "ALL> ")
        self.clock.advance(1)
        drawn = self.terminal.refreshed
        for seconds in (11, 12):
            self.clock.advance(1)
            self.assertEqual(self.prompt(), f"(no answer for {seconds} s) ALL> ")
        self.assertGreaterEqual(self.terminal.refreshed - drawn, 2)
        self.assertEqual([frame.verb for frame in self.requests()], ["PING"])

    def test_it_says_so_no_more_when_the_answer_has_come(self) -> None:
        id = self.said("hello")
        self.clock.advance(12)
        self.sent(id, "ALL")
        self.assertEqual(self.prompt(), "ALL> ")
        drawn = self.terminal.refreshed
        self.clock.advance(5)
        self.assertEqual(self.terminal.refreshed, drawn)

    def test_the_prompt_says_so_of_a_room_for_which_lines_wait(self) -> None:
        frame = self.asked("/join #new")
        self.type("hello")
        drawn = self.terminal.refreshed
        self.clock.pump([1] * 12)
        self.assertEqual(self.prompt(), "(no answer for 12 s) ALL> ")
        self.assertGreaterEqual(self.terminal.refreshed - drawn, 12)
        self.hear(encode("JOINED", "#new", [("Id", frame.id), ("User", "alice")]))
        self.assertEqual(self.prompt(), "#new> ")


class NotConnectedTests(Registered):
    def test_the_prompt_says_for_how_long_and_when_it_is_tried_again(self) -> None:
        self.away = True
        self.lose()
        self.assertEqual(self.prompt(), "(not connected) ALL> ")
        drawn = self.terminal.refreshed
        self.clock.pump([1] * 12)
        self.assertGreaterEqual(self.terminal.refreshed - drawn, 12)
        self.assertRegex(
            self.prompt(), r"\A\(not connected for 12 s, next try in [0-9]{1,2} s\) ALL> \Z"
        )
        self.clock.pump([10] * 18)
        self.assertRegex(self.prompt(), r"\A\(not connected for 3 min, next try in")
        self.away = False
        self.clock.pump([1] * 31)
        self.hear(registered())
        drawn = self.terminal.refreshed
        self.assertEqual(self.prompt(), "ALL> ")
        self.clock.advance(3)
        self.assertEqual(self.terminal.refreshed, drawn)

    def test_nothing_is_shown_twice_after_a_reconnect(self) -> None:
        asked = self.asked("#dev")
        self.hear(*self.history(asked, (6, "Bob", "before"), (7, "Bob", "one")))
        self.forward("#dev", "two", number=8)
        self.sent(self.said("three"), "#dev")
        self.lose()
        self.come_back()
        self.assertEqual(self.look_around(), [])
        self.assertEqual([f.verb for f in self.first if f.verb == "HISTORY"], [])
        self.assertEqual(self.forward("#dev", "two", number=8), [])
        self.assertEqual(self.forward("#dev", "four", number=9), ["10:00 [#dev] Bob: four"])
        self.assertEqual(self.type("@ALL", "#dev"), [])
        self.assertEqual(self.look_around(), [])

    def test_a_terminal_says_once_that_the_connection_is_lost(self) -> None:
        self.away = True
        self.assertEqual(self.lose(), [LOST])
        self.clock.pump([31] * 15)
        self.assertEqual((self.shown(), self.terminal.stopped), ([], []))


class OtherNameTests(TalkTestCase):
    def taken(self, *headers: tuple[str, str]) -> list[str]:
        self.requests()
        return self.hear(encode("ERROR", "105 Name in use", headers))

    def names(self) -> list[str]:
        return [frame.argument for frame in self.requests() if frame.verb == "REGISTER"]

    def test_a_name_that_is_taken_is_explained_and_another_is_offered(self) -> None:
        self.assertEqual(
            self.taken(("Until", UNTIL)),
            ["! alice is kept until 12:30 for a guest who has left; alice_ may be free"],
        )
        question = "Another name (such as alice_; none leaves): "
        self.assertEqual(self.terminal.questions[0][:2], (question, False))
        self.answer("alice_")
        self.assertEqual(self.names(), ["alice_"])
        self.assertEqual(self.taken(), ["! alice_ is taken; alice__ may be free"])
        self.assertEqual(
            self.answer("al ice"),
            ["! A name has only letters (a to z), digits, _ and -; not U+0020"],
        )
        self.answer("alicia")
        self.assertEqual(self.names(), ["alicia"])
        self.hear(registered(name="alicia"))
        self.assertEqual((self.view.user, self.renames), ("alicia", ["alicia"]))

    def test_without_another_name_it_is_over(self) -> None:
        self.taken()
        self.answer("")  # also Ctrl-C
        self.assertEqual(self.names(), [])
        self.lose()
        self.assertEqual(self.terminal.stopped, [(2, "alice is taken; alice_ may be free")])

    def test_the_session_ends_while_another_name_is_asked_for(self) -> None:
        self.taken()
        self.lose()
        self.assertEqual(self.terminal.stopped, [(2, "alice is taken; alice_ may be free")])
        self.answer("alicia")
        self.assertEqual(self.names(), [])


class StrangeServerTests(Registered):
    """A server that sends what it must not ends the session, with an error."""

    def test_markers_without_end_are_the_end(self) -> None:
        self.lose()
        self.come_back()
        [read] = [frame for frame in self.requests() if frame.verb == "READ"]
        page = 0
        while not self.terminal.stopped:
            page += 1
            lines = "".join(f"u{page}x{i} 1 1\n" for i in range(500))
            self.hear(encode("READ", "", [("Id", read.id), ("More", f"m{page}")], lines))
            self.assertLess(page, 1000)
            self.server.take()
        [(code, reason)] = self.terminal.stopped
        self.assertEqual(code, 1)
        self.assertIn("an answer without an end", reason)

    def test_odd_markers_are_harmless_or_the_end(self) -> None:
        self.hear(encode("READ", "#dev", [("Message", 10**18 - 1)]))
        self.forward("#dev", "one", number=7)
        self.assertEqual(self.prompt(), "ALL> ")
        self.hear(encode("READ", "#dev", [("Message", 0)]))
        self.assertEqual(self.terminal.stopped[0][0], 1)

    def test_many_markers_are_taken_in_a_moment(self) -> None:
        self.marker_lines = tuple(f"u{i} 1 {int(i > 4990)}" for i in range(5000))
        self.lose()
        self.come_back()
        self.look_around()
        self.assertEqual(len(self.type("/unread")), 9)
