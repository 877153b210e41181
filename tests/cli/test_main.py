"""The command line: results, one-line errors, exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twinlens.cli import main as main_module
from twinlens.cli.main import run
from twinlens.version import __version__

Run = Callable[..., tuple[int, str, str]]


def test_the_version_is_printed(cli: Run) -> None:
    assert cli("--version") == (0, __version__ + "\n", "")


def test_help_names_every_command_and_each_has_an_example(cli: Run) -> None:
    code, out, _ = cli("--help")
    assert code == 0
    for name in main_module.COMMANDS:
        assert name in out
        code, text, _ = cli(name, "--help")
        assert code == 0
        assert f"Example: twinlens {name}" in " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "/nowhere"], "'/nowhere' does not exist"),
        (["embed"], "nothing to embed"),
        (["embed", "/nowhere.png", "-b", "TOY"], "/nowhere.png"),
        (["classify", "x.png", "-c", " , ", "-b", "TOY"], "--classes is empty"),
        (["embed", "-t", "a", "-b", "TOY", "--precision", "int3"], "precision 'int3'"),
        (["embed", "-t", "a", "-b", "TOY", "--dimensions", "5"], "dimensions is 5"),
    ],
)
def test_user_errors_are_one_line_and_exit_2(
    cli: Run, toy_bundle: Path, arguments: list[str], message: str
) -> None:
    given = [str(toy_bundle) if argument == "TOY" else argument for argument in arguments]
    code, _, err = cli(*given)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_an_unknown_option_is_a_user_error(cli: Run) -> None:
    assert cli("embed", "--colour", "red")[0] == 2


def _fail(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RuntimeError("oh"), 1, "internal error: RuntimeError: oh (--debug shows where)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_internal_errors_and_interrupts_have_their_exit_codes(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, message: str
) -> None:
    assert main_module._guard(_fail(error), debug=False) == code
    assert message in capsys.readouterr().err


def test_debug_gives_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_app() -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(main_module, "build_app", broken_app)
    with pytest.raises(ZeroDivisionError):
        run(["--debug", "check"])


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twinlens", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == __version__
