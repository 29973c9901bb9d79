"""The requests of a session on their way to the server, and what its answers do.

``Exchange`` sends each request, finds the request that a frame answers, and sends the unanswered
ones again: on the next connection, or when the server has refused them for now. This module must
not know the connection, the registration, or events that nobody has asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from chat_twisted.client import incoming
from chat_twisted.client.inbox import Inbox
from chat_twisted.client.liveness import Liveness
from chat_twisted.client.output import Output
from chat_twisted.client.reconnection import Reconnection
from chat_twisted.client.requests import Repeater, Request, Requests
from chat_twisted.client.restoration import Restoration
from chat_twisted.client.waiting import FutureLikeDeferred
from chat_twisted.core.errors import TooFast, Unavailable
from chat_twisted.frames import Frame, HeaderIncomplete
from chat_twisted.refusals import refusal_of
from chat_twisted.ui.errors import NotConnected, Refused, Sent
from chat_twisted.ui.requests import Headers
from chat_twisted.ui.session import Listener
from chat_twisted.ui.values import Refusal

HEADER_INCOMPLETE = refusal_of(HeaderIncomplete).code
UNAVAILABLE = refusal_of(Unavailable).code
TOO_FAST = refusal_of(TooFast).code


class Exchange:
    """The exchange of requests and answers, over all connections of a session.

    :param first_id: the ID of the first request.
    :param repeater: calls ``send_again``.
    :param write: writes to the connection.
    """

    def __init__(
        self,
        first_id: int,
        listener: Listener,
        inbox: Inbox,
        restoration: Restoration,
        repeater: Repeater,
        liveness: Liveness,
        reconnection: Reconnection,
        output: Output,
        write: Callable[[bytes], object],
    ) -> None:
        self._requests = Requests(first_id)
        self._listener = listener
        self._inbox = inbox
        self._restoration = restoration
        self._repeater = repeater
        self._liveness = liveness
        self._reconnection = reconnection
        self._output = output
        self._write = write
        self._is_registered = False  # requests can be sent

    @property
    def waits(self) -> bool:
        """Whether the server has to answer a request, and may do so now."""
        return bool(self._requests) and not self._repeater.is_waiting

    # Requests

    def ask(
        self, verb: str, argument: str, headers: Headers, body: str | None
    ) -> FutureLikeDeferred[Any]:
        """Send a request, now or when that is possible; the result fires with its answer."""
        if not self._requests:
            self._liveness.answered()  # starts to wait now
        id = self._requests.add(verb, argument, headers, body)
        answered = self._requests.answered(id)
        if verb == "SEND":
            self._inbox.own.sending(id)
        elif verb == "STATUS":
            answered.addCallback(self._restoration.status_is, argument, body)
        if self._repeater.is_waiting:  # it must not overtake requests that wait
            self._repeater.follow(id)
        elif self._is_registered:
            self._write(self._requests.frame(id))
        return answered

    def start(self) -> list[bytes]:
        """Send requests from now on. Called when the user is registered on a connection.

        :return: the frames of the unanswered requests, which the caller must send again.
        """
        self._is_registered = True
        self._liveness.answered()
        if not self._requests:
            self._reconnection.answered()
        return self._requests.frames()

    def stop(self) -> None:
        """Send nothing until ``start``. Called when the connection is lost."""
        self._is_registered = False
        self._repeater.cancel()  # all requests are sent again after the next registration
        self._requests.forget_parts()

    def end(self, reason: str) -> None:
        """Fail all requests with ``NotConnected``. Called when the session has ended."""
        self._inbox.own.end()
        self._requests.fail(NotConnected(reason))

    def send_again(self, ids: list[int]) -> bool:
        """Send requests again; return False if the server has not read earlier output."""
        if self._output.is_full:
            return False
        if self._is_registered:
            for id in ids:
                self._write(self._requests.frame(id))
        return True

    # Answers

    def answered(self, frame: Frame) -> Request | None:
        """Take the last frame of an answer; return its request, or None if it is not waiting.

        :raises HeaderIncomplete: if the frame does not match that request.
        """
        asked = self._requests.find(frame)
        return None if asked is None else self._settle(asked[0], done=True)

    def _settle(self, id: int, *, done: bool) -> Request:
        """Remove a request that was answered; return it."""
        self._inbox.own.settled(id)
        self._repeater.settled(id, done=done)
        self._liveness.answered()
        self._reconnection.answered()
        return self._requests.settle(id)

    def refused(self, frame: Frame, refusal: Refusal) -> None:
        """Take a refusal. A request that is refused for now is repeated later."""
        id = frame.number("id") if frame.id else None
        if self._repeat(id, refusal.code, incoming.retry_after(frame)):
            return
        if id is None and refusal.code == HEADER_INCOMPLETE:
            # The server closes the connection; the request would be sent again on the next one.
            id = self._requests.oldest()
        problem = Refused(refusal.code, refusal.text, refusal)
        if id is None:
            self._listener.refused(problem)
        elif id in self._requests:
            self._settle(id, done=False).answered.errback(problem)
        else:
            return
        self._inbox.own.report()

    def _repeat(self, id: int | None, code: int, seconds: int | None) -> bool:
        """Repeat a temporarily refused request after ``seconds``; return whether it can be."""
        if id is None or id not in self._requests:
            return False
        if seconds is None or code not in (UNAVAILABLE, TOO_FAST):
            return False
        if not self._repeater.refused(id, seconds):
            return False
        self._requests.forget_parts(id)  # a list starts again with its first page
        self._liveness.answered()
        return True

    def listed(self, frame: Frame) -> None:
        """Take a page of a list, and request the next one."""
        asked = self._requests.add_page(frame)
        if asked is None:
            return
        id, next_page = asked
        if next_page:
            self._write(next_page)
            return
        request = self._settle(id, done=True)
        if request.verb == "ROOMS":
            self._restoration.rooms_are(request.gathered)
        request.answered.callback(request.gathered)

    def changed(self, frame: Frame) -> None:
        """Take the answer to a request that changes something, or to ACCOUNT."""
        if frame.argument == "messages":
            self._found(frame)
        elif (request := self.answered(frame)) is not None:
            request.answered.callback(incoming.done(frame))

    def _sent(self, frame: Frame) -> None:
        sent = Sent(frame.number("message"), incoming.time(frame))
        if (request := self.answered(frame)) is not None:
            self._inbox.own.sent(sent.number, self._inbox.last)
            request.answered.callback(sent)
            self._inbox.own.report()

    def _message_found(self, frame: Frame) -> None:
        self._requests.add_message(frame, incoming.message(frame))

    def _found(self, frame: Frame) -> None:
        if (request := self.answered(frame)) is not None:
            request.answered.callback(incoming.found(frame, request.gathered))

    def _described(self, frame: Frame) -> None:
        profile = incoming.profile(frame)
        if (request := self.answered(frame)) is not None:
            request.answered.callback(profile)

    ANSWERS: ClassVar[dict[str, Callable[[Exchange, Frame], None]]] = {
        "SENT": _sent,
        "MESSAGE": _message_found,
        "WHOIS": _described,
        **dict.fromkeys(("WHO", "ROOMS"), listed),
        **dict.fromkeys(("HISTORY", "SEARCH"), _found),
        **dict.fromkeys(("STATUS", "ACCOUNT", "KICK", "MUTE", "UNMUTE"), changed),
    }
    """The methods that take the frames of verbs that only answers have."""
