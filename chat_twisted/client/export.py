"""Saves all that a user has said, as the server lists it page by page, in a new file.

A line of the file is a JSON object, as ``records`` has it for a message. This module must not know
who waits for the export, or how a page is sent.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import BinaryIO

from chat_twisted.ui.errors import IdentityError
from chat_twisted.ui.records import Records
from chat_twisted.ui.requests import ChatRequests
from chat_twisted.ui.values import Received

PAGE = 1000
"""Number of messages that are requested at once."""


class Export:
    """An export that is under way.

    :param name: the file's name as the user has typed it. The file must not exist.
    :raises IdentityError: if the file can't be created.
    """

    def __init__(self, name: str) -> None:
        self._count = 0
        self._last = 0  # the number of the last message
        self._records = Records("")
        self._name = name
        self._path = os.path.expanduser(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            self._file: BinaryIO = open(os.open(self._path, flags, 0o600), "wb")  # noqa: SIM115
        except (OSError, ValueError) as problem:
            raise self.error(problem) from None

    def add(self, messages: Sequence[Received]) -> None:
        """Write a page.

        :raises OSError: if the file can't be written.
        :raises IdentityError: if the server repeats messages.
        """
        for message in messages:
            if message.number <= self._last:
                raise IdentityError("The server lists messages without an end")
            self._last = message.number
            self._file.write(f"{self._records.received(message)}\n".encode())
        self._count += len(messages)

    def finish(self) -> str:
        """Make the file durable, and close it; say for people that the export is complete.

        :raises OSError: if the file can't be written.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        messages = "1 message" if self._count == 1 else f"{self._count} messages"
        return f"{messages} saved in {self._name}"

    def abandon(self) -> None:
        """Remove the file, which is not complete."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        with contextlib.suppress(OSError):
            self._file.close()

    def error(self, problem: OSError | ValueError) -> IdentityError:
        """Describe an error of the file for people."""
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        return IdentityError(f"{self._name}: {reason}")


async def export(session: ChatRequests, name: str) -> str:
    """Save all messages of a user in a new file; say for people that it is complete.

    After an error there is no file.

    :raises IdentityError: if the file can't be made or written, or the server repeats messages.
    """
    file, after, more = Export(name), 0, True
    try:
        while more:
            page = await session.own_page(after=after, count=PAGE)
            file.add(page.messages)
            more = page.more and page.after > after
            after = page.after
        return file.finish()
    except OSError as problem:
        file.abandon()
        raise file.error(problem) from None
    except BaseException:
        file.abandon()
        raise
