"""Makes the doors from the options, and the front that chooses between them.

A new door is made here: with its name, and the first bytes or commands of its connections. This
module must not listen, or know storage.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chat_twisted.auth.gate import Gate
from chat_twisted.core.hub import Hub
from chat_twisted.core.limits import Limiter
from chat_twisted.core.turns import EndOfTurn
from chat_twisted.doors.connecting import DoorFactory
from chat_twisted.doors.framed import FIRST_WORDS, FramedFactory
from chat_twisted.doors.front import DECIDE_WITHIN, Choice, Door, FrontFactory, NoDoor, Plaintext
from chat_twisted.doors.irc.connection import FIRST_COMMANDS, IRCFactory
from chat_twisted.doors.poller import Poller
from chat_twisted.doors.ssh.host_keys import HostKeys
from chat_twisted.doors.tls import ServerTLS
from chat_twisted.options import Options

SSH_WORDS = (b"SSH-",)
"""The first bytes of connections for the SSH door (RFC 4253, 4.2)."""


@dataclass(frozen=True, slots=True)
class Doors:
    """The doors, and the front that passes connections to them.

    :ivar by_name: the doors by their names for the operator's monitoring; first the one whose
        sessions others have.
    """

    front: FrontFactory
    by_name: Mapping[str, DoorFactory[Any]]

    @property
    def all(self) -> list[DoorFactory[Any]]:
        """The doors without their names."""
        return list(self.by_name.values())


def make_doors(
    options: Options,
    hub: Hub,
    gate: Gate,
    limiter: Limiter,
    tls: ServerTLS,
    host_keys: HostKeys | None,
    turn: EndOfTurn,
    reactor: Any,
    *,
    connections: int,
    retain: float | None,
) -> Doors:
    """Make the doors.

    :param host_keys: the host keys of the SSH door; None without that door.
    :param turn: output is written at the end of its turns.
    :param connections: maximum number of connections.
    :param retain: seconds for which messages are kept; None means for ever.
    """
    poller = Poller.over(reactor, turn)
    framed = FramedFactory(
        hub,
        gate,
        reactor,
        max_message=options["max-message"],
        idle=options["idle"],
        max_unread=options.limits.unread,
        motd=options.motd,
        retain=retain,
        poller=poller,
        turn=turn,
    )
    irc = IRCFactory(
        hub,
        gate,
        reactor,
        max_message=options["max-message"],
        idle=options["idle"],
        max_unread=options.limits.unread,
        motd=options.motd,
        joins_all=options["irc-all"] == "yes",
        is_vouched_for=lambda: tls.is_vouched_for,
        poller=poller,
        turn=turn,
    )
    doors: dict[str, DoorFactory[Any]] = {"framed": framed, "irc": irc}
    ssh: Door = NoDoor()  # the framed door would wait for more than an SSH client says
    if host_keys is not None:
        ssh = doors["ssh"] = _make_ssh(options, host_keys, framed, hub, gate, reactor, poller, turn)
    front = FrontFactory(
        [
            Choice(ssh, SSH_WORDS, encrypted=True),
            Choice(irc, commands=FIRST_COMMANDS),
            Choice(framed, FIRST_WORDS),
        ],
        tls,
        reactor,
        limiter,
        plaintext=Plaintext(options["plaintext"]),
        max_connections=connections,
        decide_within=min(DECIDE_WITHIN, options["idle"]),
        idle=options["idle"],
    )
    return Doors(front, doors)


def _make_ssh(
    options: Options,
    host_keys: HostKeys,
    framed: FramedFactory,
    hub: Hub,
    gate: Gate,
    reactor: Any,
    poller: Poller | None,
    turn: EndOfTurn,
) -> DoorFactory[Any]:
    """Make the SSH door. Conch and prompt_toolkit are imported only here: without the door, the
    server needs neither.
    """
    from chat_twisted import reactor_loop
    from chat_twisted.doors.ssh.connection import SSHFactory
    from chat_twisted.inside.connecting import Connector
    from chat_twisted.inside.host import InsideHost

    def soon(call: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_soon(call)

    reactor.callWhenRunning(reactor_loop.use, reactor)  # when twistd has forked
    connector = Connector(framed, reactor, soon, host_keys.secret)
    host = InsideHost(connector, options["ssh-terminals"], socket.gethostname())
    ssh: DoorFactory[Any] = SSHFactory(
        hub,
        gate,
        host,
        host_keys,
        reactor,
        idle=options["idle"],
        max_unread=options.limits.unread,
        poller=poller,
        turn=turn,
    )
    return ssh
