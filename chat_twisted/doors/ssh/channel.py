"""The connection protocol (RFC 4254), with one session channel for a visit.

The channel collects what the peer asks for, opens the visit at a shell or a command, and passes
input and output. Everything else that SSH can do is refused: more channels, forwarding, files. This
module must not know how users log in, or what a visit shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, Protocol

from chat_twisted.doors.ssh.fields import Fields, number, string
from chat_twisted.doors.ssh.output import MAX_WINDOW, Output
from chat_twisted.doors.ssh.transport import wrong_packet
from chat_twisted.doors.ssh.visits import Host, Size, Visit, Visitor, VisitRefused, Wish

GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE = 80, 81, 82
CHANNEL_OPEN, CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE = 90, 91, 92
CHANNEL_WINDOW_ADJUST, CHANNEL_DATA, CHANNEL_EXTENDED_DATA = 93, 94, 95
CHANNEL_EOF, CHANNEL_CLOSE, CHANNEL_REQUEST = 96, 97, 98
CHANNEL_SUCCESS, CHANNEL_FAILURE = 99, 100
USERAUTH_REQUEST = 50

ADMINISTRATIVELY_PROHIBITED, UNKNOWN_CHANNEL_TYPE, RESOURCE_SHORTAGE = 1, 3, 4
"""Reasons for which a channel is not opened."""

STANDARD_ERROR = 1
"""The type of extended data."""

OURS = 0
"""Our number of the channel."""

TERMINAL_WINDOW, PIPE_WINDOW = 32_768, 131_072
"""Bytes of input that the peer may send before the visit has processed any."""

MAX_DATA = 32_768
"""Maximum bytes of one packet of input."""

PAUSE_AT = 65_536
"""Bytes of waiting output at which the visit is paused."""

MAX_TERM = 100
"""Maximum bytes of the type of a terminal."""

MAX_SIDE = 1000
"""Maximum columns and rows of a terminal."""

DEFAULT_SIZE = Size(80, 24)
"""The size of a terminal that does not know its own."""

MAX_VALUE, MAX_VARIABLES = 100, 20
"""Maximum bytes of the value of an environment variable, and their maximum number."""

VARIABLES = re.compile(
    "TZ|LANG|LC_[A-Z]{1,20}|COLORTERM|NO_COLOR|COLORFGBG|TERM_PROGRAM|VTE_VERSION|KITTY_WINDOW_ID"
    "|WEZTERM_PANE|ITERM_SESSION_ID|GHOSTTY_RESOURCES_DIR"
)
"""The environment variables that are taken."""

KEEPALIVE = b"keepalive@openssh.com"
"""A request that every peer answers, if only because it does not know it."""

NO_FILES = b"There are no files here, only the chat.\r\n"


class Link(Protocol):
    """The connection, as its channel sees it."""

    @property
    def can_send(self) -> bool:
        """Whether data may be sent now: TCP takes it, and no key exchange is in progress.
        Otherwise ``Session.send`` is called later.
        """

    @property
    def max_unread(self) -> int:
        """Maximum bytes that wait for a peer that does not read."""

    def send(self, number: int, content: bytes) -> None:
        """Send a packet at the end of this turn of the reactor."""

    def flush(self) -> None:
        """Send the packets now."""

    def at_end_of_turn(self, call: Callable[[], None]) -> None:
        """Call ``call`` at the end of this turn of the reactor."""

    def visit_opens(self) -> None:
        """Called when the peer has asked for its shell or command."""

    def channel_ends(self) -> None:
        """Called when this side has closed the channel."""

    def close(self, why: str) -> None:
        """Close the connection after all output."""

    def cut_off(self) -> None:
        """Close the connection at once, because the peer does not read."""


class Session:
    """The connection protocol of one connection, and its channel. It is the visit's ``Peer``.

    :ivar size: the size of the peer's terminal; None without one.
    """

    def __init__(self, link: Link, host: Host, visitor: Visitor) -> None:
        self.size: Size | None = None
        self._link = link
        self._host = host
        self._visitor: Visitor | None = visitor  # until the visit is open
        self._theirs = b""  # the peer's number of the channel, written
        self._output: Output | None = None  # while the channel is open
        self._environment: dict[str, str] = {}
        self._is_asked = False  # whether the peer has asked for its shell or command
        self._visit: Visit | None = None
        self._early = bytearray()  # input before the visit is open
        self._input_ended = False
        self._window = TERMINAL_WINDOW  # bytes that the peer may still send
        self._window_size = TERMINAL_WINDOW
        self._taken = 0  # bytes of input by which the window has not been opened again yet
        self._will_send = False
        self._is_paused = False  # whether the visit is
        self._code: int | None = None  # the exit code, when the visit has ended
        # Functions to call after an answer, each with the amount of output that comes before.
        self._unasked: list[tuple[int, Callable[[], None]]] = []
        self._asked: list[Callable[[], None]] | None = None  # while a keepalive is not answered

    # Packets

    def take(self, number: int, fields: Fields) -> bool:
        """Process a packet.

        :return: whether the packet is known.
        :raises Refused: if the peer is to be disconnected.
        :raises Malformed: if a field is not complete.
        """
        if number == CHANNEL_OPEN:
            self._open(fields)
        elif number == GLOBAL_REQUEST:
            fields.string()
            if fields.flag():
                self._link.send(REQUEST_FAILURE, b"")
        elif number in (REQUEST_SUCCESS, REQUEST_FAILURE):
            self._answered()
        elif (handler := self._HANDLERS.get(number)) is not None:
            if not self._theirs or fields.number() != OURS:
                raise wrong_packet("There is no such channel")
            handler(self, fields)
        elif number != USERAUTH_REQUEST:  # which is to be ignored after the login
            return False
        return True

    def _open(self, fields: Fields) -> None:
        kind = fields.string()
        theirs, window, piece = fields.take(4), fields.number(), fields.number()
        if kind != b"session":
            known = kind in (b"direct-tcpip", b"direct-streamlocal@openssh.com", b"x11")
            reason = ADMINISTRATIVELY_PROHIBITED if known else UNKNOWN_CHANNEL_TYPE
            self._refuse_channel(theirs, reason, b"Nothing is forwarded here")
        elif self._theirs or not piece:
            self._refuse_channel(theirs, RESOURCE_SHORTAGE, b"One session a connection")
        else:
            self._theirs = theirs
            self._output = Output(window, piece)
            content = theirs + number(OURS) + number(TERMINAL_WINDOW) + number(MAX_DATA)
            self._link.send(CHANNEL_OPEN_CONFIRMATION, content)

    def _refuse_channel(self, theirs: bytes, reason: int, text: bytes) -> None:
        content = theirs + number(reason) + string(text) + string(b"")
        self._link.send(CHANNEL_OPEN_FAILURE, content)

    def _take_adjustment(self, fields: Fields) -> None:
        count = fields.number()
        if self._output is not None:
            if self._output.window + count > MAX_WINDOW:
                raise wrong_packet("A window that is too large")
            self._output.window += count
            self.send()

    def _take_data(self, fields: Fields) -> None:
        data = self._from_window(fields)
        if self._visit is not None and self._code is None:
            self._visit.received(data)
        elif not self._is_asked:
            self._early += data

    def _take_extended_data(self, fields: Fields) -> None:
        fields.number()
        self.taken(len(self._from_window(fields)))  # no client sends such data

    def _from_window(self, fields: Fields) -> bytes:
        data = fields.string()
        self._window -= len(data)
        if self._window < 0 or len(data) > MAX_DATA:
            raise wrong_packet("More data than the window takes")
        return data

    def _take_end(self, fields: Fields) -> None:
        self._input_ended = True
        if self._visit is not None and self._code is None:
            self._visit.input_ended()

    def _take_close(self, fields: Fields) -> None:
        if self._output is not None:
            self._link.send(CHANNEL_CLOSE, self._theirs)
        self.lost()
        self._link.close("closed")

    def _take_request(self, fields: Fields) -> None:
        kind, wants_reply = fields.string(), fields.flag()
        if self._output is None:
            return  # this side has closed the channel already
        handler = self._REQUESTS.get(kind)
        then = None if handler is None else handler(self, fields)
        if wants_reply:
            self._link.send(CHANNEL_FAILURE if then is None else CHANNEL_SUCCESS, self._theirs)
        if then is not None:
            then()

    def _take_reply(self, fields: Fields) -> None:
        """Ignore a reply to a request of the channel: none of ours wants one."""

    _HANDLERS: ClassVar[dict[int, Callable[[Session, Fields], None]]] = {
        CHANNEL_WINDOW_ADJUST: _take_adjustment,
        CHANNEL_DATA: _take_data,
        CHANNEL_EXTENDED_DATA: _take_extended_data,
        CHANNEL_EOF: _take_end,
        CHANNEL_CLOSE: _take_close,
        CHANNEL_REQUEST: _take_request,
        CHANNEL_SUCCESS: _take_reply,
        CHANNEL_FAILURE: _take_reply,
    }

    # Requests: each handler returns a function to call after the reply; None refuses the request.

    def _request_terminal(self, fields: Fields) -> Callable[[], None] | None:
        term, columns, rows = fields.text(), fields.number(), fields.number()
        if self._is_asked or not _is_plain(term, MAX_TERM):
            return None
        self.size = _size(columns, rows)
        self._environment["TERM"] = term
        return _nothing

    def _request_variable(self, fields: Fields) -> Callable[[], None] | None:
        name, value = fields.text(), fields.text()
        if self._is_asked or not VARIABLES.fullmatch(name) or not _is_plain(value, MAX_VALUE):
            return None
        if len(self._environment) >= MAX_VARIABLES:
            return None
        self._environment[name] = value
        return _nothing

    def _request_shell(self, fields: Fields) -> Callable[[], None] | None:
        return None if self._is_asked else lambda: self._begin(None)

    def _request_command(self, fields: Fields) -> Callable[[], None] | None:
        command = fields.text()
        return None if self._is_asked else lambda: self._begin(command)

    def _request_subsystem(self, fields: Fields) -> Callable[[], None] | None:
        if self._is_asked or fields.string() != b"sftp":
            return None
        return self._show_no_files

    def _request_size(self, fields: Fields) -> Callable[[], None] | None:
        size = _size(fields.number(), fields.number())
        if self.size is None:
            return None
        self.size = size
        visit = self._visit
        return _nothing if visit is None else lambda: visit.resized(size)

    def _request_signal(self, fields: Fields) -> Callable[[], None] | None:
        return self._interrupt(fields.text())

    def _request_break(self, fields: Fields) -> Callable[[], None] | None:
        return self._interrupt("INT")

    def _interrupt(self, signal: str) -> Callable[[], None] | None:
        visit = self._visit
        return None if visit is None else lambda: visit.interrupted(signal)

    _REQUESTS: ClassVar[dict[bytes, Callable[[Session, Fields], Callable[[], None] | None]]] = {
        b"pty-req": _request_terminal,
        b"env": _request_variable,
        b"shell": _request_shell,
        b"exec": _request_command,
        b"subsystem": _request_subsystem,
        b"window-change": _request_size,
        b"signal": _request_signal,
        b"break": _request_break,
    }

    def _show_no_files(self) -> None:
        self._is_asked = True
        self.write_error(NO_FILES)
        self.end(1)

    def _begin(self, command: str | None) -> None:
        """Open the visit."""
        self._is_asked = True
        if self.size is None:
            self._window_size = PIPE_WINDOW
            self.taken(PIPE_WINDOW - TERMINAL_WINDOW)
        self._link.visit_opens()
        visitor, self._visitor = self._visitor, None
        early, self._early = bytes(self._early), bytearray()
        wish = Wish(self._environment, self.size, command)
        assert visitor is not None, "a visit is opened once"
        try:
            visit = self._host.open(visitor, wish, self)
        except VisitRefused as refused:
            end = "\n" if self.size is None else "\r\n"
            self.write_error(f"{refused}\n".replace("\n", end).encode())
            self.end(refused.code)
            return
        if self._output is None:  # the visit has written too much already
            visit.lost()
            return
        self._visit = visit
        if self._is_paused:
            visit.pause()
        if early and self._code is None:
            visit.received(early)
        if self._input_ended and self._code is None:
            visit.input_ended()

    # The visit's ``Peer``

    def write(self, data: bytes) -> None:
        """Write to standard output."""
        self._write(data, is_error=False)

    def write_error(self, data: bytes) -> None:
        """Write to standard error."""
        self._write(data, is_error=True)

    def taken(self, count: int) -> None:
        """Called when so many bytes of input are processed; the peer may send as many more."""
        self._taken += count
        if self._taken >= self._window_size // 2 and self._output is not None:
            self._link.send(CHANNEL_WINDOW_ADJUST, self._theirs + number(self._taken))
            self._window += self._taken
            self._taken = 0

    def when_answered(self, then: Callable[[], None]) -> None:
        """Call ``then`` when the peer has taken all output so far, and has answered a request after
        it. It is never called if the peer is lost before.
        """
        if self._output is not None:
            self._unasked.append((self._output.added, then))
            self._send_later()

    def end(self, code: int) -> None:
        """Send the exit code after all output, and close the connection."""
        if self._code is None:
            self._code = code
            self._send_later()

    def _write(self, data: bytes, *, is_error: bool) -> None:
        output = self._output
        if output is None or self._code is not None or not data:
            return
        output.add(data, is_error=is_error)
        if output.waiting <= PAUSE_AT:
            self._send_later()
            return
        self.send()
        if output.waiting > self._link.max_unread:
            self._link.cut_off()
        elif output.waiting > PAUSE_AT and not self._is_paused:
            self._is_paused = True
            if self._visit is not None:
                self._visit.pause()

    # Output

    def _send_later(self) -> None:
        """Send what waits at the end of this turn, with what is written until then."""
        if not self._will_send:
            self._will_send = True
            self._link.at_end_of_turn(self._send_now)

    def _send_now(self) -> None:
        self._will_send = False
        self.send()
        self._link.flush()

    def send(self) -> None:
        """Send as much output as the peer takes, and what follows the last of it."""
        output, link = self._output, self._link
        if output is None:
            return
        while link.can_send and (piece := output.next()) is not None:
            is_error, data = piece
            if is_error:
                content = self._theirs + number(STANDARD_ERROR) + string(data)
                link.send(CHANNEL_EXTENDED_DATA, content)
            else:
                link.send(CHANNEL_DATA, self._theirs + string(data))
        self._ask()
        if output.waiting:
            return
        if self._code is not None and link.can_send:
            self._close(self._code)
        elif self._is_paused:
            self._is_paused = False
            if self._visit is not None:
                self._visit.resume()

    def _close(self, code: int) -> None:
        """Close the channel. The connection is closed when the peer has closed it, too."""
        status = string(b"exit-status") + b"\0" + number(code)
        self._link.send(CHANNEL_REQUEST, self._theirs + status)
        self._link.send(CHANNEL_EOF, self._theirs)
        self._link.send(CHANNEL_CLOSE, self._theirs)
        self._output = None
        self._link.channel_ends()

    def lost(self) -> None:
        """Called when the channel or the connection is lost."""
        self._output = None
        self._unasked, self._asked = [], None
        visit, self._visit = self._visit, None
        if visit is not None:
            visit.lost()

    # Whether the peer answers

    @property
    def has_visit(self) -> bool:
        """Whether a visit is open, and will end by itself when the server stops."""
        return self._visit is not None

    def ask(self) -> None:
        """Ask the peer for an answer, unless it has not answered the last such request yet."""
        if self._asked is None:
            self._asked = []
            self._link.send(GLOBAL_REQUEST, string(KEEPALIVE) + b"\1")

    def _ask(self) -> None:
        """Ask for an answer for all whose output the peer has taken: one request for all."""
        if self._asked is not None or self._output is None:
            return
        sent = self._output.sent
        ready = [then for mark, then in self._unasked if mark <= sent]
        if ready:
            del self._unasked[: len(ready)]
            self.ask()
            self._asked = ready

    def _answered(self) -> None:
        ready, self._asked = self._asked or (), None
        for then in ready:
            then()
        if self._unasked:
            self._send_later()


def _is_plain(text: str, octets: int) -> bool:
    """Return whether a text has no control characters, and at most so many bytes."""
    return text.isprintable() and len(text.encode()) <= octets


def _size(columns: int, rows: int) -> Size:
    return Size(
        min(columns or DEFAULT_SIZE.columns, MAX_SIDE), min(rows or DEFAULT_SIZE.rows, MAX_SIDE)
    )


def _nothing() -> None:
    """Do nothing: the reply is all."""
