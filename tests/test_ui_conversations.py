"""The conversations of a terminal: the current one, what is unread, and what was shown."""

from __future__ import annotations

import random

from twisted.trial.unittest import TestCase

from chat_twisted.ui import conversations as module
from chat_twisted.ui.conversations import MAX_UNREAD, Active, Conversations, Shown
from chat_twisted.ui.values import Received


def message(number: int, to: str = "#dev", text: str = "") -> Received:
    return Received(number, "2026-11-23T10:00:59.123Z", "bob", to, text or f"text {number}")


def numbers(shown: Shown) -> tuple[list[int], list[int]]:
    return [m.number for m in shown.old], [m.number for m in shown.new]


class ConversationsTestCase(TestCase):
    def setUp(self) -> None:
        self.talks = Conversations()

    def come(self, place: str, *numbers: int, highlighted: bool = False) -> list[bool]:
        return [self.talks.came(place, message(n, place), highlighted) for n in numbers]

    def unread(self, place: str) -> int:
        found = self.talks.get(place)
        return found.unread if found else 0

    def active(self) -> list[str]:
        return [f"{n}:{name} {count}{'!' * hot}" for n, name, count, hot in self.talks.activity()]

    def turn(self, place: str, *history: int) -> tuple[list[int], list[int]]:
        """Turn to a conversation of which the server has these messages."""
        turn = self.talks.turned(place)
        self.assertTrue(turn)
        return numbers(self.talks.filled(turn, [message(n, place) for n in history]))


class StreamTests(ConversationsTestCase):
    def test_messages_of_all_conversations_are_shown_and_those_of_others_are_unread(self) -> None:
        self.assertEqual(
            self.come("ALL", 1) + self.come("#dev", 2, 3) + self.come("bob", 4), [True] * 4
        )
        self.assertEqual(self.active(), ["2:#dev 2", "3:bob 1!"])

    def test_view_shows_the_current_conversation_alone(self) -> None:
        self.talks.view = "current"
        self.assertEqual(
            self.come("#dev", 1) + self.come("ALL", 2) + self.come("bob", 3), [False, True, False]
        )
        self.assertEqual(self.active(), ["2:#dev 1", "3:bob 1!"])

    def test_a_muted_conversation_is_not_shown_but_counted(self) -> None:
        self.talks.mute("#dev")
        self.talks.mute("all")
        self.assertEqual(self.talks.muted(), ["ALL", "#dev"])
        self.assertEqual(self.come("#dev", 1) + self.come("#ops", 2), [False, True])
        self.assertEqual(self.come("ALL", 3), [True])  # it is looked at
        self.assertEqual(self.active(), ["2:#dev 1", "3:#ops 1"])
        self.talks.mute("#dev", False)
        self.assertEqual(self.come("#dev", 4), [True])

    def test_own_messages_are_shown_like_others_and_are_not_unread(self) -> None:
        self.assertTrue(self.talks.answered("#dev", 1))
        self.talks.view = "current"
        self.assertFalse(self.talks.answered("#dev", 2))
        self.assertEqual(self.active(), [])
        self.assertTrue(self.talks.answered("#dev", 3, here=True))
        self.assertEqual(self.turn("#dev", 1, 2, 3), ([2], []))


class TurningTests(ConversationsTestCase):
    def test_history_is_shown_once_with_what_is_new_apart(self) -> None:
        self.talks.counted([("#dev", 12, 3)], 15)
        self.assertEqual(self.turn("#dev", 10, 11, 12, 13, 14, 15), ([10, 11, 12], [13, 14, 15]))
        self.assertEqual(self.turn("ALL", 1, 2), ([1, 2], []))
        self.assertEqual(self.talks.turned("#dev"), 0)
        self.assertEqual(numbers(self.talks.filled(0, [message(15)])), ([], []))

    def test_messages_that_were_shown_are_not_shown_again(self) -> None:
        self.come("#dev", 11, 12)
        self.assertEqual(self.turn("#dev", 9, 10, 11, 12), ([9, 10], []))
        self.turn("ALL")
        self.come("#dev", 13)
        self.assertFalse(self.talks.turned("#dev"))
        self.assertEqual(self.active(), [])

    def test_messages_that_were_hidden_are_shown_on_turning(self) -> None:
        self.turn("#dev", 1)
        self.turn("ALL")
        self.talks.view = "current"
        self.come("#dev", 2, 3)
        self.assertEqual(self.turn("#dev", 1, 2, 3), ([], [2, 3]))

    def test_kept_messages_are_shown_if_the_server_has_no_history(self) -> None:
        self.talks.mute("#dev")
        self.come("#dev", 2, 3)
        self.assertEqual(self.turn("#dev"), ([], [2, 3]))

    def test_messages_wait_for_the_history_and_then_follow_it(self) -> None:
        self.talks.counted([("#dev", 1, 1)], 2)
        turn = self.talks.turned("#dev")
        self.assertEqual(self.come("#dev", 3), [False])
        self.assertEqual(self.come("ALL", 4), [True])
        shown = self.talks.filled(turn, [message(n) for n in (1, 2)])
        self.assertEqual(numbers(shown), ([1], [2, 3]))
        self.assertEqual(self.come("#dev", 5), [True])
        self.assertEqual(self.talks.marker_to_send("#dev"), 5)

    def test_waiting_messages_are_not_lost_if_another_device_reads_them(self) -> None:
        turn = self.talks.turned("#dev")
        self.come("#dev", 3)
        self.talks.read("#dev", 3)
        self.assertEqual(self.come("#dev", 2), [True])
        self.assertEqual(numbers(self.talks.filled(turn, [message(1)])), ([1, 3], []))
        self.assertEqual(self.unread("#dev"), 0)

    def test_waiting_messages_are_not_lost_if_the_user_turns_away(self) -> None:
        turn = self.talks.turned("#dev")
        self.come("#dev", 3)
        self.talks.turned("ALL")
        self.assertEqual(numbers(self.talks.filled(turn, [message(3)])), ([], []))
        self.assertEqual(self.active(), ["2:#dev 1"])
        self.assertEqual(self.turn("#dev"), ([], [3]))

    def test_messages_beyond_a_limit_do_not_wait(self) -> None:
        self.patch(module, "MAX_HELD", MAX_UNREAD)
        turn = self.talks.turned("#dev")
        shown = self.come("#dev", *range(1, MAX_UNREAD + 3))
        self.assertEqual(shown, [False] * MAX_UNREAD + [True] * 2)
        old, new = numbers(self.talks.filled(turn, [message(n) for n in range(40, 53)]))
        self.assertEqual((old, new), ([], list(range(1, MAX_UNREAD + 1))))
        self.assertEqual(self.talks.marker_to_send("#dev"), MAX_UNREAD + 2)

    def test_all_that_wait_are_kept(self) -> None:
        turn = self.talks.turned("#dev")
        self.come("#dev", *range(1, 301))
        self.assertEqual(len(self.talks.filled(turn, []).new), 300)

    def test_too_much_text_does_not_wait(self) -> None:
        self.patch(module, "MAX_UNREAD_TEXT", 1000)
        self.talks.turned("#dev")
        self.assertEqual(self.come("#dev", *range(1, 7)), [False] * 4 + [True] * 2)

    def test_own_messages_do_not_wait_and_are_not_shown_twice(self) -> None:
        self.talks.counted([("#dev", 1, 1)], 2)
        turn = self.talks.turned("#dev")
        self.assertTrue(self.talks.answered("#dev", 3))
        shown = self.talks.filled(turn, [message(n) for n in (1, 2, 3)])
        self.assertEqual(numbers(shown), ([1], [2]))
        self.assertEqual(self.talks.marker_to_send("#dev"), 3)

    def test_without_a_marker_the_newest_are_new(self) -> None:
        self.talks.counted([("#dev", 0, 2)], 9)
        self.assertEqual(self.turn("#dev", 6, 7, 8, 9), ([6, 7], [8, 9]))

    def test_the_number_of_new_messages_before_the_history_is_told(self) -> None:
        self.talks.counted([("#dev", 5, 30)], 40)
        turn = self.talks.turned("#dev")
        shown = self.talks.filled(turn, [message(n) for n in range(21, 41)])
        self.assertEqual((len(shown.old), len(shown.new), shown.more), (0, 20, 10))

    def test_nothing_is_new_where_nothing_was_unread(self) -> None:
        self.assertEqual(self.turn("ALL", 1, 2), ([1, 2], []))

    def test_no_message_is_lost_or_shown_twice_whatever_happens(self) -> None:
        """Random messages and turns, with answers to them that are late or never come."""
        random_ = random.Random(5)
        for _ in range(300):
            talks = Conversations(random_.choice(["all", "current"]))
            server: dict[str, list[Received]] = {"ALL": [], "#dev": [], "bob": []}
            shown: dict[str, list[int]] = {place: [] for place in server}
            asked: list[tuple[int, list[Received]]] = []
            for number in range(1, 40):
                place = random_.choice(list(server))
                match random_.randrange(7):
                    case 6:
                        server[place].append(message(number, place))
                        if talks.answered(place, number):
                            shown[place].append(number)
                    case 0 | 1 | 2:
                        said = message(number, place)
                        server[place].append(said)
                        if talks.came(place, said):
                            shown[place].append(number)
                    case 3 if turn := talks.turned(place):
                        asked.append((turn, server[place][-20:]))
                    case 4 if asked:
                        got = talks.filled(*asked.pop(0))
                        place = talks.current
                        shown[place] += [m.number for m in (*got.old, *got.new)]
                    case 5:
                        talks.read(place, number - random_.randrange(5))
            for place, messages in server.items():
                if turn := talks.turned(place):
                    got = talks.filled(turn, messages)
                    shown[place] += [m.number for m in (*got.old, *got.new)]
                self.assertEqual(sorted(shown[place]), [m.number for m in messages])
                self.assertFalse(any(c.unread for c in [talks.get(place)] if c))


class ReadTests(ConversationsTestCase):
    def test_what_is_shown_in_the_current_conversation_is_read(self) -> None:
        self.come("ALL", 1, 2)
        self.come("#dev", 3)
        self.assertEqual(self.talks.markers_to_send(), [("ALL", 2)])
        self.assertEqual(self.talks.marker_to_send("#dev"), 0)
        self.talks.read("ALL", 2)
        self.assertEqual((self.talks.markers_to_send(), self.talks.marker_to_send("all")), ([], 0))

    def test_turning_reads_what_was_shown(self) -> None:
        self.come("#dev", 3)
        self.turn("#dev")
        self.assertEqual((self.active(), self.talks.marker_to_send("#dev")), ([], 3))

    def test_an_answer_reads_the_conversation(self) -> None:
        self.come("#dev", 3)
        self.talks.answered("#dev", 4)
        self.assertEqual((self.active(), self.talks.marker_to_send("#DEV")), ([], 4))

    def test_reading_on_another_connection_clears_here(self) -> None:
        self.come("#dev", 3, 4, highlighted=True)
        self.come("#dev", 5)
        self.talks.read("#DEV", 3)
        self.assertEqual(self.active(), ["2:#dev 2!"])
        self.talks.read("#dev", 4)
        self.assertEqual(self.active(), ["2:#dev 1"])
        self.talks.read("#dev", 5)
        self.assertEqual(self.active(), [])
        self.assertEqual(self.come("#dev", 2), [True])  # late
        self.assertEqual(self.active(), [])

    def test_markers_never_go_back(self) -> None:
        self.come("#dev", 1, 2, 3)
        self.talks.read("#dev", 2)
        self.talks.read("#dev", 1)
        self.assertEqual(self.active(), ["2:#dev 1"])


class ServerListTests(ConversationsTestCase):
    def test_counts_come_from_the_server_at_the_start(self) -> None:
        self.talks.counted([("#dev", 5, 12), ("bob", 7, 1), ("carol", 3, 0), ("ALL", 9, 4)], 20)
        self.assertEqual(self.active(), ["2:#dev 12", "3:bob 1!"])
        self.assertEqual(self.talks.markers_to_send(), [])

    def test_missed_messages_are_not_counted_twice(self) -> None:
        self.come("#dev", 1)  # before the list, which counts it
        self.talks.counted([("#dev", 0, 3), ("ALL", 0, 0)], 4)
        self.come("#dev", 2, 4)
        self.assertEqual(self.active(), ["2:#dev 3"])
        self.come("#dev", 5)
        self.assertEqual(self.active(), ["2:#dev 4"])
        self.turn("bob")
        self.come("ALL", 3, 4)  # the server counts nothing without a marker
        self.assertEqual(self.active(), ["1:ALL 2", "2:#dev 4"])

    def test_after_a_reconnect_the_servers_markers_hold(self) -> None:
        self.come("#dev", 1, 2)
        self.come("bob", 3)
        self.talks.counted([("#dev", 2, 0), ("bob", 0, 2)], 5)
        self.assertEqual(self.active(), ["3:bob 2!"])

    def test_a_marker_that_was_not_sent_holds(self) -> None:
        self.come("#dev", 1, 2)
        self.turn("#dev")
        self.turn("ALL")
        self.talks.counted([("#dev", 0, 2), ("ALL", 0, 3)], 3)
        self.assertEqual(self.active(), [])
        self.assertEqual(self.talks.marker_to_send("#dev"), 2)


class OrderTests(ConversationsTestCase):
    def test_next_is_highlighted_then_unread_for_longest_then_muted(self) -> None:
        self.talks.mute("#off")
        self.come("#off", 1)
        self.come("#dev", 2)
        self.come("#ops", 3)
        self.come("#dev", 4)
        self.come("#app", 5, highlighted=True)
        self.come("bob", 6)
        visited = []
        while place := self.talks.next_unread():
            visited.append(place)
            self.talks.filled(self.talks.turned(place), [])
        self.assertEqual(visited, ["#app", "bob", "#dev", "#ops", "#off"])

    def test_numbers_are_stable_and_given_again(self) -> None:
        self.talks.open("#dev")
        self.come("bob", 1)
        self.come("#ops", 2)
        self.assertEqual(
            [self.talks.nth(n) for n in range(6)], [None, "ALL", "#dev", "bob", "#ops", None]
        )
        self.talks.pop("#dev")
        self.assertEqual([self.talks.nth(n) for n in (2, 4)], [None, "#ops"])
        self.talks.open("#new")
        self.assertEqual(self.talks.nth(2), "#new")

    def test_of_much_activity_the_most_important_is_returned(self) -> None:
        self.come("#a", 1)
        self.come("#b", 2)
        self.come("bob", 3)
        self.assertEqual(
            self.talks.activity(2), [Active(2, "#a", 1, False), Active(4, "bob", 1, True)]
        )

    def test_previous_is_the_conversation_before(self) -> None:
        self.assertEqual(self.talks.previous(), "ALL")
        for place in ("#dev", "bob", "#ops"):
            self.talks.turned(place)
        self.assertEqual(self.talks.previous(), "bob")
        self.talks.pop("bob")
        self.assertEqual(self.talks.previous(), "#dev")


class ChangeTests(ConversationsTestCase):
    def test_a_renamed_user_keeps_their_messages(self) -> None:
        self.come("bob", 1)
        self.come("rob", 2)
        self.talks.rename("bob", "Rob")
        self.talks.rename("nobody", "x")
        self.assertEqual(self.active(), ["2:Rob 1!"])
        self.turn("rob")
        self.talks.rename("rob", "ROB")
        self.assertEqual(self.talks.current, "ROB")

    def test_a_marker_does_not_follow_a_renamed_user(self) -> None:
        self.turn("bob")
        self.come("bob", 1)
        self.talks.read("bob", 1)
        self.talks.rename("bob", "rob")
        self.assertEqual(self.talks.markers_to_send(), [("rob", 1)])

    def test_a_deleted_message_is_not_unread(self) -> None:
        self.come("#dev", 1, 2)
        self.talks.remove("#dev", 1)
        self.talks.remove("#dev", 1)
        self.talks.remove("#none", 1)
        self.assertEqual(self.active(), ["2:#dev 1"])
        self.talks.remove("#dev", 2)
        self.assertEqual(self.active(), [])

    def test_a_room_that_was_left_is_forgotten_and_stays_current_until_the_next(self) -> None:
        self.turn("#dev", 1)
        self.talks.pop("#dev")
        self.talks.pop("#dev")
        self.talks.pop("ALL")
        self.assertEqual((self.talks.current, self.talks.previous()), ("#dev", "ALL"))
        self.turn("ALL")
        self.assertEqual((self.talks.get("#dev"), self.talks.nth(2)), (None, None))

    def test_a_room_that_is_joined_again_is_like_another(self) -> None:
        self.turn("#dev", 1)
        self.talks.pop("#dev")
        self.talks.open("#dev")
        self.assertEqual(self.turn("#dev", 1), ([1], []))
        self.turn("ALL")
        self.assertEqual(self.talks.nth(2), "#dev")


class BoundTests(ConversationsTestCase):
    def test_of_much_that_is_unread_the_newest_texts_are_kept_and_all_is_counted(self) -> None:
        self.talks.mute("#dev")
        self.come("#dev", *range(1, 61))
        self.assertEqual(self.unread("#dev"), 60)
        turn = self.talks.turned("#dev")
        shown = self.talks.filled(turn, [])
        self.assertEqual((len(shown.new), shown.more), (MAX_UNREAD, 10))

    def test_texts_of_all_conversations_have_a_limit(self) -> None:
        self.patch(module, "MAX_UNREAD_TEXT", 1000)
        for number, place in enumerate(["#a", "#b", "#b", "#a"], 1):
            self.talks.came(place, message(number, place, "x" * 400))
        kept = {c.name: [m.number for m in c.newest] for c in self.talks}
        self.assertEqual(kept, {"#a": [], "#b": [2, 3]})
        self.assertEqual([self.unread("#a"), self.unread("#b")], [2, 2])
        self.turn("#a")
        self.turn("#b")
        self.assertEqual(self.talks._size, 0)

    def test_conversations_have_a_limit(self) -> None:
        self.patch(module, "MAX_CONVERSATIONS", 4)
        self.talks.counted([(f"old{n}", n, 0) for n in range(1, 9)], 9)
        self.talks.open("#dev")
        self.come("a", 10)
        self.come("b", 11)
        self.assertEqual(self.active(), ["3:a 1!", "4:b 1!"])
        self.assertEqual(len(self.talks._conversations), 4)
        self.come("c", 12)  # in place of the room in which nothing is unread
        self.talks.view = "current"
        self.assertEqual(self.come("d", 13), [True])  # nothing can be kept for it
        self.assertEqual(self.active(), ["2:c 1!", "3:a 1!", "4:b 1!"])
