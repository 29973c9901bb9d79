"""Confirms messages to the server when the user's ssh has taken them, and still answers.

This module must not know where the messages are shown.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

SOON, LATER = 0.1, 3.0
"""Seconds after which messages are confirmed: direct ones, whose senders wait for it, and others.
What comes meanwhile is confirmed together."""

FINISH_WITHIN = 1.0
"""Seconds to wait for a peer's answer before the session quits."""


class Confirmer:
    """Confirms the messages of one session.

    :param when_taken: calls its argument when the user has everything that was shown so far.
    :param confirm: confirms all messages up to a number.
    """

    def __init__(
        self,
        clock: IReactorTime,
        when_taken: Callable[[Callable[[], None]], None],
        confirm: Callable[[int], None],
    ) -> None:
        self._clock = clock
        self._when_taken = when_taken
        self._confirm = confirm
        self._newest = 0  # the number of the newest message that is not confirmed; 0 if all are
        self._timer: IDelayedCall | None = None
        self._asked = False  # whether ``when_taken`` was called, and has not called back
        self._quit: Callable[[], None] | None = None  # once the session wants to quit
        self._is_stopped = False

    def received(self, number: int, direct: bool) -> None:
        """Confirm messages later.

        :param number: the number of the last one.
        :param direct: whether one of them is a direct message.
        """
        if not self._is_stopped:
            self._newest = number
            if not self._asked and self._quit is None:
                self._ask_within(SOON if direct else LATER)

    def before_quit(self, then: Callable[[], None]) -> None:
        """Confirm the messages that are not confirmed yet, so that they do not come again, and call
        ``then``, which quits. If the user does not answer in time, it is called nevertheless.
        """
        if self._is_stopped:
            then()
            return
        self._quit = then
        self._cancel_timer()
        self._timer = self._clock.callLater(FINISH_WITHIN, self._finish)
        if not self._asked:
            self._go_on()

    def stop(self) -> None:
        """Confirm nothing more."""
        self._is_stopped = True
        self._newest = 0
        self._quit = None
        self._cancel_timer()

    def _ask_within(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._ask_now)
        elif self._timer.getTime() > self._clock.seconds() + seconds:
            self._timer.reset(seconds)

    def _ask_now(self) -> None:
        self._timer = None
        self._ask()

    def _ask(self) -> None:
        self._asked = True
        number, self._newest = self._newest, 0
        self._when_taken(lambda: self._taken(number))

    def _taken(self, number: int) -> None:
        self._asked = False
        self._confirm(number)
        self._go_on()

    def _go_on(self) -> None:
        if self._quit is None:
            if self._newest:
                self._ask_within(SOON)
        elif self._newest:
            self._ask()
        else:
            self._finish()

    def _finish(self) -> None:
        then, self._quit = self._quit, None
        self.stop()
        if then is not None:
            then()

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
