"""`twinlens config`: the options of a command as they are now, and where each comes from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from twinlens.cli.configuration import (
    FILE_NAME,
    FILE_VARIABLE,
    SERVE_SETTINGS,
    Configuration,
    list_variables,
    start_of,
)
from twinlens.cli.options import Json
from twinlens.cli.terminal import print_json, print_note
from twinlens.errors import InputError


def config(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(help="The command, e.g. `serve` or `index build`.", metavar="COMMAND"),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show the options (the default).")] = True,
    json: Json = False,
) -> None:
    """Show the current options of a command, and the source of each.

    Precedence: command line, environment, file, default. The file is the one
    named by TWINLENS_CONFIG, else ./twinlens.toml, else ~/.config/twinlens/twinlens.toml.

    [bold]Example:[/] twinlens config --show serve
    """
    configuration = context.find_object(Configuration) or Configuration()
    names = command or ["serve"]
    rows = _list_options(context, names, configuration)
    rows += _list_settings(configuration, names)
    unknown = _find_unknown(names, rows)
    if json:
        path = configuration.path
        print_json({"file": path and str(path), "options": rows, "unknown": unknown})
        return
    where = configuration.path or f"none ({FILE_VARIABLE}, ./{FILE_NAME} or the user's folder)"
    print_note(f"file: {where}")
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        typer.echo(f"{row['name']:{width}}  {row['value']!s:24}  {row['source']}".rstrip())
    for name in unknown:
        print_note(f"{name} is set, but {' '.join(names)} has no such option")


def _list_options(
    context: typer.Context, names: list[str], configuration: Configuration
) -> list[dict[str, Any]]:
    """Return name, value and source of every option of a command."""
    root = context.find_root()
    parent, command = root, root.command
    for name in names:
        inner = getattr(command, "commands", {}).get(name)
        if inner is None:
            raise InputError(f"there is no command {' '.join(names)!r}; see `twinlens --help`")
        command = inner
        parent = command.make_context(name, [], parent=parent, resilient_parsing=True)
    if hasattr(command, "commands"):
        known = ", ".join(command.commands)
        raise InputError(f"{' '.join(names)!r} is a group of commands: name one of {known}")
    start = start_of(".".join(names))
    rows = []
    for parameter in command.params:
        if parameter.name in ("set_", "help") or parameter.name is None:
            continue
        source = parent.get_parameter_source(parameter.name)
        label = {
            "ENVIRONMENT": f"{start}{parameter.name.upper()}",
            "DEFAULT_MAP": f"{configuration.path} [{'.'.join(names)}]",
        }.get(source.name if source else "", "default")
        value = parent.params.get(parameter.name)
        rows.append({"name": parameter.name, "value": _write(value), "source": label})
    return rows


def _list_settings(configuration: Configuration, names: list[str]) -> list[dict[str, Any]]:
    """Return the server's settings that have no option, with those that are set."""
    if names != ["serve"]:
        return []
    from twinlens.cli.configuration import check_settings
    from twinlens.serving.settings import ServerSettings, list_names, override, read_value

    settings = ServerSettings()
    for option in check_settings(configuration):
        name, _, text = option.partition("=")
        settings = override(settings, name, text)
    set_by = configuration.list_settings("serve", SERVE_SETTINGS)
    sources = {name: source for name, _, source in set_by}
    return [
        {
            "name": name,
            "value": _write(read_value(settings, name)),
            "source": sources.get(name, "default"),
        }
        for name in list_names(settings)
        if name.partition(".")[0] in SERVE_SETTINGS
    ]


def _find_unknown(names: list[str], rows: list[dict[str, Any]]) -> list[str]:
    """Return variables that look like an option of this command, and are none."""
    start = start_of(".".join(names))
    known = {start + row["name"].upper().replace(".", "_") for row in rows}
    return [name for name in list_variables(".".join(names)) if name not in known]


def _write(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list | tuple):
        return " ".join(str(part) for part in value) or "-"
    return str(value).lower() if isinstance(value, bool) else str(value)
