"""The command line of the client, with what ``config.toml`` adds to it.

``parse`` makes ``Arguments`` of both, so that nobody else has to know where a setting comes from.
"""

from __future__ import annotations

import argparse
import enum
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from chat_twisted import __version__
from chat_twisted.client import config as config_module
from chat_twisted.client.config import Config, Known
from chat_twisted.client.connection import PORT, Server
from chat_twisted.client.remembered import config_folder
from chat_twisted.client.secure import parse_fingerprint
from chat_twisted.client.session import RECONNECT_FOR
from chat_twisted.errors import ChatError, MalformedName
from chat_twisted.message import Audience, check_user_name, parse_target


class Mode(enum.Enum):
    """How the client is used."""

    PIPE = "lines in, lines out"
    JSON = "objects in, objects out"
    SCREEN = "a terminal"


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the client is to do.

    :ivar wait: seconds for which a lost connection is tried again.
    :ivar identity: the file of the private key; None for the client's own.
    :ivar once: the only message or command; empty: what is read.
    :ivar tail: the only conversation that is shown; empty: all, and input is read.
    :ivar rooms: to be in from the start.
    """

    user: str
    server: Server
    mode: Mode
    config: Config
    wait: int = RECONNECT_FOR
    identity: Path | None = None
    password_file: Path | None = None
    once: str = ""
    tail: str = ""
    rooms: tuple[str, ...] = ()


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


def _conversation(text: str) -> str:
    name = text.removeprefix("@")
    try:
        target = parse_target(name)
    except ChatError:
        raise argparse.ArgumentTypeError(f"{text!r} is no #room, @user or @ALL") from None
    return target.name if target.audience is not Audience.ALL else "ALL"


def _something(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("there is nothing to send")
    return text


EPILOG = """\
on a terminal:
  hello            goes to the conversation that the prompt names, ALL at first
  #dev, @bob       alone on a line: what follows is for the room, or for bob
  /help            lists all that can be typed; Tab completes

in a pipe, a line of input is a message or a command:
  @bob: hello      a message to bob
  @ALL: hello      a message to everybody
  #room: hello     a message to a room that you are in
  /who, /history, /search, /join and more; /help lists them
and a line of output is:
  bob: hello           bob said it to you
  bob to ALL: hello    bob said it to everybody
  bob to #dev: hello   bob said it to a room that you are in
  Message delivered to bob
  ERROR 102 : Unable to Send : Message not delivered to bob

exit status:
  0    every message was taken by the server
  1    a message was refused or not answered, or the server or the reader of the output went away
  2    could not connect or register, or the command line is wrong; the reason is on standard error
  130  interrupted, as by Ctrl-C

A lost connection is tried again (--wait); what was said meanwhile comes then, nothing is lost or
shown twice.

files in $XDG_CONFIG_HOME/chat_twisted, else ~/.config/chat_twisted:
  config.toml      servers by short names, keys, colours, bell
  known_servers    the certificates of the servers that were met
  id_ed25519       your key, made when it is needed first
  input_history    what you typed on a terminal
  ignored          whom you don't want to hear
  sessions         what lets you come back as the same guest after a crash

examples:
  chat-twisted alice chat.example.org
  echo '@bob: build done' | chat-twisted ci chat.example.org
  chat-twisted ci chat.example.org --once '#dev: build done'
  chat-twisted log chat.example.org --tail '#dev' >> dev.log
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the man page is made of it, too."""
    made = argparse.ArgumentParser(
        prog="chat-twisted",
        usage="%(prog)s [option]... USER HOST\n       %(prog)s [option]... [USER] SERVER",
        description="Talk to others on a chat_twisted server: on a terminal, or in a pipe.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="USER, your name: 1 to 32 letters, digits, _ and -; HOST, the server's name or "
        "address, or SERVER, its short name in config.toml",
    )
    made.add_argument("--port", type=_port, help=f"the server's port ({PORT})")
    made.add_argument(
        "--once",
        type=_something,
        metavar="TEXT",
        help="send this one message, or do this command, and leave; nothing is read",
    )
    made.add_argument(
        "--tail",
        type=_conversation,
        metavar="ROOM",
        help="print what is said in #room, to @ALL or by @user, and nothing else; nothing is read",
    )
    made.add_argument(
        "--json", action="store_true", help="read and write a JSON object a line (docs/scripts.rst)"
    )
    made.add_argument(
        "--wait",
        type=_seconds,
        default=RECONNECT_FOR,
        metavar="SECONDS",
        help=f"how long a lost connection is tried again ({RECONNECT_FOR}); 0: not at all",
    )
    made.add_argument(
        "--identity",
        type=Path,
        metavar="FILE",
        help="a private key to prove who you are with, as ssh-keygen makes it "
        "(otherwise one that is made at first use)",
    )
    made.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="your password is the first line of FILE (or the environment's CHAT_PASSWORD)",
    )
    made.add_argument(
        "--fingerprint",
        type=_fingerprint,
        metavar="SHA256:...",
        help="the certificate that the server must have; remembered from then on",
    )
    made.add_argument(
        "--plain", action="store_true", help="do not encrypt: everybody on the way can read"
    )
    made.add_argument("--version", action="version", version=f"chat_twisted {__version__}")
    return made


def parse(arguments: Sequence[str] | None = None) -> Arguments:
    """Read the command line; exit with 2 if it is wrong, with the reason on standard error."""
    command = parser()
    given = command.parse_args(arguments)
    config = config_module.read(config_folder() / config_module.FILE)
    if len(given.names) > 2:
        command.error(f"too many names: {' '.join(given.names)}")
    *users, host = given.names
    known = config.servers.get(host)
    if known is None:
        if not users:
            command.error(f"{host} is no server in config.toml; else both USER and HOST are needed")
        known = Known(Server(host))
    user = users[0] if users else known.user or config.user
    if not user:
        command.error(f"who are you? Give USER, or set user in config.toml for {host}")
    try:
        check_user_name(user)
    except MalformedName as problem:
        command.exit(2, f"ERROR {problem.code} : Malformed Username : {user!r}\n")
    server = known.server
    if given.port is not None:
        server = replace(server, port=given.port)
    if given.fingerprint is not None:
        server = replace(server, fingerprint=given.fingerprint)
    if given.plain:
        server = replace(server, plain=True)
    identity = given.identity or (Path(known.identity).expanduser() if known.identity else None)
    return Arguments(
        user,
        server,
        _mode(given),
        config,
        given.wait,
        identity,
        given.password_file,
        given.once or "",
        given.tail or "",
        known.rooms,
    )


def _mode(given: argparse.Namespace) -> Mode:
    if given.json:
        return Mode.JSON
    is_terminal = os.isatty(0) and os.isatty(1) and os.environ.get("TERM", "dumb") != "dumb"
    if is_terminal and given.once is None and given.tail is None:
        return Mode.SCREEN
    return Mode.PIPE
