"""Formats events and answers as plain text, in the original client's words: the output of a pipe.

Each method returns whole lines, or an empty text if nothing is to be printed. The caller must make
them printable. ``records`` has the same methods for JSON; the terminal uses some of these texts.
This module must not know when something is printed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from chat_twisted.core.message import fold
from chat_twisted.text import lines, unformatted
from chat_twisted.ui.commands import Command, ParsedLine
from chat_twisted.ui.help import help_text
from chat_twisted.ui.parsing import parse
from chat_twisted.ui.values import (
    Event,
    Listed,
    Profile,
    Received,
    Refusal,
    Room,
    Seen,
    State,
    conversation_of,
)

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))

_MODES = {
    ("private", True): "made {room} private: only invited users can join",
    ("private", False): "made {room} public: everybody can join",
    ("invite-only", True): "made {room} invite-only: only invited users can join",
    ("invite-only", False): "ended that {room} is invite-only",
    ("secret", True): "made {room} secret: only its members and invited users can see it",
    ("secret", False): "ended that {room} is secret",
    ("moderated", True): "made {room} moderated: only operators and voices can speak",
    ("moderated", False): "ended the moderation of {room}: all members can speak",
    ("topic", True): "locked the topic of {room}: only operators can set it",
    ("topic", False): "unlocked the topic of {room}: all members can set it",
}

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
        words = _WORDS.get(refusal.code, refusal.text)
        return f"ERROR {refusal.code} : {words} : Message not delivered to {to}"

    def unanswered(self, mark: object, to: str) -> str:
        """Format: the session has ended without an answer to a request."""
        return f"Server Inactive : Message not delivered to {to}"

    def refused(self, mark: object, command: Command, to: str, refusal: Refusal) -> str:
        """Format: a command was refused."""
        about = f" {to}" if to else ""
        return f"ERROR {refusal.code} : {refusal.text} : {command.name}{about}"

    def changed(self, mark: object, command: Command, what: str, lines: Sequence[str]) -> str:
        """Format: a command was carried out."""
        done = {
            "register": f"{self.user} is yours from now on",
            "unregister": f"{self.user} has no account any more",
            "unregister erase": f"{self.user} has no account any more; its messages are deleted",
            "password": "The password is set",
            "add": "The key is added",
            "remove": "The key is removed",
            "here": "You are back",
            "away": "You are away",
        }
        if what == "keys":
            return "\n".join(lines or ["No keys"])
        if what == "unregister" and command.second is not None:
            what = "unregister erase"
        return done.get(what) or f"Done: {command.name} {what}"

    def listed(self, mark: object, command: Command, to: str, found: Listed) -> str:
        """Format: the answer to /who, /rooms or /bans."""
        match command.name:
            case "/bans":
                return "\n".join(found or ["Nobody is banned or muted"])
            case "/rooms":
                return "\n".join([", ".join(describe_room(room)) for room in found] or ["No rooms"])
        names = " ".join(_describe_user(seen) for seen in found)
        return f"{len(found)} {f'in {to}' if to else 'here'}: {names}"

    def found(self, mark: object, command: Command, messages: Sequence[Received]) -> str:
        """Format: the answer to /history or /search."""
        if not messages:
            return "Nothing found"
        return "\n".join(
            self._message(f"{m.time[:16].replace('T', ' ')} {m.sender} to {m.to}", m)
            for m in messages
        )

    def described(self, mark: object, profile: Profile) -> str:
        """Format: the answer to /whois."""
        kind = "an account" if profile.account else "a guest"
        operator = ", an operator of the server" if profile.operator else ""
        name = f" ({profile.real_name})" if profile.real_name else ""
        bot = ", a bot" if profile.bot else ""
        since = f" since {profile.since[:16].replace('T', ' ')}" if profile.since else ""
        why = f": {profile.why}" if profile.why else ""
        rooms = " ".join(profile.rooms) or "none"
        return (
            f"{profile.user}{name} is {kind}{bot}{operator}{since}, {profile.state.value}{why}; "
            f"rooms with you: {rooms}"
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

    def greeting(self, name: str, kept: float | None) -> str:
        """Format: the user is registered.

        :param kept: for how many seconds messages are kept, as in ``Welcome``.
        """
        greeting = f"{name} : REGISTERED (/help tells what can be typed)"
        return "\n".join([greeting, *describe_kept(kept)])

    def received(self, message: Received) -> str:
        """Format: a message."""
        direct = conversation_of(message, self.user) == message.sender
        return self._message(
            message.sender if direct else f"{message.sender} to {message.to}", message
        )

    def told(self, mark: object, event: Event) -> str:
        """Format: an event; empty for a read marker."""
        room, user, by = event.room, event.user, event.by or "The server"
        own = fold(user) == fold(self.user)
        reason = f": {event.reason}" if event.reason else ""
        match event.verb:
            case "JOINED":
                topic = f" ({event.topic})" if event.topic else ""
                modes = f" [{', '.join(event.modes)}]" if event.modes else ""
                return f"{user} joined {room}{topic}{modes}"
            case "LEFT" if event.by:
                return f"{user} was removed from {room} by {by}{reason}"
            case "LEFT":
                return f"{user} left {room}{reason}"
            case "INVITED" if own:
                return f"{by} invites you to {room} (/join {room})"
            case "INVITED":
                return f"{user} is invited to {room}"
            case "RANK":
                return _describe_rank(event)
            case "MODE" if event.mode:
                unknown = f"set mode {event.mode} of {{room}} {'on' if event.on else 'off'}"
                return f"{by} {_MODES.get((event.mode, event.on), unknown).format(room=room)}"
            case "MODE":
                return f"{room}: {', '.join(event.modes) or 'no modes'}"
            case "BAN":
                return f"{by} banned {user} from {room}{reason}"
            case "UNBAN":
                return f"{by} ended the ban of {user} from {room}"
            case "RENAMED" if fold(event.new_name) == fold(self.user):
                return f"You are {event.new_name} now"
            case "RENAMED":
                return f"{user} is {event.new_name} now"
            case "DELETED":
                is_public = event.conversation == "ALL" or event.conversation.startswith("#")
                where = f" in {event.conversation}" if is_public else ""
                return f"{by} deleted message {event.number}{where}{reason}"
            case "READ":
                return ""
            case "TOPIC" if user:
                return f"{user} set the topic of {room}: {event.topic or ''}"
        return f"{room}: {event.topic or 'no topic'}"

    def seen(self, users: Sequence[Seen]) -> str:
        """Format: changes of presence, which are not printed."""
        return ""

    def noticed(self, text: str) -> str:
        """Format: a notice from the server."""
        return "\n".join(lines(text))

    def disconnected(self, reason: str) -> str:
        """Format: the connection is lost."""
        return "Connection lost, trying again"

    def reconnected(self, moved_to: str) -> str:
        """Format: the session is connected again, to another host if one is given."""
        return f"Connected again, to {moved_to}" if moved_to else "Connected again"

    def went_back(self) -> str:
        """Format: the server has lost the newest messages."""
        return "The server has lost the last messages: an older state of it was restored"

    def over(self, reason: str) -> str:
        """Format: the session has ended, not by the user's choice."""
        return f"Server Inactive : {reason}" if reason else "Server Inactive"

    def _message(self, who: str, message: Received) -> str:
        # Each line starts with the sender, so that nobody can imitate another user's line.
        return "\n".join([f"{who}: {line}" for line in lines(text_of(message))])


def text_of(message: Received) -> str:
    """Return the text of a message as it is shown: without the formatting of IRC clients."""
    return "(deleted)" if message.deleted else unformatted(message.text)


def describe_kept(seconds: float | None) -> list[str]:
    """Describe in one line for how long messages are kept; in none if it is not known."""
    if seconds is None:
        return []
    if not seconds:
        return ["Messages are not kept."]
    if seconds == math.inf:
        return ["Messages are kept for ever."]
    unit, name = next(pair for pair in _UNITS if seconds % pair[0] == 0)
    count = int(seconds) // unit
    return [f"Messages are kept for {count} {name}{'' if count == 1 else 's'}."]


def describe_room(room: Room) -> list[str]:
    """Describe a room in a few short parts."""
    members = "1 member" if room.members == 1 else f"{room.members} members"
    own = ["you are in it"] if room.member else []
    return [room.name, members, *own, *(["private"] if room.private else [])]


def _describe_rank(event: Event) -> str:
    user, room, by = event.user, event.room, event.by
    match event.rank:
        case "operator":
            said = f"made {user} an operator of {room}", f"is an operator of {room} now"
        case "voice":
            said = f"gave {user} a voice in {room}", f"has a voice in {room} now"
        case "none":
            said = f"ended the rank of {user} in {room}", f"has no rank in {room} now"
        case other:
            said = f"made {user} {other} in {room}", f"is {other} in {room} now"
    return f"{by} {said[0]}" if by else f"{user} {said[1]}"


def _describe_user(seen: Seen) -> str:
    state = "" if seen.state is State.HERE else seen.state.value
    about = ", ".join(part for part in (seen.rank, state) if part)
    why = f": {seen.why}" if seen.why else ""
    return f"{seen.user} ({about}{why})" if about else seen.user
