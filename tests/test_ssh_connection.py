"""The life of SSH connections: deadlines, silence, refusals, backpressure, the server's stop."""

from __future__ import annotations

import gc
import weakref

from twisted.conch.ssh.common import NS

from chat_twisted.core.errors import Unavailable
from chat_twisted.doors.ssh import channel as c
from chat_twisted.doors.ssh.connection import AT_ONCE, CLOSE_WITHIN, LOGIN_WITHIN, SSHConnection
from tests.ssh import OURS, SSHClient, SSHTestCase

KEEPALIVE = (c.GLOBAL_REQUEST, NS(b"keepalive@openssh.com") + b"\1")


class DeadlineTests(SSHTestCase):
    idle = 600

    def stages(self) -> dict[str, SSHClient]:
        """Return clients that have come as far as their key says."""
        stages = {
            name: self.client(deaf=name in ("silent", "version"))
            for name in ("silent", "version", "keys", "authentication", "login", "channel")
        }
        stages["version"].feed(b"SSH-2.0-x\r\n")
        stages["authentication"].ask_for_login()
        for name in ("login", "channel"):
            stages[name].log_in()
        stages["channel"].open()
        stages["channel"].terminal()
        return stages

    def test_there_is_one_for_all_that_comes_before_the_visit(self) -> None:
        stages = self.stages()
        self.clock.advance(LOGIN_WITHIN - 1)
        for stage, client in stages.items():
            self.assertFalse(client.closed, stage)
        self.clock.advance(2)
        for stage, client in stages.items():
            self.assertTrue(client.closed, stage)
        self.assertEqual(stages["channel"].reason(), "No login in time")

    def test_activity_does_not_move_it(self) -> None:
        client = self.client()
        client.ask_for_login()
        for _ in range(10):
            self.clock.advance(LOGIN_WITHIN / 9)
            if client.closed:
                break
            client.authenticate("bob", b"none")
        self.assertTrue(client.closed)

    def test_it_ends_with_the_visits_beginning(self) -> None:
        client, _ = self.visit()
        self.clock.advance(LOGIN_WITHIN + 1)
        self.assertFalse(client.closed)

    def test_a_peer_that_reads_nothing_is_gone_as_well(self) -> None:
        client = self.client(deaf=True)
        client.transport.room = 0
        self.clock.advance(LOGIN_WITHIN + 1)
        self.clock.advance(3)
        self.assertTrue(client.transport.aborting)


class ShortDeadlineTests(SSHTestCase):
    idle = 3

    def test_it_is_not_longer_than_the_idle_interval(self) -> None:
        client = self.client(deaf=True)
        self.clock.advance(3.1)
        self.assertTrue(client.closed)


class SilenceTests(SSHTestCase):
    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.advance(1)

    def test_a_silent_peer_is_asked_and_then_let_go(self) -> None:
        client, visit = self.visit(terminal=True)
        client.exchange()
        self.wait(80)
        self.assertEqual(client.packets(), [KEEPALIVE])
        self.wait(80)
        self.assertEqual(client.reason(), "Silent for too long")
        self.assertEqual(visit.told, [("lost",)])

    def test_an_answer_is_a_sign_of_life(self) -> None:
        client, visit = self.visit(terminal=True)
        for _ in range(5):
            self.wait(80)
            self.assertEqual(client.packets(), [KEEPALIVE])
            client.send(c.REQUEST_FAILURE)
        self.assertFalse(client.closed)
        self.assertEqual(visit.told, [])

    def test_one_request_at_a_time(self) -> None:
        client, visit = self.visit(terminal=True)
        visit.peer.when_answered(lambda: None)
        self.assertEqual(client.packets(), [KEEPALIVE])
        self.wait(80)
        self.assertEqual(client.packets(), [])


class RefusalTests(SSHTestCase):
    def test_too_many_connections(self) -> None:
        client = self.client()
        client.protocol.refuse(Unavailable("too many connections"))
        self.assertEqual(client.reason(), "Too many connections: try later")
        self.assertTrue(client.closed)

    def test_a_refusal_comes_even_before_the_peers_version(self) -> None:
        client = self.client(deaf=True)
        client.transport.clear()
        client.protocol.refuse(Unavailable("too many connections"))
        client.exchange()
        self.assertTrue(client.closed)

    def test_refusals_are_logged_within_limits(self) -> None:
        for _ in range(100):
            self.client(deaf=True).feed(b"rubbish\r\n")
        lines = [line for line in self.logged if line.startswith("refused")]
        self.assertLess(len(lines), 20)


class StatusTests(SSHTestCase):
    def test_kinds(self) -> None:
        client = self.client()
        self.assertEqual(client.protocol.kind, "unregistered")
        client.log_in()
        self.assertEqual(client.protocol.kind, "unregistered")
        client, visit = self.visit()
        self.assertEqual(client.protocol.kind, "pipe")
        visit.peer.end(0)
        client.exchange()
        client.send(c.CHANNEL_CLOSE, OURS)
        self.assertEqual(client.protocol.kind, "unregistered")
        client, _ = self.visit(terminal=True)
        self.assertEqual(client.protocol.kind, "terminal")


class InputTests(SSHTestCase):
    def test_input_is_kept_while_the_stream_is_paused(self) -> None:
        client, visit = self.visit(terminal=True)
        client.protocol.hold()
        client.type(b"one")
        client.ending.sendPacket(c.CHANNEL_DATA, OURS + NS(b" two"))
        client.exchange()
        self.assertEqual(visit.input, b"")
        client.protocol.go_on()
        client.exchange()
        self.assertEqual(visit.input, b"one two")

    def test_many_packets_are_processed_in_several_turns(self) -> None:
        client, visit = self.visit(terminal=True)
        client.exchange()
        for _ in range(2 * AT_ONCE):
            client.ending.sendPacket(c.CHANNEL_DATA, OURS + NS(b"x"))
        client.feed(client.wire.value())
        client.wire.clear()
        self.assertEqual(len(visit.input), AT_ONCE)
        client.exchange()
        self.assertEqual(len(visit.input), 2 * AT_ONCE)

    def test_the_end_of_the_connection_ends_the_visit(self) -> None:
        client, visit = self.visit(terminal=True)
        client.protocol.readConnectionLost()
        self.assertTrue(client.closed)
        self.assertEqual(visit.told, [("lost",)])

    def test_input_after_the_end_is_ignored(self) -> None:
        client, visit = self.visit(terminal=True)
        client.protocol.close("test")
        client.type(b"x")
        self.assertEqual(visit.input, b"")


class StopTests(SSHTestCase):
    def test_a_peer_without_a_visit_is_told_the_reason(self) -> None:
        client, deaf = self.client(), self.client(deaf=True)
        stopped = self.ssh.stop("The server stops")
        self.assertTrue(deaf.transport.disconnecting)
        self.assertEqual(client.reason(), "The server stops")
        self.assertTrue(client.transport.disconnecting)
        client.gone()
        deaf.gone()
        self.successResultOf(stopped)

    def test_a_visit_ends_by_itself(self) -> None:
        client, visit = self.visit(terminal=True)
        client.exchange()
        stopped = self.ssh.stop("The server stops")
        self.assertFalse(client.closed)
        visit.peer.write(b"Bye")
        visit.peer.end(3)
        self.assertEqual(client.output(), b"Bye")
        client.send(c.CHANNEL_CLOSE, OURS)
        self.assertTrue(client.closed)
        client.gone()
        self.successResultOf(stopped)

    def test_a_visit_that_does_not_end_is_cut_off(self) -> None:
        client, visit = self.visit(terminal=True)
        stopped = self.ssh.stop("The server stops")
        self.clock.advance(1)
        self.assertTrue(client.transport.aborting)
        self.assertEqual(visit.told, [("lost",)])
        client.gone()
        self.successResultOf(stopped)

    def test_a_stopping_server_accepts_nobody(self) -> None:
        client = self.client()
        self.ssh.stop("The server stops")
        self.assertIsNone(self.ssh.accept(client.protocol.channel))


class DropTests(SSHTestCase):
    def test_a_peer_without_a_visit_is_told_the_reason_and_others_may_come(self) -> None:
        client = self.client()
        self.ssh.drop_all("This server can't reach the others")
        self.assertEqual(client.reason(), "This server can't reach the others")
        self.assertTrue(client.transport.disconnecting)
        self.visit(terminal=True)

    def test_a_visit_ends_by_itself_or_is_cut_off(self) -> None:
        (one, first), (other, second) = self.visit(terminal=True), self.visit(terminal=True)
        self.ssh.drop_all("This server can't reach the others")
        self.assertFalse(one.closed)
        first.peer.end(1)
        one.send(c.CHANNEL_CLOSE, OURS)
        one.gone()
        self.clock.advance(1)
        self.assertTrue(other.transport.aborting)
        self.assertEqual(second.told, [("lost",)])


class MemoryTests(SSHTestCase):
    def test_a_lost_connection_is_freed_at_once(self) -> None:
        client, visit = self.visit(terminal=True)
        visit.peer.when_answered(lambda: None)
        client.exchange()
        kept = weakref.ref(client.protocol)
        client.gone()
        visit.peer.write(b"x")
        client.exchange()
        del client.protocol, client.transport
        self.visits.visits.clear()
        del visit
        gc.disable()
        self.addCleanup(gc.enable)
        self.clock.advance(CLOSE_WITHIN)
        self.assertIsNone(kept())

    def test_nothing_is_scheduled_for_a_lost_connection(self) -> None:
        before = len(self.clock.getDelayedCalls())
        client, visit = self.visit(terminal=True)
        visit.peer.end(0)
        client.exchange()
        client.gone()
        self.client().gone()
        self.assertEqual(len(self.clock.getDelayedCalls()), before)
        self.assertIsInstance(client.protocol, SSHConnection)
