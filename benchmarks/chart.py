"""A bar chart as SVG text: one panel for each measure, one bar for each server.

It has its own background and adapts its colours to the reader's preference, so it is readable on
light and dark pages. It uses no library, because the project needs none for drawing otherwise.
"""

from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH = 760
LEFT = 120  # where bars begin
LONGEST = 400  # a bar
BAR = 18
STEP = 24  # from one bar to the next
TITLE = 30  # above the bars of a panel
GAP = 14  # below them

STYLE = """\
    text { font: 13px system-ui, sans-serif; fill: #1f2328; }
    .page { fill: #ffffff; }
    .title { font-size: 17px; font-weight: 600; }
    .measure { font-weight: 600; }
    .note { font-size: 12px; fill: #59636e; }
    .bar0 { fill: #2563c9; }
    .bar1 { fill: #8a8f98; }
    .bar2 { fill: #b9a06a; }
    .bar3 { fill: #5b9a8b; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .page { fill: #0d1117; }
      .note { fill: #9198a1; }
      .bar0 { fill: #5b93f0; }
    }
"""


class Panel(NamedTuple):
    """A measure: its title, whether more is better, and the value of each server."""

    title: str
    better: str
    values: Sequence[tuple[str, float, str]]  # the server, its value, the value as text


def draw(title: str, notes: Sequence[str], panels: Sequence[Panel]) -> str:
    """Return the SVG text. Each panel has its own scale, which starts at zero."""
    servers = list(dict.fromkeys(server for panel in panels for server, _, _ in panel.values))
    parts: list[str] = []

    def write(x: int, y: int, text: str, kind: str = "", end: bool = False) -> None:
        anchor = ' text-anchor="end"' if end else ""
        style = f' class="{kind}"' if kind else ""
        parts.append(f'  <text x="{x}" y="{y}"{anchor}{style}>{escape(text)}</text>')

    y = 34
    write(20, y, title, "title")
    for panel in panels:
        y += TITLE
        write(20, y, panel.title, "measure")
        write(WIDTH - 20, y, f"{panel.better} is better", "note", end=True)
        y += 10
        longest = max((value for _, value, _ in panel.values), default=0) or 1
        for server, value, text in panel.values:
            length = max(1, round(LONGEST * value / longest))
            kind = f"bar{servers.index(server) % 4}"
            write(LEFT - 10, y + 14, server, end=True)
            parts.append(
                f'  <rect class="{kind}" x="{LEFT}" y="{y}" width="{length}" height="{BAR}" rx="2">'
                f"<title>{escape(f'{server}: {text}')}</title></rect>"
            )
            write(LEFT + length + 8, y + 14, text)
            y += STEP
        y += GAP
    y += 8
    for note in notes:
        y += 18
        write(20, y, note, "note")
    height = y + 20
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">\n'
        f"  <style>\n{STYLE}  </style>\n"
        f'  <rect class="page" width="{WIDTH}" height="{height}"/>\n'
    )
    return head + "\n".join(parts) + "\n</svg>\n"
