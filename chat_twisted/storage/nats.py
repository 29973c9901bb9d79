"""The log that several nodes share, on a stream of NATS JetStream. Implements ``log.Log``.

The stream's leader sends each record to all nodes as soon as it is stored (JetStream's
"republish"); what a node misses, it fetches from any server that has the stream (``following``). So
no consumer has to be kept, or made anew when a server is lost. JetStream's detection of duplicates
is not used. This module must not know what the records mean, or asyncio.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Collection, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from chat_twisted.logs import Logger
from chat_twisted.storage import following
from chat_twisted.storage.following import Fetched, Follower
from chat_twisted.storage.log import LARGEST, Bounds, LogBroken, NotTaken, Taken, Unknown
from chat_twisted.storage.nats_client import Message
from chat_twisted.storage.nats_connection import NatsConnection

APPEND_PATIENCE = 2.0
"""Seconds for which an answer to ``append`` is waited for."""

STUCK_AFTER = 2.0
"""Seconds for which no record was taken, after which another server is tried: this one may be cut
off from the others."""

API_PATIENCE = 2.0
"""Seconds for which an answer of JetStream, or a connection before, is waited for."""

FETCH_RECORDS = 2000
FETCH_SIZE = 1024 * 1024
"""Maximum number and size, in bytes, of the records that are fetched at once."""

REPLICAS = 3
"""How many servers keep the stream, if there are as many."""

MAX_SIZE = 8 << 30
MIN_SIZE = 1 << 20
"""Maximum size of a stream, in bytes: by default, and if the servers have little space. There must
be one: a stream that reaches it refuses records and can be read and purged, while a cluster that
reaches the limit of its servers, or fills their disks, has no leader any more.
"""

NO_STORAGE = "insufficient storage"
"""In the description of the error ``NO_PEERS``, if the servers have too little space."""

IDENTITY = "identity"
"""The stream's metadata that has its identity. A stream that an operator has made has none; its
identity is the time at which it was made.
"""

END_OF_BATCH = "204"
"""Status of the message after the last one of those that were fetched."""

# Errors of JetStream.
NO_PEERS = 10005
NOT_CLUSTERED = 10074
NAME_IN_USE = 10058
STREAM_NOT_FOUND = 10059
NO_MESSAGE = 10037
STORE_FAILED = 10077
TOO_LONG = 10054
SEALED = 10109
TOO_MANY = 10167
NO_SPACE = {10002, 10023, 10028, 10047}


class JetStreamError(Exception):
    """An answer of JetStream that is an error."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code
        self.description = description


class NatsLog:
    """A log on a JetStream stream.

    :param urls: of the servers of one cluster: ``nats://[user:password@|token@]host[:port]``;
        ``tls://`` if they must encrypt.
    :param reactor: the reactor; this process must not fork any more.
    :param credentials: the path of a credentials file of NATS (``.creds``).
    :param ca: the path of the certificates that the servers' certificates are checked with. Without
        it, those of the system are, if the servers encrypt.
    :param name: the stream's name, with which all subjects begin. Letters, digits, "-" and "_".
    :param max_bytes: maximum size of the stream if it is made, in bytes; if the servers have less
        space, it is halved until they have it. None for ``MAX_SIZE``.
    :param may_make: whether the stream is made if it is missing. Once it has been seen, it is not.
    :raises ValueError: if a URL or a file has mistakes.
    :raises OSError: if a file can't be read.
    """

    _log = Logger()

    def __init__(
        self,
        urls: Sequence[str],
        reactor: Any,
        *,
        credentials: str | None = None,
        ca: str | None = None,
        name: str = "chat",
        max_bytes: int | None = None,
        may_make: bool = True,
    ) -> None:
        self._name = name
        self._subject = f"{name}.log"
        self._stored = f"{name}.log.stored"
        self._direct = f"$JS.API.DIRECT.GET.{name}"
        self._max_bytes = max_bytes
        self._reactor = reactor
        self._follower: Follower | None = None
        self._may_make = may_make
        self._is_online = False
        self._stuck_since: float | None = None  # when no record has been taken any more
        self._connection = NatsConnection(
            urls,
            reactor,
            credentials=credentials,
            ca=ca,
            name=name,
            connected=self._connected,
            lost=self._lost,
        )

    def start(self) -> None:
        """Begin to connect. Called when the process has forked, before everything but ``hear`` and
        ``answer``.
        """
        self._connection.start()

    # Appending

    def append(self, data: bytes) -> Deferred[int]:
        """Append a record. See ``Log``."""
        asked = self._reactor.seconds()
        answer = self._connection.request(self._subject, data, APPEND_PATIENCE)
        answer.addErrback(self._stuck, asked)
        return answer.addCallback(self._appended)

    def _stuck(self, failure: Failure, asked: float) -> Failure:
        """Called when a record that was sent at a time has got no answer from the stream."""
        if self._stuck_since is None:
            self._stuck_since = asked
        if self._reactor.seconds() - self._stuck_since >= STUCK_AFTER:
            self._stuck_since = None
            self._connection.leave_server("the log does not answer through it")
        return failure

    def _appended(self, message: Message) -> int:
        self._stuck_since = None
        self._connection.settle()
        answer = _parse(message.data)
        if (error := answer.get("error")) is not None:
            raise refusal(error.get("err_code", 0), error.get("description", ""))
        position = answer.get("seq")
        if answer.get("stream") != self._name or not isinstance(position, int):
            raise Unknown("the answer is not that of the log")
        if self._follower is not None:
            self._follower.stored(position)
        return position

    # Following

    def follow(self, after: int, take: Taken, broken: Callable[[LogBroken], None]) -> None:
        """Take all records after a position. See ``Log``."""
        if after:
            self._may_make = False
        self._follower = Follower(self._reactor, self, after, take, broken)
        self._connection.subscribe(self._stored, self._came)
        if self._is_online:
            self._follower.online()

    @property
    def known(self) -> int:
        """The highest position that is known to be in the log."""
        return 0 if self._follower is None else self._follower.known

    def _connected(self) -> None:
        self._is_online = True
        if self._follower is not None:
            self._follower.online()

    def _lost(self) -> None:
        self._is_online = False
        self._stuck_since = None
        if self._follower is not None:
            self._follower.offline()

    def _came(self, message: Message, more: bool) -> None:
        position = message.headers.get("Nats-Sequence", "")
        if self._follower is not None and position.isdecimal() and len(position) < 20:
            self._follower.came(int(position), message.data, more)

    # What the follower asks

    async def _info(self) -> dict[str, Any] | None:
        """Return what the leader says about the stream; make it if that is allowed. None if there
        is none.

        :raises Unknown: if there is no leader: then any server answers, with what it knows.
        """
        await self._connection.ready(API_PATIENCE)
        try:
            info = await self._call("STREAM.INFO", expected={STREAM_NOT_FOUND})
        except JetStreamError:
            if not self._may_make:
                return None
            info = await self._make()
        info = await self._correct(info)
        if not info.get("cluster", {}).get("leader"):
            raise Unknown("the servers have no leader for the log")
        self._may_make = False
        return info

    async def _describe(self) -> Bounds | None:
        info = await self._info()
        return None if info is None else _bounds(info)

    def describe(self) -> Deferred[Bounds | None]:
        """Return the bounds of the stream, which is made if that is allowed; None without one."""
        return Deferred.fromCoroutine(self._describe())

    def fetch(self, after: int) -> Deferred[Fetched]:
        """Return records after a position, from any server."""
        request = {
            "seq": after + 1,
            "batch": FETCH_RECORDS,
            "max_bytes": FETCH_SIZE,
            "no_hdr": True,
        }
        return self._connection.collect(
            self._direct, _json(request), API_PATIENCE, _has_status
        ).addCallbacks(_fetched, _unknown, callbackArgs=(after,))

    def peek(self, position: int) -> Deferred[bytes | None]:
        """Return one record, from any server. It works while there is no leader."""
        request = _json({"seq": position})
        answer = self._connection.request(self._direct, request, API_PATIENCE)
        return answer.addCallbacks(_peeked, _unknown)

    def get(self, position: int) -> Deferred[bytes | None]:
        """Return one record, from the stream's leader."""
        return Deferred.fromCoroutine(self._get(position))

    async def _get(self, position: int) -> bytes | None:
        try:
            answer = await self._call("STREAM.MSG.GET", {"seq": position}, expected={NO_MESSAGE})
        except JetStreamError:
            return None
        return base64.b64decode(answer["message"].get("data", ""))

    # The stream

    def bounds(self) -> Deferred[Bounds]:
        """Return which log it is and what it stores. See ``Log``."""

        async def bounds() -> Bounds:
            return _bounds(await self._require_info())

        return Deferred.fromCoroutine(bounds())

    async def _require_info(self) -> dict[str, Any]:
        """Do as ``_info``.

        :raises Unknown: as there.
        :raises LogBroken: if there is no stream, and this log may not make it. A server may say so
            that has just started, so it is asked several times. Also if the server takes too little
            at once.
        """
        await self._require_size()
        for pause in (*following.DOUBT_PAUSES, None):
            info = await self._info()
            if info is not None:
                return info
            if pause is not None:
                await deferLater(self._reactor, pause)
        raise LogBroken(following.GONE)

    async def _require_size(self) -> None:
        """Wait for a connection, and check the size of messages that the server takes."""
        await self._connection.ready(API_PATIENCE)
        size = self._connection.max_payload
        if 0 < size < LARGEST:
            raise LogBroken(
                f"the NATS server takes messages of at most {size} bytes, and the log has records "
                f"of up to {LARGEST}: set max_payload to 1MB, its default, in the configuration of "
                "all servers"
            )

    def look(self) -> Deferred[Bounds | None]:
        """Return the bounds of the stream, and change nothing; None without a stream.

        :return: fails with ``Unknown``, or with ``LogBroken`` if the log can't be used.
        """

        async def look() -> Bounds | None:
            await self._require_size()
            try:
                return _bounds(await self._call("STREAM.INFO", expected={STREAM_NOT_FOUND}))
            except JetStreamError:
                if not self._may_make:
                    raise LogBroken(following.GONE) from None
                return None

        return Deferred.fromCoroutine(look())

    def keepers(self) -> Deferred[frozenset[str]]:
        """Return the names of the servers that keep the log.

        :return: fails with ``Unknown``, or with ``LogBroken`` if the log can't be used.
        """

        async def keepers() -> frozenset[str]:
            cluster = (await self._require_info())["cluster"]
            others = [replica["name"] for replica in cluster.get("replicas") or ()]
            return frozenset([cluster["leader"], *others])

        return Deferred.fromCoroutine(keepers())

    def purge(self, below: int) -> Deferred[None]:
        """Delete the records with positions lower than ``below``. See ``Log``."""

        async def purge() -> None:
            await self._call("STREAM.PURGE", {"seq": below})

        return Deferred.fromCoroutine(purge())

    async def _call(
        self,
        function: str,
        request: dict[str, Any] | None = None,
        expected: Collection[int] = (),
    ) -> dict[str, Any]:
        """Call a function of JetStream for the stream.

        :raises JetStreamError: if it answers with one of the errors with the codes ``expected``.
        :raises Unknown: if it answers with another error, or does not answer.
        """
        data = b"" if request is None else _json(request)
        try:
            message = await self._connection.request(
                f"$JS.API.{function}.{self._name}", data, API_PATIENCE
            )
        except NotTaken as problem:
            raise Unknown(str(problem)) from problem
        answer = _parse(message.data)
        if (error := answer.get("error")) is not None:
            failure = JetStreamError(error.get("err_code", 0), error.get("description", ""))
            raise failure if failure.code in expected else Unknown(str(failure))
        return answer

    async def _make(self) -> dict[str, Any]:
        """Make the stream. If another node does at the same time, its stream is taken."""
        replicas, size = REPLICAS, self._max_bytes or MAX_SIZE
        expected = {NAME_IN_USE, NO_PEERS, NOT_CLUSTERED, *NO_SPACE}
        while True:
            try:
                await self._call("STREAM.CREATE", self._config(replicas, size), expected)
            except JetStreamError as problem:
                if problem.code == NAME_IN_USE:
                    break
                few = problem.code == NO_PEERS and self._connection.server_count < REPLICAS
                if problem.code in NO_SPACE or NO_STORAGE in problem.description:
                    size //= 2
                    if size < MIN_SIZE:
                        raise Unknown(str(problem)) from problem
                elif replicas > 1 and (few or problem.code == NOT_CLUSTERED):
                    replicas = 1
                else:
                    raise Unknown(str(problem)) from problem
            else:
                self._log.info(
                    "made the log (replicas: {replicas}, at most {size} MiB)",
                    event="nats-log-made",
                    replicas=replicas,
                    size=size >> 20,
                )
                break
        return await self._call("STREAM.INFO")  # a single server's first answer names no leader

    def _config(self, replicas: int, size: int) -> dict[str, Any]:
        return {
            "name": self._name,
            "subjects": [self._subject],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "num_replicas": replicas,
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": size,
            "max_age": 0,
            "metadata": {IDENTITY: secrets.token_hex(16)},
            **self._needed(),
        }

    def _needed(self) -> dict[str, Any]:
        """That part of the stream's settings that the nodes can't do without."""
        return {
            "allow_direct": True,
            "republish": {"src": self._subject, "dest": self._stored},
        }

    async def _correct(self, info: dict[str, Any]) -> dict[str, Any]:
        """Give a stream that an operator has made the settings that are needed."""
        config = info["config"]
        needed = self._needed()
        if all(config.get(key) == needed[key] for key in needed):
            return info
        await self._call("STREAM.UPDATE", {**config, **needed})
        return await self._call("STREAM.INFO")  # a single server's first answer names no leader

    # Messages between the nodes

    def tell(self, topic: str, data: bytes) -> None:
        """Send a message to the other nodes. See ``Log``."""
        try:
            self._connection.publish(f"{self._name}.{topic}", data)
        except NotTaken as problem:
            self._log.debug("not told: {problem}", event="nats-not-told", problem=str(problem))

    def hear(self, topic: str, heard: Callable[[bytes], None]) -> None:
        """Hear the messages of the other nodes. See ``Log``."""
        self._connection.subscribe(f"{self._name}.{topic}", lambda message, _: heard(message.data))

    def ask(self, topic: str, data: bytes, patience: float) -> Deferred[bytes]:
        """Ask one of the other nodes. See ``Log``."""
        started = self._reactor.seconds()

        async def ask() -> bytes:
            await self._connection.ready(patience)
            left = max(0.0, patience - (self._reactor.seconds() - started))
            try:
                message = await self._connection.request(f"{self._name}.{topic}", data, left)
            except NotTaken as problem:
                raise Unknown(str(problem)) from problem
            return message.data

        return Deferred.fromCoroutine(ask())

    def answer(self, topic: str, answer: Callable[[bytes], Deferred[bytes]]) -> None:
        """Answer the questions of the other nodes. See ``Log``."""

        def heard(message: Message, more: bool) -> None:
            def send(data: bytes) -> None:
                self._connection.publish(message.reply, data)

            def failed(failure: Failure) -> None:
                self._log.failure("a question about {topic} has no answer", failure, topic=topic)

            if message.reply:
                maybeDeferred(answer, message.data).addCallback(send).addErrback(failed)

        self._connection.subscribe(f"{self._name}.{topic}", heard, queue=topic)

    def close(self) -> Deferred[None]:
        """Stop everything. See ``Log``."""
        if self._follower is not None:
            self._follower.stop()
        return self._connection.close()


def refusal(code: int, description: str) -> NotTaken | Unknown:
    """Return what an error means that JetStream answers to a record.

    ``NotTaken`` if the servers' source says so: these answers are given before the record is
    proposed to the other servers or written (2.11 to 2.15: ``processClusteredInboundMsg``,
    ``processJetStreamMsgWithBatch``). 10077 has several reasons; of those, the limits alone are
    certain, because a server that can't write says nothing, and others may have written.
    """
    limits = code == STORE_FAILED and description.startswith("maximum ")
    if limits or code in NO_SPACE:
        return NotTaken(description, full=True)
    if code in {TOO_LONG, SEALED, TOO_MANY}:
        return NotTaken(description)
    return Unknown(f"{description} ({code})")


def _bounds(info: dict[str, Any]) -> Bounds:
    state = info["state"]
    last = state["last_seq"]
    first = state["first_seq"] if state["messages"] else last + 1
    identity = info["config"].get("metadata", {}).get(IDENTITY)
    return Bounds(identity or info["created"], first, last)


def _fetched(messages: list[Message], after: int) -> Fetched:
    *records, end = messages
    if end.status != END_OF_BATCH:  # 404: there is none
        return Fetched([], after)
    return Fetched([each.data for each in records], int(end.headers["Nats-Last-Sequence"]))


def _peeked(message: Message) -> bytes | None:
    return None if message.status else message.data


def _has_status(message: Message) -> bool:
    return bool(message.status)


def _unknown(failure: Failure) -> Failure:
    """Say of a question, which changes nothing, that there was no answer."""
    if failure.check(NotTaken):
        return Failure(Unknown(failure.getErrorMessage()))
    return failure


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


def _parse(data: bytes) -> dict[str, Any]:
    """Parse an answer of JetStream.

    :raises Unknown: if it is none.
    """
    try:
        answer = json.loads(data)
    except ValueError as problem:
        raise Unknown("the answer is not that of JetStream") from problem
    if not isinstance(answer, dict):
        raise Unknown("the answer is not that of JetStream")
    return answer
