"""The settings of a user interface, and the values that it keeps between two starts.

This module must not know where they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Settings:
    """What a user can set.

    :ivar bell: whether the bell rings for messages to the user.
    :ivar notify: desktop notifications: ``on``, ``off``, or ``auto`` for terminals known to support
        them.
    :ivar history: the number of earlier messages that are shown on turning to a conversation.
    :ivar highlight: words, beside the user's name, that highlight a message.
    :ivar hide: kinds of news that are not shown: ``joins``.
    :ivar back: whether writing ends being away.
    :ivar view: ``all`` shows the messages of all conversations, ``current`` those of the current
        one.
    """

    bell: bool = True
    notify: str = "auto"
    history: int = 20
    highlight: tuple[str, ...] = ()
    hide: tuple[str, ...] = ()
    back: bool = True
    view: str = "all"


@dataclass(slots=True)
class Memory:
    """What is remembered for a user of a server.

    :ivar ignored: the names of users whose messages are not shown.
    :ivar place: the conversation that was the current one last, or empty.
    :ivar remember_ignored: stores the names when they have changed.
    :ivar remember_place: stores the current conversation.
    :ivar remember_token: stores a session token; None after QUIT.
    :ivar renamed: called with the user's new name.
    """

    ignored: Iterable[str] = field(default_factory=tuple)
    place: str = ""
    remember_ignored: Callable[[Iterable[str]], object] = lambda names: None
    remember_place: Callable[[str], object] = lambda place: None
    remember_token: Callable[[str | None], object] = lambda token: None
    renamed: Callable[[str], object] = lambda name: None
