"""Who has missed nothing, by the newest messages of users and rooms."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from chat_twisted.core import recent
from chat_twisted.core.message import Message
from chat_twisted.core.recent import Recent

ALICE, BOB, CAROL, GARDEN, KITCHEN = 1, 2, 3, 11, 12


def message(number: int, author: int, *, to: int = 0, room: int = 0) -> Message:
    return Message(number, 0, author, "x", to, room, "y", "text")


class RecentTests(TestCase):
    def setUp(self) -> None:
        self.recent = Recent(100)

    def has_missed(self, user: int, after: int, *rooms: int) -> bool:
        return not self.recent.has_missed_nothing(user, rooms, after)

    def test_a_direct_message_concerns_its_recipient_and_its_author(self) -> None:
        self.recent.note([message(110, ALICE, to=BOB), message(111, ALICE, to=BOB)])
        for user in (ALICE, BOB):
            self.assertTrue(self.has_missed(user, 110))
            self.assertFalse(self.has_missed(user, 111))
        self.assertFalse(self.has_missed(CAROL, 100))

    def test_a_message_to_a_room_concerns_its_members_and_its_authors(self) -> None:
        self.recent.note([message(110, ALICE, room=GARDEN), message(111, BOB, room=GARDEN)])
        self.assertTrue(self.has_missed(CAROL, 110, KITCHEN, GARDEN))
        self.assertFalse(self.has_missed(CAROL, 111, KITCHEN, GARDEN))
        self.assertFalse(self.has_missed(CAROL, 100, KITCHEN))
        self.assertTrue(self.has_missed(ALICE, 109))
        self.assertFalse(self.has_missed(ALICE, 110))
        self.assertTrue(self.has_missed(BOB, 110))

    def test_who_has_left_a_room_may_have_missed_what_was_said_there_before(self) -> None:
        self.recent.note([message(110, ALICE, room=GARDEN)])
        self.recent.left(CAROL, 110)
        self.assertTrue(self.has_missed(CAROL, 109))
        self.assertFalse(self.has_missed(CAROL, 110))
        self.recent.note([message(120, ALICE, to=CAROL)])
        self.recent.left(CAROL, 110)
        self.assertTrue(self.has_missed(CAROL, 119))

    def test_a_message_to_all_concerns_everybody(self) -> None:
        self.recent.note([message(110, ALICE)])
        self.assertTrue(self.has_missed(CAROL, 109))
        self.assertFalse(self.has_missed(CAROL, 110))

    def test_what_was_before_is_not_known(self) -> None:
        self.assertTrue(self.has_missed(CAROL, 99))
        self.assertFalse(self.has_missed(CAROL, 100))

    def test_with_too_many_it_starts_again(self) -> None:
        self.patch(recent, "MAX_NOTED", 3)
        self.recent.note([message(110, ALICE, to=BOB)])
        self.recent.note([message(111, CAROL, room=GARDEN)])
        self.assertTrue(self.has_missed(4, 110))
        self.assertFalse(self.has_missed(4, 111))
