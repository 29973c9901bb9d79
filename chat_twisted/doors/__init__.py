"""Doors: each speaks one client protocol, bytes into calls on the hub and messages into bytes.

A door holds no rule of the chat, and none imports another.
"""

MAX_QUEUED = 8 * 1024 * 1024
"""Bytes that may wait for one peer. One that lets more gather does not read, and is cut off."""
