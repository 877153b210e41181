"""Where options come from besides the command line: the environment and `twinlens.toml`.

One precedence for every option of every command: command line, environment, file, default. An
option `--log-format` of `serve` is `TWINLENS_SERVE_LOG_FORMAT` in the environment and `log_format`
in the file's table `[serve]`. What must stay true: a name in the file that no command has is
refused, never ignored.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from twinlens.errors import InputError

PREFIX = "TWINLENS"
FILE_NAME = "twinlens.toml"
FILE_VARIABLE = "TWINLENS_CONFIG"
# Settings of the server that are no options of `serve`: groups of them, and single ones.
SERVE_SETTINGS = frozenset(
    {"limits", "batching", "watch", "fetching", "cors_origins", "log_requests", "tracing"}
)

Tables = Mapping[str, Any]


@dataclass(frozen=True)
class Configuration:
    """What a configuration file says; empty where there is none."""

    path: Path | None = None
    tables: Tables = field(default_factory=dict)

    def list_settings(
        self, command: str, settings: frozenset[str]
    ) -> Iterator[tuple[str, Any, str]]:
        """Yield name, value and source of the settings that the file and the environment set.

        `settings` are their names, or the first parts of them: `limits` of `limits.items`. The
        environment comes last, so whoever applies them in turn prefers it.
        """
        for name, value in self.tables.get(command, {}).items():
            if name in settings and isinstance(value, dict):
                for inner, own in value.items():
                    yield f"{name}.{inner}", own, f"{self.path} [{command}.{name}]"
            elif name in settings:
                yield name, value, f"{self.path} [{command}]"
        for variable in list_variables(command):
            rest = variable.removeprefix(start_of(command)).lower()
            for name in settings:
                if rest == name:
                    yield name, os.environ[variable], variable
                elif rest.startswith(f"{name}_"):
                    yield f"{name}.{rest.removeprefix(name)[1:]}", os.environ[variable], variable


def list_variables(command: str) -> list[str]:
    """Return the environment's variables that are meant for a command."""
    return sorted(name for name in os.environ if name.startswith(start_of(command)))


def start_of(command: str) -> str:
    """Return how the environment's variables of a command begin, e.g. `TWINLENS_SERVE_`."""
    return f"{PREFIX}_{command.upper().replace('.', '_').replace('-', '_')}_"


def find_file() -> Path | None:
    """Return the configuration file: TWINLENS_CONFIG, the working folder's, or the user's."""
    named = os.environ.get(FILE_VARIABLE)
    if named is not None:
        return Path(named).expanduser() if named else None
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    for path in (Path(FILE_NAME), Path(home, "twinlens", FILE_NAME)):
        if path.is_file():
            return path
    return None


def read_file(path: Path | None) -> Configuration:
    """Return what the file says."""
    if path is None:
        return Configuration()
    try:
        return Configuration(path, tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{FILE_VARIABLE} names {str(path)!r}, which is not a file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}") from None


def build_defaults(
    configuration: Configuration, command: Any, settings: Mapping[str, frozenset[str]]
) -> dict[str, Any]:
    """Return the file's options as the command line's defaults, by command and option.

    `settings` names, for each command, the settings that it has besides its options.
    """
    return _read_group(configuration.path, configuration.tables, command, "", settings)


def _read_group(
    path: Path | None,
    tables: Tables,
    command: Any,
    where: str,
    settings: Mapping[str, frozenset[str]],
) -> dict[str, Any]:
    """Return the defaults of a group of commands."""
    found: dict[str, Any] = {}
    for name, table in tables.items():
        inner = command.commands.get(name)
        if inner is None:
            raise _unknown(path, where, name, command.commands)
        label = f"{where}.{name}" if where else name
        if not isinstance(table, dict):
            raise InputError(f"{path}: {label} is {table!r}; it must be a table: [{label}]")
        if hasattr(inner, "commands"):
            found[name] = _read_group(path, table, inner, label, settings)
        else:
            found[name] = _read_options(path, table, inner, label, settings.get(label, frozenset()))
    return found


def _read_options(
    path: Path | None, table: Tables, command: Any, where: str, settings: frozenset[str]
) -> dict[str, Any]:
    """Return the defaults of one command."""
    names = {parameter.name for parameter in command.params} - {"set_"}
    found: dict[str, Any] = {}
    for name, value in table.items():
        option = name.replace("-", "_")
        if option in settings:
            continue
        if option not in names:
            raise _unknown(path, where, name, names | settings)
        found[option] = _check_value(path, where, name, value)
    return found


def _check_value(path: Path | None, where: str, name: str, value: Any) -> Any:
    """Return a value that an option can have."""
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str | int | float | bool) for part in parts):
        raise InputError(
            f"{path}: [{where}] {name} is {value!r}; it must be a text, a number, true or false, or"
            " a list of them"
        )
    return [str(part) for part in parts] if isinstance(value, list) else value


def _unknown(path: Path | None, where: str, name: str, known: Any) -> InputError:
    close = get_close_matches(name, [str(one) for one in known], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    table = f"[{where}] has no option" if where else "there is no command"
    return InputError(f"{path}: {table} {name!r}{hint}")


def is_given(context: Any, name: str) -> bool:
    """Return whether an option was set by command line, environment or file."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def write_value(value: Any) -> str:
    """Return a value of the file as the command line would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(str(part) for part in value) if isinstance(value, list) else str(value)


def check_settings(configuration: Configuration) -> list[str]:
    """Return NAME=VALUE of the settings in file and environment; an error names the source."""
    from twinlens.serving.settings import ServerSettings, override

    found = []
    for name, value, source in configuration.list_settings("serve", SERVE_SETTINGS):
        text = write_value(value)
        try:
            override(ServerSettings(), name, text)
        except InputError as error:
            raise InputError(f"{source}: {error.message}", field=name) from None
        found.append(f"{name}={text}")
    return found
