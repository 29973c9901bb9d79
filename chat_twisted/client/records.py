"""What happened, as JSON for programs: an object a line, in both directions (docs/scripts.rst).

The same questions as ``words``, the same events; only ASCII is written, so that any locale can
carry it and no terminal takes harm.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from chat_twisted.client.commands import Command, Mistake, ParsedLine, Say, help_text, parse
from chat_twisted.client.incoming import Event, Received, Refusal, Room, Seen
from chat_twisted.client.session import Listed

USAGE = 'an object a line: {"to": "bob", "text": "hello"} or {"command": "/who"}'


def _event(event: str, mark: object = None, **fields: Any) -> str:
    mine = {} if mark is None else {"id": mark}
    return json.dumps({"event": event, **mine, **fields})


def _message(message: Received) -> dict[str, Any]:
    return {
        "number": message.number,
        "time": message.time,
        "from": message.sender,
        "to": message.to,
        "text": message.text,
    }


def _seen(seen: Seen) -> dict[str, Any]:
    why = {"why": seen.why} if seen.why else {}
    return {"user": seen.user, "state": seen.state.value, **why}


class Records:
    """How a program is spoken with. ``user`` is one's own name."""

    def __init__(self, user: str) -> None:
        self.user = user

    def parse(self, line: str) -> tuple[ParsedLine | None, object]:
        """Read a line of input; return the order, and the ``id`` that its answers are to have."""
        if not line.strip():
            return None, None
        try:
            given = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            return Mistake(f"not JSON; {USAGE}"), None
        if not isinstance(given, dict):
            return Mistake(f"not an object; {USAGE}"), None
        mark = given.get("id")
        try:
            json.dumps(mark, allow_nan=False)
        except (ValueError, RecursionError):
            return Mistake("an id that can't be written again, as a number past 1e308"), None
        match given:
            case {"to": str(to), "text": str(text)} if to and text and _is_text(to + text):
                return Say(to.removeprefix("@"), text), mark
            case {"command": str(command)} if _is_text(command):
                order = parse(command) if command.lstrip().startswith("/") else None
                if isinstance(order, Command | Mistake):
                    return order, mark
        return Mistake(USAGE), mark

    def parse_once(self, text: str) -> tuple[ParsedLine | None, object]:
        """Read the only thing that is to be done, from the command line: an object, or what a
        person would write, which never begins as one does.
        """
        return self.parse(text) if text.lstrip().startswith("{") else (parse(text), None)

    # What became of what one asked

    def accepted(self, mark: object, to: str, number: int, time: str) -> str:
        """A direct message is taken by the server."""
        return _event("sent", mark, to=to, number=number, time=time)

    sent = accepted

    def delivered(self, mark: object, to: str) -> str:
        """The recipient of a direct message has it."""
        return _event("delivered", mark, to=to)

    def overdue(self, mark: object, to: str) -> str:
        """The recipient does not have it yet."""
        return _event("undelivered", mark, to=to)

    def not_sent(self, mark: object, to: str, refusal: Refusal) -> str:
        """A message was refused."""
        return _event("refused", mark, to=to, code=refusal.code, reason=refusal.reason)

    def unanswered(self, mark: object, to: str) -> str:
        """A message or a command was not answered before all was over."""
        return _event("unanswered", mark, to=to)

    def refused(self, mark: object, command: Command, to: str, refusal: Refusal) -> str:
        """A command was refused."""
        about = {"about": to} if to else {}
        return _event(
            "refused",
            mark,
            command=command.name,
            **about,
            code=refusal.code,
            reason=refusal.reason,
        )

    def changed(self, mark: object, command: Command, what: str, lines: Sequence[str]) -> str:
        """What was asked is done."""
        keys = {"keys": list(lines)} if what == "keys" else {}
        return _event("done", mark, command=command.name, about=what, **keys)

    def listed(self, mark: object, command: Command, to: str, found: Listed) -> str:
        """Who is here, which rooms there are, who is kept out."""
        match command.name:
            case "/bans":
                return _event("bans", mark, bans=found)
            case "/rooms":
                return _event("rooms", mark, rooms=[_room(room) for room in found])
        room = {"room": to} if to else {}
        return _event("who", mark, **room, users=[_seen(seen) for seen in found])

    def found(self, mark: object, command: Command, messages: Sequence[Received]) -> str:
        """What was said."""
        found = [_message(message) for message in messages]
        return _event(command.name.removeprefix("/"), mark, messages=found)

    def help(self, mark: object, topic: str | None) -> str:
        """What can be asked."""
        return _event("help", mark, text=help_text(topic))

    def noted(self, mark: object, text: str) -> str:
        """What was asked of the client itself is done."""
        return _event("noted", mark, text=text)

    def mistake(self, mark: object, text: str) -> str:
        """What was asked can't be done."""
        return _event("mistake", mark, text=text)

    # What happens

    def greeting(self, name: str) -> str:
        """One is registered."""
        return _event("registered", user=name)

    def received(self, message: Received) -> str:
        """Somebody said something."""
        return _event("message", **_message(message))

    def told(self, mark: object, event: Event) -> str:
        """Something happened in a room."""
        by = {"by": event.by} if event.by else {}
        topic = {} if event.topic is None else {"topic": event.topic}
        return _event(event.verb.lower(), mark, room=event.room, user=event.user, **by, **topic)

    def seen(self, users: Sequence[Seen]) -> str:
        """Somebody came, went, or is away."""
        return "\n".join(_event("presence", **_seen(user)) for user in users)

    def noticed(self, text: str) -> str:
        """The server has something to say."""
        return _event("notice", text=text)

    def disconnected(self, reason: str) -> str:
        """The connection is gone, and is being tried again."""
        return _event("disconnected", reason=reason)

    def reconnected(self) -> str:
        """It stands again."""
        return _event("reconnected")

    def went_back(self) -> str:
        """The server has lost what was said last."""
        return _event("went_back")

    def over(self, reason: str) -> str:
        """The session is over, and that was not one's own wish."""
        return _event("over", reason=reason)


def _no_constant(name: str) -> None:
    """Refuse NaN and Infinity, which JSON does not have and Python would read and write."""
    raise ValueError(f"{name} is no JSON")


def _is_text(given: str) -> bool:
    """Whether it can be written: JSON may have half a character (a surrogate alone)."""
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True


def _room(room: Room) -> dict[str, Any]:
    return {
        "room": room.name,
        "members": room.members,
        "member": room.member,
        "private": room.private,
    }
