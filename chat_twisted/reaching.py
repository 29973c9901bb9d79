"""Connects the operator's command to the chat of a state folder, whether a server runs or not.

Requests go to a running server over its control socket (``control``). If no server runs, they are
done in this process, on the archive (``offline``). Callers need not know which it is. This module
must not know the requests, and prints nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat_twisted import files
from chat_twisted.core.errors import ChatError
from chat_twisted.files import FilesError
from chat_twisted.storage import archive

if TYPE_CHECKING:
    from chat_twisted.offline import OfflineChat

COME_WITHIN = 10.0
"""Seconds within which a server starts or ends, and another command releases the folder."""

ANSWER_WITHIN = 30.0
"""Seconds within which a server must answer a request."""

LOOK_AGAIN = 0.05
"""Seconds between two tries to reach a server that is starting or ending."""

MAX_ANSWER = 1024 * 1024
"""Maximum bytes of an answer."""

Ask = Callable[..., dict[str, Any]]
"""Type of a function that sends a request: it takes its name and fields, and returns the answer
(``control``)."""


class Refused(Exception):
    """The chat has refused a request. The message says why."""


class NoAnswer(FilesError):
    """A server runs, but it does not answer, or can't do the request now."""


class _Server:
    """The running server, at the other end of its control socket."""

    def __init__(self, folder: Path, connection: socket.socket) -> None:
        self._folder = folder
        self._connection = connection
        self._unread = b""

    def ask(self, ask: str, **fields: object) -> dict[str, Any]:
        """See ``Ask``.

        :raises Refused: if the server refuses the request.
        :raises NoAnswer: if it does not answer in time, its answer is not valid, or it can't do the
            request now.
        """
        deadline = time.monotonic() + ANSWER_WITHIN
        try:
            self._connection.settimeout(ANSWER_WITHIN)
            with contextlib.suppress(BrokenPipeError):  # then it has said why it reads no more
                self._connection.sendall(json.dumps({"ask": ask, **fields}).encode() + b"\n")
            line = self._read_line(deadline)
        except TimeoutError:
            raise NoAnswer(
                f"{_describe(self._folder)} has not answered within {ANSWER_WITHIN:g} seconds; "
                "it may do later what was asked"
            ) from None
        except OSError as error:
            raise NoAnswer(
                f"{_describe(self._folder)} closed the connection before it answered "
                f"({error.strerror}); it may have done what was asked"
            ) from None
        try:
            answer = json.loads(line)
            if "refused" in answer:
                raise Refused(str(answer["refused"]))
            if "failed" in answer:
                raise NoAnswer(f"{_describe(self._folder)}: {answer['failed']}; see its log")
            return dict(answer["answer"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise NoAnswer(f"{_describe(self._folder)} answers what is no answer") from None

    def _read_line(self, deadline: float) -> bytes:
        while b"\n" not in self._unread:
            self._connection.settimeout(max(0.001, deadline - time.monotonic()))
            if len(self._unread) > MAX_ANSWER:
                raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
            data = self._connection.recv(65536)
            if not data:
                raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line


def _connect(folder: Path) -> socket.socket | None:
    """Connect to the server of a state folder.

    :return: None if no server accepts connections there.
    :raises FilesError: if this user may not connect.
    """
    path = files.ShortPath(folder, files.CONTROL)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(ANSWER_WITHIN)
        connection.connect(path.path)
    except (
        FileNotFoundError,
        ConnectionRefusedError,
        BlockingIOError,
    ):  # BlockingIOError: its queue is full
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise FilesError(f"{folder / files.CONTROL}: {error.strerror}") from None
    finally:
        path.close()
    return connection


def _describe(folder: Path) -> str:
    """Describe the server of a state folder, for error messages."""
    number = ""
    with contextlib.suppress(OSError):
        number = (folder / archive.LOCK).read_bytes()[:20].decode("ascii", "replace").strip()
    return f"{folder}: the server" + (f" (process {number})" if number.isdigit() else "")


def owner(folder: Path) -> int | None:
    """Return the user id of the folder's owner if root runs this command; else None."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(OSError):
        return folder.stat().st_uid
    return None


def require_folder(folder: Path) -> None:
    """Check that a folder exists.

    :raises FilesError: if it does not.
    """
    if not folder.is_dir():
        reason = os.strerror(errno.ENOTDIR if folder.exists() else errno.ENOENT)
        raise FilesError(f"{folder}: {reason}")


@contextlib.contextmanager
def reach(folder: Path, say: files.Say, *, make: bool = False) -> Iterator[tuple[Ask, bool]]:
    """Connect to the chat of a state folder during a ``with`` statement.

    :param say: as in ``files.make_private_folder``.
    :param make: whether to create the folder if it does not exist.
    :return: yields the function that sends requests, and whether a server runs.
    :raises NoAnswer: if a server uses the folder and does not accept commands.
    :raises FilesError: if the folder can't be used.
    """
    if not make:
        require_folder(folder)
    deadline = time.monotonic() + COME_WITHIN
    with contextlib.ExitStack() as stack:
        while True:
            if (connection := _connect(folder) if folder.is_dir() else None) is not None:
                stack.enter_context(contextlib.closing(connection))
                yield _Server(folder, connection).ask, True
                return
            chat = None
            with contextlib.suppress(files.InUse):
                chat = stack.enter_context(take(folder, say))
            if chat is not None:
                yield _refusing(chat.request), False
                return
            if time.monotonic() > deadline:
                raise NoAnswer(f"{_describe(folder)} does not answer; is it of an older version?")
            time.sleep(LOOK_AGAIN)


@contextlib.contextmanager
def reach_server(folder: Path) -> Iterator[Ask | None]:
    """Connect to the running server of a state folder during a ``with`` statement, and to nothing
    else.

    :return: yields the function that sends requests; None if no server accepts them.
    :raises FilesError: if this user may not connect.
    """
    connection = _connect(folder)
    if connection is None:
        yield None
        return
    with contextlib.closing(connection):
        yield _Server(folder, connection).ask


@contextlib.contextmanager
def take(folder: Path, say: files.Say, *, patience: float = 0.0) -> Iterator[OfflineChat]:
    """Open the chat of a folder that no server uses, during a ``with`` statement.

    :param patience: as in ``archive.lock``.
    :raises InUse: if a server or another command uses the folder.
    :raises FilesError: if the folder can't be used.
    """
    # Importing takes up to a second, and is not needed if a server runs. It must happen before root
    # takes the rights of a user who may not read the modules.
    from chat_twisted.offline import OfflineChat

    with files.acting_as(owner(folder), None):
        own = files.make_private_folder(folder, say)
        with (
            contextlib.closing(archive.lock(own, say, patience=patience)),
            contextlib.closing(OfflineChat(own, say)) as chat,
        ):
            yield chat


def _refusing(ask: Ask) -> Ask:
    def refusing(what: str, **fields: object) -> dict[str, Any]:
        try:
            return ask(what, **fields)
        except ChatError as error:
            raise Refused(str(error)) from None

    return refusing


def pages(ask: Ask, what: str) -> Iterator[dict[str, Any]]:
    """Yield the items of a list, which is requested page by page."""
    after, more = "", True
    while more:
        page = ask(what, after=after)
        yield from page["items"]
        more = page["more"]
        if more:
            after = page["items"][-1]["key"]
