"""Reading on the terminal: what is unread, earlier messages, and which conversations are shown."""

from __future__ import annotations

import time
from datetime import timedelta

from chat_twisted.frames import Frame, encode, format_time
from chat_twisted.ui.turning import MARKED_AFTER
from tests.terminal import NOW, TIME, Registered, plain


class Reading(Registered):
    def page(
        self, asked: Frame, *numbers: int, to: str = "#dev", total: int = 0, more: bool = False
    ) -> list[str]:
        """Answer HISTORY or SEARCH; return the output without the date."""
        parts = []
        for number in numbers:
            headers = [("Id", asked.id), ("To", to), ("Message", number), ("Time", TIME)]
            parts.append(encode("MESSAGE", "Bob", headers, f"n{number}"))
        end: list[tuple[str, object]] = [("Id", asked.id), ("Count", len(numbers))]
        end += [("Total", total)] if total else []
        end += [("More", "yes")] if more else []
        return self.without_day(self.hear(*parts, encode(asked.verb, asked.argument, end)))


class PlaceTests(Reading):
    place = "#dev"
    marker_lines = ("#dev 6 2", "bob 3 5")

    def test_the_last_conversation_is_the_current_one_again(self) -> None:
        self.assertEqual(self.prompt(), "[3:@Bob!] #dev> ")
        self.assertEqual(
            self.greeting[1:3], ["· Your rooms: #dev (2 unread)", "· Unread: @Bob (5)"]
        )
        self.assertEqual(self.first[-1].headers["count"], "20")


class ManyTests(Reading):
    known_rooms = tuple(f"#r{i} 1 member" for i in range(3000))
    marker_lines = tuple(f"u{i} 1 1" for i in range(2000))

    def test_of_many_rooms_and_unread_conversations_some_are_named(self) -> None:
        rooms, unread = self.greeting[1:3]
        self.assertTrue(rooms.startswith("· Your rooms: #r0, #r1, #r10,"))
        self.assertTrue(rooms.endswith(" and 2980 more (/rooms)"))
        self.assertTrue(unread.startswith("· Unread: @u"))
        self.assertRegex(unread, r" and [0-9]+ more \(/unread\)\Z")


class TurnTests(Reading):
    marker_lines = ("#dev 6 2",)

    def test_earlier_messages_are_dimmed_above_the_new_ones(self) -> None:
        asked = self.asked("#dev")
        for number in (5, 6, 7, 8):
            headers = [("Id", asked.id), ("To", "#dev"), ("Message", number), ("Time", TIME)]
            self.view.session.dataReceived(encode("MESSAGE", "Bob", headers, f"n{number}"))
        self.view.session.dataReceived(encode("HISTORY", "#dev", [("Id", asked.id)]))
        lines = [line for line in self.styles() if plain(line) not in self.day]
        self.assertEqual(
            [plain(line).removeprefix("10:00 ") for line in lines],
            ["[#dev] Bob: n5", "[#dev] Bob: n6", "── new ──", "[#dev] Bob: n7", "[#dev] Bob: n8"],
        )
        dimmed = [{style for style, _ in line} == {"class:dim"} for line in lines]
        self.assertEqual(dimmed, [True, True, False, False, False])

    def test_the_number_of_earlier_messages_is_a_setting(self) -> None:
        self.config.history = 7
        self.assertEqual(self.asked("#dev").headers["count"], "7")
        self.config.history = 0
        self.assertEqual(self.type("@Bob"), [])
        self.assertEqual(self.requests(), [])

    def test_without_any_something_unread_is_shown_all_the_same(self) -> None:
        self.config.history = 0
        self.assertEqual(self.asked("#dev").headers["count"], "2")


class MarkerTests(Reading):
    def markers(self) -> list[tuple[str, str]]:
        self.clock.advance(MARKED_AFTER)
        asked = self.requests()
        return [(f.argument, f.headers["message"]) for f in asked if f.verb == "READ"]

    def test_nothing_is_told_while_nothing_was_read(self) -> None:
        self.type("/who", "/view current", "/numbers")
        self.forward("#dev", "one", number=7)
        self.view.toggle_view()
        self.forward("#dev", "two", number=8)
        self.assertEqual(self.markers(), [])

    def test_an_answer_reads_the_conversation(self) -> None:
        self.forward("#dev", "one", number=7)
        self.assertEqual(self.prompt(), "[2:#dev] ALL> ")
        id = self.said("#dev: two")
        self.number_of[id] = 8
        self.sent(id, "#dev")
        self.assertEqual((self.prompt(), self.markers()), ("ALL> ", [("#dev", "8")]))

    def test_reading_on_another_device_clears_this_one(self) -> None:
        self.forward("alice", "one", number=7)
        self.assertEqual(self.prompt(), "[3:@Bob!] ALL> ")
        self.assertEqual(self.hear(encode("READ", "Bob", [("Message", 7)])), [])
        self.assertEqual((self.prompt(), self.markers()), ("ALL> ", []))
        self.assertEqual(self.type("/unread"), ["· Nothing unread"])

    def test_messages_are_unread_again_after_the_server_has_lost_the_newest(self) -> None:
        self.page(self.asked("#dev"), 7)
        self.forward("#dev", "lost", number=8)
        self.type("@ALL", "/view current")
        self.lose()
        self.come_back(last=5)
        self.look_around()
        self.assertEqual(self.forward("#dev", "other", number=6), [])
        self.assertEqual(self.prompt(), "[2:#dev] ALL> ")
        shown = self.page(self.asked("#dev"), 5, 6)
        self.assertEqual(shown[-2:], ["── new ──", "10:00 [#dev] Bob: n6"])

    def test_the_last_message_that_can_be_deleted_is_none_of_those_that_were_lost(self) -> None:
        id = self.said("one")
        self.number_of[id] = 8
        self.sent(id, "ALL")
        self.forward("ALL", "two", number=9)
        self.lose()
        self.come_back(last=5)
        self.look_around()
        self.assertEqual(len(self.type("/delete")), 1)
        self.assertEqual([f for f in self.requests() if f.verb == "DELETE"], [])


class HistoryTests(Reading):
    def test_more_goes_on_and_says_how_many_there_are(self) -> None:
        asked = self.asked("/history #dev")
        self.assertEqual((asked.headers["count"], asked.headers["total"]), ("20", "yes"))
        shown = self.page(asked, *range(81, 101), total=1503, more=True)
        self.assertEqual(shown[0], "── 20 of 1,503 found: history #dev ──")
        self.assertEqual(shown[1], "10:00 [#dev] Bob: n81 (message 81)")
        self.assertEqual(shown[-1], "── now; /more goes on ──")
        asked = self.asked("/more")
        self.assertEqual((asked.argument, asked.headers["before"]), ("#dev", "81"))
        shown = self.page(asked, *range(61, 81), total=1503, more=True)
        self.assertEqual(shown[0], "── 40 of 1,503 found: history #dev ──")
        shown = self.page(self.asked("/more"), 59, 60, total=1503)
        self.assertEqual(shown[-1], "── now ──")
        self.assertEqual(self.type("/more"), ["· There is nothing more"])

    def test_a_second_more_waits_for_the_first(self) -> None:
        self.page(self.asked("/history #dev"), 7, 8, total=9, more=True)
        first = self.asked("/more")
        self.assertEqual((self.type("/more"), self.requests()), ([], []))
        self.page(first, 5, 6, total=9, more=True)
        [second] = self.requests()
        self.assertEqual(second.headers["before"], "5")
        self.page(second, 4, total=9)
        self.assertEqual(self.type("/more"), ["· There is nothing more"])

    def test_without_anything_before_there_is_a_hint(self) -> None:
        self.assertEqual(self.type("/more"), ["· Nothing was read before: /history"])

    def test_a_history_since_a_time_goes_on_with_newer_ones(self) -> None:
        asked = self.asked("/history #dev since yesterday")
        since = NOW.replace(hour=0) - timedelta(1)
        self.assertEqual(asked.headers["since"], format_time(int(since.timestamp() * 1000)))
        self.page(asked, 7, 8, total=5, more=True)
        asked = self.asked("/more")
        self.assertEqual((asked.headers["after"], asked.headers.get("since")), ("8", None))

    def test_a_search_has_a_place_an_author_and_a_time(self) -> None:
        asked = self.asked("/search deploy failed #dev @Bob since monday")
        self.assertEqual(
            (asked.verb, asked.argument, asked.body), ("SEARCH", "#dev", "deploy failed")
        )
        self.assertEqual(asked.headers["from"], "Bob")
        self.assertEqual(asked.headers["since"], "2026-11-23T00:00:00.000Z")
        self.page(asked, 9, 4, total=1503, more=True)
        asked = self.asked("/more")
        self.assertEqual((asked.headers["skip"], asked.body), ("2", "deploy failed"))

    def test_a_time_that_is_none_stays_in_the_input(self) -> None:
        line = "/history since never"
        self.assertEqual((self.view.take(line), self.requests()), (line, []))


class ViewTests(Reading):
    def test_the_current_conversation_alone_is_shown_and_the_others_are_counted(self) -> None:
        only = "· Only the current conversation is shown; the others are counted"
        self.assertEqual(self.type("/view current"), [only])
        self.assertEqual(self.forward("#dev", "one", number=7), [])
        self.assertEqual(self.forward("ALL", "two", number=8), ["10:00 [ALL] Bob: two"])
        self.assertEqual(self.prompt(), "[2:#dev] ALL> ")
        self.assertEqual(self.type("/view"), ["· All conversations are shown"])
        self.assertEqual(self.forward("#dev", "three", number=9), ["10:00 [#dev] Bob: three"])
        shown = self.page(self.asked("#dev"), 7, 9)
        self.assertEqual(shown, ["── new ──", "10:00 [#dev] Bob: n7"])

    def test_a_muted_conversation_is_counted_and_not_shown(self) -> None:
        self.assertEqual(self.type("/mute #dev"), ["· #dev is not shown, but counted"])
        self.assertEqual(self.type("/MUTE all"), ["· ALL is not shown, but counted"])
        self.assertEqual(self.forward("#dev", "one", number=7), [])
        self.assertEqual(self.prompt(), "[2:#dev] ALL> ")
        self.assertEqual(self.forward("ALL", "here", number=8), ["10:00 [ALL] Bob: here"])
        self.type("@Bob")
        self.look_around()
        self.assertEqual(self.forward("ALL", "there", number=9), [])
        self.assertEqual(self.prompt(), "[1:ALL 2:#dev] @Bob> ")
        self.assertEqual(self.type("/unmute #dev"), ["· #dev is shown again"])
        self.assertEqual(self.forward("#dev", "two", number=10), ["10:00 [#dev] Bob: two"])
        self.assertEqual(self.requests("RECEIVED"), [])

    def test_keys_turn_to_the_next_unread_and_the_nth(self) -> None:
        self.forward("#dev", "one", number=7)
        self.forward("alice", "two", number=8)
        self.view.next_unread()
        self.assertEqual(self.prompt(), "[2:#dev] @Bob> ")
        self.look_around()
        self.view.next_unread()
        self.assertEqual(self.prompt(), "#dev> ")
        self.look_around()
        self.shown()
        self.view.next_unread()
        self.assertEqual(self.shown(), ["· Nothing is unread"])
        self.view.turn_to(1)
        self.assertEqual(self.prompt(), "ALL> ")
        self.view.turn_to(9)
        self.assertEqual(self.prompt(), "ALL> ")

    def test_events_in_conversations_that_are_not_shown_are_not_told(self) -> None:
        topic = encode("TOPIC", "#dev", [("User", "Bob")], "plans")
        for line, again in (("/view current", "/view all"), ("/mute #dev", "/unmute #dev")):
            self.type(line)
            joined = encode("JOINED", "#dev", [("User", "carol")])
            deleted = encode("DELETED", "#dev", [("Message", 7), ("By", "Bob")])
            self.assertEqual(self.hear(topic, joined, deleted), [])
            self.type(again)
            self.assertEqual(len(self.hear(topic, joined, deleted)), 3)
        self.type("/view current")
        self.asked("/topic #dev other plans")
        shown = self.hear(
            encode("TOPIC", "#dev", [("Id", self.last_id), ("User", "alice")], "other plans")
        )
        self.assertEqual(shown, ["· alice set the topic of #dev: other plans"])
        removed = encode("LEFT", "#dev", [("User", "alice"), ("By", "Bob")])
        self.assertEqual(self.hear(removed), ["· alice was removed from #dev by Bob"])

    def test_joins_can_be_hidden(self) -> None:
        coming = encode("JOINED", "#dev", [("User", "Bob")])
        leaving = encode("LEFT", "#dev", [("User", "Bob")])
        here = encode("PRESENCE", "", (), "dave here\n")
        self.assertEqual(len(self.hear(coming, leaving, here)), 3)
        self.assertEqual(self.type("/hide joins"), ["· hide: joins"])
        gone = encode("PRESENCE", "", (), "dave gone\n")
        self.assertEqual(self.hear(coming, leaving, gone), [])
        kick = encode("LEFT", "#dev", [("User", "Bob"), ("By", "carol")])
        self.assertEqual(len(self.hear(kick)), 1)
        self.assertEqual(self.type("/unhide joins"), ["· hide: nothing"])
        self.assertEqual(len(self.hear(coming, leaving)), 2)


class SetTests(Reading):
    def setUp(self) -> None:
        super().setUp()
        self.config.hide = ("joins",)
        self.config.highlight = ("deploy", "C++", "(a+)+$", "发布")
        self.config.view = "current"
        self.view = self.make_view()
        self.connect()
        self.hear(*[])
        self.requests()
        self.view.session.dataReceived(
            encode("REGISTERED", "alice", [("Version", 2), ("Max-message", 99999), ("Last", 0)])
        )
        self.look_around()
        self.shown()

    def test_what_is_set_in_the_file_holds(self) -> None:
        self.assertEqual(self.hear(encode("PRESENCE", "", (), "dave here\n")), [])
        self.assertEqual(self.forward("#dev", "one"), [])

    def test_highlighted_words_are_whole_words_in_any_case(self) -> None:
        for text, marked in (
            ("Deploy now", True),
            ("the DEPLOY!", True),
            ("redeploy deploying deploy-key", False),
            ("in c++.", True),
            ("发布", True),
            ("hi Alice", True),
        ):
            self.terminal.rings = 0
            self.assertEqual(
                self.forward("ALL", text), [f"10:00{'*' if marked else ' '}[ALL] Bob: {text}"]
            )
            self.assertEqual(self.terminal.rings, int(marked))

    def test_a_text_can_not_keep_the_terminal_busy(self) -> None:
        started = time.process_time()
        self.forward("ALL", "a" * 90_000)
        self.assertLess(time.process_time() - started, 5)

    def test_words_are_added_and_removed(self) -> None:
        self.assertEqual(
            self.type("/highlight Urgent thing"),
            ["· highlight: alice, deploy, C++, (a+)+$, 发布, Urgent thing"],
        )
        self.assertEqual(self.forward("ALL", "URGENT THING")[0][:6], "10:00*")
        self.assertEqual(
            self.type("/unhighlight DEPLOY"),
            ["· highlight: alice, C++, (a+)+$, 发布, Urgent thing"],
        )
        self.assertEqual(self.forward("ALL", "deploy")[0][:6], "10:00 ")


class ShowTests(Reading):
    def test_a_long_text_is_folded_and_shown_on_demand(self) -> None:
        text = "\n".join(f"line {i}" for i in range(30))
        shown = self.forward("ALL", text, number=7)
        self.assertEqual(shown[-1], "        … 10 more lines: /show 1")
        shown = self.type("/show 1")
        self.assertEqual((len(shown), shown[-1]), (31, "        line 29"))
        self.assertEqual(self.type("/show 2"), ["! There is no long message 2"])
        self.hear(encode("DELETED", "ALL", [("Message", 7), ("By", "Bob")]))
        self.assertEqual(self.type("/show 1"), ["! There is no long message 1"])

    def test_numbers_are_shown_on_demand(self) -> None:
        self.assertEqual(self.type("/numbers"), ["· numbers: on"])
        self.assertEqual(self.forward("ALL", "one", number=7), ["7 10:00 [ALL] Bob: one"])
        self.assertEqual(self.type("/numbers off"), ["· numbers: off"])
        self.assertEqual(self.forward("ALL", "two", number=8), ["10:00 [ALL] Bob: two"])
