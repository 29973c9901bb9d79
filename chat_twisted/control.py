"""The requests of the operator's command (``admin``), and their answers.

``Control`` makes a command of the console from a request. It has its place in the order like the
commands of users, and the answer follows the commit. Requests and answers are JSON objects;
``control_socket`` transfers them, or ``offline`` if no server runs. This module must not know SQL,
files, or the output of the command.

Lists are answered by page: ``more`` says that the list continues; the next request has the ``key``
of the last item as ``after``.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any, Protocol

import argon2
from twisted.internet.defer import Deferred

from chat_twisted import __version__
from chat_twisted.auth.keys import parse_key
from chat_twisted.core import commands
from chat_twisted.core.audit import audit_console
from chat_twisted.core.commands import BAN, CONSOLE, CONSOLE_NAME, MUTE, Command, new_id
from chat_twisted.core.entries import Disconnected, Result
from chat_twisted.core.errors import (
    ChatError,
    HasAccount,
    LastWayIn,
    MalformedName,
    NoAccount,
    NoSuchKey,
    NoSuchSanction,
    NotPermitted,
    TextTooLong,
    TooManyKeys,
    TooManyThere,
    UnableToSend,
)
from chat_twisted.core.hub import Population
from chat_twisted.core.message import check_user_name, fold
from chat_twisted.core.model import REMEMBER, User
from chat_twisted.core.ordered import Listing
from chat_twisted.core.sanctions import parse_duration, parse_subject
from chat_twisted.core.sessions import Session
from chat_twisted.core.state import State
from chat_twisted.text import printable

PAGE = 100
"""Maximum number of items in one answer."""

MAX_MOTD = 10_000
"""Maximum characters of the message of the day."""

SHORTEST = REMEMBER // 1000
"""Seconds for which messages are kept at least: they are needed to detect duplicates."""

LONGEST = 10**11
"""Seconds of the greatest age; that is more than three thousand years."""

MAX_HASH = 500
"""Maximum characters of the hash of a password."""

NODE_NAME = re.compile(r"[a-z0-9-]{1,32}")
"""The names of nodes (``--node``)."""

Answer = dict[str, Any]


class Chat(Protocol):
    """The part of the chat that ``Control`` uses: ``core.hub.Hub``, or ``offline`` without a
    server.
    """

    @property
    def state(self) -> State:
        """The state that decides."""

    def ask(self, command: Command) -> Deferred[Result]:
        """Propose a command.

        :return: fires with its result, or fails with a ``ChatError`` if it is refused.
        """

    def settled(self) -> float:
        """Return the time of day from which durations are counted, in seconds since the epoch."""

    def who(self, after: str = "") -> Listing[User]:
        """Return the present users in the order of their names.

        :param after: the folded name after which the items begin.
        """

    def sessions_of(self, user: User) -> Collection[Session]:
        """Return the sessions of a user on this node."""

    def confirmed(self, user: User) -> int:
        """Return the number up to which a user has confirmed all messages."""

    def population(self) -> Population:
        """Count users, sessions, held guests, accounts and rooms."""


class Server(Protocol):
    """The part of a running server that ``Control`` uses."""

    def describe(self) -> Mapping[str, Any]:
        """Describe the process, its connections and its storage as values for JSON.

        ``process``, its ID; ``uptime`` in seconds; ``not_accepting``, why no clients are accepted,
        else empty; ``connections``, their number by kind; ``rates``, per second over the last
        minute; ``queues``, how much waits; ``unsent``, output that waits for clients in bytes;
        ``certificate``; ``host_keys``, their fingerprints; ``descriptors``, how many the system
        allows; ``retain`` in seconds, or None; and of a node ``cluster``.
        """

    @property
    def motd(self) -> str:
        """The message of the day; empty for none."""

    def set_motd(self, motd: str) -> None:
        """Set it for the next logins, until the options are read again."""

    @property
    def retain(self) -> float | None:
        """Seconds for which messages are kept; None means for ever."""

    def delete_older(self, seconds: float) -> Deferred[int]:
        """Delete some of the messages that are older than ``seconds``.

        :return: fires with their number; 0 means that none is left.
        """


class Cluster(Protocol):
    """The part of a cluster's node that ``Control`` uses."""

    def status(self) -> Mapping[str, Any]:
        """Describe this node, and the others as this node knows them, as values for JSON.

        Of each node: ``node``, its name, and ``position`` in the log. Of one that runs also
        ``in_touch``, ``format``, ``chain`` and ``nodes``; of each of those ``name``, ``member``,
        ``position``, ``silent`` and ``format``. ``incarnation``, ``stream`` and ``last`` may be
        there.
        """

    def forget(self, name: str) -> Deferred[None]:
        """Remove a node that will not come back from the known nodes.

        :return: fires when that is committed, or fails with a ``ChatError`` whose text is the
            reason.
        """


_WHY: dict[type[ChatError], str] = {
    NoAccount: "there is no account {name}",
    HasAccount: "{name} is the name of somebody: an account, or a guest",
    NoSuchKey: "the account has no such key",
    LastWayIn: "it is its last way in",
    TooManyKeys: "the account has as many keys as it may have",
    NoSuchSanction: "there is no such ban or mute",
    UnableToSend: "the user is not here",
    TextTooLong: "a reason is one line of at most 200 bytes",
    TooManyThere: "there are too many bans and mutes",
}
"""Texts for the operator about refusals."""


class Control:
    """Does the requests of the operator.

    :param server: the running server; None without one.
    :param cluster: the node that this server is; None for a single server.
    """

    def __init__(
        self,
        chat: Chat,
        server: Server | None,
        cluster: Cluster | None = None,
    ) -> None:
        self._chat = chat
        self._server = server
        self._cluster = cluster

    async def ask(self, request: object) -> Answer:
        """Do a request; return its answer after the commit.

        :param request: any value that was parsed from JSON.
        :raises ChatError: if it is refused; the error's text is the reason.
        """
        if not isinstance(request, dict):
            raise NotPermitted("a request is a JSON object")
        match request:
            case {"ask": "list accounts", "after": str(after)}:
                return self._list_accounts(after)
            case {"ask": "list keys", "name": str(name)}:
                return self._list_keys(name)
            case {"ask": "list users", "after": str(after)}:
                return self._list_users(after)
            case {"ask": "list sanctions", "after": str(after)}:
                return self._list_sanctions(after)
            case {"ask": "status"}:
                population = self._chat.population()
                server = {} if self._server is None else self._server.describe()
                return {"version": __version__, **population._asdict(), **server}
            case {"ask": "motd"}:
                return {"text": self._require_server().motd}
            case {"ask": "set motd", "text": str(text)}:
                return self._set_motd(text)
            case {"ask": "delete old", "seconds": int() | None as age, "deleted": int(before)}:
                return await self._delete_old(age, begins=before == 0)
            case {"ask": "pardon", "subject": str(subject)}:
                return await self._pardon(subject)
            case {"ask": "cluster status"}:
                return dict(self._require_cluster().status())
            case {"ask": "forget node", "name": str(name)}:
                cluster = self._require_cluster()
                if not NODE_NAME.fullmatch(name):
                    raise NotPermitted(f"{name!r} is no name of a node: 1 to 32 of a-z, 0-9 and -")
                await cluster.forget(name)
                return {}
        try:
            result = await self._chat.ask(_command(request, self._chat.settled()))
        except ChatError as error:
            if (why := _WHY.get(type(error))) is not None:
                raise NotPermitted(why.format(name=request.get("name"))) from None
            raise
        return {"name": result.name} if isinstance(result, Disconnected) else {}

    def _require_server(self) -> Server:
        """Return the running server.

        :raises NotPermitted: if none runs.
        """
        if self._server is None:
            raise NotPermitted("the server does not run")
        return self._server

    def _set_motd(self, text: str) -> Answer:
        _check_text(text)
        if len(text) > MAX_MOTD:
            raise NotPermitted(f"a message of the day has at most {MAX_MOTD} characters")
        self._require_server().set_motd(text)
        audit_console("set motd" if text else "remove motd", "server")
        return {}

    async def _delete_old(self, seconds: int | None, *, begins: bool) -> Answer:
        """Delete some of the messages that are older than ``seconds``, or than ``--retain``."""
        server = self._require_server()
        age = server.retain if seconds is None else seconds
        if age is None:
            raise NotPermitted("the server keeps all messages: say how old those to delete are")
        if age > LONGEST:
            raise NotPermitted(f"an age is at most {LONGEST} seconds")
        if age < SHORTEST:
            raise NotPermitted(f"messages are kept for {SHORTEST} seconds at least")
        if begins:
            audit_console("delete messages", f"older than {age:.0f} seconds")
        return {"deleted": await server.delete_older(age), "seconds": age}

    def _require_cluster(self) -> Cluster:
        """Return the node that this server is.

        :raises NotPermitted: if it is none.
        """
        if self._cluster is None:
            raise NotPermitted("this server is not in a cluster")
        return self._cluster

    async def _pardon(self, subject: str) -> Answer:
        """Lift all sanctions of a subject."""
        _check_text(subject)
        subject = parse_subject(subject)
        found = False
        for kind in (BAN, MUTE):
            with contextlib.suppress(NoSuchSanction):
                await self._chat.ask(commands.Lift(CONSOLE, 0, kind, subject))
                found = True
        if not found:
            raise NotPermitted(f"there is no ban or mute of {subject}")
        return {}

    def _list_accounts(self, after: str) -> Answer:
        items = []
        for user in islice(self._chat.state.accounts.after(fold(after)), PAGE + 1):
            account = user.account
            assert account is not None, "it is a list of accounts"
            item = {"key": user.name, "name": user.name, "operator": account.operator}
            items.append({**item, "keys": len(account.keys), "password": bool(account.password)})
        return _page(items)

    def _list_keys(self, name: str) -> Answer:
        user = self._chat.state.names.get(fold(name))
        if user is None or user.account is None:
            raise NotPermitted(_WHY[NoAccount].format(name=name))
        keys = ((key, comment) for key, (comment, _) in user.account.keys.items())
        return {"items": [f"{key} {comment}".rstrip() for key, comment in keys]}

    def _list_users(self, after: str) -> Answer:
        """List the present users. With ``user`` and ``confirmed``, the command can count in the
        archive how many messages a user has not confirmed.
        """
        users = islice(self._chat.who(fold(after)).items, PAGE + 1)
        return _page(self._describe_user(user) for user in users)

    def _describe_user(self, user: User) -> Answer:
        """Describe a user. ``by``, ``since`` and ``spoke`` are of the sessions on this node: how
        they are connected, the time of the first login, and that of the last message, in
        milliseconds; None if there is none.
        """
        here = self._chat.sessions_of(user)
        return {
            "key": user.key,
            "name": user.name,
            "account": user.account is not None,
            "operator": user.operator,
            "sessions": len(user.sessions),
            "from": sorted({session.host or "local" for session in user.sessions.values()}),
            "by": sorted({session.way for session in here}),
            "since": min((session.since for session in here), default=None),
            "spoke": max((session.spoke for session in here), default=0) or None,
            "rooms": sorted(room.name for room in user.rooms.values()),
            "away": user.away,
            "user": user.id,
            "confirmed": self._chat.confirmed(user),
        }

    def _list_sanctions(self, after: str) -> Answer:
        sanctions = islice(self._chat.state.sanctions_in_order.after(after), PAGE + 1)
        return _page(
            {
                "key": sanction.key,
                "kind": sanction.kind,
                "subject": sanction.subject,
                "until": sanction.until,
                "reason": sanction.reason,
                "by": sanction.author or CONSOLE_NAME,
            }
            for sanction in sanctions
        )


def _command(request: dict[str, Any], now: float) -> Command:
    """Return the command of a request.

    :param now: the time of day from which durations are counted, in seconds since the epoch.
    :raises NotPermitted: if the request or one of its values is not valid.
    """
    _check_text(*(text for text in request.values() if isinstance(text, str)))
    by = (CONSOLE, 0)
    match request:
        case {"ask": "add account", "name": str(name), "key": str(key), "hash": str(hash)}:
            _check_name(name)
            _check_hash(hash)
            public, comment = parse_key(key) if key else ("", "")
            time = int(now * 1000)
            return commands.MakeAccount(*by, public, comment, hash, name, new_id(), time)
        case {"ask": "remove account", "name": str(name)}:
            return commands.DropAccount(*by, name=name)
        case {"ask": "set password", "name": str(name), "hash": str(hash)}:
            _check_hash(hash)
            return commands.SetPassword(*by, hash, name)
        case {"ask": "add key", "name": str(name), "key": str(key)}:
            return commands.AddKey(*by, *parse_key(key), name)
        case {"ask": "remove key", "name": str(name), "key": str(key)}:
            return commands.RemoveKey(*by, parse_key(key)[0], name)
        case {"ask": "make operator" | "make no operator" as verb, "name": str(name)}:
            return commands.SetOperator(*by, name, verb == "make operator")
        case {"ask": "lift", "kind": "ban" | "mute" as kind, "subject": str(subject)}:
            return commands.Lift(*by, kind, parse_subject(subject))
        case {"ask": "say", "text": str(text)}:
            if printable(text) != text:
                raise NotPermitted("an announcement has no control characters")
            return commands.Announce(*by, text)
        case {"ask": "kick", "name": str(name), "reason": str(reason)}:
            return commands.Disconnect(*by, name, reason)
        case {
            "ask": "ban" | "mute" as kind,
            "subject": str(subject),
            "duration": str(duration),
            "reason": str(reason),
        }:
            if kind == MUTE:
                _check_name(subject)
            until = parse_duration(duration, now)
            return commands.Impose(*by, kind, parse_subject(subject), until, reason)
    raise NotPermitted("the server does not know this request; it may be of another version")


def _page(found: Any) -> Answer:
    items = list(found)
    return {"items": items[:PAGE], "more": len(items) > PAGE}


def _check_text(*texts: str) -> None:
    """Check that texts can be stored: JSON may contain halves of surrogate pairs.

    :raises NotPermitted: if they can't.
    """
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        raise NotPermitted("not a text in UTF-8") from None


def _check_name(name: str) -> None:
    """Check that a name is valid for a user.

    :raises NotPermitted: if it is not.
    """
    try:
        check_user_name(name)
    except MalformedName:
        raise NotPermitted(f"{name!r} is no name: 1 to 32 letters, digits, _ and -") from None


def _check_hash(hash: str) -> None:
    """Check that passwords can be verified with a hash.

    :raises NotPermitted: if they can't.
    """
    try:
        if hash:
            argon2.extract_parameters(hash)
    except argon2.exceptions.InvalidHashError:
        raise NotPermitted("not a hash of a password") from None
    if len(hash) > MAX_HASH or not hash.isascii():
        raise NotPermitted("not a hash of a password")
