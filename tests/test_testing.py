"""The chat in memory that tests of bots are written on."""

from __future__ import annotations

import textwrap

from twisted.internet.task import LoopingCall
from twisted.trial.unittest import TestCase

from chat_twisted import testing
from chat_twisted.client import ChatClient, NotConnected
from chat_twisted.testing import Chat
from tests.test_examples import load


class ChatTests(TestCase):
    def setUp(self) -> None:
        self.chat = Chat()
        self.addCleanup(self.chat.close)

    def test_the_example_in_its_docstring_runs(self) -> None:
        assert testing.__doc__ is not None
        _, _, rest = testing.__doc__.partition("::\n")
        example, _, _ = rest.partition("\n\nThis module")
        exec(textwrap.dedent(example), {"Chat": Chat, "echo": load("echo").echo})

    def test_what_waits_for_something_that_does_not_happen_is_a_failed_test(self) -> None:
        alice = self.chat.join("alice")
        self.assertRaises(AssertionError, self.chat.run, anext(alice))

    def test_what_goes_on_for_ever_is_one_too(self) -> None:
        self.patch(testing, "MAX_STEPS", 1000)

        async def answer(client: ChatClient) -> None:
            async for message in client:
                await client.send(message.sender, message.text)

        one, two = self.chat.join("one"), self.chat.join("two")
        for client in (one, two):
            self.chat.start(answer(client))
        problem = self.assertRaises(AssertionError, self.chat.run, one.send("two", "hello"))
        self.assertEqual(str(problem), "it goes on for ever")

    def test_time_passes_in_its_order(self) -> None:
        times: list[float] = []
        looping = LoopingCall(lambda: times.append(self.chat.reactor.seconds()))
        looping.clock = self.chat.reactor
        looping.start(1, now=False)
        self.chat.advance(3.5)
        self.assertEqual((times, self.chat.reactor.seconds()), ([1, 2, 3], 3.5))
        looping.stop()

    def test_what_can_not_be_written_is_said_when_it_can(self) -> None:
        alice, bob = self.chat.join("alice"), self.chat.join("bob")
        self.chat.store.broken = OSError("the disk is full")
        sending = self.chat.start(alice.send("bob", "hello"))
        self.chat.advance(60)
        self.assertNoResult(sending)
        self.chat.store.broken = None
        self.chat.advance(10)
        self.assertEqual(self.chat.run(anext(bob)).number, self.successResultOf(sending).number)

    def test_clients_that_are_cut_off_come_back_when_they_can(self) -> None:
        alice = self.chat.join("alice")
        self.chat.reactor.reachable = False
        self.chat.cut()
        self.assertRaises(AssertionError, self.chat.run, alice.who())
        self.chat.reactor.reachable = True
        self.chat.advance(1)
        self.assertEqual(len(self.chat.run(alice.who())), 1)

    def test_the_end_of_the_server_is_seen(self) -> None:
        with Chat() as chat:
            alice = chat.join("alice", reconnect_for=0)
        problem = self.assertRaises(NotConnected, self.chat.run, anext(alice))
        self.assertEqual(str(problem), "The server is stopping")
