"""Replies: everything that a client gets for one of its commands passes through one ``Reply``.

Without a label, lines are written at once. With one (ircv3.net, labeled-response), a single line
gets the label, several become a batch, and none becomes ACK. So the first line waits until there is
a second one, or the command has ended. This module must not know commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from chat_twisted.core.errors import ChatError
from chat_twisted.doors.irc.grammar import encode
from chat_twisted.doors.irc.multiline import TYPE
from chat_twisted.doors.irc.numerics import SERVER, numeric_of
from chat_twisted.doors.irc.splitting import harmless

MAX_LABEL = 64
"""Maximum bytes of a label."""

WORDS_BYTES = 400
"""Maximum bytes of the words in one reply of a list."""


class Client(Protocol):
    """The part of a session or a registration that a reply uses."""

    caps: int

    @property
    def nick(self) -> str:
        """The name in replies; ``*`` before there is one."""

    def write(self, data: bytes) -> None:
        """Write to the client."""

    def next_batch(self) -> str:
        """Return a reference for a batch."""

    def count_refusal(self, error: ChatError) -> None:
        """Count a refusal, for the operator."""


class _Line(NamedTuple):
    verb: str
    params: tuple[str, ...]
    source: str
    tags: Mapping[str, str | None]


class Reply:
    """The answer to one command.

    :param label: the label of the command, if it has one.
    """

    def __init__(self, client: Client, label: str | None = None) -> None:
        self.client = client
        self._label = label
        self._first: _Line | None = None  # if it waits
        self._batch = ""  # the reference of the batch around all lines, if it has begun

    def add(
        self,
        verb: str,
        *params: str,
        source: str = SERVER,
        tags: Mapping[str, str | None] | None = None,
    ) -> None:
        """Add a line. If the first one opens a multiline batch, that batch has the label and is the
        whole reply; a command that adds more must call ``begin_labeled`` first.

        :param tags: its tags, which the client must understand.
        """
        if self._label is None:
            self.client.write(encode(verb, params, source=source, tags=tags))
            return
        line = _Line(verb, params, source, tags or {})
        if self._batch or self._first is not None:
            self.begin_labeled()
            self._write_within(line)
        elif verb == "BATCH" and TYPE in params:
            self._write_labeled(line)
            self._label = None
        else:
            self._first = line

    def begin_labeled(self) -> None:
        """Begin the batch for the label, if there is one. Called before a command waits that has
        added a line and will add more: events that come meanwhile must be behind that line.
        """
        if self._label is None or self._batch:
            return
        self._batch = self.client.next_batch()
        opening = (f"+{self._batch}", "labeled-response")
        self.client.write(encode("BATCH", opening, source=SERVER, tags={"label": self._label}))
        if self._first is not None:
            self._write_within(self._first)
            self._first = None

    def _write_labeled(self, line: _Line) -> None:
        verb, params, source, tags = line
        tags = {"label": self._label, **tags}
        self.client.write(encode(verb, params, source=source, tags=tags))

    def _write_within(self, line: _Line) -> None:
        verb, params, source, tags = line
        tags = {"batch": self._batch, **tags}
        self.client.write(encode(verb, params, source=source, tags=tags))

    def numeric(self, number: str, *params: str) -> None:
        """Add a numeric reply; the client's name goes before ``params``. The last one may be a text
        of another door.
        """
        self.add(number, self.client.nick, *params[:-1], *map(harmless, params[-1:]))

    def words(self, number: str, *params: str, words: Iterable[str], between: str = " ") -> None:
        """Add numeric replies that end with words, with as many of them in each as fit."""
        page: list[str] = []
        size = 0
        for word in words:
            if page and size + len(word) > WORDS_BYTES:
                self.numeric(number, *params, between.join(page))
                page, size = [], 0
            page.append(word)
            size += len(word) + 1
        if page:
            self.numeric(number, *params, between.join(page))

    def fail(self, verb: str, code: str, *context: str, text: str) -> None:
        """Add a FAIL (ircv3.net, standard-replies)."""
        self.add("FAIL", verb, code, *context, text)

    def refuse(self, error: ChatError, *context: str, sending: bool = False) -> None:
        """Add the numeric reply for an error.

        :param context: the parameters between the client's name and the text.
        """
        self.client.count_refusal(error)
        number, text = numeric_of(error, sending=sending)
        self.numeric(number, *context, text)

    def begin(self, kind: str, *params: str, batch: str | None = None) -> str:
        """Begin a batch within the reply (ircv3.net, batch).

        :param batch: the batch around it, if any.
        :return: its reference: the value of the tag ``batch`` of its lines.
        """
        reference = self.client.next_batch()
        tags = {} if batch is None else {"batch": batch}
        self.add("BATCH", f"+{reference}", kind, *params, tags=tags)
        return reference

    def finish(self, reference: str, batch: str | None = None) -> None:
        """End a batch.

        :param batch: the batch around it, if any.
        """
        tags = {} if batch is None else {"batch": batch}
        self.add("BATCH", f"-{reference}", tags=tags)

    def discard(self) -> None:
        """Give no answer: the command is a part of something that is answered later."""
        self._label = self._first = None

    def end(self) -> None:
        """End the reply. Lines that are added later have no label."""
        if self._label is None:
            return
        first, self._first = self._first, None
        if self._batch:
            self.client.write(encode("BATCH", (f"-{self._batch}",), source=SERVER))
        elif first is None:
            self.client.write(encode("ACK", (), source=SERVER, tags={"label": self._label}))
        else:
            self._write_labeled(first)
        self._label = None
