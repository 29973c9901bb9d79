"""A hostile or broken server: the client always ends, and explains why in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.trial.unittest import TestCase

from chat_twisted.client import requests as requests_module
from chat_twisted.client.requests import LONGEST_WAIT
from chat_twisted.frames import Frame, encode
from tests.hostile import CHALLENGE, FACES, TIME, Face, RecordsFace, Script, right, unasked
from tests.hostile import Server as HostileServer
from tests.wire import frames

KINDS = ("SEND #x", "WHO", "ROOMS", "HISTORY #x", "SEARCH", "JOIN #x", "LEAVE #x", "TOPIC #x")
KINDS += ("INVITE #x", "KICK bob", "KICK #x", "BAN", "BAN bob", "ACCOUNT keys", "ACCOUNT add")
KINDS += ("RENAME bobby", "DELETE", "READ", "READ bob", "BAN #x", "ACCOUNT messages")
KINDS += ("STATUS away", "UNBAN bob", "MUTE bob", "UNMUTE bob", "PING", "REGISTER alice")

VALUES = (
    "",
    "0",
    "-1",
    "1.5",
    "1e9",
    "NaN",
    "9" * 18,
    "9" * 30,
    "x" * 3000,
    "\u202e\x1b[2J",
    "a b",
)
BODIES = (
    None,
    "",
    "\n",
    "\n\n\nx",
    "#",
    "a b c d\n",
    "\x1b[2J\u2028",
    "alice gone x\n",
    "x" * 60_000,
)
ARGUMENTS = ("", "x" * 500, "\x1b[2J", "ALL", "#", "#x y", "alice bob", "\u2067")


def mutations(answer: bytes) -> Iterator[bytes]:
    """Yield variants of ``answer`` with one change in each frame, one after another."""
    found = frames(answer)
    for i, frame in enumerate(found):
        headers = {k: v for k, v in frame.headers.items() if k != "content-length"}

        def changed(
            i: int = i,
            argument: str = frame.argument,
            headers: dict[str, str] = headers,
            body: str | None = frame.body,
        ) -> bytes:
            written = [encode(f.verb, f.argument, _headers(f), f.body) for f in found]
            written[i] = encode(found[i].verb, argument, headers.items(), body)
            return b"".join(written)

        for argument in ARGUMENTS:
            yield changed(argument=argument)
        for name in headers:
            yield changed(headers={k: v for k, v in headers.items() if k != name})
            for value in VALUES:
                yield changed(headers={**headers, name: value})
        for value in VALUES:
            yield changed(headers={**headers, "more": value, "retry-after": value})
        for body in BODIES:
            yield changed(body=body)
        yield changed() * 3


def _headers(frame: Frame) -> list[tuple[str, str]]:
    return [(k, v) for k, v in frame.headers.items() if k != "content-length"]


def instead(verb: str, answer: Callable[[Frame], bytes | None]) -> Script:
    """Return a script with wrong answers to one kind of request."""

    def script(request: Frame) -> bytes | None:
        return answer(request) if request.verb == verb else right(request)

    return script


class HostileTestCase(TestCase):
    def play(self, make: Callable[[Script], Face], script: Script, *things: str) -> Face:
        """Do ``things`` against a server, leave, and check the end."""
        face = make(script)
        try:
            for thing in things:
                face.type(thing)
            face.leave()
        finally:
            face.close()
        said = (make, things, face.output[-3:], face.last)
        self.assertIn(face.code, (0, 1, 2), said)
        self.assertNotIn("\n", face.last.strip(), said)
        self.assertEqual(face.code == 2, bool(face.last) and face.code != 1, said)
        self.assertFalse(self.flushLoggedErrors(), said)
        return face


class RightTests(HostileTestCase):
    def test_a_server_that_answers_as_it_should_breaks_nothing(self) -> None:
        for make in FACES:
            face = self.play(make, right, *make.things)
            self.assertEqual(face.code, 0, face.output)
            self.assertNotIn("broke the protocol", "".join(face.output))


class FuzzTests(HostileTestCase):
    def test_no_answer_of_another_kind_does_any_harm(self) -> None:
        for kind in KINDS:
            verb, _, argument = kind.partition(" ")

            def wrong(request: Frame, verb: str = verb, argument: str = argument) -> bytes | None:
                if request.verb in ("REGISTER", "QUIT", "PING"):
                    return right(request)
                return right(request._replace(verb=verb, argument=argument or request.argument))

            for make in FACES:
                for thing in make.things:
                    self.play(make, wrong, thing)

    def test_no_changed_answer_does_any_harm(self) -> None:
        for make in FACES:
            kinds = set()
            for thing in make.things[: 99 if make is not RecordsFace else 1]:
                seen: list[Frame] = []

                def note(request: Frame, seen: list[Frame] = seen) -> bytes | None:
                    seen.append(request)
                    return right(request)

                self.play(make, note, thing)
                asked = [frame for frame in seen if frame.verb not in ("REGISTER", "QUIT", "PING")]
                if not asked:
                    continue
                request = asked[-1]
                kind = (request.verb, request.argument, request.body is None, *request.headers)
                if kind in kinds:
                    continue
                kinds.add(kind)
                for wrong in mutations(right(request) or b""):
                    self.play(make, self.once(request, wrong), thing)

    @staticmethod
    def once(request: Frame, wrong: bytes) -> Script:
        mark = f"id: {request.id}\n".encode()

        def script(asked: Frame) -> bytes | None:
            if (asked.verb, asked.argument) != (request.verb, request.argument):
                return right(asked)
            return wrong.replace(mark, f"id: {asked.id}\n".encode())

        return script

    def test_no_greeting_does_any_harm(self) -> None:
        greeting = right(Frame("REGISTER", "alice")) or b""
        challenge = encode(
            "ERROR",
            "106 Authentication required",
            [("Methods", "publickey password"), ("Challenge", CHALLENGE)],
        )
        for make in FACES:
            for wrong in (*mutations(greeting), *mutations(challenge), *unasked(), b"", b"\n"):
                self.play(make, instead("REGISTER", lambda request, wrong=wrong: wrong))
                self.play(
                    make,
                    instead("REGISTER", lambda request, wrong=wrong: challenge),
                )

    def test_nothing_that_a_server_says_unasked_does_any_harm(self) -> None:
        greeting = right(Frame("REGISTER", "alice")) or b""
        for make in FACES:
            for said in unasked():
                for wrong in mutations(said):
                    self.play(make, instead("REGISTER", lambda r, wrong=wrong: greeting + wrong))


class EndTests(HostileTestCase):
    """Servers that would never end, and the resulting messages."""

    def broken(self, face: Face, why: str) -> None:
        said = "\n".join([*face.output, face.last])
        self.assertIn(f"the server broke the protocol: {why}", said)
        self.assertEqual(said.count("broke the protocol"), 1)

    def test_a_list_that_always_goes_on_has_an_end(self) -> None:
        self.patch(requests_module, "MAX_GATHERED", 2_000_000)
        pages = 0

        def more(request: Frame) -> bytes:
            nonlocal pages
            pages += 1
            body = "".join(f"u{pages}x{i}\n" for i in range(5000))
            headers = [("Id", request.id), ("Count", 9), ("More", f"u{pages}x4999")]
            return encode("WHO", request.argument, headers, body)

        for make in FACES:
            face = self.play(make, instead("WHO", more), "/who" if "/who" in make.things else "who")
            self.broken(face, "an answer without an end")

    def test_a_list_that_goes_on_from_nowhere_is_none(self) -> None:
        for more, body in (("bob", ""), ("", "bob\n"), ("x" * 200, "bob\n"), ("bob", "bob\n")):
            headers = [("Count", 9), ("More", more)]
            for make in FACES:
                face = self.play(
                    make,
                    instead(
                        "ROOMS",
                        lambda r, h=headers, b=body: encode(
                            "ROOMS", "", [("Id", r.id), *h], b.replace("bob", "#bob 1")
                        ),
                    ),
                    "/rooms" if "/rooms" in make.things else "rooms",
                )
                self.broken(face, "a list that goes on from nowhere")

    def test_a_history_without_an_end_has_one(self) -> None:
        def endless(request: Frame) -> bytes:
            headers = [("Id", request.id), ("To", "#dev"), ("Message", 1), TIME]
            return encode("MESSAGE", "bob", headers, "x") * 1001

        for make in FACES:
            thing = "/history #dev 5" if "/who" in make.things else "history"
            self.broken(
                self.play(make, instead("HISTORY", endless), thing),
                "an answer of too many messages",
            )

    def test_a_history_of_long_messages_has_an_end(self) -> None:
        self.patch(requests_module, "MAX_GATHERED", 2_000_000)

        def endless(request: Frame) -> bytes:
            headers = [("Id", request.id), ("To", "#dev"), ("Message", 1), TIME]
            return encode("MESSAGE", "bob", headers, "x" * 65_000) * 40

        for make in FACES:
            thing = "/history #dev 5" if "/who" in make.things else "history"
            self.broken(
                self.play(make, instead("HISTORY", endless), thing), "an answer without an end"
            )

    def test_a_body_is_limited_to_the_clients_maximum_with_any_limit_of_the_server(self) -> None:
        def huge(request: Frame) -> bytes:
            greeting = encode(
                "REGISTERED", "alice", [("Max-message", "9" * 18), ("Last", 0), ("Session", "x")]
            )
            return greeting + b"NOTICE x\nContent-length: 99999999999\n\n" + b"x" * 1000

        for make in FACES:
            face = self.play(make, instead("REGISTER", huge), make.things[0])
            self.broken(face, "a body is too long")

    def test_a_server_that_never_answers_is_given_up(self) -> None:
        for make in FACES:
            for silent in ("REGISTER", "WHO", "SEND", "HISTORY", "ROOMS"):
                face = self.play(make, instead(silent, lambda request: b"PING x\n\n"), *make.things)
                self.assertIn(face.code, (0, 1, 2))

    def test_a_server_that_always_refuses_for_now_is_taken_at_its_word_in_the_end(self) -> None:
        refused = 0

        def later(request: Frame) -> bytes:
            nonlocal refused
            refused += 1
            headers = [("Id", request.id), ("Retry-after", 10**9)]
            return encode("ERROR", "109 Too fast", headers)

        face = self.play(FACES[0], instead("SEND", later), "@bob: hello")
        self.assertEqual(face.code, 1)
        self.assertIn("Too fast", "".join(face.output))
        self.assertLess(refused, 10, LONGEST_WAIT)

    def test_a_server_that_says_goodbye_at_once_is_not_asked_without_end(self) -> None:
        registered = 0

        def goodbye(request: Frame) -> bytes | None:
            nonlocal registered
            if request.verb == "REGISTER":
                registered += 1
                return (right(request) or b"") + b"BYE no\n\n"
            return None

        for make in FACES:
            registered = 0
            face = make(goodbye)
            face.type(make.things[0])
            face.pass_time(60)
            self.assertLess(registered, 15)
            face.leave()
            face.close()

    def test_pings_are_answered_no_faster_than_the_server_reads(self) -> None:
        for make in FACES:
            face = make(right)
            (end,) = (end for end in face.network.ends if isinstance(end.protocol, HostileServer))
            end.pauseProducing()
            for _ in range(30):
                end.protocol.transport.write(b"PING xxxxxxxxxx\n\n" * 1000)
                face.pass_time()
            self.assertLess(len(end.other._unread), 100_000)
            end.resumeProducing()
            face.pass_time()
            face.leave()
            face.close()
