"""Runs the client: a session with a server, and a terminal or a pipe.

All output to standard error on the client's side comes from here, except mistakes in the command
line and in ``config.toml``.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError

from chat_twisted.client.arguments import Arguments, Mode
from chat_twisted.client.client_state import StateFile, config_folder
from chat_twisted.client.connection import FAILURES, Connector, explain
from chat_twisted.client.identity import KEY_FILE, Identity, ask_at_the_terminal
from chat_twisted.client.login import Credentials
from chat_twisted.client.pipe import INTERRUPTED, NOT_CONNECTED, Pipe
from chat_twisted.client.session import RECONNECT_FOR, ClientSession
from chat_twisted.client.standard import StandardFiles
from chat_twisted.client.user_files import LocalFiles
from chat_twisted.clocks import use_monotonic_clock
from chat_twisted.core.message import fold
from chat_twisted.text import printable_lines
from chat_twisted.ui.errors import IdentityError
from chat_twisted.ui.records import Records
from chat_twisted.ui.settings import Memory
from chat_twisted.ui.wording import Wording

INPUT_HISTORY = "input_history"
SESSIONS = "sessions"
IGNORED = "ignored"
PLACES = "places"
"""Names of files in the client's folder."""

MAX_SESSIONS = 1000
"""Maximum number of session tokens that are stored."""

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _tell(notice: str) -> None:
    # Not to standard output, which belongs to the messages.
    print(printable_lines(notice), file=sys.stderr)  # noqa: T201


def _fail(reason: str, code: int = NOT_CONNECTED) -> SystemExit:
    """Print one line that explains why there is no session; return the exception that exits."""
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
    """Connect, then run a terminal or a pipe until it ends; or only write a certificate.

    :raises SystemExit: with the exit code.
    """
    use_monotonic_clock(reactor)  # nothing is scheduled yet
    identity = _identity(arguments)
    if arguments.certificate is not None:
        _write_certificate(identity, arguments.certificate, arguments.user)
        return
    if arguments.mode is Mode.SCREEN:
        await _run_terminal(reactor, arguments, identity)
    else:
        await _run_pipe(reactor, arguments, identity)


def _write_certificate(identity: Identity, file: Path, user: str) -> None:
    try:
        identity.write_certificate(file, user)
        public = identity.public()
    except IdentityError as problem:
        raise _fail(str(problem)) from None
    _tell(f"{file} has your key without a passphrase: keep it secret. The account needs the key:")
    _tell(public)


async def _run_pipe(reactor: Any, arguments: Arguments, identity: Identity) -> None:
    reads = not (arguments.once or arguments.tail)
    is_json = arguments.mode is Mode.JSON

    def attach(pipe: Pipe) -> None:
        stdin = 0 if reads else os.open(os.devnull, os.O_RDONLY)
        StandardFiles(pipe, reactor, stdin=stdin)

    # A user who offers a proof must be judged by it, not by the token of an earlier user.
    proves = identity.password or arguments.identity is not None
    token = _SessionToken(arguments)
    connector = Connector(reactor, arguments.server, _tell)
    pipe = Pipe(
        arguments.user,
        LocalFiles(identity),
        reactor,
        attach,
        greet=reads and (is_json or os.isatty(0)),
        output_format=(Records if is_json else Wording)(arguments.user),
        once=arguments.once,
        tail=arguments.tail,
        ask_password=identity.ask_password,
        remember=token.set,
        renamed=token.rename,
    )
    pipe.session = session = ClientSession(
        arguments.user,
        pipe,
        Credentials(identity, pipe.ask_password),
        reactor,
        connector.reconnect,
        hosts=connector.hosts,
        reconnect_for=RECONNECT_FOR if arguments.wait is None else arguments.wait,
        token="" if proves else token.get(),
    )
    connecting = connector.connect(session)

    def interrupt(code: int) -> Deferred[int]:
        connecting.cancel()
        return pipe.interrupt(code)

    signals = _Signals(reactor, interrupt)
    try:
        await connecting
    except (CancelledError, ConnectingCancelledError):
        raise SystemExit(signals.code) from None
    except FAILURES as problem:
        raise _fail(explain(problem, arguments.server)) from None
    code = await pipe.done
    if pipe.failure:
        raise _fail(pipe.failure)
    raise SystemExit(code)


async def _run_terminal(reactor: Any, arguments: Arguments, identity: Identity) -> None:
    from chat_twisted import reactor_loop
    from chat_twisted.client.history import InputHistory
    from chat_twisted.client.screen import Screen
    from chat_twisted.ui.conversation_view import ConversationView

    try:
        identity.unlock()  # before the screen uses the terminal
    except IdentityError as problem:
        raise _fail(str(problem)) from None
    token = _SessionToken(arguments)
    ignored, place = _StateValue(arguments, IGNORED), _StateValue(arguments, PLACES, MAX_SESSIONS)
    history = InputHistory(config_folder() / INPUT_HISTORY, lambda notice: view.tell(notice))
    screen = Screen(arguments.config, history, environment=os.environ)
    connector = Connector(reactor, arguments.server, lambda notice: view.tell(notice))

    async def ask_password(what: str) -> str:
        password = await view.ask_password(what)
        if not password:
            raise IdentityError(f"No password of {arguments.user} was given")
        return password

    view = ConversationView(
        arguments.user,
        LocalFiles(identity),
        reactor,
        screen,
        arguments.config,
        Memory(
            ignored.get().split(","),
            place.get(),
            lambda names: ignored.set(",".join(names) or None),
            place.set,
            token.set,
            token.rename,
        ),
        rooms=arguments.rooms,
    )
    view.session = session = ClientSession(
        arguments.user,
        view,
        Credentials(identity, lambda what: Deferred.fromCoroutine(ask_password(what))),
        reactor,
        connector.reconnect,
        hosts=connector.hosts,
        reconnect_for=math.inf if arguments.wait is None else arguments.wait,
        token=token.get(),
        other_name=lambda refusal: Deferred.fromCoroutine(view.other_name(refusal)),
        bot=False,
    )
    screen.view = view
    reactor_loop.use(reactor)
    signal.signal(signal.SIGWINCH, lambda *_: reactor.callFromThread(screen.resized))
    screen.start()
    connecting = connector.connect(session)

    def interrupt(code: int) -> Deferred[tuple[int, str]]:
        connecting.cancel()
        view.interrupt(code)
        return screen.done

    def not_connected(failure: Any) -> None:
        if failure.check(CancelledError, ConnectingCancelledError):
            view.interrupt(signals.code)
        elif failure.check(*FAILURES):
            screen.stop(NOT_CONNECTED, explain(failure.value, arguments.server))
        else:
            screen.stop(NOT_CONNECTED, f"can't connect: {failure.getErrorMessage()}")

    signals = _Signals(reactor, interrupt)
    connecting.addErrback(not_connected)
    code, reason = await screen.done
    connecting.cancel()
    raise _fail(reason, code) if reason else SystemExit(code)


class _StateValue:
    """A value in a state file for one user of one chat. Errors are ignored: it is optional.

    It is stored under the first host of the chat, or under another one that has it already: the
    hosts may be given in another order, or one at a time.
    """

    def __init__(self, arguments: Arguments, file: str, most: int | None = None) -> None:
        self._file = StateFile(config_folder() / file, most)
        self._hosts = [host.key for host in arguments.server.hosts]
        self.use(arguments.user)

    def use(self, user: str) -> None:
        """From now on, read and write the value of this user."""
        names = [f"{host}/{fold(user)}" for host in self._hosts]
        self._name = next(filter(self._read, names), names[0])

    def get(self) -> str:
        return self._read(self._name)

    def _read(self, name: str) -> str:
        with contextlib.suppress(OSError):
            return self._file.get(name) or ""
        return ""

    def set(self, value: str | None) -> None:
        self.update(lambda _: value)

    def update(self, change: Callable[[str | None], str | None]) -> None:
        with contextlib.suppress(OSError):
            self._file.update(self._name, change)


class _SessionToken:
    """The stored token that resumes a session after a crash.

    Several clients of one user may share a token. It is stored with their number, and removed when
    the last one has quit.
    """

    def __init__(self, arguments: Arguments) -> None:
        self._kept = _StateValue(arguments, SESSIONS, MAX_SESSIONS)
        self._mine = ""  # as this client stored it

    def get(self) -> str:
        return _token_and_users(self._kept.get())[0]

    def set(self, token: str | None) -> None:
        """Store a token; None if this client has quit."""
        mine, self._mine = self._mine, token or ""

        def change(before: str | None) -> str | None:
            kept, users = _token_and_users(before or "")
            if token is None:
                if kept != mine:  # meanwhile another session of this name was stored
                    return before
                return f"{kept},{users - 1}" if users > 1 else None
            if kept != token:
                return f"{token},1"
            return before if token == mine else f"{token},{users + 1}"

        self._kept.update(change)

    def rename(self, user: str) -> None:
        """Store the token under the user's new name."""
        token = self._mine
        self.set(None)
        self._kept.use(user)
        if token:
            self.set(token)


def _token_and_users(kept: str) -> tuple[str, int]:
    token, _, users = kept.partition(",")
    return token, int(users) if users.isascii() and users.isdigit() else 1


class _Signals:
    """Ends the session properly when a signal ends the process, or the reactor stops.

    So the name is free at once, even if the terminal was closed.

    :ivar code: the exit code: 128 plus the number of the signal.
    :param interrupt: called with that code; the reactor waits for its result before it stops.
    """

    def __init__(self, reactor: Any, interrupt: Callable[[int], Deferred[Any]]) -> None:
        self.code = INTERRUPTED
        self._reactor = reactor
        self._is_ending = False
        self._before = {number: signal.getsignal(number) for number in ENDING}
        reactor.addSystemEventTrigger("before", "shutdown", lambda: interrupt(self.code))
        reactor.callWhenRunning(self._install)  # after the reactor has installed its own handlers

    def _install(self) -> None:
        for number, before in self._before.items():
            # An ignored signal stays ignored: SIGHUP under nohup, SIGINT in the background of a
            # script.
            ignored = before is signal.SIG_IGN
            signal.signal(number, signal.SIG_IGN if ignored else self._end)

    def _end(self, number: int, _: object) -> None:
        if not self._is_ending:
            self._is_ending = True
            self.code = 128 + number
            self._reactor.callFromThread(self._reactor.stop)
