"""The terminal's contents and input handling, without a terminal."""

from __future__ import annotations

import json
import shutil
import tempfile
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chat_twisted.client.identity import MAX_TRIES
from chat_twisted.frames import encode
from chat_twisted.ui import arriving
from chat_twisted.ui import outgoing as outgoing_module
from chat_twisted.ui.help import help_text
from chat_twisted.ui.layout import NAME_COLOURS, colour, table, tag
from chat_twisted.ui.turning import MARKED_AFTER
from tests.terminal import LOST, TIME, Registered, TalkTestCase, plain, registered

HOSTILE = "a\x1b[2J\x07\x9b1m\x85\u2028\u202e\rb"
HARMLESS = "a␛[2J␇\ufffd1m\ufffd\ufffd\ufffd␍b"


class GreetingTests(Registered):
    def test_the_user_is_told_their_name_and_who_is_here(self) -> None:
        self.assertEqual(
            self.greeting,
            [
                "· You are alice on chat.example. Here: Bob, carol. /help tells what you can do.",
                "· Your rooms: #dev",
            ],
        )
        asked = [(frame.verb, frame.headers.get("watch")) for frame in self.first]
        self.assertEqual(
            asked, [("WHO", "yes"), ("ROOMS", None), ("READ", None), ("HISTORY", None)]
        )
        self.assertEqual(self.first[2].headers["unread"], "yes")
        self.assertEqual(self.first[3].argument, "ALL")
        self.assertEqual(self.prompt(), "ALL> ")

    def test_names_and_rooms_are_known_for_completion(self) -> None:
        self.assertEqual(self.view.names(), ["Bob", "carol"])
        self.assertEqual(self.view.rooms(), ["#dev", "#Ops"])


class AloneTests(Registered):
    users = ("alice",)

    def test_a_user_who_is_alone_is_told_so(self) -> None:
        self.assertIn("Here: nobody else.", self.greeting[0])


class CrowdTests(Registered):
    users = ("alice", *(f"u{i}" for i in range(12)))

    def presence(self, *lines: str) -> list[str]:
        return self.hear(encode("PRESENCE", "", (), "".join(f"{line}\n" for line in lines)))

    def test_a_crowd_is_counted(self) -> None:
        self.assertIn("Here: 12 others (/who).", self.greeting[0])

    def test_changes_of_presence_among_many_are_known_but_not_shown(self) -> None:
        self.assertEqual(self.presence("bob here", "u0 away lunch"), [])
        self.assertEqual(len(self.view.names()), 13)
        self.assertIn("bob", self.view.names())

    def test_changes_of_presence_are_shown_again_when_fewer_are_here(self) -> None:
        self.assertEqual(self.presence("u0 gone"), ["· u0 left"])
        self.assertEqual(self.presence("u1 away", "u1 here"), ["· u1 is away", "· u1 is back"])
        self.assertEqual(self.presence("bob here"), [])


class PresenceTests(Registered):
    def presence(self, *lines: str) -> list[str]:
        return self.hear(encode("PRESENCE", "", (), "".join(f"{line}\n" for line in lines)))

    def test_guests_and_accounts_are_told_apart(self) -> None:
        self.assertEqual(
            self.presence("dave!x1 here", "erin! here"), ["· ~dave is here", "· erin is here"]
        )
        for sender, shown in (("dave", "~dave"), ("erin", "erin"), ("too_early", "~too_early")):
            self.assertEqual(self.forward("ALL", "hi", sender), [f"10:00 [ALL] {shown}: hi"])

    def test_another_guest_under_a_name_is_told_of_although_comings_are_hidden(self) -> None:
        self.type("/hide joins")
        self.assertEqual(self.presence("dave!x1 here"), [])
        self.forward("alice", "hi", "dave")
        news = self.presence("dave!x1 gone", "dave!x2 here")
        self.assertEqual(news, ["· ~dave is here, not the ~dave you talked to"])

    def test_users_who_come_go_are_away_or_back_are_shown(self) -> None:
        self.assertEqual(
            self.presence("dave here", "Bob away on the phone", "carol here", "BOB gone"),
            ["· dave is here", "· Bob is away: on the phone", "· carol is back", "· BOB left"],
        )
        self.assertEqual(self.view.names(), ["carol", "dave"])

    def test_an_absent_user_does_not_leave_and_the_users_own_presence_is_no_news(self) -> None:
        self.assertEqual(self.presence("dave gone", "ALICE away", "alice here"), [])
        self.assertEqual(self.view.names(), ["Bob", "carol"])

    def test_a_state_that_is_not_known_here_is_being_here(self) -> None:
        self.assertEqual(self.presence("dave asleep deeply"), ["· dave is here"])

    def test_why_somebody_is_away_does_nothing_to_the_terminal(self) -> None:
        self.assertEqual(self.presence("Bob away a\x1b[2J\x9bb"), ["· Bob is away: a␛[2J\ufffdb"])


class MessageTests(Registered):
    def test_a_message_has_its_time_its_conversation_and_its_sender(self) -> None:
        for to, tagged in (("alice", "[@Bob]"), ("ALL", "[ALL]"), ("#dev", "[#dev]")):
            self.assertEqual(self.forward(to, "hi"), [f"10:00 {tagged} Bob: hi"])

    def test_a_new_day_is_shown_above_its_first_message(self) -> None:
        headers = [("To", "ALL"), ("Message", 1), ("Time", TIME)]
        self.assertEqual(
            self.hear(encode("FORWARD", "Bob", headers, "x")), [*self.day, "10:00 [ALL] Bob: x"]
        )
        self.assertEqual(self.forward("ALL", "y", number=2), ["10:00 [ALL] Bob: y"])
        self.assertEqual(
            self.forward("ALL", "z", number=3, time="2026-11-24T00:00:00.000Z"),
            ["── Tue 24 Nov 2026 ──", "00:00 [ALL] Bob: z"],
        )

    def test_an_invalid_time_is_shown_as_no_time(self) -> None:
        for time in ("9999-99-99T99:99:99.999Z", "0000-00-00T00:00:00.000Z"):
            self.assertEqual(self.forward("ALL", "x", time=time), ["--:-- [ALL] Bob: x"])

    def test_lines_of_a_text_can_not_pass_for_other_peoples(self) -> None:
        forged = "10:00  [@carol] carol: pay now"
        shown = self.forward("alice", f"one\r\n{forged}\n· Bob left\n\n! error\n── now ──\n")
        self.assertEqual(shown[0], "10:00 [@Bob] Bob:")
        lines = ("one", forged, "· Bob left", "", "! error", "── now ──")
        self.assertEqual(shown[1:], [f"        {line}" for line in lines])

    def test_nothing_that_somebody_says_acts_on_the_terminal_or_makes_another_line(self) -> None:
        self.assertEqual(
            self.forward("alice", f"{HOSTILE}\n{HOSTILE}"),
            ["10:00 [@Bob] Bob:", f"        {HARMLESS}", f"        {HARMLESS}"],
        )
        for text in ("a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g", "\r\n\x85\r\n", "\n\n"):
            for i, line in enumerate(self.forward("alice", text)):
                self.assertEqual(line.splitlines(), [line])
                self.assertTrue(line.startswith("        " if i else "10:00 [@Bob] Bob:"))

    def test_colours_tell_conversations_and_people_apart(self) -> None:
        for to, kind in (("alice", "class:direct"), ("ALL", "class:all"), ("#dev", "class:room")):
            self.forward("ALL", "x")
            headers = [("To", to), ("Time", TIME)]
            self.view.session.dataReceived(
                encode("FORWARD", "BOB", [*headers, ("Message", next(self.numbers))], "x")
            )
            [line] = self.styles()
            self.assertIn((kind, tag("BOB" if to == "alice" else to)), line)
            self.assertIn((colour("bob"), "BOB:"), line)

    def test_own_messages_of_another_connection_are_shown_as_own(self) -> None:
        self.assertEqual(
            self.forward("Bob", "from afar", "alice"), ["10:00 [@Bob] alice: from afar"]
        )
        self.assertEqual((self.prompt(), self.terminal.rings), ("ALL> ", 0))


class BellTests(Registered):
    def rings(self) -> tuple[int, int]:
        """The numbers of bells and notifications since the last call."""
        terminal = self.terminal
        found = terminal.rings, len(terminal.notices)
        terminal.rings = 0
        terminal.notices.clear()
        return found

    def test_the_bell_rings_for_messages_to_the_user(self) -> None:
        for to, text, rings in (
            ("alice", "x", 1),
            ("#dev", "hello Alice!", 1),
            ("ALL", "@ALICE: x", 1),
            ("ALL", "one\ntwo alice", 1),
            ("ALL", "x", 0),
            ("#dev", "malice", 0),
            ("#dev", "alice2", 0),
            ("#dev", "alice_, al-alice, alice-2", 0),
            ("#dev", "-alice-", 1),
        ):
            self.forward(to, text)
            self.assertEqual(self.rings(), (rings, rings), text)

    def test_a_mention_is_marked(self) -> None:
        self.assertEqual(self.forward("ALL", "hi alice"), ["10:00*[ALL] Bob: hi alice"])
        self.assertEqual(self.forward("ALL", "hi alice", "alice"), ["10:00 [ALL] alice: hi alice"])

    def test_the_desktop_is_told_the_first_line_and_nothing_that_acts_on_a_terminal(self) -> None:
        self.forward("alice", f"{HOSTILE}\ntwo")
        self.forward("alice", "x" * 900)
        (title, text), (_, long) = self.terminal.notices
        self.assertEqual((title, text), ("Bob", HARMLESS))
        self.assertLessEqual(len(long), 250)

    def test_the_bell_and_notifications_can_be_switched(self) -> None:
        self.assertEqual(self.type("/bell", "/notify"), ["· bell: on", "· notify: auto"])
        self.assertEqual(self.type("/bell off"), ["· bell: off"])
        self.forward("alice", "x")
        self.assertEqual(self.rings(), (0, 1))
        self.assertEqual(self.type("/notify off"), ["· notify: off"])
        self.forward("alice", "x")
        self.assertEqual(self.rings(), (0, 0))
        self.type("/bell on", "/notify on")
        self.forward("alice", "x")
        self.assertEqual(self.rings(), (1, 1))
        self.assertEqual(self.config.notify, "on")

    def test_messages_of_an_ignored_user_are_not_shown_until_further_notice(self) -> None:
        self.assertEqual(self.type("/ignore"), ["· Ignored: nobody"])
        self.assertEqual(self.type("/ignore @BOB"), ["· BOB is ignored"])
        self.assertEqual(self.forward("alice", "x") + self.forward("#dev", "alice"), [])
        self.assertEqual((self.rings(), self.prompt()), ((0, 0), "ALL> "))
        self.assertEqual(self.type("/ignore"), ["· Ignored: BOB"])
        self.assertEqual(self.type("/unignore bob"), ["· bob is not ignored any more"])
        self.assertEqual(self.forward("alice", "x"), ["10:00 [@Bob] Bob: x"])


class ConversationTests(Registered):
    def test_a_line_without_address_goes_to_the_current_conversation(self) -> None:
        for turn, prompt, to in (
            ("@bob", "@Bob> ", "Bob"),
            ("#DEV", "#dev> ", "#dev"),
            ("@all", "ALL> ", "ALL"),
            ("@nobody", "@nobody> ", "nobody"),
            ("#dev:", "#dev> ", "#dev"),
        ):
            hint = ["· nobody is not here"] if to == "nobody" else []
            self.assertEqual(self.type(turn), hint)
            self.assertEqual(self.prompt(), prompt)
            self.assertEqual(self.look_around(), [])
            frame = self.asked("hello: you")
            self.assertEqual((frame.verb, frame.argument, frame.body), ("SEND", to, "hello: you"))

    def test_a_room_that_the_user_is_not_in_can_not_be_turned_to(self) -> None:
        for turn, words in (
            ("#ops", "! You are not in #ops (/join #ops)"),
            ("#new", "! There is no room #new (/join #new makes one)"),
            ("#dve", "! There is no room #dve; did you mean #dev?"),
            ("@b@d:", "! A name has only letters (a to z), digits, _ and -; not @"),
            ("@\x1b:", "! A name has only letters (a to z), digits, _ and -; not U+001B"),
        ):
            self.assertEqual(self.type(turn), [words])
        self.assertEqual(self.prompt(), "ALL> ")

    def test_messages_of_other_conversations_are_counted_beside_the_prompt(self) -> None:
        self.forward("ALL", "here")
        self.forward("#dev", "one")
        self.forward("#dev", "two")
        self.forward("alice", "three")
        self.assertEqual(self.prompt(), "[2:#dev 3:@Bob!] ALL> ")
        self.forward("alice", "x", "carol")
        self.forward("alice", "x", "dave")
        self.assertEqual(self.prompt(), "[2:#dev 3:@Bob! 4:@carol! 5:@dave!] ALL> ")

    def test_messages_of_an_ignored_user_are_not_shown_on_turning_to_them(self) -> None:
        self.type("/ignore bob")
        shown = self.turn("#dev", (6, "Bob", "one"), (7, "carol", "two"))
        self.assertEqual(shown, ["10:00 [#dev] carol: two"])

    def test_own_messages_are_not_shown_again_on_turning_to_their_conversation(self) -> None:
        self.type("/view current")
        id = self.said("#dev: one")
        self.number_of[id] = 7
        self.assertEqual(self.sent(id, "#dev"), ["10:00 [#dev] alice: one"])
        self.assertEqual(self.turn("#dev", (7, "alice", "one")), [])

    def test_shown_messages_are_not_shown_again_on_turning_to_their_conversation(self) -> None:
        self.forward("#dev", "one", number=7)
        self.forward("#DEV", "two", "carol", number=8)
        shown = self.turn("#dev", (6, "Bob", "before"), (7, "Bob", "one"), (8, "carol", "two"))
        self.assertEqual(shown, ["10:00 [#dev] Bob: before"])
        self.assertEqual(self.prompt(), "#dev> ")
        self.forward("#dev", "three", number=9)
        self.assertEqual(self.prompt(), "#dev> ")
        self.assertEqual(self.type("@ALL", "#dev"), [])
        self.assertEqual(self.requests("RECEIVED"), [])

    def test_unread_messages_are_shown_on_turning_to_their_conversation(self) -> None:
        self.view.toggle_view()
        self.shown()
        self.assertEqual(self.forward("#dev", "two", number=7), [])
        self.assertEqual(self.forward("#DEV", "three\nlines", "carol", number=8), [])
        self.hear(encode("READ", "#dev", [("Message", 6)]))
        self.assertEqual(
            self.turn("#dev", (6, "Bob", "one"), (7, "Bob", "two")),
            [
                "10:00 [#dev] Bob: one",
                "── new ──",
                "10:00 [#dev] Bob: two",
                "10:00 [#DEV] carol:",
                "        three",
                "        lines",
            ],
        )
        self.assertEqual(self.prompt(), "#dev> ")

    def test_of_many_unread_messages_the_newest_are_shown_and_all_are_counted(self) -> None:
        self.view.toggle_view()
        for number in range(300):
            self.forward("#dev", f"n{number}")
        self.assertEqual(self.prompt(), "[2:#dev] ALL> ")
        asked = self.asked("#dev")
        self.assertEqual(asked.headers["count"], "200")
        found = [(number + 1, "Bob", f"n{number}") for number in range(100, 300)]
        shown = self.without_day(self.hear(*self.history(asked, *found)))
        self.assertEqual(shown[0], "· 100 more unread messages: /history 300")
        self.assertEqual((len(shown), shown[2]), (202, "10:00 [#dev] Bob: n100"))

    def test_unread_messages_are_shown_though_their_history_is_refused(self) -> None:
        self.view.toggle_view()
        for number in range(60):
            self.forward("#dev", f"n{number}")
        self.shown()
        shown = self.without_day(self.refused(self.asked("#dev").id, "112 Unavailable"))
        self.assertEqual(shown[:2], ["· 10 more unread messages: /history 10", "── new ──"])
        self.assertEqual((len(shown), shown[2]), (52, "10:00 [#dev] Bob: n10"))

    def test_unread_lists_conversations_with_the_last_that_was_said(self) -> None:
        self.assertEqual(self.type("/unread"), ["· Nothing unread"])
        self.forward("#dev", "one")
        self.forward("#dev", "two\x1b\nmore", "carol")
        self.forward("alice", "x")
        self.assertEqual(
            self.type("/unread"),
            ["· [@Bob] 1 unread, the last Bob: x", "· [#dev] 2 unread, the last carol: two␛"],
        )

    def test_joining_turns_to_the_room_and_leaving_back_to_all(self) -> None:
        self.assertEqual(self.asked("/join #new").verb, "JOIN")
        shown = self.hear(
            encode(
                "JOINED", "#New", [("Id", self.last_id), ("User", "alice"), ("Owner", "alice")], ""
            )
        )
        self.assertEqual((shown, self.prompt()), (["· alice joined #New"], "#New> "))
        self.forward("#dev", "x")
        self.asked("/leave #new")
        shown = self.hear(encode("LEFT", "#New", [("Id", self.last_id), ("User", "alice")]))
        self.assertEqual(shown, ["· alice left #New"])
        self.assertEqual(self.prompt(), "[2:#dev] ALL> ")
        self.assertEqual(self.type("#new"), ["! You are not in #new (/join #new)"])

    def test_a_user_removed_from_a_room_is_told_and_is_in_it_no_more(self) -> None:
        self.forward("#dev", "x")
        shown = self.hear(encode("LEFT", "#dev", [("User", "ALICE"), ("By", "Bob")]))
        self.assertEqual(shown, ["· ALICE was removed from #dev by Bob"])
        self.assertEqual(self.prompt(), "ALL> ")
        self.assertEqual(self.type("#dev"), ["! You are not in #dev (/join #dev)"])

    def test_joins_and_leaves_of_others_change_nothing_about_oneself(self) -> None:
        self.type("#dev")
        self.hear(encode("LEFT", "#dev", [("User", "Bob")]))
        self.hear(encode("JOINED", "#far", [("User", "Bob")]))
        self.assertEqual(self.prompt(), "#dev> ")
        self.assertEqual(self.view.rooms(), ["#dev", "#far", "#Ops"])

    def test_a_join_on_another_connection_does_not_turn_anywhere(self) -> None:
        self.hear(encode("JOINED", "#new", [("User", "alice")]))
        self.assertEqual(self.prompt(), "ALL> ")
        self.assertEqual(self.type("#new"), [])

    def test_an_invitation_says_how_to_follow_it(self) -> None:
        shown = self.hear(encode("INVITED", "#new", [("User", "alice"), ("By", "Bob")]))
        self.assertEqual(shown, ["· Bob invites you to #new (/join #new)"])
        self.assertIn("#new", self.view.rooms())


class StartRoomsTests(Registered):
    rooms = ("#a", "#b")

    def test_rooms_of_the_config_are_joined_and_the_first_of_them_is_turned_to(self) -> None:
        joins = [frame for frame in self.first if frame.verb == "JOIN"]
        self.assertEqual([frame.argument for frame in joins], ["#a", "#b"])
        self.assertEqual(self.prompt(), "#a> ")
        shown = self.hear(
            encode("JOINED", "#a", [("Id", joins[0].id), ("User", "alice")], ""),
            encode("ERROR", "111 Not permitted", [("Id", joins[1].id)]),
        )
        self.assertEqual(
            shown,
            [
                "· alice joined #a",
                "! #b is private (a member can /invite you), your name is banned from it, or you "
                "are in too many rooms",
                "· Your rooms: #a, #dev",
            ],
        )
        self.assertEqual(self.prompt(), "#a> ")

    def test_a_user_who_has_turned_to_a_conversation_meanwhile_stays_there(self) -> None:
        joins = [frame for frame in self.first if frame.verb == "JOIN"]
        self.type("@Bob")
        self.hear(
            *(
                encode("JOINED", frame.argument, [("Id", frame.id), ("User", "alice")])
                for frame in joins
            )
        )
        self.assertEqual(self.prompt(), "@Bob> ")

    def test_a_room_that_can_not_be_joined_is_not_turned_to(self) -> None:
        for frame in self.first:
            if frame.verb == "JOIN":
                self.refused(frame.id, "111 Not permitted")
        self.assertEqual(self.prompt(), "ALL> ")

    def test_lines_typed_for_a_room_that_can_not_be_joined_are_not_sent_to_all(self) -> None:
        self.type("the password is hunter2")
        joins = [frame for frame in self.first if frame.verb == "JOIN"]
        shown = [line for join in joins for line in self.refused(join.id, "111 Not permitted")]
        self.assertIn("! Not sent: the password is hunter2", shown)
        self.assertEqual([f for f in self.requests() if f.verb == "SEND"], [])

    def test_they_are_joined_again_when_the_server_has_forgotten_the_guest(self) -> None:
        self.hear(
            *(
                encode("JOINED", frame.argument, [("Id", frame.id), ("User", "alice")])
                for frame in self.first
                if frame.verb == "JOIN"
            )
        )
        for token, rooms in (("x", []), ("y", ["#dev", "#a", "#b"])):
            self.requests()
            self.lose()
            self.clock.advance(1)
            self.hear(registered(token=token))
            frames = self.requests()
            self.assertEqual([f.argument for f in frames if f.verb == "JOIN"], rooms)
            verbs = [f.verb for f in frames]
            self.assertEqual(verbs[: len(rooms) + 1], ["REGISTER", *["JOIN"] * len(rooms)])


class OwnTests(Registered):
    def test_a_message_is_beside_the_prompt_and_dim_until_it_is_sent_and_delivered(self) -> None:
        id = self.said("@Bob: hello")
        for style, state in (("class:dim", "on its way"), ("", "sent")):
            [line] = self.view.beside()
            self.assertEqual(plain(line), f"[@Bob] alice: hello ({state})")
            self.assertEqual({style for style, _ in line}, {style})
            if state != "sent":
                self.assertEqual(self.sent(id), [])
        self.assertEqual(self.delivered(id), ["10:00 [@Bob] alice: hello (✓ delivered)"])
        self.assertEqual(self.beside(), [])
        self.clock.advance(3)
        self.assertEqual(self.shown(), [])

    def test_a_message_to_many_is_settled_when_it_is_sent(self) -> None:
        for to in ("ALL", "#dev"):
            id = self.said(f"@{to}: one\ntwo")
            self.assertEqual(self.beside(), [f"[{to}] alice: one … (on its way)"])
            self.assertEqual(
                self.sent(id, to), [f"10:00 [{to}] alice:", "        one", "        two"]
            )
            self.assertEqual(self.beside(), [])

    def test_a_message_undelivered_after_three_seconds_is_shown_and_its_delivery_too(self) -> None:
        id = self.said("@Bob: hello\nyou")
        self.sent(id)
        self.clock.advance(2.9)
        self.assertEqual((self.shown(), len(self.beside())), ([], 1))
        self.clock.advance(0.1)
        self.assertEqual(
            self.without_day(self.shown()),
            ["10:00 [@Bob] alice:", "        hello", "        you (sent, not delivered yet)"],
        )
        self.assertEqual(self.beside(), [])
        self.assertEqual(self.delivered(id), ["· ✓ Bob has it now: hello"])
        self.assertEqual(self.delivered(id), [])

    def test_the_number_of_late_deliveries_that_are_told_is_bounded(self) -> None:
        self.patch(outgoing_module, "MAX_LATE", 2)
        ids = [self.said(f"@Bob: n{number}") for number in range(3)]
        for id in ids:
            self.sent(id)
        self.clock.advance(3)
        self.shown()
        self.assertEqual(
            [self.delivered(id) for id in ids],
            [[], ["· ✓ Bob has it now: n1"], ["· ✓ Bob has it now: n2"]],
        )

    def test_a_refused_message_stays_until_it_is_sent_again_or_dropped(self) -> None:
        for error in ("102 Unable to send", "109 Too fast", "112 Un\x1bavailable"):
            id = self.said("@Bob: hello")
            self.refused(id, error)
            [line] = self.view.beside()
            text = "1 not sent: /again, /drop, or edit with Up"
            self.assertEqual((plain(line), line[0][0]), (text, "class:error"))
            self.view.send_again()
            [again] = self.requests()
            self.assertEqual((again.argument, again.body), ("Bob", "hello"))
            self.assertNotEqual(again.id, id)
            self.assertEqual(self.beside(), ["[@Bob] alice: hello (on its way)"])
            self.refused(again.id, error)
            self.view.drop()
            self.assertEqual((self.beside(), self.requests()), ([], []))

    def test_a_message_on_its_way_is_neither_sent_again_nor_dropped(self) -> None:
        self.said("@Bob: one")
        second, third = self.said("@Bob: two"), self.said("@Bob: three")
        self.refused(second)
        self.refused(third)
        self.view.send_again()
        self.assertEqual([frame.body for frame in self.requests()], ["two", "three"])
        self.view.drop()
        self.assertEqual(len(self.beside()), 3)

    def test_the_newest_undelivered_messages_are_shown_with_their_number(self) -> None:
        for number in range(8):
            self.said(f"n{number}")
        shown = self.beside()
        self.assertEqual((len(shown), shown[0]), (6, "… 3 more"))
        self.assertIn("n3", shown[1])

    def test_own_text_can_not_act_on_the_terminal(self) -> None:
        id = self.said(f"@Bob: {HOSTILE}")
        self.assertEqual(self.beside(), [f"[@Bob] alice: {HARMLESS} (on its way)"])
        self.sent(id)
        self.assertEqual(self.delivered(id), [f"10:00 [@Bob] alice: {HARMLESS} (✓ delivered)"])

    def test_a_message_for_which_the_server_would_close_the_connection_is_not_sent(self) -> None:
        for line, words in (
            (
                "@b@d: x",
                "! Not sent to b@d: A name has only letters (a to z), digits, _ and -; not @",
            ),
            (
                "@Bob: " + "é" * 501,
                "! Not sent to Bob: The text has 1,002 bytes; at most 1,000 are possible",
            ),
            (
                "@Bob: a\0b",
                "! Not sent to Bob: The server can't read that: it is too long, or has a "
                "character that can't be",
            ),
        ):
            self.assertEqual(self.type(line), [words])
        self.assertEqual(self.requests(), [])
        self.assertEqual(self.beside(), ["3 not sent: /again, /drop, or edit with Up"])

    def test_a_message_to_the_user_themselves_is_a_note_for_their_other_devices(self) -> None:
        self.assertEqual(self.type("@Alice"), [])
        self.assertEqual(self.prompt(), "@alice> ")
        frame = self.asked("note")
        self.assertEqual((frame.verb, frame.argument, frame.body), ("SEND", "alice", "note"))

    def test_a_long_paste_is_sent_after_a_question(self) -> None:
        text = "\n".join(["line"] * 21)
        for answer, is_sent in (("y", True), ("Yes ", True), ("n", False), ("", False)):
            self.assertEqual(self.type(f"#dev: {text}"), [])
            [(what, secret, _)] = self.terminal.questions
            self.assertEqual((what, secret), ("Send 21 lines to #dev? [y/N] ", False))
            self.assertEqual(self.requests(), [])
            self.assertEqual(self.answer(answer), [] if is_sent else ["· Not sent"])
            self.assertEqual([frame.body for frame in self.requests()], [text] if is_sent else [])

    def test_a_short_paste_is_sent_at_once(self) -> None:
        text = "\n".join(["line"] * 20)
        self.assertEqual(self.asked(text).body, text)


class CommandTests(Registered):
    def test_help_is_shown_line_by_line(self) -> None:
        self.assertEqual(self.type("/help"), help_text(screen=True).split("\n"))
        self.assertEqual(self.type("/help rooms"), help_text("rooms", screen=True).split("\n"))

    def test_a_meaningless_command_is_reported(self) -> None:
        self.assertEqual(self.type("/dance"), ["! No such command: /dance (/help)"])
        self.assertEqual(self.type("/join"), ["! Usage: /join #room [private]"])
        self.assertEqual(self.type("", "  "), [])

    def test_the_members_of_a_room_have_ranks(self) -> None:
        self.asked("/who #dev")
        body = "@alice\n+Bob away\ncarol\n"
        self.assertEqual(
            self.hear(encode("WHO", "#dev", [("Id", self.last_id), ("Count", 3)], body)),
            ["· 3 in #dev", "alice  operator", "Bob    voice     away", "carol"],
        )

    def test_the_list_of_users_is_a_table(self) -> None:
        self.asked("/who")
        body = "alice\nBob away\ncarol away at lunch\x1b\n"
        self.assertEqual(
            self.hear(encode("WHO", "", [("Id", self.last_id), ("Count", 3)], body)),
            ["· 3 here", "alice", "Bob    away", "carol  away  at lunch␛"],
        )
        self.asked("/who #dev")
        shown = self.hear(encode("WHO", "#dev", [("Id", self.last_id), ("Count", 1)], "alice\n"))
        self.assertEqual(shown, ["· 1 in #dev", "alice"])

    def test_rooms_are_shown_as_a_table_and_joined_ones_can_be_turned_to(self) -> None:
        self.asked("/rooms")
        body = "#a 1\n#longer 12 member private\n"
        self.assertEqual(
            self.hear(encode("ROOMS", "", [("Id", self.last_id), ("Count", 2)], body)),
            ["#a       1 member", "#longer  12 members  you are in it, private"],
        )
        self.assertEqual(self.view.rooms(), ["#a", "#longer"])
        self.assertEqual(self.type("#longer", "@ALL"), [])
        self.asked("/rooms")
        shown = self.hear(encode("ROOMS", "", [("Id", self.last_id), ("Count", 0)], ""))
        self.assertEqual(shown, ["No rooms (/join #name makes one)"])

    def test_bans_are_listed(self) -> None:
        self.asked("/bans")
        shown = self.hear(encode("BAN", "", [("Id", self.last_id), ("Count", 1)], "x ban ever\n"))
        self.assertEqual(shown, ["x ban ever"])
        self.asked("/bans")
        shown = self.hear(encode("BAN", "", [("Id", self.last_id), ("Count", 0)], ""))
        self.assertEqual(shown, ["Nobody is banned or muted"])

    def test_a_refused_command_is_named(self) -> None:
        self.asked("/join #dev")
        self.assertEqual(
            self.refused(self.last_id, "111 Not permitted"),
            [
                "! #dev is private (a member can /invite you), your name is banned from it, "
                "or you are in too many rooms"
            ],
        )
        self.assertEqual(self.refused(None, "109 Too fast"), ["! ERROR 109 Too fast"])

    def test_a_change_that_is_done_is_reported(self) -> None:
        self.asked("/away lunch")
        shown = self.hear(encode("STATUS", "away", [("Id", self.last_id)]))
        self.assertEqual(shown, ["· You are away"])
        self.asked("/topic #dev plans")
        shown = self.hear(
            encode("TOPIC", "#dev", [("Id", self.last_id), ("User", "alice")], "plans")
        )
        self.assertEqual(shown, ["· alice set the topic of #dev: plans"])

    def test_earlier_messages_are_shown_between_marks(self) -> None:
        self.type("#dev")
        frame = self.asked("/history 2")
        self.assertEqual((frame.argument, frame.headers["count"]), ("#dev", "2"))
        headers = [("Id", self.last_id), ("To", "#dev"), ("Message", 1), ("Time", TIME)]
        shown = self.hear(
            encode("MESSAGE", "Bob", headers, "one\x1b\ntwo"),
            encode("HISTORY", "#dev", [("Id", self.last_id), ("Count", 1)]),
        )
        self.assertEqual(
            shown,
            [
                "── 1 found: history #dev ──",
                *self.day,
                "10:00 [#dev] Bob:",
                "        one␛",
                "        two (message 1)",
                "── now ──",
            ],
        )
        self.asked("/search red\x1b wine")
        shown = self.hear(encode("SEARCH", "", [("Id", self.last_id), ("Count", 0)]))
        self.assertEqual(shown, ["· Nothing found: search red␛ wine"])
        self.assertEqual((self.prompt(), self.terminal.rings), ("#dev> ", 0))

    def test_a_notice_is_shown_line_by_line(self) -> None:
        self.assertEqual(self.hear(encode("NOTICE", "motd", (), "a\nb\n")), ["· a", "· b"])


class AccountTests(Registered):
    def test_a_password_is_asked_for_twice_and_in_secret(self) -> None:
        self.requests()
        self.assertEqual(self.type("/password"), [])
        for question in ("New password: ", "Again: "):
            [(what, secret, _)] = self.terminal.questions
            self.assertEqual((what, secret), (question, True))
            self.assertEqual(self.requests(), [])
            self.assertEqual(self.answer("hunter22"), [])
        [frame] = self.requests()
        self.assertEqual(
            (frame.verb, frame.argument, frame.body), ("ACCOUNT", "password", "hunter22")
        )
        shown = self.hear(encode("ACCOUNT", "password", [("Id", frame.id)]))
        self.assertEqual(shown, ["· The password is set"])
        self.assertEqual(self.identity.password, "hunter22")

    def test_an_empty_password_and_two_that_differ_are_not_sent(self) -> None:
        self.type("/password")
        self.assertEqual(self.answer(""), ["! No password was given"])
        self.type("/password")
        self.answer("one")
        self.assertEqual(self.answer("two"), ["! The two are not the same"])
        self.assertEqual((self.requests("WHO", "ROOMS"), self.identity.password), ([], ""))

    def test_register_sends_the_key_that_is_made_for_it(self) -> None:
        frame = self.asked("/register")
        self.assertEqual((frame.verb, frame.argument), ("ACCOUNT", "register"))
        self.assertEqual(frame.headers["key"], self.identity.public())
        shown = self.hear(encode("ACCOUNT", "register", [("Id", self.last_id)]))
        self.assertEqual(shown, ["· alice is yours from now on"])

    def test_keys_are_added_removed_and_listed(self) -> None:
        self.assertEqual(self.type("/keys add /nowhere"), ["! /nowhere: No such file or directory"])
        self.assertEqual(self.asked("/keys remove k x").headers["key"], "k x")
        self.asked("/keys")
        shown = self.hear(encode("ACCOUNT", "keys", [("Id", self.last_id)], "k x\nl y\n"))
        self.assertEqual(shown, ["· k x", "· l y"])


class AuthenticationTests(TalkTestCase):
    def challenge(self, methods: str) -> list[str]:
        self.requests()
        headers = [("Methods", methods), ("Challenge", "A" * 43 + "=")]
        return self.hear(encode("ERROR", "106 Authentication required", headers))

    def test_a_password_is_asked_for_in_secret_once_and_kept_for_the_next_connection(self) -> None:
        self.challenge("publickey password")
        [(what, secret, _)] = self.terminal.questions
        self.assertEqual((what, secret, self.requests()), ("Password of alice: ", True, []))
        self.answer("hunter22")
        [frame] = self.requests()
        self.assertEqual((frame.verb, frame.argument, frame.body), ("AUTH", "password", "hunter22"))
        self.hear(registered())
        self.lose()
        self.clock.advance(1)
        self.challenge("password")
        self.assertEqual([frame.body for frame in self.requests()], ["hunter22"])
        self.assertEqual(self.terminal.questions, [])

    def test_what_was_typed_before_the_question_is_not_sent_because_it_may_be_the_password(
        self,
    ) -> None:
        self.type("hunter22")
        self.type("@Bob: hello")
        shown = self.challenge("password")
        self.assertEqual(shown, ["! What was typed before this question is not sent"])
        self.assertEqual(self.beside(), ["@Bob: hello (waits)"])
        self.answer("hunter22")
        self.requests()
        self.hear(registered())
        for asked in self.requests():
            self.refused(asked.id, "112 Unavailable")
        sent = [(f.argument, f.body) for f in self.requests() if f.verb == "SEND"]
        self.assertEqual(sent, [("Bob", "hello")])

    def test_a_key_proves_the_user_without_a_question(self) -> None:
        self.identity.public()
        self.challenge("publickey password")
        [frame] = self.requests()
        self.assertEqual(frame.argument, "publickey")
        self.hear(encode("ERROR", "107 Authentication failed"))
        self.assertEqual(self.terminal.questions[0][0], "Password of alice: ")

    def test_no_password_and_a_wrong_one_end_the_session(self) -> None:
        for answer, error in (
            ("", "No password of alice was given"),
            ("wrong", "That is not the key or the password of alice"),
        ):
            self.setUp()
            self.challenge("password")
            for _ in range(MAX_TRIES if answer else 1):
                self.assertFalse(self.server.aborting)
                self.answer(answer)
                if answer:
                    self.hear(encode("ERROR", "107 Authentication failed"))
            self.assertEqual(self.terminal.questions, [])
            self.assertTrue(self.server.aborting)
            self.lose()
            self.assertEqual(self.terminal.stopped, [(2, error)])

    def test_a_password_that_is_given_after_the_loss_of_the_connection_is_not_sent(self) -> None:
        self.challenge("password")
        self.lose()
        self.answer("hunter22")
        self.assertEqual(self.terminal.stopped[0][0], 2)
        self.assertEqual(self.requests(), [])


class ConnectionTests(Registered):
    def test_the_loss_and_the_return_of_the_connection_are_told_once_each(self) -> None:
        self.away = True
        self.assertEqual(self.lose(), [LOST])
        self.assertEqual(self.prompt(), "(not connected) ALL> ")
        self.clock.pump([10] * 6)
        self.assertEqual(self.shown(), [])
        self.assertEqual(self.come_back(), ["· Connected again"])
        self.assertEqual(self.prompt(), "ALL> ")
        self.assertEqual(self.look_around(), [])
        self.assertEqual(
            [(frame.verb, frame.headers.get("watch")) for frame in self.first],
            [("REGISTER", None), ("WHO", "yes"), ("ROOMS", None), ("READ", None)],
        )

    def test_another_host_is_named(self) -> None:
        for moved, said in (
            (True, "· Connected again, to b.example:1"),
            (False, "· Connected again"),
        ):
            self.away = True
            self.lose()
            if moved:
                self.view.session.where = "b.example:1"
            self.assertEqual(self.come_back(), [said])

    def test_changes_of_users_and_rooms_during_an_outage_are_known_after_it(self) -> None:
        self.lose()
        self.users, self.known_rooms = ("alice", "dave"), ("#new 1 member",)
        self.come_back()
        self.look_around()
        self.assertEqual((self.view.names(), self.view.rooms()), (["dave"], ["#new"]))
        self.assertEqual(self.type("#dev"), ["! There is no room #dev (/join #dev makes one)"])

    def test_a_user_no_longer_in_a_room_after_a_reconnect_is_told(self) -> None:
        self.type("#dev")
        self.lose()
        self.come_back()
        self.look_around()
        self.assertEqual((self.shown(), self.prompt()), ([], "#dev> "))
        self.lose()
        self.known_rooms = ("#dev 1",)
        self.come_back()
        shown = self.look_around()
        self.assertEqual(shown, ["! You are not in #dev any more (/join #dev, @ALL)"])
        self.assertEqual(self.prompt(), "#dev> ")  # otherwise the next line would go to everybody

    def test_a_server_that_has_lost_shown_messages_is_reported_in_one_line(self) -> None:
        self.forward("alice", "one", number=7)
        self.lose()
        shown = self.come_back(last=6)
        self.assertEqual(len([line for line in shown if "lost the last messages" in line]), 1)
        self.assertEqual(self.forward("alice", "two", number=7), ["10:00 [@Bob] Bob: two"])

    def test_lines_typed_meanwhile_are_sent_then_and_nothing_twice(self) -> None:
        self.forward("alice", "one", number=1)
        first = self.said("@Bob: early")
        settled = self.said("@ALL: settled")
        self.sent(settled, "ALL")
        self.away = True
        self.lose()
        self.assertEqual(self.type("@Bob: late"), [])
        self.assertEqual(len(self.beside()), 2)
        self.come_back()
        frames = self.requests("WHO", "ROOMS", "READ")
        self.assertEqual(frames[0].headers["resume"], "1")
        self.assertEqual([frame.body for frame in frames[1:]], ["early", "late"])
        self.assertEqual(frames[1].id, first)
        self.assertEqual(self.forward("alice", "one", number=1), [])
        self.assertEqual(self.forward("alice", "two", number=5), ["10:00 [@Bob] Bob: two"])
        self.sent(first)
        self.assertEqual(self.sent(first), [])
        self.assertEqual(len(self.delivered(first)), 1)

    def test_a_request_under_way_when_the_connection_went_is_sent_once_again(self) -> None:
        self.asked("/who")
        for _ in range(3):
            self.lose()
            self.assertEqual(self.come_back(), ["· Connected again"])
            frames = self.requests("REGISTER")
            verbs = sorted(frame.verb for frame in frames)
            self.assertEqual(verbs, ["READ", "ROOMS", "WHO", "WHO"])
        for frame in frames:
            if frame.verb == "READ":
                continue
            body = "alice\nerin\n" if frame.verb == "WHO" else "#new 1 member\n"
            shown = self.hear(encode(frame.verb, "", [("Id", frame.id)], body))
            self.assertEqual(
                shown, ["· 2 here", "alice", "erin"] if frame.id == self.last_id else []
            )
        self.assertEqual((self.view.names(), self.view.rooms()), (["erin"], ["#new"]))

    def test_a_failed_list_of_users_is_requested_again_after_the_next_loss(
        self,
    ) -> None:
        for _ in range(2):
            self.lose()
            self.come_back()
            frames = self.requests("REGISTER")
            self.assertEqual([frame.verb for frame in frames], ["WHO", "ROOMS", "READ"])
            for frame in frames:
                words = ["· After the reconnect: ERROR 104 Unknown command"]
                self.assertEqual(
                    self.refused(frame.id, "104 Unknown command"),
                    words if frame.verb == "WHO" else [],
                )

    def test_a_server_that_stays_away_is_the_end_and_unsent_messages_are_reported(self) -> None:
        self.away = True
        self.lose()
        self.type("@Bob: one\n\x1btwo")
        self.clock.pump([31] * 21)
        self.assertEqual(self.shown(), ["! Not sent to Bob: one", "! ␛two"])
        self.assertEqual(self.terminal.stopped, [(1, "Server Inactive")])
        self.assertEqual(self.beside(), [])
        self.assertEqual(self.remembered, ["x"])

    def test_a_final_bye_ends_the_session_with_its_reason(self) -> None:
        self.said("@Bob: x")
        self.hear(encode("BYE", "Banned by Bob", [("Final", "yes")]))
        self.assertEqual(self.lose(), ["! Not sent to Bob: x"])
        self.assertEqual(self.terminal.stopped, [(1, "Server Inactive : Banned by Bob")])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class MissedTests(TalkTestCase):
    place = "#dev"

    def missed(self, to: str, *numbers: int) -> list[str]:
        shown = []
        for number in numbers:
            headers = [("To", to), ("Message", number), ("Time", TIME)]
            shown += self.hear(encode("FORWARD", "Bob", headers, f"n{number}"))
        return shown

    def test_missed_messages_of_the_first_conversation_stand_below_its_history(self) -> None:
        self.hear(registered(last=8))
        self.assertEqual(self.missed("#dev", 7, 8, 9), [])
        lists = {"WHO": "alice\nBob\n", "ROOMS": "#dev 2 member\n", "READ": "#dev 6 2\n"}
        self.shown()
        for frame in self.requests("REGISTER", "RECEIVED"):
            self.hear(encode(frame.verb, "", [("Id", frame.id)], lists[frame.verb]))
        [asked] = self.requests()
        self.assertEqual((asked.verb, asked.argument), ("HISTORY", "#dev"))
        self.shown()
        for number in (5, 6, 7, 8):
            headers = [("Id", asked.id), ("To", "#dev"), ("Message", number), ("Time", TIME)]
            self.hear(encode("MESSAGE", "Bob", headers, f"n{number}"))
        shown = self.hear(encode("HISTORY", "#dev", [("Id", asked.id), ("Count", 4)]))
        self.assertEqual(
            shown,
            [
                "── Mon 23 Nov 2026 ──",
                "10:00 [#dev] Bob: n5",
                "10:00 [#dev] Bob: n6",
                "── new ──",
                *(f"10:00 [#dev] Bob: n{number}" for number in (7, 8, 9)),
            ],
        )

    def greeted(self) -> list[str]:
        """Say who is here; return the output after the greeting."""
        [who] = [frame for frame in self.requests() if frame.verb == "WHO"]
        shown = self.hear(encode("WHO", "", [("Id", who.id)], "alice!\nBob!x1\n"))
        self.assertIn("Here: ~Bob.", shown[0])
        return shown[1:]

    def test_missed_messages_follow_the_greeting_and_are_marked_once(
        self,
    ) -> None:
        self.hear(registered(last=8))
        self.assertEqual(self.missed("ALL", 6, 7, 8), [])
        self.hear(encode("DELETED", "ALL", [("Message", 6)]))
        self.shown()
        self.assertEqual(
            [*self.greeted(), *self.missed("ALL", 9)],
            [
                "── what was said while you were not here ──",
                "── Mon 23 Nov 2026 ──",
                "10:00 [ALL] ~Bob: n7",
                "10:00 [ALL] ~Bob: n8",
                "10:00 [ALL] ~Bob: n9",
            ],
        )

    def test_new_messages_are_not_marked(self) -> None:
        self.hear(registered(last=8))
        self.greeted()
        self.assertEqual(self.missed("ALL", 9)[1:], ["10:00 [ALL] ~Bob: n9"])

    def test_of_messages_that_wait_for_the_greeting_none_is_lost(self) -> None:
        self.patch(arriving, "MAX_EARLY", 1)
        self.hear(registered(last=8))
        self.assertEqual(self.missed("ALL", 7, 8)[2:], ["10:00 [ALL] Bob: n8"])
        self.hear(encode("BYE", "Banned", [("Final", "yes")]))
        self.assertIn("10:00 [ALL] Bob: n7", self.lose())


class FarTests(Registered):
    timezone = timezone(timedelta(hours=14))

    def test_times_are_shown_in_the_users_own_zone(self) -> None:
        headers = [("To", "ALL"), ("Message", 1), ("Time", TIME)]
        shown = self.hear(encode("FORWARD", "Bob", headers, "x"))
        self.assertEqual(shown, ["── Tue 24 Nov 2026 ──", "00:00 [ALL] Bob: x"])
        shown = self.forward("ALL", "x", number=2, time="9999-12-31T23:59:59.000Z")
        self.assertEqual(shown, ["--:-- [ALL] Bob: x"])


class EndTests(Registered):
    def quits(self) -> bool:
        return "QUIT" in [frame.verb for frame in self.requests()]

    def test_quit_ends_the_session_and_forgets_the_token(self) -> None:
        self.assertEqual(self.remembered, ["x"])
        self.type("/quit")
        self.assertTrue(self.quits())
        self.assertEqual((self.terminal.stopped, self.remembered), ([], ["x"]))
        self.lose()
        self.assertEqual(self.terminal.stopped, [(0, "")])
        self.assertEqual(self.remembered, ["x", None])

    def test_a_server_that_does_not_close_is_not_waited_for_long(self) -> None:
        self.type("/quit")
        self.clock.advance(2)
        self.assertTrue(self.server.aborting)

    def test_quit_while_offline_asks_once_more_if_something_is_not_sent(self) -> None:
        self.away = True
        self.lose()
        self.type("@Bob: one", "@ALL: two")
        self.assertEqual(
            self.type("/quit"), ["! 2 not sent yet; /quit once more leaves all the same"]
        )
        self.assertEqual(self.terminal.stopped, [])
        self.assertEqual(self.type("/quit"), ["! Not sent to Bob: one", "! Not sent to ALL: two"])
        self.assertEqual(self.terminal.stopped, [(0, "")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_user_who_asked_to_leave_while_offline_leaves_when_all_is_sent(self) -> None:
        self.away = True
        self.lose()
        self.type("@ALL: two", "/quit")
        self.come_back()
        verbs = [frame.verb for frame in self.requests("WHO", "ROOMS", "READ")]
        self.assertEqual(verbs, ["REGISTER", "SEND", "QUIT"])

    def test_quit_while_offline_leaves_at_once_if_all_is_sent(self) -> None:
        self.away = True
        self.lose()
        self.assertEqual(self.type("/quit"), [])
        self.assertEqual(self.terminal.stopped, [(0, "")])

    def test_the_token_is_kept_if_the_server_does_not_know_that_the_user_left(self) -> None:
        self.away = True
        self.lose()
        self.type("/quit")
        self.assertEqual(self.remembered, ["x"])

    def test_a_new_token_is_remembered(self) -> None:
        self.lose()
        self.clock.advance(1)
        self.hear(registered(token="y"))
        self.assertEqual(self.remembered, ["x", "y"])

    def test_an_interruption_ends_within_half_a_second(self) -> None:
        self.said("@Bob: x")
        self.view.interrupt()
        self.assertTrue(self.quits())
        self.assertEqual(self.terminal.stopped, [])
        self.clock.advance(0.5)
        self.assertEqual(self.terminal.stopped, [(130, "")])
        self.assertEqual(self.shown(), ["! Not sent to Bob: x"])
        self.lose()
        self.assertEqual((len(self.terminal.stopped), self.remembered[-1]), (1, None))

    def test_the_goodbye_of_the_server_ends_an_interruption_at_once(self) -> None:
        self.view.interrupt()
        self.lose()
        self.assertEqual(self.terminal.stopped, [(130, "")])
        self.clock.advance(1)
        self.assertEqual(len(self.terminal.stopped), 1)


class TokenTests(TalkTestCase):
    token = "before"

    def test_the_token_of_the_run_before_resumes_the_session(self) -> None:
        [frame] = self.requests()
        self.assertEqual((frame.verb, frame.headers["session"]), ("REGISTER", "before"))
        self.hear(registered(token="before"))
        self.assertEqual(self.remembered, ["before"])


class BeforeTests(TalkTestCase):
    """No user is registered yet."""

    def connect(self) -> None:
        pass

    def connect_at_last(self) -> None:
        super().connect()

    def test_lines_typed_before_the_registration_are_sent_after_it(self) -> None:
        self.assertEqual(self.type("@Bob: x"), [])
        self.assertEqual(self.beside(), ["@Bob: x (waits)"])
        self.connect_at_last()
        self.hear(registered())
        asked = self.requests()
        self.assertEqual([f.verb for f in asked], ["REGISTER", "WHO", "ROOMS", "READ"])
        for frame in asked[1:]:
            self.refused(frame.id, "112 Unavailable")
        self.assertEqual([f.verb for f in self.requests()], ["HISTORY", "SEND"])
        self.assertEqual(self.beside(), ["[@Bob] alice: x (on its way)"])

    def test_quit_and_an_interruption_end_it(self) -> None:
        self.type("/quit")
        self.assertEqual(self.terminal.stopped, [(0, "")])
        self.setUp()
        self.view.interrupt()
        self.clock.advance(0.5)
        self.assertEqual(self.terminal.stopped, [(130, "")])
        self.assertEqual(self.remembered, [])

    def test_quit_asks_once_more_if_something_is_not_sent(self) -> None:
        self.type("@Bob: x")
        self.assertEqual(
            self.type("/quit"), ["! 1 not sent yet; /quit once more leaves all the same"]
        )
        self.connect_at_last()
        self.hear(registered())
        asked = self.requests()
        self.assertEqual([frame.verb for frame in asked], ["REGISTER", "WHO", "ROOMS", "READ"])
        for frame in asked[1:]:
            self.refused(frame.id, "112 Unavailable")
        self.assertEqual([f.verb for f in self.requests("HISTORY")], ["SEND", "QUIT"])

    def test_a_refused_name_is_the_end_with_the_reason(self) -> None:
        self.connect_at_last()
        self.hear(encode("ERROR", "105 Name \x1bin use"))
        self.lose()
        self.assertEqual(self.terminal.stopped, [(2, "alice is taken; alice_ may be free")])
        self.assertEqual(self.remembered, [])

    def test_a_server_that_closes_is_the_end(self) -> None:
        self.connect_at_last()
        self.lose()
        self.assertEqual(self.terminal.stopped, [(2, "Server Inactive")])


class PartsTests(TestCase):
    def test_a_conversation_is_named_so_that_it_is_known_without_colour(self) -> None:
        names: dict[str, Any] = {"bob": "[@bob]", "#dev": "[#dev]", "ALL": "[ALL]"}
        self.assertEqual({name: tag(name) for name in names}, names)

    def test_a_name_has_always_the_same_colour(self) -> None:
        self.assertEqual(colour("Bob"), colour("bOB"))
        self.assertEqual(len({colour(f"u{i}") for i in range(200)}), NAME_COLOURS)

    def test_columns_are_aligned_and_nothing_follows_the_last(self) -> None:
        for rows, lines in (
            ([], []),
            ([("a", "bb", ""), ("ccc", "", "d")], ["a    bb", "ccc      d"]),
        ):
            self.assertEqual(table(rows), lines)


class LeftOverTests(Registered):
    def test_missed_messages_ring_no_bell(self) -> None:
        self.view.session.last = 5
        self.forward("alice", "missed", number=4)
        self.assertEqual((self.terminal.rings, self.terminal.notices), (0, []))
        self.forward("alice", "now", number=6)
        self.assertEqual(self.terminal.rings, 1)

    def test_a_restarted_server_is_told_again_that_the_user_is_away(self) -> None:
        self.asked("/away lunch")
        self.hear(encode("STATUS", "away", [("Id", self.last_id)]))
        self.lose()
        self.come_back()
        [frame] = [frame for frame in self.requests() if frame.verb == "STATUS"]
        self.assertEqual((frame.argument, frame.body), ("away", "lunch"))
        self.assertEqual(self.hear(encode("STATUS", "away", [("Id", frame.id)])), [])

    def test_a_sent_but_undelivered_message_is_shown_when_the_user_leaves(self) -> None:
        frame = self.asked("@bob: hello")
        headers = [("Id", frame.id), ("Message", 9), ("Time", TIME)]
        self.hear(encode("SENT", "bob", headers))
        self.view.take("/quit")
        self.view.session.connectionLost(Failure(ConnectionDone()))
        self.assertIn("hello (sent, not delivered yet)", "\n".join(self.shown()))
        self.assertEqual(self.beside(), [])

    def test_ignored_users_are_remembered(self) -> None:
        self.type("/ignore bob", "/ignore Carol", "/unignore BOB", "/ignore")
        self.assertEqual(self.ignores, [["bob"], ["bob", "Carol"], ["Carol"]])

    def test_users_who_return_with_the_server_are_no_news_but_later_ones_are(self) -> None:
        self.lose()
        self.users = ("alice",)
        self.come_back()
        self.look_around()
        seen = encode("PRESENCE", "", (), "Bob here\ndave here\n")
        self.assertEqual(self.hear(seen), ["· dave is here"])

    def test_the_servers_reason_for_a_lost_connection_is_shown(self) -> None:
        self.hear(encode("BYE", "The server is stopping"))
        [line] = self.lose()
        self.assertIn("(The server is stopping)", line)

    def test_a_line_for_a_room_that_the_user_was_removed_from_is_not_sent_to_all(self) -> None:
        self.type("#dev")
        self.look_around()
        self.hear(encode("LEFT", "#dev", [("User", "alice"), ("By", "Bob")]))
        self.requests()
        line = "the password is hunter2"
        self.assertEqual(self.view.take(line), line)
        words = "! You are not in #dev any more. Enter once more says it here, in ALL"
        self.assertEqual((self.shown(), self.requests("READ")), ([words], []))
        self.assertEqual(self.view.take(line), "")
        [frame] = self.requests("READ")
        self.assertEqual((frame.verb, frame.argument), ("SEND", "ALL"))


class RenamedTests(Registered):
    def renamed(self, old: str, new: str) -> list[str]:
        return self.hear(encode("RENAMED", old, [("To", new)]))

    def test_another_users_new_name_is_said_and_used(self) -> None:
        self.type("@Bob")
        self.forward("alice", "hi", "carol")
        self.assertEqual(self.renamed("Bob", "bobby"), ["· Bob is bobby now"])
        self.assertEqual(self.renamed("carol", "cara"), ["· carol is cara now"])
        self.assertEqual(self.view.names(), ["bobby", "cara"])
        self.assertEqual(self.prompt(), "[4:@cara!] @bobby> ")
        self.assertEqual(self.asked("hello").argument, "bobby")

    def test_the_change_of_presence_that_follows_is_not_said_again(self) -> None:
        self.renamed("Bob", "bobby")
        body = "Bob gone\nbobby here\n"
        self.assertEqual(self.hear(encode("PRESENCE", "", (), body)), [])
        self.assertEqual(self.hear(encode("PRESENCE", "", (), "bobby gone\n")), ["· bobby left"])

    def test_an_ignored_user_stays_ignored_under_a_new_name(self) -> None:
        self.type("/ignore Bob")
        self.renamed("Bob", "bobby")
        self.assertEqual(self.forward("ALL", "x", "bobby"), [])
        self.assertEqual(self.forward("ALL", "x", "Bob"), ["10:00 [ALL] Bob: x"])

    def test_the_users_own_new_name_is_used_as_their_own(self) -> None:
        self.asked("/nick alicia")
        shown = self.hear(encode("RENAMED", "alice", [("Id", self.last_id), ("To", "alicia")]))
        self.assertEqual(shown, ["· You are alicia now"])
        self.assertEqual(self.renames, ["alicia"])
        self.assertEqual(self.forward("alicia", "x"), ["10:00 [@Bob] Bob: x"])
        self.assertEqual(self.forward("ALL", "hello alicia"), ["10:00*[ALL] Bob: hello alicia"])
        self.assertEqual(self.forward("ALL", "hello alice"), ["10:00 [ALL] Bob: hello alice"])
        self.lose()
        self.clock.advance(31)
        self.assertEqual(self.requests()[0].argument, "alicia")
        self.assertEqual(self.hear(registered(1000, name="alicia")), ["· Connected again"])

    def test_a_name_that_can_not_be_had_is_refused_and_nothing_changes(self) -> None:
        self.asked("/nick Bob")
        self.assertEqual(
            self.refused(self.last_id, "105 Name in use"), ["! Bob is taken; Bob_ may be free"]
        )
        self.assertEqual(self.view.user, "alice")


class DeletedTests(Registered):
    def deleted(self, conversation: str, number: int, by: str = "Bob") -> list[str]:
        return self.hear(encode("DELETED", conversation, [("Message", number), ("By", by)]))

    def test_a_deletion_is_shown_in_one_line(self) -> None:
        self.forward("#dev", "secret", number=42)
        self.assertEqual(self.deleted("#dev", 42), ["· Bob deleted message 42 in #dev"])

    def test_a_deleted_message_is_not_shown_again(self) -> None:
        self.view.toggle_view()
        self.forward("#dev", "secret", number=42)
        self.forward("#dev", "public", number=43)
        self.deleted("#dev", 42)
        self.assertEqual(self.prompt(), "[2:#dev] ALL> ")
        shown = self.without_day(self.refused(self.asked("#dev").id, "112 Unavailable"))
        self.assertEqual(shown, ["── new ──", "10:00 [#dev] Bob: public"])

    def test_a_message_that_was_deleted_meanwhile_has_no_text(self) -> None:
        headers = [("To", "#dev"), ("Message", 42), ("Time", TIME), ("Deleted", "yes")]
        shown = self.hear(encode("FORWARD", "Bob", headers, ""))
        self.assertEqual(self.without_day(shown), ["10:00 [#dev] Bob: (deleted)"])

    def test_delete_without_a_number_deletes_the_users_last_message_there(self) -> None:
        no_message = ["! There is no message of yours here; /delete NUMBER (/numbers shows them)"]
        self.assertEqual(self.type("/delete"), no_message)
        self.sent(self.said("one"), "ALL")
        self.sent(self.said("two"), "ALL")
        self.forward("#dev", "from afar", "alice", number=7)
        self.assertEqual(self.asked("/delete").headers["message"], "2")
        self.hear(encode("DELETED", "ALL", [("Id", self.last_id), ("Message", 2), ("By", "alice")]))
        self.assertEqual(self.type("/delete"), no_message)
        self.type("#dev")
        self.assertEqual(self.asked("/delete").headers["message"], "7")
        self.assertEqual(self.refused(self.last_id, "111 Not permitted")[0][:9], "! You can")


class KeptTests(TalkTestCase):
    def test_for_how_long_messages_are_kept_is_among_the_first_lines(self) -> None:
        greeting = registered().replace(b"\n\n", b"\nKept: 2592000\n\n")
        self.hear(greeting)
        [who] = [frame for frame in self.requests() if frame.verb == "WHO"]
        shown = self.hear(encode("WHO", "", [("Id", who.id), ("Count", 1)], "alice\n"))
        self.assertEqual(shown[1:], ["· Messages are kept for 30 days."])


class ExportTests(Registered):
    def test_everything_is_deleted_only_after_a_question(self) -> None:
        for answer, verbs in (("n", []), ("", []), ("y", ["ACCOUNT"])):
            self.type("/account unregister erase")
            self.answer(answer)
            asked = self.requests()
            self.assertEqual([frame.verb for frame in asked], verbs)
        self.assertEqual(asked[0].headers["erase"], "yes")

    def test_an_export_saves_the_users_messages_page_by_page(self) -> None:
        path = Path(tempfile.mkdtemp()) / "said"
        self.addCleanup(shutil.rmtree, path.parent)
        self.asked(f"/account export {path}")
        for number, more in ((3, 3), (0, 6), (7, 7)):  # a page may be empty
            headers = [("Id", self.last_id), ("To", "Bob"), ("Message", number), ("Time", TIME)]
            found = encode("MESSAGE", "alice", headers, f"n{number}") if number else b""
            end = [("Id", self.last_id), ("Count", int(number > 0)), ("More", more)]
            self.assertEqual(self.hear(found, encode("ACCOUNT", "messages", end)), [])
            [frame] = self.requests()
            self.assertEqual(frame.headers["after"], str(more))
            self.last_id = frame.id
        done = encode("ACCOUNT", "messages", [("Id", self.last_id), ("Count", 0)])
        self.assertEqual(self.hear(done), [f"· 2 messages saved in {path}"])
        said = [json.loads(line) for line in path.read_text().splitlines()]
        self.assertEqual([each["text"] for each in said], ["n3", "n7"])
        self.assertEqual(self.type(f"/account export {path}"), [f"! {path}: File exists"])

    def test_an_export_that_is_not_complete_leaves_no_file(self) -> None:
        path = Path(tempfile.mkdtemp()) / "said"
        self.addCleanup(shutil.rmtree, path.parent)
        self.asked(f"/account export {path}")
        self.assertEqual(
            self.refused(self.last_id, "111 Not permitted"),
            ["! You have no account (/register), or are not logged in to it"],
        )
        self.assertFalse(path.exists())
        self.asked(f"/account export {path}")
        self.type("/quit")
        self.view.session.connectionLost(Failure(ConnectionDone()))
        self.assertFalse(path.exists())


class ReadTests(Registered):
    def markers(self) -> list[tuple[str, str]]:
        """Let time pass; return the read markers that were set."""
        self.clock.advance(MARKED_AFTER)
        asked = self.requests()
        return [(f.argument, f.headers["message"]) for f in asked if f.verb == "READ"]

    def test_a_conversation_that_is_turned_to_is_read(self) -> None:
        self.forward("#dev", "one", number=7)
        self.forward("#dev", "two", number=9)
        self.assertEqual(self.markers(), [])
        self.refused(self.asked("#dev").id, "112 Unavailable")
        self.assertEqual(self.markers(), [("#dev", "9")])
        self.assertEqual(self.markers(), [])

    def test_shown_messages_of_the_current_conversation_are_read(self) -> None:
        self.refused(self.asked("@Bob").id, "112 Unavailable")
        self.forward("alice", "one", number=7)
        self.assertEqual(self.requests("RECEIVED"), [])
        self.assertEqual(self.markers(), [("Bob", "7")])
        self.forward("alice", "two", number=8)
        self.forward("alice", "three", number=9)
        self.forward("Bob", "from afar", sender="alice", number=10)
        self.assertEqual(self.markers(), [("Bob", "10")])

    def test_the_server_is_told_what_was_read_before_the_user_leaves(self) -> None:
        self.refused(self.asked("@Bob").id, "112 Unavailable")
        self.forward("alice", "one", number=7)
        self.type("/quit")
        asked = self.requests("RECEIVED")
        self.assertEqual([frame.verb for frame in asked], ["READ", "QUIT"])
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_messages_read_on_another_connection_are_unread_no_more(self) -> None:
        for number in (7, 8, 9):
            self.forward("#dev", f"n{number}", number=number)
        read = encode("READ", "#dev", [("Message", 8)])
        self.assertEqual((self.hear(read), self.prompt()), ([], "[2:#dev] ALL> "))
        self.assertEqual((self.hear(read.replace(b"8", b"9")), self.prompt()), ([], "ALL> "))

    def test_a_server_that_knows_no_markers_is_not_complained_about(self) -> None:
        self.forward("#dev", "one", number=7)
        self.refused(self.asked("#dev").id, "104 Unknown command")
        self.clock.advance(MARKED_AFTER)
        [frame] = self.requests()
        self.assertEqual(frame.verb, "READ")
        self.assertEqual(self.refused(frame.id, "104 Unknown command"), [])
