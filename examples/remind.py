"""A bot that reminds of "!remind 10m text": python examples/remind.py USER HOST[:PORT] [ROOM...]"""

import re
import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from chat_twisted.client import ChatClient, ClientError


async def remind(client, reactor):
    """Handle direct messages, and messages in the bot's rooms, until the client is closed."""

    async def say(message, number, unit, text):
        await deferLater(reactor, int(number) * {"s": 1, "m": 60, "h": 3600}[unit])
        await client.answer(message, f"{message.sender}: {text}")

    async for message in client:
        asked = re.fullmatch(r"!remind ([0-9]{1,4})([smh]) (.+)", message.text, re.DOTALL)
        if asked and message.to != "ALL" and len(reactor.getDelayedCalls()) < 10_000:
            saying = Deferred.fromCoroutine(say(message, *asked.groups()))
            saying.addErrback(lambda failure: failure.trap(ClientError))  # the sender may have left


async def main(reactor, user, address, *rooms):
    """Connect, and run until Ctrl-C."""
    try:
        async with ChatClient(user, address, reactor=reactor) as client:
            for room in rooms:
                await client.join(room)
            await remind(client, reactor)
    except ClientError as problem:
        raise SystemExit(str(problem)) from None


if __name__ == "__main__":
    react(main, sys.argv[1:]) if len(sys.argv) > 2 else sys.exit(__doc__)
