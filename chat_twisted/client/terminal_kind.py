"""What kind of terminal it is: whether it rewraps its rows, and how it shows a notification.

Its environment tells that, where it is that of the terminal; and its answer to the question for its
device attributes, which also comes through ssh. This module must not know what is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping

OSC_9 = {"iTerm.app", "WezTerm", "ghostty", "vscode"}
"""Values of TERM_PROGRAM of terminals that show OSC 9 as a desktop notification."""

OSC_9_VARIABLES = {
    "KITTY_WINDOW_ID",
    "WEZTERM_PANE",
    "ITERM_SESSION_ID",
    "GHOSTTY_RESOURCES_DIR",
}
"""Variables of such terminals, which reach programs in tmux or screen too."""

QUESTION = "\x1b[>c"
"""Secondary device attributes (DA2). Most terminals answer ``ESC [ > kind ; version ; … c``."""

TMUX = "84"

NOT_REWRAPPING = ("41;", "83;", "85;", "0;136;", "1;10;0")
"""How the answers of xterm, screen, rxvt, PuTTY and mosh begin."""

MAX_NOTIFICATION = 600
"""Maximum size in bytes. GNU screen drops longer sequences that it has to pass on."""


class TerminalKind:
    """What is known of a terminal.

    :param environment: the environment variables of the terminal.
    :ivar rewraps: whether it rewraps its rows when its width changes; False if it is not known.
    :ivar is_known: whether ``rewraps`` is known, so that the terminal need not be asked.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        term = environment.get("TERM", "")
        program = environment.get("TERM_PROGRAM", "")
        is_tmux = "TMUX" in environment or term.startswith("tmux")
        is_inside = is_tmux or "STY" in environment or term.startswith("screen")
        self._multiplexer = "tmux" if is_tmux else "screen" if is_inside else ""
        self._way = ""
        if OSC_9_VARIABLES & environment.keys() or (program in OSC_9 and not is_inside):
            self._way = "9"
        elif term.startswith(("foot", "rxvt")):
            self._way = "777"
        self.rewraps = is_tmux or (
            not is_inside
            and (
                any(name in environment for name in ("VTE_VERSION", "KITTY_WINDOW_ID"))
                or program in OSC_9
                or term.startswith(("alacritty", "foot"))
            )
        )
        self.is_known = self.rewraps or term in ("", "dumb", "unknown", "linux")

    def answered(self, attributes: str) -> None:
        """Called with the terminal's answer to ``QUESTION``, such as ``84;0;0``."""
        self.is_known = True
        self.rewraps = not attributes.startswith(NOT_REWRAPPING)
        if attributes.split(";")[0] == TMUX:
            self._multiplexer = "tmux"

    def notification(self, title: str, text: str, *, always: bool) -> str:
        """Return the sequence that shows a desktop notification.

        It is empty for a terminal that is not known to show one, unless ``always`` is set. tmux and
        screen pass it on to the terminal around them; tmux does so with ``allow-passthrough``.

        :param title: printable text without tabs, as is ``text``.
        """
        way = self._way or ("9" if always else "")
        if not way:
            return ""
        if way == "777":
            title, text = title.replace(";", ","), text.replace(";", ",")
            told = f"777;notify;{title};{text}"
        else:
            told = f"9;{title}: {text}"
        told = told.encode()[:MAX_NOTIFICATION].decode(errors="ignore")
        match self._multiplexer:
            case "tmux":
                return f"\x1bPtmux;\x1b\x1b]{told}\x07\x1b\\"
            case "screen":
                return f"\x1bP\x1b]{told}\x07\x1b\\"
        return f"\x1b]{told}\x1b\\"
