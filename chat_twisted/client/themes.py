"""The colours of the terminal: a theme for dark backgrounds and one for light ones.

This module must not know what is drawn in which style.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from prompt_toolkit.styles import BaseStyle, Style, default_ui_style

THEMES = {
    "dark": {
        "time": "#949494",
        "direct": "ansimagenta bold",
        "room": "ansicyan",
        "all": "ansigreen",
        "own": "bold",
        "mention": "bold",
        "dim": "#949494",
        "error": "#ff5f5f",
        "mark": "#d7af00",
        "unread": "#d7af00 bold",
        "prompt": "bold",
        "found": "reverse",
        "name-0": "#ff5f5f",
        "name-1": "ansigreen",
        "name-2": "#d7af00",
        "name-3": "#5fafff",
        "name-4": "#d787d7",
        "name-5": "ansicyan",
        "name-6": "#ff875f",
        "name-7": "#87afd7",
        "code": "",
        "code-keyword": "#87afff",
        "code-name": "ansicyan",
        "code-string": "#afd75f",
        "code-number": "#d7af5f",
        "code-comment": "#949494",
    },
    "light": {
        "time": "#626262",
        "direct": "#870087 bold",
        "room": "#005f87",
        "all": "#005f00",
        "own": "bold",
        "mention": "bold",
        "dim": "#626262",
        "error": "#af0000",
        "mark": "#875f00",
        "unread": "#875f00 bold",
        "prompt": "bold",
        "found": "reverse",
        "name-0": "#af0000",
        "name-1": "#005f00",
        "name-2": "#875f00",
        "name-3": "#0000af",
        "name-4": "#870087",
        "name-5": "#005f5f",
        "name-6": "#af005f",
        "name-7": "#5f5f87",
        "code": "",
        "code-keyword": "#0000af",
        "code-name": "#005f87",
        "code-string": "#005f00",
        "code-number": "#870087",
        "code-comment": "#626262",
    },
}
"""The styles of prompt_toolkit by their names, which ``config.toml`` can change under [colours]."""

LIGHT_BACKGROUNDS = {"7", *map(str, range(9, 16))}
"""The light ones of the sixteen colours, as a terminal names its background in COLORFGBG."""


def styles(theme: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the styles of a theme.

    :param theme: ``dark``, ``light``, or ``auto`` for the one that suits the background, which is
        dark if the terminal does not name it in COLORFGBG.
    """
    if theme == "auto":
        background = environment.get("COLORFGBG", "").rpartition(";")[2]
        theme = "light" if background in LIGHT_BACKGROUNDS else "dark"
    return THEMES[theme]


def style(theme: str, colours: Mapping[str, str], environment: Mapping[str, str]) -> BaseStyle:
    """Return the style of a terminal, one object for all that have the same.

    :param theme: see ``styles``.
    :param colours: the styles that the user has changed.
    """
    return _style(tuple({**styles(theme, environment), **colours}.items()))


@cache
def _style(rules: tuple[tuple[str, str], ...]) -> BaseStyle:
    return Style([*default_ui_style().style_rules, *rules])
