"""The help for what can be typed, made from the table of commands.

This module must not know when it is shown.
"""

from __future__ import annotations

import textwrap

from chat_twisted.ui.commands import ALIASES, COMMANDS, FORMAT_HELP, TOPICS, command_names
from chat_twisted.ui.suggestions import nearest

_OVERVIEW = (
    ("hello", "to the conversation that the prompt names"),
    ("@bob: hello", "to bob"),
    ("#dev: hello", "to a room"),
    ("@ALL: hello", "to everybody"),
    ("@bob", "alone: the next lines are for bob"),
    ("#dev", "alone: the next lines are for the room"),
    ("//x", "says /x"),
    ("Tab", "completes names, rooms and commands"),
    ("Up, Ctrl-R", "find what you typed"),
)


def help_text(topic: str | None = None, *, screen: bool = False, width: int = 80) -> str:
    """Return the help: all of it, or of one of ``TOPICS``, or of one command; on a terminal, an
    overview by default.

    :param width: every line is shorter than this.
    """
    if topic is not None and topic not in TOPICS:
        return _help_of_command(topic, screen, width)
    if topic is None and screen:
        topics = [(f"/help {name}", TOPICS[name]) for name in TOPICS]
        return "\n".join(_row(left, right, 16, width) for left, right in (*_OVERVIEW, *topics))
    parts = [_help_of(name, screen, width) for name in ([topic] if topic else TOPICS)]
    head = (
        "" if topic else FORMAT_HELP + "@ALL: Message    to everybody\n#room: Message   to a room\n"
    )
    return head + "\n".join(part for part in parts if part)


def _help_of(topic: str, screen: bool, width: int) -> str:
    lines = []
    for name, form in COMMANDS.items():
        if form.topic == topic and (screen or not form.screen):
            lines.append(_line_of(name, width))
    return "\n".join(lines)


def _help_of_command(word: str, screen: bool, width: int) -> str:
    name = f"/{word.lower()}"
    name = ALIASES.get(name, name)
    names = list(command_names(screen=screen))
    if name in names:
        also = ", ".join(COMMANDS[name].aliases)
        return _line_of(name, width) + (f"\nalso {also}" if also else "")
    meant = nearest(word, [*TOPICS, *(known[1:] for known in names)])
    question = f"; did you mean {meant}?" if meant else ""
    text = f"No such topic: {word}{question} There are: {', '.join(TOPICS)}"
    return textwrap.fill(text, width - 1) if width < 80 else text


def _line_of(name: str, width: int) -> str:
    form = COMMANDS[name]
    return _row(f"{name} {form.usage}".rstrip(), form.what, 32, width)


def _row(left: str, right: str, column: int, width: int) -> str:
    """Lay out two texts beside each other, or below each other where the second would be narrow."""
    if len(left) <= column and (column + len(right) + 1 < width or column < width / 2):
        lines, indent = [], " " * (column + 1)
        first = f"{left:{column}} "
    else:
        lines = textwrap.wrap(left, width - 1, subsequent_indent="  ", break_long_words=False)
        first = indent = "    "
    wrapped = textwrap.wrap(right, width - 1, initial_indent=first, subsequent_indent=indent)
    return "\n".join([*lines, *wrapped])
