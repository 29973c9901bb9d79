"""Says "!remind 10m text" when it is time: python examples/remind.py USER HOST[:PORT] [ROOM...]"""

import re
import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from chat_twisted.client import ChatClient, ClientError


async def remind(client, reactor):
    """Take what is said to the bot, or in a room that it is in, until the client is closed."""

    async def say(message, number, unit, text):
        await deferLater(reactor, int(number) * {"s": 1, "m": 60, "h": 3600}[unit])
        await client.answer(message, f"{message.sender}: {text}")

    async for message in client:
        asked = re.fullmatch(r"!remind ([0-9]{1,4})([smh]) (.+)", message.text, re.DOTALL)
        if asked and message.to != "ALL" and len(reactor.getDelayedCalls()) < 10_000:
            saying = Deferred.fromCoroutine(say(message, *asked.groups()))
            saying.addErrback(lambda failure: failure.trap(ClientError))  # who asked may be gone


async def main(reactor, user, address, *rooms):
    """Connect, and remind until Ctrl-C."""
    try:
        async with ChatClient(user, address, reactor=reactor) as client:
            for room in rooms:
                await client.join(room)
            await remind(client, reactor)
    except ClientError as problem:
        raise SystemExit(str(problem)) from None


if __name__ == "__main__":
    react(main, sys.argv[1:]) if len(sys.argv) > 2 else sys.exit(__doc__)
