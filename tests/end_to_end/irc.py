"""An IRC client with a blocking socket, for end-to-end tests."""

from __future__ import annotations

from tests.end_to_end.support import Peer


class IRCPeer(Peer):
    """A connection that speaks IRC. It answers the server's PING only if it is told to."""

    def say(self, *lines: str) -> None:
        """Send lines in one piece."""
        self.send("".join(f"{line}\r\n" for line in lines).encode())

    def line(self) -> str:
        """Return the next line."""
        while b"\r\n" not in self.pending:
            if not self._more():
                raise AssertionError(f"closed after {self.pending!r}")
        line, self.pending = self.pending.split(b"\r\n", 1)
        return line.decode()

    def until(self, part: str) -> list[str]:
        """Return the lines up to the first one that contains ``part``."""
        lines = [self.line()]
        while part not in lines[-1]:
            lines.append(self.line())
        return lines

    def ping(self, *lines: str) -> list[str]:
        """Send lines; return everything that comes before the PONG to a PING behind them."""
        self.say(*lines, "PING behind")
        return self.until("PONG chat.server :behind")[:-1]

    def join(self, nick: str, *channels: str, caps: str = "") -> None:
        """Register, and join channels.

        :param caps: the capabilities to turn on.
        """
        negotiation = (f"CAP REQ :{caps}", "CAP END") if caps else ()
        self.say(f"NICK {nick}", f"USER {nick} 0 * :{nick}", *negotiation)
        self.until(f" 001 {nick} ")
        self.ping(*(f"JOIN {channel}" for channel in channels))
