"""CHATHISTORY, REDACT and MARKREAD of the IRC door."""

from __future__ import annotations

import re
from collections.abc import Callable

from twisted.internet.defer import Deferred

from chat_twisted.core.commands import CONSOLE, MUTE, Delete, Impose, MarkRead
from chat_twisted.core.errors import TookTooLong, Unavailable
from chat_twisted.core.limits import OFF, Rate
from chat_twisted.core.messages import DELETE_WITHIN
from chat_twisted.core.turns import Asker
from chat_twisted.doors.irc.commands import history
from chat_twisted.frames import format_time, parse_time
from tests.irc import IRCClient, IRCTestCase
from tests.test_irc_accounts import PASSWORD, AccountTestCase

CAPS = "batch message-tags server-time draft/chathistory labeled-response echo-message"


class HistoryTestCase(IRCTestCase):
    """Alice and bob are in #dev, carol is not. Messages are a second apart."""

    def setUp(self) -> None:
        super().setUp()
        self.clock.advance(0.5)
        self.alice = self.join("alice", "#dev", caps=self.caps)
        self.bob = self.join("bob", "#dev", caps=self.caps)
        self.carol = self.join("carol", caps=self.caps)
        for client in (self.alice, self.bob, self.carol):
            client.lines()

    caps = CAPS

    def send(self, client: IRCClient, to: str, *texts: str) -> list[tuple[str, str]]:
        """Send texts; return their msgids and times."""
        sent = []
        for text in texts:
            self.clock.advance(1)
            client.say(f"PRIVMSG {to} :{text}")
            cursor = self.store.connection.cursor()
            cursor.execute("SELECT number, time FROM message ORDER BY number DESC LIMIT 1")
            number, time = cursor.fetchone()
            sent.append((f"msgid={number}", f"timestamp={format_time(time)}"))
        for other in (self.alice, self.bob, self.carol):
            other.lines()
        return sent

    def texts(self, client: IRCClient, request: str) -> str:
        """Ask for history; return the texts in the batch, joined."""
        first, *lines, last = client.say(request)
        target = request.split()[2]
        found = re.fullmatch(rf":chat\.server BATCH \+(\w+) chathistory {re.escape(target)}", first)
        assert found is not None, first
        self.assertEqual(last, f":chat.server BATCH -{found[1]}")
        for line in lines:
            self.assertIn(f"batch={found[1]};", line.split()[0] + ";")
        return "".join(line.rpartition(":")[2] for line in lines)


class ChatHistoryTests(HistoryTestCase):
    def test_every_subcommand_in_both_kinds_of_references(self) -> None:
        sent = self.send(self.alice, "#dev", *"0123456789")
        for kind in (0, 1):
            at = [references[kind] for references in sent]
            for request, expected in (
                ("LATEST #dev * 99", "0123456789"),
                ("LATEST #dev * 3", "789"),
                (f"LATEST #dev {at[4]} 99", "56789"),
                (f"LATEST #dev {at[4]} 2", "89"),
                (f"BEFORE #dev {at[6]} 99", "012345"),
                (f"BEFORE #dev {at[6]} 2", "45"),
                (f"BEFORE #dev {at[0]} 2", ""),
                (f"AFTER #dev {at[3]} 99", "456789"),
                (f"AFTER #dev {at[3]} 2", "45"),
                (f"AFTER #dev {at[9]} 2", ""),
                (f"BETWEEN #dev {at[0]} {at[9]} 99", "12345678"),
                (f"BETWEEN #dev {at[9]} {at[0]} 99", "12345678"),
                (f"BETWEEN #dev {at[0]} {at[9]} 3", "123"),
                (f"BETWEEN #dev {at[9]} {at[0]} 3", "678"),
                (f"BETWEEN #dev {at[4]} {at[4]} 3", ""),
                (f"AROUND #dev {at[7]} 1", "7"),
                (f"AROUND #dev {at[7]} 3", "678"),
                (f"AROUND #dev {at[7]} 4", "5678"),
                (f"AROUND #dev {at[0]} 4", "0123"),
                (f"AROUND #dev {at[9]} 4", "789"),
            ):
                self.assertEqual(self.texts(self.bob, f"CHATHISTORY {request}"), expected, request)

    def test_between_a_message_and_a_time_works_both_ways(self) -> None:
        sent = self.send(self.alice, "#dev", *"01234")
        for request, expected in (
            (f"{sent[0][0]} {sent[4][1]} 2", "12"),
            (f"{sent[0][1]} {sent[4][0]} 2", "12"),
            (f"{sent[4][0]} {sent[0][1]} 2", "23"),
            (f"{sent[4][1]} {sent[0][0]} 2", "23"),
        ):
            texts = self.texts(self.bob, f"CHATHISTORY BETWEEN #dev {request}")
            self.assertEqual(texts, expected, request)
        # Of a number before all messages nothing is known but that it is the first one.
        texts = self.texts(self.bob, f"CHATHISTORY BETWEEN #dev msgid=0 {sent[4][1]} 2")
        self.assertEqual(texts, "01")

    def test_lines_are_as_they_were_when_they_were_sent(self) -> None:
        self.clock.advance(1)
        (line,) = self.alice.say("PRIVMSG #dev :hello")
        self.bob.lines()
        tags, _, rest = line.removeprefix("@").partition(" ")
        for client in (self.alice, self.bob):
            _, found, _ = client.say("CHATHISTORY LATEST #dev * 9")
            again, _, same = found.removeprefix("@").partition(" ")
            self.assertEqual(same, rest)
            self.assertLess(set(tags.split(";")), set(again.split(";")))

    def test_direct_messages_are_found_by_both_in_any_case(self) -> None:
        self.send(self.alice, "bob", "1")
        self.send(self.bob, "alice", "2")
        self.send(self.alice, "carol", "3")
        self.assertEqual(self.texts(self.alice, "CHATHISTORY LATEST BOB * 9"), "12")
        self.assertEqual(self.texts(self.bob, "CHATHISTORY LATEST alice * 9"), "12")
        self.assertEqual(self.texts(self.carol, "CHATHISTORY LATEST bob * 9"), "")

    def test_all_is_a_channel(self) -> None:
        self.send(self.alice, "&ALL", "1")
        self.assertEqual(self.texts(self.bob, "CHATHISTORY LATEST &ALL * 9"), "1")
        first, line, _ = self.bob.say("CHATHISTORY LATEST all * 9")
        self.assertIn("chathistory &ALL", first)
        self.assertIn("PRIVMSG &ALL :1", line)

    def test_deleted_messages_are_not_in_it(self) -> None:
        sent = self.send(self.alice, "#dev", *"01234")
        user = self.hub.state.names["alice"]
        for reference, _ in sent[1:4]:
            number = int(reference.removeprefix("msgid="))
            room = self.hub.state.room_names["#dev"].id
            self.hub.ask(Delete(user.id, 1, number, user.id, 0, room, 0))
        self.commit()
        self.assertEqual(self.texts(self.bob, "CHATHISTORY LATEST #dev * 2"), "04")

    def test_a_label_is_on_the_batch_around_it(self) -> None:
        self.send(self.alice, "#dev", "1")
        lines = self.bob.say("@label=x CHATHISTORY LATEST #dev * 9")
        around = lines[0].split()[-2].removeprefix("+")
        self.assertRegex(lines[0], r"^@label=x :chat\.server BATCH \+\w+ labeled-response$")
        self.assertRegex(lines[1], rf"^@batch={around} :chat\.server BATCH \+\w+ chathistory #dev$")
        inner = lines[1].split()[-3].removeprefix("+")
        self.assertTrue(lines[2].startswith(f"@batch={inner};"))
        self.assertEqual(lines[-2], f"@batch={around} :chat.server BATCH -{inner}")
        self.assertEqual(lines[-1], f":chat.server BATCH -{around}")
        lines = self.bob.say("@label=x CHATHISTORY LATEST #none * 9")
        self.assertRegex(" ".join(lines), "^@label=x :chat.server FAIL CHATHISTORY INVALID_TARGET ")

    def test_a_message_of_several_lines_is_a_batch_in_the_batch(self) -> None:
        dave = self.join("dave", "#dev", caps=f"{self.caps} draft/multiline")
        dave.say("BATCH +x draft/multiline #dev", *(f"@batch=x PRIVMSG #dev {i}" for i in "12"))
        dave.say("BATCH -x")
        first, opening, *lines, closing, last = dave.say("CHATHISTORY LATEST #dev * 9")
        outer = first.split()[2].removeprefix("+")
        found = re.fullmatch(
            rf"@batch={outer};time=\S+;msgid=\d+ "
            r":dave!dave@chat BATCH \+(\w+) draft/multiline #dev",
            opening,
        )
        assert found is not None, opening
        for text, line in zip("12", lines, strict=True):
            self.assertEqual(line, f"@batch={found[1]} :dave!dave@chat PRIVMSG #dev :{text}")
        self.assertRegex(closing, rf"^@batch={outer} \S+ BATCH -{found[1]}$")
        self.assertEqual(last, f":chat.server BATCH -{outer}")
        self.bob.lines()
        lines = self.bob.say("CHATHISTORY LATEST #dev * 9")
        self.assertEqual([line.rpartition(":")[2] for line in lines[1:-1]], ["1", "2"])

    def test_clients_without_capabilities_get_plain_lines(self) -> None:
        dave = self.join("dave", "#dev")
        self.send(self.alice, "#dev", "1")
        dave.lines()
        self.assertEqual(
            dave.say("CHATHISTORY LATEST #dev * 9"), [":alice!alice@chat PRIVMSG #dev :1"]
        )
        self.assertEqual(
            len(
                dave.say(
                    "CHATHISTORY TARGETS timestamp=1960-01-01T00:00:00.000Z "
                    "timestamp=2100-01-01T00:00:00.000Z 9"
                )
            ),
            1,
        )

    def test_the_limit_is_that_of_isupport(self) -> None:
        self.patch(history, "HISTORY", 2)
        self.send(self.alice, "#dev", *"012")
        self.assertEqual(self.texts(self.bob, "CHATHISTORY LATEST #dev * 999999999999"), "12")

    def test_an_answer_has_so_many_lines_at_most_and_begins_where_it_is_read_from(self) -> None:
        self.patch(history, "MAX_LINES", 5)
        self.patch(history, "PIECE", 2)
        dora = self.user("dora")
        for text in ("a\nb", "c\nd", "e\nf"):
            body = f"Content-length: {len(text)}\n\n{text}"
            for to in ("ALL", "bob"):
                self.assertIn(b"SENT", dora.ask(f"SEND {to}\n{body}"))
        self.bob.lines()
        for target in ("&ALL", "dora"):
            for request, expected in (
                (f"LATEST {target} * 9", "cdef"),
                (f"AFTER {target} msgid=0 9", "abcd"),
                (f"LATEST {target} * 1", "ef"),
            ):
                self.assertEqual(self.texts(self.bob, f"CHATHISTORY {request}"), expected)
        self.patch(history, "MAX_LINES", 1)
        self.assertEqual(self.texts(self.bob, "CHATHISTORY LATEST &ALL * 9"), "ef")

    def test_a_batch_that_could_not_be_written_is_ended(self) -> None:
        self.patch(history, "PIECE", 1)
        self.send(self.alice, "#dev", "1", "2")
        lists = self.irc.context.lists
        do, calls = lists.do, []

        async def refuse(asker: Asker, work: Callable[[], None]) -> None:
            calls.append(work)
            if len(calls) > 1:
                raise Unavailable(retry_after=5)
            await do(asker, work)

        self.patch(lists, "do", refuse)
        lines = self.bob.say("CHATHISTORY LATEST #dev * 9")
        self.assertEqual([line.split()[-2:][0] for line in lines][-2:-1], ["BATCH"])
        self.assertIn(" 263 bob LATEST :", lines[-1])

    def test_what_others_may_not_read_is_an_invalid_target(self) -> None:
        self.send(self.alice, "#dev", "1")
        for target in ("#dev", "#none", "#b@d", "&dev", "b@d"):
            self.assertEqual(
                self.carol.say(f"CHATHISTORY LATEST {target} * 9"),
                [
                    f":chat.server FAIL CHATHISTORY INVALID_TARGET LATEST {target} "
                    ":Messages could not be retrieved"
                ],
            )

    def test_faulty_requests_are_answered(self) -> None:
        for request, fail in (
            ("", "INVALID_PARAMS * :Insufficient parameters"),
            ("FIRST #dev * 9", "INVALID_PARAMS FIRST :Unknown command"),
            ("latest #dev *", "INVALID_PARAMS LATEST :Insufficient parameters"),
            ("LATEST #dev * 9 9", "INVALID_PARAMS LATEST :Too many parameters"),
            ("BEFORE #dev * 9", "INVALID_PARAMS BEFORE * :Invalid reference to a message"),
            ("BEFORE #dev 9 9", "INVALID_PARAMS BEFORE 9 :Invalid reference to a message"),
            ("BEFORE #dev msgid=x 9", "INVALID_PARAMS BEFORE msgid=x :There is no such message"),
            (
                f"BEFORE #dev msgid={'9' * 19} 9",
                f"INVALID_PARAMS BEFORE msgid={'9' * 19} :There is no such message",
            ),
            (
                "BEFORE #dev timestamp=yesterday 9",
                "INVALID_PARAMS BEFORE timestamp=yesterday :Invalid timestamp",
            ),
            (
                "BEFORE #dev id=9 9",
                "INVALID_MSGREFTYPE BEFORE #dev :References are msgid= or timestamp=",
            ),
            ("LATEST #dev * 0", "INVALID_PARAMS LATEST 0 :Invalid limit"),
            ("LATEST #dev * x", "INVALID_PARAMS LATEST x :Invalid limit"),
            ("LATEST #dev * -1", "INVALID_PARAMS LATEST -1 :Invalid limit"),
            ("LATEST #dev * ²", "INVALID_PARAMS LATEST ² :Invalid limit"),
            (
                "TARGETS msgid=1 timestamp=2100-01-01T00:00:00.000Z 9",
                "INVALID_PARAMS TARGETS msgid=1 :Invalid timestamp",
            ),
            (
                "TARGETS timestamp=2100-01-01T00:00:00.000Z * 9",
                "INVALID_PARAMS TARGETS * :Invalid timestamp",
            ),
        ):
            lines = self.bob.say(f"CHATHISTORY {request}".strip())
            self.assertEqual(lines, [f":chat.server FAIL CHATHISTORY {fail}"])

    def test_what_can_not_be_read_now_is_an_error(self) -> None:
        self.store.unreadable = TookTooLong(retry_after=5)
        for request, context in (
            ("LATEST #dev * 9", "LATEST #dev :Messages"),
            ("AROUND #dev msgid=1 9", "AROUND #dev :Messages"),
            (
                "TARGETS timestamp=2000-01-01T00:00:00Z timestamp=2100-01-01T00:00:00Z 9",
                "TARGETS :The conversations",
            ),
        ):
            (line,) = self.bob.say(f"CHATHISTORY {request}")
            begin = f":chat.server FAIL CHATHISTORY MESSAGE_ERROR {context} could not be retrieved"
            self.assertEqual(line.partition(";")[0], begin)

    def test_a_client_that_goes_meanwhile_is_no_fault(self) -> None:
        self.bob.protocol.dataReceived(b"CHATHISTORY LATEST #dev * 9\r\n")
        self.bob.gone()
        self.commit()


class PacedTests(HistoryTestCase):
    limits = OFF._replace(work=Rate(0.25, 1))

    def test_a_client_that_reads_too_much_waits(self) -> None:
        self.send(self.alice, "#dev", "1")
        session = self.bob.protocol.session
        assert session is not None
        assert session.allowance is not None
        session.allowance.charge_work(5, self.clock.seconds())
        self.assertEqual(self.bob.say("CHATHISTORY LATEST #dev * 9", "PING x"), [])
        self.clock.pump([1] * 30)
        lines = self.bob.lines()
        self.assertEqual([line.split()[1] for line in lines][-1], "PONG")
        self.assertIn(" PRIVMSG #dev :1", lines[1])


class TargetsTests(HistoryTestCase):
    def targets(self, client: IRCClient, first: str, last: str, limit: int = 99) -> list[str]:
        lines = client.say(f"CHATHISTORY TARGETS {first} {last} {limit}")
        batch = lines[0].split()[2].removeprefix("+")
        self.assertEqual(lines[0], f":chat.server BATCH +{batch} draft/chathistory-targets")
        self.assertEqual(lines[-1], f":chat.server BATCH -{batch}")
        begin = f"@batch={batch} :chat.server CHATHISTORY TARGETS "
        for line in lines[1:-1]:
            self.assertTrue(line.startswith(begin), line)
        return [line.removeprefix(begin) for line in lines[1:-1]]

    def test_conversations_come_in_the_order_of_their_newest_messages(self) -> None:
        sent = [
            self.send(client, to, text)[0][1]
            for client, to, text in (
                (self.alice, "#dev", "1"),
                (self.alice, "bob", "2"),
                (self.alice, "&all", "3"),
                (self.carol, "alice", "4"),
            )
        ]
        names = ["#dev", "bob", "&ALL", "carol"]
        times = [time.removeprefix("timestamp=") for time in sent]
        whole = [" ".join(pair) for pair in zip(names, times, strict=True)]
        begin, end = "timestamp=1960-01-01T00:00:00.000Z", "timestamp=2100-01-01T00:00:00.000Z"
        self.assertEqual(self.targets(self.alice, begin, end), whole)
        self.assertEqual(self.targets(self.alice, end, begin), whole)
        self.assertEqual(self.targets(self.alice, begin, end, 2), whole[:2])
        self.assertEqual(self.targets(self.alice, end, begin, 2), whole[2:])
        self.assertEqual(self.targets(self.alice, sent[0], sent[3]), whole[1:3])
        self.assertEqual(self.targets(self.alice, sent[3], sent[0]), whole[1:3])
        self.assertEqual(
            [line.split()[0] for line in self.targets(self.carol, begin, end)], ["&ALL", "alice"]
        )
        self.alice.say("PART &ALL")
        self.assertEqual(self.targets(self.alice, begin, end), [*whole[:2], whole[3]])


class RedactTests(HistoryTestCase):
    caps = f"{CAPS} draft/message-redaction"

    def number(self, client: IRCClient, to: str) -> str:
        [(reference, _)] = self.send(client, to, "x")
        return reference.removeprefix("msgid=")

    def test_all_who_could_see_it_are_told_with_the_reason(self) -> None:
        number = self.number(self.bob, "#dev")
        line = f":alice!alice@chat REDACT #dev {number} spam"
        self.assertEqual(self.alice.say(f"REDACT #dev {number} :spam"), [line])
        self.assertEqual(self.bob.lines(), [line])
        self.assertEqual(self.carol.lines(), [])

    def test_without_a_reason_there_is_none(self) -> None:
        number = self.number(self.bob, "&ALL")
        line = f":bob!bob@chat REDACT &ALL {number}"
        self.alice.say("PART &ALL")
        self.assertEqual(self.bob.say(f"@label=1 REDACT &all {number}"), ["@label=1 " + line])
        self.assertEqual((self.alice.lines(), self.carol.lines()), ([], [line]))

    def test_in_direct_messages_the_target_is_that_of_the_message(self) -> None:
        number = self.number(self.alice, "bob")
        line = f":alice!alice@chat REDACT bob {number}"
        self.assertEqual(self.alice.say(f"REDACT bob {number}"), [line])
        self.assertEqual(self.bob.lines(), [line])

    def test_clients_without_the_capability_are_not_told(self) -> None:
        dave = self.join("dave", "#dev", caps="message-tags")
        self.alice.lines()
        number = self.number(self.alice, "#dev")
        dave.lines()
        self.assertEqual(len(self.alice.say(f"REDACT #dev {number}")), 1)
        self.assertEqual(dave.lines(), [])

    def test_what_is_refused(self) -> None:
        number = self.number(self.alice, "#dev")
        direct = self.number(self.alice, "bob")
        unknown = "This message does not exist or is too old"
        for client, request, fail in (
            (self.carol, f"#dev {number}", "INVALID_TARGET #dev :You cannot delete messages from"),
            (self.carol, f"#none {number}", "INVALID_TARGET #none :You cannot delete messages"),
            (self.bob, f"#dev {number}", f"REDACT_FORBIDDEN #dev {number} :You are not authorised"),
            (self.bob, f"alice {direct}", f"REDACT_FORBIDDEN alice {direct} :You are not auth"),
            (self.bob, f"alice {number}", f"UNKNOWN_MSGID alice {number} :{unknown}"),
            (self.carol, f"alice {direct}", f"UNKNOWN_MSGID alice {direct} :{unknown}"),
            (self.alice, "#dev nonexistent", f"UNKNOWN_MSGID #dev nonexistent :{unknown}"),
            (self.alice, "#dev 0", f"UNKNOWN_MSGID #dev 0 :{unknown}"),
            (self.alice, "#dev 99999", f"UNKNOWN_MSGID #dev 99999 :{unknown}"),
        ):
            (line,) = client.say(f"REDACT {request}")
            self.assertTrue(line.startswith(f":chat.server FAIL REDACT {fail}"), line)
        (line,) = self.bob.say("REDACT #dev")
        self.assertIn(" 461 bob REDACT ", line)
        self.assertEqual(len(self.alice.say(f"REDACT #dev {number}")), 1)
        (line,) = self.alice.say(f"REDACT #dev {number}")
        self.assertIn("UNKNOWN_MSGID", line)

    def test_own_messages_can_be_deleted_for_an_hour(self) -> None:
        number = self.number(self.bob, "#dev")
        for _ in range(61):
            self.clock.advance(60)
            for client in (self.alice, self.bob, self.carol):
                client.say("PING x")
        (line,) = self.bob.say(f"REDACT #dev {number}")
        window = DELETE_WITHIN // 1000
        self.assertIn(f"FAIL REDACT REDACT_WINDOW_EXPIRED #dev {number} {window} :", line)

    def test_a_muted_user_deletes_without_a_reason(self) -> None:
        number = self.number(self.bob, "#dev")
        self.hub.ask(Impose(CONSOLE, 0, MUTE, "bob"))
        self.commit()
        self.bob.lines()
        (line,) = self.bob.say(f"REDACT #dev {number} :sorry")
        self.assertIn(f"FAIL REDACT REDACT_FORBIDDEN #dev {number} :", line)
        (line,) = self.bob.say(f"REDACT #dev {number}")
        self.assertEqual(line, f":bob!bob@chat REDACT #dev {number}")

    def test_a_long_reason_is_cut(self) -> None:
        number = self.number(self.bob, "#dev")
        (line,) = self.bob.say(f"REDACT #dev {number} :{'é' * 150}")
        self.assertTrue(line.endswith(" " + "é" * 100), line)

    def test_it_is_told_to_the_framed_door(self) -> None:
        dora = self.user("dora")
        number = self.number(self.bob, "&ALL")
        dora.transport.clear()
        self.bob.say(f"REDACT &ALL {number} :a slip")
        self.assertEqual(
            dora.ask(""),
            f"DELETED ALL\nMessage: {number}\nBy: bob\nContent-length: 6\n\na slip".encode(),
        )


class MarkReadTests(HistoryTestCase):
    caps = f"{CAPS} draft/read-marker"

    def test_a_marker_is_kept_as_it_was_set_and_never_goes_back(self) -> None:
        early, late = "timestamp=1969-06-01T12:00:00.000Z", "timestamp=1970-01-01T00:00:01.123Z"
        self.clock.advance(9)
        bob = self.bob
        for target in ("#dev", "alice", "&ALL"):
            self.assertEqual(bob.say(f"MARKREAD {target}"), [f":chat.server MARKREAD {target} *"])
            for timestamp in (late, early):
                lines = bob.say(f"MARKREAD {target} {timestamp}")
                self.assertEqual(lines, [f":chat.server MARKREAD {target} {late}"])
            lines = bob.say(f"MARKREAD {target}")
            self.assertEqual(lines, [f":chat.server MARKREAD {target} {late}"])
            self.assertEqual(
                self.carol.say(f"MARKREAD {target}"), [f":chat.server MARKREAD {target} *"]
            )

    def test_it_is_the_marker_of_all_doors(self) -> None:
        [_, (reference, timestamp), _] = self.send(self.alice, "#dev", *"123")
        number = int(reference.removeprefix("msgid="))
        user = self.hub.state.names["bob"]
        self.assertEqual(
            self.bob.say(f"MARKREAD #dev {timestamp}"), [f":chat.server MARKREAD #dev {timestamp}"]
        )
        [marker] = user.markers.values()
        self.assertEqual(marker.number, number)
        self.assertEqual(timestamp, f"timestamp={format_time(marker.time)}")

    def test_a_marker_that_another_door_has_set_has_the_time_of_its_message(self) -> None:
        [_, (reference, timestamp), _] = self.send(self.alice, "#dev", *"123")
        number = int(reference.removeprefix("msgid="))
        user = self.hub.state.names["bob"]
        self.hub.ask(MarkRead(user.id, max(user.sessions), "#dev", number))
        self.commit()
        line = f":chat.server MARKREAD #dev {timestamp}"
        self.assertEqual(self.bob.lines(), [line])  # it was moved by another session
        self.assertEqual(self.bob.say("MARKREAD #dev"), [line])
        self.store.unreadable = TookTooLong(retry_after=5)
        (line,) = self.bob.say("MARKREAD #dev")
        self.assertIn("FAIL MARKREAD INTERNAL_ERROR #dev :", line)
        user = self.hub.state.names["alice"]
        self.hub.ask(MarkRead(user.id, max(user.sessions), "#dev", number))
        self.commit()
        self.assertEqual(self.alice.lines(), [])

    def test_a_marker_that_moves_while_its_time_is_read_does_not_go_back(self) -> None:
        [(reference, _), *_, (_, timestamp)] = self.send(self.alice, "#dev", *"123")
        number = int(reference.removeprefix("msgid="))
        user = self.hub.state.names["bob"]
        epoch = max(user.sessions)
        late: Deferred[None] = Deferred()
        read = self.store.read
        self.patch(
            self.store, "read", lambda *args, **kw: late.addCallback(lambda _: read(*args, **kw))
        )
        self.hub.ask(MarkRead(user.id, epoch, "#dev", number))
        self.commit()
        self.assertEqual(self.bob.lines(), [])
        time = parse_time(timestamp.removeprefix("timestamp="))
        self.hub.ask(MarkRead(user.id, epoch, "#dev", number + 2, time))
        self.commit()
        line = f":chat.server MARKREAD #dev {timestamp}"
        self.assertEqual(self.bob.lines(), [line])
        late.callback(None)
        self.assertEqual(self.bob.lines(), [line])

    def test_a_time_to_come_is_now(self) -> None:
        self.send(self.alice, "#dev", "1")
        now = format_time(int(self.hub.wall() * 1000))
        self.assertEqual(
            self.bob.say("MARKREAD #dev timestamp=2262-01-01T00:00:00.000Z"),
            [f":chat.server MARKREAD #dev timestamp={now}"],
        )

    def test_faulty_requests_are_answered(self) -> None:
        for request, fail in (
            ("", "NEED_MORE_PARAMS :Missing parameters"),
            ("#dev *", "INVALID_PARAMS * :Invalid timestamp"),
            ("#dev timestamp=x", "INVALID_PARAMS timestamp=x :Invalid timestamp"),
            ("#dev msgid=1", "INVALID_PARAMS msgid=1 :Invalid timestamp"),
            ("b@d", "INVALID_PARAMS b@d :You have no such conversation"),
            (
                "#none timestamp=1970-01-01T00:00:00.000Z",
                "INVALID_PARAMS #none :You have no such conversation",
            ),
        ):
            lines = self.bob.say(f"MARKREAD {request}".strip())
            self.assertEqual(lines, [f":chat.server FAIL MARKREAD {fail}"])
        self.assertEqual(self.bob.say("MARKREAD #none"), [":chat.server MARKREAD #none *"])

    def test_it_comes_between_join_and_the_names(self) -> None:
        timestamp = "timestamp=1970-01-01T00:00:01.000Z"
        self.clock.advance(9)
        self.bob.say(f"MARKREAD #dev {timestamp}")
        self.bob.say("PART #dev")
        lines = self.bob.say("JOIN #dev")
        self.assertEqual([line.split()[1] for line in lines], ["JOIN", "MARKREAD", "353", "366"])
        self.assertIn(f"MARKREAD #dev {timestamp}", lines[1])
        client = self.client()
        lines = client.say("CAP REQ :draft/read-marker", "NICK dave", "USER d 0 * :d", "CAP END")
        verbs = [line.split()[1] for line in lines]
        self.assertEqual(verbs[-4:], ["JOIN", "MARKREAD", "353", "366"])
        self.assertIn("MARKREAD &ALL *", lines[-3])

    def test_clients_without_the_capability_are_told_nothing(self) -> None:
        lines = self.join("dave").say("JOIN #dev")
        self.assertEqual([line.split()[1] for line in lines], ["JOIN", "353", "366"])
        user = self.hub.state.names["dave"]
        self.hub.ask(MarkRead(user.id, 1, "#dev", 1))
        self.commit()


class AccountHistoryTests(AccountTestCase):
    """Alice's account on two connections."""

    caps = f"{CAPS} draft/read-marker draft/message-redaction"

    def come(self, caps: str) -> tuple[IRCClient, list[str]]:
        client = self.client()
        login = f"PASS :Alice:{PASSWORD}", "NICK alice", "USER a 0 * :a"
        return client, client.say(f"CAP REQ :{caps}", *login, "CAP END")

    def test_other_connections_are_told_of_a_marker_and_find_it_when_they_come(self) -> None:
        bob = self.join("Bob", "#dev")
        one, _ = self.come(self.caps)
        two, _ = self.come(self.caps)
        plain, _ = self.come("server-time")
        one.say("JOIN #dev")
        for client in (two, plain):
            client.say("PART &ALL")
        self.clock.advance(9)
        for client in (one, two, plain, bob):
            client.lines()
        time = "timestamp=1970-01-01T00:00:01.123Z"
        for target, seen in (("#Dev", "#dev"), ("bob", "Bob"), ("nobody", "nobody")):
            self.assertEqual(
                one.say(f"MARKREAD {target} {time}"), [f":chat.server MARKREAD {target} {time}"]
            )
            self.assertEqual(two.lines(), [f":chat.server MARKREAD {seen} {time}"])
        one.say(f"MARKREAD &ALL {time}")
        self.assertEqual([client.lines() for client in (two, plain, bob)], [[], [], []])
        for client in (one, two, plain):
            client.say("QUIT")
        _, lines = self.come(self.caps)
        markers = [line for line in lines if " MARKREAD " in line]
        expected = [f":chat.server MARKREAD {channel} {time}" for channel in ("&ALL", "#dev")]
        self.assertEqual(markers, expected)
        verbs = [line.split()[1] for line in lines]
        ends = [verb for verb in verbs if verb in ("MARKREAD", "366")]
        self.assertEqual(ends, ["MARKREAD", "366", "MARKREAD", "366"])

    def test_a_note_to_oneself_is_found_once_and_can_be_redacted(self) -> None:
        one, _ = self.come(self.caps)
        two, _ = self.come(self.caps)
        one.say("PRIVMSG Alice :remember")
        one.lines()
        two.lines()
        _, line, _ = one.say("CHATHISTORY LATEST alice * 9")
        self.assertIn(" PRIVMSG Alice :remember", line)
        found = re.search(r"msgid=(\d+)", line)
        assert found is not None
        told = f":Alice!Alice@chat REDACT Alice {found[1]}"
        self.assertEqual(one.say(f"REDACT alice {found[1]}"), [told])
        self.assertEqual(two.lines(), [told])
        self.assertEqual(len(one.say("CHATHISTORY LATEST alice * 9")), 2)
