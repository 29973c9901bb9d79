"""What is on the wire, as frames."""

from __future__ import annotations

from chat_twisted.frames import Frame, FrameReader


def frames(data: bytes, reader: FrameReader | None = None) -> list[Frame]:
    """The frames that ``data`` completes, behind what ``reader`` has of the stream already."""
    reader = reader or FrameReader()
    reader.receive_data(data)
    return list(iter(reader.next_frame, None))
