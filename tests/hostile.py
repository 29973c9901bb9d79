"""A hostile server, in memory, and the three user interfaces of the client connected to it.

``right`` answers as the protocol requires; tests alter its answers. ``output`` of a face contains
all that it shows to people.
"""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from chat_twisted.client import ChatClient, ClientError, main
from chat_twisted.client.config import Config
from chat_twisted.client.identity import Identity
from chat_twisted.client.login import Credentials
from chat_twisted.client.pipe import Pipe
from chat_twisted.client.session import ClientSession
from chat_twisted.client.user_files import LocalFiles
from chat_twisted.frames import Frame, FrameReader, encode
from chat_twisted.testing import Network
from chat_twisted.ui.commands import COMMANDS, command_names
from chat_twisted.ui.conversation_view import ConversationView
from chat_twisted.ui.layout import Line
from chat_twisted.ui.records import Records
from chat_twisted.ui.session import Listener
from chat_twisted.ui.settings import Memory
from tests.wire import frames

LONG = 600
"""Seconds after which a client that reconnects for half a minute has given up."""

TIME = ("Time", "2026-11-23T10:00:00.123Z")
CHALLENGE = "A" * 43 + "="

COMMAND_LINES = {
    "": "@bob: hello",
    "/msg": "/msg bob hello",
    "/me": "/me waves",
    "/say": "/say /hello",
    "/who": "/who #dev",
    "/whois": "/whois bob",
    "/away": "/away lunch",
    "/join": "/join #new",
    "/leave": "/leave #dev",
    "/topic": "/topic #dev plans",
    "/invite": "/invite #dev bob",
    "/nick": "/nick bobby",
    "/delete": "/delete 42",
    "/account": "/account unregister",
    "/op": "/op #dev bob",
    "/deop": "/deop #dev bob",
    "/voice": "/voice #dev bob",
    "/devoice": "/devoice #dev bob",
    "/mode": "/mode #dev private",
    "/kick": "/kick bob",
    "/history": "/history #dev 5",
    "/search": "/search hello",
    "/unhide": "/unhide joins",
    "/highlight": "/highlight deploy",
    "/unhighlight": "/unhighlight deploy",
    "/show": "/show 7",
    "/password": "/password",
    "/keys": "/keys",
    "/ban": "/ban bob 2h spam",
    "/unban": "/unban bob",
    "/mute": "/mute bob",
    "/unmute": "/unmute bob",
    "/unignore": "/unignore bob",
    "/quit": "",
    "/kick #": "/kick #dev bob loud",
    "/mode ": "/mode #dev",
    "/ban #": "/ban #dev bob spam",
    "/unban #": "/unban #dev bob",
    "/bans #": "/bans #dev",
    "/account erase": "/account unregister erase",
    "/account export": "/account export FOLDER/said",
    "/who ": "/who",
    "/topic ": "/topic #dev",
    "/keys remove": "/keys remove ssh-ed25519 AAAA",
}
"""The line to type for a command; other commands are typed without arguments."""


def command_lines(*, screen: bool) -> list[str]:
    """Return a line for each command, and some messages."""
    named = [COMMAND_LINES.get(name, name) for name in command_names(screen=screen)]
    more = [line for name, line in COMMAND_LINES.items() if name not in COMMANDS]
    return [line for line in named + more if line]


def right(request: Frame, text: str = "text") -> bytes | None:
    """Answer as a server does, with ``text`` wherever a text is possible; None to close."""
    id = [] if request.id is None else [("Id", request.id)]
    line = " ".join(text.split("\n"))
    match request.verb:
        case "REGISTER":
            headers = [("Version", 2), ("Session", "x"), ("Max-message", 65536), ("Last", 0)]
            return encode("REGISTERED", request.argument, [*headers, ("Kept", 86400)])
        case "SEND":
            return encode("SENT", request.argument, [*id, ("Message", 9), TIME]) + encode(
                "DELIVERED", request.argument, [*id, ("Message", 9)]
            )
        case "WHO":
            body = (
                f"@alice\n+bob away {line}\n" if request.argument else f"alice\nbob away {line}\n"
            )
            return encode("WHO", request.argument, [*id, ("Count", 2)], body)
        case "ROOMS":
            return encode("ROOMS", "", [*id, ("Count", 2)], "#dev 2 member\n#ops 1 private\n")
        case "ACCOUNT" if request.argument == "messages":
            own = [*id, ("To", "bob"), ("Message", 7), TIME]
            found = (
                b""
                if request.headers.get("after") == "7"
                else encode("MESSAGE", "alice", own, text)
            )
            return found + encode("ACCOUNT", "messages", [*id, ("Count", int(bool(found)))])
        case "HISTORY" | "SEARCH":
            found = [("To", "#dev"), ("Message", 7), TIME]
            return encode("MESSAGE", "bob", [*id, *found], text) + encode(
                request.verb, request.argument, [*id, ("Count", 1)]
            )
        case "JOIN" | "LEAVE" | "TOPIC" | "INVITE":
            verb = {"JOIN": "JOINED", "LEAVE": "LEFT", "INVITE": "INVITED"}.get(request.verb)
            user = [("User", "bob" if verb == "INVITED" else "alice")]
            more = [("Operators", "alice bob"), ("Modes", "topic")] if verb == "JOINED" else []
            return encode(verb or "TOPIC", request.argument, [*id, *user, *more], line)
        case "KICK" if request.argument.startswith("#"):
            return encode("LEFT", request.argument, [*id, ("User", "bob"), ("By", "alice")], line)
        case "RENAME":
            return encode("RENAMED", "alice", [*id, ("To", request.argument)])
        case "RANK":
            rank = [
                ("User", "bob"),
                ("Rank", request.headers.get("rank", "voice")),
                ("By", "alice"),
            ]
            return encode("RANK", request.argument, [*id, *rank])
        case "MODE" if "mode" not in request.headers:
            return encode("MODE", request.argument, [*id, ("Modes", "private topic")])
        case "MODE":
            mode = [("Mode", request.headers["mode"]), ("On", request.headers.get("on", "yes"))]
            return encode("MODE", request.argument, [*id, *mode, ("By", "alice")])
        case "DELETE":
            number = ("Message", request.headers.get("message", 42))
            return encode("DELETED", "#dev", [*id, number, ("By", "alice")])
        case "READ" if request.argument:
            return encode("READ", request.argument, [*id, ("Message", 42)])
        case "READ":
            counts = (" 3", " 1") if "unread" in request.headers else ("", "")
            return encode("READ", "", [*id, ("Count", 2)], "#dev 42{}\nbob 7{}\n".format(*counts))
        case "WHOIS":
            about = [("Account", "yes"), ("Since", TIME[1]), ("State", "away"), ("Rooms", "#dev")]
            return encode("WHOIS", request.argument, [*id, *about], line)
        case "BAN" | "UNBAN" if "user" in request.headers:
            ban = [("User", request.headers["user"]), ("By", "alice")]
            return encode(request.verb, request.argument, [*id, *ban], line)
        case "BAN" if not request.argument or request.argument.startswith("#"):
            body = f"bob ban ever carol {line}\n"
            return encode("BAN", request.argument, [*id, ("Count", 1)], body)
        case "ACCOUNT":
            body = f"ssh-ed25519 AAAA {line}\n" if request.argument == "keys" else None
            return encode("ACCOUNT", request.argument, id, body)
        case "STATUS" | "KICK" | "BAN" | "UNBAN" | "MUTE" | "UNMUTE":
            return encode(request.verb, request.argument, id)
        case "PING":
            return encode("PONG", request.argument)
        case "QUIT":
            return None
    return b""


def unasked(text: str = "text") -> list[bytes]:
    """Return frames that a server sends unasked, with ``text`` wherever a text is possible."""
    line = " ".join(text.split("\n"))
    room = [("User", "bob"), ("By", "carol")]
    return [
        encode("FORWARD", "bob", [("To", "alice"), ("Message", 11), TIME], text),
        encode("FORWARD", "bob", [("To", "#dev"), ("Message", 12), TIME], text),
        encode("FORWARD", "alice", [("To", "bob"), ("Message", 13), TIME], text),
        encode("NOTICE", line, (), text),
        encode("PRESENCE", "", (), f"carol here\nbob away {line}\ncarol gone\n"),
        encode("JOINED", "#dev", room, line),
        encode("TOPIC", "#dev", room, line),
        encode("INVITED", "#new", [("User", "alice"), ("By", "bob")], line),
        encode("LEFT", "#dev", [("User", "alice"), ("By", "bob")], line),
        encode("FORWARD", "bob", [("To", "#dev"), ("Message", 14), TIME, ("Deleted", "yes")], ""),
        encode("RANK", "#dev", [*room, ("Rank", "operator")]),
        encode("MODE", "#dev", [("Mode", "moderated"), ("On", "yes"), ("By", "bob")]),
        encode("BAN", "#dev", room, line),
        encode("UNBAN", "#dev", room, line),
        encode("RENAMED", "bob", [("To", "bobby")]),
        encode("RENAMED", "alice", [("To", "al")]),
        encode("DELETED", "#dev", [("Message", 12), ("By", "bob")]),
        encode("READ", "bob", [("Message", 12)]),
        encode("ERROR", f"999 {line[:100]}", [("Reason", line)]),
        encode("PING", line[:100]),
        encode("PONG", line[:100]),
        encode("NEWS", line[:100], [("About", line)], text),
        encode("DELIVERED", line[:100], [("Id", 5), ("Message", 1)]),
        encode("SENT", line[:100], [("Id", 5), ("Message", 1), TIME]),
        encode("BYE", line[:100]),
    ]


Script = Callable[[Frame], bytes | None]


class Server(Protocol):
    """A server that answers each request with ``script``."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._reader = FrameReader()

    def dataReceived(self, data: bytes) -> None:
        for frame in frames(data, self._reader):
            answer = self._script(frame)
            if answer is None:
                self.transport.loseConnection()
            else:
                self.transport.write(answer)


class Face:
    """A client connected to such a server.

    :ivar output: the text shown to people, piece by piece.
    :ivar code: the exit code, when it has ended.
    :ivar last: the last line on standard error.
    """

    reconnect_for = 30
    things = command_lines(screen=False)
    """The available inputs."""

    def __init__(self, script: Script) -> None:
        self.network = Network(lambda address: Server(script))
        self.output: list[str] = []
        self.code: int | None = None
        self.last = ""
        # Made when it is needed, which is seldom: a folder costs more than most tests.
        self._folder = Path(tempfile.gettempdir(), secrets.token_hex(16))
        self.identity = Identity(self._folder / "key", own=True, ask=lambda what: "secret")

    def session(self, face: Listener, ask: Callable[[str], Deferred[str]]) -> ClientSession:
        """Return a session for the face."""
        return ClientSession(
            "alice",
            face,
            Credentials(self.identity, ask),
            self.network,
            self.connect,
            reconnect_for=self.reconnect_for,
        )

    def connect(self, session: ClientSession) -> Deferred[Any]:
        endpoint = TCP4ClientEndpoint(self.network, "127.0.0.1", 8828)
        return connectProtocol(endpoint, session)

    def pass_time(self, seconds: float = 0) -> None:
        self.network.advance(seconds)

    def _typed(self, line: str) -> str:
        if "FOLDER" in line:
            self._folder.mkdir(exist_ok=True)
        return line.replace("FOLDER", str(self._folder))

    def end(self, code: int, reason: str) -> None:
        """End as the command does: explain why, and exit."""
        self.code = code
        with contextlib.redirect_stderr(io.StringIO()) as said:
            if reason:
                main._tell(reason)
        self.last = said.getvalue()

    def close(self) -> None:
        if self._folder.exists():
            shutil.rmtree(self._folder)


class _Stdio(StringTransport):
    def loseConnection(self) -> None:
        super().loseConnection()
        self.protocol.connectionLost(Failure(ConnectionDone()))


class PipeFace(Face):
    """The client in a pipe, with ``output_format``."""

    def __init__(self, script: Script, output_format: Any = None) -> None:
        super().__init__(script)
        self._stdio: _Stdio | None = None
        self.pipe = Pipe(
            "alice",
            LocalFiles(self.identity),
            self.network,
            self._attach,
            greet=True,
            output_format=output_format,
            ask_password=self.identity.ask_password,
        )
        self.pipe.session = self.session(self.pipe, self.pipe.ask_password)
        self.pipe.done.addCallback(self._is_over)
        self.connect(self.pipe.session)
        self.pass_time()

    def _attach(self, pipe: Pipe) -> None:
        self._stdio = _Stdio()
        self._stdio.protocol = pipe
        pipe.makeConnection(self._stdio)

    def _is_over(self, code: int) -> None:
        self.end(code, self.pipe.failure)
        self._look()

    def _look(self) -> None:
        if self._stdio is not None:
            self.output.append(self._stdio.value().decode())
            self._stdio.clear()

    def type(self, line: str) -> None:
        line = self._typed(line)
        if self._stdio is not None and self.code is None:
            self.pipe.dataReceived(f"{self._written(line)}\n".encode())
        self.pass_time()
        self._look()

    def _written(self, line: str) -> str:
        return line

    def leave(self) -> None:
        if self._stdio is not None and self.code is None:
            self.pipe.readConnectionLost()
        self.pass_time(LONG)
        self._look()


class RecordsFace(PipeFace):
    """The client in a pipe, with JSON."""

    def __init__(self, script: Script) -> None:
        super().__init__(script, Records("alice"))

    def _written(self, line: str) -> str:
        message = {"to": "bob", "text": line, "id": 1}
        return json.dumps({"command": line, "id": [1]} if line.startswith("/") else message)


class TerminalFace(Face):
    """The client on a terminal, without a real terminal."""

    things = command_lines(screen=True)

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.view = ConversationView(
            "alice", LocalFiles(self.identity), self.network, self, Config(), Memory()
        )
        self.view.session = self.session(self.view, lambda what: self.ask(what, secret=True))
        self.connect(self.view.session)
        self.pass_time()

    def show(self, lines: Sequence[Line]) -> None:
        self.output.extend("".join(text for _, text in line) for line in lines)

    def refresh(self) -> None:
        pieces = [*self.view.beside(), self.view.prompt()]
        self.output.extend("".join(text for _, text in line) for line in pieces)

    def columns(self) -> int:
        return 80

    def clear(self) -> None:
        pass

    def ring(self) -> None:
        pass

    def notify(self, title: str, text: str) -> None:
        self.output += [title, text]

    def ask(self, what: str, *, secret: bool) -> Deferred[str]:
        self.output.append(what)
        answered: Deferred[str] = Deferred()
        answered.callback("secret" if secret else "y")
        return answered

    def stop(self, code: int, reason: str) -> None:
        self.end(code, reason)

    def type(self, line: str) -> None:
        if self.code is None:
            self.view.take(self._typed(line))
        self.pass_time()

    def leave(self) -> None:
        self.pass_time(LONG)  # requests without an answer must time out
        if self.code is None:
            self.view.take("/quit")
            self.view.take("/quit")
        self.pass_time(10)


BOTS_WORK: dict[str, Callable[[ChatClient], Any]] = {
    "send": lambda bot: bot.send("bob", "hello", delivered=True),
    "join": lambda bot: bot.join("#new"),
    "leave": lambda bot: bot.leave("#dev"),
    "topic": lambda bot: bot.topic("#dev", "plans"),
    "invite": lambda bot: bot.invite("#dev", "bob"),
    "rooms": lambda bot: bot.rooms(),
    "members": lambda bot: bot.members("#dev"),
    "history": lambda bot: bot.history("#dev"),
    "search": lambda bot: bot.search("hello"),
    "who": lambda bot: bot.who(),
    "watch": lambda bot: bot.watch(lambda seen: None),
    "set_rank": lambda bot: bot.set_rank("#dev", "bob", "voice"),
    "set_mode": lambda bot: bot.set_mode("#dev", "topic"),
    "modes": lambda bot: bot.modes("#dev"),
    "kick": lambda bot: bot.kick("#dev", "bob"),
    "ban": lambda bot: bot.ban("#dev", "bob", "spam"),
    "unban": lambda bot: bot.unban("#dev", "bob"),
    "bans": lambda bot: bot.bans("#dev"),
    "rename": lambda bot: bot.rename("bobby"),
    "delete": lambda bot: bot.delete(42),
    "mark_read": lambda bot: bot.mark_read("bob", 42),
    "read_markers": lambda bot: bot.read_markers(),
    "own_messages": lambda bot: bot.own_messages(),
    "set_away": lambda bot: bot.set_away("lunch"),
}


class BotFace(Face):
    """A bot. Each failure must be a ``ClientError``."""

    things = list(BOTS_WORK)

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.bot = ChatClient(
            "alice",
            "127.0.0.1",
            reactor=self.network,
            plain=True,
            identity=self._folder / "key",
            reconnect_for=self.reconnect_for,
            tell=self.output.append,
        )
        self.results: list[Any] = []
        self._start(self.bot.connect())

    def _start(self, coroutine: Any) -> None:
        running = Deferred.fromCoroutine(coroutine)
        running.addErrback(self._problem).addCallback(self.results.append)
        self.pass_time()

    def _problem(self, failure: Failure) -> None:
        failure.trap(ClientError)
        self.output.append(str(failure.value))

    def type(self, work: str) -> None:
        self._start(BOTS_WORK[work](self.bot))

    def leave(self) -> None:
        self.pass_time(LONG)
        self._start(self.bot.close())
        self.pass_time(10)
        self.code = 0
        self.last = ""


FACES = (PipeFace, RecordsFace, TerminalFace, BotFace)
