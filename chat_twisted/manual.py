"""The text of ``twistd chatserver --help``, and the page ``docs/options.rst``.

The options in both come from ``schema``. This module must not know the values of a running server.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator

from chat_twisted.option_values import show
from chat_twisted.schema import GROUPS, PORT, Option

WIDTH = 100
"""Maximum width of both."""

INTRODUCTION = """\
NAME
    twistd chatserver - a chat server for the command line

SYNOPSIS
    twistd [-n] chatserver [--config FILE] [OPTION]...
    twistd chatserver --check [--config FILE] [OPTION]...

DESCRIPTION
    Serves the chat to the bundled client (python -m chat_twisted.client USER HOST) and to the
    original client.py of CLI-Chat-Application, to any IRC client, and to ssh, on the same port.

    With -n it stays in the foreground and logs to standard output; without it, it becomes a daemon
    that logs to twistd.log in the current folder (--log names another file; twistd --help lists
    options of twistd itself). It runs until SIGTERM or SIGINT (Ctrl-C), sends BYE to every client,
    and ends within a second. While it runs, the file "lock" in the state folder has its process ID:
    kill "$(cat DIR/lock)". "twistd --pidfile FILE" writes the ID to another file as well.

    At SIGHUP it reopens its log files, reloads its certificate, and reads the file of --config and
    that of --motd again; clients stay connected. What can't change while it runs is logged, and
    used from the next start on. It ignores SIGUSR1 and SIGUSR2.

    Started by root with "twistd --uid USER", it listens as root and makes all its files, including
    the log, as USER; the default state folder is then in the home folder of USER.

    Connections are encrypted (TLS 1.2 or newer) with a certificate that is made at the first start.
    Clients remember it. Its fingerprint is logged at every start, so that users can compare it.

    Messages are stored in one SQLite file before they are delivered: a message that was answered
    SENT survives a crash, and absent users get it when they return.
"""

END = """\
OTHER OPTIONS
    --check
        Say what would keep the server from starting with these options, and start nothing: the
        options and their files, permissions, addresses, the certificate, the archive, and the NATS
        servers of a node. It changes nothing, and works beside a running server.

    --version
        Print the version and exit.

    --help
        Print this page and exit.

EXIT STATUS
    0   with --check: nothing is wrong
    1   could not start: the reason is the last line on standard error; or a node of a cluster could
        not go on: the reason is in the log
    Stopped by a signal, it ends by that signal: 143 in a shell after SIGTERM, 130 after Ctrl-C.

EXAMPLES
    twistd -n chatserver
    twistd -n chatserver --listen tcp:8828:interface=127.0.0.1 --listen tcp6:8828
    twistd --logfile chat.log chatserver --max-clients 200
    twistd chatserver --config /etc/chatserver.toml
"""

PAGE = f"""\
Options of the server
=====================

``twistd chatserver`` takes these options on its command line, and all but ``--config`` from a file
in TOML too (``--config FILE``). The names are the same. What the command line says comes before
what the file says. ``twistd chatserver --help`` prints the same text, and ``twistd chatserver
--check`` says what is wrong with the options without starting a server.

.. code:: toml

    listen = ["tcp:{PORT}", "tcp6:{PORT}"]
    state = "/var/lib/chatserver"
    max-clients = 200
    guests = false
    messages = "20:200"
    motd = "motd.txt"

Numbers may be written without quotes. Options that are ``yes`` or ``no``, or ``on`` or ``off``, may
be true or false. Paths are relative to the folder of the file. A key that is not an option, and a
value that is not valid, keep the server from starting: each is reported with its line.

At SIGHUP a running server reads the file again, and takes over the options that say so here. For
every other option that has changed, it logs that the change needs a restart. If the file has a
mistake, it logs that, and nothing changes. The limits of sessions that exist are replaced too.
``--guests``, ``--grace``, ``--rooms``, ``--address-rooms`` and ``--held`` are rules by which all
nodes of a cluster decide: change them in the files of all nodes, then send SIGHUP to one of them;
all others follow at once.

"""


def help_text() -> str:
    """Return the text of ``--help``."""
    parts = [INTRODUCTION]
    for title, options in GROUPS.items():
        heading = "OPTIONS" if title == "Start" else f"OPTIONS: {title.upper()}"
        parts.append("\n\n".join([heading, *map(_entry, options)]).replace("\n\n", "\n", 1) + "\n")
    return "\n".join([*parts, END])


def _entry(option: Option) -> str:
    short = f"-{option.short}, " if option.short else ""
    lines = [f"    {short}--{option.name} {option.form}"]
    lines += [
        textwrap.indent(text, " " * 8) if kept else _fill(text, " " * 8)
        for kept, text in paragraphs(option)
    ]
    return "\n".join(lines)


def page() -> str:
    """Return the page ``docs/options.rst``."""
    parts = [PAGE]
    for title, options in GROUPS.items():
        parts.append(f"{title}\n{'-' * len(title)}\n\n")
        for option in options:
            short = f"-{option.short}, " if option.short else ""
            parts.append(f"``{short}--{option.name} {option.form}``\n")
            texts = [f"::\n\n{text}" if kept else _rst(text) for kept, text in paragraphs(option)]
            if option.reloads:
                texts.append("Taken over at SIGHUP.")
            parts.append("\n\n".join(textwrap.indent(text, "    ") for text in texts) + "\n\n")
    return "".join(parts).rstrip("\n") + "\n"


def _rst(text: str) -> str:
    """Return a paragraph of reStructuredText, with options and paths as literals."""
    text = re.sub(r"(?<![\w-])(--[a-z][a-z-]*[a-z])", r"``\1``", text)
    text = re.sub(r"(\$\w+/\w+|~/[\w./]+\w)", r"``\1``", text)
    return textwrap.fill(text, WIDTH - 4, break_long_words=False, break_on_hyphens=False)


def _fill(text: str, margin: str) -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def paragraphs(option: Option) -> Iterator[tuple[bool, str]]:
    """Yield the paragraphs of an option's help, with the default in the first one.

    :return: for each, whether its lines are kept as they are; and the text, in one line if not.
    """
    texts = re.split(r"\n\n+", inspect.cleandoc(option.help))
    flowing = [index for index, text in enumerate(texts) if not text.startswith(" ")]
    for index, text in enumerate(texts):
        if index not in flowing:
            yield True, text
            continue
        line = " ".join(text.split())
        if index == flowing[0] and (default := show(option.default)):
            line += f" Default: {default}."
        yield False, line
