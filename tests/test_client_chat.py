"""The library for bots, with a whole chat in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from chat_twisted.client import (
    ChatClient,
    Event,
    NotConnected,
    NotDelivered,
    Received,
    Refused,
    Room,
    Seen,
    Sent,
    State,
    bot_session,
)
from chat_twisted.client import answers as answers_module
from chat_twisted.client.identity import Identity
from chat_twisted.core.commands import CONSOLE, Disconnect
from chat_twisted.frames import encode
from chat_twisted.testing import Chat

TIME = "2026-11-23T10:00:00.123Z"


class ChatTestCase(TestCase):
    grace = 600

    def setUp(self) -> None:
        self.chat = Chat(grace=self.grace)
        self.addCleanup(self.chat.close)

    def refusal(self, asked: Coroutine[Any, Any, object]) -> int:
        """The code with which a request is refused."""
        return self.assertRaises(Refused, self.chat.run, asked).code

    def texts(self, client: ChatClient) -> list[str]:
        """The messages that ``client`` has received and not yet returned."""
        texts = []
        while True:
            try:
                texts.append(self.chat.run(anext(client)).text)
            except AssertionError:  # no more messages
                return texts

    def lose_for_good(self) -> None:
        self.chat.reactor.reachable = False
        self.chat.cut()
        self.chat.advance(700)

    def lose(self) -> None:
        """Disconnect for longer than the server reserves a name."""
        self.chat.reactor.reachable = False
        self.chat.cut()
        self.chat.advance(self.grace + 1)
        self.chat.reactor.reachable = True


class ConnectTests(ChatTestCase):
    def folder(self) -> Path:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def test_a_client_has_its_name_as_the_server_has_it(self) -> None:
        alice = self.chat.client("Alice")
        self.assertEqual(alice.name, "")
        self.chat.run(alice.connect())
        self.assertEqual(alice.name, "Alice")

    def test_a_name_that_can_not_be_had_is_refused(self) -> None:
        self.chat.join("alice")
        for name, code in (("ALICE", 105), ("a b", 100), ("all", 100), ("x\nQUIT", 100)):
            self.assertEqual(self.refusal(self.chat.client(name).connect()), code)
        self.chat.advance(5)
        self.assertEqual(len(self.chat.reactor.ends), 2, "only alice is connected")

    def test_without_a_server_it_says_why(self) -> None:
        self.chat.reactor.reachable = False
        connecting = self.chat.start(self.chat.client("alice").connect())
        self.chat.advance(1)
        problem = self.failureResultOf(connecting, NotConnected).value
        self.assertEqual(str(problem), "connection refused: no server at chat.example:8828")

    def hosts(self, *hosts: str, **options: Any) -> ChatClient:
        """A client of a chat with these hosts, not connected yet."""
        return ChatClient("bot", hosts, reactor=self.chat.reactor, plain=True, **options)

    def tried(self) -> list[int]:
        return [client[1] for client in self.chat.reactor.tcpClients]

    def test_a_client_goes_to_the_next_host_of_the_chat(self) -> None:
        alice = self.chat.join("alice")
        bot = self.hosts("chat.example:1", "chat.example:2", "chat.example", port=3)
        self.chat.run(bot.connect())
        self.chat.run(bot.join("#dev"))
        self.chat.advance(2)  # the connection has settled
        self.chat.reactor.cut()
        self.chat.settle()
        self.assertEqual(self.tried()[1:3], [1, 2])
        self.chat.advance(1)  # alice has a single host
        self.chat.run(alice.join("#dev"))
        self.chat.run(alice.send("#dev", "hello"))
        self.assertEqual(self.chat.run(anext(bot)).text, "hello")

    def test_without_any_host_it_says_why_for_each(self) -> None:
        self.chat.reactor.reachable = False
        connecting = self.chat.start(self.hosts("chat.example:1", "chat.example").connect())
        self.chat.advance(2)
        problem = self.failureResultOf(connecting, NotConnected).value
        self.assertEqual(
            str(problem),
            "connection refused: no server at chat.example:1; "
            "connection refused: no server at chat.example:8828",
        )

    def test_hosts_that_are_none_are_a_mistake(self) -> None:
        self.assertRaises(NotConnected, self.hosts, "a", "b:x")
        self.assertRaises(NotConnected, self.hosts, "a", "bob@b")
        self.assertRaises(ValueError, self.hosts)

    def test_an_account_is_its_owners(self) -> None:
        alice = self.chat.join("alice")
        self.chat.run(alice.ask("ACCOUNT", "register", (), "secret"))
        self.chat.run(alice.close())
        self.patch(os, "environ", {"XDG_CONFIG_HOME": str(self.folder())})
        self.assertEqual(self.refusal(self.chat.client("alice").connect()), 106)
        wrong = self.chat.start(self.chat.client("alice", password="wrong").connect())
        self.chat.advance(5)
        self.assertEqual(self.failureResultOf(wrong, Refused).value.code, 107)
        self.assertEqual(self.chat.join("alice", password="secret").name, "alice")

    def test_a_key_authenticates_the_user_and_an_unreadable_key_is_reported(self) -> None:
        alice = self.chat.join("alice")
        folder = self.folder()
        key = Identity(folder / "key", own=True)
        self.chat.run(alice.ask("ACCOUNT", "register", (("Key", key.public()),)))
        self.assertEqual(self.chat.join("alice", identity=folder / "key").name, "alice")
        (folder / "key").unlink()
        problem = self.assertRaises(
            NotConnected,
            self.chat.run,
            self.chat.client("alice", identity=folder / "key").connect(),
        )
        self.assertEqual(str(problem), f"{folder / 'key'}: No such file or directory")

    def test_a_client_connects_once(self) -> None:
        alice = self.chat.join("alice")
        self.assertRaises(RuntimeError, self.chat.run, alice.connect())

    def test_before_it_is_connected_nothing_can_be_asked(self) -> None:
        alice = self.chat.client("alice")
        for asked in (alice.send("bob", "x"), alice.who(), anext(alice), alice.watch(print)):
            self.assertRaises(NotConnected, self.chat.run, asked)
        self.chat.run(alice.close())

    def test_a_cancelled_connect_leaves_nothing(self) -> None:
        for turns in range(6):
            alice = self.chat.client("alice")
            connecting = Deferred.fromCoroutine(alice.connect())
            for _ in range(turns):
                calls = self.chat.reactor.getDelayedCalls()
                due = [call for call in calls if call.getTime() <= self.chat.reactor.seconds()]
                if due:
                    call = due[0]
                    function, arguments, keywords = call.func, call.args, call.kw
                    call.cancel()
                    function(*arguments, **keywords)
            if connecting.called:
                self.successResultOf(connecting)
                self.chat.run(alice.close())
                continue
            connecting.cancel()
            self.failureResultOf(connecting, CancelledError)
            self.chat.advance(3)
            self.assertEqual(self.chat.reactor.ends, set(), turns)

    def test_a_fingerprint_that_is_none_is_a_mistake(self) -> None:
        with self.assertRaises(ValueError):
            ChatClient("alice", "h", reactor=self.chat.reactor, fingerprint="SHA256:x")


class SendTests(ChatTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.chat.join("alice"), self.chat.join("bob")

    def test_send_returns_when_the_message_is_committed(self) -> None:
        self.chat.store.seconds = 5
        sending = self.chat.start(self.alice.send("bob", "hello"))
        self.chat.advance(4)
        self.assertNoResult(sending)
        self.chat.advance(1)
        sent = self.successResultOf(sending)
        self.assertEqual(sent.number, 1)
        self.assertEqual(
            self.chat.run(anext(self.bob)), Received(1, sent.time, "alice", "bob", "hello")
        )

    def test_requests_unanswered_when_the_connection_was_lost_are_sent_once(self) -> None:
        self.chat.store.seconds = 0.1
        sending = [self.chat.start(self.alice.send("bob", text)) for text in "ab"]
        self.chat.cut()
        sending.append(self.chat.start(self.alice.send("bob", "c")))
        self.chat.advance(5)
        self.assertEqual([self.successResultOf(each).number for each in sending], [1, 2, 3])
        self.chat.store.seconds = 0
        self.chat.advance(1)
        self.assertEqual(self.texts(self.bob), ["a", "b", "c"])

    def test_the_next_session_of_an_account_sends_its_own_messages(self) -> None:
        self.chat.run(self.alice.ask("ACCOUNT", "register", (), "secret"))
        numbers = []
        for text in ("build 1 is done", "build 2 is done"):
            alice = self.chat.join("alice", password="secret")
            numbers.append(self.chat.run(alice.send("bob", text)).number)
            self.chat.run(alice.close())
        self.assertEqual(numbers, [1, 2])
        self.assertEqual(self.texts(self.bob), ["build 1 is done", "build 2 is done"])

    def test_a_refusal_of_the_server_is_raised(self) -> None:
        for to, code in (("carol", 102), ("#dev", 110), ("a b", 102), ("#a\nb", 102)):
            self.assertEqual(self.refusal(self.alice.send(to, "x")), code)
        refused = self.assertRaises(Refused, self.chat.run, self.alice.send("carol", "x"))
        self.assertEqual(
            (str(refused), refused.reason), ("ERROR 102 Unable to send", "Unable to send")
        )

    def test_a_message_for_which_the_server_would_close_the_connection_is_not_sent(self) -> None:
        ends = set(self.chat.reactor.ends)
        for text, code in (("", 103), ("a\0b", 103), ("x" * 65537, 108)):
            self.assertEqual(self.refusal(self.alice.send("bob", text)), code)
        self.assertEqual(self.chat.reactor.ends, ends)

    def test_delivery_can_be_waited_for(self) -> None:
        self.chat.run(self.alice.send("bob", "hello", delivered=True, timeout=777))
        self.assertEqual(self.texts(self.bob), ["hello"])
        times = {call.getTime() for call in self.chat.reactor.getDelayedCalls()}
        self.assertNotIn(777, times)

    def test_a_delivery_that_does_not_come_is_waited_for_no_longer_than_was_said(self) -> None:
        self.bob._bot.session.pauseProducing()
        sending = self.chat.start(self.alice.send("bob", "hello", delivered=True, timeout=3))
        self.chat.advance(2.9)
        self.assertNoResult(sending)
        self.chat.advance(0.1)
        problem = self.failureResultOf(sending, NotDelivered).value
        self.assertEqual(problem.sent, Sent(1, "1970-01-01T00:00:00.000Z"))
        self.assertEqual(self.chat.run(self.alice.send("bob", "again")).number, 2)

    def test_a_session_that_ends_does_not_hide_that_a_message_was_sent(self) -> None:
        self.bob._bot.session.pauseProducing()
        sending = self.chat.start(self.alice.send("bob", "hello", delivered=True))
        self.lose_for_good()
        self.assertEqual(self.failureResultOf(sending, NotDelivered).value.sent.number, 1)

    def test_a_refused_message_is_not_waited_for(self) -> None:
        before = len(self.chat.reactor.getDelayedCalls())
        self.assertEqual(self.refusal(self.alice.send("carol", "x", delivered=True)), 102)
        self.assertEqual(len(self.chat.reactor.getDelayedCalls()), before)

    def test_only_messages_to_one_user_are_delivered(self) -> None:
        for to in ("ALL", "#dev"):
            self.assertRaises(ValueError, self.chat.run, self.alice.send(to, "x", delivered=True))

    def test_a_cancelled_send_harms_nothing(self) -> None:
        self.chat.store.seconds = 1
        sending = self.chat.start(self.alice.send("bob", "hello", delivered=True))
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        listener = self.alice._bot
        self.assertEqual((listener._awaited, listener._undelivered), (0, {}), "nobody waits")
        self.chat.advance(5)
        self.chat.store.seconds = 0
        self.assertEqual(self.chat.run(self.alice.send("bob", "more")).number, 2)

    def test_requests_unanswered_when_the_session_is_lost_are_not_waited_for(self) -> None:
        self.chat.store.seconds = 10_000
        sending = self.chat.start(self.alice.send("bob", "hello"))
        self.lose_for_good()
        self.failureResultOf(sending, NotConnected)
        self.assertRaises(NotConnected, self.chat.run, self.alice.send("bob", "more"))


class QueueTests(ChatTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.bot, self.alice = self.chat.join("bot"), self.chat.join("alice")

    def flood(self, count: int, first: int = 0) -> list[str]:
        texts = [f"{number} {'x' * 1000}" for number in range(first, first + count)]
        for text in texts:
            self.chat.run(self.alice.send("bot", text))
        return texts

    def waiting(self) -> int:
        return len(self.bot._bot._messages)

    def test_a_slow_bot_is_not_sent_more_than_it_can_keep(self) -> None:
        texts = self.flood(1000)
        self.assertLess(self.waiting(), 400)
        self.assertEqual(self.texts(self.bot), texts)

    def test_a_slow_bot_gets_its_answers_all_the_same(self) -> None:
        texts = self.flood(600)
        self.assertEqual(self.chat.run(self.bot.send("alice", "busy")).number, 601)
        self.assertEqual(self.texts(self.bot), texts)
        self.assertEqual(self.texts(self.alice), ["busy"])

    def test_messages_for_which_a_bot_has_no_room_are_fetched_later_and_once(self) -> None:
        self.patch(bot_session, "QUEUE", 20 * 1024)
        self.patch(bot_session, "MAX_QUEUE", 40 * 1024)
        texts = self.flood(300)
        self.chat.run(self.bot.send("alice", "busy"))
        self.assertEqual(self.waiting(), 40)
        texts += self.flood(10, first=300)
        got: list[str] = []
        for _ in range(100):
            got += self.texts(self.bot)
            sending = self.chat.start(self.bot.send("alice", "still busy"))
            self.assertLessEqual(self.waiting(), 40)
            self.chat.advance(1)
            self.successResultOf(sending)
        self.assertEqual(got, texts)

    def test_without_reconnecting_it_ends_there(self) -> None:
        self.patch(bot_session, "QUEUE", 20 * 1024)
        self.patch(bot_session, "MAX_QUEUE", 40 * 1024)
        self.bot = self.chat.join("bot2", reconnect_for=0)
        for _ in range(60):
            self.chat.run(self.alice.send("bot2", "x"))
        self.chat.run(self.bot.who())
        for _ in range(40):
            self.chat.run(anext(self.bot))
        problem = self.assertRaises(NotConnected, self.chat.run, anext(self.bot))
        self.assertEqual(str(problem), "more was said than could be read")

    def test_a_bot_that_answers_in_a_flood_answers_all(self) -> None:
        async def echo() -> None:
            async for message in self.bot:
                await self.bot.send(message.sender, message.text)

        self.chat.start(echo())
        texts = self.flood(700)
        self.assertEqual(self.texts(self.alice), texts)

    def test_a_bot_that_does_not_listen_keeps_nothing(self) -> None:
        logger = self.chat.join("logger", listen=False)
        self.chat.run(self.alice.send("logger", "hello", delivered=True))
        self.assertEqual(len(logger._bot._messages), 0)
        self.assertRaises(RuntimeError, aiter, logger)


class ListenTests(ChatTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.bot, self.alice = self.chat.join("bot"), self.chat.join("alice")
        self.heard: list[str] = []

    async def listen(self) -> None:
        async for message in self.bot:
            self.heard.append(message.text)

    def test_a_message_comes_with_its_sender_and_recipient(self) -> None:
        for room in (self.bot.join("#dev"), self.alice.join("#dev")):
            self.chat.run(room)
        for to in ("BOT", "#DEV", "all"):
            self.chat.run(self.alice.send(to, "hello"))
        messages = [self.chat.run(anext(self.bot)) for _ in range(3)]
        self.assertEqual([each.to for each in messages], ["bot", "#dev", "ALL"])
        self.assertEqual({each.sender for each in messages}, {"alice"})

    def test_it_ends_after_the_messages_received_when_the_client_is_closed(self) -> None:
        self.chat.run(self.alice.send("bot", "hello"))
        listening = self.chat.start(self.listen())
        self.chat.run(self.bot.close())
        self.successResultOf(listening)
        self.assertEqual(self.heard, ["hello"])

    def test_messages_not_taken_before_close_can_be_taken_after(self) -> None:
        self.chat.run(self.alice.send("bot", "hello"))
        self.chat.run(self.bot.close())
        self.chat.run(self.listen())
        self.assertEqual(self.heard, ["hello"])

    def test_it_goes_on_when_the_connection_is_lost_and_misses_nothing(self) -> None:
        listening = self.chat.start(self.listen())
        self.chat.cut()
        self.chat.start(self.alice.send("bot", "meanwhile"))
        self.chat.advance(2)
        self.assertEqual(self.heard, ["meanwhile"])
        self.assertNoResult(listening)

    def test_it_fails_when_the_session_is_lost_for_good(self) -> None:
        listening = self.chat.start(self.listen())
        self.lose_for_good()
        self.failureResultOf(listening, NotConnected)
        self.assertRaises(NotConnected, self.chat.run, anext(self.bot))

    def test_the_last_error_of_the_server_is_the_reason_of_the_end(self) -> None:
        listening = self.chat.start(self.listen())
        self.chat.hub.ask(Disconnect(CONSOLE, 0, "bot", "spam\x1b[2J"))
        self.chat.settle()
        problem = self.failureResultOf(listening, NotConnected).value
        self.assertEqual(str(problem), "Kicked by admin: spam\u241b[2J")

    def test_a_cancelled_wait_takes_no_message_away(self) -> None:
        waiting = self.chat.start(anext(self.bot))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.chat.run(self.alice.send("bot", "hello"))
        self.assertEqual(self.texts(self.bot), ["hello"])

    def test_a_task_that_is_woken_may_cancel_another_one_that_waits(self) -> None:
        async def first() -> None:
            self.heard.append((await anext(self.bot)).text)
            other.cancel()

        self.chat.start(first())
        other = self.chat.start(anext(self.bot))
        self.chat.run(self.alice.send("bot", "hello"))
        self.failureResultOf(other, CancelledError)
        self.assertEqual(self.heard, ["hello"])

    def test_two_tasks_that_wait_get_a_message_each(self) -> None:
        waiting = [self.chat.start(anext(self.bot)) for _ in range(2)]
        for text in ("one", "two"):
            self.chat.run(self.alice.send("bot", text))
        self.assertEqual(
            sorted(self.successResultOf(each).text for each in waiting), ["one", "two"]
        )


class AnswerTests(ChatTestCase):
    def test_an_answer_goes_where_the_message_was_said(self) -> None:
        bot, alice = self.chat.join("bot"), self.chat.join("alice")
        for client in (bot, alice):
            self.chat.run(client.join("#dev"))
        for to in ("bot", "#dev", "ALL"):
            self.chat.run(alice.send(to, "hello"))
            message = self.chat.run(anext(bot))
            self.chat.run(bot.answer(message, "hi"))
            self.assertEqual(self.chat.run(anext(alice)).to, to.replace("bot", "alice"))

    def test_one_user_gets_so_many_answers_at_once_and_one_more_every_ten_seconds(self) -> None:
        bot, alice, bob = (self.chat.join(name) for name in ("bot", "alice", "bob"))
        self.chat.run(alice.send("bot", "hello"))
        message = self.chat.run(anext(bot))
        for _ in range(answers_module.ANSWERS):
            self.chat.run(bot.answer(message, "hi"))
        for seconds in (0, 9):
            self.chat.advance(seconds)
            problem = self.failureResultOf(self.chat.start(bot.answer(message, "hi")), Refused)
            self.assertEqual(problem.value.code, 109)
            self.assertIn("alice had 20 answers already", str(problem.value))
        self.chat.advance(1)
        self.chat.run(bot.answer(message, "hi"))
        self.failureResultOf(self.chat.start(bot.answer(message, "hi")), Refused)
        self.chat.run(bob.send("bot", "hello"))
        self.chat.run(bot.answer(self.chat.run(anext(bot)), "hi"))
        self.chat.run(bot.send("alice", "not an answer"))

    def test_two_bots_that_answer_all_that_is_said_fall_silent(self) -> None:
        async def answer_all(client: ChatClient) -> None:
            async for message in client:
                with contextlib.suppress(Refused):
                    await client.answer(message, "hello")

        bots = [self.chat.join(name) for name in ("one", "two")]
        for bot in bots:
            self.chat.start(answer_all(bot))
        alice = self.chat.join("alice", listen=False)
        self.chat.run(alice.send("ALL", "hello"))
        said = self.chat.run(alice.history("ALL", 1000))
        self.assertLessEqual(len(said), 1 + len(bots) * (answers_module.ANSWERS + 1))

    def test_a_message_of_ones_own_is_not_answered(self) -> None:
        alice = self.chat.join("alice")
        own = Received(1, "t", "Alice", "ALL", "hello")
        problem = self.failureResultOf(self.chat.start(alice.answer(own, "hello")), Refused).value
        self.assertEqual(problem.code, 111)

    def test_it_is_remembered_of_so_many_how_many_answers_they_had(self) -> None:
        self.patch(answers_module, "MAX_ANSWERED", 3)
        answers = answers_module.AnswerLimit(Clock())
        for number in range(10):
            self.assertTrue(answers.spend(f"user{number}"))
        self.assertEqual(len(answers._given), 3)


class CloseTests(ChatTestCase):
    def test_close_says_goodbye_so_that_the_name_is_free(self) -> None:
        for _ in range(2):
            alice = self.chat.join("alice")
            self.chat.run(alice.close())
            self.chat.run(alice.close())
            self.assertEqual(self.chat.reactor.ends, set())

    def test_with_closes_too(self) -> None:
        async def talk() -> list[Seen]:
            async with self.chat.client("alice") as alice:
                return await alice.who()

        self.assertEqual(self.chat.run(talk()), [Seen("alice", State.HERE)])
        self.assertEqual(self.chat.reactor.ends, set())

    def test_earlier_requests_are_answered_earlier(self) -> None:
        alice, bob = self.chat.join("alice"), self.chat.join("bob")
        sending = Deferred.fromCoroutine(alice.send("bob", "bye"))
        self.chat.run(alice.close())
        self.assertEqual(self.successResultOf(sending).number, 1)
        self.assertEqual(self.texts(bob), ["bye"])
        self.assertRaises(NotConnected, self.chat.run, alice.send("bob", "more"))

    def test_messages_after_goodbye_are_left_for_the_next_login(self) -> None:
        bot = self.chat.join("bot")
        closing = Deferred.fromCoroutine(bot.close())
        headers = [("To", "bot"), ("Message", 1), ("Time", TIME)]
        bot._bot.session.dataReceived(encode("FORWARD", "alice", headers, "too late"))
        self.chat.settle()
        self.successResultOf(closing)
        self.assertRaises(StopAsyncIteration, self.chat.run, anext(bot))

    def test_a_server_that_does_not_answer_is_not_waited_for(self) -> None:
        alice = self.chat.join("alice")
        self.chat.join("bob")
        self.chat.store.seconds = 100
        sending = self.chat.start(alice.send("bob", "x"))
        for end in self.chat.reactor.ends:
            end.pauseProducing()
        closing = self.chat.start(alice.close())
        self.assertNoResult(closing)
        self.chat.advance(2)
        self.successResultOf(closing)
        self.failureResultOf(sending, NotConnected)

    def test_a_connection_that_is_being_made_is_given_up(self) -> None:
        alice = self.chat.client("alice")
        connecting = Deferred.fromCoroutine(alice.connect())
        self.chat.run(alice.close())
        self.failureResultOf(connecting, NotConnected)
        self.assertEqual(self.chat.reactor.ends, set())

    def test_a_lost_connection_is_not_tried_again(self) -> None:
        alice = self.chat.join("alice")
        self.chat.reactor.reachable = False
        self.chat.cut()
        self.chat.run(alice.close())
        self.chat.reactor.reachable = True
        self.chat.advance(60)
        self.assertEqual(self.chat.reactor.ends, set())

    def test_a_slow_bot_can_be_closed(self) -> None:
        bot, alice = self.chat.join("bot"), self.chat.join("alice")
        for _ in range(1000):
            self.chat.run(alice.send("bot", "x"))
        self.chat.run(bot.close())

    def test_the_reactors_end_closes_the_client(self) -> None:
        alice = self.chat.join("alice")

        async def listen() -> None:
            async for _ in alice:
                pass

        listening = self.chat.start(listen())
        [(close, _, _)] = self.chat.reactor.triggers["before"]["shutdown"]
        close()
        self.chat.settle()
        self.successResultOf(listening)
        self.assertEqual(self.chat.join("alice").name, "alice")


class RoomTests(ChatTestCase):
    grace = 60

    def setUp(self) -> None:
        super().setUp()
        self.events: list[Event] = []
        self.bot = self.chat.join("bot", on_event=self.events.append)
        self.alice = self.chat.join("alice")

    def test_rooms(self) -> None:
        run, alice, bot = self.chat.run, self.alice, self.bot
        self.assertEqual(run(alice.join("#dev", private=True)), "")
        self.assertEqual(run(alice.topic("#dev", "plans")), "plans")
        self.assertEqual(self.refusal(bot.join("#dev")), 111)
        run(alice.invite("#dev", "bot"))
        self.assertEqual(run(bot.join("#Dev")), "plans")
        self.assertEqual(run(bot.topic("#dev")), "plans")
        self.assertEqual(run(bot.rooms()), [Room("#dev", 2, True, True)])
        self.assertEqual([each.user for each in run(bot.members("#dev"))], ["alice", "bot"])
        run(alice.leave("#dev"))
        self.assertEqual(
            [(event.verb, event.room, event.user) for event in self.events],
            [
                ("INVITED", "#dev", "bot"),
                ("LEFT", "#dev", "alice"),
                ("RANK", "#dev", "bot"),
            ],
        )
        for asked, code in (
            (bot.leave("#none"), 110),
            (bot.join("dev"), 110),
            (bot.topic("#dev", "a\nb"), 111),
            (bot.invite("#dev", "x\ny"), 100),
            (bot.invite("#dev", "nobody"), 102),
        ):
            self.assertEqual(self.refusal(asked), code)

    def test_a_bot_is_known_as_one(self) -> None:
        profile = self.chat.run(self.alice.whois("bot"))
        self.assertEqual((profile.user, profile.bot, profile.real_name), ("bot", True, ""))

    def test_ranks_and_modes(self) -> None:
        run, alice, bot = self.chat.run, self.alice, self.bot
        run(alice.join("#dev"))
        run(bot.join("#dev"))
        run(alice.set_rank("#dev", "bot", "voice"))
        run(alice.set_mode("#dev", "moderated"))
        run(alice.set_mode("#dev", "topic"))
        self.assertEqual(self.refusal(bot.topic("#dev", "plans")), 111)
        run(alice.set_mode("#dev", "topic", False))
        self.assertEqual(run(bot.modes("#dev")), ["moderated"])
        self.assertEqual(
            [(each.user, each.rank) for each in run(bot.members("#dev"))],
            [("alice", "operator"), ("bot", "voice")],
        )
        self.assertEqual(
            [(e.verb, e.by, e.user, e.rank, e.mode, e.on) for e in self.events],
            [
                ("RANK", "alice", "bot", "voice", "", False),
                ("MODE", "alice", "", "", "moderated", True),
                ("MODE", "alice", "", "", "topic", True),
                ("MODE", "alice", "", "", "topic", False),
            ],
        )
        self.assertEqual(self.refusal(bot.set_rank("#dev", "alice", "none")), 111)

    def test_kicks_and_bans_have_reasons(self) -> None:
        run, alice, bot = self.chat.run, self.alice, self.bot
        run(alice.join("#dev"))
        run(bot.join("#dev"))
        run(alice.kick("#dev", "bot", "too loud"))
        run(alice.ban("#dev", "bot", "spam"))
        self.assertEqual(self.refusal(bot.join("#dev")), 111)
        [line] = run(alice.bans("#dev"))
        self.assertTrue(line.startswith("bot "), line)
        self.assertTrue(line.endswith(" alice spam"), line)
        run(alice.unban("#dev", "bot"))
        run(bot.join("#dev"))
        run(alice.leave("#dev", "so long"))
        said = [(event.verb, event.user, event.by, event.reason) for event in self.events]
        self.assertIn(("LEFT", "bot", "alice", "too loud"), said)
        self.assertIn(("LEFT", "alice", "", "so long"), said)

    def test_a_new_name_is_ones_own_and_told_to_those_in_the_room(self) -> None:
        run, alice, bot = self.chat.run, self.alice, self.bot
        run(alice.join("#dev"))
        run(bot.join("#dev"))
        run(alice.rename("alicia"))
        self.assertEqual(alice.name, "alicia")
        self.assertEqual(
            [(e.verb, e.user, e.new_name) for e in self.events], [("RENAMED", "alice", "alicia")]
        )
        self.assertEqual(self.refusal(alice.rename("bot")), 105)
        self.assertEqual(self.refusal(alice.rename("x y")), 100)
        self.chat.cut()
        self.chat.advance(5)
        run(bot.send("alicia", "hello"))
        self.assertEqual(run(anext(alice)).text, "hello")

    def test_a_rename_whose_answer_was_lost_leaves_the_user_the_same(self) -> None:
        self.chat.store.seconds = 0.1
        renaming = self.chat.start(self.alice.rename("alicia"))
        self.chat.advance(0.05)
        self.chat.cut()
        self.chat.advance(5)
        self.successResultOf(renaming)
        self.assertEqual(self.alice.name, "alicia")
        self.chat.start(self.bot.send("alicia", "hello"))
        self.chat.advance(1)
        self.assertEqual(self.chat.run(anext(self.alice)).text, "hello")

    def test_a_user_forgotten_by_the_server_joins_its_rooms_again(self) -> None:
        for room in ("#dev", "#ops"):
            self.chat.run(self.bot.join(room))
        self.chat.run(self.bot.leave("#ops"))
        self.chat.run(self.bot.join("#plans", private=True))
        self.lose()
        self.chat.advance(60)
        self.assertEqual(
            self.chat.run(self.bot.rooms()),
            [Room("#dev", 1, True, False), Room("#plans", 1, True, True)],
        )

    def test_a_user_removed_from_a_room_does_not_join_it_again(self) -> None:
        self.chat.run(self.alice.join("#dev"))
        self.chat.run(self.bot.join("#dev"))
        self.chat.run(self.alice.ask("KICK", "#dev", (("User", "bot"),)))
        self.lose()
        self.chat.advance(60)
        self.assertEqual(self.chat.run(self.bot.rooms()), [Room("#dev", 1, False, False)])

    def test_a_room_that_can_not_be_joined_again_is_let_go(self) -> None:
        self.chat.run(self.alice.join("#dev", private=True))
        self.chat.run(self.alice.invite("#dev", "bot"))
        self.chat.run(self.bot.join("#dev"))
        self.chat.run(self.alice.ask("ACCOUNT", "register", (), "secret"))
        self.lose()
        self.chat.advance(60)
        self.assertEqual(self.chat.run(self.bot.rooms()), [])
        self.assertEqual(self.bot._bot.session._restoration._rooms, {})


class ReadingTests(ChatTestCase):
    def test_history_and_search(self) -> None:
        run, alice, bob = self.chat.run, self.chat.join("alice"), self.chat.join("bob")
        for number in range(5):
            self.chat.advance(1)
            run(alice.send("bob", f"number {number}"))

        def numbers(asked: Coroutine[Any, Any, list[Received]]) -> list[int]:
            return [int(message.text[-1]) for message in run(asked)]

        at = datetime.fromtimestamp
        self.assertEqual(numbers(bob.history("alice")), [0, 1, 2, 3, 4])
        self.assertEqual(numbers(bob.history("alice", 2)), [3, 4])
        self.assertEqual(numbers(bob.history("alice", 2, after=1)), [1, 2])
        self.assertEqual(numbers(bob.history("alice", before=3)), [0, 1])
        self.assertEqual(numbers(bob.history("alice", since=at(4, UTC))), [3, 4])
        self.assertEqual(numbers(bob.history("alice", until=at(2, UTC))), [0, 1])
        self.assertEqual(len(numbers(bob.history("alice", since=datetime(2, 1, 1, tzinfo=UTC)))), 5)
        self.assertEqual(numbers(bob.search("NUMBER 3")), [3])
        self.assertEqual(len(numbers(bob.search("number", "alice", 2))), 2)
        for asked, code in (
            (bob.history("#dev"), 110),
            (bob.history("a b"), 102),
            (bob.search(" "), 103),
            (bob.search("a\0"), 103),
            (bob.search("x" * 501), 111),
        ):
            self.assertEqual(self.refusal(asked), code)
        for asked in (bob.history("ALL", -1), bob.history("ALL", after=10**18)):
            self.assertRaises(ValueError, run, asked)


class PresenceTests(ChatTestCase):
    grace = 60

    def setUp(self) -> None:
        super().setUp()
        self.bot = self.chat.join("bot")
        self.seen: list[Seen] = []

    def take(self) -> list[tuple[str, State, str]]:
        self.chat.advance(1)  # the server collects changes for half a second
        seen = [(each.user, each.state, each.why) for each in self.seen]
        self.seen.clear()
        return seen

    def test_users_coming_and_going_are_reported(self) -> None:
        here = self.chat.run(self.bot.watch(self.seen.append))
        self.assertEqual(here, [Seen("bot", State.HERE)])
        alice = self.chat.join("alice")
        self.assertEqual(self.take(), [("alice", State.HERE, "")])
        self.chat.run(alice.set_away("lunch"))
        self.assertEqual(self.take(), [("alice", State.AWAY, "lunch")])
        self.assertEqual(self.chat.run(self.bot.who())[0], Seen("alice", State.AWAY, "lunch"))
        self.chat.run(alice.set_back())
        self.assertEqual(self.take(), [("alice", State.HERE, "")])
        self.chat.run(alice.close())
        self.assertEqual(self.take(), [("alice", State.GONE, "")])
        self.chat.run(self.bot.watch(None))
        self.chat.join("bob")
        self.assertEqual(self.take(), [])

    def test_changes_while_the_connection_was_lost_are_reported(self) -> None:
        alice = self.chat.join("alice", reconnect_for=0)
        self.chat.join("bob")
        self.chat.run(self.bot.watch(self.seen.append))
        self.take()
        self.chat.reactor.reachable = False
        self.chat.cut()
        self.assertRaises(NotConnected, self.chat.run, alice.who())
        self.chat.reactor.reachable = True
        self.chat.advance(20)
        self.assertEqual(self.take()[:1], [("alice", State.GONE, "")])
        self.chat.join("carol")
        self.assertEqual(self.take(), [("carol", State.HERE, "")])

    def test_a_user_who_is_away_stays_away_for_a_server_that_has_forgotten_it(self) -> None:
        self.chat.run(self.bot.set_away("busy"))
        self.lose()
        self.chat.advance(60)
        self.assertEqual(self.chat.run(self.bot.who()), [Seen("bot", State.AWAY, "busy")])

    def test_a_reason_that_is_not_a_line_is_refused(self) -> None:
        for why in ("a\nb", "x" * 201):
            self.assertEqual(self.refusal(self.bot.set_away(why)), 111)

    def test_an_error_in_a_callback_is_logged_and_harms_nothing(self) -> None:
        def wrong(_: Seen) -> None:
            raise ZeroDivisionError

        self.chat.run(self.bot.watch(wrong))
        ends = set(self.chat.reactor.ends)
        self.chat.join("alice")
        self.take()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertLess(ends, self.chat.reactor.ends)


class TellTests(ChatTestCase):
    def test_notices_of_the_server_are_reported_without_control_characters(self) -> None:
        told: list[str] = []
        client = self.chat.join("alice", tell=told.append)
        client._bot.noticed("one\ntwo\x1b")
        self.assertEqual(told, ["one\ntwo\u241b"])


class AsyncioTests(ChatTestCase):
    """The same in asyncio tasks, on their own loop; the chat runs between steps."""

    async def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run ``coroutine`` as a task, together with the chat."""
        task = asyncio.create_task(coroutine)
        for _ in range(1000):
            if task.done():
                break
            self.chat.settle()
            await asyncio.sleep(0)
        else:
            task.cancel()
        return await task

    async def join(self, user: str) -> ChatClient:
        client = self.chat.client(user)
        await self.wait(client.connect())
        return client

    def test_everything_can_be_awaited_by_a_task(self) -> None:
        async def main() -> None:
            alice, bob = await self.join("alice"), await self.join("bob")
            sent = await self.wait(alice.send("bob", "hello", delivered=True))
            message = await self.wait(anext(bob))
            self.assertEqual((sent.number, message.text), (message.number, "hello"))
            self.assertEqual(await self.wait(alice.join("#dev")), "")
            with self.assertRaises(Refused):
                await self.wait(alice.send("carol", "x"))
            await self.wait(alice.close())

        asyncio.run(main())

    def test_the_tools_of_asyncio_for_several_coroutines_work(self) -> None:
        async def main() -> None:
            alice, bob = await self.join("alice"), await self.join("bob")

            async def both() -> list[int]:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(alice.send("bob", text)) for text in "ab"]
                more = await asyncio.gather(*(alice.send("bob", text) for text in "cd"))
                return [each.number for each in (*(task.result() for task in tasks), *more)]

            self.assertEqual(await self.wait(both()), [1, 2, 3, 4])
            texts = [(await self.wait(anext(bob))).text for _ in range(4)]
            self.assertEqual(texts, ["a", "b", "c", "d"])

        asyncio.run(main())

    def test_a_task_can_be_cancelled_and_loses_nothing(self) -> None:
        async def main() -> None:
            alice, bob = await self.join("alice"), await self.join("bob")
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(bob), 0.001)
            listening = asyncio.create_task(anext(bob))
            await asyncio.sleep(0)
            listening.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await listening
            await self.wait(alice.send("bob", "hello"))
            self.assertEqual((await self.wait(anext(bob))).text, "hello")
            self.assertEqual(bob._bot.notifier._waiting, {})

        asyncio.run(main())

    def test_a_cancelled_connect_leaves_nothing(self) -> None:
        async def main() -> None:
            connecting = asyncio.create_task(self.chat.client("alice").connect())
            await asyncio.sleep(0)
            connecting.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await connecting
            await asyncio.sleep(0)
            self.chat.settle()
            self.assertEqual(self.chat.reactor.ends, set())

        asyncio.run(main())

    def test_closing_a_client_that_connects_is_no_cancelled_task(self) -> None:
        async def main() -> None:
            alice = self.chat.client("alice")
            connecting = asyncio.create_task(alice.connect())
            await asyncio.sleep(0)
            await self.wait(alice.close())
            with self.assertRaises(NotConnected):
                await connecting

        asyncio.run(main())

    def test_a_coroutine_of_twisteds_that_a_task_starts_is_twisteds(self) -> None:
        async def main() -> None:
            alice = await self.join("alice")
            await self.join("bob")
            loop = asyncio.get_running_loop()

            async def through_twisted() -> Sent:
                sending = Deferred.fromCoroutine(alice.send("bob", "hello"))
                return await sending.asFuture(loop)

            self.assertEqual((await self.wait(through_twisted())).number, 1)

        asyncio.run(main())

    def test_a_delivery_that_does_not_come_is_said_to_a_task(self) -> None:
        async def main() -> None:
            alice, bob = await self.join("alice"), await self.join("bob")
            bob._bot.session.pauseProducing()
            sending = asyncio.create_task(alice.send("bob", "hello", delivered=True, timeout=3))
            for _ in range(10):
                await asyncio.sleep(0)
                self.chat.settle()
            self.chat.advance(3)
            with self.assertRaises(NotDelivered):
                await sending

        asyncio.run(main())
