"""Parses the client's command line together with ``config.toml``.

Other modules must not know whether a setting comes from the command line or the file.
"""

from __future__ import annotations

import argparse
import enum
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from chat_twisted import __version__
from chat_twisted.client import config as config_module
from chat_twisted.client.address import PORT, Address, Host, parse_address, parse_host, parse_port
from chat_twisted.client.client_state import config_folder
from chat_twisted.client.config import Config, KnownServer
from chat_twisted.client.connection import Server
from chat_twisted.client.session import RECONNECT_FOR
from chat_twisted.client.tls import parse_fingerprint
from chat_twisted.commandline import Parser
from chat_twisted.core.errors import ChatError, MalformedName
from chat_twisted.core.message import Audience, check_user_name, fold, parse_target
from chat_twisted.files import FilesError
from chat_twisted.refusals import refusal_of
from chat_twisted.text import printable
from chat_twisted.ui.commands import Command, Mistake
from chat_twisted.ui.records import Records
from chat_twisted.ui.wording import Wording


class Mode(enum.Enum):
    """The kind of user interface."""

    PIPE = "lines in, lines out"
    JSON = "objects in, objects out"
    SCREEN = "a terminal"


@dataclass(frozen=True, slots=True)
class Arguments:
    """The settings of one run.

    :ivar user: the user's name.
    :ivar server: the chat to connect to.
    :ivar mode: the kind of user interface.
    :ivar config: the settings of ``config.toml``.
    :ivar wait: seconds for which a lost connection is tried again; None for the default: a
        terminal tries for ever, a pipe for ``RECONNECT_FOR``.
    :ivar identity: the private key file; None for the client's own.
    :ivar password_file: a file with the password in its first line, or None.
    :ivar once: the only message or command; if empty, input is read.
    :ivar tail: the only conversation that is printed; if empty, all are, and input is read.
    :ivar rooms: rooms to join at the start.
    :ivar certificate: the file for a certificate of the user's key, which is written instead of
        connecting; or None.
    """

    user: str
    server: Server
    mode: Mode
    config: Config
    wait: int | None = None
    identity: Path | None = None
    password_file: Path | None = None
    once: str = ""
    tail: str = ""
    rooms: tuple[str, ...] = ()
    certificate: Path | None = None


def _port(text: str) -> int:
    try:
        return parse_port(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _address(text: str) -> str:
    try:
        parse_host(text, PORT)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


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


def _nonempty(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("not UTF-8") from None
    if not text.strip():
        raise argparse.ArgumentTypeError("there is nothing to send")
    return text


EPILOG = """\
on a terminal:
  hello            goes to the conversation that the prompt names, ALL at first
  #dev, @bob       alone on a line: the next lines are for the room, or for bob
  /help            lists all commands; Tab completes

in a pipe, a line of input is a message or a command:
  @bob: hello      a message to bob
  @ALL: hello      a message to everybody
  #room: hello     a message to a room that you are in
  /who, /history, /search, /join and more; /help lists them
and a line of output is:
  bob: hello           a message from bob to you
  bob to ALL: hello    a message from bob to everybody
  bob to #dev: hello   a message from bob to a room that you are in
  Message delivered to bob
  ERROR 102 : Unable to Send : Message not delivered to bob

exit status:
  0    the server has accepted every message
  1    a message was refused or not answered, the server or the reader of the output went away, \
or the server broke the protocol
  2    could not connect or register, or the command line is wrong; the reason is on standard error
  129  ended by SIGHUP, as when the terminal is closed
  130  interrupted, as by Ctrl-C
  143  ended by SIGTERM

After a lost connection the client tries to reconnect (--wait), to each host of the chat \
at once (--host). Then it gets the messages that it has missed; nothing is lost or shown twice.

files in $XDG_CONFIG_HOME/chat_twisted, else ~/.config/chat_twisted:
  config.toml      servers by short names, keys, colours, bell
  known_servers    the certificates of known servers
  id_ed25519       your key, made when it is needed first
  input_history    the lines that you typed on a terminal
  ignored          the users whose messages are hidden
  places           the conversations that you were in last
  sessions         tokens with which a guest resumes after a crash

examples:
  chat-twisted alice chat.example.org
  chat-twisted alice a.example.org --host b.example.org
  echo '@bob: build done' | chat-twisted ci chat.example.org
  chat-twisted ci chat.example.org --once '#dev: build done'
  chat-twisted log chat.example.org --tail '#dev' >> dev.log
"""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the epilog, and wraps a line that is too long below its second column."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for line in text.splitlines():
            begin = len(line) - len(line.lstrip())
            second = re.match(r" *\S.*?\s{2,}(?=\S)", line)
            if second and second.end() <= width / 2:
                begin = second.end()
            more = " " * begin
            lines += textwrap.wrap(line, width, subsequent_indent=more, break_on_hyphens=False) or [
                ""
            ]
        return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, which is also the source of the man page."""
    made = Parser(
        prog="chat-twisted",
        usage="%(prog)s [option]... USER HOST[:PORT]\n       %(prog)s [option]... [USER] SERVER",
        description="Talk to others on a chat_twisted server: on a terminal, or in a pipe.",
        epilog=EPILOG,
        formatter_class=_HelpFormatter,
    )
    made.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="USER, your name: 1 to 32 letters, digits, _ and -; HOST, the server's name or "
        "address, as in chat.example.org, chat.example.org:9000, [::1]:9000 or "
        "alice@chat.example.org; or SERVER, its short name in config.toml",
    )
    made.add_argument("-p", "--port", type=_port, help=f"the server's port ({PORT})")
    made.add_argument(
        "--host",
        action="append",
        type=_address,
        default=[],
        metavar="HOST[:PORT]",
        help="one more host of the same chat, as often as there are more: when one can't be "
        "reached, or stops, the client goes to the next one. All have the same certificate",
    )
    one = made.add_mutually_exclusive_group()
    one.add_argument(
        "--once",
        type=_nonempty,
        metavar="TEXT",
        help="send this one message, or carry out this command, and leave; standard input is not "
        "read. With --json it may be an object, and the output is JSON",
    )
    one.add_argument(
        "--tail",
        type=_conversation,
        metavar="ROOM",
        help="print the messages in #room, to @ALL or from @user, and nothing else; standard input "
        "is not read. Not with --once; with --json the output is JSON",
    )
    one.add_argument(
        "--certificate",
        type=Path,
        metavar="FILE",
        help="write your key and a certificate of it to a new file, for IRC clients to log in "
        "with, and leave; nothing is sent",
    )
    made.add_argument(
        "--json", action="store_true", help="read and write a JSON object a line (docs/scripts.rst)"
    )
    made.add_argument(
        "--wait",
        type=_seconds,
        metavar="SECONDS",
        help=f"how long to try to reconnect (on a terminal for ever, else {RECONNECT_FOR}); "
        "0: not at all",
    )
    made.add_argument(
        "--identity",
        type=Path,
        metavar="FILE",
        help="the private key to log in with, as ssh-keygen writes it "
        "(by default one that the client makes at first use)",
    )
    made.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="the first line of FILE is your password (or the variable CHAT_PASSWORD)",
    )
    made.add_argument(
        "--fingerprint",
        type=_fingerprint,
        metavar="SHA256:...",
        help="the certificate that the server must have; remembered from then on",
    )
    made.add_argument(
        "--plain",
        action="store_true",
        help="do not encrypt: everybody on the network path can read; not with --fingerprint",
    )
    made.add_argument("--version", action="version", version=f"chat_twisted {__version__}")
    return made


def parse(arguments: Sequence[str] | None = None) -> Arguments:
    """Parse the command line and ``config.toml``.

    Mistakes in ``config.toml`` are printed on standard error first.

    :raises SystemExit: with code 2 and the reason on standard error, if the command line is wrong.
    """
    command = parser()
    try:
        config = config_module.read(config_folder() / config_module.FILE)
    except FilesError as problem:
        command.exit(2, f"{problem}\n")
    for line in config.problems:
        sys.stderr.write(f"{printable(line)}\n")
    given = command.parse_args(arguments)
    if len(given.names) > 2:
        command.error(f"too many names: {' '.join(given.names)}")
    try:
        user, known = _find(config, given)
        _check(given)
    except ValueError as wrong:
        command.error(str(wrong))
    try:
        check_user_name(user)
    except MalformedName:
        code = refusal_of(MalformedName).code
        command.exit(2, f"ERROR {code} : Malformed Username : {user!r}\n")
    identity = given.identity
    if identity is None and known.identity:
        identity = Path(os.path.expanduser(known.identity))
    return Arguments(
        user,
        known.server,
        _mode(given),
        config,
        given.wait,
        identity,
        given.password_file,
        given.once or "",
        given.tail or "",
        known.rooms,
        given.certificate,
    )


def _find(config: Config, given: argparse.Namespace) -> tuple[str, KnownServer]:
    """Return the user's name and the server, from ``USER WHERE`` or ``WHERE`` alone.

    :raises ValueError: if one of them is missing or given twice.
    """
    *users, where = given.names
    if given.host and not users and where not in config.servers and _is_user_name(where):
        users, where = [where], given.host.pop(0)
    address = Address("")
    known = config.servers.get(where)
    if known is None:
        address = parse_address(where)
        known = config.servers.get(address.host)
    if known is None:
        if not users and where == address.host and _is_user_name(where):
            raise ValueError(
                f"{where} is no server in config.toml; else both USER and HOST are needed"
            )
        known = KnownServer(Server(address.host))
    if users and address.user and fold(users[0]) != fold(address.user):
        raise ValueError(f"the user is given twice: {users[0]}, and {address.user} in {where}")
    user = address.user or (users[0] if users else known.user or config.user)
    if not user:
        raise ValueError(f"who are you? Give USER, or set user in config.toml for {where}")
    port = given.port if address.port is None else address.port
    if given.port not in (None, port) and not given.host:
        raise ValueError(f"the port is given twice: {given.port}, and {port} in {where}")
    server = known.server
    if port is not None:
        # The port of all: the same host with another port may be another chat.
        others = tuple(Host(other.name, port) for other in server.others)
        server = replace(server, port=port, others=others)
    more = tuple(parse_host(host, given.port or PORT) for host in given.host)
    server = replace(server, others=server.others + more)
    if given.fingerprint is not None:
        server = replace(server, fingerprint=given.fingerprint)
    if given.plain:
        server = replace(server, plain=True)
    return user, replace(known, server=server)


def _check(given: argparse.Namespace) -> None:
    """Check for contradictory and impossible options.

    :raises ValueError: if there are any.
    """
    if given.plain and given.fingerprint is not None:
        raise ValueError("--fingerprint is of a certificate, and with --plain there is none")
    if given.once is not None:
        output_format = Records("") if given.json else Wording("")
        match output_format.parse_once(given.once)[0]:
            case Mistake(text):
                raise ValueError(f"--once: {text}")
            case Command("/ignore" | "/unignore" as name):
                raise ValueError(f"--once: {name} is for what is read and shown later")


def _is_user_name(name: str) -> bool:
    try:
        check_user_name(name)
    except MalformedName:
        return False
    return True


def _mode(given: argparse.Namespace) -> Mode:
    if given.json:
        return Mode.JSON
    is_terminal = os.isatty(0) and os.isatty(1) and os.environ.get("TERM", "dumb") != "dumb"
    if is_terminal and given.once is None and given.tail is None and given.certificate is None:
        return Mode.SCREEN
    return Mode.PIPE
