"""Saves all that a user has said, as the server lists it page by page, in a new file.

A line of the file is a JSON object, as ``records`` has it for a message. This module must not know
who waits for the export, or how a page is sent.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import BinaryIO, Protocol

from chat_twisted.ui.records import Records
from chat_twisted.ui.values import Received

PAGE = 1000
"""Number of messages that are requested at once."""


class ExportError(Exception):
    """The export can't go on. Its text is for people, and may contain a file's name."""


class Session(Protocol):
    """The part of a session that this module uses."""

    def ask(self, verb: str, argument: str, headers: tuple[tuple[str, object], ...]) -> int:
        """Send a request; return the ID that its answer will have."""


class Export:
    """An export that is under way.

    :ivar count: the number of messages in the file.
    :param name: the file's name as the user has typed it. The file must not exist.
    :raises ExportError: if the file can't be created.
    """

    def __init__(self, name: str, user: str) -> None:
        self.count = 0
        self._last = 0
        self._records = Records(user)
        self._name = name
        self._path = os.path.expanduser(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            self._file: BinaryIO = open(os.open(self._path, flags, 0o600), "wb")  # noqa: SIM115
        except (OSError, ValueError) as problem:
            raise self._error(problem) from None

    def ask(self, session: Session) -> int:
        """Request the next page; return the ID of the request."""
        headers = (("After", self._last), ("Count", PAGE))
        return session.ask("ACCOUNT", "messages", headers)

    def add(self, messages: Sequence[Received]) -> bool:
        """Write a page; return whether there may be another one. An empty page is the last.

        :raises ExportError: if the file can't be written, or the server repeats messages; the file
            is removed then.
        """
        try:
            for message in messages:
                if message.number <= self._last:
                    raise ExportError("The server lists messages without an end")
                self._last = message.number
                self._file.write(f"{self._records.received(message)}\n".encode())
            self.count += len(messages)
            if messages:
                return True
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as problem:
            self.abandon()
            raise self._error(problem) from None
        except ExportError:
            self.abandon()
            raise
        return False

    def abandon(self) -> None:
        """Remove the file, which is not complete."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        with contextlib.suppress(OSError):
            self._file.close()

    @property
    def done(self) -> str:
        """Say that the export is complete, for people."""
        messages = "1 message" if self.count == 1 else f"{self.count} messages"
        return f"{messages} saved in {self._name}"

    def _error(self, problem: OSError | ValueError) -> ExportError:
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        return ExportError(f"{self._name}: {reason}")
