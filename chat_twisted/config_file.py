"""The file of ``--config``: options in TOML, by the names of ``schema``.

The values become texts as on the command line, and are parsed by the same functions. This module
must not know what the options mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from chat_twisted import option_values
from chat_twisted.files import FilesError, require_trusted
from chat_twisted.schema import OPTIONS, Option
from chat_twisted.toml_file import TOMLError, TOMLFile


class ConfigError(Exception):
    """The file has mistakes.

    :ivar problems: one line for each, with the file and the line.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read(path: Path) -> dict[str, Any]:
    """Read the file.

    :return: the values of the options that it sets, by their names.
    :raises ConfigError: if it can't be read, others may write it, or it has mistakes.
    """
    try:
        require_trusted(path)
        file = TOMLFile(path)
    except OSError as error:
        raise ConfigError(f"--config {path}: {error.strerror}") from None
    except (FilesError, TOMLError) as error:
        raise ConfigError(f"--config {error}") from None
    found: dict[str, Any] = {}
    problems = []
    for key, value in file.tables.items():
        option = OPTIONS.get(key)
        if option is None or not option.in_file:
            problems.append(f"{file.locate(key)}: {key} is not an option")
            continue
        try:
            found[key] = _parse(option, value, path.parent)
        except ValueError as error:
            problems.append(f"{file.locate(key)}: {key} is {error}")
    if problems:
        raise ConfigError(*problems)
    return found


def _parse(option: Option, value: Any, folder: Path) -> Any:
    """Parse a value of the file.

    :raises ValueError: if it is not valid.
    """
    if option.many:
        several = value if isinstance(value, list) else [value]
        if not several:
            raise ValueError("a list of at least one value, not []")
        return tuple(option.parse(_as_text(option, each, folder)) for each in several)
    if isinstance(value, list) and option.name in ("cluster", "cluster-monitor"):
        return option.parse(",".join(_as_text(option, each, folder) for each in value))
    return option.parse(_as_text(option, value, folder))


def _as_text(option: Option, value: Any, folder: Path) -> str:
    """Return a value of the file as the command line would have it.

    :raises ValueError: if it has another type.
    """
    parse = option.parse
    if isinstance(value, bool):
        if isinstance(parse, option_values.OneOf) and parse.words in option_values.SWITCHES:
            return parse.words[0 if value else 1]
    elif isinstance(value, int) and isinstance(parse, option_values.Number):
        return str(value)
    elif isinstance(value, str):
        if parse is option_values.path or (parse is option_values.path_or_dash and value != "-"):
            return str(folder / value) if value else ""
        return value
    raise ValueError(f"{option.form}, not {value!r}")
