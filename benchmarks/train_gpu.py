"""SimCLR on one GPU in a single call: accuracy, time and views a second.

    python benchmarks/train_gpu.py [--dry-run] [--seeds 3] --json train_gpu.json

ResNet-18, 100 epochs, and ResNet-50, 80 epochs, on CIFAR-10 (JPEG) under $TWINLENS_DATA, by the
recipes `cifar10` and `cifar10_resnet50`. `--dry-run` does the same in a minute anywhere: generated
images, a tiny encoder, two steps; it proves the script, and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from report import Report

from twinlens.training.config import apply_sets
from twinlens.training.evaluation.report import evaluate_encoder
from twinlens.training.loop.loop import train
from twinlens.training.progress import open_display
from twinlens.training.recipes import open_recipe

VIEWS = 2  # an image
DRY = ["encoder=vit-nano/8", "batch=8", "steps=2", "epochs=1", "hidden=16", "precision=fp32"]


@dataclass(frozen=True)
class Trial:
    """A recipe and what it is held to; None where there is no bar."""

    recipe: str
    knn: float | None
    linear: float
    minutes: float | None = None
    views_per_second: float | None = None


TRIALS = (
    Trial("cifar10", knn=83.0, linear=85.5, minutes=6.0, views_per_second=30_000),
    Trial("cifar10_resnet50", knn=None, linear=88.0),
)


def main() -> None:
    """Train, judge, print the table and write the JSON."""
    arguments = parse()
    if not arguments.dry_run and not torch.cuda.is_available():
        print("skipped: torch sees no GPU; --dry-run proves the script without one")
        return
    folder = os.environ.get("TWINLENS_DATA")
    if not arguments.dry_run and folder is None:
        print("skipped: TWINLENS_DATA is not set, and CIFAR-10 (JPEG) is not part of the project")
        return
    report = Report(
        "train_gpu (dry run: the numbers mean nothing)" if arguments.dry_run else "train_gpu"
    )
    with tempfile.TemporaryDirectory() as work:
        halves = draw_halves(Path(work)) if arguments.dry_run else find_halves(Path(folder or ""))
        for trial in TRIALS:
            for seed in range(arguments.seeds):
                measure(report, trial, halves, Path(work), seed, arguments)
    report.finish(arguments.json)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="prove the script without a GPU")
    parser.add_argument("--quick", action="store_true", help="one seed (the default)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], help="key=value over the recipes")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def measure(
    report: Report,
    trial: Trial,
    halves: tuple[str, str],
    work: Path,
    seed: int,
    arguments: argparse.Namespace,
) -> None:
    """Add one row, and the bars of the first seed."""
    sets = [*(DRY if arguments.dry_run else ["compile=true"]), *arguments.set, f"seed={seed}"]
    config = apply_sets(open_recipe("simclr", trial.recipe), sets)
    out = work / f"{trial.recipe}-{seed}"
    display = open_display()
    try:
        began = time.monotonic()
        finished = train(config, halves[0], out, display)
        minutes = (time.monotonic() - began) / 60
        found = evaluate_encoder(str(out), halves[1], bank=halves[0], limit=0, display=display)
    finally:
        display.close()
    speed = finished.step * config.settings.batch * VIEWS / (minutes * 60)
    report.row(
        recipe=trial.recipe,
        seed=seed,
        steps=finished.step,
        knn=found["knn"],
        linear=found["linear"],
        rank=found["effective_rank"],
        minutes=round(minutes, 2),
        views_per_second=round(speed),
    )
    if seed == 0 and not arguments.dry_run:
        add_bars(report, trial, found, minutes, speed)


def add_bars(
    report: Report, trial: Trial, found: dict[str, float | int], minutes: float, speed: float
) -> None:
    """Hold the row to its trial."""
    for name, target in (("knn", trial.knn), ("linear", trial.linear)):
        if target is not None:
            report.bar(f"{trial.recipe}_{name}", found[name], target, found[name] >= target)
    if trial.minutes is not None:
        report.bar(f"{trial.recipe}_minutes", minutes, trial.minutes, minutes < trial.minutes)
    if trial.views_per_second is not None:
        holds = speed >= trial.views_per_second
        report.bar(f"{trial.recipe}_views_per_second", speed, trial.views_per_second, holds)


def find_halves(folder: Path) -> tuple[str, str]:
    """Return the real training and test halves."""
    return str(folder / "cifar10_jpeg/train.zip"), str(folder / "cifar10_jpeg/test.zip")


def draw_halves(work: Path) -> tuple[str, str]:
    """Return two folders of generated images in two classes."""
    draws = np.random.default_rng(0)
    for half in ("train", "test"):
        for index in range(24):
            pixels = draws.integers(0, 90, (32, 32, 3), dtype=np.uint8)
            pixels[..., index % 2] += 120
            place = work / half / ("red", "green")[index % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place / f"{index:02}.png")
    return str(work / "train"), str(work / "test")


if __name__ == "__main__":
    main()
