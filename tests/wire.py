"""Parses the bytes of a connection into frames."""

from __future__ import annotations

from chat_twisted.frames import Frame, FrameReader


def frames(data: bytes, reader: FrameReader | None = None) -> list[Frame]:
    """Return the frames that ``data`` completes.

    :param reader: has the earlier bytes of the stream.
    """
    reader = reader or FrameReader()
    reader.receive_data(data)
    return list(iter(reader.next_frame, None))
