"""The requests of a session that have no complete answer yet.

``Requests`` numbers requests, matches answers with them, and collects answers of several frames
within bounds. ``Repeater`` repeats requests that the server has refused for now. This module must
not know the connection, or who has made a request.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from chat_twisted.client import incoming
from chat_twisted.client.waiting import FutureLikeDeferred
from chat_twisted.core.message import fold
from chat_twisted.frames import Frame, HeaderIncomplete, MessageTooLong, encode
from chat_twisted.ui.requests import Headers
from chat_twisted.ui.values import Received

MAX_ARGUMENT = 480
MAX_TEXTS = 3500
"""Maximum bytes of a request's argument, and of its argument and headers together. The server's
limits on lines also count the names of headers."""

MAX_FOUND = 1000
"""Maximum number of messages in an answer to HISTORY or SEARCH."""

MAX_GATHERED = 20 * 1024 * 1024
"""Maximum bytes of unfinished answers. A line counts ``LEAST_LINE`` more than its length, and a
message ``LEAST_MESSAGE`` more."""

LEAST_LINE, LEAST_MESSAGE = 100, 200

MAX_CURSOR = 128
"""Maximum characters of the cursor with which the next page of a list is requested."""

LONGEST_WAIT = 60
"""Maximum seconds before a temporarily refused request is repeated, whatever ``Retry-after`` says.
"""

_ANSWERS = {
    "SEND": "SENT",
    "JOIN": "JOINED",
    "LEAVE": "LEFT",
    "INVITE": "INVITED",
    "RENAME": "RENAMED",
    "DELETE": "DELETED",
}
"""The verb of the answer, for requests that are not answered with their own verb."""

_ABOUT_OTHERS = ("RENAME", "DELETE")
"""Requests whose answer has another argument: the old name, the message's conversation."""

_LINES: dict[str, Callable[[str], Any]] = {
    "WHO": incoming.seen,
    "ROOMS": incoming.room,
    "BAN": incoming.sanction,
    "READ": incoming.marker,
}
"""How a line of a list is parsed."""


def draw_id() -> int:
    """Draw the first request ID of a session at random, so that sessions don't share IDs."""
    return secrets.randbelow(10**17) + 1


def is_list(verb: str, argument: str, names_user: bool) -> bool:
    """Return whether a request asks for a list, or a frame is part of one.

    :param names_user: whether it has the header User.
    """
    if verb == "BAN" and argument.startswith("#"):
        return not names_user
    return verb in ("WHO", "ROOMS") or (verb in ("BAN", "READ") and not argument)


def check_request(argument: str, headers: Headers, body: str | None, max_message: int) -> None:
    """Check a request without sending it.

    :param max_message: the maximum length of a body in bytes.
    :raises HeaderIncomplete: if the server would close the connection for it.
    :raises MessageTooLong: if the body is too long.
    """
    texts = [argument, *(str(value) for _, value in headers)]
    try:
        "".join([*texts, body or ""]).encode()
    except UnicodeEncodeError:  # a lone surrogate
        raise HeaderIncomplete("not a text") from None
    if any(character in text for text in texts for character in "\n\r\0"):
        raise HeaderIncomplete("a line end or NUL in a header")
    if len(argument.encode()) > MAX_ARGUMENT or len("".join(texts).encode()) > MAX_TEXTS:
        raise HeaderIncomplete("too long")
    if body is not None and "\0" in body:
        raise HeaderIncomplete("a NUL")
    if body is not None and len(body.encode()) > max_message:
        raise MessageTooLong("over the server's limit")


@dataclass(slots=True)
class Request:
    """A request without a complete answer.

    :ivar frame: the encoded frame, to send it again.
    :ivar verb: its verb.
    :ivar argument: its argument.
    :ivar headers: its headers, except its ID.
    :ivar answer: the verb of its answer.
    :ivar lists: whether the answer is a list, which may have several pages.
    :ivar gathered: the parts of the answer that have come so far.
    :ivar size: the size of ``gathered`` in bytes, see ``MAX_GATHERED``.
    :ivar after: the cursor of the requested page.
    :ivar answered: fires with the answer, or fails with a ``ClientError``.
    """

    frame: bytes
    verb: str
    argument: str
    headers: Headers
    answer: str
    lists: bool
    gathered: list[Any] = field(default_factory=list)
    size: int = 0
    after: str = ""
    answered: FutureLikeDeferred[Any] = field(default_factory=FutureLikeDeferred)


class Requests:
    """The requests of a session that have no complete answer, by ID, in the order of their making.

    :param first_id: the ID of the first request.
    """

    def __init__(self, first_id: int) -> None:
        self._waiting: dict[int, Request] = {}
        self._size = 0  # of all unfinished answers, in bytes
        self._last_id = first_id - 1

    def __len__(self) -> int:
        """Return the number of requests without an answer."""
        return len(self._waiting)

    def __contains__(self, id: int | None) -> bool:
        """Return whether a request waits for its answer."""
        return id in self._waiting

    def frames(self) -> list[bytes]:
        """Return the frames of all requests, to send them on another connection."""
        return [request.frame for request in self._waiting.values()]

    def frame(self, id: int) -> bytes:
        """Return the frame of a request."""
        return self._waiting[id].frame

    def oldest(self) -> int | None:
        """Return the ID of the oldest request, or None."""
        return next(iter(self._waiting), None)

    def add(self, verb: str, argument: str, headers: Headers, body: str | None) -> int:
        """Add a request; return its ID."""
        self._last_id += 1
        frame = encode(verb, argument, [("Id", self._last_id), *headers], body)
        answer = _ANSWERS.get(verb, verb)
        if verb == "KICK" and argument.startswith("#"):
            answer = "LEFT"
        lists = is_list(verb, argument, any(name == "User" for name, _ in headers))
        self._waiting[self._last_id] = Request(frame, verb, argument, headers, answer, lists)
        return self._last_id

    def answered(self, id: int) -> FutureLikeDeferred[Any]:
        """Return the Deferred of a request's answer."""
        return self._waiting[id].answered

    def settle(self, id: int) -> Request:
        """Remove a request that was answered; return it, with the gathered parts of the answer."""
        request = self._waiting.pop(id)
        self._size -= request.size
        return request

    def fail(self, problem: Exception) -> None:
        """Remove all requests, which will not be answered; their Deferreds fail, in order."""
        waiting, self._waiting = self._waiting, {}
        for request in waiting.values():
            request.answered.errback(problem)

    def forget_parts(self, id: int | None = None) -> None:
        """Drop the parts of the answer to a request that will be sent again, or to all requests."""
        for request in self._waiting.values() if id is None else (self._waiting[id],):
            self._forget_parts(request)

    def _forget_parts(self, request: Request) -> None:
        self._size -= request.size
        request.gathered, request.size, request.after = [], 0, ""

    # Answers

    def find(self, frame: Frame) -> tuple[int, Request] | None:
        """Return the request that a frame answers, or None if it is not waiting.

        :raises HeaderIncomplete: if the frame does not match that request.
        """
        id = frame.number("id")
        request = self._waiting.get(id)
        if request is None:
            return None
        lists = is_list(frame.verb, frame.argument, "user" in frame.headers)
        if frame.verb != request.answer or lists != request.lists:
            raise HeaderIncomplete(f"{request.verb} answered with {frame.verb}")
        about = frame.argument
        if request.verb not in _ABOUT_OTHERS and fold(about) != fold(request.argument):
            raise HeaderIncomplete(f"{frame.verb} about something else than was asked")
        return id, request

    def add_message(self, frame: Frame, message: Received) -> None:
        """Add a message to the answer of which it is a part.

        :raises HeaderIncomplete: if there can't be such a part, or the answer is too long.
        """
        request = self._waiting.get(frame.number("id"))
        if request is None:
            return
        kind = request.argument if request.verb == "ACCOUNT" else request.verb
        if kind not in ("HISTORY", "SEARCH", "messages"):
            raise HeaderIncomplete(f"{request.verb} answered with MESSAGE")
        if len(request.gathered) >= MAX_FOUND:
            raise HeaderIncomplete("an answer of too many messages")
        size = frame.number("content-length") if message.text else 0
        self._gather(request, [message], LEAST_MESSAGE + size)

    def add_page(self, frame: Frame) -> tuple[int, bytes] | None:
        """Add a page of a list to its answer.

        :return: the ID of the request, and the frame that requests the next page, empty after the
            last one; None if the request is not waiting.
        :raises HeaderIncomplete: if there can't be such a page, or the answer is too long.
        """
        asked = self.find(frame)
        if asked is None:
            return None
        id, request = asked
        parse = _LINES[frame.verb]
        lines = incoming.lines(frame)
        size = sum(map(len, lines)) + LEAST_LINE * (len(lines) + 1)
        self._gather(request, [parse(line) for line in lines], size)
        after = frame.headers.get("more")
        if after is None:
            return id, b""
        if not after or len(after) > MAX_CURSOR or after == request.after:
            raise HeaderIncomplete("a list that goes on from nowhere")
        request.after = after
        headers: list[tuple[str, object]] = [("Id", id), *request.headers, ("After", after)]
        return id, encode(frame.verb, frame.argument, headers)

    def _gather(self, request: Request, found: list[Any], size: int) -> None:
        request.gathered.extend(found)
        request.size += size
        self._size += size
        if self._size > MAX_GATHERED:
            raise HeaderIncomplete("an answer without an end")


class Repeater:
    """Repeats the requests that the server refuses for now, in order, and all that follow them.

    :param send: called with the IDs of the requests to send again; returns False if nothing can be
        sent for the moment.
    :param repeat_for: seconds for which a server may refuse everything.
    """

    def __init__(
        self, clock: IReactorTime, send: Callable[[list[int]], bool], repeat_for: float
    ) -> None:
        self._clock = clock
        self._send = send
        self._repeat_for = repeat_for
        self._requests: set[int] = set()
        self._timer: IDelayedCall | None = None
        self._refused_since: float | None = None  # since when every request is refused

    @property
    def is_waiting(self) -> bool:
        """Whether refused requests wait to be sent again."""
        return self._timer is not None

    def refused(self, id: int, seconds: int) -> bool:
        """Repeat a request after ``seconds``; return whether it is worth it."""
        now = self._clock.seconds()
        if self._refused_since is None:
            self._refused_since = now
        if now - self._refused_since >= self._repeat_for:
            return False
        self._requests.add(id)
        self._wait(min(max(1, seconds), LONGEST_WAIT))
        return True

    def follow(self, id: int) -> None:
        """Send a new request behind those that wait."""
        self._requests.add(id)

    def settled(self, id: int, *, done: bool) -> None:
        """Note the answer to a request; ``done`` says that it was carried out."""
        self._requests.discard(id)
        if done:
            self._refused_since = None

    def cancel(self) -> None:
        """Wait no longer: all requests are sent again on the next connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._requests.clear()

    def _wait(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._send_again)

    def _send_again(self) -> None:
        self._timer = None
        if self._send(sorted(self._requests)):
            self._requests.clear()
        else:
            self._wait(1)
