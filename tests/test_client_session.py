"""The client's session: its output, and its calls of the listener."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Coroutine
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from chat_twisted.client.identity import MAX_TRIES, Identity
from chat_twisted.client.incoming import seen
from chat_twisted.client.login import Credentials
from chat_twisted.client.session import ClientSession
from chat_twisted.frames import Frame, encode
from chat_twisted.ui.errors import ClientError, IdentityError, NotConnected, Refused, Sent
from chat_twisted.ui.values import Event, Marker, Received, Refusal
from tests.door import Transport
from tests.wire import frames

TIME = "2026-11-23T10:00:00.123Z"
TIMED = ("Time", TIME)
CHALLENGE = b"c" * 32

REGISTERED = b"REGISTERED alice\nVersion: 2\nSession: x\nMax-message: 100\nLast: 0\n\n"


class Log:
    """A listener that records its calls, and the answers to requests."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def refused(self, problem: Refused) -> None:
        self.events.append(("refused", None, problem.refusal))

    def not_registered(self, problem: ClientError) -> None:
        reason = problem.refusal if isinstance(problem, Refused) else str(problem)
        self.events.append(("not_registered", reason))

    def record(self, id: int, answered: Deferred[Any]) -> None:
        """Record the answer to a request."""
        answered.addCallbacks(
            lambda answer: self.events.append(("answered", id, answer)),
            lambda failure: self._failed(id, failure),
        )

    def _failed(self, id: int, failure: Failure) -> None:
        failure.trap(Refused, NotConnected)
        problem = failure.value
        reason = problem.refusal if isinstance(problem, Refused) else str(problem)
        self.events.append(("refused" if isinstance(problem, Refused) else "ended", id, reason))

    def __getattr__(self, name: str):
        return lambda *arguments: self.events.append((name, *arguments))


class Key(Identity):
    """A key whose signatures are short."""

    def __init__(self, *, password: str = "", key: bool = True) -> None:
        super().__init__(Path("no key"), own=not key, password=password)

    def sign(self, challenge: bytes, name: str, binding: bytes) -> tuple[str, bytes]:
        assert (challenge, name, binding) == (CHALLENGE, "alice", b"")
        return "k", b"s"


class Asking(TestCase):
    """Makes requests with a session, and records their answers in a log."""

    clock: Clock
    log: Log
    session: ClientSession

    def setUp(self) -> None:
        self.clock = Clock()
        self.log = Log()
        self.ids = count(1)  # of the requests
        self.passwords: list[str] = []  # what the user answers when they are asked
        self.questions: list[str] = []
        self.identity = Key(key=False)

    def new_session(self, *arguments: Any, **settings: Any) -> ClientSession:
        credentials = Credentials(self.identity, self.ask_password)
        return ClientSession("alice", self.log, credentials, self.clock, *arguments, **settings)

    def ask_password(self, what: str) -> Deferred[str]:
        self.questions.append(what)
        if not self.passwords:
            return fail(IdentityError("No password of alice was given"))
        return succeed(self.passwords.pop(0))

    def ask(self, *request: Any) -> int:
        """Make a request of the protocol; return its ID."""
        return self.record(self.session.ask(*request))

    def send(self, to: str, text: str) -> int:
        """Send a message; return the ID of the request."""
        return self.record(self.session.send(to, text))

    def record(self, request: Deferred[Any] | Coroutine[Any, Any, Any]) -> int:
        if not isinstance(request, Deferred):
            request = Deferred.fromCoroutine(request)
        id = next(self.ids)
        self.log.record(id, request)
        return id


class SessionTestCase(Asking):
    def setUp(self) -> None:
        super().setUp()
        self.session = self.new_session(first_id=1, instance="i")
        self.transport = Transport()
        self.session.makeConnection(self.transport)

    def hear(self, data: bytes) -> bytes:
        """Receive data from the server; return the session's answer."""
        self.transport.clear()
        self.session.dataReceived(data)
        return self.transport.take()

    def take(self) -> list[tuple[object, ...]]:
        events, self.log.events = self.log.events, []
        return events

    def lose(self, reason: Exception | None = None) -> None:
        self.session.connectionLost(Failure(reason or ConnectionDone()))


class RegistrationTests(SessionTestCase):
    def test_a_new_connection_registers_the_user(self) -> None:
        self.assertEqual(self.transport.take(), b"REGISTER alice\nVersion: 2\nInstance: i\n\n")
        self.hear(REGISTERED)
        self.assertEqual(self.take(), [("registered", "alice")])
        self.assertEqual(self.session.max_message, 100)

    def test_a_refused_registration_is_told_and_the_session_quits(self) -> None:
        answer = self.hear(b"ERROR 105 Name in use\n\n")
        self.assertEqual(answer, b"QUIT\n\n")
        self.assertEqual(self.take(), [("not_registered", Refusal(105, "Name in use"))])

    def test_a_second_registered_breaks_the_protocol(self) -> None:
        self.hear(REGISTERED)
        self.hear(REGISTERED)
        self.assertTrue(self.transport.aborting)


class TalkTests(SessionTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.hear(REGISTERED)
        self.take()

    def test_requests_have_ids_and_answers_come_with_them(self) -> None:
        self.transport.clear()
        first, second = self.send("bob", "hé"), self.send("ALL", "x")
        self.assertEqual(
            self.transport.take(),
            "SEND bob\nId: 1\nContent-length: 3\n\nhé".encode()
            + b"SEND ALL\nId: 2\nContent-length: 1\n\nx",
        )
        self.hear(
            b"SENT bob\nId: 1\nMessage: 9\nTime: 2026-11-23T10:00:00.123Z\n\n"
            b"ERROR 102 Unable to send\nId: 2\n\n"
            b"DELIVERED bob\nId: 1\nMessage: 9\n\nERROR 109 Too fast\n\n"
        )
        self.assertEqual(
            self.take(),
            [
                ("answered", first, Sent(9, TIME)),
                ("refused", second, Refusal(102, "Unable to send")),
                ("delivered", 9),
                ("refused", None, Refusal(109, "Too fast")),
            ],
        )

    def test_a_muted_user_is_told_until_when_and_why(self) -> None:
        for headers, refusal, text in (
            (
                f"Until: {TIME}\nReason: too loud\nBy: carol\n",
                Refusal(111, "Not permitted", TIME, "too loud", "carol"),
                f"Not permitted until {TIME}: too loud",
            ),
            ("Until: ever\n", Refusal(111, "Not permitted", "ever"), "Not permitted for ever"),
        ):
            id = self.send("bob", "hi")
            self.hear(f"ERROR 111 Not permitted\nId: {id}\n{headers}\n".encode())
            self.assertEqual(self.take()[-1:], [("refused", id, refusal)])
            self.assertEqual(refusal.text, text)

    def test_messages_that_come_together_are_confirmed_together(self) -> None:
        data = b"".join(
            encode("FORWARD", "bob", [("To", "alice"), ("Message", n), ("Time", TIME)], f"n{n}")
            for n in (4, 6)
        )
        self.assertEqual(self.hear(data), b"RECEIVED bob\nMessage: 6\n\n")
        self.assertEqual(
            self.take(),
            [("received", Received(n, TIME, "bob", "alice", f"n{n}")) for n in (4, 6)],
        )

    def test_a_list_of_several_pages_is_returned_when_it_is_complete(self) -> None:
        id = self.ask("WHO")
        answer = self.hear(b"WHO\nId: 1\nCount: 3\nMore: bob\nContent-length: 10\n\nalice\nbob\n")
        self.assertEqual(answer, b"WHO\nId: 1\nAfter: bob\n\n")
        self.hear(b"WHO\nId: 1\nCount: 3\nContent-length: 11\n\ncarol away\n")
        self.assertEqual(
            self.take(), [("answered", id, [seen("alice"), seen("bob"), seen("carol away")])]
        )

    def test_ping_is_answered_and_unknown_verbs_are_ignored(self) -> None:
        self.assertEqual(self.hear(b"PING x\n\nNEWS today\n\nPONG y\n\n"), b"PONG x\n\n")
        self.assertEqual(self.take(), [])

    def test_a_frame_that_breaks_the_protocol_ends_the_session_with_the_reason(self) -> None:
        for wrong, why in (
            (b"\n", "no verb"),
            (b"SENT bob\n\n", "message is missing or not a number"),
            (b"FORWARD bob\nContent-length: 1\n\nx", "what should be a user's name is none"),
        ):
            self.setUp()
            self.hear(wrong)
            self.assertTrue(self.transport.aborting)
            self.lose(ConnectionLost())
            self.assertEqual(self.take(), [("lost", f"the server broke the protocol: {why}")])


class WaitingTests(SessionTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.hear(REGISTERED)
        self.take()
        for text in "abc":
            self.send("ALL", text)
        self.transport.clear()

    def sent(self) -> list[str]:
        """The texts that were sent since the last call."""
        return re.findall(r"\n\n(\w)", self.transport.take().decode())

    def test_requests_that_were_refused_for_now_and_later_ones_are_sent_again_in_order(
        self,
    ) -> None:
        self.hear(b"SENT ALL\nId: 1\nMessage: 1\nTime: 2026-11-23T10:00:00.123Z\n\n")
        self.hear(b"ERROR 109 Too fast\nId: 2\nRetry-after: 3\n\n")
        self.hear(b"ERROR 109 Too fast\nId: 3\nRetry-after: 3\n\n")
        self.send("ALL", "d")
        self.assertEqual((self.sent(), self.take()), ([], [("answered", 1, Sent(1, TIME))]))
        self.clock.advance(3)
        self.assertEqual(self.sent(), ["b", "c", "d"])

    def test_a_request_that_is_refused_for_now_is_repeated_but_not_for_ever(self) -> None:
        refusal = b"ERROR 112 Unavailable\nId: %d\nRetry-after: 5\n\n"
        for _ in range(200):
            self.hear(refusal % 1)
            self.clock.advance(5)
        self.assertIn(("refused", 1, Refusal(112, "Unavailable")), self.take())

    def test_a_lost_connection_cancels_the_repetition_of_requests(self) -> None:
        self.hear(b"ERROR 109 Too fast\nId: 2\nRetry-after: 3\n\n")
        self.lose()
        self.clock.advance(5)
        self.assertEqual(self.sent(), [])


class ProofTests(SessionTestCase):
    challenge = (
        b"ERROR 106 Authentication required\nMethods: publickey password\nChallenge: "
        + base64.b64encode(CHALLENGE)
        + b"\n\n"
    )

    refused = b"ERROR 107 Authentication failed\n\n"

    def connect(self, **identity: Any) -> None:
        self.identity = Key(**identity)
        self.session = self.new_session(first_id=1, instance="i")
        self.transport = Transport()
        self.session.makeConnection(self.transport)

    def password(self, text: str) -> bytes:
        return encode("AUTH", "password", (), text)

    def test_proofs_are_sent_until_there_is_no_other(self) -> None:
        self.connect(password="p")
        self.assertEqual(self.hear(self.challenge), self.password("p"))
        self.assertEqual(self.hear(self.refused), b"AUTH publickey\nKey: k\nSignature: cw==\n\n")
        self.passwords = ["q"]
        self.assertEqual(self.hear(self.refused), self.password("q"))
        self.hear(self.refused)
        self.assertEqual(self.take(), [("not_registered", Refusal(107, "Authentication failed"))])
        self.assertTrue(self.transport.aborting)

    def test_a_key_comes_before_a_password_that_has_to_be_asked_for(self) -> None:
        self.connect()
        self.passwords = ["p"]
        self.assertEqual(self.hear(self.challenge), b"AUTH publickey\nKey: k\nSignature: cw==\n\n")
        self.assertEqual(self.questions, [])
        self.assertEqual(self.hear(self.refused), self.password("p"))

    def test_a_wrong_password_is_asked_for_again_three_tries_in_all(self) -> None:
        self.passwords = ["one", "two", "three", "four"]
        answers = [self.hear(self.challenge)] + [self.hear(self.refused) for _ in range(3)]
        self.assertEqual(MAX_TRIES, 3)
        self.assertEqual(answers, [*map(self.password, ("one", "two", "three")), b""])
        again = "Wrong password. Password of alice: "
        self.assertEqual(self.questions, ["Password of alice: ", again, again])
        self.assertEqual(self.take(), [("not_registered", Refusal(107, "Authentication failed"))])
        self.assertTrue(self.transport.aborting)

    def test_a_given_password_counts_as_a_try_and_is_not_sent_twice(self) -> None:
        self.connect(password="given", key=False)
        self.passwords = ["two", "three", "four"]
        answers = [self.hear(self.challenge)] + [self.hear(self.refused) for _ in range(3)]
        self.assertEqual(answers, [*map(self.password, ("given", "two", "three")), b""])

    def test_without_a_password_the_session_ends_and_says_why(self) -> None:
        self.assertEqual(self.hear(self.challenge), b"")
        self.assertEqual(self.take(), [("not_registered", "No password of alice was given")])
        self.assertTrue(self.transport.aborting)

    def test_a_password_is_not_waited_for_when_the_connection_is_lost(self) -> None:
        answer: Deferred[str] = Deferred()
        self.patch(self, "ask_password", lambda what: answer)
        self.connect(key=False)
        self.hear(self.challenge)
        self.lose()
        self.transport.clear()
        answer.callback("late")
        self.assertEqual(self.transport.take(), b"")

    def test_the_password_is_kept_for_a_reconnect(self) -> None:
        self.passwords = ["p"]
        self.session._reconnect = lambda session: succeed(None)
        self.hear(self.challenge)
        self.hear(REGISTERED)
        self.lose()
        self.transport = Transport()
        self.session.makeConnection(self.transport)
        self.assertEqual(self.hear(self.challenge), self.password("p"))
        self.assertEqual(self.questions, ["Password of alice: "])

    def test_messages_that_waited_for_an_account_are_passed_on_though_older_than_the_login(
        self,
    ) -> None:
        self.passwords = ["p"]
        self.hear(self.challenge)
        self.hear(REGISTERED)
        self.take()
        message = encode("FORWARD", "bob", [("To", "alice"), ("Message", 1), ("Time", TIME)], "x")
        self.hear(message)
        self.assertEqual(self.take(), [("received", Received(1, TIME, "bob", "alice", "x"))])


class EndTests(SessionTestCase):
    def test_the_reason_is_the_servers_if_it_gave_one(self) -> None:
        self.hear(REGISTERED + b"BYE The server is stopping\n\n")
        self.lose()
        self.assertEqual(self.take()[1:], [("lost", "The server is stopping")])

    def test_quit_is_said_once_and_the_server_need_not_answer(self) -> None:
        self.hear(REGISTERED)
        self.transport.clear()
        self.session.quit()
        self.session.quit()
        self.assertEqual(self.transport.take(), b"QUIT\n\n")
        self.clock.advance(2)
        self.assertTrue(self.transport.aborting)
        self.lose()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def wait(self, seconds: int) -> bytes:
        """Let time pass; return what was sent meanwhile."""
        self.transport.clear()
        self.clock.pump([1] * seconds)
        return self.transport.take()

    def test_a_silent_server_is_asked_and_then_given_up(self) -> None:
        self.hear(REGISTERED)
        self.assertEqual((self.wait(59), self.wait(1)), (b"", b"PING idle\n\n"))
        self.assertEqual(self.wait(59), b"")
        self.assertFalse(self.transport.aborting)
        self.wait(1)
        self.assertTrue(self.transport.aborting)

    def test_a_server_that_owes_an_answer_is_given_up_sooner(self) -> None:
        self.hear(REGISTERED)
        self.ask("ROOMS")
        self.assertEqual((self.wait(9), self.wait(1)), (b"", b"PING idle\n\n"))
        self.assertEqual(self.wait(29), b"")
        self.assertFalse(self.transport.aborting)
        self.wait(1)
        self.assertTrue(self.transport.aborting)

    def test_a_server_that_only_pings_and_never_answers_is_given_up(self) -> None:
        self.hear(REGISTERED)
        self.ask("ROOMS")
        for _ in range(23):
            self.hear(b"PING x\n\n")
            self.wait(5)
        self.assertFalse(self.transport.aborting)
        self.hear(b"PING x\n\n")
        self.wait(5)
        self.assertTrue(self.transport.aborting)

    def test_a_server_that_is_not_read_is_not_silent(self) -> None:
        self.hear(REGISTERED)
        self.session.pauseProducing()
        self.assertEqual(self.transport.producerState, "paused")
        self.clock.pump([60] * 9)
        self.assertFalse(self.transport.aborting)
        self.session.resumeProducing()
        self.assertEqual(self.transport.producerState, "producing")

    def test_a_paused_session_notices_the_end_when_output_is_no_longer_possible(self) -> None:
        self.hear(REGISTERED)
        self.session.pauseProducing()
        self.session.stopProducing()
        self.assertEqual(self.transport.producerState, "producing")


class ReconnectTestCase(Asking):
    def setUp(self) -> None:
        super().setUp()
        self.attempts = 0
        self.reachable = True
        self.session = self.new_session(self.connect, chance=lambda: 1, first_id=1, instance="i")
        self.connect(self.session)
        self.take()
        self.hear(REGISTERED)
        self.log.events.clear()

    def connect(self, session: ClientSession):
        self.attempts += 1
        if not self.reachable:
            return fail(ConnectionLost())
        self.transport = Transport()
        self.session.makeConnection(self.transport)
        return succeed(self.session)

    def take(self) -> list[Frame]:
        return frames(self.transport.take())

    def hear(self, data: bytes) -> None:
        self.session.dataReceived(data)

    def lose(self) -> None:
        self.session.connectionLost(Failure(ConnectionLost()))

    def forward(self, number: int, sender: str = "bob") -> None:
        self.hear(
            encode("FORWARD", sender, [("To", "alice"), ("Message", number), TIMED], f"n{number}")
        )

    def shown(self) -> list[int]:
        return [event[1].number for event in self.log.events if event[0] == "received"]


class ReconnectTests(ReconnectTestCase):
    def test_it_resumes_as_the_same_user_after_the_last_received_message(self) -> None:
        self.forward(3)
        self.lose()
        self.clock.advance(0.5)
        [frame] = self.take()
        self.assertEqual((frame.verb, frame.argument), ("REGISTER", "alice"))
        self.assertEqual(
            dict(frame.headers),
            {"version": "2", "instance": "i", "session": "x", "resume": "3"},
        )

    def test_the_loss_and_the_return_of_a_connection_are_told_once_each(self) -> None:
        self.reachable = False
        self.lose()
        self.clock.pump([1] * 20)
        self.reachable = True
        self.clock.advance(30)
        self.hear(REGISTERED)
        self.assertEqual([event[0] for event in self.log.events], ["disconnected", "reconnected"])

    def test_the_wait_before_an_attempt_doubles_up_to_half_a_minute(self) -> None:
        self.reachable = False
        self.lose()
        waits, last = [], self.clock.seconds()
        for _ in range(9):
            before = self.attempts
            while self.attempts == before:
                self.clock.advance(0.5)
            waits.append(self.clock.seconds() - last)
            last = self.clock.seconds()
        self.assertEqual(waits, [0.5, 1, 2, 4, 8, 16, 30, 30, 30])

    def test_half_of_each_wait_is_random(self) -> None:
        self.session._reconnection._chance = lambda: 0
        self.lose()
        self.clock.advance(0.25)
        self.assertEqual(self.attempts, 2)

    def test_attempts_to_connect_end_when_their_time_is_over(self) -> None:
        self.reachable = False
        self.lose()
        self.clock.pump([10] * 70)
        self.assertEqual([event[0] for event in self.log.events], ["disconnected", "lost"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unanswered_requests_are_sent_again_in_order_with_the_same_ids(self) -> None:
        ids = [self.send("bob", f"m{i}") for i in range(3)]
        self.hear(encode("SENT", "bob", [("Id", ids[0]), ("Message", 1), TIMED]))
        self.lose()
        ids.append(self.send("bob", "while away"))
        self.clock.advance(0.5)
        self.take()
        self.hear(REGISTERED)
        again = [(frame.id, frame.body) for frame in self.take()]
        self.assertEqual(
            again, [(str(ids[1]), "m1"), (str(ids[2]), "m2"), (str(ids[3]), "while away")]
        )
        for id in ids[1:]:
            for _ in range(2):
                self.hear(encode("SENT", "bob", [("Id", id), ("Message", id), TIMED]))
        self.assertEqual([e[1] for e in self.log.events if e[0] == "answered"], ids)

    def test_no_message_is_passed_on_twice(self) -> None:
        for number in (1, 2):
            self.forward(number)
        self.lose()
        self.clock.advance(0.5)
        self.hear(REGISTERED.replace(b"Last: 0", b"Last: 4"))
        self.forward(2)
        self.forward(4)
        self.assertEqual(self.shown(), [1, 2, 4])
        self.assertNotIn(("went_back",), self.log.events)

    def test_messages_are_received_from_where_the_server_has_lost_its_newest(self) -> None:
        self.forward(6)
        id = self.send("bob", "mine")
        self.hear(encode("SENT", "bob", [("Id", id), ("Message", 7), TIMED]))
        self.lose()
        self.clock.advance(0.5)
        self.log.events.clear()
        self.hear(REGISTERED.replace(b"Last: 0", b"Last: 5"))
        self.assertEqual(self.log.events, [("reconnected",), ("went_back",)])
        self.forward(6)
        self.forward(7, "Alice")  # on the other connection
        self.assertEqual(self.shown(), [6, 7])
        self.assertTrue(self.session.forgotten)
        self.take()
        self.lose()
        self.clock.advance(1)
        [frame] = self.take()
        self.assertEqual(frame.headers["resume"], "7")

    def test_own_messages_are_passed_on_only_from_other_connections(self) -> None:
        ids = [self.send("bob", f"m{i}") for i in range(2)]
        self.hear(encode("SENT", "bob", [("Id", ids[0]), ("Message", 3), TIMED]))
        self.lose()
        self.clock.advance(0.5)
        self.hear(REGISTERED.replace(b"Last: 0", b"Last: 5"))
        self.forward(3, "Alice")  # the first
        self.forward(4, "Alice")  # the second, or not? There is no SENT for it yet
        self.forward(5, "Alice")
        self.assertEqual(self.shown(), [])
        self.hear(encode("SENT", "bob", [("Id", ids[1]), ("Message", 4), TIMED]))
        self.assertEqual(self.shown(), [5])
        self.forward(6, "alice")
        self.assertEqual(self.shown(), [5, 6])

    def test_a_history_that_was_cut_off_is_returned_once(self) -> None:
        id = self.ask("HISTORY", "ALL")
        message = encode("MESSAGE", "bob", [("Id", id), ("To", "ALL"), ("Message", 1), TIMED], "x")
        self.hear(message)
        self.lose()
        self.clock.advance(0.5)
        self.hear(REGISTERED)
        self.hear(message + encode("HISTORY", "ALL", [("Id", id), ("Count", 1)]))
        [(_, _, found)] = [event for event in self.log.events if event[0] == "answered"]
        self.assertEqual(len(found.messages), 1)

    def test_messages_of_a_server_that_has_started_anew_are_received_from_the_first(self) -> None:
        self.forward(90)
        self.lose()
        self.clock.advance(0.5)
        self.log.events.clear()
        self.hear(REGISTERED.replace(b"Session: x", b"Session: y"))
        self.assertEqual(self.log.events, [("reconnected",), ("went_back",)])
        self.forward(1)
        self.assertEqual(self.shown(), [1])

    def test_a_name_that_somebody_else_has_taken_meanwhile_ends_the_session(self) -> None:
        self.lose()
        self.clock.advance(0.5)
        self.hear(b"ERROR 105 Name in use\n\n")
        self.assertEqual(self.log.events[1:], [("lost", "ERROR 105 Name in use")])
        self.assertTrue(self.transport.aborting)

    def test_a_server_that_is_full_or_can_not_write_is_tried_again(self) -> None:
        self.lose()
        self.clock.advance(0.5)
        self.hear(b"ERROR 112 Unavailable\nRetry-after: 5\n\n")
        self.assertTrue(self.transport.aborting)
        self.lose()
        self.clock.advance(1)
        self.hear(REGISTERED)
        self.assertEqual([event[0] for event in self.log.events], ["disconnected", "reconnected"])

    def test_a_session_that_quits_does_not_reconnect(self) -> None:
        self.session.quit()
        self.lose()
        self.clock.advance(60)
        self.assertEqual((self.attempts, self.log.events[0][0]), (1, "lost"))

    def test_a_session_that_quits_while_disconnected_ends_at_once(self) -> None:
        self.lose()
        self.session.quit()
        self.clock.advance(60)
        self.assertEqual(self.attempts, 1)
        self.assertEqual([event[0] for event in self.log.events], ["disconnected", "lost"])


class NotSentTests(SessionTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.hear(REGISTERED)
        self.take()
        self.transport.clear()

    def test_a_request_for_which_the_server_would_close_the_connection_is_not_sent(self) -> None:
        for argument, headers, body, code in (
            ("a\nb", (), None, 103),
            ("x" * 481, (), None, 103),
            ("#dev", (("User", "a\nId: 7"),), None, 103),
            ("#dev", (("User", "x" * 4000),), None, 103),
            ("#dev", (), "a\0b", 103),
            ("#dev", (), "x" * 101, 108),
        ):
            problem = self.assertRaises(Refused, self.session.ask, "TOPIC", argument, headers, body)
            self.assertEqual(problem.code, code)
        self.assertEqual(self.transport.take(), b"")

    def test_an_error_that_closes_is_for_the_oldest_request_which_is_not_sent_again(self) -> None:
        ids = [self.send("bob", text) for text in ("one", "two")]
        self.hear(b"ERROR 103 Header Incomplete\n\n")
        self.assertEqual(self.take(), [("refused", ids[0], Refusal(103, "Header Incomplete"))])


class OwnMessagesTests(ReconnectTestCase):
    """The user's own messages, from this and other connections."""

    def test_none_of_many_own_messages_is_passed_on_after_a_reconnect(self) -> None:
        self.forward(1)
        for number in range(2, 1502):
            id = self.send("bob", "x")
            self.hear(encode("SENT", "bob", [("Id", id), ("Message", number), TIMED]))
        self.lose()
        self.clock.advance(0.5)
        self.hear(REGISTERED.replace(b"Last: 0", b"Last: 1600"))
        for number in range(2, 1502):
            self.forward(number, "alice")
        self.assertEqual(self.shown(), [1])
        self.forward(1600)
        self.assertEqual(self.session._inbox.own.numbers, set())

    def test_own_messages_of_other_connections_are_passed_on_while_one_is_under_way(self) -> None:
        self.send("bob", "under way")
        self.forward(2, "alice")
        self.assertEqual(self.shown(), [2])

    def test_messages_that_are_held_back_are_passed_on_at_the_end(self) -> None:
        self.send("bob", "under way")
        self.lose()
        self.clock.advance(0.5)
        self.hear(REGISTERED)
        self.forward(2, "alice")
        self.assertEqual(self.shown(), [])
        self.session.quit()
        self.lose()
        self.assertEqual(self.shown(), [2])

    def test_messages_after_quit_are_not_passed_on_because_they_can_not_be_confirmed(self) -> None:
        self.session.quit()
        self.forward(2)
        self.assertEqual(self.shown(), [])


class ListAgainTests(SessionTestCase):
    def test_a_list_whose_page_was_refused_for_now_starts_again(self) -> None:
        self.hear(REGISTERED)
        id = self.ask("WHO")
        self.hear(encode("WHO", "", [("Id", id), ("Count", 4), ("More", "b")], "a\nb\n"))
        self.hear(encode("ERROR", "109 Too fast", [("Id", id), ("Retry-after", 1)]))
        self.clock.advance(1)
        self.take()
        self.hear(encode("WHO", "", [("Id", id), ("Count", 4), ("More", "b")], "a\nb\n"))
        self.hear(encode("WHO", "", [("Id", id), ("Count", 4)], "c\nd\n"))
        self.assertEqual(self.take(), [("answered", id, [seen(name) for name in "abcd"])])


class HalfACharacterTests(SessionTestCase):
    def test_it_is_refused_here(self) -> None:
        self.hear(REGISTERED)
        self.failureResultOf(Deferred.fromCoroutine(self.session.send("bob", "\ud800")), Refused)
        for request in (("SEARCH", "", (), "\ud800"), ("JOIN", "#\ud800")):
            self.assertRaises(Refused, self.session.ask, *request)


class EventTests(SessionTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.hear(REGISTERED.replace(b"Last: 0", b"Last: 0\nKept: ever"))
        self.take()

    def broken(self, data: bytes) -> str:
        self.hear(data)
        self.assertTrue(self.transport.aborting)
        [(_, reason)] = [event for event in self.take() if event[0] == "lost"]
        return str(reason)

    def test_events_are_told_with_what_belongs_to_them(self) -> None:
        for frame, event in (
            (
                b"JOINED #dev\nUser: bob\nRank: voice\nModes: private topic\n"
                b"Operators: alice carol\n\n",
                Event(
                    "JOINED",
                    "#dev",
                    "bob",
                    "",
                    None,
                    rank="voice",
                    modes=("private", "topic"),
                    operators=("alice", "carol"),
                ),
            ),
            (
                b"LEFT #dev\nUser: bob\nBy: carol\nContent-length: 4\n\nloud",
                Event("LEFT", "#dev", "bob", "carol", None, reason="loud"),
            ),
            (
                b"RANK #dev\nUser: bob\nRank: operator\n\n",
                Event("RANK", "#dev", "bob", "", None, rank="operator"),
            ),
            (
                b"MODE #dev\nMode: private\nOn: yes\nBy: carol\n\n",
                Event("MODE", "#dev", "", "carol", None, mode="private", on=True),
            ),
            (
                b"BAN #dev\nUser: bob\nBy: carol\nContent-length: 4\n\nspam",
                Event("BAN", "#dev", "bob", "carol", None, reason="spam"),
            ),
            (b"RENAMED bob\nTo: bo-b\n\n", Event("RENAMED", "", "bob", "", None, new_name="bo-b")),
            (
                b"DELETED ALL\nMessage: 42\nBy: bob\n\n",
                Event("DELETED", "", "", "bob", None, conversation="ALL", number=42),
            ),
            (
                b"DELETED #dev\nMessage: 42\nBy: bob\nContent-length: 4\n\nspam",
                Event(
                    *("DELETED", "", "", "bob", None),
                    reason="spam",
                    conversation="#dev",
                    number=42,
                ),
            ),
            (
                b"READ #dev\nMessage: 42\n\n",
                Event("READ", "", "", "", None, conversation="#dev", number=42),
            ),
        ):
            self.hear(frame)
            self.assertEqual(self.take(), [("told", event)])

    def test_an_invalid_event_breaks_the_protocol(self) -> None:
        for frame in (
            b"RANK #dev\nUser: bob\n\n",
            b"RANK #dev\nUser: bob\nRank: \x1b[2J\n\n",
            b"RANK dev\nUser: bob\nRank: voice\n\n",
            b"MODE #dev\nMode: private\nOn: perhaps\n\n",
            b"MODE #dev\nModes: private \xc2\x9b\n\n",
            b"RENAMED bob\n\n",
            b"RENAMED bob\nTo: b d\n\n",
            b"DELETED bob\n\n",
            b"DELETED b\xc2\x9bd\nMessage: 1\n\n",
            b"READ #dev\nMessage: 0\n\n",
            b"JOINED #dev\nUser: bob\nOperators: a b@d\n\n",
            b"FORWARD bob\nTo: ALL\nMessage: 1\nDeleted: 1\nTime: 2026-11-23T10:00:00.123Z\n\n",
        ):
            self.setUp()
            self.assertIn("the server broke the protocol", self.broken(frame), frame)

    def test_a_session_knows_for_how_long_messages_are_kept(self) -> None:
        self.assertEqual(self.session.kept, math.inf)
        for value, kept in ((b"off", 0), (b"3600", 3600)):
            SessionTestCase.setUp(self)
            self.hear(REGISTERED.replace(b"Last: 0", b"Last: 0\nKept: " + value))
            self.assertEqual(self.session.kept, kept)
        SessionTestCase.setUp(self)
        self.assertIn(
            "broke the protocol", self.broken(REGISTERED.replace(b"0\n\n", b"0\nKept: x\n\n"))
        )

    def test_a_renamed_user_registers_under_the_new_name(self) -> None:
        id = self.ask("RENAME", "al")
        self.hear(b"RENAMED Alice\nId: 1\nTo: al\n\n")
        [(_, answered, event)] = self.take()
        self.assertEqual((answered, event.new_name, self.session.user), (id, "al", "al"))
        self.session._reconnect = lambda session: succeed(None)
        self.lose()
        self.transport = Transport()
        self.session.makeConnection(self.transport)
        self.assertIn(b"REGISTER al\n", self.transport.take())

    def test_a_rename_that_was_missed_is_told_when_the_session_resumes(self) -> None:
        self.session._reconnect = lambda session: succeed(None)
        self.lose()
        self.take()
        self.transport = Transport()
        self.session.makeConnection(self.transport)
        self.hear(REGISTERED.replace(b"alice", b"al"))
        [(_, event), again] = self.take()
        self.assertEqual((event.user, event.new_name, again), ("alice", "al", ("reconnected",)))
        self.assertEqual(self.session.user, "al")

    def test_another_name_with_another_token_breaks_the_protocol(self) -> None:
        for token in ("", "x"):
            self.session = self.new_session(token=token)
            self.transport = Transport()
            self.session.makeConnection(self.transport)
            self.broken(REGISTERED.replace(b"alice", b"al").replace(b"x", b"y"))

    def test_a_list_and_an_event_are_told_apart(self) -> None:
        for request, answer in (
            (("BAN", "#dev", (("User", "bob"),)), b"BAN #dev\nId: 1\nCount: 0\n\n"),
            (("BAN", "#dev"), b"BAN #dev\nId: 1\nUser: bob\n\n"),
            (("READ",), b"READ bob\nId: 1\nMessage: 1\n\n"),
        ):
            self.setUp()
            self.ask(*request)
            self.assertIn("broke the protocol", self.broken(answer))

    def test_the_lists_of_a_rooms_bans_and_of_read_markers(self) -> None:
        self.ask("BAN", "#dev")
        self.hear(b"BAN #dev\nId: 1\nCount: 1\nContent-length: 15\n\nbob ever alice\n")
        self.ask("READ")
        self.hear(b"READ\nId: 2\nCount: 2\nContent-length: 13\n\n#dev 42\nbob 7")
        self.assertEqual(
            self.take(),
            [
                ("answered", 1, ["bob ever alice"]),
                ("answered", 2, [Marker("#dev", 42), Marker("bob", 7)]),
            ],
        )

    def test_all_own_messages_are_returned_page_by_page(self) -> None:
        self.ask("ACCOUNT", "messages")
        headers = [("Id", 1), ("To", "bob"), ("Message", 7), TIMED]
        self.hear(
            encode("MESSAGE", "alice", headers, "x")
            + encode("ACCOUNT", "messages", [("Id", 1), ("Count", 1)])
        )
        [(_, id, found)] = self.take()
        self.assertEqual((id, found.messages), (1, [Received(7, TIME, "alice", "bob", "x")]))


class RestorationTests(ReconnectTestCase):
    """What is restored after the server has forgotten the user."""

    def setUp(self) -> None:
        super().setUp()
        for room, modes in (("#Dev", ""), ("#ops", "Modes: private\n")):
            id = self.ask("JOIN", room)
            self.hear(f"JOINED {room}\nId: {id}\nUser: Alice\n{modes}\n".encode())
        self.log.events.clear()

    def reconnect(self, token: bytes = b"y") -> list[Frame]:
        """Reconnect; return the requests that follow."""
        if self.session.connected:
            self.lose()
        self.clock.advance(1)
        self.take()
        self.hear(REGISTERED.replace(b"Session: x", b"Session: " + token))
        return self.take()

    def test_rooms_are_joined_again_as_they_were(self) -> None:
        self.assertEqual(
            [(f.verb, f.argument, f.headers.get("private")) for f in self.reconnect()],
            [("JOIN", "#Dev", None), ("JOIN", "#ops", "yes")],
        )

    def test_rooms_are_joined_again_if_the_server_has_lost_its_newest_messages(self) -> None:
        self.forward(6)
        self.assertEqual([f.argument for f in self.reconnect(b"x")], ["#Dev", "#ops"])

    def test_a_server_that_knows_the_user_is_asked_for_nothing(self) -> None:
        self.assertEqual(self.reconnect(b"x"), [])

    def test_rooms_that_were_left_are_not_joined_again(self) -> None:
        self.hear(b"LEFT #dev\nUser: alice\nBy: carol\n\n")  # removed by an operator
        self.hear(b"LEFT #ops\nUser: bob\n\n")  # another user
        self.assertEqual([f.argument for f in self.reconnect()], ["#ops"])

    def test_a_list_of_rooms_says_which_they_are(self) -> None:
        id = self.ask("ROOMS")
        self.hear(
            encode("ROOMS", "", [("Id", id)], "#dev 2\n#new 1 member private\n#old 1 member\n")
        )
        self.assertEqual(
            [(f.argument, f.headers.get("private")) for f in self.reconnect()],
            [("#new", "yes"), ("#old", None)],
        )

    def test_a_room_that_can_not_be_joined_again_is_told_as_left(self) -> None:
        joined, refused = self.reconnect()
        self.log.events.clear()
        self.hear(encode("JOINED", "#Dev", [("Id", joined.id), ("User", "Alice")]))
        self.hear(encode("ERROR", "111 Not permitted", [("Id", refused.id)]))
        self.assertEqual(
            self.log.events,
            [("told", Event("LEFT", "#ops", "alice", "", None, reason="Not permitted"))],
        )
        self.assertEqual([f.argument for f in self.reconnect(b"z")], ["#Dev"])

    def test_a_room_is_asked_for_once_though_the_connection_is_lost_again(self) -> None:
        self.reconnect()
        self.assertEqual([f.argument for f in self.reconnect(b"y")], ["#Dev", "#ops"])

    def test_away_and_presence_are_restored_on_any_new_connection(self) -> None:
        away = self.record(self.session.set_away("at lunch"))
        self.hear(encode("STATUS", "away", [("Id", away)]))
        watch = self.record(self.session.watch())
        self.hear(encode("WHO", "", [("Id", watch)], "alice\n"))
        status, who = self.reconnect(b"x")
        self.assertEqual(
            (status.verb, status.argument, status.body), ("STATUS", "away", "at lunch")
        )
        self.hear(encode("STATUS", "away", [("Id", status.id)]))
        self.assertEqual((who.verb, who.headers["watch"]), ("WHO", "yes"))
        self.log.events.clear()
        self.hear(encode("WHO", "", [("Id", who.id)], "alice\nbob\n"))
        self.assertEqual(self.log.events, [("present", [seen("alice"), seen("bob")])])

    def test_a_restoration_that_a_loss_interrupts_is_requested_once(self) -> None:
        watch = self.record(self.session.watch())
        self.hear(encode("WHO", "", [("Id", watch)], "alice\n"))
        for token in (b"x", b"y", b"z"):
            asked = self.reconnect(token)
        self.assertEqual(sorted(f.argument or f.verb for f in asked), ["#Dev", "#ops", "WHO"])

    def test_rooms_are_joined_before_messages_to_them_are_sent(self) -> None:
        self.lose()
        self.send("#dev", "typed meanwhile")
        self.assertEqual([f.verb for f in self.reconnect()], ["JOIN", "JOIN", "SEND"])

    def test_a_failed_restoration_is_told(self) -> None:
        watch = self.record(self.session.watch())
        self.hear(encode("WHO", "", [("Id", watch)], "alice\n"))
        [who] = self.reconnect(b"x")
        self.log.events.clear()
        self.hear(encode("ERROR", "111 Not permitted", [("Id", who.id)]))
        self.assertEqual(
            self.log.events, [("noticed", "After the reconnect: ERROR 111 Not permitted")]
        )
