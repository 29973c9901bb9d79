"""Posts lines of a file to a room: python examples/tail_to_room.py USER HOST[:PORT] FILE ROOM"""

import os
import sys

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, react

from chat_twisted.client import ChatClient, ClientError


async def main(reactor, user, address, path, room):
    """Yield new lines, checking every second; follow a new file of the same name."""
    file = open(path, "rb")  # noqa: SIM115
    file.seek(0, os.SEEK_END)

    async def poll(client):
        nonlocal file
        while (line := file.readline(4000)).endswith(b"\n") or len(line) == 4000:
            if text := line.decode(errors="replace").replace("\0", "").strip():
                await client.send(room, text)
        file.seek(-len(line), os.SEEK_CUR)  # the rest of this line is still to be written
        if os.path.exists(path) and not os.path.samestat(os.stat(path), os.fstat(file.fileno())):
            file = open(path, "rb")  # noqa: SIM115

    try:
        async with ChatClient(user, address, reactor=reactor, listen=False) as client:
            await client.join(room)
            await LoopingCall(lambda: Deferred.fromCoroutine(poll(client))).start(1)
    except ClientError as problem:
        raise SystemExit(str(problem)) from None


if __name__ == "__main__":
    react(main, sys.argv[1:]) if len(sys.argv) == 5 else sys.exit(__doc__)
