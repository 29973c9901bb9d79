"""Formats events and answers as plain text, in the original client's words: the output of a pipe.

Each method returns whole lines, or an empty text if nothing is to be printed. The caller must make
them printable. ``records`` has the same methods for JSON; the terminal uses some of these texts.
This module must not know when something is printed.
"""

from __future__ import annotations

from collections.abc import Sequence

from chat_twisted.client.commands import Command, ParsedLine, help_text, parse
from chat_twisted.client.incoming import Event, Received, Room, Seen, State
from chat_twisted.client.session import Listed
from chat_twisted.core.message import fold
from chat_twisted.refusals import Refusal
from chat_twisted.text import lines

_WORDS = {102: "Unable to Send", 103: "Incomplete Header"}  # as in the original client


class Wording:
    """The plain text format of a pipe.

    :ivar user: the user's own name.
    """

    def __init__(self, user: str) -> None:
        self.user = user

    def parse(self, line: str) -> tuple[ParsedLine | None, object]:
        """Parse a line of input; return the request, and the ID that the user gave it
        (here None).
        """
        return parse(line), None

    def parse_once(self, text: str) -> tuple[ParsedLine | None, object]:
        """Parse the argument of --once."""
        return self.parse(text)

    # Answers to requests. ``mark`` is the user's ID of the request, ``to`` its subject.

    def sent(self, mark: object, to: str, number: int, time: str) -> str:
        """Format: a message is committed."""
        return f"Message delivered to {to}"

    def accepted(self, mark: object, to: str, number: int, time: str) -> str:
        """Format: a direct message is committed; its delivery is reported later."""
        return ""

    def delivered(self, mark: object, to: str) -> str:
        """Format: a direct message was delivered."""
        return f"Message delivered to {to}"

    def overdue(self, mark: object, to: str) -> str:
        """Format: a direct message was not delivered in time."""
        return f"Message sent to {to}, not yet delivered"

    def not_sent(self, mark: object, to: str, refusal: Refusal) -> str:
        """Format: a message was refused."""
        words = _WORDS.get(refusal.code, refusal.reason)
        return f"ERROR {refusal.code} : {words} : Message not delivered to {to}"

    def unanswered(self, mark: object, to: str) -> str:
        """Format: the session has ended without an answer to a request."""
        return f"Server Inactive : Message not delivered to {to}"

    def refused(self, mark: object, command: Command, to: str, refusal: Refusal) -> str:
        """Format: a command was refused."""
        about = f" {to}" if to else ""
        return f"ERROR {refusal.code} : {refusal.reason} : {command.name}{about}"

    def changed(self, mark: object, command: Command, what: str, lines: Sequence[str]) -> str:
        """Format: a command was carried out."""
        done = {
            "register": f"{self.user} is yours from now on",
            "unregister": f"{self.user} has no account any more",
            "password": "The password is set",
            "add": "The key is added",
            "remove": "The key is removed",
            "here": "You are back",
            "away": "You are away",
        }
        if what == "keys":
            return "\n".join(lines or ["No keys"])
        return done.get(what) or f"Done: {command.name} {what}"

    def listed(self, mark: object, command: Command, to: str, found: Listed) -> str:
        """Format: the answer to /who, /rooms or /bans."""
        match command.name:
            case "/bans":
                return "\n".join(found or ["Nobody is banned or muted"])
            case "/rooms":
                return "\n".join([", ".join(describe_room(room)) for room in found] or ["No rooms"])
        names = " ".join(_user(seen) for seen in found)
        return f"{len(found)} {f'in {to}' if to else 'here'}: {names}"

    def found(self, mark: object, command: Command, messages: Sequence[Received]) -> str:
        """Format: the answer to /history or /search."""
        if not messages:
            return "Nothing found"
        return "\n".join(
            self._message(f"{m.time[:16].replace('T', ' ')} {m.sender} to {m.to}", m)
            for m in messages
        )

    def help(self, mark: object, topic: str | None) -> str:
        """Format: the help."""
        return help_text(topic)

    def noted(self, mark: object, text: str) -> str:
        """Format: a command of the client itself was carried out."""
        return text

    def mistake(self, mark: object, text: str) -> str:
        """Format: a line of input has no meaning."""
        return text

    # Events

    def greeting(self, name: str) -> str:
        """Format: the user is registered."""
        return f"{name} : REGISTERED (/help tells what can be typed)"

    def received(self, message: Received) -> str:
        """Format: a message."""
        direct = fold(message.to) == fold(self.user)
        return self._message(
            message.sender if direct else f"{message.sender} to {message.to}", message
        )

    def told(self, mark: object, event: Event) -> str:
        """Format: a change in a room."""
        room, user, by = event.room, event.user, event.by
        topic = f" ({event.topic})" if event.topic else ""
        match event.verb:
            case "JOINED":
                words = f"{user} joined {room}{topic}"
            case "LEFT":
                words = f"{user} was removed from {room} by {by}" if by else f"{user} left {room}"
            case "INVITED" if fold(user) == fold(self.user):
                words = f"{by} invites you to {room} (/join {room})"
            case "INVITED":
                words = f"{user} is invited to {room}"
            case "OWNER":
                words = f"{user} owns {room} now"
            case _ if user:
                words = f"{user} set the topic of {room}: {event.topic or ''}"
            case _:
                words = f"{room}: {event.topic or 'no topic'}"
        return words

    def seen(self, users: Sequence[Seen]) -> str:
        """Format: changes of presence, which are not printed."""
        return ""

    def noticed(self, text: str) -> str:
        """Format: a notice from the server."""
        return "\n".join(lines(text))

    def disconnected(self, reason: str) -> str:
        """Format: the connection is lost."""
        return "Connection lost, trying again"

    def reconnected(self) -> str:
        """Format: the session is connected again."""
        return "Connected again"

    def went_back(self) -> str:
        """Format: the server has lost the newest messages."""
        return "The server has lost the last messages: an older state of it was restored"

    def over(self, reason: str) -> str:
        """Format: the session has ended, not by the user's choice."""
        return f"Server Inactive : {reason}" if reason else "Server Inactive"

    def _message(self, who: str, message: Received) -> str:
        # Each line starts with the sender, so that nobody can imitate another user's line.
        return "\n".join([f"{who}: {line}" for line in lines(message.text)])


def describe_room(room: Room) -> list[str]:
    """Describe a room in a few short parts."""
    members = "1 member" if room.members == 1 else f"{room.members} members"
    own = ["you are in it"] if room.member else []
    return [room.name, members, *own, *(["private"] if room.private else [])]


def _user(seen: Seen) -> str:
    if seen.state is State.HERE:
        return seen.user
    return f"{seen.user} ({seen.state.value}{': ' if seen.why else ''}{seen.why})"
