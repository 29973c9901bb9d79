"""What happened, in words: what a pipe prints line by line, in the original client's words.

Everything comes back as whole lines, empty where there is nothing to say. What must not reach a
terminal is still in them: who writes them replaces it. ``records`` says the same as JSON; the
terminal (``screen``) takes from here what it has no better way to show.
"""

from __future__ import annotations

from collections.abc import Sequence

from chat_twisted.client.commands import Command, ParsedLine, help_text, parse
from chat_twisted.client.incoming import Event, Received, Refusal, Room, Seen, State
from chat_twisted.client.session import Listed
from chat_twisted.core.message import fold
from chat_twisted.text import lines

_WORDS = {102: "Unable to Send", 103: "Incomplete Header"}  # as the original client has them


class Wording:
    """How a pipe speaks. ``user`` is one's own name."""

    def __init__(self, user: str) -> None:
        self.user = user

    def parse(self, line: str) -> tuple[ParsedLine | None, object]:
        """Read a line of input; return the order, and a mark of the user's for it (here: None)."""
        return parse(line), None

    def parse_once(self, text: str) -> tuple[ParsedLine | None, object]:
        """Read the only thing that is to be done, from the command line."""
        return self.parse(text)

    # What became of what one asked. ``mark`` is what came with it, ``to`` what it was about.

    def sent(self, mark: object, to: str, number: int, time: str) -> str:
        """A message is taken by the server."""
        return f"Message delivered to {to}"

    def accepted(self, mark: object, to: str, number: int, time: str) -> str:
        """The same for a direct one, of which it will be known when its recipient has it."""
        return ""

    def delivered(self, mark: object, to: str) -> str:
        """The recipient of a direct message has it."""
        return f"Message delivered to {to}"

    def overdue(self, mark: object, to: str) -> str:
        """The recipient does not have it yet."""
        return f"Message sent to {to}, not yet delivered"

    def not_sent(self, mark: object, to: str, refusal: Refusal) -> str:
        """A message was refused."""
        words = _WORDS.get(refusal.code, refusal.reason)
        return f"ERROR {refusal.code} : {words} : Message not delivered to {to}"

    def unanswered(self, mark: object, to: str) -> str:
        """A message or a command was not answered before all was over."""
        return f"Server Inactive : Message not delivered to {to}"

    def refused(self, mark: object, command: Command, to: str, refusal: Refusal) -> str:
        """A command was refused."""
        about = f" {to}" if to else ""
        return f"ERROR {refusal.code} : {refusal.reason} : {command.name}{about}"

    def changed(self, mark: object, command: Command, what: str, lines: Sequence[str]) -> str:
        """An account is changed, or an operator's wish fulfilled."""
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
        """Who is here, which rooms there are, who is kept out."""
        match command.name:
            case "/bans":
                return "\n".join(found or ["Nobody is banned or muted"])
            case "/rooms":
                return "\n".join([", ".join(describe_room(room)) for room in found] or ["No rooms"])
        names = " ".join(_user(seen) for seen in found)
        return f"{len(found)} {f'in {to}' if to else 'here'}: {names}"

    def found(self, mark: object, command: Command, messages: Sequence[Received]) -> str:
        """What was said."""
        if not messages:
            return "Nothing found"
        return "\n".join(
            self._message(f"{m.time[:16].replace('T', ' ')} {m.sender} to {m.to}", m)
            for m in messages
        )

    def help(self, mark: object, topic: str | None) -> str:
        """What can be typed."""
        return help_text(topic)

    def noted(self, mark: object, text: str) -> str:
        """What was asked of the client itself is done."""
        return text

    def mistake(self, mark: object, text: str) -> str:
        """What was typed can't be done."""
        return text

    # What happens

    def greeting(self, name: str) -> str:
        """One is registered."""
        return f"{name} : REGISTERED (/help tells what can be typed)"

    def received(self, message: Received) -> str:
        """Somebody said something."""
        direct = fold(message.to) == fold(self.user)
        return self._message(
            message.sender if direct else f"{message.sender} to {message.to}", message
        )

    def told(self, mark: object, event: Event) -> str:
        """Something happened in a room."""
        room, user, by = event.room, event.user, event.by
        topic = f" ({event.topic})" if event.topic else ""
        match event.verb:
            case "JOINED":
                words = f"{user} joined {room}{topic}"
            case "LEFT":
                words = f"{user} was put out of {room} by {by}" if by else f"{user} left {room}"
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
        """Somebody came, went, or is away."""
        return ""

    def noticed(self, text: str) -> str:
        """The server has something to say."""
        return "\n".join(lines(text))

    def disconnected(self, reason: str) -> str:
        """The connection is gone, and is being tried again."""
        return "Connection lost, trying again"

    def reconnected(self) -> str:
        """It stands again."""
        return "Connected again"

    def went_back(self) -> str:
        """The server has lost what was said last."""
        return "The server has lost the last messages: an older state of it was restored"

    def over(self, reason: str) -> str:
        """The session is over, and that was not one's own wish."""
        return f"Server Inactive : {reason}" if reason else "Server Inactive"

    def _message(self, who: str, message: Received) -> str:
        # Each line has its sender, so that nobody can make a line look like somebody else's.
        return "\n".join([f"{who}: {line}" for line in lines(message.text)])


def describe_room(room: Room) -> list[str]:
    """Say what is known of a room, in a few parts."""
    members = "1 member" if room.members == 1 else f"{room.members} members"
    own = ["you are in it"] if room.member else []
    return [room.name, members, *own, *(["private"] if room.private else [])]


def _user(seen: Seen) -> str:
    if seen.state is State.HERE:
        return seen.user
    return f"{seen.user} ({seen.state.value}{': ' if seen.why else ''}{seen.why})"
