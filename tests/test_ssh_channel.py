"""The session channel of SSH: its requests, windows and end; and all that is refused."""

from __future__ import annotations

import struct

from twisted.conch.ssh.common import NS

from chat_twisted.doors.ssh import channel as c
from chat_twisted.doors.ssh.visits import Size, VisitRefused
from tests.ssh import UNIMPLEMENTED, SSHClient, SSHTestCase, StubVisit

OURS, THEIRS = struct.pack(">L", 0), struct.pack(">L", 7)
KEEPALIVE = (c.GLOBAL_REQUEST, NS(b"keepalive@openssh.com") + b"\1")


def data(content: bytes) -> tuple[int, bytes]:
    return c.CHANNEL_DATA, THEIRS + NS(content)


def error(content: bytes) -> tuple[int, bytes]:
    return c.CHANNEL_EXTENDED_DATA, THEIRS + struct.pack(">L", 1) + NS(content)


def adjustment(count: int) -> tuple[int, bytes]:
    return c.CHANNEL_WINDOW_ADJUST, THEIRS + struct.pack(">L", count)


def status(code: int) -> list[tuple[int, bytes]]:
    """Return the packets of the end."""
    request = THEIRS + NS(b"exit-status") + b"\0" + struct.pack(">L", code)
    return [(c.CHANNEL_REQUEST, request), (c.CHANNEL_EOF, THEIRS), (c.CHANNEL_CLOSE, THEIRS)]


class OpeningTests(SSHTestCase):
    def opened(self) -> SSHClient:
        client = self.client()
        client.log_in()
        client.open()
        return client

    def test_the_window_is_small_until_it_is_known_whether_there_is_a_terminal(self) -> None:
        client = self.client()
        client.log_in()
        content = THEIRS + OURS + struct.pack(">2L", c.TERMINAL_WINDOW, c.MAX_DATA)
        self.assertEqual(client.open(), [(c.CHANNEL_OPEN_CONFIRMATION, content)])
        client.request(b"shell")
        self.assertEqual(client.packets(), [adjustment(c.PIPE_WINDOW - c.TERMINAL_WINDOW)])
        client, _ = self.visit(terminal=True)
        self.assertEqual(client.packets(), [])

    def test_a_shell_and_a_command(self) -> None:
        _, visit = self.visit()
        self.assertEqual(visit.wish, ({}, None, None))
        _, visit = self.visit("@bob: grüß dich".encode())
        self.assertEqual(visit.wish.command, "@bob: grüß dich")

    def test_a_command_that_is_not_utf_8_is_text_all_the_same(self) -> None:
        _, visit = self.visit(b"\xff")
        self.assertEqual(visit.wish.command, "\ufffd")

    def test_a_terminal(self) -> None:
        _, visit = self.visit(terminal=True)
        self.assertEqual(visit.wish, ({"TERM": "xterm"}, Size(80, 24), None))

    def test_sizes_of_terminals_are_sane(self) -> None:
        for columns, rows, size in (
            (0, 0, Size(80, 24)),
            (1, 1, Size(1, 1)),
            (2**32 - 1, 1001, Size(1000, 1000)),
        ):
            client = self.opened()
            client.terminal(columns=columns, rows=rows)
            client.request(b"shell")
            self.assertEqual(self.visits.visits[-1].wish.size, size)

    def test_a_terminal_of_a_strange_kind_is_refused(self) -> None:
        for term in (b"x" * 101, b"\x1b[2J", b"a\nb"):
            self.assertFalse(self.opened().terminal(term))

    def test_some_variables_are_taken(self) -> None:
        client = self.opened()
        for name, value, is_taken in (
            (b"TZ", b"Europe/Berlin", True),
            (b"LANG", b"de_DE.UTF-8", True),
            (b"LC_CTYPE", b"C.UTF-8", True),
            (b"NO_COLOR", b"", True),
            (b"COLORTERM", b"truecolor", True),
            (b"PATH", b"/tmp", False),
            (b"LD_PRELOAD", b"x", False),
            (b"TERM", b"x", False),
            (b"LC_", b"x", False),
            (b"LC_\xff", b"x", False),
            (b"LANG", b"x" * 101, False),
            (b"LANG", "ä".encode() * 51, False),
            (b"LANG", b"\x1b]0;x\a", False),
        ):
            self.assertEqual(client.request(b"env", NS(name) + NS(value)), is_taken, name)
        client.request(b"shell")
        self.assertEqual(
            self.visits.visits[-1].wish.environment,
            {
                "TZ": "Europe/Berlin",
                "LANG": "de_DE.UTF-8",
                "LC_CTYPE": "C.UTF-8",
                "NO_COLOR": "",
                "COLORTERM": "truecolor",
            },
        )

    def test_variables_are_bounded(self) -> None:
        client = self.opened()
        taken = [client.request(b"env", NS(b"LC_" + b"A" * i) + NS(b"")) for i in range(1, 21)]
        self.assertTrue(all(taken))
        self.assertFalse(client.request(b"env", NS(b"TZ") + NS(b"")))

    def test_there_is_one_visit(self) -> None:
        client, _ = self.visit()
        for kind in (b"shell", b"exec", b"subsystem"):
            self.assertFalse(client.request(kind, NS(b"sftp")))
        self.assertFalse(client.terminal())
        self.assertFalse(client.request(b"env", NS(b"TZ") + NS(b"UTC")))
        self.assertEqual(len(self.visits.visits), 1)

    def test_there_is_one_channel(self) -> None:
        client, _ = self.visit()
        client.packets()
        [(number, content)] = client.open()
        self.assertEqual(number, c.CHANNEL_OPEN_FAILURE)
        self.assertEqual(content[:8], struct.pack(">2L", 7, c.RESOURCE_SHORTAGE))

    def test_other_channels_are_refused(self) -> None:
        client = self.opened()
        for kind, reason in (
            (b"direct-tcpip", c.ADMINISTRATIVELY_PROHIBITED),
            (b"x11", c.ADMINISTRATIVELY_PROHIBITED),
            (b"something@example.com", c.UNKNOWN_CHANNEL_TYPE),
        ):
            [(number, content)] = client.open(kind)
            self.assertEqual(number, c.CHANNEL_OPEN_FAILURE)
            self.assertEqual(content[:8], struct.pack(">2L", 7, reason))
        self.assertTrue(client.request(b"shell"))

    def test_other_requests_are_refused(self) -> None:
        client = self.opened()
        for kind in (b"auth-agent-req@openssh.com", b"x11-req", b"xon-xoff", b"\xff"):
            self.assertFalse(client.request(kind, b"\0" * 40))
        self.assertFalse(client.request(b"subsystem", NS(b"netconf")))
        for kind in (b"tcpip-forward", b"hostkeys-prove-00@openssh.com"):
            refused = client.send(c.GLOBAL_REQUEST, NS(kind) + b"\1" + NS(b"") + OURS)
            self.assertEqual(refused, [(c.REQUEST_FAILURE, b"")])
        quiet = client.send(c.GLOBAL_REQUEST, NS(b"no-more-sessions@openssh.com") + b"\0")
        self.assertEqual(quiet, [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_sftp_is_told_that_there_are_no_files(self) -> None:
        client = self.opened()
        self.assertTrue(client.request(b"subsystem", NS(b"sftp")))
        self.assertEqual(client.packets(), [error(c.NO_FILES), *status(1)])
        self.assertEqual(self.visits.visits, [])

    def test_input_before_the_shell_is_kept(self) -> None:
        client = self.opened()
        client.type(b"hello ")
        client.type(b"there")
        client.send(c.CHANNEL_EOF, OURS)
        client.request(b"shell")
        [visit] = self.visits.visits
        self.assertEqual(visit.input, b"hello there")
        self.assertEqual(visit.told, [("input_ended",)])

    def test_a_visit_may_end_while_it_opens(self) -> None:
        def full(visit: StubVisit) -> None:
            visit.peer.write_error(b"Too many terminals\r\n")
            visit.peer.end(2)

        self.visits.at_opening = full
        client = self.opened()
        client.type(b"early")
        self.assertTrue(client.request(b"shell"))
        packets = [packet for packet in client.packets() if packet[0] != c.CHANNEL_WINDOW_ADJUST]
        self.assertEqual(packets, [error(b"Too many terminals\r\n"), *status(2)])
        self.assertEqual(self.visits.visits[0].input, b"")

    def test_a_host_that_opens_no_visit_says_why(self) -> None:
        def refuse(visit: StubVisit) -> None:
            raise VisitRefused("Too many terminals\nssh -T needs none", 2)

        self.visits.at_opening = refuse
        for terminal, end in ((True, b"\r\n"), (False, b"\n")):
            client = self.opened()
            if terminal:
                client.terminal()
            client.type(b"early")
            self.assertTrue(client.request(b"shell"))
            packets = [
                packet for packet in client.packets() if packet[0] != c.CHANNEL_WINDOW_ADJUST
            ]
            text = end.join([b"Too many terminals", b"ssh -T needs none", b""])
            self.assertEqual(packets, [error(text), *status(2)])
            client.type(b"late")
            client.send(c.CHANNEL_CLOSE, OURS)
            self.assertTrue(client.closed)

    def test_packets_for_no_channel_are_refused(self) -> None:
        for number in range(c.CHANNEL_WINDOW_ADJUST, c.CHANNEL_FAILURE + 1):
            client = self.client()
            client.log_in()
            client.send(number, OURS + NS(b"x"))
            self.assertTrue(client.closed, number)
        client = self.opened()
        client.send(c.CHANNEL_DATA, struct.pack(">L", 1) + NS(b"x"))
        self.assertTrue(client.closed)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_malformed_packets_are_refused(self) -> None:
        for number, content in (
            (c.CHANNEL_DATA, OURS + struct.pack(">L", 5) + b"abc"),
            (c.CHANNEL_DATA, b"\0"),
            (c.CHANNEL_OPEN, NS(b"session")),
            (c.CHANNEL_REQUEST, OURS + NS(b"pty-req") + b"\1" + NS(b"xterm")),
            (c.CHANNEL_WINDOW_ADJUST, OURS),
            (c.GLOBAL_REQUEST, b""),
        ):
            client = self.opened()
            client.send(number, content)
            self.assertTrue(client.closed, number)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_unknown_packets_are_answered(self) -> None:
        client = self.opened()
        sequence = client.ending.outgoingPacketSequence
        expected = [(UNIMPLEMENTED, struct.pack(">L", sequence))]
        self.assertEqual(client.send(192, b"x"), expected)


class TerminalTests(SSHTestCase):
    def test_the_size_may_change(self) -> None:
        client, visit = self.visit(terminal=True)
        size = struct.pack(">4L", 132, 50, 0, 0)
        self.assertTrue(client.request(b"window-change", size))
        self.assertEqual(visit.told, [("resized", 132, 50)])
        client, visit = self.visit()
        self.assertFalse(client.request(b"window-change", size))
        self.assertEqual(visit.told, [])

    def test_signals_and_breaks(self) -> None:
        client, visit = self.visit(terminal=True)
        self.assertTrue(client.request(b"signal", NS(b"TERM")))
        self.assertTrue(client.request(b"break", struct.pack(">L", 500)))
        self.assertEqual(visit.told, [("interrupted", "TERM"), ("interrupted", "INT")])

    def test_the_end_of_input(self) -> None:
        client, visit = self.visit()
        client.send(c.CHANNEL_EOF, OURS)
        self.assertEqual(visit.told, [("input_ended",)])


class InputTests(SSHTestCase):
    def test_the_window_opens_as_the_visit_takes_input(self) -> None:
        self.visits.takes = False
        client, visit = self.visit(terminal=True)
        client.type(b"x" * c.TERMINAL_WINDOW)
        self.assertEqual(client.packets(), [])
        visit.peer.taken(c.TERMINAL_WINDOW // 2 - 1)
        self.assertEqual(client.packets(), [])
        visit.peer.taken(1)
        self.assertEqual(client.packets(), [adjustment(c.TERMINAL_WINDOW // 2)])
        client.type(b"x" * (c.TERMINAL_WINDOW // 2))
        self.assertFalse(client.closed)
        client.type(b"x")
        self.assertTrue(client.closed)

    def test_more_than_a_packet_may_have_is_refused(self) -> None:
        client, visit = self.visit()
        client.type(b"x" * (c.MAX_DATA + 1))
        self.assertTrue(client.closed)
        self.assertEqual(visit.input, b"")

    def test_input_that_is_extended_is_dropped(self) -> None:
        client, visit = self.visit(terminal=True)
        for _ in range(2 * c.TERMINAL_WINDOW // 16_384):
            content = OURS + struct.pack(">L", 1) + NS(b"x" * 16_384)
            client.send(c.CHANNEL_EXTENDED_DATA, content)
        self.assertFalse(client.closed)
        self.assertEqual(visit.input, b"")

    def test_input_after_the_end_is_dropped(self) -> None:
        client, visit = self.visit()
        visit.peer.end(0)
        client.type(b"x")
        client.send(c.CHANNEL_EOF, OURS)
        self.assertEqual((visit.input, visit.told), (b"", []))
        self.assertFalse(client.closed)


class OutputTests(SSHTestCase):
    def test_output_of_one_turn_is_one_packet(self) -> None:
        client, visit = self.visit(terminal=True)
        for word in (b"one ", b"two ", b"three"):
            visit.peer.write(word)
        self.assertEqual(client.packets(), [data(b"one two three")])

    def test_both_streams_keep_their_order(self) -> None:
        client, visit = self.visit(terminal=True)
        visit.peer.write(b"a")
        visit.peer.write_error(b"b")
        visit.peer.write_error(b"c")
        visit.peer.write(b"d")
        self.assertEqual(client.packets(), [data(b"a"), error(b"bc"), data(b"d")])

    def test_packets_are_not_larger_than_the_peer_or_this_side_takes(self) -> None:
        for piece, sizes in ((1000, [1000, 1000, 500]), (2**32 - 1, [2500])):
            client, visit = self.visit(terminal=True, piece=piece)
            visit.peer.write(b"x" * 2500)
            packets = client.packets()
            self.assertEqual([len(content) - 8 for _, content in packets], sizes)
        visit.peer.write(b"x" * 40_000)
        self.assertEqual([len(content) - 8 for _, content in client.packets()], [32_768, 7232])

    def test_a_peer_that_takes_empty_packets_only_is_refused(self) -> None:
        client = self.client()
        client.log_in()
        [(number, _)] = client.open(piece=0)
        self.assertEqual(number, c.CHANNEL_OPEN_FAILURE)

    def test_what_the_window_does_not_take_waits(self) -> None:
        client, visit = self.visit(terminal=True, window=3)
        visit.peer.write(b"abcde")
        visit.peer.write_error(b"fgh")
        self.assertEqual(client.packets(), [data(b"abc")])
        client.adjust(3)
        self.assertEqual(client.packets(), [data(b"de"), error(b"f")])
        client.adjust(0)
        self.assertEqual(client.packets(), [])
        client.adjust(100)
        self.assertEqual(client.packets(), [error(b"gh")])

    def test_a_window_that_is_too_large_is_refused(self) -> None:
        client, _ = self.visit(window=2**32 - 1)
        client.adjust(1)
        self.assertTrue(client.closed)

    def test_the_visit_is_paused_while_much_waits(self) -> None:
        client, visit = self.visit(terminal=True, window=10)
        visit.peer.write(b"x" * (c.PAUSE_AT + 10))
        self.assertEqual(visit.told, [])
        visit.peer.write(b"x")
        visit.peer.write(b"x")
        self.assertEqual(visit.told, [("pause",)])
        client.adjust(c.PAUSE_AT)
        self.assertEqual(visit.told, [("pause",)])
        client.adjust(2)
        self.assertEqual(visit.told, [("pause",), ("resume",)])

    def test_a_visit_that_opens_with_much_is_paused(self) -> None:
        self.visits.at_opening = lambda visit: visit.peer.write(b"x" * (c.PAUSE_AT + 1))
        _, visit = self.visit(terminal=True, window=0)
        self.assertEqual(visit.told, [("pause",)])

    def test_a_visit_that_opens_with_too_much_is_lost(self) -> None:
        most = self.ssh.streams.max_unread
        self.visits.at_opening = lambda visit: visit.peer.write(b"x" * (most + 1))
        client = self.client()
        client.log_in()
        client.open(window=0)
        client.ending.sendPacket(c.CHANNEL_REQUEST, OURS + NS(b"shell") + b"\0")
        client.exchange()
        self.assertTrue(client.transport.aborting)
        self.assertEqual(self.visits.visits[0].told, [("lost",)])

    def test_a_peer_for_which_too_much_waits_is_let_go(self) -> None:
        client, visit = self.visit(terminal=True, window=0)
        most = self.ssh.streams.max_unread
        visit.peer.write(b"x" * most)
        self.assertFalse(client.transport.aborting)
        visit.peer.write(b"x")
        self.assertTrue(client.transport.aborting)
        self.assertEqual(visit.told[-1], ("lost",))
        visit.peer.write(b"more")
        visit.peer.end(0)
        client.exchange()

    def test_output_waits_while_tcp_does_not_take_it(self) -> None:
        client, visit = self.visit(terminal=True, window=10**9)
        client.transport.room = 1000
        for _ in range(40):
            visit.peer.write(b"x" * 10_000)
        self.assertEqual(visit.told, [("pause",)])
        self.assertFalse(client.transport.aborting)
        for _ in range(20):
            client.ending.dataReceived(client.transport.drain())
            client.exchange()
        self.assertEqual(visit.told, [("pause",), ("resume",)])
        received = sum(len(content) - 8 for _, content in client.packets())
        self.assertEqual(received, 400_000)

    def test_much_output_is_sent_in_time_that_is_linear(self) -> None:
        client, visit = self.visit(terminal=True, window=0)
        for _ in range(100):
            visit.peer.write(b"x" * 10_000)
        client.adjust(10**6)
        self.assertEqual(len(client.output()), 10**6)


class AnswerTests(SSHTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.answered: list[str] = []

    def when_answered(self, visit: StubVisit, name: str) -> None:
        visit.peer.when_answered(lambda: self.answered.append(name))

    def test_one_request_serves_all_whose_output_is_taken(self) -> None:
        client, visit = self.visit(terminal=True)
        visit.peer.write(b"a")
        self.when_answered(visit, "a")
        visit.peer.write(b"b")
        self.when_answered(visit, "b")
        self.assertEqual(client.packets(), [data(b"ab"), KEEPALIVE])
        self.assertEqual(self.answered, [])
        client.send(c.REQUEST_FAILURE)
        self.assertEqual(self.answered, ["a", "b"])

    def test_later_output_needs_another_answer(self) -> None:
        client, visit = self.visit(terminal=True)
        self.when_answered(visit, "first")
        client.exchange()
        visit.peer.write(b"more")
        self.when_answered(visit, "second")
        self.assertEqual(client.packets(), [KEEPALIVE, data(b"more")])
        self.assertEqual(client.send(c.REQUEST_SUCCESS), [KEEPALIVE])
        self.assertEqual(self.answered, ["first"])
        client.send(c.REQUEST_FAILURE)
        self.assertEqual(self.answered, ["first", "second"])

    def test_output_that_waits_for_the_window_is_not_answered(self) -> None:
        client, visit = self.visit(terminal=True, window=1)
        visit.peer.write(b"a")
        self.when_answered(visit, "a")
        visit.peer.write(b"bc")
        self.when_answered(visit, "bc")
        self.assertEqual(client.packets(), [data(b"a"), KEEPALIVE])
        self.assertEqual(client.send(c.REQUEST_FAILURE), [])
        self.assertEqual(self.answered, ["a"])
        client.adjust(1)
        self.assertEqual(client.packets(), [data(b"b")])
        client.adjust(1)
        self.assertEqual(client.packets(), [data(b"c"), KEEPALIVE])
        client.send(c.REQUEST_FAILURE)
        self.assertEqual(self.answered, ["a", "bc"])

    def test_answers_that_nobody_has_asked_for_are_ignored(self) -> None:
        client, visit = self.visit(terminal=True)
        self.assertEqual(client.send(c.REQUEST_SUCCESS), [])
        self.when_answered(visit, "a")
        self.assertEqual(client.packets(), [KEEPALIVE])
        self.assertEqual(self.answered, [])

    def test_a_peer_that_is_lost_answers_nothing(self) -> None:
        client, visit = self.visit(terminal=True)
        self.when_answered(visit, "a")
        client.exchange()
        client.gone()
        self.when_answered(visit, "b")
        self.clock.advance(100)
        self.assertEqual(self.answered, [])

    def test_whoever_waits_may_write_and_end(self) -> None:
        client, visit = self.visit(terminal=True)

        def then() -> None:
            visit.peer.write(b"done")
            visit.peer.end(0)

        visit.peer.when_answered(then)
        client.packets()
        self.assertEqual(client.send(c.REQUEST_FAILURE), [data(b"done"), *status(0)])


class EndTests(SSHTestCase):
    def test_all_output_of_both_streams_comes_before_the_end(self) -> None:
        client, visit = self.visit(terminal=True, window=2)
        visit.peer.write(b"ab")
        visit.peer.write_error(b"cd")
        visit.peer.end(3)
        visit.peer.write(b"too late")
        self.assertEqual(client.packets(), [data(b"ab")])
        client.adjust(100)
        self.assertEqual(client.packets(), [error(b"cd"), *status(3)])

    def test_the_connection_is_closed_when_the_peer_has_closed_the_channel(self) -> None:
        client, visit = self.visit(terminal=True)
        visit.peer.end(0)
        self.assertEqual(client.packets(), status(0))
        self.assertFalse(client.closed)
        self.assertEqual(client.send(c.CHANNEL_CLOSE, OURS), [])
        self.assertTrue(client.closed)
        self.assertEqual(visit.told, [("lost",)])

    def test_a_peer_that_does_not_close_it_is_let_go(self) -> None:
        client, visit = self.visit(terminal=True)
        visit.peer.end(0)
        client.exchange()
        self.clock.advance(4.9)
        self.assertFalse(client.closed)
        self.clock.advance(0.2)
        self.assertTrue(client.closed)
        self.assertEqual(visit.told, [("lost",)])

    def test_new_keys_do_not_extend_that_time(self) -> None:
        client, visit = self.visit(terminal=True)
        visit.peer.end(0)
        client.exchange()
        client.ending.sendKexInit()
        client.exchange()
        self.clock.advance(5.1)
        self.assertTrue(client.closed)

    def test_a_peer_that_closes_the_channel_ends_the_visit(self) -> None:
        client, visit = self.visit(terminal=True, window=0)
        visit.peer.write(b"not taken")
        self.assertEqual(client.send(c.CHANNEL_CLOSE, OURS), [(c.CHANNEL_CLOSE, THEIRS)])
        self.assertEqual(visit.told, [("lost",)])
        self.assertTrue(client.closed)

    def test_a_visit_is_told_once_that_it_is_lost(self) -> None:
        client, visit = self.visit(terminal=True)
        client.send(c.CHANNEL_CLOSE, OURS)
        client.gone()
        self.assertEqual(visit.told, [("lost",)])

    def test_a_lost_connection_ends_the_visit(self) -> None:
        client, visit = self.visit(terminal=True)
        client.gone()
        self.assertEqual(visit.told, [("lost",)])
        visit.peer.write(b"x")
        visit.peer.taken(100_000)
        visit.peer.end(0)
        self.clock.advance(100)

    def test_nothing_said_is_in_the_log(self) -> None:
        client, visit = self.visit(b"@bob: a secret")
        client.type(b"a secret")
        visit.peer.write(b"a secret")
        client.gone()
        self.assertNotIn("secret", " ".join(self.logged))
