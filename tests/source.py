"""The source of the package, for tests that read it.

The syntax trees are not kept: every later collection of garbage in the process would walk through
their half million objects.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "chat_twisted"


def modules() -> dict[str, str]:
    """Return the source of each module, by its name inside the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[-1] == "__init__" and len(parts) > 1:
            parts = parts[:-1]
        found[".".join(parts)] = path.read_text()
    return found


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all statements below ``node``, without walking through their expressions."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr):
            yield child
            yield from statements(child)


def dotted(node: ast.expr) -> str:
    """Return what ``ast.unparse`` does, at less cost for names and attributes."""
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return f"{dotted(node.value)}.{node.attr}"
    return ast.unparse(node)
