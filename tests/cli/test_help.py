"""Help texts are sentences with an example that parses; shells complete the commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from twinlens.cli.main import build_app

_ENTRY = "import sys; sys.argv[0] = 'twinlens'; from twinlens.cli.main import run; run()"


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every command with its full name, including groups."""
    yield name, command
    for each, inner in getattr(command, "commands", {}).items():
        yield from walk(inner, f"{name} {each}")


ROOT = typer.main.get_command(build_app())
COMMANDS = dict(walk(ROOT, "twinlens"))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_help_text_is_a_sentence(name: str) -> None:
    command = COMMANDS[name]
    assert (command.help or "").strip()
    for parameter in command.params:
        text = getattr(parameter, "help", None)
        if parameter.name in ("help", "install_completion", "show_completion"):
            continue
        assert text and text.rstrip().endswith("."), (name, parameter.name, text)


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"twinlens"}))
def test_the_example_of_a_command_parses(name: str) -> None:
    """Parsed, not run: a renamed option would fail here."""
    found = re.search(r"Example:\[/\] twinlens (.+)", COMMANDS[name].help or "")
    assert found, name
    arguments = shlex.split(found[1])
    at: Any = ROOT
    while hasattr(at, "commands"):
        at = at.commands[arguments.pop(0)]
    context = at.make_context(name, arguments, resilient_parsing=False)
    assert context.params


def complete(shell: str, **variables: str) -> str:
    environment = os.environ | {"_TWINLENS_COMPLETE": f"complete_{shell}"} | variables
    command = [sys.executable, "-c", _ENTRY]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_bash_completes_a_command_and_a_command_of_a_group() -> None:
    assert complete("bash", COMP_WORDS="twinlens tr", COMP_CWORD="1").split() == ["train"]
    assert complete("bash", COMP_WORDS="twinlens index bu", COMP_CWORD="2").split() == ["build"]


def test_zsh_completes_an_option_with_its_description() -> None:
    assert "Port; 0 selects a free one." in complete(
        "zsh", _TYPER_COMPLETE_ARGS="twinlens serve --po"
    )


def test_help_names_values_in_words() -> None:
    environment = os.environ | {"COLUMNS": "200", "TERM": "dumb"}
    for name in ("search", "classify", "serve"):
        command = [sys.executable, "-c", _ENTRY, name, "--help"]
        shown = subprocess.run(command, env=environment, capture_output=True, text=True).stdout
        assert not re.search(r"<\w|range|list\[|x>=|<=x", shown), name
    assert "number, 0 to 65535" in shown
    assert re.search(r"--tls-cert +path ", shown)
