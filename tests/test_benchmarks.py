"""The frame of the benchmarks: their JSON, and a runner that survives a broken script."""

from __future__ import annotations

import importlib.util
import json
import subprocess
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
    sys.modules[spec.name] = module  # where dataclasses look for their module
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


@pytest.mark.parametrize("name", ["builtin", "tokenizer"])
def test_a_script_that_uses_the_repository_runs_by_its_path_alone(
    name: str, tmp_path: Path
) -> None:
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr


def test_every_benchmark_answers_with_a_report() -> None:
    for path in FOLDER.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith('"""'), path.name
        if path.stem not in ("__main__", "peak", "report"):
            assert "Report(" in text, path.name
            assert "parse_arguments" in text or "--json" in text, path.name


def test_the_plot_of_recall_takes_points_and_nothing_else() -> None:
    spec = importlib.util.spec_from_file_location(
        "draw_recall", FOLDER.parent / "docs" / "draw_recall.py"
    )
    assert spec is not None
    assert spec.loader is not None
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    series = drawing.collect_series(
        [
            {"what": "exact, batch 16", "ms": 4.0, "stock_ms": 20.0},
            {"what": "ivf-sq8 for 0.95", "ms": 2.0, "recall": 0.96},
            {"what": "FAISS Flat", "ms": 20.0, "recall": 1.0},
            {"what": "LanceDB IVF_PQ, (5, 10)", "ms": 10.0, "recall": 0.9},
            {"what": "LanceDB IVF_PQ, (10, 10)", "ms": 12.5, "recall": 0.95},
            {"what": "at 0.95: LanceDB IVF_PQ ((10, 10))", "ms": 11.0, "recall": 0.95},
            {"what": "filter keeps 1.0%", "ms": 1.0, "recall": 1.0},
            {"what": "usearch f16: not installed (usearch)"},
        ]
    )
    assert series == {
        "exact, batched": [(1.0, 250.0)],
        "FAISS Flat": [(1.0, 50.0), (1.0, 50.0)],
        "twinlens ivf-sq8, tuned": [(0.96, 500.0)],
        "LanceDB IVF_PQ": [(0.9, 100.0), (0.95, 80.0)],
    }
    picture = drawing.draw(series, "a run")
    assert picture.count("<polyline") == 4


@pytest.mark.slow
def test_stores_run_at_equal_recall_and_a_missing_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from report import Report
    from searching import peers, stage, stores
    from worlds.embeddings import make_world

    class Absent(stores.Hnsw):
        label = "absent"
        needs = ("no_such_module",)

    monkeypatch.setattr(peers, "STORES", (stores.Hnsw, Absent))
    monkeypatch.setattr(peers, "ROUNDS", 5)
    report = Report("peers")
    filled = stage.fill(report, make_world(4000, 600), tmp_path)
    with filled.writer:
        peers.compare_stores(filled)
    rows = {str(row["what"]): row for row in report.rows}
    assert "absent: not installed (no_such_module)" in rows
    for store in ("FAISS Flat", "twinlens ivf-sq8", "FAISS HNSW32"):
        reached = [row for what, row in rows.items() if what.startswith(f"at 0.95: {store}")]
        assert len(reached) == 1, store
        assert float(str(reached[0]["recall"])) >= 0.7  # of five of the texts that chose the dial


def test_an_embedded_image_passes_through_no_more_code_than_was_recorded(tmp_path: Path) -> None:
    out = tmp_path / "trace.json"
    command = [sys.executable, str(FOLDER / "trace.py"), "--quick", "--json", str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    content = json.loads(out.read_text())
    assert {row["what"].partition(",")[0] for row in content["rows"]} == {
        "/embed",
        "/zeroshot",
        "/search",
        "search",
    }
    assert all(0 < row["files"] <= row["functions"] for row in content["rows"])
    assert [bar for bar in content["bars"].values() if not bar["holds"]] == []


def test_a_trace_counts_files_functions_and_changes_of_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One action through two files, in a package of three; other code does not count."""
    monkeypatch.syspath_prepend(str(FOLDER))
    trace = load("trace")
    (tmp_path / "low.py").write_text("def low(): return sum(i for i in [1])\n")
    (tmp_path / "high.py").write_text(
        "import json\nfrom low import low\ndef high(): return json.dumps(low() + low() + own())\n"
        "def own(): return 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(trace, "PACKAGE", str(tmp_path))
    from high import high  # type: ignore[import-not-found]

    recorder = trace.Recorder()
    before = sys.getprofile()
    with trace.profile_threads(recorder):
        counts = recorder.count(high)
    sys.setprofile(before)
    # high, low, its generator, low, its generator, own
    assert counts == trace.Counts(changes=2, functions=4, files=2)
