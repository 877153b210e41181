"""The command line run in this process, and pictures to give it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from twinlens.cli.main import run

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
