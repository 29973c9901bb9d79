"""Carries out the commands that need the server, and asks the user what they need.

``Asker`` makes requests of commands and returns their answers as values. This module must not know
how a question is asked, or how an answer is shown.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from twisted.internet.defer import Deferred

from chat_twisted.ui.commands import Command, split_duration
from chat_twisted.ui.errors import IdentityError
from chat_twisted.ui.pages import Pages
from chat_twisted.ui.requests import ChatRequests
from chat_twisted.ui.values import Done, Event, Found, Listed, Profile

Answer = Event | Done | Found | Profile | Listed
"""The answer to a command."""


class Questions(Protocol):
    """Asks the user."""

    def ask(self, what: str, *, secret: bool) -> Deferred[str]:
        """Ask the user for a line.

        :param what: the question.
        :param secret: whether to hide the answer.
        :return: fires with the answer; empty if the user gave none.
        """


class UserFiles(Protocol):
    """The user's key and files.

    :ivar password: the user's password, or empty.
    """

    password: str

    def public(self) -> str:
        """Return the user's public key as one line; empty if they have come without one.

        :raises IdentityError: if it can't be read.
        """

    def read_key(self, given: str) -> str:
        """Return the public key that the user has named.

        :raises IdentityError: if there is none.
        """

    async def export(self, session: ChatRequests, name: str) -> str:
        """Save all messages of the user in a new file; return what was done, for people.

        :raises IdentityError: if the file can't be written.
        """


async def agrees(questions: Questions, question: str) -> bool:
    """Ask a question, and return whether the user has answered yes."""
    answer = await questions.ask(f"{question} [y/N] ", secret=False)
    return answer.strip().lower() in ("y", "yes")


def room_of(name: str) -> str:
    """Return the name of a room, which may have been typed without its ``#``."""
    return name if name.startswith("#") else f"#{name}"


def about(command: Command, current: str = "ALL") -> str:
    """Return the subject of a command, such as a room, for the text of its answer."""
    match command.name:
        case "/join":
            return room_of(command.first or "")
        case "/history":
            return (command.first or current).removeprefix("@")
        case "/search" | "/away" | "/back":
            return ""
    return command.room or command.first or ""


class Asker:
    """Carries out commands with a session."""

    def __init__(self, session: ChatRequests, questions: Questions, files: UserFiles) -> None:
        self._session = session
        self._questions = questions
        self._files = files

    async def perform(self, command: Command, current: str = "ALL") -> Answer | str:
        """Carry out a command; its request is sent at once.

        :param current: the conversation for ``/history`` if the command names none.
        :return: the answer; or a text for people.
        :raises Refused, NotConnected: as the methods of ``ChatRequests``.
        :raises IdentityError: if a key, a password or a file is not available.
        """
        session, first, second = self._session, command.first or "", command.second or ""
        room = command.room or ""
        match command.name:
            case "/who" if first:
                return await session.members(first)
            case "/who":
                return await session.who()
            case "/rooms":
                return await session.rooms()
            case "/nick":
                return await session.rename(first)
            case "/delete":
                return await session.delete(int(first))
            case "/history" | "/search" if command.reading is not None:
                reading = command.reading
                if command.name == "/history" and not reading.place:
                    reading = replace(reading, place=current)
                return await Pages(session, reading).next()
            case "/join":
                return await session.enter(room_of(first), private=bool(second))
            case "/leave":
                return await session.leave(first, second)
            case "/topic":
                return await session.topic_event(first, command.second)
            case "/invite":
                return await session.invite(first, second)
            case "/op" | "/deop" | "/voice" | "/devoice":
                rank = {"/op": "operator", "/voice": "voice"}.get(command.name, "none")
                return await session.set_rank(room, first, rank)
            case "/mode" if first:
                return await session.set_mode(room, first, second != "off")
            case "/mode":
                return Event("MODE", room, "", "", None, modes=tuple(await session.modes(room)))
            case "/bans":
                return await session.bans(room)
            case "/kick" if room:
                return await session.kick(room, first, second)
            case "/kick":
                return await session.disconnect(first, second)
            case "/ban" if room:
                return await session.ban(room, first, second)
            case "/unban" if room:
                return await session.unban(room, first)
            case "/ban" | "/mute":
                duration, reason = split_duration(second)
                return await session.impose(command.name[1:].upper(), first, duration, reason)
            case "/unban" | "/unmute":
                return await session.lift(command.name[1:].upper(), first)
            case "/away":
                await session.set_away(first)
                return Done("away")
            case "/back":
                await session.set_back()
                return Done("here")
            case "/whois":
                return await session.whois(first)
        return await self._account(command)

    async def _account(self, command: Command) -> Answer | str:
        session, files = self._session, self._files
        match command:
            case Command("/register"):
                key = files.public()
                password = "" if key else await self._new_password()
                return await session.register(key, password)
            case Command("/password"):
                return await session.set_password(await self._new_password())
            case Command("/keys", "add", name):
                return await session.add_key(files.read_key(name or ""))
            case Command("/keys", "remove", key):
                return await session.remove_key(key or "")
            case Command("/keys"):
                return await session.keys()
            case Command("/account", "export", name):
                return await files.export(session, name or "")
            case Command("/account", "unregister", erase):
                return await session.unregister(erase=bool(erase))
        raise ValueError(command.name)

    async def _new_password(self) -> str:
        password = await self._questions.ask("New password: ", secret=True)
        if not password:
            raise IdentityError("No password was given")
        if await self._questions.ask("Again: ", secret=True) != password:
            raise IdentityError("The two are not the same")
        self._files.password = password  # for a reconnect
        return password
