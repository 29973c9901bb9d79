"""The command of the client: its arguments, the connection, the exit code.

The one place on the client's side that writes to standard error.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet import stdio
from twisted.internet.defer import CancelledError, Deferred

from chat_twisted import __version__
from chat_twisted.client.connection import FAILURES, PORT, Connector, Server, explain
from chat_twisted.client.identity import KEY_FILE, Identity, ask_at_the_terminal
from chat_twisted.client.pipe import INTERRUPTED, NOT_CONNECTED, Pipe
from chat_twisted.client.secure import config_folder, parse_fingerprint
from chat_twisted.client.session import RECONNECT_FOR
from chat_twisted.errors import MalformedName
from chat_twisted.message import check_user_name


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return int(text)


def _fingerprint(text: str) -> str:
    try:
        return parse_fingerprint(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chat_twisted.client",
        description="Talk to others on a chat_twisted server: a line of input is a message, "
        "what is said to you is a line of output.",
        epilog="""\
what can be typed:
  @bob: hello      a message to bob
  @ALL: hello      a message to everybody
  #room: hello     a message to a room that you are in
  /who             who is here
  /history [#room|@user] [n], /search words      what was said
  /register, /password, /keys, /unregister       your name for ever, and how you prove it
  /ignore name, /unignore name                   whom you don't want to hear
  /rooms, /join #room [private], /leave #room, /topic #room [text],
  /invite #room name, /kick #room name           rooms
  /help            this list, with a line for each
  /quit            leave; so does the end of input, once all messages are answered

what is shown:
  bob: hello           bob said it to you
  bob to ALL: hello    bob said it to everybody
  bob to #dev: hello   bob said it to a room that you are in
  Message delivered to bob
  ERROR 102 : Unable to Send : Message not delivered to bob

exit status:
  0    every message was taken by the server
  1    a message was refused or not answered, or the server or the reader of the output went away
  2    could not connect or register; the reason is on standard error
  130  interrupted, as by Ctrl-C

A lost connection is tried again (--wait); what was said meanwhile comes then, nothing is lost or
shown twice.

example:
  echo '@bob: build done' | python -m chat_twisted.client ci chat.example.org
""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("user", metavar="USER", help="your name: 1 to 32 letters and digits")
    parser.add_argument("host", metavar="HOST", help="the server's name or address")
    parser.add_argument("--port", type=_port, default=PORT, help="the server's port (8828)")
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=RECONNECT_FOR,
        metavar="SECONDS",
        help=f"how long a lost connection is tried again ({RECONNECT_FOR}); 0: not at all",
    )
    parser.add_argument(
        "--identity",
        type=Path,
        metavar="FILE",
        help="a private key to prove who you are with, as ssh-keygen makes it "
        "(otherwise one that is made at first use)",
    )
    parser.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="your password is the first line of FILE (or the environment's CHAT_PASSWORD)",
    )
    parser.add_argument(
        "--fingerprint",
        type=_fingerprint,
        metavar="SHA256:...",
        help="the certificate that the server must have; remembered from then on",
    )
    parser.add_argument(
        "--plain", action="store_true", help="do not encrypt: everybody on the way can read"
    )
    parser.add_argument("--version", action="version", version=f"chat_twisted {__version__}")
    return parser


def parse() -> argparse.Namespace:
    """Read the command line; exit with 2 if it is wrong, with the reason on standard error."""
    return _parser().parse_args()


def _fail(reason: str) -> SystemExit:
    """Say in one line why there is no session; return what ends the process."""
    print(reason, file=sys.stderr)  # noqa: T201  the one thing that standard error is for
    return SystemExit(NOT_CONNECTED)


def _identity(arguments: argparse.Namespace) -> Identity:
    password = os.environ.get("CHAT_PASSWORD", "")
    if arguments.password_file is not None:
        password = arguments.password_file.read_text().split("\n")[0]
    return Identity(
        arguments.identity or config_folder() / KEY_FILE,
        own=arguments.identity is None,
        password=password,
        ask=ask_at_the_terminal if os.isatty(0) else None,
    )


def _tell(notice: str) -> None:
    print(notice, file=sys.stderr)  # noqa: T201  what standard output has no place for


async def main(reactor: Any, arguments: argparse.Namespace) -> None:
    """Connect, and bridge standard input and output until all is said."""
    user, host, port = arguments.user, arguments.host, arguments.port
    try:
        check_user_name(user)
    except MalformedName as problem:
        raise _fail(f"ERROR {problem.code} : Malformed Username : {user!r}") from None

    try:
        identity = _identity(arguments)
    except OSError as problem:
        raise _fail(f"{problem.filename}: {problem.strerror}") from None
    except UnicodeDecodeError:
        raise _fail(f"{arguments.password_file}: not a text") from None

    def attach(pipe: Pipe) -> None:
        stdio.StandardIO(pipe, reactor=reactor)

    server = Server(host, port, arguments.fingerprint, arguments.plain)
    connector = Connector(reactor, server, _tell)
    pipe = Pipe(
        user,
        identity,
        reactor,
        attach,
        greet=os.isatty(0),
        reconnect=connector.reconnect,
        reconnect_for=arguments.wait,
    )
    connecting = connector.connect(pipe.session)

    def interrupted() -> Deferred[int] | None:
        if over:
            return None
        connecting.cancel()
        return pipe.interrupt()

    def hung_up(*_: object) -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        reactor.callFromThread(reactor.stop)

    over = False
    # A closed terminal says goodbye too, so that the name is free for who opens another.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not under nohup
        signal.signal(signal.SIGHUP, hung_up)
    reactor.addSystemEventTrigger("before", "shutdown", interrupted)
    try:
        await connecting
    except CancelledError:
        raise SystemExit(INTERRUPTED) from None
    except FAILURES as problem:
        raise _fail(explain(problem, server)) from None
    else:
        code = await pipe.done
    finally:
        over = True
    if pipe.failure:
        raise _fail(pipe.failure)
    raise SystemExit(code)
