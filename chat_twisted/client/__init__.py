"""The client: the command ``python -m chat_twisted.client USER HOST``, and ``ChatClient``, the
library for bots (docs/library.rst). It must not know the server.

The public names are imported on first use, because the command must choose a reactor first and
start quickly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chat_twisted.client.chat import ChatClient
    from chat_twisted.clocks import use_monotonic_clock
    from chat_twisted.text import printable
    from chat_twisted.ui.errors import (
        ClientError,
        NotConnected,
        NotDelivered,
        Refused,
        Sent,
    )
    from chat_twisted.ui.values import (
        Done,
        Event,
        Found,
        Marker,
        Profile,
        Received,
        Room,
        Seen,
        State,
    )

__all__ = [
    "ChatClient",
    "ClientError",
    "Done",
    "Event",
    "Found",
    "Marker",
    "NotConnected",
    "NotDelivered",
    "Profile",
    "Received",
    "Refused",
    "Room",
    "Seen",
    "Sent",
    "State",
    "printable",
    "use_monotonic_clock",
]

_MODULES = {
    "ChatClient": "chat_twisted.client.chat",
    **dict.fromkeys(
        ("ClientError", "NotConnected", "NotDelivered", "Refused", "Sent"),
        "chat_twisted.ui.errors",
    ),
    **dict.fromkeys(
        (
            "Done",
            "Event",
            "Found",
            "Marker",
            "Profile",
            "Received",
            "Room",
            "Seen",
            "State",
        ),
        "chat_twisted.ui.values",
    ),
    "printable": "chat_twisted.text",
    "use_monotonic_clock": "chat_twisted.clocks",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
