"""SimCLR on one GPU in a single call: accuracy, time and views per second.

    python benchmarks/train_gpu.py [--dry-run] [--seeds 3] [--seconds 100] --json train_gpu.json

ResNet-18, 350 and 100 epochs, and ResNet-50, 80 epochs, on CIFAR-10 (JPEG) under $TWINLENS_DATA, by
the recipes `cifar10_fast`, `cifar10` and `cifar10_resnet50`. `--seconds` runs only `cifar10_fast`,
for so long in total: views per second with compiled and recorded steps, with one of both, and with
neither; the share of the time spent waiting for images; how often a step waited for the GPU; and
the accuracy reached in that time. `--dry-run` does the same in a minute on any machine: generated
images, a tiny encoder, two steps; it checks the script, and its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from report import Report

from twinlens.training.config import Config, apply_sets
from twinlens.training.evaluation.report import evaluate_encoder
from twinlens.training.loop.loop import report as report_log
from twinlens.training.loop.loop import take_step, train
from twinlens.training.loop.opening import open_session
from twinlens.training.loop.session import Session
from twinlens.training.progress import Silent, open_display
from twinlens.training.recipes import open_recipe

VIEWS = 2  # an image
FAST = "cifar10_fast"
DRY = ["encoder=vit-nano/8", "batch=8", "steps=2", "epochs=1", "hidden=16", "precision=fp32"]
DRY += ["compile=false", "capture=false", "log_every=1"]
TIMED, TIMED_DRY = (30, 60), (2, 2)  # steps before the timing, and during it
BRIEF = ["warmup=100", "steps=1000000", "save_every=1000000"]
MOST = 20_000  # steps that a brief run trains
WAYS = {
    "compiled and recorded": ["compile=true", "capture=true"],
    "recorded": ["compile=false", "capture=true"],
    "compiled": ["compile=true", "capture=false"],
    "neither": ["compile=false", "capture=false"],
}


@dataclass(frozen=True)
class Trial:
    """A recipe and its bars; None if there is no bar."""

    recipe: str
    knn: float | None
    linear: float
    minutes: float | None = None
    views_per_second: float | None = None


TRIALS = (
    Trial(FAST, knn=90.0, linear=90.0, minutes=10.0, views_per_second=60_000),
    Trial("cifar10", knn=83.0, linear=85.5, minutes=6.0, views_per_second=30_000),
    Trial("cifar10_resnet50", knn=None, linear=88.0),
)


def main() -> None:
    """Train, evaluate, print the table and write the JSON."""
    arguments = parse()
    if not arguments.dry_run and not torch.cuda.is_available():
        print("skipped: torch sees no GPU; --dry-run checks the script without one")
        return
    folder = os.environ.get("TWINLENS_DATA")
    if not arguments.dry_run and folder is None:
        print("skipped: TWINLENS_DATA is not set, and CIFAR-10 (JPEG) is not part of the project")
        return
    name = "train_gpu (dry run: the numbers mean nothing)" if arguments.dry_run else "train_gpu"
    report = Report(name, kept=arguments.json)
    with tempfile.TemporaryDirectory() as work:
        halves = draw_halves(Path(work)) if arguments.dry_run else find_halves(Path(folder or ""))
        if arguments.seconds:
            look_briefly(report, halves, Path(work), arguments)
        for trial in () if arguments.seconds else TRIALS:
            for seed in range(arguments.seeds):
                measure(report, trial, halves, Path(work), seed, arguments)
    report.finish(arguments.json)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="check the script without a GPU")
    parser.add_argument("--quick", action="store_true", help="one seed (the default)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="a brief run of so many seconds")
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


def look_briefly(
    report: Report, halves: tuple[str, str], work: Path, arguments: argparse.Namespace
) -> None:
    """Time the steps of each way while there is time; the first that works also trains."""
    ends = time.monotonic() + arguments.seconds
    learned = False
    for number, (way, sets) in enumerate(WAYS.items()):
        if number and time.monotonic() > ends - arguments.seconds / 6:
            break
        config = apply_sets(open_recipe("simclr", FAST), [*BRIEF, *sets])
        dry = [*DRY[:2], *DRY[4:]] if arguments.dry_run else []
        config = apply_sets(config, [*dry, *arguments.set])
        timed = TIMED_DRY if arguments.dry_run else TIMED
        try:
            row = time_way(config, halves, work / str(number), ends, timed, learns=not learned)
        except Exception as error:
            row = {"failed": f"{type(error).__name__}: {error}"[:200]}
            traceback.print_exc()
        learned = learned or "knn" in row
        report.row(way=way, **row)
        print(way, row, flush=True)


def time_way(
    config: Config,
    halves: tuple[str, str],
    out: Path,
    ends: float,
    timed: tuple[int, int],
    *,
    learns: bool,
) -> dict[str, object]:
    """Return views per second of steps, and the result of training for most of the time left."""
    began = time.monotonic()
    session = open_session(config, halves[0], out, Silent())
    opened = time.monotonic()
    try:
        take_steps(session, timed[0])
        warm = time.monotonic()
        session.feeder.take_waited()
        take_steps(session, timed[1])
        seconds = time.monotonic() - warm
        waited = session.feeder.take_waited()
        row: dict[str, object] = {
            "views_per_second": round(timed[1] * config.settings.batch * VIEWS / seconds),
            "waiting": round(waited / seconds, 4),
            "waits_a_step": count_waits(session),
            "opening_s": round(opened - began, 1),
            "warming_s": round(warm - opened, 1),
        }
        if learns:
            row |= learn(session, halves, 0.75 * (ends - time.monotonic()), seconds / timed[1])
    finally:
        session.close()
    return row


def learn(
    session: Session, halves: tuple[str, str], seconds: float, step: float
) -> dict[str, object]:
    """Train for some seconds and return the accuracies then; `step` is the time of a step."""
    began, first = time.monotonic(), session.step
    session.total = session.step + max(1, min(MOST, int(seconds / step)))
    while session.step < session.total:
        take_step(session, session.step, Silent())
    report_log(session, Silent(), wait=True)
    trained = time.monotonic() - began
    if session.saved < session.step:
        session.save()
    found = evaluate_encoder(
        str(session.folder), halves[1], bank=halves[0], limit=0, display=Silent()
    )
    views = (session.step - first) * session.config.settings.batch * VIEWS
    return {
        "learned_s": round(trained, 1),
        "steps": session.step,
        "views_per_second_while_learning": round(views / trained),
        "loss": round(session.loss, 3),
        "knn": found["knn"],
        "linear": found["linear"],
    }


def take_steps(session: Session, count: int) -> None:
    """Take steps, and wait for the last."""
    for _ in range(count):
        take_step(session, session.step, Silent())
    if session.device.type == "cuda":
        torch.cuda.synchronize()


def count_waits(session: Session) -> float | None:
    """Return how often a step that is not logged waits for the GPU."""
    if session.device.type != "cuda":
        return None
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        steps = 0
        while (session.step + 1) % session.config.settings.log_every and steps < 9:
            take_step(session, session.step, Silent())
            steps += 1
    torch.cuda.set_sync_debug_mode("default")
    for text in sorted({str(warning.message)[:120] for warning in found})[:4]:
        print("  waits:", text)
    return round(len(found) / max(1, steps), 2)


def add_bars(
    report: Report, trial: Trial, found: dict[str, float | int], minutes: float, speed: float
) -> None:
    """Compare the row with its bars."""
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
