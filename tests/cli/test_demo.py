"""`twinlens demo` draws once, says where, and keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from twinlens.cli.main import run


def _call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    with pytest.raises(SystemExit) as stop:
        run(["demo", *arguments])
    assert stop.value.code == 0
    told = capsys.readouterr()
    return told.out, told.err


def test_it_prints_the_table_and_keeps_the_pictures(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "demo"
    out, err = _call(capsys, "--folder", str(folder), "--no-emoji")
    assert Path(out.strip()) == folder / "index.csv"
    assert "drawn from drawings" in err
    out, _ = _call(capsys, "--folder", str(folder), "--no-emoji", "--json")
    told = json.loads(out)
    assert told["kept"] is True
    assert told["count"] == len(list(folder.rglob("*.png")))
