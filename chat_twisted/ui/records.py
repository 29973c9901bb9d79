"""Formats events and answers as JSON for programs: one object per line, in both directions
(docs/scripts.rst).

It has the same methods as ``wording``. The output is ASCII, so it is valid in any locale and safe
on any terminal. This module must not know when something is printed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from chat_twisted.ui.commands import Command, Mistake, ParsedLine, Say
from chat_twisted.ui.help import help_text
from chat_twisted.ui.parsing import parse
from chat_twisted.ui.values import Event, Listed, Profile, Received, Refusal, Room, Seen

USAGE = 'an object a line: {"to": "bob", "text": "hello"} or {"command": "/who"}'


def _event(event: str, mark: object = None, **fields: Any) -> str:
    mine = {} if mark is None else {"id": mark}
    return json.dumps({"event": event, **mine, **fields})


def _message(message: Received) -> dict[str, Any]:
    deleted = {"deleted": True} if message.deleted else {}
    return {
        "number": message.number,
        "time": message.time,
        "from": message.sender,
        "to": message.to,
        "text": message.text,
        **deleted,
    }


def _seen(seen: Seen) -> dict[str, Any]:
    more = {"why": seen.why, "rank": seen.rank}
    return {"user": seen.user, "state": seen.state.value, **_given(more)}


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    """Return those of the fields that have a value."""
    return {name: value for name, value in fields.items() if value}


class Records:
    """The JSON format of a pipe.

    :ivar user: the user's own name.
    """

    def __init__(self, user: str) -> None:
        self.user = user

    def parse(self, line: str) -> tuple[ParsedLine | None, object]:
        """Parse a line of input; return the request, and the ``id`` for its answers."""
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
                if isinstance(order, Command | Say | Mistake):
                    return order, mark
        return Mistake(USAGE), mark

    def parse_once(self, text: str) -> tuple[ParsedLine | None, object]:
        """Parse the argument of --once: an object, or text as a person types it, which never starts
        with a brace.
        """
        return self.parse(text) if text.lstrip().startswith("{") else (parse(text), None)

    # Answers to requests. ``mark`` is the user's ID of the request, ``to`` its subject.

    def accepted(self, mark: object, to: str, number: int, time: str) -> str:
        """Format: a direct message is committed."""
        return _event("sent", mark, to=to, number=number, time=time)

    sent = accepted

    def delivered(self, mark: object, to: str) -> str:
        """Format: a direct message was delivered."""
        return _event("delivered", mark, to=to)

    def overdue(self, mark: object, to: str) -> str:
        """Format: a direct message was not delivered in time."""
        return _event("undelivered", mark, to=to)

    def not_sent(self, mark: object, to: str, refusal: Refusal) -> str:
        """Format: a message was refused."""
        return _event("refused", mark, to=to, code=refusal.code, reason=refusal.text)

    def unanswered(self, mark: object, to: str) -> str:
        """Format: the session has ended without an answer to a request."""
        return _event("unanswered", mark, to=to)

    def refused(self, mark: object, command: Command, to: str, refusal: Refusal) -> str:
        """Format: a command was refused."""
        about = {"about": to} if to else {}
        return _event(
            "refused",
            mark,
            command=command.name,
            **about,
            code=refusal.code,
            reason=refusal.text,
        )

    def changed(self, mark: object, command: Command, what: str, lines: Sequence[str]) -> str:
        """Format: a command was carried out."""
        keys = {"keys": list(lines)} if what == "keys" else {}
        return _event("done", mark, command=command.name, about=what, **keys)

    def listed(self, mark: object, command: Command, to: str, found: Listed) -> str:
        """Format: the answer to /who, /rooms or /bans."""
        match command.name:
            case "/bans":
                return _event("bans", mark, bans=found, **_given({"room": to}))
            case "/rooms":
                return _event("rooms", mark, rooms=[_room(room) for room in found])
        room = {"room": to} if to else {}
        return _event("who", mark, **room, users=[_seen(seen) for seen in found])

    def found(self, mark: object, command: Command, messages: Sequence[Received]) -> str:
        """Format: the answer to /history or /search."""
        found = [_message(message) for message in messages]
        return _event(command.name.removeprefix("/"), mark, messages=found)

    def described(self, mark: object, profile: Profile) -> str:
        """Format: the answer to /whois."""
        return _event(
            "whois",
            mark,
            user=profile.user,
            account=profile.account,
            operator=profile.operator,
            bot=profile.bot,
            since=profile.since,
            state=profile.state.value,
            rooms=profile.rooms,
            **_given({"why": profile.why, "real_name": profile.real_name}),
        )

    def help(self, mark: object, topic: str | None) -> str:
        """Format: the help."""
        return _event("help", mark, text=help_text(topic))

    def noted(self, mark: object, text: str) -> str:
        """Format: a command of the client itself was carried out."""
        return _event("noted", mark, text=text)

    def mistake(self, mark: object, text: str) -> str:
        """Format: a line of input has no meaning."""
        return _event("mistake", mark, text=text)

    # Events

    def greeting(self, name: str, kept: float | None) -> str:
        """Format: the user is registered; ``kept`` is as in ``Welcome``."""
        words = {None: {}, math.inf: {"kept": "ever"}, 0: {"kept": "off"}}
        return _event("registered", user=name, **words.get(kept, {"kept": kept}))

    def received(self, message: Received) -> str:
        """Format: a message."""
        return _event("message", **_message(message))

    def told(self, mark: object, event: Event) -> str:
        """Format: an event."""
        verb, by = event.verb.lower(), _given({"by": event.by})
        match event.verb:
            case "RENAMED":
                return _event(verb, mark, user=event.user, to=event.new_name)
            case "DELETED" | "READ":
                about = {"conversation": event.conversation, "number": event.number}
                return _event(verb, mark, **about, **by, **_given({"reason": event.reason}))
            case "MODE" if event.mode:
                return _event(verb, mark, room=event.room, mode=event.mode, on=event.on, **by)
            case "MODE":
                return _event(verb, mark, room=event.room, modes=event.modes)
        topic = {} if event.topic is None else {"topic": event.topic}
        more = {
            "rank": event.rank,
            "reason": event.reason,
            "modes": event.modes,
            "operators": event.operators,
        }
        about = {"room": event.room, "user": event.user}
        return _event(verb, mark, **about, **by, **topic, **_given(more))

    def seen(self, users: Sequence[Seen]) -> str:
        """Format: changes of presence."""
        return "\n".join(_event("presence", **_seen(user)) for user in users)

    def noticed(self, text: str) -> str:
        """Format: a notice from the server."""
        return _event("notice", text=text)

    def disconnected(self, reason: str) -> str:
        """Format: the connection is lost."""
        return _event("disconnected", reason=reason)

    def reconnected(self, moved_to: str) -> str:
        """Format: the session is connected again, to another host if one is given."""
        return _event("reconnected", **_given({"host": moved_to}))

    def went_back(self) -> str:
        """Format: the server has lost the newest messages."""
        return _event("went_back")

    def over(self, reason: str) -> str:
        """Format: the session has ended, not by the user's choice."""
        return _event("over", reason=reason)


def _no_constant(name: str) -> None:
    """Refuse NaN and Infinity, which are not JSON but which Python would accept."""
    raise ValueError(f"{name} is no JSON")


def _is_text(given: str) -> bool:
    """Return whether a text can be encoded: JSON may contain a lone surrogate."""
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
