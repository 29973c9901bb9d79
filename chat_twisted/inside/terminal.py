"""A visit with a terminal: the client's screen and view, on the terminal of the user's ssh.

This module must not know SSH's packets, or how the terminal is drawn.
"""

from __future__ import annotations

import datetime
import zoneinfo
from collections.abc import Callable

from prompt_toolkit.data_structures import Size as TerminalSize
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from chat_twisted.client.config import Config
from chat_twisted.client.remote import RecentLines, RemoteInput, RemoteOutput
from chat_twisted.client.screen import Screen
from chat_twisted.core.errors import MalformedName
from chat_twisted.core.message import check_user_name
from chat_twisted.doors.ssh.visits import Peer, Size, Visit, Visitor, Wish
from chat_twisted.inside.connecting import SIGNALS, Connection, Connector
from chat_twisted.inside.files import NoFiles
from chat_twisted.logs import Logger
from chat_twisted.refusals import refusal_of
from chat_twisted.text import printable
from chat_twisted.ui.conversation_view import NOT_CONNECTED, ConversationView
from chat_twisted.ui.settings import Memory
from chat_twisted.ui.values import Refusal

FAULT = 1
"""The exit code after a fault of the server."""


class TerminalVisit(Visit):
    """A visit with a terminal.

    :param where: the name of the server's machine, for the greeting.
    :param over: called once, when the visit has ended.
    """

    _log = Logger()

    def __init__(
        self,
        connector: Connector,
        visitor: Visitor,
        wish: Wish,
        peer: Peer,
        where: str,
        over: Callable[[], None],
    ) -> None:
        assert wish.size is not None, "a visit without a terminal is a pipe"
        self._peer = peer
        self._over = over
        config = Config()
        zone = _zone(wish.environment.get("TZ", ""))
        self._input = RemoteInput(connector.soon, peer.taken)
        self._output = RemoteOutput(peer.write, _drawn_for(wish.size), wish.environment)
        self._screen = screen = Screen(
            config,
            RecentLines(),
            environment=wish.environment,
            input=self._input,
            output=self._output,
            local=False,
        )
        self._view = screen.view = view = ConversationView(
            visitor.name,
            NoFiles(visitor.key),
            connector.clock,
            screen,
            config,
            Memory(),
            timezone=zone,
            now=lambda: datetime.datetime.now(zone).astimezone(zone),
        )
        self._connection = Connection(
            connector,
            visitor,
            visitor.name,
            view,
            lambda then: screen.when_shown(lambda: peer.when_answered(then)),
            lambda refusal: Deferred.fromCoroutine(view.other_name(refusal)),
            bot=False,
        )
        view.session = self._connection.session
        view.session.where = where
        screen.done.addCallbacks(self._finished, self._failed)
        screen.start()
        Deferred.fromCoroutine(self._connect(visitor)).addErrback(self._failed)

    async def _connect(self, visitor: Visitor) -> None:
        session = self._connection.session
        try:
            check_user_name(visitor.name)
        except MalformedName:
            code, reason, _ = refusal_of(MalformedName)
            name = await self._view.other_name(Refusal(code, reason))
            if self._connection.is_lost:
                return
            if not name:
                self._screen.stop(NOT_CONNECTED, self._view.failure)
                return
            session.take_name(name)
        self._connection.connect()

    def _finished(self, result: tuple[int, str]) -> None:
        code, reason = result
        self._connection.over()
        if not self._connection.is_lost:
            if reason:
                self._peer.write(f"{printable(reason)}\r\n".encode())
            self._peer.end(code)
        self._has_ended()

    def _failed(self, fault: Failure) -> None:
        self._log.failure("in a terminal", fault)
        self._peer.end(FAULT)  # then the channel is closed, and the session with it
        self._has_ended()

    def _has_ended(self) -> None:
        over, self._over = self._over, lambda: None  # after a fault, the screen ends, too
        over()

    # Calls of the channel

    def received(self, data: bytes) -> None:
        """See ``Visit.received``."""
        self._input.feed(data)

    def input_ended(self) -> None:
        """See ``Visit.input_ended``."""
        self._input.end()

    def resized(self, size: Size) -> None:
        """See ``Visit.resized``."""
        self._output.size = _drawn_for(size)
        self._screen.resized()

    def interrupted(self, signal: str) -> None:
        """See ``Visit.interrupted``."""
        if code := SIGNALS.get(signal):
            self._view.interrupt(code)

    def pause(self) -> None:
        """See ``Visit.pause``."""
        self._screen.hold()

    def resume(self) -> None:
        """See ``Visit.resume``."""
        self._screen.go_on()

    def lost(self) -> None:
        """See ``Visit.lost``."""
        if not self._connection.is_lost:
            self._connection.lost(self._dissolve)
            self._screen.lost()

    def _dissolve(self) -> None:
        for part in (self._connection, self._view, self._screen):
            part.dissolve()
        vars(self).clear()


def _drawn_for(size: Size) -> TerminalSize:
    return TerminalSize(rows=size.rows, columns=size.columns)


def _zone(name: str) -> datetime.tzinfo | None:
    """Return the time zone of the variable TZ; None, which is the server's, if it is not known."""
    try:
        return zoneinfo.ZoneInfo(name.removeprefix(":")) if name else None
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return None
