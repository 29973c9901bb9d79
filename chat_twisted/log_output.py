"""Where the log goes: a file, a standard file of the process, or the journal; audit lines apart.

``LogOutput`` is the log observer of the server. This module must not know the events.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from chat_twisted.files import FilesError
from chat_twisted.log_lines import AUDIT, PRIORITIES, as_json, as_text, describe
from chat_twisted.logfile import LogFile


class Target(Protocol):
    """Takes the lines of a log.

    :ivar is_journal: whether lines begin with their priority, and need no time.
    """

    is_journal: bool

    def write(self, text: str) -> None:
        """Write a line."""

    def reopen(self) -> None:
        """Open the file again.

        :raises FilesError: if that fails; the old one stays in use.
        """


class StandardFile:
    """A standard file of the process, as a target.

    :param descriptor: 1 or 2.
    :param environment: of the process; systemd sets ``JOURNAL_STREAM``.
    """

    def __init__(self, descriptor: int, environment: Mapping[str, str]) -> None:
        self._descriptor = descriptor
        self.is_journal = is_journal(descriptor, environment)

    def write(self, text: str) -> None:
        """Write a line. If nobody reads it, or there is no room, it is lost."""
        data = text.encode("utf-8", "backslashreplace")
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._descriptor, data) :]

    def reopen(self) -> None:
        """Do nothing."""


def is_journal(descriptor: int, environment: Mapping[str, str]) -> bool:
    """Return whether a file leads to systemd's journal (systemd.exec(5), ``JOURNAL_STREAM``)."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


@implementer(ILogObserver)
class LogOutput:
    """Writes events to a target, and audit events to another one.

    :param target: the log.
    :param audit: gets the audit lines instead of the log; None for the log.
    :param as_objects: whether lines are JSON objects.
    :param level: the lowest level that is written; audit lines are written in any case.
    """

    def __init__(
        self, target: Target, audit: Target | None = None, *, as_objects: bool, level: str
    ) -> None:
        self._target = target
        self._audit = target if audit is None else audit
        self._as_objects = as_objects
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """Set the lowest level, a key of ``PRIORITIES``."""
        self._most = PRIORITIES[level]

    def __call__(self, event: LogEvent) -> None:
        """Write an event. Called by Twisted."""
        line = describe(event)
        priority = PRIORITIES[line.level]
        target = self._audit if line.event == AUDIT else self._target
        if priority > self._most and line.event != AUDIT:
            return
        with_time = not target.is_journal
        text = as_json(line) if self._as_objects else as_text(line, with_time=with_time)
        target.write(f"<{priority}>{text}" if target.is_journal else text)

    def reopen(self) -> list[str]:
        """Open the files again.

        :return: the errors. A file that can't be opened again stays open as it was.
        """
        problems = []
        for target in dict.fromkeys((self._target, self._audit)):
            try:
                target.reopen()
            except FilesError as error:
                problems.append(str(error))
        return problems


def open_output(
    path: Path | None,
    stream: int | None,
    audit: Path | None,
    *,
    as_objects: bool,
    level: str,
    environment: Mapping[str, str],
) -> LogOutput | None:
    """Open the log.

    :param path: the file, or None.
    :param stream: the descriptor of a standard file, or None.
    :param audit: the file for audit lines; None for none.
    :param as_objects, level: as in ``LogOutput``.
    :param environment: of the process.
    :return: None if there is neither ``path`` nor ``stream``.
    :raises FilesError: if a file can't be opened.
    """
    target: Target
    if path is not None:
        target = LogFile(path)
    elif stream is not None:
        target = StandardFile(stream, environment)
    else:
        return None
    audits = None if audit is None else LogFile(audit)
    return LogOutput(target, audits, as_objects=as_objects, level=level)
