"""The 200-epoch table of ResNet-18 on CIFAR-10 (JPEG): every method, in one resumable call.

    python benchmarks/methods_gpu.py --runs FOLDER [--seeds 0,1,2] [--minutes 25] --json FILE
    python benchmarks/methods_gpu.py --runs FOLDER --dry-run

The `cifar10` recipes, 200 epochs each, rows in the order of `PUBLISHED`, first seed first. Runs
stay in FOLDER with their logs; the same call resumes where the last one stopped, within a run too,
and keeps finished rows. After `--minutes` it stops with a checkpoint. `--dry-run` does the same in
two minutes on any machine: generated images, a tiny encoder, three steps; it checks the script, and
its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from report import Report
from train_gpu import draw_halves, find_halves

from twinlens.training.config import Config, apply_sets, known_keys
from twinlens.training.evaluation.report import evaluate_encoder
from twinlens.training.loop.loop import train
from twinlens.training.progress import Display, open_display
from twinlens.training.recipes import open_recipe
from twinlens.training.runs.logs import LOG, read_log

EPOCHS = 200
# The best kNN in lightly's published benchmark for 200 epochs, of batch sizes 128 and 512;
# 0 if it has no row.
PUBLISHED = {
    "byol": 86.9,
    "simclr": 84.8,
    "moco": 84.7,
    "swav": 84.2,
    "barlow": 84.2,
    "dino": 84.0,
    "simsiam": 81.9,
    "mocov3": 0.0,
    "vicreg": 0.0,
    "supcon": 0.0,
}
DRY = {
    "encoder": "resnet-tiny",
    "image_size": "16",
    "stored_size": "16",
    "batch": "16",
    "steps": "3",
    "warmup": "1",
    "hidden": "16",
    "narrow": "8",
    "prototypes": "12",
    "queue": "32",
    "precision": "fp32",
    "device": "cpu",
    "log_every": "1",
}


class Deadline:
    """A display that ends the work when the time is over; the loop saves a checkpoint first."""

    def __init__(self, inner: Display, ends: float) -> None:
        self.inner, self.ends = inner, ends

    def say(self, text: str) -> None:
        """Pass it on."""
        self.inner.say(text)

    def advance(self, what: str, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Pass it on, or stop."""
        self.inner.advance(what, done, total, numbers)
        if time.monotonic() > self.ends:
            raise KeyboardInterrupt

    def close(self) -> None:
        """Pass it on."""
        self.inner.close()


def main() -> None:
    """Add rows until all are there or the time is over."""
    arguments = parse()
    halves = find_data(arguments)
    if halves is None:
        return
    display = Deadline(open_display(), time.monotonic() + 60 * arguments.minutes)
    dry = " (dry run: the numbers mean nothing)" if arguments.dry_run else ""
    report = Report(f"methods_gpu{dry}")
    try:
        for seed in map(int, arguments.seeds.split(",")):
            for method in arguments.methods.split(","):
                report.row(**provide_row(method, seed, halves, display, arguments))
    except KeyboardInterrupt:
        print("stopped; the same call continues from there")
    finally:
        display.close()
    if not arguments.dry_run:
        add_bars(report)
    report.finish(arguments.json)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, required=True, help="where runs and rows are kept")
    parser.add_argument("--methods", default=",".join(PUBLISHED))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this many")
    parser.add_argument("--set", action="append", default=[], help="key=value over the recipes")
    parser.add_argument("--dry-run", action="store_true", help="check the script without a GPU")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def find_data(arguments: argparse.Namespace) -> tuple[str, str] | None:
    """Return the training and test halves, or say why there are none."""
    if arguments.dry_run:
        images = arguments.runs / "images"
        if images.is_dir():
            return str(images / "train"), str(images / "test")
        return draw_halves(images)
    folder = os.environ.get("TWINLENS_DATA")
    if not torch.cuda.is_available():
        print("skipped: torch sees no GPU; --dry-run checks the script without one")
    elif folder is None:
        print("skipped: TWINLENS_DATA is not set, and CIFAR-10 (JPEG) is not part of the project")
    else:
        return find_halves(Path(folder))
    return None


def configure(method: str, seed: int, arguments: argparse.Namespace) -> Config:
    """Return the configuration of a row."""
    config = open_recipe(method, "cifar10")
    known = {*known_keys(config.objective), *known_keys(config.settings)}
    sets = [f"{key}={value}" for key, value in DRY.items() if key in known]
    chosen = sets if arguments.dry_run else [f"epochs={EPOCHS}", "compile=true"]
    return apply_sets(config, [*chosen, *arguments.set, f"seed={seed}"])


def provide_row(
    method: str,
    seed: int,
    halves: tuple[str, str],
    display: Display,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Return an existing row, or train for it and store it beside its run."""
    out = arguments.runs / f"{method}-{seed}"
    kept = out.with_suffix(".json")
    if kept.is_file():
        row: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return row
    config = configure(method, seed, arguments)
    finished = train(config, halves[0], out, display)
    found = evaluate_encoder(str(out), halves[1], bank=halves[0], limit=0, display=display)
    speeds = [float(row["images/s"]) for row in read_log(out) if "images/s" in row]
    speed = statistics.median(speeds)
    row = {
        "method": method,
        "seed": seed,
        "steps": finished.step,
        "knn": found["knn"],
        "linear": found["linear"],
        "rank": found["effective_rank"],
        "published_knn": PUBLISHED.get(method, 0.0) or None,
        # By the logged rates: a run may have been interrupted and resumed.
        "minutes": round(finished.step * config.settings.batch / speed / 60, 2),
        "images_per_second": round(speed),
        "log": f"{out.name}/{LOG}",
    }
    kept.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return row


def add_bars(report: Report) -> None:
    """Compare the mean over seeds of each method with the published figure."""
    for method, published in PUBLISHED.items():
        found = [float(row["knn"]) for row in _rows(report) if row["method"] == method]
        if found and published:
            mean = statistics.mean(found)
            report.bar(f"{method}_knn", round(mean, 2), published, mean >= published)


def _rows(report: Report) -> list[dict[str, Any]]:
    return report.rows


if __name__ == "__main__":
    main()
