"""The known order: untrained, trained, trained longer, by real small runs on emoji."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch

from twinlens.training.evaluation.run_examinee import examine_run
from twinlens.training.loop.loop import train
from twinlens.training.progress import Silent
from twinlens.training.recipes import open_recipe
from twinlens.training.runs.starting import apply_pairs
from twinlens.training.suites.catalogue import SUITES, run_suite
from twinlens.training.suites.material import read_material

CONCEPTS = 48
HELD_OUT = "noto"  # a design that no run sees
SMALL = (
    "encoder=vit-nano/4", "image_size=32", "text_width=64", "dim=64", "vocabulary=400",
    "context=16", "batch=64", "threads=1", "device=cpu", "doctor=false", "monitor_share=0",
)  # fmt: skip


def write_parts(folder: Path) -> None:
    """Write emoji of a few concepts with their label as caption, one design apart as the test."""
    source = zipfile.ZipFile(Path(os.environ["TWINLENS_DATA"]) / "emoji64" / "train.zip")
    rows = [json.loads(line) for line in source.read("index.jsonl").decode().splitlines()]
    held = {row["label"] for row in rows if row["style"].startswith(HELD_OUT)}
    concepts = set(sorted(held)[:: max(1, len(held) // CONCEPTS)][:CONCEPTS])
    for part, is_test in (("train", False), ("test", True)):
        chosen = [
            row
            for row in rows
            if row["label"] in concepts and row["style"].startswith(HELD_OUT) is is_test
        ]
        with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
            for row in chosen:
                archive.writestr(row["file"], source.read(row["file"]))
            kept = [{"file": r["file"], "cls": r["label"], "caption": r["label"]} for r in chosen]
            archive.writestr("index.jsonl", "\n".join(map(json.dumps, kept)))


@pytest.mark.slow
@pytest.mark.skipif("TWINLENS_DATA" not in os.environ, reason="TWINLENS_DATA is not set")
def test_scores_rise_with_training(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    write_parts(tmp_path)
    material = read_material(str(tmp_path / "test.zip"), 0)
    scores: dict[str, list[float]] = {"classes": [], "retrieval": []}
    for name, sets in (
        ("untrained", ("steps=1", "lr=0", "warmup=0")),
        ("trained", ("steps=40",)),
        ("longer", ("steps=400",)),
    ):
        config = apply_pairs(open_recipe("clip", "default"), [*SMALL, *sets])
        train(config, str(tmp_path / "train.zip"), tmp_path / name, Silent())
        examinee = examine_run(tmp_path / name)
        for suite, found in scores.items():
            found.append(run_suite(SUITES[suite], examinee, material).measure.score)
    for suite, (untrained, trained, longer) in scores.items():
        assert untrained < trained < longer, (suite, scores)
        assert untrained < 0.15 and longer > 0.3, (suite, scores)
