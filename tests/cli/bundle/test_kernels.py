"""`twinlens kernels` shows what is built, and refuses unsupported architectures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from twinlens.cli.bundle.kernels import app
from twinlens.errors import InputError


def test_status_reports_that_nothing_is_built(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["status", "--in", str(tmp_path), "--json"])
    assert answer.exit_code == 0
    assert json.loads(answer.stdout)["state"] == "none"
    spoken = CliRunner().invoke(app, ["status", "--in", str(tmp_path)])
    assert "not built (twinlens kernels build)" in spoken.stdout


def test_an_architecture_without_tiles_is_refused(tmp_path: Path) -> None:
    command = ["build", "--out", str(tmp_path), "--architecture", "70"]
    with pytest.raises(InputError, match="choose from 80, 90"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert list(tmp_path.glob("*.so")) == []
