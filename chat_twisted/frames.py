"""The grammar of the framed protocol: parsing and writing frames (docs/protocol.rst, Frames).

A frame is a start line, header lines, an empty line and, if there is a ``Content-length`` header, a
body. This module must not know sockets, clocks, the meaning of verbs, or users.

``FrameReader`` takes a stream in pieces of any size (``receive_data``) and returns its frames one
by one (``next_frame``), so the caller may stop after each frame.

Every byte is searched, copied and decoded a constant number of times, wherever the stream is split.
An unfinished frame takes at most the memory of a start line (512 bytes), the headers (4 KiB) and a
body (``max_body`` bytes); a longer body is discarded while it arrives.
"""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from chat_twisted.core.errors import ChatError

MAX_START_LINE = 512
MAX_HEADERS = 4096
MAX_BODY = 65536
MAX_TOKEN = 64
"""Limits in bytes: a start line without its line end, all header lines with theirs, a body, and an
Id."""

MAX_SKIPPED = 16 * 1024 * 1024
"""Maximum length of a too long body that a server discards, in bytes (version 1: in characters). If
it is longer, the server closes the connection."""

NUL_SHOWN = "␀".encode()
"""Replaces NUL in texts of version 1, because its client does not understand a refusal."""

_FAMILIAR = {
    f"{name}:": name.lower()
    for name in ("Content-length", "Id", "Message", "Time", "To", "Version", "Count", "User")
}
_USUAL = re.compile(
    rb"(SEND|RECEIVED) ([^\n\r\0]{1,64})\n(?:Id: ([!-~]{1,16})\n)?"
    rb"(?:Message: ([0-9]{1,18})|Content-length: ([0-9]{1,9}))\n\n"
)
_HEADER_NAME = re.compile(r"[!-9;-~]+\Z")  # visible ASCII without the colon
_NUMBER = re.compile(r"[0-9]{1,18}\Z")
_TIME = re.compile(
    "([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,9}))?)?"
    "(?:Z|([+-])([0-9]{2}):([0-9]{2}))?)?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CONTROL = re.compile(r"[\0-\x1f\x7f-\x9f]")
_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class HeaderIncomplete(ChatError):
    """A frame is not valid, or lacks a part that its verb requires. The rest of the stream must not
    be parsed.
    """


class MessageTooLong(ChatError):
    """A body is longer than the limit."""


class Frame(NamedTuple):
    """One frame.

    :ivar headers: the headers, by their names in lower case.
    :ivar body: the body; None if there is none, or if it was discarded.
    :ivar too_long: whether the body was discarded because it is too long.
    """

    verb: str
    argument: str = ""
    headers: Mapping[str, str] = MappingProxyType({})
    body: str | None = None
    too_long: bool = False

    @property
    def id(self) -> str | None:
        """The ``Id`` header, with which the client marks a request; the reply has it too.

        :raises HeaderIncomplete: if it is not a valid token.
        """
        value = self.headers.get("id")  # not by ``token``: each frame is asked for it
        if value is not None and not is_token(value):
            raise HeaderIncomplete("id is no token")
        return value

    def token(self, name: str) -> str | None:
        """Return a header that is a token: 1 to 64 bytes without control characters.

        :param name: its name in lower case.
        :return: None if there is no such header.
        :raises HeaderIncomplete: if it is not a valid token.
        """
        value = self.headers.get(name)
        if value is not None and not is_token(value):
            raise HeaderIncomplete(f"{name} is no token")
        return value

    def flag(self, name: str) -> bool | None:
        """Parse a header that is ``yes`` or ``no``, in upper or lower case.

        :param name: its name in lower case.
        :return: None if there is no such header.
        :raises HeaderIncomplete: if it is neither.
        """
        value = self.headers.get(name)
        if value is None:
            return None
        if value.lower() not in ("yes", "no"):
            raise HeaderIncomplete(f"{name} is neither yes nor no")
        return value.lower() == "yes"

    def text(self, name: str) -> str:
        """Return a required header.

        :param name: its name in lower case.
        :raises HeaderIncomplete: if it is missing or empty.
        """
        value = self.headers.get(name, "")
        if not value:
            raise HeaderIncomplete(f"{name} is missing")
        return value

    def number(self, name: str) -> int:
        """Parse a required header that is a number of at most 18 digits.

        :param name: its name in lower case.
        :raises HeaderIncomplete: if it is missing or not such a number.
        """
        value = self.headers.get(name, "")
        if not _NUMBER.match(value):
            raise HeaderIncomplete(f"{name} is missing or not a number")
        return int(value)


def is_token(text: str) -> bool:
    """Return whether ``text`` is a token: 1 to 64 bytes without control characters (C0, DEL,
    C1).
    """
    if text.isascii() and text.isprintable():
        return 0 < len(text) <= MAX_TOKEN
    return len(text.encode()) <= MAX_TOKEN and not _CONTROL.search(text)


def encode(
    verb: str,
    argument: str = "",
    headers: Iterable[tuple[str, object]] = (),
    body: str | None = None,
    *,
    count_characters: bool = False,
) -> bytes:
    """Encode a frame. ``Content-length`` is added if there is a body.

    :param count_characters: whether ``Content-length`` counts characters, as in version 1, instead
        of bytes.
    """
    head = f"{verb} {argument}\n" if argument else f"{verb}\n"
    for name, value in headers:
        head += f"{name}: {value}\n"
    if body is None:
        return f"{head}\n".encode()
    data = body.encode()
    length = len(body) if count_characters else len(data)
    return f"{head}Content-length: {length}\n\n".encode() + data


def reply_headers(id: str | None, *headers: tuple[str, object]) -> list[tuple[str, object]]:
    """Return the headers of a reply: first the Id of the request, if it had one."""
    return list(headers) if id is None else [("Id", id), *headers]


@lru_cache(maxsize=64)  # many messages have the same time, and each is written several times
def format_time(time: int) -> str:
    """Format milliseconds since the epoch as in the protocol: ``2026-11-23T10:00:00.123Z``."""
    return f"{_second(time // 1000)}.{time % 1000:03}Z"


def format_until(time: int) -> str:
    """Write when something ends, in milliseconds since the epoch: ``ever`` for 0, never."""
    return format_time(time) if time else "ever"


@lru_cache(maxsize=64)
def _second(time: int) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M:%S}"


def parse_time(text: str) -> int:
    """Parse a time in one of the forms of docs/protocol.rst, Reading back.

    :return: milliseconds since the epoch.
    :raises HeaderIncomplete: if it is not such a time.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise HeaderIncomplete("not a time")
    date, hour, minute, second, fraction, sign, zone_hours, zone_minutes = match.groups(default="")
    try:
        # Without fromisoformat, for which 24:00 is a time since Python 3.14.
        year, month, day = map(int, date.split("-"))
        local = datetime(
            year, month, day, int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
    except ValueError:
        raise HeaderIncomplete("not a time") from None
    time = (local - _EPOCH) // timedelta(milliseconds=1) + int(fraction[:3].ljust(3, "0"))
    if not sign:
        return time
    if int(zone_hours) > 23 or int(zone_minutes) > 59:
        raise HeaderIncomplete("not a time")
    offset = (int(zone_hours) * 60 + int(zone_minutes)) * 60_000
    return time - offset if sign == "+" else time + offset


def _text(data: bytes | bytearray) -> str:
    if b"\0" in data:
        raise HeaderIncomplete("a NUL")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise HeaderIncomplete("not UTF-8") from None


class FrameReader:
    """Parses one stream into frames.

    After an exception the reader must not be used again, because the position in the stream is not
    certain; but ``id`` is then that of the faulty frame.

    :param max_body: the maximum length of a body, in bytes.
    :param max_skipped: the maximum length of a longer body that is discarded; the frame is
        ``too_long`` then. A body beyond this raises ``MessageTooLong``.
    """

    __slots__ = (
        "_body",
        "_data",
        "_decoder",
        "_fault",
        "_header_octets",
        "_headers",
        "_lacking",
        "_line",
        "_position",
        "_skips",
        "_start",
        "counts_characters",
        "max_body",
        "max_skipped",
    )

    def __init__(self, max_body: int = MAX_BODY, *, max_skipped: int = 0) -> None:
        self.max_body = max_body
        self.max_skipped = max_skipped
        self.counts_characters = False
        """Whether ``Content-length`` counts characters and NUL in bodies is replaced, as in
        version 1.
        """
        self._data = b""  # the last piece, parsed up to _position
        self._position = 0
        self._line = bytearray()  # the beginning of an unfinished line, from earlier pieces
        self._start: str | None = None  # None between two frames
        self._headers: dict[str, str] = {}
        self._header_octets = 0
        self._fault = ""  # a fault of a header; raised later, because the Id may follow
        self._body = bytearray()
        self._lacking = 0  # missing rest of the body: characters with a decoder, bytes without
        self._skips = False  # the body is discarded
        self._decoder: codecs.IncrementalDecoder | None = None

    @property
    def has_more(self) -> bool:
        """Whether there is data that ``next_frame`` has not parsed yet."""
        return self._position < len(self._data)

    @property
    def id(self) -> str | None:
        """The Id of the frame that is being read, or for which ``next_frame`` has raised; None if
        it could not be read.
        """
        id = self._headers.get("id", "")
        return id if is_token(id) else None

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._data = self._data[self._position :] + data if self.has_more else data
        self._position = 0

    def next_frame(self) -> Frame | None:
        """Return the next frame; None if more data is needed for it.

        :raises HeaderIncomplete: if the stream violates the grammar, or a line is too long.
        :raises MessageTooLong: if a body is too long to be discarded.
        """
        if self._position == len(self._data):
            self._data, self._position = b"", 0
            return None
        if self._start is None and not self._line and not self.counts_characters:
            usual = _USUAL.match(self._data, self._position)
            if usual is not None and (frame := self._usual(usual)) is not None:
                return frame
        frame = None if self._lacking else self._read_head()
        if self._lacking:
            frame = self._read_body()
        if frame is None:
            self._data, self._position = b"", 0
        return frame

    def _usual(self, usual: re.Match[bytes]) -> Frame | None:
        """Parse a frame by one regular expression, if it is complete, valid and of a common kind;
        else return None. The general way takes three times as long.
        """
        verb, argument, id, message, size = usual.groups()
        end = usual.end()
        try:
            headers = {} if id is None else {"id": id.decode()}
            if message is not None:
                headers["message"] = message.decode()
                frame = Frame(verb.decode(), argument.decode(), headers)
                self._position = end
                return frame
            length = int(size)
            if length > self.max_body or length > len(self._data) - end:
                return None
            octets = self._data[end : end + length]
            if b"\0" in octets:
                return None
            headers["content-length"] = size.decode()
            frame = Frame(verb.decode(), argument.decode(), headers, octets.decode())
        except UnicodeDecodeError:
            return None
        self._position = end + length
        return frame

    def _read_head(self) -> Frame | None:
        """Parse lines; return the frame if it is complete and has no body."""
        data, position, frame = self._data, self._position, None
        while frame is None and not self._lacking:
            end = data.find(b"\n", position)
            line = data[position : end if end >= 0 else len(data)]
            if self._line or end < 0:
                self._line += line
                if end < 0:
                    if len(self._line) > self._line_limit + 1:  # 1: a CR, which is not counted
                        raise HeaderIncomplete("a line is too long")
                    return None
                line = bytes(self._line)
                self._line = bytearray()
            position = self._position = end + 1
            line = line.removesuffix(b"\r")
            if len(line) > self._line_limit:
                raise HeaderIncomplete("a line is too long")
            if self._start is None:
                if not line:
                    raise HeaderIncomplete("no verb")
                self._start = _text(line)
            elif line:
                self._header_octets += len(line) + 1
                try:
                    self._header(_text(line))
                except HeaderIncomplete as fault:
                    self._fault = self._fault or str(fault)
            else:
                frame = self._end_of_headers()
        return frame

    @property
    def _line_limit(self) -> int:
        """Maximum bytes of the next line, without its line end."""
        if self._start is None:
            return MAX_START_LINE
        return max(0, MAX_HEADERS - self._header_octets - 1)

    def _header(self, line: str) -> None:
        name, colon, value = line.partition(":")
        known = _FAMILIAR.get(name + colon)
        if known is None:
            if not colon or not _HEADER_NAME.match(name):
                raise HeaderIncomplete("a header without a name")
            known = name.lower()
        if known == "content-length" and known in self._headers:
            raise HeaderIncomplete("Content-length is repeated")
        self._headers[known] = value.strip(" \t")

    def _end_of_headers(self) -> Frame | None:
        if self._fault:
            raise HeaderIncomplete(self._fault)
        value = self._headers.get("content-length")
        if value is None:
            return self._frame(None)
        if not value.isascii() or not value.isdigit():
            raise HeaderIncomplete("Content-length is not a number")
        # The digits are counted first, because the time of int() grows with their square.
        length = int(value) if len(value) <= 18 else sys.maxsize
        if length > max(self.max_body, self.max_skipped):
            raise MessageTooLong("a body is too long")
        if not length:
            return self._frame("")
        self._lacking = length
        # A character has at least one byte, so the limit in bytes bounds both counts.
        self._skips = length > self.max_body
        self._decoder = _Utf8Decoder() if self.counts_characters else None
        return None

    def _read_body(self) -> Frame | None:
        """Parse a part of the body; return the frame if it is complete."""
        while self._lacking:
            # N missing characters have at least N bytes, so these bytes belong to the body. Each
            # round completes at least a fourth of them, because UTF-8 has at most four bytes.
            piece = self._data[self._position : self._position + self._lacking]
            if not piece:
                return None
            self._position += len(piece)
            self._take_body(piece)
        if self.counts_characters and b"\0" in self._body:
            self._body = self._body.replace(b"\0", NUL_SHOWN)
            self._skips = len(self._body) > self.max_body
        return self._frame(None if self._skips else _text(self._body))

    def _take_body(self, piece: bytes) -> None:
        self._lacking -= len(piece) if self._decoder is None else self._characters(piece)
        if self._skips:
            return
        self._body += piece
        if len(self._body) > self.max_body:  # the length was given in characters
            if not self.max_skipped:
                raise MessageTooLong("a body is too long")
            self._skips = True
            self._body = bytearray()

    def _characters(self, piece: bytes) -> int:
        """Count the characters that ``piece`` completes."""
        assert self._decoder is not None
        try:
            return len(self._decoder.decode(piece))
        except UnicodeDecodeError:
            raise HeaderIncomplete("not UTF-8") from None

    def _frame(self, body: str | None) -> Frame:
        assert self._start is not None
        verb, _, argument = self._start.partition(" ")
        frame = Frame(verb, argument, self._headers, body, self._skips)
        self._start = None
        self._headers = {}
        self._header_octets = 0
        self._skips = False
        if self._body:
            self._body = bytearray()
        return frame
