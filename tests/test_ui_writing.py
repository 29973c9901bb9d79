"""What a user writes on the terminal: where it goes, what is asked before, and what went wrong."""

from __future__ import annotations

from chat_twisted.frames import Frame, encode
from chat_twisted.ui import conversation_view, outgoing
from tests.terminal import Registered

UNTIL = "2026-11-27T14:00:00.000Z"


class OfferTests(Registered):
    def test_a_line_that_may_be_meant_for_one_user_stays_with_two_offers(self) -> None:
        line = "@Bob hello there"
        self.assertEqual(self.view.take(line), line)
        offer = "! Enter once more says it here, to everybody; Tab makes it @Bob: ..., for Bob only"
        self.assertEqual((self.shown(), self.requests()), ([offer], []))
        self.assertEqual(self.view.offered, "@Bob: hello there")
        self.assertEqual(self.view.take(line), "")
        [frame] = self.requests()
        self.assertEqual((frame.verb, frame.argument, frame.body), ("SEND", "ALL", line))
        self.assertEqual(self.view.offered, "")

    def test_another_line_ends_the_offer(self) -> None:
        line = "@Bob hello there"
        self.view.take(line)
        self.shown()
        self.assertEqual(self.asked("@Bob: hello there").argument, "Bob")
        self.assertEqual(self.view.offered, "")
        self.assertEqual(self.view.take(line), line)
        self.assertEqual(self.requests(), [])

    def test_a_mistyped_room_is_offered_and_what_looks_like_text_is_text(self) -> None:
        line = "#dve: hello"
        self.assertEqual(self.view.take(line), line)
        self.assertEqual((self.view.offered, self.requests()), ("#dev: hello", []))
        self.shown()
        for text in ("#42: fixed", "/usr/lib/x: cannot open"):
            frame = self.asked(text)
            self.assertEqual((frame.verb, frame.argument, frame.body), ("SEND", "ALL", text))

    def test_a_mistake_stays_in_the_input(self) -> None:
        for line, words in (
            ("/jion #dev", "! No such command: /jion; did you mean /join? (/help)"),
            ("#dve", "! There is no room #dve; did you mean #dev?"),
        ):
            self.assertEqual(self.view.take(line), line)
            self.assertEqual((self.shown(), self.requests()), ([words], []))


class MeantTests(Registered):
    def test_a_mistyped_name_that_is_turned_to_is_asked_about(self) -> None:
        self.assertEqual(self.type("@bbo"), ["· bbo is not here; did you mean Bob?"])
        self.assertEqual(self.type("@zoltan"), ["· zoltan is not here"])

    def test_a_message_to_a_mistyped_name_is_asked_about(self) -> None:
        shown = self.refused(self.said("@bbo: hi"))
        self.assertEqual(shown, ["! Not sent to bbo: There is no bbo here; did you mean Bob?"])


class RefusedTests(Registered):
    def muted(self, line: str) -> list[str]:
        headers = [("Id", self.said(line)), ("Until", UNTIL), ("Reason", "spam"), ("By", "carol")]
        return self.hear(encode("ERROR", "111 Not permitted", headers))

    def test_refused_messages_take_one_line_and_their_reason_one_sentence(self) -> None:
        self.assertEqual(
            self.muted("one"),
            ["! Not sent to ALL: You are muted by carol until 14:00: spam"],
        )
        self.assertEqual((self.muted("two"), self.muted("three")), ([], []))
        self.assertEqual(self.beside(), ["3 not sent: /again, /drop, or edit with Up"])
        self.type("/again")
        again = self.requests()
        self.assertEqual([frame.body for frame in again], ["one", "two", "three"])
        for frame in again:
            self.refused(frame.id, "109 Too fast")
        self.type("/drop")
        self.assertEqual((self.beside(), self.requests()), ([], []))

    def test_the_reason_in_a_room_depends_on_whether_the_user_is_in_it(self) -> None:
        shown = self.refused(self.said("#dev: hi"), "111 Not permitted")
        self.assertEqual(
            shown,
            [
                "! Not sent to #dev: You may not write in #dev: it is moderated (an operator can "
                "/voice you), or your name is banned from #dev"
            ],
        )
        shown = self.refused(self.said("#ops: hi"), "111 Not permitted")
        self.assertEqual(shown, ["! Not sent to #ops: You are not in #ops (/join #ops)"])
        self.asked("/topic #ops plans")
        shown = self.refused(self.last_id, "111 Not permitted")
        self.assertEqual(shown, ["! You are not in #ops (/join #ops)"])


class LongTests(Registered):
    def test_many_characters_are_sent_after_a_question(self) -> None:
        self.type("x" * 2001)
        self.assertEqual(self.terminal.questions[0][0], "Send 2001 characters to ALL? [y/N] ")
        self.assertEqual((self.requests(), self.answer("n")), ([], ["· Not sent"]))
        self.type("y" * 1000)
        self.assertEqual((len(self.requests()), self.terminal.questions), (1, []))


class LimitTests(Registered):
    def test_not_more_messages_than_a_limit_wait_and_the_next_stays_in_the_input(self) -> None:
        self.patch(outgoing, "MAX_UNSENT", 2)
        self.away = True
        self.lose()
        self.type("one", "two")
        self.assertEqual(self.view.take("three"), "three")
        self.assertEqual(self.shown(), ["! Too many messages wait already (/drop)"])
        self.come_back()
        asked = [frame for frame in self.requests() if frame.verb == "SEND"]
        self.assertEqual([frame.body for frame in asked], ["one", "two"])
        self.sent(asked[0].id or "", "ALL")
        self.assertEqual(self.view.take("three"), "")

    def test_not_more_lines_than_a_limit_wait_for_a_room(self) -> None:
        self.patch(conversation_view, "MAX_HELD", 2)
        self.asked("/join #new")
        self.type("one", "two")
        self.assertEqual(self.view.take("three"), "three")
        self.assertEqual(self.shown(), ["! Too many lines wait already"])
        self.assertEqual(self.beside(), ["one (waits)", "two (waits)"])


class AwayTests(Registered):
    def status(self, line: str, status: str) -> list[str]:
        self.asked(line)
        return self.hear(encode("STATUS", status, [("Id", self.last_id)]))

    def test_away_is_in_the_prompt_and_ends_when_the_user_writes(self) -> None:
        self.assertEqual(self.status("/away lunch", "away"), ["· You are away"])
        self.assertEqual(self.prompt(), "(away) ALL> ")
        self.type("one", "two")
        asked = self.requests()
        self.assertEqual(
            [(frame.verb, frame.argument) for frame in asked],
            [("STATUS", "here"), ("SEND", "ALL"), ("SEND", "ALL")],
        )
        shown = self.hear(encode("STATUS", "here", [("Id", asked[0].id)]))
        self.assertEqual((shown, self.prompt()), (["· You are back"], "ALL> "))

    def test_it_does_not_end_if_the_user_has_set_so(self) -> None:
        self.config.back = False
        self.status("/away", "away")
        self.assertEqual(self.asked("one").verb, "SEND")
        self.assertEqual(self.prompt(), "(away) ALL> ")
        self.status("/back", "here")
        self.assertEqual(self.prompt(), "ALL> ")

    def test_it_is_known_from_another_device(self) -> None:
        for body, prompt in (("alice away lunch\n", "(away) ALL> "), ("alice here\n", "ALL> ")):
            self.assertEqual(self.hear(encode("PRESENCE", "", (), body)), [])
            self.assertEqual(self.prompt(), prompt)


class StillAwayTests(Registered):
    users = ("alice away lunch", "Bob")

    def test_it_is_known_from_before(self) -> None:
        self.assertEqual(self.prompt(), "(away) ALL> ")


class JoiningTests(Registered):
    def joining(self) -> Frame:
        frame = self.asked("/join #new")
        self.assertEqual(self.type("the secret", "@Bob: hi"), [])
        self.assertEqual(self.requests(), [])
        self.assertEqual(self.beside(), ["the secret (waits)", "@Bob: hi (waits)"])
        return frame

    def test_lines_wait_for_the_room_and_go_there(self) -> None:
        frame = self.joining()
        self.hear(encode("JOINED", "#new", [("Id", frame.id), ("User", "alice")]))
        sent = [(f.argument, f.body) for f in self.requests() if f.verb == "SEND"]
        self.assertEqual(sent, [("#new", "the secret"), ("Bob", "hi")])
        self.assertEqual(self.beside()[0], "[#new] alice: the secret (on its way)")

    def test_lines_for_a_room_that_can_not_be_joined_go_nowhere_else(self) -> None:
        shown = self.refused(self.joining().id, "111 Not permitted")
        self.assertEqual(shown[1:], ["! Not sent: the secret"])
        self.assertEqual([(f.argument, f.body) for f in self.requests()], [("Bob", "hi")])
        self.assertEqual(self.asked("hello").argument, "ALL")

    def test_keys_do_not_turn_elsewhere_while_lines_wait(self) -> None:
        frame = self.joining()
        self.view.turn_to(2)
        self.view.next_unread()
        words = "! Not yet: another conversation is being turned to"
        self.assertEqual((self.shown(), self.prompt()), ([words] * 2, "ALL> "))
        self.hear(encode("JOINED", "#new", [("Id", frame.id), ("User", "alice")]))
        self.look_around()
        self.view.turn_to(2)
        self.assertEqual(self.prompt(), "#dev> ")

    def test_lines_that_wait_when_the_session_ends_are_told_once(self) -> None:
        self.joining()
        self.hear(encode("BYE", "Banned", [("Final", "yes")]))
        shown = self.lose()
        self.assertEqual(sorted(shown), ["! Not sent to Bob: hi", "! Not sent: the secret"])

    def test_joining_says_who_is_there(self) -> None:
        frame = self.asked("/join #new")
        self.hear(encode("JOINED", "#new", [("Id", frame.id), ("User", "alice")]))
        [members] = [f for f in self.requests() if f.verb == "WHO"]
        self.assertEqual(members.argument, "#new")
        shown = self.hear(encode("WHO", "#new", [("Id", members.id)], "@Bob\nalice\n+carol\n"))
        self.assertEqual(shown, ["· In #new: Bob, carol"])


class RemovedTests(Registered):
    def test_after_a_kick_the_prompt_is_where_the_user_still_is_and_the_next_line_is_asked_about(
        self,
    ) -> None:
        self.type("@Bob", "#dev")
        self.look_around()
        self.hear(encode("LEFT", "#dev", [("User", "alice"), ("By", "carol")]))
        self.assertEqual(self.prompt(), "@Bob> ")
        self.requests()
        line = "Bob is wrong"
        self.assertEqual((self.view.take(line), self.requests()), (line, []))
        self.assertEqual(
            self.shown(),
            ["! You are not in #dev any more. Enter once more says it here, in Bob"],
        )
        self.assertEqual(self.view.take(line), "")
        self.assertEqual(self.requests()[0].argument, "Bob")
        self.assertEqual(self.asked("and once more").argument, "Bob")


class StrangerTests(Registered):
    users = ("alice!", "Bob!one", "carol!")

    def presence(self, line: str) -> list[str]:
        return self.hear(encode("PRESENCE", "", (), f"{line}\n"))

    def test_another_user_under_the_name_of_a_guest_one_talked_to_is_announced(self) -> None:
        self.said("@Bob: hi")
        self.assertEqual(self.presence("Bob!one gone"), ["· ~Bob left"])
        self.assertEqual(
            self.presence("Bob!two here"), ["· ~Bob is here, not the ~Bob you talked to"]
        )
        self.forward("alice", "hi", "Bob")
        self.lose()
        self.users = ("alice!", "Bob!three", "carol!")
        self.come_back()
        self.assertIn("· ~Bob is not the ~Bob you talked to", self.look_around())


class GuestTests(Registered):
    users = ("alice!own", "Bob!one", "carol!")

    def test_guests_are_marked_wherever_they_are_named(self) -> None:
        self.assertIn("Here: ~Bob, carol.", self.greeting[0])
        for user, mark in (("Bob", "~"), ("carol", ""), ("alice", "")):
            shown = self.forward("ALL", "hi", user)
            self.assertEqual(shown, [f"10:00 [ALL] {mark}{user}: hi"])
            joined = encode("JOINED", "#ops", [("User", user)])
            self.assertEqual(self.hear(joined), [f"· {mark}{user} joined #ops"])
        kick = encode("LEFT", "#ops", [("User", "carol"), ("By", "Bob")])
        self.assertEqual(self.hear(kick), ["· carol was removed from #ops by ~Bob"])
        invited = encode("INVITED", "#new", [("User", "alice"), ("By", "Bob")])
        self.assertEqual(self.hear(invited), ["· ~Bob invites you to #new (/join #new)"])
        renamed = encode("RENAMED", "Bob", [("To", "bobby")])
        self.assertEqual(self.hear(renamed), ["· Bob is ~bobby now"])


class WhoisTests(Registered):
    def whois(self, line: str, *headers: tuple[str, str]) -> list[str]:
        frame = self.asked(line)
        about = [("Id", frame.id), *headers]
        return self.hear(encode("WHOIS", frame.argument, about, ""))

    def test_it_tells_about_anybody_and_oneself(self) -> None:
        self.assertEqual(
            self.whois("/whois alice", ("Account", "no"), ("State", "here"), ("Rooms", "#dev")),
            ["· alice is a guest, here; rooms with you: #dev"],
        )
        headers = [("Account", "yes"), ("Operator", "yes"), ("Since", UNTIL), ("State", "gone")]
        self.assertEqual(
            self.whois("/WHOIS Bob", *headers),
            [
                "· Bob is an account, an operator of the server since 2026-11-27 14:00, gone; "
                "rooms with you: none"
            ],
        )

    def test_it_tells_what_they_say_about_themselves(self) -> None:
        about = [("Account", "no"), ("State", "here"), ("Real-name", "Bob\x1b B."), ("Bot", "yes")]
        self.assertEqual(
            self.whois("/whois Bob", *about),
            ["· Bob (Bob␛ B.) is a guest, a bot, here; rooms with you: none"],
        )

    def test_in_a_direct_conversation_it_is_about_the_other_user(self) -> None:
        self.type("@Bob")
        self.look_around()
        self.assertEqual(self.asked("/whois").argument, "Bob")
        self.assertEqual(self.refused(self.last_id), ["! There is no Bob here"])


class ScreenTests(Registered):
    def test_clear_clears_the_screen(self) -> None:
        self.terminal.show([[("", "old")]])
        self.assertEqual(self.type("/clear"), [])

    def test_an_action_is_sent_as_one(self) -> None:
        frame = self.asked("/me waves")
        self.assertEqual((frame.body, frame.headers["kind"]), ("waves", "action"))
        self.assertEqual(self.beside(), ["[ALL] * alice waves (on its way)"])

    def test_the_last_speaker_is_known(self) -> None:
        self.forward("ALL", "hello", "carol")
        self.assertEqual(self.view.last_speaker(), "")
        self.forward("ALL", "alice: hello", "carol")
        self.assertEqual(self.view.last_speaker(), "carol")
        self.forward("alice", "hello")
        self.assertEqual(self.view.last_speaker(), "Bob")


class HighlightSpeakerTests(Registered):
    def test_who_says_a_highlighted_word_has_not_spoken_to_the_user(self) -> None:
        self.type("/highlight deploy")
        self.assertEqual(self.forward("ALL", "deploy!"), ["10:00*[ALL] Bob: deploy!"])
        self.assertEqual(self.view.last_speaker(), "")
