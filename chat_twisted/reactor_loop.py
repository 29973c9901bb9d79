"""An asyncio event loop over Twisted's reactor, as far as prompt_toolkit and nats-py need one.

Timers, readers, connections and threads are those of the reactor: the loop has no thread and no
file descriptor, and while nothing is due it does not wake up. Many terminals can share it. This
module must not know what its callbacks do.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, cast

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from chat_twisted import reactor_streams
from chat_twisted.logs import Logger

T = TypeVar("T")

SHARE = 0.005
"""Seconds for which callbacks run in one turn of the reactor. The others run in the next turns, so
that many terminals with something to draw don't delay anybody."""


def use(reactor: Any) -> asyncio.AbstractEventLoop:
    """Make a loop over ``reactor`` the running loop of this thread, which is the reactor's.

    So ``asyncio.get_running_loop`` returns it whenever code runs in the reactor. Call this after
    the process has forked. If there is a running loop already, or ``reactor`` is the asyncio
    reactor, which has a loop, nothing is done.

    :return: the loop.
    """
    if isinstance(reactor, AsyncioSelectorReactor):
        loop: asyncio.AbstractEventLoop = reactor._asyncioEventloop
        return loop
    if (running := asyncio._get_running_loop()) is not None:
        return running
    made = cast(asyncio.AbstractEventLoop, ReactorLoop(reactor))
    # asyncio documents this function for those who implement event loops.
    asyncio._set_running_loop(made)
    return made


def leave() -> None:
    """Undo ``use``."""
    if isinstance(asyncio._get_running_loop(), ReactorLoop):
        asyncio._set_running_loop(None)


class ReactorLoop:
    """An event loop that runs whenever ``reactor`` does.

    It has those methods of ``asyncio.AbstractEventLoop`` that are needed, with the same meaning.
    The attribute ``_ready`` of asyncio's own loops is missing on purpose: with it, prompt_toolkit
    would put a drawing off again and again, for 10 ms, while other terminals have callbacks.

    :ivar slow_callback_duration: set by prompt_toolkit, and not used.
    """

    slow_callback_duration = 0.1

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._loop: Any = self  # for asyncio, which wants all the methods
        self._waiting: deque[asyncio.Handle] = deque()
        self._is_scheduled = False  # whether _run_waiting runs, or will
        self._readers: dict[int, _Reader] = {}

    def is_running(self) -> bool:
        """Return True."""
        return True

    def is_closed(self) -> bool:
        """Return False."""
        return False

    def get_debug(self) -> bool:
        """Return False."""
        return False

    def time(self) -> float:
        """Return the reactor's time, in seconds."""
        seconds: float = self._reactor.seconds()
        return seconds

    def create_future(self) -> asyncio.Future[Any]:
        """Return a new future of this loop."""
        return asyncio.Future(loop=self._loop)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """Run a coroutine, from the next turn of the reactor on."""
        return asyncio.Task(coro, loop=self._loop, name=name, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log an error. Called by asyncio and prompt_toolkit.

        Their message about an exception is left out, because it contains arguments of the callback.
        """
        if (exception := context.get("exception")) is not None:
            self._log.failure("in a callback of the event loop", Failure(exception))
        else:
            self._log.error("event loop: {problem}", event="event-loop", problem=context["message"])

    # Callbacks

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Call ``callback`` in the next turn of the reactor, after those that wait already."""
        handle = asyncio.Handle(callback, args, self._loop, context)
        self._add(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As ``call_soon``, from any thread; but not from the handler of a signal."""
        if asyncio._get_running_loop() is self._loop:
            return self.call_soon(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self._loop, context)
        self._reactor.callFromThread(self._add, handle)
        return handle

    def _add(self, handle: asyncio.Handle) -> None:
        self._waiting.append(handle)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._reactor.callLater(0, self._run_waiting)

    def _run_waiting(self) -> None:
        """Run the callbacks that wait, but not those that they add. Called by the reactor."""
        waiting, seconds = self._waiting, self._reactor.seconds
        end = seconds() + SHARE
        try:
            for _ in range(len(waiting)):
                handle = waiting.popleft()
                if not handle.cancelled():
                    handle._run()  # it passes an exception to call_exception_handler
                    # It drops the callback: in Python 3.12 and 3.13 the traceback of a task that
                    # failed leads here, to the handle, and so back to the task.
                    handle.cancel()
                    if seconds() >= end:
                        break
        finally:
            self._is_scheduled = bool(waiting)
            if waiting:
                self._reactor.callLater(0, self._run_waiting)

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call ``callback`` after ``delay`` seconds."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call ``callback`` at a time of this loop."""
        timer = _Timer(when, callback, args, self._loop, context)
        timer.delayed = self._reactor.callLater(max(0, when - self.time()), self._is_due, timer)
        return timer

    def _is_due(self, timer: _Timer) -> None:
        timer.delayed = None
        self._add(timer)

    def _timer_handle_cancelled(self, timer: _Timer) -> None:
        """Called by asyncio when a timer is cancelled."""
        if timer.delayed is not None:
            if timer.delayed.active():  # else the reactor has forgotten it at its end
                timer.delayed.cancel()
            timer.delayed = None

    # Files, connections, threads and signals

    def add_reader(self, fd: Any, callback: Callable[..., object], *args: Any) -> None:
        """Call ``callback`` whenever the descriptor ``fd`` can be read or has come to its end."""
        self.remove_reader(fd)
        reader = self._readers[fd] = _Reader(fd, asyncio.Handle(callback, args, self._loop, None))
        self._reactor.addReader(reader)

    def remove_reader(self, fd: Any) -> bool:
        """Undo ``add_reader``; return whether there was a reader."""
        reader = self._readers.pop(fd, None)
        if reader is not None:
            self._reactor.removeReader(reader)
        return reader is not None

    def run_in_executor(
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Call ``func`` in a thread of the reactor; return a future of its result.

        The thread is made for the first call: prompt_toolkit waits in it for the user's editor.
        """
        future: asyncio.Future[T] = asyncio.Future(loop=self._loop)

        def run() -> None:
            try:
                result = func(*args)
            except Exception as problem:  # noqa: BLE001  who waits for the future gets it
                self.call_soon_threadsafe(settle, future.set_exception, problem)
            else:
                self.call_soon_threadsafe(settle, future.set_result, result)

        def settle(change: Callable[[Any], None], outcome: object) -> None:
            if not future.cancelled():
                change(outcome)

        self._reactor.callInThread(run)
        return future

    async def create_connection(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connect to ``host``; return the transport and the protocol.

        :raises OSError: if that is not possible.
        """
        return await reactor_streams.connect(
            self._reactor, self._loop, protocol_factory, host, port
        )

    async def start_tls(
        self,
        transport: asyncio.Transport,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
    ) -> asyncio.Transport:
        """Begin TLS on a connection, as a client; return the transport for ``protocol``.

        :raises OSError: if that fails; ``ssl.SSLError`` is one.
        """
        return await reactor_streams.start_tls(
            self._loop, transport, protocol, sslcontext, server_hostname
        )

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        """Do nothing: the program handles the signals of its process, and many terminals of users
        may share this loop. For SIGWINCH it calls ``Screen.resized``.
        """

    def remove_signal_handler(self, sig: int) -> bool:
        """Return False."""
        return False


class _Timer(asyncio.TimerHandle):
    """A callback with a time.

    :ivar delayed: the reactor's call; None when it has been made, or is cancelled.
    """

    __slots__ = ("delayed",)

    delayed: IDelayedCall | None


@implementer(IReadDescriptor)
class _Reader:
    """A descriptor that the reactor reads, and the callback that does it."""

    def __init__(self, descriptor: int, handle: asyncio.Handle) -> None:
        self._descriptor = descriptor
        self._handle = handle

    def fileno(self) -> int:
        """Return the descriptor. Called by Twisted."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Return the prefix for log lines. Called by Twisted."""
        return "event loop"

    def doRead(self) -> None:
        """Called by Twisted when the descriptor can be read."""
        self._handle._run()

    def connectionLost(self, reason: Failure) -> None:
        """Called by Twisted, which reads no more, when the other end is closed."""
        self._handle._run()  # it finds the end
