"""The actions of ``python -m chat_twisted.admin cluster``: one function each, as in
``admin_actions``.

``init`` and ``join`` work on files that clients recognise a server by (``bundle``). ``status`` and
``forget`` are requests to the node; ``leave`` changes the archive of a node that does not run. This
module must not know SQL or the cluster's log.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from chat_twisted import files
from chat_twisted.admin_actions import DONE, complain, report
from chat_twisted.core.errors import NotPermitted
from chat_twisted.reaching import COME_WITHIN, Refused, owner, reach, require_folder, take
from chat_twisted.text import escape_json


def init(options: argparse.Namespace, folder: Path) -> int:
    """Make a bundle of the files that all nodes share."""
    # Imported only when needed, because the import is slow.
    from chat_twisted import bundle

    own = (options.certificate, options.private_key)
    if (own[0] is None) != (own[1] is None):
        raise Refused("--certificate and --private-key go together")
    os.umask(0o077)
    try:
        with files.acting_as(owner(folder), None):
            contents = bundle.collect(folder, None if own[0] is None else own, complain)
            lines = bundle.describe(contents, folder)
        bundle.write(options.bundle, contents)
    except bundle.BundleError as error:
        raise Refused(str(error)) from None
    for line in lines:
        report(line)
    report(f'{options.bundle}: copy it to the other machines, run "cluster join" there, delete it')
    return DONE


def join(options: argparse.Namespace, folder: Path) -> int:
    """Put the files of a bundle into a state folder."""
    from chat_twisted import bundle

    os.umask(0o077)
    try:
        contents = bundle.read(options.bundle)
        with files.acting_as(owner(folder), None):
            lines = bundle.install(folder, contents, complain)
    except bundle.BundleError as error:
        raise Refused(str(error)) from None
    for line in lines:
        report(line)
    return DONE


def status(options: argparse.Namespace, folder: Path) -> int:
    """Print how a node is, and how it knows the others."""
    with reach(folder, complain) as (ask, runs):
        found: dict[str, Any] = {"running": runs, **ask("cluster status")}
    if options.json:
        sys.stdout.write(escape_json(json.dumps(found)) + "\n")
        return DONE
    for name, text in _describe(found).items():
        report(f"{name:12} {text}")
    last = found.get("last", found["position"])
    for node in found.get("nodes", ()):
        report(_describe_node(node, last))
    return DONE


def _describe(found: dict[str, Any]) -> dict[str, str]:
    """Describe a node.

    :param found: the answer of ``control.Cluster.status``. ``incarnation``, ``stream`` and ``last``
        may be missing.
    """
    lines = {"node": found["node"]}
    if "incarnation" in found:
        lines["node"] += f", incarnation {found['incarnation']}"
    lines["log"] = f"position {found['position']}"
    if "last" in found:
        lines["log"] += f" of {found['last']}"
    if "stream" in found:
        lines["log"] += f", stream {found['stream']}"
    if not found["running"]:
        lines["node"] += ", not running"
        return lines
    lines["format"] = str(found["format"])
    lines["chain"] = found["chain"]
    lines["clients"] = "served" if found["in_touch"] else "none, until the log can be reached"
    return lines


def _describe_node(node: dict[str, Any], last: int) -> str:
    role = "member" if node["member"] else "gone"
    behind = max(0, last - node["position"])
    line = f"{node['name']} {role} position={node['position']} behind={behind}"
    return f"{line} silent={node['silent']:.1f}s format={node['format']}"


def forget(options: argparse.Namespace, folder: Path) -> int:
    """Remove a node from the known nodes."""
    with reach(folder, complain) as (ask, _):
        ask("forget node", name=options.name)
    return DONE


def leave(options: argparse.Namespace, folder: Path) -> int:
    """Make the archive of a node a single server's."""
    require_folder(folder)
    try:
        with take(folder, complain, patience=COME_WITHIN) as chat:
            name = chat.leave_cluster().name
    except NotPermitted as error:
        raise Refused(str(error)) from None
    report(
        f"it was node {name}. Start it without --cluster; or with it, to begin a new log. If other "
        f'nodes go on without it, run "cluster forget {name}" on one of them'
    )
    return DONE
