"""The frame of the benchmarks: their JSON, and a runner that survives a broken script."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"benchmark_{name.strip('_')}", FOLDER / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_report_writes_rows_and_bars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = load("report").Report("speed")
    report.row(tower="image", ratio=2.5)
    report.bar("image_ratio", 2.5, 2.0, True)
    report.bar("text_ratio", 1.5, 7.0, False)
    report.finish(tmp_path / "speed.json")
    content = json.loads((tmp_path / "speed.json").read_text())
    assert set(content) == {"name", "machine", "rows", "bars"}
    assert content["rows"] == [{"tower": "image", "ratio": 2.5}]
    assert content["bars"]["text_ratio"] == {"value": 1.5, "target": 7.0, "holds": False}
    out = capsys.readouterr().out
    assert "image_ratio: 2.5 (target 2) holds" in out
    assert "text_ratio: 1.5 (target 7) MISSED" in out


def test_the_runner_lists_what_needs_no_gpu() -> None:
    names = load("__main__").list_benchmarks()
    assert "report" not in names
    assert not [name for name in names if name.endswith("_gpu")]


def test_a_broken_benchmark_costs_only_its_own_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "fine.py").write_text(
        "import json, sys\n"
        "bars = {'bar': {'value': 1.0, 'target': 1.0, 'holds': True}}\n"
        "json.dump({'bars': bars}, open(sys.argv[2], 'w'))\n"
    )
    runner = load("__main__")
    monkeypatch.setattr(runner, "_HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    assert runner.main() == 1
    out = capsys.readouterr().out
    assert "holds  fine.bar: 1 (target 1)" in out
    assert "did not finish: broken" in out


def test_every_benchmark_answers_with_a_report() -> None:
    for path in FOLDER.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith('"""'), path.name
        if path.stem not in ("__main__", "report"):
            assert "Report(" in text, path.name
            assert "parse_arguments" in text or "--json" in text, path.name
