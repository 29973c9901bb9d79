"""Checks that this Python can run the project. The commands import this module before all others.

If Python is too old, or a package is missing, as in a checkout that is not installed, importing it
ends the process with exit code 2 and one sentence on standard error. So its syntax must be that of
old versions of Python, and it must import nothing of the project but ``text``, which is as plain.
"""

import sys
from importlib.util import find_spec

from chat_twisted.text import printable

PYTHON = (3, 11)
"""The oldest version of Python that can run the project; setup.cfg has it too."""

MODULES = {
    "argon2": "argon2-cffi",
    "cryptography": "cryptography",
    "prompt_toolkit": "prompt_toolkit",
    "service_identity": "service-identity",
    "twisted": "twisted",
    "OpenSSL": "pyOpenSSL",
    "bcrypt": "bcrypt",
}
"""The modules that must be there, with the names of their packages; setup.cfg has these too."""


def _check() -> None:
    if sys.version_info < PYTHON:
        least, this = (".".join(map(str, version[:3])) for version in (PYTHON, sys.version_info))
        _end(f"chat_twisted needs Python {least} or later; {sys.executable} is {this}.")
    missing = [package for module, package in MODULES.items() if not _is_there(module)]
    if missing:
        _end(
            f"chat_twisted is not installed for {sys.executable}, which has no "
            f"{', '.join(missing)}: in the folder of chat_twisted, run python3 -m venv venv && "
            "venv/bin/pip install . and then use venv/bin/python."
        )


def _is_there(module: str) -> bool:
    spec = find_spec(module)
    # The checkout has a folder "twisted", which is no package.
    return spec is not None and spec.origin is not None


def _end(reason: str) -> None:
    sys.stderr.write(printable(reason) + "\n")
    raise SystemExit(2)


_check()
