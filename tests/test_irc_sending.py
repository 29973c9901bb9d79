"""PRIVMSG, NOTICE, TAGMSG and BATCH against a hub in memory: who gets what, and what the sender is
told.
"""

from __future__ import annotations

from chat_twisted.core.commands import CONSOLE, MODERATED, MUTE, Impose, MakeAccount, new_id
from chat_twisted.core.turns import unlimited
from chat_twisted.doors.irc.commands.multiline import BATCH_TIME
from chat_twisted.doors.irc.multiline import MAX_LINES
from tests.door import Client
from tests.irc import IRCClient, IRCTestCase

LABELS = "batch labeled-response message-tags"
ECHO = f"{LABELS} echo-message"
LONG = f"{ECHO} draft/multiline"


def without_numbers(lines: list[str]) -> list[str]:
    """Return lines without the tag msgid, and with x for numbers of batches."""
    found = []
    for line in lines:
        tags, space, rest = line.partition(" ") if line.startswith("@") else ("", "", line)
        kept = [tag for tag in tags[1:].split(";") if tag and not tag.startswith("msgid=")]
        found.append((f"@{';'.join(kept)}{space}" if kept else "") + rest)
    return found


def msgids(lines: list[str]) -> list[str]:
    """Return the values of the tag msgid."""
    return [
        tag.removeprefix("msgid=")
        for line in lines
        if line.startswith("@")
        for tag in line[1:].partition(" ")[0].split(";")
        if tag.startswith("msgid=")
    ]


class QuietTestCase(IRCTestCase):
    """Clients don't see who came before or after them."""

    def setUp(self) -> None:
        super().setUp()
        self.joined: list[IRCClient] = []

    def join(self, nick: str, *channels: str, caps: str = "") -> IRCClient:
        self.joined.append(super().join(nick, *channels, caps=caps))
        self.forget()
        return self.joined[-1]

    def user(self, name: str, *headers: str) -> Client:
        user = super().user(name, *headers)
        self.forget()
        return user

    def forget(self) -> None:
        """Forget the lines that clients got until now."""
        for client in self.joined:
            client.lines()


class SendingTests(QuietTestCase):
    def test_several_targets_get_a_message_and_a_refused_one_is_named(self) -> None:
        alice, bob, carol = self.join("alice"), self.join("bob"), self.join("carol")
        lines = alice.say("PRIVMSG bob,nobody,Bob,carol :hi")
        self.assertEqual(lines, [":chat.server 401 alice nobody :No such nick"])
        self.assertEqual(bob.lines(), [":alice!alice@chat PRIVMSG bob :hi"])
        self.assertEqual(carol.lines(), [":alice!alice@chat PRIVMSG carol :hi"])

    def test_too_many_targets_get_nothing(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        lines = alice.say("PRIVMSG bob,b,c,d,e :hi")
        self.assertEqual(lines, [":chat.server 407 alice e :Too many targets"])
        self.assertEqual(bob.lines(), [])

    def test_a_line_without_target_or_text_is_refused_but_not_of_a_notice(self) -> None:
        alice = self.join("alice")
        self.assertEqual(
            alice.say("PRIVMSG", "PRIVMSG bob", "PRIVMSG bob :", "PRIVMSG , :hi"),
            [
                ":chat.server 411 alice :No recipient given (PRIVMSG)",
                ":chat.server 412 alice :No text to send",
                ":chat.server 412 alice :No text to send",
                ":chat.server 411 alice :No recipient given (PRIVMSG)",
            ],
        )
        self.assertEqual(alice.say("NOTICE", "NOTICE bob", "NOTICE nobody :x", "NOTICE a,b :x"), [])

    def test_the_number_of_the_refusal_says_why(self) -> None:
        alice, bob = self.join("alice"), self.join("bob", "#b")
        self.assertEqual(
            alice.say("PRIVMSG #none :x", "PRIVMSG #b :x", "PRIVMSG #n@me :x", "PRIVMSG & :x"),
            [
                ":chat.server 403 alice #none :No such channel",
                ":chat.server 404 alice #b :Cannot send to channel (you have not joined it)",
                ":chat.server 403 alice #n@me :No such channel",
                ":chat.server 403 alice & :No such channel",
            ],
        )
        alice.say("JOIN #b")
        bob.say("MODE #b +m")
        alice.lines()
        self.assertIn(MODERATED, self.hub.state.room_names["#b"].modes)
        self.assertEqual(
            alice.say("PRIVMSG #b :x"),
            [":chat.server 404 alice #b :Cannot send to channel (+m)"],
        )

    def test_a_muted_user_is_told_until_when_and_why(self) -> None:
        alice = self.join("alice")
        until = 1_900_000_000_000
        self.hub.ask(Impose(CONSOLE, 0, MUTE, "alice", until, "spam"))
        self.assertEqual(
            alice.say("PRIVMSG ALL :x", "@label=1 PRIVMSG ALL :x"),
            [":chat.server 404 alice ALL :You are muted until 2030-03-17 17:46 UTC: spam"] * 2,
        )

    def test_everybody_has_three_names(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        self.assertEqual(alice.say("PRIVMSG ALL :1", "PRIVMSG &ALL :2", "PRIVMSG &all :3"), [])
        self.assertEqual(
            bob.lines(), [f":alice!alice@chat PRIVMSG &ALL :{number}" for number in (1, 2, 3)]
        )

    def test_a_text_to_everybody_is_taken_when_nobody_else_is_here(self) -> None:
        self.assertEqual(self.join("alice").say("PRIVMSG &ALL :x"), [])

    def test_a_text_that_is_longer_than_allowed_is_refused_as_a_whole(self) -> None:
        self.irc.context.max_message = 100
        alice, bob = self.join("alice", caps=LABELS), self.join("bob")
        refused = ":chat.server 417 alice :The text is too long"
        lines = alice.say("PRIVMSG bob :" + "x" * 101, "@label=a PRIVMSG bob :" + "é" * 51)
        self.assertEqual(lines, [refused, "@label=a " + refused])
        self.assertEqual(bob.lines(), [])
        alice.say("PRIVMSG bob :" + "é" * 50)
        self.assertEqual(len(bob.lines()), 1)

    def test_the_sender_is_told_that_the_recipient_is_away_or_absent(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        bob.say("AWAY :lunch")
        self.assertEqual(alice.say("PRIVMSG bob :x"), [":chat.server 301 alice bob :lunch"])
        self.assertEqual(alice.say("NOTICE bob :x"), [])
        self.hub.ask(MakeAccount(CONSOLE, 0, "", hash="x", name="carol", id=new_id()))
        (line,) = alice.say("PRIVMSG carol :x")
        self.assertTrue(line.startswith(":chat.server 301 alice carol :is not here"), line)

    def test_a_message_to_oneself_comes_back_and_with_an_echo_it_comes_twice(self) -> None:
        alice = self.join("alice")
        line = ":alice!alice@chat PRIVMSG alice :x"
        self.assertEqual(alice.say("PRIVMSG alice :x"), [line])
        alice.say(f"CAP REQ :{ECHO}")
        lines = alice.say("@label=1 PRIVMSG alice :x")
        self.assertEqual(without_numbers(lines), [line, f"@label=1 {line}"])
        self.assertEqual(len(set(msgids(lines))), 1)

    def test_without_an_echo_a_labeled_message_is_acknowledged(self) -> None:
        alice = self.join("alice", caps=LABELS)
        self.join("bob")
        self.assertEqual(
            alice.say("@label=1 PRIVMSG bob :x", "@label=2 NOTICE nobody :x"),
            ["@label=1 :chat.server ACK", "@label=2 :chat.server ACK"],
        )

    def test_an_echo_is_the_same_for_a_line_with_a_label_and_one_without(self) -> None:
        alice = self.join("alice", caps=ECHO)
        bob = self.join("bob")
        lines = alice.say("PRIVMSG bob :x", "@label=2 PRIVMSG bob :x", "NOTICE bob :y")
        line = ":alice!alice@chat PRIVMSG bob :x"
        notice = ":alice!alice@chat NOTICE bob :y"
        self.assertEqual(without_numbers(lines), [line, f"@label=2 {line}", notice])
        self.assertEqual(len(set(msgids(lines))), 3)
        self.assertEqual(bob.lines(), [line, line, notice])

    def test_the_echoes_of_several_targets_are_one_batch(self) -> None:
        alice = self.join("alice", caps=ECHO)
        self.join("bob")
        self.join("carol")
        lines = without_numbers(alice.say("@label=l PRIVMSG bob,carol,nobody :x"))
        self.assertEqual(
            lines,
            [
                "@label=l :chat.server BATCH +1 labeled-response",
                "@batch=1 :alice!alice@chat PRIVMSG bob :x",
                "@batch=1 :alice!alice@chat PRIVMSG carol :x",
                "@batch=1 :chat.server 401 alice nobody :No such nick",
                ":chat.server BATCH -1",
            ],
        )

    def test_a_line_that_is_not_utf8_is_refused_with_its_label(self) -> None:
        alice = self.join("alice", caps=LABELS)
        refused = ":chat.server FAIL PRIVMSG INVALID_UTF8 :The line is not UTF-8"
        self.assertEqual(
            alice.say(b"PRIVMSG bob :\xff", b"@label=1 PRIVMSG bob :\xff"),
            [refused, f"@label=1 {refused}"],
        )
        self.assertEqual(
            alice.say("@label=2 PRIVMSG bob :" + "x" * 600),
            ["@label=2 :chat.server 417 alice :Input line was too long"],
        )

    def test_a_pong_with_a_label_is_acknowledged(self) -> None:
        alice = self.join("alice", caps=LABELS)
        self.assertEqual(alice.say("@label=1 PONG x", "PONG x"), ["@label=1 :chat.server ACK"])


class DeviceTests(QuietTestCase):
    """A user with an account and two clients, of which one can show what the other one sends."""

    def setUp(self) -> None:
        super().setUp()
        hash = self.successResultOf(self.gate.passwords.hash("secret", unlimited("test")))
        self.hub.ask(MakeAccount(CONSOLE, 0, "", hash=hash, name="alice", id=new_id()))
        self.clock.advance(0)
        self.phone, self.laptop = self.device("CAP REQ echo-message", "CAP END"), self.device()
        self.forget()

    def device(self, *lines: str) -> IRCClient:
        client = self.client()
        welcome = client.say("PASS secret", "NICK alice", "USER alice 0 * :alice", *lines)
        self.assertTrue(any(" 001 alice " in line for line in welcome), welcome)
        self.joined.append(client)
        return client

    def test_a_direct_message_reaches_both_and_one_of_them_can_confirm_it(self) -> None:
        bob = self.user("bob")
        bob.ask("SEND alice\nContent-length: 2\n\nhi")
        self.clock.pump([0.1] * 3)
        for client in (self.phone, self.laptop):
            self.assertEqual(client.lines(), [":bob!bob@chat PRIVMSG alice :hi"])
            self.assertEqual(client.receipts, [f"PING :m{self.hub.newest}"])
        self.assertEqual(bob.ask(""), b"")
        self.laptop.say(f"PONG :m{self.hub.newest}")
        self.assertIn(b"DELIVERED alice", bob.ask(""))

    def test_what_one_client_sends_is_shown_by_the_other_if_it_can(self) -> None:
        bob = self.join("bob")
        line = ":alice!alice@chat PRIVMSG bob :hi"
        self.assertEqual(self.laptop.say("PRIVMSG bob :hi"), [])
        self.assertEqual(self.phone.lines(), [line])
        self.assertEqual(self.phone.say("PRIVMSG bob :hi"), [line])
        self.assertEqual(self.laptop.lines(), [])
        self.assertEqual(bob.lines(), [line, line])

    def test_a_message_to_oneself_reaches_the_other_client(self) -> None:
        line = ":alice!alice@chat PRIVMSG alice :hi"
        self.assertEqual(self.laptop.say("PRIVMSG alice :hi"), [line])
        self.assertEqual(self.phone.lines(), [line])
        self.assertEqual(self.phone.say("PRIVMSG alice :hi"), [line, line])
        self.assertEqual(self.laptop.lines(), [line])


class TagTests(QuietTestCase):
    def test_each_client_gets_the_tags_that_it_has_asked_for(self) -> None:
        alice = self.join("alice", caps="message-tags")
        clients = {
            caps: self.join(f"user{number}", "#a", caps=caps)
            for number, caps in enumerate(["", "server-time", "account-tag", "message-tags"])
        }
        alice.say("JOIN #a")
        self.forget()
        alice.say("@+x=1;y=2 PRIVMSG #a :hi")
        line = ":alice!alice@chat PRIVMSG #a :hi"
        found = {caps: client.lines() for caps, client in clients.items()}
        self.assertEqual(found[""], [line])
        self.assertEqual(found["account-tag"], [line])
        (timed,) = found["server-time"]
        self.assertTrue(timed.startswith("@time=") and timed.endswith(f"Z {line}"), timed)
        self.assertEqual(without_numbers(found["message-tags"]), [f"@+x=1 {line}"])
        self.assertEqual(len(msgids(found["message-tags"])), 1)

    def test_the_account_of_the_author_is_a_tag(self) -> None:
        bob = self.join("bob", caps="account-tag")
        alice = self.user("alice")
        user = self.hub.state.names["alice"]
        self.hub.ask(MakeAccount(user.id, next(iter(user.sessions)), "ssh-ed25519 AAAA"))
        bob.lines()
        alice.ask("SEND bob\nContent-length: 2\n\nhi")
        self.assertEqual(bob.lines(), ["@account=alice :alice!alice@chat PRIVMSG bob :hi"])

    def test_messages_of_a_bot_have_a_tag(self) -> None:
        alice, bob = self.join("alice", caps="message-tags"), self.user("bot", "Bot: yes")
        bob.ask("SEND alice\nContent-length: 2\n\nhi")
        self.assertEqual(without_numbers(alice.lines()), ["@bot :bot!bot@chat PRIVMSG alice :hi"])

    def test_a_client_without_message_tags_sends_none(self) -> None:
        alice, bob = self.join("alice"), self.join("bob", caps="message-tags")
        alice.say("@+x=1 PRIVMSG bob :hi")
        self.assertEqual(without_numbers(bob.lines()), [":alice!alice@chat PRIVMSG bob :hi"])
        (line,) = alice.say("@+x=1 TAGMSG bob")
        self.assertIn(" 421 alice TAGMSG :", line)


class SignalTests(QuietTestCase):
    def test_a_tagmsg_reaches_clients_with_tags_and_is_not_kept(self) -> None:
        alice = self.join("alice", "#a", caps=ECHO)
        bob, carol = self.join("bob", "#a", caps="message-tags"), self.join("carol", "#a")
        newest = self.hub.newest
        echo = alice.say(r"@label=1;+typing=active\:;cat=1 TAGMSG #a")
        line = ":alice!alice@chat TAGMSG #a"
        self.assertEqual(without_numbers(echo), [rf"@label=1;+typing=active\: {line}"])
        relayed = bob.lines()
        self.assertEqual(without_numbers(relayed), [rf"@+typing=active\: {line}"])
        self.assertEqual(msgids(echo), msgids(relayed))
        self.assertEqual(carol.lines(), [])
        self.assertEqual(self.hub.newest, newest)

    def test_tags_of_the_greatest_length_pass_whole(self) -> None:
        alice, bob = self.join("alice", caps=ECHO), self.join("bob", caps="message-tags")
        value = "a" * 4081
        for line in (f"@foo=bar;+baz={value} TAGMSG bob", f"@foo=bar;+baz={value} PRIVMSG bob :x"):
            (echo,) = alice.say(line)
            (relayed,) = bob.lines()
            self.assertEqual(echo, relayed)
            self.assertTrue(echo.startswith(f"@+baz={value};msgid="))
            (refused,) = alice.say(line.replace("+baz=", "+baz=a"))
            self.assertIn(" 417 ", refused)
            self.assertEqual(bob.lines(), [])

    def test_a_request_by_ctcp_and_its_answer_pass_between_irc_clients(self) -> None:
        alice, bob, framed = self.join("alice"), self.join("bob"), self.user("carol")
        alice.say("PRIVMSG bob :\x01VERSION\x01", "PRIVMSG carol :\x01VERSION\x01")
        self.assertEqual(bob.lines(), [":alice!alice@chat PRIVMSG bob :\x01VERSION\x01"])
        self.assertEqual(framed.ask(""), b"")
        self.assertEqual(bob.say("NOTICE alice :\x01VERSION irssi\x01"), [])
        self.assertEqual(alice.lines(), [":bob!bob@chat NOTICE alice :\x01VERSION irssi\x01"])

    def test_a_request_passes_no_control_sequence_to_a_terminal(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        alice.say("PRIVMSG bob :\x01FINGER \x1b[2J\x01x\x01", "NOTICE bob :\x01A \x02b\x07")
        self.assertEqual(
            bob.lines(),
            [
                ":alice!alice@chat PRIVMSG bob :\x01FINGER ␛[2J␁x\x01",
                ":alice!alice@chat NOTICE bob :\x01A \x02b␇",
            ],
        )

    def test_a_request_to_everybody_is_shown_where_the_channel_is_joined(self) -> None:
        alice, bob, carol = self.join("alice"), self.join("bob"), self.join("carol")
        carol.say("PART &ALL")
        bob.lines()
        alice.say("PRIVMSG &all :\x01PING 1\x01")
        self.assertEqual(bob.lines(), [":alice!alice@chat PRIVMSG &ALL :\x01PING 1\x01"])
        self.assertEqual(carol.lines(), [])

    def test_a_request_that_does_not_fit_a_line_is_refused_not_cut(self) -> None:
        alice, bob = self.join("alice"), self.join("bob")
        for target, shown in (("bob", "bob"), ("ALL", "&ALL")):
            fits = 510 - len(f":alice!alice@chat PRIVMSG {shown} :\x01PING \x01")
            self.assertEqual(alice.say(f"PRIVMSG {target} :\x01PING {'1' * fits}\x01"), [])
            (line,) = bob.lines()
            self.assertEqual((len(line), line[-1]), (510, "\x01"))
            (refused,) = alice.say(f"PRIVMSG {target} :\x01PING {'1' * (fits + 1)}\x01")
            self.assertEqual(refused, ":chat.server 417 alice :The text is too long")

    def test_signals_are_refused_as_messages_are(self) -> None:
        alice = self.join("alice", caps="message-tags")
        self.hub.ask(MakeAccount(CONSOLE, 0, "", hash="x", name="dora", id=new_id()))
        for target in ("nobody", "dora"):
            (line,) = alice.say(f"PRIVMSG {target} :\x01VERSION\x01")
            self.assertEqual(line, f":chat.server 401 alice {target} :No such nick")
            (line,) = alice.say(f"@+x TAGMSG {target}")
            self.assertEqual(line, f":chat.server 401 alice {target} :No such nick")
            self.assertEqual(alice.say(f"NOTICE {target} :\x01VERSION 1\x01"), [])

    def test_a_signal_to_oneself_comes_back(self) -> None:
        alice = self.join("alice", caps=ECHO)
        lines = alice.say("@label=1;+x TAGMSG alice")
        line = ":alice!alice@chat TAGMSG alice"
        self.assertEqual(without_numbers(lines), [f"@+x {line}", f"@label=1;+x {line}"])

    def test_an_action_is_a_message_of_that_kind_in_all_doors(self) -> None:
        alice, bob, framed = self.join("alice"), self.join("bob"), self.user("carol")
        alice.say("PRIVMSG &ALL :\x01ACTION waves\x01")
        self.assertEqual(bob.lines(), [":alice!alice@chat PRIVMSG &ALL :\x01ACTION waves\x01"])
        frame = framed.ask("")
        self.assertIn(b"Kind: action", frame)
        self.assertTrue(frame.endswith(b"waves"), frame)
        framed.ask("SEND bob\nKind: action\nContent-length: 4\n\nbows")
        self.assertEqual(bob.lines(), [":carol!carol@chat PRIVMSG bob :\x01ACTION bows\x01"])
        (line,) = alice.say("PRIVMSG bob :\x01ACTION\x01")
        self.assertIn(" 412 ", line)


class MultilineTests(QuietTestCase):
    def three_lines(self, alice: IRCClient, opening: str = "BATCH +1 draft/multiline #a") -> None:
        self.echo = alice.say(
            opening,
            "@batch=1 PRIVMSG #a :",
            "@batch=1 PRIVMSG #a :how is ",
            "@batch=1;draft/multiline-concat PRIVMSG #a :everyone?",
            "BATCH -1",
        )

    def test_a_batch_is_one_message_with_the_lines_that_were_sent(self) -> None:
        alice, bob = self.join("alice", "#a", caps=LONG), self.join("bob", "#a", caps=LONG)
        carol, framed = self.join("carol", "#a", caps="message-tags"), self.user("dora")
        framed.ask("JOIN #a\n\n")
        self.forget()
        self.three_lines(alice, "@label=l;+x BATCH +1 draft/multiline #a")
        number = self.hub.newest
        lines = [
            f":alice!alice@chat BATCH +m{number} draft/multiline #a",
            f"@batch=m{number} :alice!alice@chat PRIVMSG #a :",
            f"@batch=m{number} :alice!alice@chat PRIVMSG #a :how is ",
            f"@batch=m{number};draft/multiline-concat :alice!alice@chat PRIVMSG #a :everyone?",
            f":alice!alice@chat BATCH -m{number}",
        ]
        self.assertEqual(self.echo, [f"@label=l;+x;msgid={number} {lines[0]}", *lines[1:]])
        self.assertEqual(bob.lines(), [f"@+x;msgid={number} {lines[0]}", *lines[1:]])
        self.assertEqual(
            carol.lines(),
            [
                f"@+x;msgid={number} :alice!alice@chat PRIVMSG #a :how is ",
                "@+x :alice!alice@chat PRIVMSG #a :everyone?",
            ],
        )
        self.assertTrue(framed.ask("").endswith(b"\nhow is everyone?"))

    def test_a_batch_without_an_echo_is_acknowledged_once(self) -> None:
        alice = self.join("alice", "#a", caps=f"{LABELS} draft/multiline")
        self.three_lines(alice, "@label=l BATCH +1 draft/multiline #a")
        self.assertEqual(self.echo, ["@label=l :chat.server ACK"])

    def test_a_refused_message_is_told_with_the_label_of_the_batch(self) -> None:
        alice = self.join("alice", caps=LONG)
        self.three_lines(alice, "@label=l BATCH +1 draft/multiline #a")
        self.assertEqual(self.echo, ["@label=l :chat.server 403 alice #a :No such channel"])

    def test_a_text_of_several_lines_from_another_door_is_one_batch(self) -> None:
        alice, bob = self.join("alice", caps=LONG), self.user("bob")
        bob.ask("SEND alice\nContent-length: 4\n\na\n\nb")
        number = self.hub.newest
        self.assertEqual(
            alice.lines(),
            [
                f"@msgid={number} :bob!bob@chat BATCH +m{number} draft/multiline alice",
                f"@batch=m{number} :bob!bob@chat PRIVMSG alice :a",
                f"@batch=m{number} :bob!bob@chat PRIVMSG alice :",
                f"@batch=m{number} :bob!bob@chat PRIVMSG alice :b",
                f":bob!bob@chat BATCH -m{number}",
            ],
        )

    def test_other_lines_are_processed_while_a_batch_is_open(self) -> None:
        alice, bob = self.join("alice", "#a", caps=LONG), self.join("bob", "#a")
        alice.say("BATCH +1 draft/multiline #a", "@batch=1 PRIVMSG #a :1")
        self.assertEqual(alice.say("PING x"), [":chat.server PONG chat.server :x"])
        alice.say("PRIVMSG #a :between", "@batch=1 PRIVMSG #a :2", "BATCH -1")
        self.assertEqual(
            bob.lines(), [f":alice!alice@chat PRIVMSG #a :{text}" for text in ("between", "1", "2")]
        )

    def test_faulty_batches_are_refused_once_and_send_nothing(self) -> None:
        alice, bob = self.join("alice", "#a", caps=LONG), self.join("bob", "#a")
        for code, lines in {
            "MULTILINE_INVALID": ["@batch=1;draft/multiline-concat PRIVMSG #a :"],
            "MULTILINE_INVALID_TARGET #a #b": ["@batch=1 PRIVMSG #b :x"],
            f"MULTILINE_MAX_LINES {MAX_LINES}": ["@batch=1 PRIVMSG #a :x"] * (MAX_LINES + 1),
            f"MULTILINE_MAX_BYTES {self.max_message}": ["@batch=1 PRIVMSG #a :" + "x" * 480]
            * (self.max_message // 480 + 1),
        }.items():
            (refused,) = alice.say(
                "@label=l BATCH +1 draft/multiline #a",
                "@batch=1 PRIVMSG #a :x",
                *lines,
                "@batch=1 PRIVMSG #a :more",
                "BATCH -1",
            )
            self.assertIn(f"@label=l :chat.server FAIL BATCH {code} :", refused)
            self.assertEqual(bob.lines(), [])

    def test_a_line_of_a_batch_that_is_not_utf8_spoils_the_batch(self) -> None:
        alice, bob = self.join("alice", "#a", caps=LONG), self.join("bob", "#a")
        (refused,) = alice.say(
            b"BATCH +1 draft/multiline #a",
            b"@batch=1 PRIVMSG #a :x",
            b"@batch=1 PRIVMSG #a :\xff",
            b"@batch=1 PRIVMSG #a :y",
            b"BATCH -1",
        )
        self.assertIn("FAIL PRIVMSG INVALID_UTF8", refused)
        self.assertEqual(bob.lines(), [])

    def test_a_batch_that_is_not_completed_is_discarded(self) -> None:
        alice = self.join("alice", "#a", caps=LONG)
        alice.say("@label=l BATCH +1 draft/multiline #a", "@batch=1 PRIVMSG #a :x")
        self.clock.advance(BATCH_TIME)
        (refused,) = alice.lines()
        self.assertIn("@label=l :chat.server FAIL BATCH TIMEOUT 1 :", refused)
        alice.say("BATCH +1 draft/multiline #a", "@batch=1 PRIVMSG #a :x", "BATCH -1")
        self.clock.advance(BATCH_TIME)
        self.assertEqual(alice.lines(), [])

    def test_a_batch_ends_with_its_connection(self) -> None:
        alice, bob = self.join("alice", "#a", caps=LONG), self.join("bob", "#a")
        alice.say("BATCH +1 draft/multiline #a", "@batch=1 PRIVMSG #a :x")
        bob.lines()
        alice.gone()
        self.clock.advance(BATCH_TIME)
        self.assertFalse([line for line in bob.lines() if "PRIVMSG" in line])

    def test_a_client_that_has_not_asked_for_batches_is_told_so(self) -> None:
        alice = self.join("alice")
        (line,) = alice.say("BATCH +1 draft/multiline #a")
        self.assertIn(" 421 alice BATCH :", line)
