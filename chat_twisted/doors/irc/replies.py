"""Replies: everything that a client gets for one of its commands passes through one ``Reply``.

Without a label, lines are written at once. With one (ircv3.net, labeled-response), they are
gathered until the command has ended: a single line gets the label, several become a batch, and none
becomes ACK. This module must not know commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from chat_twisted.core.errors import ChatError
from chat_twisted.doors.irc.grammar import encode
from chat_twisted.doors.irc.numerics import SERVER, numeric_of

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


class _Gathered(NamedTuple):
    verb: str
    params: tuple[str, ...]
    source: str
    tags: dict[str, str | None]


class Reply:
    """The answer to one command.

    :param label: the label of the command, if it has one.
    """

    def __init__(self, client: Client, label: str | None = None) -> None:
        self.client = client
        self._label = label
        self._gathered: list[_Gathered] = []

    def add(
        self,
        verb: str,
        *params: str,
        source: str = SERVER,
        tags: Mapping[str, str | None] | None = None,
    ) -> None:
        """Add a line.

        :param tags: its tags, which the client must understand.
        """
        if self._label is None:
            self.client.write(encode(verb, params, source=source, tags=tags))
        else:
            self._gathered.append(_Gathered(verb, params, source, dict(tags or {})))

    def numeric(self, number: str, *params: str) -> None:
        """Add a numeric reply; the client's name goes before ``params``."""
        self.add(number, self.client.nick, *params)

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

    def end(self) -> None:
        """End the reply: write what was gathered."""
        if self._label is None:
            return
        label, self._label = self._label, None
        write, lines = self.client.write, self._gathered
        if not lines:
            write(encode("ACK", (), source=SERVER, tags={"label": label}))
        elif len(lines) == 1:
            verb, params, source, tags = lines[0]
            write(encode(verb, params, source=source, tags={"label": label, **tags}))
        else:
            reference = self.client.next_batch()
            around: dict[str, str | None] = {"batch": reference}
            opening = ("+" + reference, "labeled-response")
            write(encode("BATCH", opening, source=SERVER, tags={"label": label}))
            for verb, params, source, tags in lines:
                write(encode(verb, params, source=source, tags=around | tags))
            write(encode("BATCH", ("-" + reference,), source=SERVER))
        self._gathered = []
