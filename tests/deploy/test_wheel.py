"""The wheel, installed in an empty environment: the server without torch, from a registry alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT, run

pytestmark = pytest.mark.deploy


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs of an environment that holds the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("wheel")
    uv = Path(sys.executable).with_name("uv")
    run(uv, "build", "--quiet", "--wheel", "--out-dir", folder / "dist", ROOT)
    (wheel,) = (folder / "dist").glob("*.whl")
    assert wheel.stat().st_size < 32 << 20
    run(uv, "venv", "--quiet", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    run(uv, "pip", "install", "--quiet", "--python", python, f"{wheel}[cpu]")
    return python.parent


def test_the_builtin_answers_as_it_was_recorded(installed: Path, tmp_path: Path) -> None:
    printed = run(installed / "twinlens", "check", "builtin", folder=tmp_path)
    assert "ok" in printed.lower()


def test_it_holds_no_torch_and_every_command_has_help(installed: Path, tmp_path: Path) -> None:
    code = "import importlib.util as u; print([n for n in ('torch', 'triton') if u.find_spec(n)])"
    assert run(installed / "python", "-c", code, folder=tmp_path).strip() == "[]"
    for command in ("serve", "index", "train", "export", "config"):
        assert "Usage" in run(installed / "twinlens", command, "--help", folder=tmp_path)


def test_what_needs_torch_says_so_in_one_line(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [installed / "twinlens", "train", "simclr", "none.csv"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"TWINLENS_CONFIG": ""},
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "twinlens[cpu,train]" in done.stderr
