"""The fields of SSH packets (RFC 4251, 5).

This module must not know what packets mean.
"""

from __future__ import annotations

import struct


class Malformed(Exception):
    """A packet ends within a field."""


class Fields:
    """Reads the fields of a packet one after another."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: int) -> bytes:
        """Return the next bytes.

        :raises Malformed: if there are not so many.
        """
        start = self._position
        self._position = end = start + size
        if end > len(self._data):
            raise Malformed
        return self._data[start:end]

    def number(self) -> int:
        """Return the next uint32."""
        return int.from_bytes(self.take(4))

    def flag(self) -> bool:
        """Return the next boolean."""
        return self.take(1) != b"\0"

    def string(self) -> bytes:
        """Return the next string, which is bytes."""
        return self.take(self.number())

    def text(self) -> str:
        """Return the next string as text; wrong UTF-8 is replaced."""
        return self.string().decode(errors="replace")

    @property
    def rest(self) -> bytes:
        """The bytes that are not read yet."""
        return self._data[self._position :]


def number(value: int) -> bytes:
    """Write a uint32."""
    return struct.pack(">L", value)


def string(data: bytes) -> bytes:
    """Write a string."""
    return struct.pack(">L", len(data)) + data
