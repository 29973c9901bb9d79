"""The rules of the server's operators: bans, mutes, disconnecting users, and announcements.

The subject of a sanction is a folded name, or the canonical text of an address or network
(``parse_subject``). Each rule returns the facts that follow from a command, or raises a
``ChatError`` if the command is refused. It changes nothing.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

from chat_twisted.core.commands import (
    BAN,
    CONSOLE,
    MUTE,
    NONE,
    Announce,
    Disconnect,
    Impose,
    Lift,
)
from chat_twisted.core.entries import Announced, Disconnected, Outcome
from chat_twisted.core.errors import (
    Banned,
    BannedFromRoom,
    MalformedName,
    Muted,
    NoSession,
    NoSuchSanction,
    NotPermitted,
    OperatorRequired,
    RoomIsModerated,
    TextTooLong,
    TooManyThere,
    UnableToSend,
)
from chat_twisted.core.facts import Fact, Imposed, Lifted, SessionGone
from chat_twisted.core.message import check_user_name, fold
from chat_twisted.core.model import Model, Room, Sanction, User

MAX_SANCTIONS = 10_000

MAX_REASON = 200
"""Maximum bytes of a reason."""

MAX_ANNOUNCEMENT = 400
"""Maximum bytes of an announcement: it fits into a line of IRC."""

MAX_DURATION = 10 * 365 * 24 * 60 * 60
"""Maximum duration of a sanction in seconds, unless it never ends."""

_UNITS = {"": 1, "s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60}

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Parsing


def parse_subject(text: str) -> str:
    """Parse the subject of a sanction: a user's name, an address or a network.

    :return: the folded name, or the canonical text.
    :raises NotPermitted: if it is none of these.
    """
    try:
        if "." not in text and ":" not in text:
            return fold(check_user_name(text))
        network = _unmapped(ipaddress.ip_network(text, strict=False))
    except (ValueError, MalformedName):
        raise NotPermitted("neither a name nor an address nor a network") from None
    if network.prefixlen == network.max_prefixlen:
        return str(network.network_address)
    return str(network)


def _unmapped(network: Network) -> Network:
    """Convert IPv4-mapped IPv6 networks to IPv4."""
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < 96:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - 96))


def parse_duration(text: str, now: float) -> int:
    """Parse a duration such as ``90`` (seconds), ``10m``, ``2h`` or ``7d``.

    :param text: the duration; empty means for ever.
    :param now: the time of day, in seconds since the epoch.
    :return: the time of day at which the duration ends, in milliseconds; 0 means never.
    :raises NotPermitted: if it is not a duration, or too long.
    """
    if not text:
        return 0
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= MAX_DURATION:
        raise NotPermitted("not a duration")
    return int((now + seconds) * 1000)


def check_reason(reason: str) -> str:
    """Return a reason without surrounding white space.

    :raises TextTooLong: if it is not one line of at most ``MAX_REASON`` bytes.
    """
    if not reason:
        return reason
    reason = reason.strip()
    if len(reason.encode()) > MAX_REASON or len(reason.splitlines()) > 1:
        raise TextTooLong("a reason that is too long, or not a line")
    return reason


# Checks


def find(model: Model, kind: str, subject: str, now: int) -> Sanction | None:
    """Return the sanction of a subject that is in force now, or None."""
    found = model.sanctions.get((kind, subject))
    return None if found is None or 0 < found.until <= now else found


def banned_address(model: Model, host: str, now: int) -> Sanction | None:
    """Return the ban of an address, or of a network that contains it, or None."""
    try:
        address = _address(host)
    except ValueError:
        return None
    found = find(model, BAN, str(address), now)
    if found is not None:
        return found
    for version, length in sorted(model.banned_networks):
        if version == address.version:
            network = ipaddress.ip_network((address, length), strict=False)
            if (found := find(model, BAN, str(network), now)) is not None:
                return found
    return None


def check_ban(model: Model, name: str, host: str, now: int) -> None:
    """Check that neither a name nor an address is banned.

    :param host: the address; empty for a local socket.
    :raises Banned: if one of them is.
    """
    if not model.sanctions:
        return
    ban = find(model, BAN, fold(name), now)
    if ban is None and host:
        ban = banned_address(model, host, now)
    if ban is not None:
        raise Banned(ban.until, ban.reason, ban.author)


def check_voice(model: Model, user: User, now: int) -> None:
    """Check that a user is not muted.

    :raises Muted: if they are.
    """
    if model.sanctions and (mute := find(model, MUTE, user.key, now)) is not None:
        raise Muted(mute.until, mute.reason, mute.author)


def check_room_ban(room: Room, user: User) -> None:
    """Check that a user's name is not banned from a room.

    :raises BannedFromRoom: if it is.
    """
    if (ban := room.bans.get(user.key)) is not None:
        raise BannedFromRoom(why=ban.reason, by=ban.author)


def check_may_speak(room: Room, user: User) -> None:
    """Check that a member may send to a room.

    :raises RoomIsModerated: if only operators and voices may.
    :raises BannedFromRoom: if the name is banned.
    """
    rank = room.members[user.id].rank
    if rank == NONE:
        if "moderated" in room.modes:
            raise RoomIsModerated
        check_room_ban(room, user)


def checked_reason(model: Model, room: Room | None, user: User, reason: str, now: int) -> str:
    """Return a reason without surrounding white space. Others read it, so only those can give one
    who may send: to the room, if its members read it.
    """
    reason = check_reason(reason)
    if reason:
        check_voice(model, user, now)
        if room is not None:
            check_may_speak(room, user)
    return reason


def due(model: Model, now: int, limit: int) -> list[Fact]:
    """Return the facts that end sanctions whose time is over, at most ``limit`` of them."""
    found: list[Fact] = []
    for sanction in model.sanctions_ending.after((0, "")):
        if len(found) >= limit or sanction.until > now:
            break
        found.append(Lifted(sanction.kind, sanction.subject, 0))
    return found


# Commands


def operating(model: Model, user: int, epoch: int) -> str:
    """Return the name of the asking operator; empty for the console.

    :raises NoSession: if the session has ended.
    :raises OperatorRequired: if the asker is not an operator.
    """
    if user == CONSOLE:
        return ""
    asker = model.users.get(user)
    if asker is None or epoch not in asker.sessions:
        raise NoSession
    if not asker.operator:
        raise OperatorRequired
    return asker.name


def impose(model: Model, command: Impose, now: int) -> Outcome:
    """Impose a sanction. A ban ends the sessions of the banned users, except operators."""
    author = operating(model, command.user, command.epoch)
    kind, subject, reason = command.kind, command.subject, check_reason(command.reason)
    if kind == MUTE and network_of(subject) is not None:
        raise NotPermitted("users are muted, not addresses")
    if (kind, subject) not in model.sanctions and len(model.sanctions) >= MAX_SANCTIONS:
        raise TooManyThere("too many sanctions")
    facts: list[Fact] = [Imposed(kind, subject, command.until, reason, author, command.user)]
    if kind == BAN:
        named = model.names.get(subject)
        network = network_of(subject)
        users = list(model.users.values()) if network else [] if named is None else [named]
        facts += [
            SessionGone(user.id, epoch, True, session.address, command.user, reason)
            for user in users
            if not user.operator
            for epoch, session in user.sessions.items()
            if network is None or is_within(session.host, network)
        ]
    return Outcome(tuple(facts))


def lift(model: Model, command: Lift, now: int) -> Outcome:
    """End a sanction."""
    operating(model, command.user, command.epoch)
    if (command.kind, command.subject) not in model.sanctions:
        raise NoSuchSanction
    return Outcome((Lifted(command.kind, command.subject, command.user),))


def disconnect(model: Model, command: Disconnect, now: int) -> Outcome:
    """Close all sessions of a user."""
    operating(model, command.user, command.epoch)
    reason = check_reason(command.reason)
    user = model.names.get(fold(command.whom))
    if user is None or not user.sessions:
        raise UnableToSend("the user is not here")
    gone = tuple(
        SessionGone(user.id, epoch, True, session.address, command.user, reason)
        for epoch, session in user.sessions.items()
    )
    return Outcome(gone, Disconnected(user.name))


def announce(model: Model, command: Announce, now: int) -> Outcome:
    """Tell all present users something that is not kept."""
    operating(model, command.user, command.epoch)
    text = command.text.strip()
    if not 0 < len(text.encode()) <= MAX_ANNOUNCEMENT or len(text.splitlines()) > 1:
        raise NotPermitted(f"an announcement is one line of 1 to {MAX_ANNOUNCEMENT} bytes")
    return Outcome((), Announced(text))


# Addresses


def network_of(subject: str) -> Network | None:
    """Return the network of a ban, which may be a single address; None if the subject is a name."""
    return ipaddress.ip_network(subject) if "." in subject or ":" in subject else None


def is_within(host: str, network: Network) -> bool:
    """Return whether a peer's address is in ``network``. A local socket is in no network."""
    try:
        return bool(host) and _address(host) in network
    except ValueError:
        return False


@lru_cache(maxsize=16_384)
def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def network_length(subject: str) -> tuple[int, int] | None:
    """Return the IP version and the prefix length of a network; None for a name or an address."""
    if "/" not in subject:
        return None
    network = ipaddress.ip_network(subject)
    return network.version, network.prefixlen
