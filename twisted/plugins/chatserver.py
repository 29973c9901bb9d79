"""Tells twistd of the subcommand ``chatserver``. What it does is in ``chat_twisted.service``."""

from twisted.application.service import ServiceMaker

chatserver = ServiceMaker(
    "chat_twisted server",
    "chat_twisted.service",
    "A chat that every terminal can talk to.",
    "chatserver",
)
