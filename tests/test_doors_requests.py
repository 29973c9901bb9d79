"""What may be asked in version 2 beside talking, and what others are told of it."""

from __future__ import annotations

import re

from chat_twisted.core.commands import CONSOLE, MarkRead, SetOperator
from chat_twisted.core.snapshot import dump, load
from chat_twisted.doors import encoding, requests
from chat_twisted.frames import MAX_HEADERS
from chat_twisted.storage import lookup
from tests.door import Client, DoorTestCase


class RequestTestCase(DoorTestCase):
    """Alice and bob in alice's room #dev, and carol, who is in none."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob, self.carol = (self.user(name) for name in ("alice", "bob", "carol"))
        for client in (self.alice, self.bob):
            self.ask(client, "JOIN #dev\n\n")
        self.clear()

    def ask(self, client: Client, request: str) -> bytes:
        """Ask, and return all that comes."""
        client.transport.clear()
        return client.ask(request)

    def another(self, client: Client, name: str) -> tuple[Client, str]:
        """Have a user come anew, on a connection whose token is known."""
        self.ask(client, "QUIT\n\n")
        client.gone()
        self.commit()
        client, answer = self.register(name)
        self.ask(client, "JOIN #dev\n\n")
        self.clear()
        return client, re.search(rb"Session: (\S+)", answer)[1].decode()

    def told(self, client: Client) -> bytes:
        """Return what has come."""
        return client.transport.take()

    def clear(self) -> None:
        for client in (self.alice, self.bob, self.carol):
            client.transport.clear()

    def make_operator(self, client: Client, name: str) -> None:
        """Make a user an operator of the server."""
        self.assertIn(b"ACCOUNT", self.ask(client, "ACCOUNT register\nContent-length: 1\n\nx"))
        self.hub.ask(SetOperator(CONSOLE, 0, name, True))
        self.commit()


class WhoisTests(RequestTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock.advance(90)

    def whois(self, client: Client, name: str) -> str:
        return self.ask(client, f"WHOIS {name}\nId: 1\n\n").decode()

    def test_a_guest_is_known_since_they_came_and_by_the_rooms_in_common(self) -> None:
        dave = self.user("Dave")
        self.ask(dave, "JOIN #dev\n\n")
        self.clock.advance(60)
        self.assertEqual(
            self.whois(self.alice, "DAVE"),
            "WHOIS Dave\nId: 1\nAccount: no\nSince: 1970-01-01T00:01:30.000Z\nState: here\n"
            "Rooms: #dev\n\n",
        )

    def test_rooms_are_those_that_both_are_in(self) -> None:
        for room in ("#Zoo", "#art"):
            self.ask(self.alice, f"JOIN {room}\nPrivate: yes\n\n")
            self.ask(self.alice, f"INVITE {room}\nUser: bob\n\n")
            self.ask(self.bob, f"JOIN {room}\n\n")
        self.ask(self.bob, "JOIN #bobs\n\n")
        self.assertIn("\nRooms: #art #dev #Zoo\n", self.whois(self.alice, "bob"))
        self.assertNotIn("Rooms", self.whois(self.carol, "bob"))

    def test_an_account_is_known_since_it_was_made(self) -> None:
        self.make_operator(self.bob, "bob")
        self.assertEqual(
            self.whois(self.carol, "bob"),
            "WHOIS bob\nId: 1\nAccount: yes\nSince: 1970-01-01T00:01:30.000Z\nOperator: yes\n"
            "State: here\n\n",
        )
        self.ask(self.bob, "QUIT\n\n")
        self.assertIn("\nState: gone\n", self.whois(self.carol, "bob"))

    def test_it_says_what_a_client_has_said_of_its_user(self) -> None:
        client, _ = self.register("dave", "Real-name: Dave  D. ", "Bot: yes")
        found = self.whois(self.carol, "dave")
        self.assertIn("\nState: here\nReal-name: Dave  D.\nBot: yes\n\n", found)
        session = client.protocol.session
        assert session is not None
        self.register("dave", f"Session: {session.token}", "Bot: no")
        found = self.whois(self.carol, "dave")
        self.assertIn("\nReal-name: Dave  D.\n\n", found)

    def test_it_says_where_a_user_is_and_why(self) -> None:
        self.ask(self.bob, "STATUS away\nContent-length: 5\n\nlunch")
        found = self.whois(self.carol, "bob")
        self.assertIn("\nState: away\nContent-length: 5\n\nlunch", found)
        self.bob.gone()
        self.commit()
        self.assertTrue(self.whois(self.carol, "bob").endswith("\nState: gone\n\n"))
        self.assertIn("\nState: here\n", self.whois(self.carol, "carol"))

    def test_when_a_user_came_outlasts_a_restart_of_the_server(self) -> None:
        self.user("dave")
        self.assertEqual(load(dump(self.hub.state)).names["dave"].time, 90_000)

    def test_a_time_that_is_not_known_is_left_out(self) -> None:
        self.hub.state.names["bob"].time = 0
        self.assertNotIn("Since", self.whois(self.alice, "bob"))

    def test_the_rooms_are_so_many_that_headers_are_short_enough(self) -> None:
        self.patch(requests, "MAX_COMMON", 2)
        for client in (self.alice, self.bob):
            for number in range(3):
                self.ask(client, f"JOIN #r{number}\n\n")
        self.assertIn("\nRooms: #dev #r0\n", self.whois(self.alice, "bob"))
        self.assertLess(100 * 34, MAX_HEADERS - 200)


class AnswerTests(RequestTestCase):
    def test_consequences_of_a_request_are_told_and_are_not_its_answer(self) -> None:
        self.make_operator(self.alice, "alice")
        self.assertEqual(
            self.ask(self.alice, "BAN bob\nId: 1\n\n"),
            b"LEFT #dev\nUser: bob\n\nBAN bob\nId: 1\n\n",
        )


class RenameTests(RequestTestCase):
    def test_a_rename_is_answered_and_told_to_those_who_share_a_room(self) -> None:
        self.assertEqual(self.ask(self.bob, "RENAME bob_2\nId: 1\n\n"), RENAMED % b"Id: 1\n")
        self.assertEqual(self.told(self.alice), RENAMED % b"")
        self.assertEqual(self.told(self.carol), b"")
        self.assertEqual(self.names(), ["alice", "bob_2", "carol"])

    def test_the_users_other_connections_are_told_even_while_they_catch_up(self) -> None:
        bob, token = self.another(self.bob, "bob")
        self.ask(self.carol, "SEND bob\nContent-length: 1\n\nx")
        again = self.connect()
        again.say(f"REGISTER bob\nSession: {token}\nResume: 0\n\nRENAME bob_2\nId: 2\n\n")
        self.commit()
        self.assertEqual(self.told(bob).count(RENAMED % b""), 1)
        told = self.told(again)
        self.assertIn(b"FORWARD carol\n", told)
        self.assertIn(RENAMED % b"Id: 2\n", told)

    def test_watchers_see_the_old_name_go_and_the_new_one_here(self) -> None:
        self.ask(self.carol, "WHO\nWatch: yes\n\n")
        self.ask(self.bob, "RENAME bobby\n\n")
        self.clock.advance(1)
        self.assertEqual(
            self.told(self.carol),
            b"PRESENCE\nContent-length: 20\n\nbob gone\nbobby here\n",
        )
        self.ask(self.bob, "RENAME Bobby\n\n")
        self.clock.advance(1)
        self.assertEqual(self.told(self.carol), b"PRESENCE\nContent-length: 11\n\nBobby here\n")

    def test_the_old_name_is_free_at_once_and_messages_reach_the_new_one(self) -> None:
        self.ask(self.bob, "RENAME bobby\n\n")
        other = self.user("bob")
        self.ask(self.carol, "SEND bobby\nContent-length: 1\n\nx")
        self.assertIn(b"FORWARD carol\nTo: bobby\n", self.told(self.bob))
        self.assertEqual(self.told(other), b"")

    def test_messages_waiting_under_the_old_name_come_and_the_receipt_goes_back(self) -> None:
        bob, token = self.another(self.bob, "bob")
        self.ask(self.carol, "SEND bob\nId: 1\nContent-length: 1\n\nx")
        self.ask(bob, "RENAME bobby\n\n")
        again = self.connect()
        again.ask(f"REGISTER bobby\nSession: {token}\nResume: 0\n\n")
        self.carol.transport.clear()
        again.ask("RECEIVED carol\nMessage: 1\n\n")
        self.assertEqual(self.told(self.carol), b"DELIVERED bob\nId: 1\nMessage: 1\n\n")

    def test_a_client_that_missed_a_rename_comes_back_as_the_same_user(self) -> None:
        bob, token = self.another(self.bob, "bob")
        self.ask(bob, "RENAME bobby\n\n")
        bob.gone()
        self.ask(self.carol, "SEND bobby\nContent-length: 1\n\nx")
        again = self.connect()
        told = again.ask(f"REGISTER bob\nSession: {token}\n\n")
        self.assertIn(b"REGISTERED bobby\n", told)
        self.assertIn(b"FORWARD carol\nTo: bobby\n", told)
        other = self.user("bob")  # the name is free, and stays the other's
        again = self.connect()
        told = again.ask(f"REGISTER bob\nSession: {token}\n\n")
        self.assertIn(b"REGISTERED bobby\n", told)
        self.assertEqual(self.ask(other, "PING\n\n"), b"PONG\n\n")

    def test_a_user_who_comes_back_has_the_new_name_also_in_earlier_messages(self) -> None:
        bob, token = self.another(self.bob, "bob")
        self.ask(self.carol, "SEND bob\nContent-length: 1\n\nx")
        self.ask(bob, "SEND carol\nContent-length: 1\n\ny")
        self.ask(bob, "RENAME bobby\n\n")
        again = self.connect()
        told = again.ask(f"REGISTER bobby\nSession: {token}\nResume: 0\n\n")
        self.assertIn(b"FORWARD carol\nTo: bobby\nMessage: 1\n", told)
        self.assertIn(b"FORWARD bobby\nTo: carol\nMessage: 2\n", told)

    def test_messages_sent_under_the_old_name_are_read_back_under_the_new_one(self) -> None:
        self.ask(self.carol, "SEND bob\nContent-length: 5\n\nindex")
        self.clock.advance(2)  # until it is indexed
        self.commit()
        self.ask(self.bob, "SEND carol\nContent-length: 5\n\nlater")
        self.ask(self.bob, "RENAME bobby\n\n")
        for name in (b"bobby", b"bob"):
            told = self.ask(self.carol, f"HISTORY {name.decode()}\n\n")
            self.assertEqual(re.findall(rb"\n\n(index|later)", told), [b"index", b"later"], told)
        found = self.ask(self.carol, "SEARCH bobby\nContent-length: 5\n\nindex")
        self.assertIn(b"SEARCH bobby\nCount: 1\n", found)
        self.assertIn(b"HISTORY alice\nCount: 0\n", self.ask(self.carol, "HISTORY alice\n\n"))

    def test_a_name_that_can_not_be_had_is_refused_and_the_connection_goes_on(self) -> None:
        self.ask(self.carol, "ACCOUNT register\nContent-length: 1\n\nx")
        for name, code in (
            ("b@d", 100),
            ("_bob", 100),
            ("all", 100),
            ("TOSEND", 100),
            ("", 100),
            ("Alice", 105),
            ("carol", 106),
        ):
            answer = self.ask(self.bob, f"RENAME {name}\nId: 1\n\n")
            self.assertTrue(answer.startswith(b"ERROR %d " % code), (name, answer))
            self.assertIn(b"\nId: 1\n", answer)
        self.assertEqual(self.ask(self.carol, "RENAME c\n\n"), b"ERROR 111 Not permitted\n\n")
        self.assertEqual(self.ask(self.bob, "PING\n\n"), b"PONG\n\n")

    def test_a_name_that_one_has_is_answered_and_told_to_nobody(self) -> None:
        self.assertEqual(self.ask(self.bob, "RENAME bob\n\n"), b"RENAMED bob\nTo: bob\n\n")
        self.assertEqual(self.told(self.alice), b"")

    def test_a_user_banned_from_a_room_keeps_the_name_while_there(self) -> None:
        self.ask(self.alice, "BAN #dev\nUser: bob\n\n")
        self.assertIn(b"ERROR 111 Not permitted\n", self.ask(self.bob, "RENAME b\n\n"))
        self.ask(self.bob, "LEAVE #dev\n\n")
        self.assertEqual(self.ask(self.bob, "RENAME b\n\n"), b"RENAMED bob\nTo: b\n\n")

    def test_version_1_reads_and_writes_to_the_new_name(self) -> None:
        sending, receiving = self.original("dave")
        self.ask(self.bob, "RENAME bob_2\n\n")
        receiving.transport.clear()
        self.ask(self.bob, "SEND dave\nContent-length: 1\n\nx")
        self.assertEqual(self.told(receiving), b"FORWARD bob_2\nContent-length: 1\n\nx")
        sending.ask("SEND bob_2\nContent-length: 1\n\ny")
        self.assertIn(b"FORWARD dave\n", self.told(self.bob))


RENAMED = b"RENAMED bob\n%bTo: bob_2\n\n"


class DuplicateTests(RequestTestCase):
    def test_a_user_who_has_taken_the_name_since_does_not_count_as_the_recipient(self) -> None:
        message = "SEND bob\nId: 1\nContent-length: 1\n\nx"
        sent = self.ask(self.alice, message)
        self.ask(self.bob, "RENAME bobby\n\n")
        self.user("bob")
        self.clear()
        self.assertEqual(self.ask(self.alice, message), sent)


class RankTests(RequestTestCase):
    def test_a_rank_is_answered_and_told_with_the_user_who_gave_it(self) -> None:
        self.assertEqual(
            self.ask(self.alice, "RANK #DEV\nId: 1\nUser: BOB\nRank: voice\n\n"),
            b"RANK #dev\nId: 1\nUser: bob\nRank: voice\nBy: alice\n\n",
        )
        told = b"RANK #dev\nUser: bob\nRank: voice\nBy: alice\n\n"
        self.assertEqual(self.told(self.bob), told)

    def test_a_rank_that_a_member_has_is_answered_and_told_to_nobody(self) -> None:
        self.assertEqual(
            self.ask(self.alice, "RANK #dev\nUser: bob\nRank: none\n\n"),
            b"RANK #dev\nUser: bob\nRank: none\nBy: alice\n\n",
        )
        self.assertEqual(self.told(self.bob), b"")

    def test_a_user_who_inherits_a_room_is_told_without_by(self) -> None:
        self.ask(self.alice, "LEAVE #dev\nContent-length: 3\n\nbye")
        self.assertEqual(
            self.told(self.bob),
            b"LEFT #dev\nUser: alice\nContent-length: 3\n\nbye"
            b"RANK #dev\nUser: bob\nRank: operator\n\n",
        )

    def test_only_an_operator_of_the_room_gives_ranks_and_one_is_left(self) -> None:
        for client, request in (
            (self.bob, "RANK #dev\nUser: bob\nRank: operator"),
            (self.carol, "RANK #dev\nUser: carol\nRank: operator"),
            (self.alice, "RANK #dev\nUser: carol\nRank: voice"),
            (self.alice, "RANK #dev\nUser: bob\nRank: king"),
            (self.alice, "RANK #dev\nUser: alice\nRank: none"),
        ):
            self.assertEqual(self.ask(client, f"{request}\n\n"), b"ERROR 111 Not permitted\n\n")

    def test_ranks_are_seen_in_the_list_and_by_users_who_join(self) -> None:
        self.ask(self.alice, "RANK #dev\nUser: bob\nRank: operator\n\n")
        self.assertIn(b"\nOperators: alice bob\n", self.ask(self.carol, "JOIN #dev\n\n"))
        self.ask(self.alice, "RANK #dev\nUser: carol\nRank: voice\n\n")
        self.assertEqual(
            self.ask(self.carol, "WHO #dev\nRanks: yes\n\n"),
            b"WHO #dev\nCount: 3\nContent-length: 19\n\n@alice\n@bob\n+carol\n",
        )
        self.assertIn(b"\n\nalice\nbob\ncarol\n", self.ask(self.carol, "WHO #dev\n\n"))
        self.assertIn(b"\nRank: voice\nOp", self.ask(self.carol, "JOIN #dev\n\n"))

    def test_the_user_who_makes_a_room_is_its_operator(self) -> None:
        self.assertEqual(
            self.ask(self.carol, "JOIN #new\nPrivate: yes\n\n"),
            b"JOINED #new\nUser: carol\nRank: operator\nOperators: carol\nModes: private\n"
            b"Content-length: 0\n\n",
        )

    def test_of_many_operators_the_first_twenty_are_named(self) -> None:
        for number in range(25):
            client = self.user(f"n{number}")
            self.ask(client, "JOIN #dev\n\n")
            self.ask(self.alice, f"RANK #dev\nUser: n{number}\nRank: operator\n\n")
        named = b"Operators: alice " + b" ".join(b"n%d" % number for number in range(19)) + b"\n"
        self.assertIn(named, self.ask(self.carol, "JOIN #dev\n\n"))


class ModeTests(RequestTestCase):
    def test_a_mode_is_answered_told_and_seen(self) -> None:
        self.assertEqual(
            self.ask(self.alice, "MODE #dev\nId: 1\nMode: moderated\nOn: yes\n\n"),
            b"MODE #dev\nId: 1\nMode: moderated\nOn: yes\nBy: alice\n\n",
        )
        told = b"MODE #dev\nMode: moderated\nOn: yes\nBy: alice\n\n"
        self.assertEqual(self.told(self.bob), told)
        self.ask(self.alice, "MODE #dev\nMode: topic\nOn: yes\n\n")
        modes = b"MODE #dev\nId: 2\nModes: moderated topic\n\n"
        self.assertEqual(self.ask(self.carol, "MODE #dev\nId: 2\n\n"), modes)
        self.assertIn(b"\nModes: moderated topic\n", self.ask(self.carol, "JOIN #dev\n\n"))

    def test_a_mode_that_is_on_is_answered_and_told_to_nobody(self) -> None:
        self.assertEqual(
            self.ask(self.alice, "MODE #dev\nMode: topic\nOn: no\n\n"),
            b"MODE #dev\nMode: topic\nOn: no\nBy: alice\n\n",
        )
        self.assertEqual(self.told(self.bob), b"")
        self.assertEqual(self.ask(self.bob, "MODE #dev\n\n"), b"MODE #dev\nModes: \n\n")

    def test_a_moderated_room_hears_voices_alone(self) -> None:
        self.ask(self.alice, "MODE #dev\nMode: moderated\nOn: yes\n\n")
        message = "SEND #dev\nContent-length: 1\n\nx"
        self.assertEqual(self.ask(self.bob, message), b"ERROR 111 Not permitted\n\n")
        self.ask(self.alice, "RANK #dev\nUser: bob\nRank: voice\n\n")
        self.assertIn(b"SENT #dev\n", self.ask(self.bob, message))

    def test_a_room_that_is_made_private_is_none_to_others(self) -> None:
        self.ask(self.alice, "MODE #dev\nMode: private\nOn: yes\n\n")
        self.assertEqual(self.ask(self.carol, "MODE #dev\n\n"), b"ERROR 110 No such room\n\n")
        self.assertIn(b"Count: 0\n", self.ask(self.carol, "ROOMS\n\n"))

    def test_an_unknown_mode_or_one_the_user_may_not_set_is_refused(self) -> None:
        for client, request, code in (
            (self.bob, "MODE #dev\nMode: topic\nOn: yes", 111),
            (self.alice, "MODE #dev\nMode: loud\nOn: yes", 111),
            (self.carol, "MODE #dev\nMode: topic\nOn: yes", 111),
            (self.carol, "MODE #none\nMode: topic\nOn: yes", 110),
            (self.carol, "MODE #dev\nMode: topic", 103),
        ):
            answer = self.ask(client, f"{request}\n\n")
            self.assertTrue(answer.startswith(b"ERROR %d " % code), (request, answer))


class RoomBanTests(RequestTestCase):
    def test_a_ban_is_answered_and_told_with_its_reason(self) -> None:
        self.assertEqual(
            self.ask(self.alice, "BAN #dev\nId: 1\nUser: Bob\nContent-length: 4\n\nspam"),
            b"BAN #dev\nId: 1\nUser: bob\nBy: alice\nContent-length: 4\n\nspam",
        )
        told = b"BAN #dev\nUser: bob\nBy: alice\nContent-length: 4\n\nspam"
        self.assertEqual(self.told(self.bob), told)
        message = "SEND #dev\nContent-length: 1\n\nx"
        refused = b"ERROR 111 Not permitted\nUntil: ever\nBy: alice\nReason: spam\n\n"
        for request in (message, "TOPIC #dev\nContent-length: 1\n\nx", "RENAME b\n\n"):
            self.assertEqual(self.ask(self.bob, request), refused)
        unbanned = b"UNBAN #dev\nUser: bob\nBy: alice\n\n"
        self.assertEqual(self.ask(self.alice, "UNBAN #dev\nUser: bob\n\n"), unbanned)
        self.assertEqual(self.told(self.bob), unbanned)
        self.assertIn(b"SENT #dev\n", self.ask(self.bob, message))

    def test_a_banned_user_can_not_join_unless_invited(self) -> None:
        self.ask(self.alice, "BAN #dev\nUser: carol\n\n")
        refused = b"ERROR 111 Not permitted\nUntil: ever\nBy: alice\n\n"
        self.assertEqual(self.ask(self.carol, "JOIN #dev\n\n"), refused)
        self.ask(self.alice, "INVITE #dev\nUser: carol\n\n")
        self.assertIn(b"JOINED #dev\n", self.ask(self.carol, "JOIN #dev\n\n"))

    def test_bans_are_listed_by_page_for_operators_of_the_room(self) -> None:
        self.patch(encoding, "MAX_LINES", 2)
        for name in ("zoe", "bob", "eve"):
            self.ask(self.alice, f"BAN #dev\nUser: {name}\nContent-length: 4\n\nspam")
        self.assertEqual(
            self.ask(self.alice, "BAN #dev\n\n"),
            b"BAN #dev\nCount: 3\nMore: eve\nContent-length: 80\n\n"
            b"bob 1970-01-01T00:00:00.000Z alice spam\n"
            b"eve 1970-01-01T00:00:00.000Z alice spam\n",
        )
        self.assertIn(b"\n\nzoe ", self.ask(self.alice, "BAN #dev\nAfter: EVE\n\n"))
        self.assertEqual(self.ask(self.bob, "BAN #dev\n\n"), b"ERROR 111 Not permitted\n\n")
        self.assertEqual(self.ask(self.bob, "BAN #none\n\n"), b"ERROR 110 No such room\n\n")

    def test_a_removed_user_is_told_why(self) -> None:
        self.assertEqual(
            self.ask(self.alice, "KICK #dev\nId: 1\nUser: bob\nContent-length: 4\n\nspam"),
            b"LEFT #dev\nId: 1\nUser: bob\nBy: alice\nContent-length: 4\n\nspam",
        )
        told = b"LEFT #dev\nUser: bob\nBy: alice\nContent-length: 4\n\nspam"
        self.assertEqual(self.told(self.bob), told)

    def test_a_reason_is_a_short_line(self) -> None:
        for request in ("KICK #dev\nUser: bob", "BAN #dev\nUser: bob", "LEAVE #dev"):
            for reason in ("one\ntwo", "x" * 201):
                self.assertEqual(
                    self.ask(self.alice, f"{request}\nContent-length: {len(reason)}\n\n{reason}"),
                    b"ERROR 111 Not permitted\n\n",
                )

    def test_a_ban_that_is_impossible_is_refused_and_the_connection_goes_on(self) -> None:
        for request, code in (
            ("BAN #dev\nUser: b@d", 100),
            ("UNBAN #dev\nUser: bob", 111),
            ("UNBAN #dev", 103),
        ):
            answer = self.ask(self.alice, f"{request}\n\n")
            self.assertTrue(answer.startswith(b"ERROR %d " % code), (request, answer))


class DeleteTests(RequestTestCase):
    def send(self, client: Client, to: str, text: str) -> int:
        """Say something; return its number."""
        answer = self.ask(client, f"SEND {to}\nContent-length: {len(text)}\n\n{text}")
        self.clear()
        return int(re.search(rb"Message: (\d+)", answer)[1])

    def delete(self, client: Client, number: int) -> bytes:
        return self.ask(client, f"DELETE\nId: 9\nMessage: {number}\n\n")

    def test_each_party_is_told_where_they_find_it(self) -> None:
        number = self.send(self.bob, "carol", "secret")
        deleted = b"DELETED %b\n%bMessage: %d\nBy: bob\n\n"
        answer = self.delete(self.bob, number)
        self.assertEqual(answer, deleted % (b"carol", b"Id: 9\n", number))
        self.assertEqual(self.told(self.carol), deleted % (b"bob", b"", number))
        self.assertEqual(self.told(self.alice), b"")
        number = self.send(self.bob, "#dev", "secret")
        self.delete(self.bob, number)
        self.assertEqual(self.told(self.alice), deleted % (b"#dev", b"", number))
        number = self.send(self.bob, "ALL", "secret")
        self.delete(self.bob, number)
        for client in (self.alice, self.carol):
            self.assertEqual(self.told(client), deleted % (b"ALL", b"", number))
        number = self.send(self.bob, "bob", "secret")
        answer = self.delete(self.bob, number)
        self.assertEqual(answer, deleted % (b"bob", b"Id: 9\n", number))

    def test_a_deleted_message_is_read_back_as_an_empty_text(self) -> None:
        number = self.send(self.bob, "#dev", "secret words")
        self.delete(self.bob, number)
        told = self.ask(self.alice, "HISTORY #dev\n\n")
        self.assertIn(b"Deleted: yes\nContent-length: 0\n\nHISTORY #dev\nCount: 1\n", told)
        found = self.ask(self.alice, "SEARCH\nContent-length: 5\n\nwords")
        self.assertEqual(found, b"SEARCH\nCount: 0\n\n")

    def test_a_user_who_comes_back_gets_the_number_without_the_text(self) -> None:
        bob, token = self.another(self.bob, "bob")
        bob.gone()
        self.commit()
        first = self.send(self.carol, "bob", "secret")
        self.delete(self.carol, first)
        again = self.connect()
        told = again.ask(f"REGISTER bob\nSession: {token}\nResume: 0\n\n")
        self.assertIn(b"FORWARD carol\nTo: bob\nMessage: %d\n" % first, told)
        self.assertTrue(told.endswith(b"Deleted: yes\nContent-length: 0\n\n"))

    def test_a_user_who_catches_up_gets_no_text_that_is_deleted_meanwhile(self) -> None:
        self.patch(lookup, "PAGE", 0)
        bob, token = self.another(self.bob, "bob")
        bob.gone()
        self.commit()
        numbers = [self.send(self.carol, "bob", f"secret {number}") for number in range(2)]
        again = self.connect()
        self.clock.advance(0)
        again.say(f"REGISTER bob\nSession: {token}\n\n")
        self.carol.say(f"DELETE\nMessage: {numbers[1]}\n\n")
        self.commit()
        told = self.told(again)
        self.assertIn(b"secret 0", told)
        self.assertIn(b"DELETED carol\nMessage: %d\n" % numbers[1], told)

    def test_own_within_an_hour_any_in_ones_room_all_for_operators_of_the_server(self) -> None:
        number = self.send(self.bob, "#dev", "x")
        self.assertIn(b"DELETED #dev\n", self.delete(self.alice, number))
        number = self.send(self.alice, "#dev", "x")
        self.assertEqual(self.delete(self.bob, number), b"ERROR 111 Not permitted\nId: 9\n\n")
        number = self.send(self.bob, "ALL", "x")
        self.clock.advance(3600)
        self.clear()
        self.assertEqual(self.delete(self.bob, number), b"ERROR 111 Not permitted\nId: 9\n\n")
        direct = self.send(self.bob, "alice", "x")
        self.make_operator(self.carol, "carol")
        self.assertIn(b"DELETED ALL\n", self.delete(self.carol, number))
        self.assertIn(b"DELETED alice\n", self.delete(self.carol, direct))
        self.assertIn(b"DELETED bob\n", self.told(self.alice))

    def test_the_reason_is_told(self) -> None:
        number = self.send(self.bob, "#dev", "x")
        told = f"Message: {number}\nBy: alice\nContent-length: 4\n\nspam".encode()
        request = f"DELETE\nId: 9\nMessage: {number}\nContent-length: 4\n\nspam"
        self.assertEqual(self.ask(self.alice, request), b"DELETED #dev\nId: 9\n" + told)
        self.assertEqual(self.told(self.bob), b"DELETED #dev\n" + told)
        [line] = [line for line in self.logged if "audit" in line]
        self.assertIn("'spam'", line)

    def test_a_message_of_others_is_answered_as_none(self) -> None:
        number = self.send(self.alice, "bob", "x")
        for each in (number, number + 1, 0, 10**17):
            answer = self.delete(self.carol, each)
            self.assertEqual(answer, b"ERROR 111 Not permitted\nId: 9\n\n")
        self.assertEqual(self.told(self.bob), b"")

    def test_deleting_messages_of_others_is_logged(self) -> None:
        self.delete(self.bob, self.send(self.bob, "#dev", "x"))
        number = self.send(self.bob, "#dev", "x")
        self.delete(self.alice, number)
        lines = [line for line in self.logged if "audit" in line]
        self.assertEqual(lines, [f"audit: alice delete message {number} of bob until ever: ''"])

    def test_a_deleted_message_waiting_for_the_original_client_is_not_forwarded(self) -> None:
        _, receiving = self.original("dave")
        numbers = [self.send(self.bob, "dave", text) for text in ("one", "two", "three")]
        self.assertIn(b"one", self.told(receiving))
        self.delete(self.bob, numbers[1])
        self.assertIn(b"three", receiving.say("RECEIVED bob\n\n"))

    def test_pieces_of_a_deleted_message_are_not_forwarded(self) -> None:
        _, receiving = self.original("dave")
        number = self.send(self.bob, "dave", "one\ntwo")
        self.send(self.bob, "dave", "three")
        self.assertIn(b"one", self.told(receiving))
        self.delete(self.bob, number)
        self.assertIn(b"three", receiving.say("RECEIVED bob\n\n"))

    def test_a_request_that_needs_an_unreadable_archive_is_refused(self) -> None:
        number = self.send(self.bob, "ALL", "x")
        self.store.unreadable = OSError("gone")
        answer = self.delete(self.bob, number)
        self.assertEqual(answer, b"ERROR 112 Unavailable\nId: 9\nRetry-after: 10\n\n")
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.assertEqual(self.ask(self.bob, "PING\n\n"), b"PONG\n\n")


class ReadMarkerTests(RequestTestCase):
    def setUp(self) -> None:
        super().setUp()
        for _ in range(3):
            self.ask(self.carol, "SEND bob\nContent-length: 1\n\nx")

    def test_a_marker_grows_and_is_told_to_the_users_other_connections(self) -> None:
        bob, token = self.another(self.bob, "bob")
        other, _ = self.register("bob", f"Session: {token}")
        self.assertEqual(
            self.ask(bob, "READ Carol\nId: 1\nMessage: 2\n\n"),
            b"READ Carol\nId: 1\nMessage: 2\n\n",
        )
        self.assertEqual(self.told(other), b"READ carol\nMessage: 2\n\n")
        back = b"READ carol\nMessage: 2\n\n"
        self.assertEqual(self.ask(bob, "READ carol\nMessage: 1\n\n"), back)
        self.assertEqual(self.told(other), b"")
        self.assertEqual(self.told(self.carol), b"")

    def test_a_marker_before_all_messages_is_as_none(self) -> None:
        user = self.hub.state.names["bob"]
        self.hub.ask(MarkRead(user.id, max(user.sessions), "carol", 0, 77))
        self.commit()
        self.assertEqual(user.markers, {(0, "carol"): (0, 77)})
        self.assertNotIn(b"READ", self.told(self.bob))
        self.assertEqual(self.ask(self.bob, "READ\n\n"), b"READ\nCount: 0\nContent-length: 0\n\n")

    def test_markers_are_listed_in_order_and_by_page(self) -> None:
        self.patch(encoding, "MAX_LINES", 2)
        for to in ("#DEV", "carol", "all", "nobody"):
            self.ask(self.bob, f"READ {to}\nMessage: 3\n\n")
        page = b"READ\nCount: 4\nMore: ALL\nContent-length: 13\n\n#dev 3\nALL 3\n"
        self.assertEqual(self.ask(self.bob, "READ\n\n"), page)
        page = b"READ\nCount: 4\nContent-length: 17\n\ncarol 3\nnobody 3\n"
        self.assertEqual(self.ask(self.bob, "READ\nAfter: ALL\n\n"), page)
        self.ask(self.bob, "LEAVE #dev\n\n")
        self.assertIn(b"Count: 3\n", self.ask(self.bob, "READ\n\n"))

    def test_unread_messages_are_counted_by_conversation_and_by_page(self) -> None:
        for to in ("#DEV", "ALL"):
            self.ask(self.alice, f"SEND {to}\nContent-length: 1\n\nx")
        self.ask(self.bob, "READ carol\nMessage: 1\n\n")
        self.ask(self.bob, "SEND dora\nContent-length: 1\n\nx")
        self.ask(self.bob, "SEND #dev\nContent-length: 1\n\nx")
        self.assertEqual(
            self.ask(self.bob, "READ\nId: 1\nUnread: yes\n\n"),
            b"READ\nId: 1\nCount: 2\nContent-length: 19\n\n#dev 0 1\ncarol 1 2\n",
        )
        self.ask(self.bob, "READ all\nMessage: 4\n\n")
        self.assertIn(b"\n\n#dev 0 1\nALL 4 1\ncarol 1 2\n", self.unread(self.bob))
        self.assertEqual(self.unread(self.carol), b"READ\nCount: 0\nContent-length: 0\n\n")
        self.patch(lookup, "UNREAD_PAGE", 2)
        page = b"READ\nCount: 2\nMore: ALL\nContent-length: 17\n\n#dev 0 1\nALL 4 1\n"
        self.assertEqual(self.unread(self.bob), page)
        page = b"READ\nCount: 1\nContent-length: 10\n\ncarol 1 2\n"
        self.assertEqual(self.unread(self.bob, "After: ALL\n"), page)
        self.ask(self.bob, "LEAVE #dev\n\n")
        self.assertNotIn(b"#dev", self.unread(self.bob))

    def unread(self, client: Client, headers: str = "") -> bytes:
        return self.ask(client, f"READ\nUnread: yes\n{headers}\n")

    def test_requests_behind_the_unread_messages_wait(self) -> None:
        told = self.ask(self.bob, "READ\nUnread: yes\n\nPING\n\n")
        self.assertTrue(told.startswith(b"READ\n"), told)
        self.assertTrue(told.endswith(b"PONG\n\n"), told)

    def test_no_marker_is_beyond_the_last_message(self) -> None:
        answer = self.ask(self.bob, "READ carol\nMessage: 99\n\n")
        self.assertEqual(answer, b"READ carol\nMessage: 3\n\n")

    def test_where_one_may_not_read_is_no_marker(self) -> None:
        for argument, code in (("#dev", 111), ("#none", 110), ("b@d", 102)):
            answer = self.ask(self.carol, f"READ {argument}\nMessage: 1\n\n")
            self.assertTrue(answer.startswith(b"ERROR %d " % code), answer)
        self.assertIn(b"ERROR 103", self.ask(self.carol, "READ bob\n\n"))


class OwnMessagesTests(RequestTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.ask(self.bob, "ACCOUNT register\nContent-length: 1\n\nx")
        for to in ("ALL", "carol", "#dev"):
            self.ask(self.bob, f"SEND {to}\nContent-length: 2\n\n{to[:2]}")
            self.ask(self.alice, f"SEND {to}\nContent-length: 5\n\nalice")
        self.clear()

    def test_all_that_one_said_is_read_a_page_at_a_time(self) -> None:
        told = self.ask(self.bob, "ACCOUNT messages\nId: 1\nCount: 2\n\n")
        self.assertEqual(re.findall(rb"MESSAGE bob\nId: 1\nTo: (.+)\n", told), [b"ALL", b"carol"])
        self.assertTrue(told.endswith(b"ACCOUNT messages\nId: 1\nCount: 2\nMore: 3\n\n"), told)
        told = self.ask(self.bob, "ACCOUNT messages\nAfter: 3\n\n")
        self.assertEqual(re.findall(rb"MESSAGE bob\nTo: (.+)\n", told), [b"#dev"])
        self.assertTrue(told.endswith(b"ACCOUNT messages\nCount: 1\n\n"))

    def test_a_page_may_have_no_messages_and_says_where_it_goes_on(self) -> None:
        self.patch(lookup, "SCAN_OF_AUTHOR", 1)
        told = self.ask(self.bob, "ACCOUNT messages\nAfter: 1\n\n")
        self.assertEqual(told, b"ACCOUNT messages\nCount: 0\nMore: 2\n\n")

    def test_a_guest_has_none_to_export(self) -> None:
        told = self.ask(self.alice, "ACCOUNT messages\n\n")
        self.assertEqual(told, b"ERROR 111 Not permitted\n\n")

    def test_a_user_who_drops_the_account_may_have_all_its_messages_deleted(self) -> None:
        told = self.ask(self.bob, "ACCOUNT unregister\nErase: yes\n\n")
        self.assertEqual(told, b"ACCOUNT unregister\n\n")
        self.go_on()
        for argument, count in (("ALL", 1), ("#dev", 1)):
            told = self.ask(self.alice, f"HISTORY {argument}\n\n")
            self.assertEqual(told.count(b"Deleted: yes\nContent-length: 0\n\n"), count)
            self.assertEqual(told.count(b"\n\nalice"), count)
        self.assertIn(b"Deleted: yes", self.ask(self.carol, "HISTORY bob\n\n"))

    def test_without_a_word_it_stays(self) -> None:
        self.ask(self.bob, "ACCOUNT unregister\nErase: no\n\n")
        self.go_on()
        self.assertNotIn(b"Deleted", self.ask(self.alice, "HISTORY ALL\n\n"))

    def go_on(self) -> None:
        """Let what is done behind the commits be done."""
        for _ in range(100):
            self.clock.advance(0.1)
            self.commit()
        self.clear()
