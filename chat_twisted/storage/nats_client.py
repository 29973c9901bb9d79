"""One connection to one NATS server, with nats-py, and the addresses and credentials for it.

The client does not reconnect: what it has not written when the connection is lost is never sent.
Coroutines run on the asyncio loop of the reactor (``reactor_loop``). This module must not know
which server is next, or what is sent.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from chat_twisted.logs import Logger

QUIET = 0.5
"""Seconds between an answer to a ping and the next ping."""

SLICE = 0.5
SLICES = 3
"""The server is given up if a ping has not been answered after so many waits of so many seconds.
Several waits, so that a program that has stood still itself reads what has come before it gives up.
"""

CLOSE_PATIENCE = 1.0
"""Seconds for which a connection is closed in an orderly way."""

PORT = 4222
"""The port of a URL that has none."""


class Message(NamedTuple):
    """A message that has come.

    :ivar reply: the subject for the answer; empty if none is wanted.
    :ivar status: the status of an answer that has nothing but headers; otherwise empty.
    """

    subject: str
    data: bytes
    headers: dict[str, str]
    reply: str
    status: str


Heard = Callable[[Message, bool], None]
"""Type of the callback for messages. The second argument is whether more have come already."""


def _is_news(record: logging.LogRecord) -> bool:
    """Return False for a warning of asyncio that nats-py causes at the end of each connection with
    TLS, and that means nothing.
    """
    return not record.getMessage().startswith("returning true from eof_received()")


logging.getLogger("asyncio").addFilter(_is_news)


class NatsError(Exception):
    """A connection can't be made; ``str`` says why."""


class Server(NamedTuple):
    """The address of a server, and who connects to it.

    :ivar password: None if ``user`` is a token.
    """

    host: str
    port: int
    user: str | None
    password: str | None
    must_encrypt: bool

    @property
    def address(self) -> str:
        """The host and the port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_url(url: str, *, must_encrypt: bool) -> Server:
    """Parse ``nats://[user:password@|token@]host[:port]``; with ``tls://`` the server must encrypt.

    :raises ValueError: if it is not such a URL. The text does not contain the password.
    """
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    if parts.scheme not in ("nats", "tls") or not parts.hostname or parts.path.strip("/"):
        raise ValueError("the URL of a NATS server is nats://HOST:PORT or tls://HOST:PORT")
    return Server(
        parts.hostname,
        parts.port or PORT,
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
        must_encrypt or parts.scheme == "tls",
    )


class SignedCredentials(NamedTuple):
    """A user's token for the server, and the key that proves who the user is."""

    jwt: str
    key: Ed25519PrivateKey

    def signature(self, nonce: str) -> bytes:
        """Sign what the server has sent. Called by nats-py."""
        return base64.b64encode(self.key.sign(nonce.encode()))

    @property
    def login(self) -> dict[str, Any]:
        """The arguments for nats-py."""
        return {"user_jwt_cb": self.jwt.encode, "signature_cb": self.signature}


class PasswordCredentials(NamedTuple):
    """A user and a password."""

    user: str
    password: str

    @property
    def login(self) -> dict[str, Any]:
        """The arguments for nats-py."""
        return {"user": self.user, "password": self.password}


Credentials = SignedCredentials | PasswordCredentials


def read_credentials(path: str) -> Credentials:
    """Read a file with one line ``USER:PASSWORD``, or a credentials file (``.creds``), as ``nsc``
    and ``nats`` write it.

    :raises ValueError: if it is not such a file.
    :raises OSError: if it can't be read.
    """
    lines = Path(path).read_text("utf-8-sig", errors="replace").splitlines()
    if len(lines) == 1:
        user, colon, password = lines[0].strip().partition(":")
        if user and colon and password:
            return PasswordCredentials(user, password)
    blocks: dict[str, str] = {}
    title = ""
    for line in lines:
        if line.startswith("-----BEGIN "):
            title = line.strip("- ").removeprefix("BEGIN ")
        elif line.strip() and title:
            blocks[title] = line.strip()
            title = ""
    try:
        key = _seed_key(blocks["USER NKEY SEED"])
        return SignedCredentials(blocks["NATS USER JWT"], key)
    except (KeyError, binascii.Error, ValueError) as problem:
        raise ValueError(
            f"{path}: neither a credentials file of NATS nor a line USER:PASSWORD"
        ) from problem


def _seed_key(seed: str) -> Ed25519PrivateKey:
    """Return the key of a seed: two bytes for its kind, the key, a checksum (NATS' nkeys)."""
    raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    if len(raw) != 2 + 32 + 2:
        raise ValueError("a seed has another length")
    return Ed25519PrivateKey.from_private_bytes(raw[2:34])


class NatsClient(Client):
    """One connection, from ``open`` to ``leave``.

    :ivar server: whom to connect to.
    :param tls: how to check the server's certificate; None for the system's authorities.
    :param name: shown by the server.
    """

    _event_log = Logger()

    def __init__(
        self, server: Server, credentials: Credentials | None, tls: ssl.SSLContext | None, name: str
    ) -> None:
        super().__init__()
        self.server = server
        self._login: dict[str, Any] = {"name": name}
        if tls is not None:
            self._login["tls"] = tls
        if credentials is not None:
            self._login.update(credentials.login)
        elif server.password is not None:
            self._login.update(user=server.user, password=server.password)
        elif server.user is not None:
            self._login["token"] = server.user
        self._lost = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._problem: Exception | None = None

    async def open(self) -> None:
        """Connect.

        :raises NatsError: if that is not possible.
        """
        try:
            await self.connect(
                f"nats://{self.server.address}",
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                pending_size=0,
                no_echo=True,
                ping_interval=3600,  # until_lost has its own
                tls_hostname=self.server.host,
                error_cb=self._failed,
                closed_cb=self._closed,
                **self._login,
            )
        except (OSError, errors.Error, ValueError) as problem:
            cause = self._problem if isinstance(problem, errors.NoServersError) else problem
            raise NatsError(str(cause) or type(cause).__name__) from problem

    def _connect_command(self) -> bytes:
        """Called by nats-py before the user's password is sent."""
        if self.server.must_encrypt and not self._server_info.get("tls_required"):
            raise errors.Error("the server does not encrypt")
        return super()._connect_command()

    async def _process_op_err(self, e: Exception) -> None:
        """Called by nats-py when the connection is lost."""
        # nats-py would send what waits, fail at that, and leave its tasks behind.
        self._pending.clear()
        self._pending_data_size = 0
        await super()._process_op_err(e)

    async def _process_pong(self) -> None:
        """Called by nats-py with the answer to a ping, for which ``until_lost`` may not wait any
        more: nats-py would stop reading then, and log a traceback.
        """
        if self._pongs and self._pongs[0].done():
            self._pongs.pop(0)
        else:
            await super()._process_pong()

    async def _failed(self, problem: Exception) -> None:
        """Called by nats-py with errors."""
        self._problem = problem
        if "permissions violation" in str(problem):
            self._event_log.error(
                "the NATS server forbids it: {problem}", event="nats-forbids", problem=str(problem)
            )

    async def _closed(self) -> None:
        """Called by nats-py when the connection has been closed."""
        self._lost.set()

    async def listen(self, subject: str, queue: str, heard: Heard) -> None:
        """Call ``heard`` with the messages for a subject, until the connection is lost."""

        async def message(msg: Msg) -> None:
            headers = msg.headers or {}
            status = headers.get("Status", "") if headers else ""
            more = subscription.pending_msgs > 0
            try:
                heard(Message(msg.subject, msg.data, headers, msg.reply, status), more)
            except Exception:  # noqa: BLE001  nats-py would say nothing
                self._event_log.failure("while a message about {what} was heard", what=msg.subject)

        subscription = await self.subscribe(subject, queue, message)

    def listen_soon(self, subject: str, queue: str, heard: Heard) -> None:
        """As ``listen``, without waiting."""
        self._start(self.listen(subject, queue, heard))

    def send(self, subject: str, data: bytes, reply: str) -> None:
        """Send a message, in the order of the calls. It may be lost."""
        self._start(self.publish(subject, data, reply))

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._event_log.debug(
                "not done: {problem}", event="nats-not-done", problem=str(problem)
            )

    async def until_lost(self) -> None:
        """Return when the connection has been lost, or the server does not answer any more."""
        lost = asyncio.ensure_future(self._lost.wait())
        ping: asyncio.Future[float] | None = None
        try:
            while not lost.done():
                await asyncio.wait([lost], timeout=QUIET)
                ping = asyncio.ensure_future(self.rtt(3600))
                for _ in range(SLICES):
                    await asyncio.wait(
                        [lost, ping], timeout=SLICE, return_when=asyncio.FIRST_COMPLETED
                    )
                    if lost.done() or ping.done():
                        break
                if not ping.done() or ping.cancelled() or ping.exception() is not None:
                    return
        finally:
            for each in (lost, ping):
                if each is not None:
                    each.cancel()

    def give_up(self) -> None:
        """Let ``until_lost`` return."""
        self._lost.set()

    async def leave(self) -> None:
        """Close the connection. It may stay open for a server that stands still."""
        with contextlib.suppress(Exception):  # it is not used any more, whatever happens
            await asyncio.wait_for(self.close(), CLOSE_PATIENCE)
