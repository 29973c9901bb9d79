"""The grammar of IRC: parsing a client's lines, and writing a server's, without I/O.

The sources are modern.ircdocs.horse (Message Format) and IRCv3's message-tags. This module must not
know sockets, the meaning of verbs, or users.

``LineReader`` takes a stream in pieces of any size (``receive``) and returns its lines one by one
(``next``), so the caller may stop after each line. ``encode`` writes a line; whatever its parts
contain, the result is exactly one line.

LF, CR LF and a lone CR end a line. NUL is not allowed in IRC, and RFC 1459 says that it has no
meaning for the framing: it is left out, and ends nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

MAX_LINE = 510
"""Maximum bytes of a line without its tags and its end; CR LF makes them 512."""

MAX_TAGS = 4094
"""Maximum bytes of the tags that a client sends, without the ``@`` before and the space after."""

UNKNOWN = "*"
"""The verb of a faulty line that has no readable verb."""

TEXT_AFTER: Mapping[str, int] = {
    "301": 2,
    "322": 3,
    "332": 2,
    "353": 3,
    "AWAY": 0,
    "ERROR": 0,
    "KICK": 2,
    "KILL": 1,
    "NOTICE": 1,
    "PART": 1,
    "PONG": 1,
    "PRIVMSG": 1,
    "QUIT": 0,
    "TOPIC": 1,
    "WALLOPS": 0,
}
"""After how many parameters the last one is a text. It gets a colon even if it needs none, because
simple clients expect that."""

_WINDOW = 1 + MAX_TAGS + 1 + MAX_LINE + 1
"""Bytes of the longest line: ``@``, tags, a space, the line itself, and the first byte of its end.
"""

_USUAL = re.compile(rb"([A-Z]{1,16})(?: ([^\0\r\n :][^\0\r\n ]*))? :([^\0\r\n]*+)\r?\n")
_END = re.compile(rb"[\r\n]")
_BLANK = re.compile(rb"[\r\n ]+")
_VERB = re.compile(rb" *(?::[^ ]* +)?([A-Za-z0-9]{1,32})(?: |\Z)")
_NO_TAGS: Mapping[str, str] = MappingProxyType({})

_HARMFUL = re.compile("[\0\r\n]")
_NOT_IN_NAME = re.compile("[\0\r\n ;=]")
_ESCAPES = str.maketrans(
    {";": r"\:", " ": r"\s", "\\": r"\\", "\r": r"\r", "\n": r"\n", "\0": r"\s"}
)
_UNESCAPED = re.compile(r"[; \\\r\n\0]")
_ESCAPED = re.compile(r"\\(.?)")
_UNESCAPES = {":": ";", "s": " ", "r": "\r", "n": "\n"}


class Line(NamedTuple):
    """One line of a client. A source (``:nick``) that a client sends has no meaning and is left
    out.

    :ivar tags: the values of the tags by their names; empty for a tag without a value.
    :ivar verb: the command, its letters in upper case; never empty.
    :ivar params: the parameters; only the last one may be empty or contain spaces.
    """

    tags: dict[str, str]
    verb: str
    params: list[str]


class TooLong(NamedTuple):
    """A line that was discarded because it, or its tags, are too long (numeric 417).

    :ivar verb: its command, or ``UNKNOWN``.
    :ivar tags: its tags; empty if they are too long themselves.
    """

    verb: str
    tags: Mapping[str, str] = _NO_TAGS


class BadEncoding(NamedTuple):
    """A line that was discarded because it is not UTF-8 (``FAIL verb INVALID_UTF8``).

    :ivar tags: those of its tags that are UTF-8.
    :ivar verb: its command, or ``UNKNOWN``.
    """

    tags: dict[str, str]
    verb: str


class LineReader:
    """Parses the stream of one client into lines.

    Every byte is searched, copied and decoded a constant number of times, wherever the stream is
    split. An unfinished line takes at most ``MAX_TAGS`` + ``MAX_LINE`` + 3 bytes; the rest of a
    longer one is discarded while it arrives.
    """

    __slots__ = ("_data", "_line", "_position")

    def __init__(self) -> None:
        self._data = b""  # the last piece, parsed up to _position
        self._position = 0
        self._line = bytearray()  # the beginning of an unfinished line, from earlier pieces

    @property
    def has_more(self) -> bool:
        """Whether there is data that ``next`` has not parsed yet."""
        return self._position < len(self._data)

    def receive(self, data: bytes) -> None:
        """Take the next bytes of the stream. ``next`` should return all lines of earlier bytes
        first: until then they are kept.
        """
        self._data = self._data[self._position :] + data if self.has_more else data
        self._position = 0

    def next(self) -> Line | TooLong | BadEncoding | None:
        """Return the next line; None if more data is needed for it.

        Empty lines, and lines without a command, are passed over.
        """
        data = self._data
        line: Line | TooLong | BadEncoding | None
        while (start := self._position) < len(data):
            if not self._line:
                # Most lines are of this kind; the general way takes twice as long.
                usual = _USUAL.match(data, start)
                if usual is not None and usual.end() - start <= MAX_LINE + 1:
                    verb, target, text = usual.groups()
                    try:
                        params = [text.decode()]
                        if target is not None:
                            params.insert(0, target.decode())
                        line = Line({}, verb.decode(), params)
                    except UnicodeDecodeError:
                        pass
                    else:
                        self._position = usual.end()
                        return line
                if data[start] in b"\n\r ":
                    blank = _BLANK.match(data, start)
                    assert blank is not None
                    self._position = blank.end()
                    continue
                stop = data.find(b"\n", start, start + _WINDOW)
                end = data.find(b"\r", start, stop if stop >= 0 else start + _WINDOW)
                if end < 0:
                    end = stop
                if end >= 0:
                    self._position = end + 1
                    line = _parse(data[start:end])
                    if line is not None:
                        return line
                    continue
            # The line began in an earlier piece, or is too long or unfinished.
            found = _END.search(data, start)
            end = found.start() if found is not None else len(data)
            self._line += data[start : min(end, start + _WINDOW - len(self._line))]
            if found is None:
                break
            self._position = end + 1
            line = _parse(bytes(self._line))
            self._line = bytearray()
            if line is not None:
                return line
        self._data, self._position = b"", 0
        return None


def _parse(data: bytes) -> Line | TooLong | BadEncoding | None:
    """Parse a line without its end, that does not begin with a space; None if it has no command.

    The beginning of a longer line, ``_WINDOW`` bytes of it, is too long as well.
    """
    tags: dict[str, str] = {}
    encoded = True
    if data[0] == 0x40:  # @
        raw, _, data = data.partition(b" ")
        if len(raw) > 1 + MAX_TAGS:
            return TooLong(_verb(data))
        tags, encoded = _tags(raw[1:])
    if len(data) > MAX_LINE:
        return TooLong(_verb(data), tags)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return BadEncoding(tags, _verb(data))
    if "\0" in text:
        text = text.replace("\0", "")
    if text[:1] in ("", " "):
        text = text.lstrip(" ")
    if text[:1] == ":":
        text = text.partition(" ")[2].lstrip(" ")
    if not text:
        return None
    head, colon, last = text.partition(" :")
    verb, *params = head.split(" ")
    if "" in params:
        params = list(filter(None, params))
    if colon:
        params.append(last)
    if not encoded:
        return BadEncoding(tags, _verb(data))
    # Letters beyond ASCII are no commands, but some of them have capitals in ASCII.
    return Line(tags, verb.upper() if verb.isascii() else verb, params)


def _verb(data: bytes) -> str:
    """Return the command of a line that can't be parsed."""
    found = _VERB.match(data)
    return UNKNOWN if found is None else found[1].decode().upper()


def _tags(data: bytes) -> tuple[dict[str, str], bool]:
    """Parse tags; return those that are UTF-8, and whether all are."""
    tags, encoded = {}, True
    for tag in data.split(b";"):
        try:
            name, _, value = tag.decode().replace("\0", "").partition("=")
        except UnicodeDecodeError:
            encoded = False
            continue
        if name:
            tags[name] = unescape_tag(value) if "\\" in value else value
    return tags, encoded


def escape_tag(value: str) -> str:
    """Escape the value of a tag."""
    return value.translate(_ESCAPES) if _UNESCAPED.search(value) else value


def unescape_tag(value: str) -> str:
    """Return the value of which ``value`` is the escaped form. It may contain line ends."""
    return _ESCAPED.sub(lambda found: _UNESCAPES.get(found[1], found[1]), value)


def encode_tags(tags: Mapping[str, str | None]) -> str:
    """Write tags as the beginning of a line: with ``@``, and a space after; empty if there are
    none. A tag of which the value is empty or None is written without a value. A name that can't be
    written is left out.
    """
    written = ";".join(
        [
            f"{name}={escape_tag(value)}" if value else name
            for name, value in tags.items()
            if name and not _NOT_IN_NAME.search(name)
        ]
    )
    return f"@{written} " if written else ""


def encode(
    verb: str,
    params: Sequence[str] = (),
    *,
    source: str = "",
    tags: Mapping[str, str | None] | None = None,
    trailing: bool = False,
) -> bytes:
    """Encode a line, with its end.

    The result is one line of at most 512 bytes without tags, whatever the parts contain. CR, LF
    and NUL become spaces. Only the last parameter can be empty, contain spaces or begin with a
    colon; of every other part only the beginning is written that the grammar allows, and ``*`` if
    nothing is left. If the line is too long, it is cut at its end, between two characters, without
    spaces at its new end.

    :param trailing: write a colon before the last parameter even if it needs none, as is done for
        texts (``TEXT_AFTER``).
    """
    line = verb if verb.isalnum() else _word(verb.lstrip("@"))
    if source:
        line = f":{source if ' ' not in source else _word(source)} {line}"
    if params:
        *words, last = params
        for word in words:
            # Most words are fine; each is examined here because a call would cost more.
            line += f" {word}" if word and word[0] != ":" and " " not in word else f" {_word(word)}"
        is_text = trailing or not last or last[0] == ":" or " " in last
        colon = ":" if is_text or len(words) >= TEXT_AFTER.get(verb, 99) else ""
        line += f" {colon}{last}"
    if "\n" in line or "\r" in line or "\0" in line:
        clean = [_HARMFUL.sub(" ", part) for part in (verb, source, *params)]
        return encode(clean[0], clean[2:], source=clean[1], tags=tags, trailing=trailing)
    data = line.encode()
    if len(data) > MAX_LINE:
        data = cut(line, MAX_LINE).rstrip(" ").encode()  # a parameter follows each space
    return b"%b%b\r\n" % (encode_tags(tags).encode(), data) if tags else data + b"\r\n"


def _word(text: str) -> str:
    """Return the first word of ``text`` that may be a part of a line, or ``*``."""
    return text.lstrip(" :").partition(" ")[0] or "*"


def one_line(text: str, octets: int) -> str:
    """Return a text as one line of at most ``octets`` bytes."""
    return cut(" ".join(text.splitlines()), octets).strip()


def cut(text: str, octets: int) -> str:
    """Return the beginning of ``text`` that has at most ``octets`` bytes in UTF-8."""
    data = text[: octets + 1].encode()
    return text if len(data) <= octets else data[:octets].decode(errors="ignore")
