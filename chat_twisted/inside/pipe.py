"""A visit without a terminal: the client's pipe, on the standard files of the user's ssh.

``parse`` reads the command line. This module must not know SSH's packets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chat_twisted.client.pipe import OutputFormat, Pipe
from chat_twisted.core.errors import ChatError, MalformedName
from chat_twisted.core.message import Audience, parse_target
from chat_twisted.doors.ssh.visits import Peer, Size, Visit, Visitor, Wish
from chat_twisted.inside.connecting import SIGNALS, Connection, Connector
from chat_twisted.inside.files import NoFiles
from chat_twisted.text import printable_lines
from chat_twisted.ui.commands import Command, Mistake
from chat_twisted.ui.errors import IdentityError
from chat_twisted.ui.records import Records
from chat_twisted.ui.wording import Wording

USAGE = "usage: ssh [-T] USER@HOST [json] [tail '#ROOM' | tail @USER | tail @ALL | TEXT]"

AT_ONCE = 4096
"""Maximum bytes of input that are processed in one turn of the reactor."""


@dataclass(frozen=True, slots=True)
class Order:
    """The parsed command line of a visit, as the options of the client.

    :ivar json: ``--json``.
    :ivar once: ``--once``; empty without it.
    :ivar tail: ``--tail``; empty without it.
    """

    json: bool = False
    once: str = ""
    tail: str = ""

    def make_format(self, name: str) -> OutputFormat:
        """Make the format of input and output."""
        return Records(name) if self.json else Wording(name)


def parse(command: str | None) -> Order:
    """Parse a command line.

    :raises ValueError: if it is wrong, with the reason.
    """
    text = (command or "").strip()
    first, _, rest = text.partition(" ")
    is_json = first == "json"
    if is_json:
        text = rest.strip()
    words = text.split()
    if words[:1] == ["tail"]:
        if len(words) != 2:
            raise ValueError("tail needs one conversation")
        return Order(is_json, tail=_conversation(words[1]))
    order = Order(is_json, once=text)
    if text:
        match order.make_format("").parse_once(text)[0]:
            case Mistake(reason):
                raise ValueError(reason)
            case Command("/ignore" | "/unignore" as name):
                raise ValueError(f"{name} is for what is read and shown later")
    return order


def _conversation(word: str) -> str:
    try:
        if word[0] not in "#@":
            raise MalformedName
        target = parse_target(word.removeprefix("@"))
    except ChatError:
        raise ValueError(f"{word} is no '#ROOM', @USER or @ALL") from None
    return target.name if target.audience is not Audience.ALL else "ALL"


def _no_password(what: str) -> str:
    raise IdentityError("You are asked for a password only on a terminal: ssh without a command")


class PipeVisit(Visit):
    """A visit without a terminal; or a command on a terminal, which reads Ctrl-C and Ctrl-D there.

    :param wish: its command line is valid.
    """

    def __init__(
        self,
        connector: Connector,
        visitor: Visitor,
        wish: Wish,
        peer: Peer,
    ) -> None:
        order = parse(wish.command)
        reads = not (order.once or order.tail)
        self._peer = peer
        self._has_terminal = wish.size is not None
        self._standard = standard = _Standard(connector.soon, peer, self.write, reads=reads)
        self._pipe = Pipe(
            visitor.name,
            NoFiles(visitor.key),
            connector.clock,
            standard.attach,
            greet=reads and order.json,
            output_format=order.make_format(visitor.name),
            once=order.once,
            tail=order.tail,
            ask_password=_no_password,
        )
        self._connection = Connection(
            connector, visitor, visitor.name, self._pipe, peer.when_answered
        )
        self._pipe.session = self._connection.session
        self._pipe.done.addCallback(self._finished)
        self._connection.connect()

    def write(self, data: bytes) -> None:
        """Write to the user's standard output."""
        self._peer.write(data.replace(b"\n", b"\r\n") if self._has_terminal else data)

    def _finished(self, code: int) -> None:
        self._connection.over()
        if not self._connection.is_lost:
            if self._pipe.failure:
                end = "\r\n" if self._has_terminal else "\n"
                self._peer.write_error(f"{printable_lines(self._pipe.failure)}{end}".encode())
            self._peer.end(code)

    # Calls of the channel

    def received(self, data: bytes) -> None:
        """See ``Visit.received``."""
        if not self._has_terminal:
            self._standard.receive(data)
        elif b"\x03" in data:
            self._peer.taken(len(data))
            self.interrupted("INT")
        else:
            typed, end, _ = data.partition(b"\x04")
            self._peer.taken(len(data) - len(typed))
            self._standard.receive(typed.replace(b"\r", b"\n"))
            if end:
                self.input_ended()

    def input_ended(self) -> None:
        """See ``Visit.input_ended``."""
        self._standard.end_input()

    def resized(self, size: Size) -> None:
        """Do nothing: lines of output are as long as they are. See ``Visit.resized``."""

    def interrupted(self, signal: str) -> None:
        """See ``Visit.interrupted``."""
        if code := SIGNALS.get(signal):
            self._pipe.interrupt(code)

    def pause(self) -> None:
        """See ``Visit.pause``."""
        self._standard.pause_output()

    def resume(self) -> None:
        """See ``Visit.resume``."""
        self._standard.resume_output()

    def lost(self) -> None:
        """See ``Visit.lost``."""
        if not self._connection.is_lost:
            self._connection.lost(self._dissolve)

    def _dissolve(self) -> None:
        self._connection.dissolve()
        for part in (self._pipe, self._standard, self):
            vars(part).clear()


class _Standard:
    """The user's standard input and output, as the transport of a ``Pipe``.

    :param soon: as in ``Connector``.
    :param write: writes to standard output.
    :param reads: whether the pipe reads standard input; if not, it is at its end from the start.
    """

    def __init__(
        self,
        soon: Callable[[Callable[[], None]], object],
        peer: Peer,
        write: Callable[[bytes], None],
        *,
        reads: bool,
    ) -> None:
        self.write = write
        self.disconnecting = False
        self._soon = soon
        self._peer = peer
        self._pipe: Pipe | None = None
        self._input = bytearray()
        self._wants = reads
        self._has_ended = not reads
        self._has_told = False  # whether the pipe knows that input has ended
        self._is_paused = False
        self._is_due = False
        self._producer: Any = None

    def attach(self, pipe: Pipe) -> None:
        """Start to read."""
        self._pipe = pipe
        pipe.makeConnection(self)  # type: ignore[no-untyped-call]
        self._feed_soon()

    # For the visit

    def receive(self, data: bytes) -> None:
        """Pass input to the pipe, in later turns of the reactor."""
        if self._wants and not self._has_ended and not self.disconnecting:
            self._input += data
            self._feed_soon()
        else:
            self._peer.taken(len(data))

    def end_input(self) -> None:
        """Tell the pipe that its input has ended, when it has read everything."""
        self._has_ended = True
        self._feed_soon()

    def _feed_soon(self) -> None:
        if not self._is_due and self._pipe is not None:
            self._is_due = True
            self._soon(self._feed)

    def _feed(self) -> None:
        self._is_due = False
        if self._pipe is None or self._is_paused or self.disconnecting:
            return
        if piece := bytes(self._input[:AT_ONCE]):
            del self._input[:AT_ONCE]
            self._pipe.dataReceived(piece)  # type: ignore[no-untyped-call]
            self._peer.taken(len(piece))
            self._feed_soon()
        elif self._has_ended and not self._has_told:
            self._has_told = True
            self._pipe.readConnectionLost()

    def pause_output(self) -> None:
        """Called when output waits for the peer."""
        if self._producer is not None:
            self._producer.pauseProducing()

    def resume_output(self) -> None:
        """Called when no output waits for the peer."""
        if self._producer is not None:
            self._producer.resumeProducing()

    # For the pipe

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Pause ``producer`` while output waits for the peer."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """Stop pausing the producer."""
        self._producer = None

    def pauseProducing(self) -> None:
        """Pass on no input for now."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """Pass on input again."""
        self._is_paused = False
        self._feed_soon()

    def loseConnection(self) -> None:
        """Stop reading, then call ``connectionLost``."""
        self.disconnecting = True
        self._soon(self._lost)

    def _lost(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.connectionLost()
