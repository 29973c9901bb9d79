"""Names and targets."""

from twisted.trial.unittest import TestCase

from chat_twisted.core.errors import MalformedName, UnableToSend
from chat_twisted.core.message import (
    EVERYBODY,
    Audience,
    Message,
    check_user_name,
    parse_target,
    seen_by,
)


class NameTests(TestCase):
    def test_up_to_32_letters_digits_and_two_marks_are_a_name(self) -> None:
        for name in ("a", "Z9", "007", "x" * 32, "bob_", "a-b", "x" + "_-" * 15 + "z"):
            self.assertEqual(check_user_name(name), name)

    def test_anything_else_is_malformed(self) -> None:
        for name in ("", "x" * 33, "b@d", "a b", "é", "٣", "a\n", "_a", "-a", "a.b", "#dev", " a"):
            with self.assertRaises(MalformedName, msg=repr(name)):
                check_user_name(name)

    def test_all_is_reserved_in_any_case(self) -> None:
        for name in ("ALL", "all", "aLl"):
            with self.assertRaises(MalformedName):
                check_user_name(name)


class TargetTests(TestCase):
    def test_a_user_is_looked_up_without_regard_to_case(self) -> None:
        target = parse_target("Bob")
        self.assertEqual((target.audience, target.name, target.key), (Audience.USER, "Bob", "bob"))

    def test_all_in_any_case_is_everybody(self) -> None:
        self.assertEqual([parse_target(name) for name in ("ALL", "all")], [EVERYBODY] * 2)

    def test_a_room_begins_with_a_hash(self) -> None:
        target = parse_target("#Dev_2-x")
        self.assertEqual((target.audience, target.key), (Audience.ROOM, "#dev_2-x"))

    def test_what_nobody_can_be_called_has_no_recipient(self) -> None:
        for argument in ("", "b@d", "#", "#a b", "bob ", "# x", "x" * 33):
            with self.assertRaises(UnableToSend, msg=repr(argument)):
                parse_target(argument)


class CurrentNameTests(TestCase):
    def test_a_user_sees_the_current_name_as_the_sender_and_as_the_recipient(self) -> None:
        for (author, recipient), names in (
            ((1, 2), ("new", "to")),
            ((2, 1), ("sender", "new")),
            ((1, 1), ("new", "new")),
            ((2, 3), ("sender", "to")),
        ):
            message = Message(1, 0, author, "sender", recipient, 0, "to", "hello")
            [seen] = seen_by(1, "new", [message])
            self.assertEqual((seen.sender, seen.to), names)
