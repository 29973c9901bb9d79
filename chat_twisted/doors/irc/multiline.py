"""Messages of several lines (IRCv3's draft/multiline), without I/O: collecting a client's batch,
and writing a server's.

The sources are IRCv3's multiline, batch and client-batch. This module must not know users, rooms or
capabilities.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chat_twisted.core.message import fold
from chat_twisted.doors.irc.grammar import Line, encode
from chat_twisted.doors.irc.splitting import pieces, text_limit

TYPE = "draft/multiline"
"""The type of the batches, and the name of the capability."""

CONCAT = "draft/multiline-concat"
"""The tag of a line that continues the line before it."""

MAX_LINES = 1000
"""Maximum number of lines that a client can send in a batch."""

INVALID = "MULTILINE_INVALID"
"""The code of refusals that have no code of their own."""

_REFERENCE = re.compile(r"[A-Za-z0-9-]+")


class BatchRefused(Exception):
    """A batch was discarded. The lines of it that may follow are ignored.

    :ivar params: the parameters of the FAIL that says why.
    :ivar tags: the tags of the BATCH that opened it; of the faulty line if no batch was open.
    """

    def __init__(
        self, code: str, context: Sequence[str], reason: str, tags: Mapping[str, str]
    ) -> None:
        super().__init__(code)
        self.params = ["BATCH", code, *context, reason]
        self.tags = tags


class Collected(NamedTuple):
    """A batch that is complete.

    :ivar verb: PRIVMSG or NOTICE.
    :ivar text: its text, with LF between the lines.
    :ivar joins: the places in the text where one line was continued by the next, ascending.
    :ivar tags: the tags of the BATCH that opened it.
    """

    verb: str
    target: str
    text: str
    joins: tuple[int, ...]
    tags: Mapping[str, str]


class _Batch:
    """A batch that is open."""

    __slots__ = (
        "_length",
        "joins",
        "lines",
        "octets",
        "parts",
        "reference",
        "tags",
        "target",
        "verb",
    )

    def __init__(self, reference: str, target: str, tags: Mapping[str, str]) -> None:
        self.reference = reference
        self.target = target
        self.tags = tags
        self.verb = ""  # that of the first line
        self.parts: list[str] = []
        self.joins: list[int] = []
        self.lines = 0
        self.octets = 0
        self._length = 0  # characters

    def add(self, verb: str, text: str, continues: bool) -> None:
        """Add a line."""
        if self.lines and continues:
            self.joins.append(self._length)
        elif self.lines:
            text = f"\n{text}"
        self.verb = verb
        self.parts.append(text)
        self.lines += 1
        self.octets += len(text.encode())
        self._length += len(text)


class Collector:
    """Collects the batches of one client: one at a time, as IRCv3 demands.

    :param max_bytes: maximum length of a text.
    :param max_lines: maximum number of its lines.
    """

    __slots__ = ("_batch", "_ignored", "_max_bytes", "_max_lines")

    def __init__(self, max_bytes: int, max_lines: int) -> None:
        self._max_bytes = max_bytes
        self._max_lines = max_lines
        self._batch: _Batch | None = None
        self._ignored: str | None = None  # the reference of a batch that was discarded

    @property
    def is_open(self) -> bool:
        """Whether a batch is open. Its end should be waited for with a deadline (``expire``)."""
        return self._batch is not None

    @staticmethod
    def concerns(line: Line) -> bool:
        """Return whether a line is for ``take``: a BATCH, or a line of a batch."""
        return line.verb == "BATCH" or "batch" in line.tags

    def take(self, line: Line) -> Collected | None:
        """Take a line for which ``concerns`` is true.

        :return: the batch that it completes; None if it completes none.
        :raises BatchRefused: if the batch is discarded because of this line.
        """
        if line.verb != "BATCH" or "batch" in line.tags:
            self._add(line)
            return None
        word = line.params[0] if line.params else ""
        if word.startswith("-"):
            return self._end(word[1:], line)
        self._begin(word, line)
        return None

    def spoil(self, tags: Mapping[str, str]) -> None:
        """Take the tags of a line that could not be read (``TooLong``, ``BadEncoding``), and that
        the client has been told of. If it was a line of a batch, the batch is ignored from now on.
        """
        if self._batch is not None and tags.get("batch") == self._batch.reference:
            self._discard()

    def expire(self) -> BatchRefused:
        """Discard the open batch, because its client has not completed it in time.

        :return: the refusal.
        """
        assert self._batch is not None, "is_open is checked first"
        return self._refused("TIMEOUT", "Batch was open for too long", self._batch.reference)

    def _begin(self, word: str, line: Line) -> None:
        reference = word.removeprefix("+")
        kind, target, *_ = *line.params[1:], "", ""
        before, self._batch = self._batch, _Batch(reference, target, line.tags)
        if reference == word or not _REFERENCE.fullmatch(reference):
            raise self._refused("INVALID_REFTAG", "Invalid reference tag", reference)
        if before is not None:
            raise self._refused(INVALID, "Another batch is open")
        if kind != TYPE:
            raise self._refused("UNKNOWN_TYPE", "Unknown type of batch", reference, kind)
        if not target:
            raise self._refused(INVALID, "Batch has no target")
        self._ignored = None

    def _add(self, line: Line) -> None:
        batch, reference = self._batch, line.tags.get("batch")
        if reference == self._ignored:
            return
        if batch is None or reference != batch.reference:
            raise self._refused(INVALID, "No such batch is open", tags=line.tags)
        if line.verb not in ("PRIVMSG", "NOTICE") or len(line.params) < 2:
            raise self._refused(INVALID, "Only PRIVMSG or NOTICE with a text may be in a batch")
        target, text = line.params[:2]
        if fold(target) != fold(batch.target):
            code = "MULTILINE_INVALID_TARGET"
            raise self._refused(code, "Line has another target", batch.target, target)
        if line.verb != (batch.verb or line.verb):
            raise self._refused(INVALID, "PRIVMSG and NOTICE can't be mixed")
        continues = CONCAT in line.tags
        if continues and not text:
            raise self._refused(INVALID, "Empty line can't continue another")
        batch.add(line.verb, text, continues)
        if batch.lines > self._max_lines:
            code, limit = "MULTILINE_MAX_LINES", str(self._max_lines)
            raise self._refused(code, "Batch has too many lines", limit)
        if batch.octets > self._max_bytes:
            code, limit = "MULTILINE_MAX_BYTES", str(self._max_bytes)
            raise self._refused(code, "Batch has too many bytes", limit)

    def _end(self, reference: str, line: Line) -> Collected | None:
        if reference == self._ignored:
            self._ignored = None
            return None
        batch = self._batch
        if batch is None or batch.reference != reference:
            raise self._refused(INVALID, "No such batch is open", tags=line.tags)
        text = "".join(batch.parts)
        if not text.strip("\n"):
            raise self._refused(INVALID, "Batch has no text")
        self._batch = None
        return Collected(batch.verb, batch.target, text, tuple(batch.joins), batch.tags)

    def _discard(self) -> None:
        if self._batch is not None:
            self._ignored, self._batch = self._batch.reference, None

    def _refused(
        self, code: str, reason: str, *context: str, tags: Mapping[str, str] | None = None
    ) -> BatchRefused:
        """Discard the open batch, if there is one, and return the refusal."""
        if tags is None:
            assert self._batch is not None, "only an open batch has tags"
            tags = self._batch.tags
        self._discard()
        return BatchRefused(code, context, reason, tags)


def encode_batch(
    reference: str,
    verb: str,
    target: str,
    text: str,
    *,
    source: str,
    tags: Mapping[str, str | None],
    joins: Sequence[int] = (),
) -> bytes:
    """Encode a text as one batch.

    :param reference: the reference tag: letters, digits and ``-``.
    :param tags: the tags of the batch, such as msgid and time; its lines have none of them.
    :param joins: as in ``Collected``, so that lines stay as their sender split them.
    """
    limit = text_limit(verb, target, source)
    # A text may have thousands of lines, so what they have in common is encoded once.
    parts: dict[str, str | None] = {"batch": reference}
    first = encode(verb, [target, ""], source=source, tags=parts).removesuffix(b"\r\n")
    parts[CONCAT] = None
    further = encode(verb, [target, ""], source=source, tags=parts).removesuffix(b"\r\n")
    lines = [
        b"%b%b\r\n" % (further if continues else first, piece.encode())
        for piece, continues in pieces(text, limit, joins)
    ]
    opening = encode("BATCH", [f"+{reference}", TYPE, target], source=source, tags=tags)
    return b"".join([opening, *lines, encode("BATCH", [f"-{reference}"], source=source)])
