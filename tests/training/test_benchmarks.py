"""The benchmarks of this room run: small, and saying so where they cannot."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from twinlens.bundle.encoder import open_bundle

ROOT = Path(__file__).parents[2]


def run_benchmark(name: str, *arguments: str, **environment: str) -> str:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    clean = {key: value for key, value in os.environ.items() if key != "TWINLENS_DATA"}
    command = [sys.executable, str(ROOT / "benchmarks" / name), *arguments]
    done = subprocess.run(
        command,
        env={**clean, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return done.stdout


def test_the_gpu_benchmark_is_one_call_that_runs_dry_anywhere(tmp_path: Path) -> None:
    out = run_benchmark("train_gpu.py", "--dry-run", "--json", str(tmp_path / "gpu.json"))
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert [row["recipe"] for row in content["rows"]] == [
        "cifar10_fast",
        "cifar10",
        "cifar10_resnet50",
    ]
    assert all(row["steps"] == 2 for row in content["rows"])
    assert content["bars"] == {} and "mean nothing" in out


def test_every_image_of_a_benchmark_has_captions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a set has no words of its own, its class gives them, so that all methods can run."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from worlds.pictures import TEMPLATES, write_half

    index = [{"file": "a.jpg", "cls": "frog"}, {"file": "b.jpg", "cls": "ship"}]
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        for row in index:
            archive.writestr(row["file"], b"bytes")
        archive.writestr("index.jsonl", "\n".join(map(json.dumps, index)))
    write_half(tmp_path / "whole.zip", tmp_path / "half.zip", 1)
    with zipfile.ZipFile(tmp_path / "half.zip") as half:
        (row,) = map(json.loads, half.read("index.jsonl").splitlines())
        assert half.read(row["file"]) == b"bytes"
    assert row["captions"] == [template.format(row["cls"]) for template in TEMPLATES]


@pytest.mark.slow
def test_the_gpu_table_resumes_and_keeps_its_rows(tmp_path: Path) -> None:
    runs, path = tmp_path / "runs", tmp_path / "table.json"
    call = ("methods_gpu.py", "--dry-run", "--runs", str(runs), "--json", str(path))
    out = run_benchmark(*call, "--methods", "simsiam,barlow", "--minutes", "0")
    assert "continues from there" in out and json.loads(path.read_text())["rows"] == []
    run_benchmark(*call, "--methods", "simsiam,barlow")
    rows = json.loads(path.read_text())["rows"]
    assert [(row["method"], row["seed"], row["steps"]) for row in rows] == [
        ("simsiam", 0, 3),
        ("barlow", 0, 3),
    ]
    assert all((runs / row["log"]).is_file() for row in rows)
    kept = (runs / "barlow-0.json").read_text().replace('"steps": 3', '"steps": 4')
    (runs / "barlow-0.json").write_text(kept)
    run_benchmark(*call, "--methods", "barlow")
    assert [row["steps"] for row in json.loads(path.read_text())["rows"]] == [4]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_cpu.py", "find_lr.py", "finetune_clip.py", "families.py"])
def test_without_data_a_training_benchmark_says_so(name: str) -> None:
    assert "TWINLENS_DATA is not set" in run_benchmark(name, "--quick")


@pytest.mark.slow
def test_the_doctors_benchmark_runs_on_drawings_and_counts_false_alarms(tmp_path: Path) -> None:
    path = tmp_path / "doctor.json"
    run_benchmark("doctor.py", "--quick", "--methods", "simclr,mae", "--json", str(path))
    content = json.loads(path.read_text())
    assert [row["method"] for row in content["rows"]] == ["simclr", "mae"]
    assert {row["data"] for row in content["rows"]} == {"drawings"}
    assert content["bars"]["false_alarms"] == {"value": 0, "target": 0, "holds": True}


@pytest.mark.slow
def test_the_views_benchmark_compares_and_holds_at_the_size_that_cpus_train_on(
    tmp_path: Path,
) -> None:
    run_benchmark("views.py", "--quick", "--json", str(tmp_path / "views.json"))
    bars = json.loads((tmp_path / "views.json").read_text())["bars"]
    assert bars["ratio_at_32"]["value"] > 2


@pytest.mark.slow
def test_the_gradient_checkpointing_benchmark_measures_both_ways(tmp_path: Path) -> None:
    run_benchmark("gradient_checkpointing.py", "--quick", "--json", str(tmp_path / "memory.json"))
    rows = json.loads((tmp_path / "memory.json").read_text())["rows"]
    assert [row["way"] for row in rows] == ["usual", "checkpointed"]


@pytest.mark.slow
def test_the_monitors_benchmark_counts_their_share(tmp_path: Path) -> None:
    run_benchmark("monitors.py", "--quick", "--json", str(tmp_path / "monitors.json"))
    share = json.loads((tmp_path / "monitors.json").read_text())["bars"]["monitors_share"]["value"]
    assert 0 < share < 0.05


@pytest.mark.slow
def test_the_evaluation_asks_drawings_where_there_are_no_data(tmp_path: Path) -> None:
    out = run_benchmark("evaluation.py", "--quick", "--json", str(tmp_path / "evaluation.json"))
    rows = json.loads((tmp_path / "evaluation.json").read_text())["rows"]
    suites = {row["suite"] for row in rows}
    assert suites == {"relations", "association", "typographic", "robustness"}
    assert all(row["low"] <= row["score"] <= row["high"] for row in rows)
    assert "coco_mini/test.zip left out" in out


@pytest.mark.parametrize("shared", [True, False], ids=["classes shared", "classes apart"])
def test_a_student_is_judged_within_the_test_half_where_the_halves_share_no_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from distillation import knn

    colours = {"train": {"red": 250, "black": 0}, "test": {"red": 250, "black": 0}}
    if not shared:
        colours["train"] = {"brown": 60, "rose": 200}
    for part, classes in colours.items():
        with zipfile.ZipFile(tmp_path / f"{part}.zip", "w") as archive:
            rows = []
            for name, level in classes.items():
                for number in range(4):
                    picture = io.BytesIO()
                    Image.new("RGB", (16, 16), (level, number, 0)).save(picture, "PNG")
                    archive.writestr(f"{name}{number}.png", picture.getvalue())
                    rows.append(json.dumps({"file": f"{name}{number}.png", "label": name}))
            archive.writestr("index.jsonl", "\n".join(rows))
    assert knn(open_bundle("builtin", threads=1), tmp_path) == 100.0
