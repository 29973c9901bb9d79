"""A load generator in Python for what load.c can't do: TLS.

It may be slower than the server it asks, so that no rate of deliveries is worth anything here. What
can be compared is the processor time that the server spends on a delivery, with encryption and
without.

    SERVER_PID=... encrypted.py PORT CLIENTS SECONDS plain|tls

One client writes to all, with one message outstanding; the result is a line of JSON, as load.c's.
"""

import asyncio
import json
import os
import resource
import ssl
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chat_twisted.frames import Frame, FrameReader, encode

AT_ONCE = 8
CONFIRM = 0.1  # seconds: how often what came is confirmed, at most
WARM_UP = 1.0  # seconds
TEXT = "x" * 64


class Client(asyncio.Protocol):
    """A client of version 2 that counts what it gets."""

    def __init__(self, load: "Load", name: str) -> None:
        self.load = load
        self.name = name
        self.registered = asyncio.get_running_loop().create_future()
        self._reader = FrameReader()
        self._confirmed = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the connection stands."""
        self.transport = transport
        transport.write(encode("REGISTER", self.name, [("Version", 2)]))

    def connection_lost(self, error: Exception | None) -> None:
        """Asyncio: it is gone."""
        if not self.load.finished:
            self.load.fail(f"{self.name}: the server closed the connection ({error})")

    def data_received(self, data: bytes) -> None:
        """Asyncio: bytes came."""
        self._reader.receive_data(data)
        for frame in iter(self._reader.next_frame, None):
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        match frame.verb:
            case "FORWARD":
                now = time.monotonic()
                if now > self._confirmed + CONFIRM:
                    self._confirmed = now
                    number = frame.number("message")
                    self.transport.write(encode("RECEIVED", frame.argument, [("Message", number)]))
                self.load.delivered()
            case "REGISTERED":
                self.registered.set_result(None)
            case "PING":
                self.transport.write(encode("PONG", frame.argument))
            case "ERROR":
                self.load.fail(f"{self.name}: {frame.argument}")


class Load:
    """All clients, and what they have got."""

    def __init__(self, clients: int) -> None:
        self.clients = [Client(self, f"u{i}") for i in range(clients)]
        self.deliveries = 0
        self.finished = False
        self._sent = 0
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, why: str) -> None:
        """Give up."""
        if not self._failed.done():
            self._failed.set_exception(RuntimeError(f"encrypted.py: {why}"))

    def delivered(self) -> None:
        """Count a delivery; write the next message after the last one."""
        self.deliveries += 1
        if self.deliveries == self._sent * (len(self.clients) - 1):
            self.say()

    def say(self) -> None:
        """Have the first client write to all."""
        self._sent += 1
        self.clients[0].transport.write(encode("SEND", "ALL", [("Id", self._sent)], TEXT))

    async def connect(self, port: int, context: ssl.SSLContext | None) -> None:
        """Register all clients, a few at a time."""
        loop = asyncio.get_running_loop()
        few = asyncio.Semaphore(AT_ONCE)

        async def enter(client: Client) -> None:
            async with few:
                await loop.create_connection(lambda: client, "127.0.0.1", port, ssl=context)
                await client.registered

        await self.until(asyncio.gather(*map(enter, self.clients)))

    async def until(self, done: "asyncio.Future[Any]") -> None:
        """Wait for ``done``, unless something fails before.

        :raises RuntimeError: something did.
        """
        await asyncio.wait([done, self._failed], return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            self._failed.result()
        await done


def _processor() -> float:
    fields = Path(f"/proc/{os.environ['SERVER_PID']}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _main(port: int, clients: int, seconds: float, context: ssl.SSLContext | None) -> None:
    load = Load(clients)
    await load.connect(port, context)
    load.say()
    await load.until(asyncio.ensure_future(asyncio.sleep(WARM_UP)))
    begin, before = _processor(), load.deliveries
    await load.until(asyncio.ensure_future(asyncio.sleep(seconds)))
    count = load.deliveries - before
    spent = (_processor() - begin) * 1e6 / count if count else None
    load.finished = True
    report = {"clients": clients, "deliveries": count, "server_us_per_delivery": spent}
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    port, clients, seconds, how = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    context = None
    if how == "tls":
        context = ssl.create_default_context()
        context.check_hostname = False  # the certificate is the server's own
        context.verify_mode = ssl.CERT_NONE
    try:
        asyncio.run(_main(int(port), int(clients), float(seconds), context))
    except (OSError, RuntimeError) as error:
        sys.exit(f"encrypted.py: {error}")
