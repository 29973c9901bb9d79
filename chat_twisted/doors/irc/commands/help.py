"""HELP: what the commands are for, and what is different here from other IRC servers."""

from __future__ import annotations

from collections.abc import Mapping

from chat_twisted.doors.irc.grammar import Line
from chat_twisted.doors.irc.replies import Reply
from chat_twisted.doors.irc.running import Handler
from chat_twisted.doors.irc.session import IRCSession

MAX_SUBJECT = 64
"""Maximum characters of an unknown subject in the answer."""

SUBJECTS: Mapping[str, tuple[str, ...]] = {
    "ADMIN": ("ADMIN", "Shows who runs the server."),
    "AUTHENTICATE": ("AUTHENTICATE PLAIN|EXTERNAL|response", "Logs in to an account (SASL)."),
    "AWAY": ("AWAY [:text]", "Marks you as away; without a text, as back."),
    "CAP": ("CAP LS|LIST|REQ|END [:capabilities]", "Negotiates extensions of IRCv3."),
    "CHATHISTORY": (
        "CHATHISTORY BEFORE|AFTER|LATEST|AROUND|BETWEEN|TARGETS ...",
        "Shows earlier messages (draft/chathistory).",
    ),
    "HELP": ("HELP [subject]", "Shows what a command does."),
    "INFO": ("INFO", "Shows what this server is."),
    "INVITE": ("INVITE nickname #channel", "Invites a user to a channel."),
    "ISON": ("ISON nickname...", "Shows which of the users are here."),
    "JOIN": (
        "JOIN #channel[,#channel...]",
        "Joins channels, and makes those that do not exist. You are their operator then.",
    ),
    "KICK": ("KICK #channel nickname [:reason]", "Removes a user from a channel."),
    "KILL": (
        "KILL nickname [:reason]",
        "Ends the sessions of a user; for operators of the server.",
    ),
    "LIST": ("LIST [>users|<users|mask...]", "Lists the channels that you may know of."),
    "LUSERS": ("LUSERS", "Counts the users and the channels."),
    "MARKREAD": (
        "MARKREAD target [timestamp=...]",
        "Shows or sets how far you have read (draft/read-marker).",
    ),
    "MODE": (
        "MODE #channel [+|-modes [nickname...]]",
        "Shows or sets modes: i (invited users only), s (secret), p (both), m (moderated),",
        "t (only operators set the topic), o (operator), v (voice), b (banned names).",
        "MODE nickname +B says that you are a bot.",
    ),
    "MONITOR": (
        "MONITOR +|- nickname[,nickname...], MONITOR C|L|S",
        "Tells you when users come and go.",
    ),
    "MOTD": ("MOTD", "Shows the message of the day."),
    "NAMES": ("NAMES #channel[,#channel...]", "Lists the users on a channel."),
    "NICK": (
        "NICK nickname",
        "Changes your name: letters, digits, - and _, 32 at most. An account keeps its name.",
    ),
    "NOTICE": ("NOTICE target[,target...] :text", "Sends a message that no program answers."),
    "OPER": (
        "OPER name password",
        "Logs in to the account of an operator: an operator is one by their account.",
    ),
    "PART": ("PART #channel[,#channel...] [:reason]", "Leaves channels."),
    "PING": ("PING token", "Is answered with PONG."),
    "PRIVMSG": (
        "PRIVMSG target[,target...] :text",
        "Sends a message to a user, a channel, or &ALL, which is everybody.",
        "A user with an account who is not here gets it at their next login.",
    ),
    "QUIT": ("QUIT [:reason]", "Leaves the server."),
    "REDACT": (
        "REDACT target msgid [:reason]",
        "Deletes a message of yours, or one on a channel of which you are an operator.",
    ),
    "REGISTER": (
        "REGISTER * * password",
        "Makes an account, which keeps your name (draft/account-registration).",
    ),
    "SETNAME": ("SETNAME :real name", "Changes your real name."),
    "TAGMSG": ("TAGMSG target", "Passes client tags on, for example typing."),
    "TIME": ("TIME", "Shows the time of the server."),
    "TOPIC": ("TOPIC #channel [:topic]", "Shows or sets the topic of a channel."),
    "USERHOST": ("USERHOST nickname...", "Shows who is away or an operator."),
    "VERSION": ("VERSION", "Shows the version of the server and what it supports."),
    "WALLOPS": ("WALLOPS :text", "Sends a text to everybody; for operators of the server."),
    "WHO": ("WHO #channel|nickname|mask [%fields]", "Lists users."),
    "WHOIS": ("WHOIS nickname", "Shows what may be known about a user."),
    "WHOWAS": ("WHOWAS nickname [count]", "Shows users who have gone."),
}
"""The lines of each subject; the first is how the command is written."""

_INDEX = (
    "HELP command shows what a command does:",
    *(", ".join(list(SUBJECTS)[begin : begin + 8]) for begin in range(0, len(SUBJECTS), 8)),
)


async def _help(session: IRCSession, reply: Reply, line: Line) -> None:
    asked = line.params[0][:MAX_SUBJECT] if line.params else ""
    lines = SUBJECTS.get(asked.upper()) if asked else _INDEX
    subject = asked or "index"
    if lines is None:
        reply.numeric("524", subject, "No help on that")
        return
    reply.numeric("704", subject, lines[0])
    for text in lines[1:]:
        reply.numeric("705", subject, text)
    reply.numeric("706", subject, "End of HELP")


COMMANDS: dict[str, Handler] = {"HELP": _help, "HELPOP": _help}
