"""The command line: results, one-line errors, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinlens.cli import main as main_module
from twinlens.cli.main import run
from twinlens.version import __version__

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs the command line: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        code = stop.value.code
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return call


@pytest.fixture
def pictures(tmp_path: Path, squares: dict[str, bytes]) -> dict[str, Path]:
    paths = {colour: tmp_path / f"{colour}.png" for colour in squares}
    for colour, path in paths.items():
        path.write_bytes(squares[colour])
    return paths


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


def test_classify_prints_the_best_first(
    cli: Run, toy_bundle: Path, pictures: dict[str, Path]
) -> None:
    code, out, err = cli("classify", pictures["blue"], "-c", "red, blue", "--bundle", toy_bundle)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == str(pictures["blue"])
    assert lines[1].split()[0] == "blue"


def test_classify_answers_json(cli: Run, toy_bundle: Path, pictures: dict[str, Path]) -> None:
    code, out, _ = cli(
        "classify", pictures["red"], "-c", "red", "-c", "green", "-b", toy_bundle, "--json", "-k", 1
    )
    answer = json.loads(out)
    assert code == 0
    (label,) = answer["data"][0]["labels"]
    assert (label["label"], label["index"]) == ("red", 0)
    assert label["score"] > 0.99
    assert len(answer["revision"]) == 64


def test_embed_writes_rows_in_the_order_given(
    cli: Run, toy_bundle: Path, pictures: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "rows.npy"
    code, _, err = cli(
        "embed", pictures["red"], pictures["blue"], "-t", "blue", "-o", out, "-b", toy_bundle
    )
    assert code == 0
    assert "3 x 16" in err
    rows = np.load(out)
    assert rows[1] @ rows[2] > 0.99 > rows[0] @ rows[2]


def test_embed_answers_json_and_shorter_rows(cli: Run, toy_bundle: Path) -> None:
    code, out, _ = cli("embed", "-t", "red", "--json", "--dimensions", 4, "-b", toy_bundle)
    assert code == 0
    assert np.shape(json.loads(out)["embeddings"]) == (1, 4)


def test_embed_prints_one_line_per_input(cli: Run, toy_bundle: Path) -> None:
    _, out, _ = cli("embed", "-t", "red", "-t", "green", "-b", toy_bundle)
    assert [line.split()[0] for line in out.splitlines()] == ["red", "green"]


def test_check_replays_golden(cli: Run, toy_bundle: Path) -> None:
    code, out, _ = cli("check", toy_bundle)
    assert code == 0
    assert "fp32: 7 golden inputs replayed" in out
    code, out, _ = cli("check", toy_bundle, "--json")
    assert json.loads(out)["ok"] is True


def test_check_of_a_damaged_bundle_is_one_line_and_exit_2(
    cli: Run, make_toy: Callable[..., Path]
) -> None:
    folder = make_toy()
    (folder / "image.onnx.data").unlink()
    code, out, err = cli("check", folder)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "image.onnx.data" in err


def test_info_prints_the_card(cli: Run, toy_bundle: Path) -> None:
    code, out, _ = cli("info", toy_bundle)
    assert code == 0
    assert "16 dimensions, or 4, 8" in out
    assert json.loads(cli("info", toy_bundle, "--json")[1])["name"] == "toy"


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
