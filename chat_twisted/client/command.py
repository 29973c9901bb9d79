"""The client's command: a session with a server, and a terminal or a pipe on this side of it.

But for what is wrong with the command line and ``config.toml``, nothing else on the client's side
writes to standard error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet import stdio
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError

from chat_twisted.client.arguments import Arguments, Mode
from chat_twisted.client.connection import FAILURES, Connector, explain
from chat_twisted.client.identity import KEY_FILE, Identity, IdentityError, ask_at_the_terminal
from chat_twisted.client.pipe import INTERRUPTED, NOT_CONNECTED, Pipe
from chat_twisted.client.records import Records
from chat_twisted.client.remembered import Remembered, config_folder
from chat_twisted.client.words import Words
from chat_twisted.clocks import use_monotonic_clock
from chat_twisted.message import fold
from chat_twisted.text import printable_lines

INPUT_HISTORY = "input_history"
SESSIONS = "sessions"
IGNORED = "ignored"
"""Files in the client's folder."""


def _tell(notice: str) -> None:
    print(printable_lines(notice), file=sys.stderr)  # noqa: T201  what standard output has no place for


def _fail(reason: str, code: int = NOT_CONNECTED) -> SystemExit:
    """Say in one line why there is no session; return what ends the process."""
    _tell(reason)
    return SystemExit(code)


def _identity(arguments: Arguments) -> Identity:
    file = arguments.password_file
    try:
        if file is not None:
            password = file.read_text(encoding="utf-8-sig").split("\n")[0]
        else:
            password = os.environb.get(b"CHAT_PASSWORD", b"").decode()
    except OSError as problem:
        raise _fail(f"{file}: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise _fail(f"{file or 'CHAT_PASSWORD'}: not UTF-8") from None
    return Identity(
        arguments.identity or config_folder() / KEY_FILE,
        own=arguments.identity is None,
        password=password,
        ask=ask_at_the_terminal if os.isatty(0) else None,
    )


async def main(reactor: Any, arguments: Arguments) -> None:
    """Connect, and bridge a terminal, or standard input and output, until all is said."""
    use_monotonic_clock(reactor)  # nothing is scheduled yet
    identity = _identity(arguments)
    if arguments.mode is Mode.SCREEN:
        await _on_a_terminal(reactor, arguments, identity)
    else:
        await _in_a_pipe(reactor, arguments, identity)


async def _in_a_pipe(reactor: Any, arguments: Arguments, identity: Identity) -> None:
    reads = not (arguments.once or arguments.tail)
    is_json = arguments.mode is Mode.JSON

    def attach(pipe: Pipe) -> None:
        stdin = 0 if reads else os.open(os.devnull, os.O_RDONLY)
        stdio.StandardIO(pipe, stdin=stdin, reactor=reactor)  # type: ignore[call-arg]

    connector = Connector(reactor, arguments.server, _tell)
    pipe = Pipe(
        arguments.user,
        identity,
        reactor,
        attach,
        greet=reads and (is_json or os.isatty(0)),
        speech=(Records if is_json else Words)(arguments.user),
        once=arguments.once,
        tail=arguments.tail,
        reconnect=connector.reconnect,
        reconnect_for=arguments.wait,
    )
    connecting = connector.connect(pipe.session)

    def interrupt() -> Deferred[int]:
        connecting.cancel()
        return pipe.interrupt()

    _on_interruption(reactor, interrupt)
    try:
        await connecting
    except (CancelledError, ConnectingCancelledError):
        raise SystemExit(INTERRUPTED) from None
    except FAILURES as problem:
        raise _fail(explain(problem, arguments.server)) from None
    code = await pipe.done
    if pipe.failure:
        raise _fail(pipe.failure)
    raise SystemExit(code)


async def _on_a_terminal(reactor: Any, arguments: Arguments, identity: Identity) -> None:
    from chat_twisted.client.history import InputHistory
    from chat_twisted.client.screen import Screen
    from chat_twisted.client.talk import Talk

    try:
        identity.unlock()  # while nothing else is on the terminal
    except IdentityError as problem:
        raise _fail(str(problem)) from None
    sessions, ignored = (_Kept(arguments, name) for name in (SESSIONS, IGNORED))
    history = InputHistory(config_folder() / INPUT_HISTORY, lambda notice: talk.tell(notice))
    screen = Screen(arguments.config, history)
    connector = Connector(reactor, arguments.server, lambda notice: talk.tell(notice))
    talk = Talk(
        arguments.user,
        identity,
        reactor,
        screen,
        arguments.config,
        where=arguments.server.address,
        rooms=arguments.rooms,
        reconnect=connector.reconnect,
        reconnect_for=arguments.wait,
        token=sessions.get(),
        remember=sessions.set,
        ignored=ignored.get().split(","),
        remember_ignored=lambda names: ignored.set(",".join(names) or None),
    )
    screen.talk = talk
    screen.start()
    connecting = connector.connect(talk.session)

    def interrupt() -> Deferred[tuple[int, str]]:
        connecting.cancel()
        talk.interrupt()
        return screen.done

    def not_connected(failure: Any) -> None:
        if failure.check(CancelledError, ConnectingCancelledError):
            talk.interrupt()
        elif failure.check(*FAILURES):
            screen.stop(NOT_CONNECTED, explain(failure.value, arguments.server))
        else:
            screen.stop(NOT_CONNECTED, f"can't connect: {failure.getErrorMessage()}")

    _on_interruption(reactor, interrupt)
    connecting.addErrback(not_connected)
    code, reason = await screen.done
    connecting.cancel()
    raise _fail(reason, code) if reason else SystemExit(code)


class _Kept:
    """What is kept in a file for this user of this server; it can be done without."""

    def __init__(self, arguments: Arguments, file: str) -> None:
        self._file = Remembered(config_folder() / file)
        self._name = f"{arguments.server.name}/{fold(arguments.user)}"

    def get(self) -> str:
        with contextlib.suppress(OSError):
            return self._file.get(self._name) or ""
        return ""

    def set(self, value: str | None) -> None:
        with contextlib.suppress(OSError):
            self._file.set(self._name, value)


def _on_interruption(reactor: Any, interrupt: Callable[[], Deferred[Any]]) -> None:
    """Have ``interrupt`` called when the process is to end; what it returns is waited for."""

    def hung_up(*_: object) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        reactor.callFromThread(reactor.stop)

    # A closed terminal says goodbye too, so that the name is free for who opens another.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
        signal.signal(signal.SIGHUP, hung_up)
    reactor.addSystemEventTrigger("before", "shutdown", interrupt)
