"""The negotiation of capabilities (ircv3.net, Capability Negotiation), before and after the
registration.

This module must not know what the capabilities do.
"""

from __future__ import annotations

from chat_twisted.doors import Channel
from chat_twisted.doors.irc import capabilities
from chat_twisted.doors.irc.capabilities import BITS, CAP_NOTIFY, names_of, pages
from chat_twisted.doors.irc.context import Context
from chat_twisted.doors.irc.multiline import MAX_LINES
from chat_twisted.doors.irc.replies import Client, Reply
from chat_twisted.doors.irc.sasl import mechanisms

MODERN = 302
"""The version from which on clients take values of capabilities, and lists of several lines."""

STAY_ENCRYPTED = 30 * 24 * 60 * 60
"""Seconds for which clients must not connect without encryption (ircv3.net, sts)."""

PAGE = 400
"""Maximum bytes of the list in one line."""

_VALUES = {"draft/multiline": "max-bytes={bytes},max-lines={lines}"}


class Negotiation:
    """What a client and the server negotiate.

    :ivar open: whether the client has begun and not ended it; until then it is not registered.
    """

    def __init__(self, context: Context, channel: Channel) -> None:
        self.open = False
        self._context = context
        self._channel = channel
        self._version = 0

    @property
    def sts(self) -> str | None:
        """The policy of encryption for the client; None if there is none.

        There is one only with a certificate that authorities vouch for: clients that have seen the
        policy refuse any other, and connections without encryption. A client on this machine might
        use a name for which no certificate can be good.
        """
        if self._channel.local or not self._context.is_vouched_for():
            return None
        if self._channel.encrypted:
            return f"duration={STAY_ENCRYPTED}"
        return f"port={self._channel.port}"

    def offered(self) -> dict[str, str | None]:
        """Return the capabilities that the client can turn on, with their values."""
        offered: dict[str, str | None] = dict.fromkeys(BITS)
        if (sts := self.sts) is None or self._version < MODERN:
            del offered["sts"]
        else:
            offered["sts"] = sts
        offered["sasl"] = ",".join(mechanisms(self._channel))
        if not offered["sasl"]:
            del offered["sasl"]
        if not self._channel.private:  # passwords could be read
            del offered["draft/account-registration"]
        for name, value in _VALUES.items():
            offered[name] = value.format(bytes=self._context.max_message, lines=MAX_LINES)
        return offered

    def take(self, client: Client, reply: Reply, params: list[str], *, late: bool = False) -> None:
        """Process a CAP.

        :param late: whether the client is registered.
        """
        subcommand = params[0].upper() if params else ""
        if subcommand == "LS":
            self.open = not late
            if len(params) > 1 and params[1].isdigit():
                self._version = max(self._version, int(params[1][:9]))
            if self._version >= MODERN:
                client.caps |= CAP_NOTIFY
            offered = self.offered().items()
            if self._version >= MODERN:
                words = [name if value is None else f"{name}={value}" for name, value in offered]
            else:
                words = [name for name, _ in offered]
            self._list(client, reply, "LS", words)
        elif subcommand == "LIST":
            self._list(client, reply, "LIST", names_of(client.caps))
        elif subcommand == "REQ":
            self.open = not late
            request = params[1] if len(params) > 1 else ""
            caps = capabilities.apply(request, client.caps, self.offered())
            if caps is not None:
                client.caps = caps
            reply.add("CAP", client.nick, "NAK" if caps is None else "ACK", request)
        elif subcommand == "END":
            self.open = False
        else:
            reply.numeric("410", subcommand or "*", "Invalid CAP command")

    def _list(self, client: Client, reply: Reply, subcommand: str, words: list[str]) -> None:
        octets = PAGE if self._version >= MODERN else 10_000
        for page, more in pages(words, octets):
            reply.add("CAP", client.nick, subcommand, *(["*"] if more else []), page)
