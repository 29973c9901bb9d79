"""Echoes every direct message to its sender: python examples/echo.py USER HOST[:PORT]"""

import sys
from contextlib import suppress

from twisted.internet.task import react

from chat_twisted.client import ChatClient, ClientError, Refused


async def echo(client):
    """Answer until the client is closed."""
    async for message in client:
        if message.to == client.name:
            with suppress(Refused):  # the sender may have left, or had too many answers
                await client.answer(message, message.text)


async def main(reactor, user, address):
    """Connect, and answer until Ctrl-C."""
    try:
        async with ChatClient(user, address, reactor=reactor) as client:
            await echo(client)
    except ClientError as problem:
        raise SystemExit(str(problem)) from None


if __name__ == "__main__":
    react(main, sys.argv[1:]) if len(sys.argv) == 3 else sys.exit(__doc__)
