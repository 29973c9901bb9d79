"""What is decided in the order of the log, as users see it: raw connections to a real server.

Where two requests must meet in one commit, the server stands still until both are sent.
"""

from __future__ import annotations

from chat_twisted import reaching
from tests.end_to_end.support import Peer, ServerTestCase
from tests.end_to_end.test_hostile import Key

Frame = tuple[str, dict[str, str], bytes]


def request(start: str, *headers: str, body: str = "") -> bytes:
    """A request whose ``Id`` is ``q``."""
    lines = [start, "Id: q", *headers]
    if body:
        lines.append(f"Content-length: {len(body.encode())}")
    return ("\n".join(lines) + f"\n\n{body}").encode()


class OrderTestCase(ServerTestCase):
    options = ("--limits", "off")

    def tearDown(self) -> None:
        self.assertNoTraceback()

    def users(self, *names: str) -> list[Peer]:
        """Guests, each from an address of their own."""
        peers = []
        for number, name in enumerate(names):
            peer = self.connect(f"127.0.4.{number + 1}")
            peer.register(name)
            peers.append(peer)
        return peers

    def join(self, room: str, *peers: Peer) -> None:
        """Have users join a room, and hear of each other."""
        for number, peer in enumerate(peers):
            self.assertEqual(peer.ask(f"JOIN {room}")[0], f"JOINED {room}")
            for other in peers[:number]:
                self.assertEqual(other.frame()[0], f"JOINED {room}")

    def answer(self, peer: Peer) -> str:
        """How the answer to ``request`` begins; what comes before it is passed over."""
        while (frame := peer.frame())[1].get("id") != "q":
            pass
        return frame[0]

    def until(self, peer: Peer, text: str) -> list[Frame]:
        """What comes before a message with this text."""
        frames = []
        while (frame := peer.frame())[2] != text.encode():
            frames.append(frame)
        return frames


class RemovedTests(OrderTestCase):
    def test_message_of_a_removed_member_is_never_behind_the_removal(self) -> None:
        for kick_first in (True, False):
            room = f"#dev{int(kick_first)}"
            names = [f"{name}{int(kick_first)}" for name in ("alice", "bob", "carol")]
            alice, bob, carol = self.users(*names)
            self.join(room, alice, bob, carol)
            both = [
                (alice, request(f"KICK {room}", f"User: {names[1]}")),
                (bob, request(f"SEND {room}", body="still here?")),
            ]
            with self.paused():
                for peer, data in both if kick_first else reversed(both):
                    peer.send(data)
            said = self.answer(bob)
            self.assertEqual(self.answer(alice), f"LEFT {room}")
            alice.ask(f"SEND {room}", body="end")
            told = [start for start, _, _ in self.until(carol, "end")]
            if said == f"SENT {room}":
                self.assertEqual(told, [f"FORWARD {names[1]}", f"LEFT {room}"])
            else:
                self.assertTrue(said.startswith("ERROR 111"), said)
                self.assertEqual(told, [f"LEFT {room}"])

    def test_message_of_a_muted_user_is_never_behind_the_mute(self) -> None:
        operator, bob, carol = self.users("operator", "bob", "carol")
        operator.ask("ACCOUNT register", f"Key: {Key().public}")
        with reaching.reach(self.state, self.fail) as (ask, _):
            ask("make operator", name="operator")
        for mute_first in (True, False):
            both = [(operator, request("MUTE bob")), (bob, request("SEND ALL", body="la la"))]
            with self.paused():
                for peer, data in both if mute_first else reversed(both):
                    peer.send(data)
            said = self.answer(bob)
            carol.ask("SEND ALL", body="end")
            told = [start for start, _, _ in self.until(operator, "end")]
            if said == "SENT ALL":
                self.assertEqual(told, ["FORWARD bob", "MUTE bob"])
            else:
                self.assertTrue(said.startswith("ERROR 111"), said)
                self.assertEqual(told, ["MUTE bob"])
            self.assertTrue(bob.ask("SEND ALL", body="x")[0].startswith("ERROR 111"))
            self.assertEqual(operator.ask("UNMUTE bob")[0], "UNMUTE bob")

    def test_message_of_a_kicked_user_is_never_behind_the_kick(self) -> None:
        operator, bob, carol = self.users("operator", "bob", "carol")
        operator.ask("ACCOUNT register", f"Key: {Key().public}")
        with reaching.reach(self.state, self.fail) as (ask, _):
            ask("make operator", name="operator")
        with self.paused():
            operator.send(request("KICK bob"))
            bob.send(request("SEND ALL", body="la la"))
        end = bob.rest()
        carol.ask("SEND ALL", body="end")
        told = [start for start, _, _ in self.until(operator, "end")]
        self.assertEqual(told, ["FORWARD bob"] * (b"SENT" in end) + ["KICK bob"])
        self.assertIn(b"BYE Kicked by operator", end)


class CatchingUpTests(OrderTestCase):
    def test_session_that_catches_up_gets_the_events_in_their_places(self) -> None:
        alice, bob, carol = self.users("alice", "bob", "carol")
        self.join("#dev", alice, bob)
        alice.ask("JOIN #secret", "Private: yes")
        again = bob.ask("SEND alice", body="back soon")[1]["message"]
        bob.close()
        alice.ask("PING")
        token = self.tokens["bob"]
        many = 150  # messages of 64 KB: more than the systems of both ends take for one peer
        big = "x" * 65_000
        for _ in range(many):
            self.assertEqual(alice.ask("SEND #dev", body=big)[0], "SENT #dev")
        bob = self.connect(window=4096)
        bob.register("bob", f"Session: {token}", f"Resume: {again}")
        # From here on it catches up, and can not come to an end with it before it reads.
        self.assertEqual(alice.ask("INVITE #secret", "User: bob")[0], "INVITED #secret")
        self.assertEqual(carol.ask("JOIN #dev")[0], "JOINED #dev")
        self.assertEqual(alice.ask("TOPIC #dev", body="plans")[0], "TOPIC #dev")
        self.assertEqual(alice.ask("SEND #dev", body="between")[0], "SENT #dev")
        self.assertEqual(carol.ask("LEAVE #dev")[0], "LEFT #dev")
        self.assertEqual(alice.ask("KICK #dev", "User: bob")[0], "LEFT #dev")
        self.assertEqual(alice.ask("SEND ALL", body="end")[0], "SENT ALL")
        frames = self.until(bob, "end")
        self.assertEqual({frame[2] for frame in frames[:many]}, {big.encode()})
        told = [(start, headers.get("user"), body) for start, headers, body in frames[many:]]
        self.assertEqual(
            told,
            [
                ("INVITED #secret", "bob", b""),
                ("JOINED #dev", "carol", b""),
                ("TOPIC #dev", "alice", b"plans"),
                ("FORWARD alice", None, b"between"),
                ("LEFT #dev", "carol", b""),
                ("LEFT #dev", "bob", b""),
            ],
        )

    def users(self, *names: str) -> list[Peer]:
        self.tokens = {}
        peers = []
        for name in names:
            peers.append(self.connect())
            self.tokens[name] = peers[-1].register(name)["session"]
        return peers


class RoomTests(OrderTestCase):
    def test_the_last_member_leaves_and_joins_again_at_once(self) -> None:
        alice, bob = self.users("alice", "bob")
        self.join("#dev", alice)
        alice.ask("TOPIC #dev", body="of before")
        alice.send(b"LEAVE #dev\nId: 1\n\nJOIN #dev\nId: 2\n\nSEND #dev\nId: 3\n")
        alice.send(b"Content-length: 2\n\nhi")
        answers = [alice.frame() for _ in range(3)]
        self.assertEqual(
            [start for start, _, _ in answers], ["LEFT #dev", "JOINED #dev", "SENT #dev"]
        )
        self.assertEqual([headers["id"] for _, headers, _ in answers], ["1", "2", "3"])
        self.assertEqual((answers[1][1]["operators"], answers[1][2]), ("alice", b""))
        with self.paused():
            alice.send(request("LEAVE #dev"))
            bob.send(request("JOIN #dev"))
        self.assertEqual(self.answer(alice), "LEFT #dev")
        self.assertEqual(self.answer(bob), "JOINED #dev")
        self.assertEqual(bob.ask("ROOMS")[2], b"#dev 1 member\n")
        self.assertEqual(bob.ask("INVITE #dev", "User: alice")[0], "INVITED #dev")

    def test_members_are_told_the_new_operator(self) -> None:
        alice, bob, carol, dave = self.users("alice", "bob", "carol", "dave")
        self.join("#dev", alice, bob, carol, dave)
        self.assertEqual(alice.ask("LEAVE #dev")[0], "LEFT #dev")
        for peer in (bob, carol, dave):
            told = [(start, headers["user"]) for start, headers, _ in (peer.frame(), peer.frame())]
            self.assertEqual(told, [("LEFT #dev", "alice"), ("RANK #dev", "bob")])
        bob.send(b"QUIT\n\n")
        for peer in (carol, dave):
            told = [(start, headers["user"]) for start, headers, _ in (peer.frame(), peer.frame())]
            self.assertEqual(told, [("LEFT #dev", "bob"), ("RANK #dev", "carol")])


class OnceTests(OrderTestCase):
    """Messages that are sent twice, and those that only look so."""

    def bob(self, *headers: str) -> list[Peer]:
        """Two connections of one user."""
        first, second = self.connect(), self.connect()
        token = first.register("bob", *headers[:1])["session"]
        second.register("bob", f"Session: {token}", *headers[-1:])
        return [first, second]

    def say(self, peer: Peer, text: str) -> str:
        """Say something with ``Id: 1``; return its number."""
        peer.send(request("SEND alice", body=text).replace(b"Id: q", b"Id: 1"))
        while (frame := peer.frame())[1].get("id") != "1" or not frame[0].startswith("SENT"):
            pass
        return frame[1]["message"]

    def test_two_connections_may_use_the_same_id(self) -> None:
        for headers in ((), ("Instance: one", "Instance: two")):
            [alice] = self.users("alice")
            first, second = self.bob(*headers)
            numbers = {self.say(first, "from the first"), self.say(second, "from the second")}
            self.assertEqual(len(numbers), 2)
            texts = [alice.frame()[2] for _ in range(2)]
            self.assertEqual(texts, [b"from the first", b"from the second"])
            for peer in (alice, first, second):
                peer.send(b"QUIT\n\n")
                peer.rest()

    def test_the_same_text_by_two_instances_is_two_messages(self) -> None:
        [alice] = self.users("alice")
        first, second = self.bob("Instance: one", "Instance: two")
        self.assertNotEqual(self.say(first, "ok"), self.say(second, "ok"))
        self.assertEqual([alice.frame()[2] for _ in range(2)], [b"ok"] * 2)

    def test_message_that_arrives_late_on_the_old_connection_is_a_duplicate(self) -> None:
        for instance in ((), ("Instance: one",)):
            [alice] = self.users("alice")
            late, again = self.bob(*instance)
            late.send(b"SEND alice\nId: 1\nContent-length: 5\n\nhe")
            number = self.say(again, "hello")
            late.send(b"llo")
            while not (frame := late.frame())[0].startswith("SENT"):
                pass
            self.assertEqual(frame[1]["message"], number)
            again.ask("SEND alice", body="end")
            self.assertEqual([body for _, _, body in self.until(alice, "end")], [b"hello"])
            for peer in (alice, late, again):
                peer.send(b"QUIT\n\n")
                peer.rest()

    def test_message_sent_on_both_connections_in_one_commit_is_one(self) -> None:
        [alice] = self.users("alice")
        first, second = self.bob("Instance: one")
        with self.paused():
            for peer in (first, second):
                peer.send(request("SEND alice", body="hello"))
        numbers = set()
        for peer in (first, second):
            while not (frame := peer.frame())[0].startswith("SENT"):
                pass
            numbers.add(frame[1]["message"])
        self.assertEqual(len(numbers), 1)
        first.ask("SEND alice", body="end")
        self.assertEqual([body for _, _, body in self.until(alice, "end")], [b"hello"])


class ThiefTests(OrderTestCase):
    """Somebody has found out a password, and keeps nothing of what it was good for."""

    def setUp(self) -> None:
        super().setUp()
        self.key = Key()
        self.owner = self.connect()
        self.token = self.owner.register("alice")["session"]
        start, _, _ = self.owner.ask("ACCOUNT register", f"Key: {self.key.public}", body="stolen")
        self.assertEqual(start, "ACCOUNT register")

    def ask_for(self, name: str, *headers: str) -> str:
        """Ask for a name; return how the answer begins."""
        return self.connect("127.0.5.1").ask(f"REGISTER {name}", *headers)[0]

    def log_in(self, password: str) -> tuple[Peer, str]:
        """Log in by a password; return the connection and its token."""
        peer = self.connect("127.0.5.1")
        self.assertTrue(peer.ask("REGISTER alice")[0].startswith("ERROR 106"))
        start, headers, _ = peer.ask("AUTH password", body=password)
        self.assertEqual(start, "REGISTERED alice")
        return peer, headers["session"]

    def refused(self, token: str) -> str:
        """How a login by a token is refused that must be worthless."""
        return self.ask_for("alice", f"Session: {token}")[:9]

    def test_old_token_is_worth_nothing_after_the_account_was_given_up_and_made_anew(
        self,
    ) -> None:
        thief, token = self.log_in("stolen")
        thief.close()
        self.assertEqual(self.owner.ask("ACCOUNT unregister")[0], "ACCOUNT unregister")
        self.assertEqual(self.refused(token), "ERROR 105")
        start, _, _ = self.owner.ask("ACCOUNT register", f"Key: {Key().public}")
        self.assertEqual(start, "ACCOUNT register")
        self.assertEqual(self.refused(token), "ERROR 106")
        self.kill()
        self.start()
        self.assertEqual(self.refused(token), "ERROR 106")
        self.assertEqual(self.ask_for("alice", f"Session: {self.token}"), "REGISTERED alice")

    def test_connected_thief_makes_no_account_of_the_one_that_was_given_up(self) -> None:
        thief, token = self.log_in("stolen")
        self.assertEqual(self.owner.ask("ACCOUNT unregister")[0], "ACCOUNT unregister")
        start, _, _ = thief.ask("ACCOUNT register", body="mine")
        self.assertTrue(start.startswith("ERROR 111"), start)
        self.assertEqual(self.refused(token), "ERROR 105")
        start, _, _ = self.owner.ask("ACCOUNT register", f"Key: {Key().public}")
        self.assertEqual(start, "ACCOUNT register")
        self.assertTrue(thief.ask("ACCOUNT password", body="mine")[0].startswith("ERROR 111"))

    def thieves(self, count: int) -> list[Peer]:
        """Connections on which the password is to be said."""
        peers = []
        for number in range(count):
            peers.append(self.connect(f"127.0.5.{number + 2}"))
            self.assertTrue(peers[-1].ask("REGISTER alice")[0].startswith("ERROR 106"))
        return peers

    def test_password_that_is_removed_while_it_is_verified_lets_nobody_in(self) -> None:
        [thief] = self.thieves(1)
        with self.paused():
            thief.send(request("AUTH password", body="stolen"))
            self.owner.send(request("ACCOUNT password"))  # is committed in the same turn
        self.assertEqual(self.answer(self.owner), "ACCOUNT password")
        self.assertTrue(self.answer(thief).startswith("ERROR 107"))

    def test_login_by_the_old_password_leaves_no_valid_token_after_the_new_one(self) -> None:
        thieves = self.thieves(3)
        with self.paused():
            for thief in thieves[:2]:
                thief.send(request("AUTH password", body="stolen"))
            self.owner.send(request("ACCOUNT password", body="new"))
            thieves[2].send(request("AUTH password", body="stolen"))
        self.assertEqual(self.answer(self.owner), "ACCOUNT password")
        for thief in thieves:
            start, headers, _ = thief.frame()
            if start.startswith("REGISTERED"):
                token = f"Session: {headers['session']}"
                self.assertTrue(self.ask_for("alice", token).startswith("ERROR 106"))
                refused, _, _ = thief.ask("ACCOUNT unregister")
                self.assertTrue(refused.startswith("ERROR 111"), refused)
            else:
                self.assertTrue(start.startswith("ERROR 107"), start)
