"""The site of the pages in this folder: ``sphinx-build -W docs build/site`` writes it.

The pages are plain reStructuredText that can be read without the site. They name each other as
literals, such as ``ssh.rst``; on the site these are links.
"""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from chat_twisted import __version__  # noqa: E402  the checkout's, not an installed one

project = "chat_twisted"
author = "the authors of chat_twisted"
version = release = __version__
root_doc = "index"
html_theme = "furo"
html_title = f"chat_twisted {version}"
html_show_copyright = False
html_copy_source = False
smartquotes = False  # quotation marks in pages are those that are typed

INCLUDED = {
    "README.rst": "start",
    "CHANGELOG.rst": "changelog",
    "SECURITY.rst": "reporting",
}
"""The pages in the folder above, and the pages here that include them."""

PAGE = re.compile(r"(?:docs/)?([\w./-]+)\.rst")


class PageLinks(SphinxTransform):
    """Makes a link of each literal that names a page. A page that does not exist is a warning."""

    default_priority = 400

    def apply(self, **kwargs: object) -> None:
        """See ``docutils.transforms.Transform.apply``."""
        for literal in list(self.document.findall(nodes.literal)):
            if match := PAGE.fullmatch(literal.astext()):
                literal.replace_self(self._link(literal, INCLUDED.get(match[0], f"/{match[1]}")))

    def _link(self, literal: nodes.literal, target: str) -> pending_xref:
        # Pages of subfolders name their neighbours without the folder, and others from the top.
        here = Path(self.env.docname).parent / target.lstrip("/")
        if target.startswith("/") and (DOCS / f"{here}.rst").exists():
            target = f"/{here}"
        link = pending_xref(
            "",
            literal.deepcopy(),
            refdomain="std",
            reftype="doc",
            reftarget=target if target.startswith("/") else f"/{target}",
            refdoc=self.env.docname,
            refexplicit=True,
            refwarn=True,
        )
        link.source, link.line = literal.source, literal.line
        return link


def add_commands(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the table of commands into the client's manual page, as ``docs/manpage`` does."""
    if page == "chat-twisted.1":
        commands = runpy.run_path(str(DOCS / "manpage"))["commands"]
        source[0] = source[0].replace(".. commands\n", commands())


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_transform(PageLinks)
    app.connect("source-read", add_commands)
