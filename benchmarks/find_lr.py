"""The found learning rate: `--find-lr` against a sweep of seven rates.

    python benchmarks/find_lr.py [--quick] [--methods simclr,byol] [--seeds 0,1] --json FILE

A short training by the default recipe at 16 pixels on CIFAR-10 (JPEG) under $TWINLENS_DATA, at the
recipe's rate times 1/8 to 8 by factors of 2, and at the found one. A method whose loss does not
fall in a collapse is scored by its last losses, which rank short runs better than any accuracy;
other methods by the mean of kNN and linear probe on held-out pictures. `regret` is what the found
rate loses to the best of the seven: the relative increase of the loss, or points of accuracy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from report import Report
from worlds.pictures import CAPTIONED, cut_set

from twinlens.training.config import Config, apply_sets, known_keys
from twinlens.training.evaluation.report import evaluate_encoder
from twinlens.training.loop.loop import NotFiniteError, train
from twinlens.training.progress import Silent
from twinlens.training.recipes import open_recipe
from twinlens.training.runs.logs import read_log
from twinlens.training.studies.lr_finder import find_rate
from twinlens.training.views.masks import Masks

METHODS = "simclr,supcon,barlow,vicreg,cpc,mae,simmim,clip,siglip,byol,simsiam,moco"
BY_ACCURACY = ("moco", "mocov3", "byol", "simsiam", "swav", "dino", "ibot", "dinov2", "margin")
TRAIN, TEST = 2000, 1000
FACTORS = [2.0**power for power in range(-3, 4)]
LAST = 10  # logged losses that score a run
SMALL = {
    "image_size": "16",
    "stored_size": "20",
    "batch": "64",
    "hidden": "128",
    "dim": "64",
    "width": "64",
    "prototypes": "128",
    "queue": "1024",
    "local.count": "2",
    "warmup": "10",
    "text_width": "64",
    "threads": "1",
    "device": "cpu",
    "monitor_share": "0",
    "doctor": "false",
    "log_every": "2",
    "save_every": "1000000",
}


def main() -> None:
    """Sweep each method; count how often the found rate is within a factor of 2 of the best."""
    arguments = parse()
    folder = os.environ.get("TWINLENS_DATA")
    if folder is None:
        print("skipped: TWINLENS_DATA is not set, and the pictures are not part of the project")
        return
    report = Report("find_lr")
    with tempfile.TemporaryDirectory() as work:
        for method in arguments.methods.split(","):
            name = CAPTIONED[0] if method in ("clip", "siglip", "devise") else "cifar10_jpeg"
            data = Path(work) / name
            if not data.is_dir():
                cut_set(Path(folder), name, Path(work), train=TRAIN, test=TEST)
            row = sweep(method, data, Path(work) / method, arguments)
            report.row(**row)
            print(json.dumps(row), flush=True)
    near = sum(bool(row["within_2x"]) for row in report.rows)
    report.bar("within_2x", near, 0.8 * len(report.rows), near >= 0.8 * len(report.rows))
    report.finish(arguments.json)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two methods, 30 steps")
    parser.add_argument("--methods", default="")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--seeds", default="0", help="scores are means over seeds")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    arguments.methods = arguments.methods or ("simclr,mae" if arguments.quick else METHODS)
    arguments.steps = arguments.steps or (30 if arguments.quick else 120)
    return arguments


def sweep(method: str, data: Path, work: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Return the scores of the seven rates and of the found one."""
    began = time.process_time()
    config = shrink(method, arguments.steps)
    found, _ = find_rate(config, str(data / "train.zip"), Silent())
    rates = [config.settings.lr * factor for factor in FACTORS]
    scores = []
    for rate in [*rates, found]:
        runs = [
            score_run(
                apply_sets(config, [f"lr={rate}", f"seed={seed}"]), data, work / f"{rate}-{seed}"
            )
            for seed in arguments.seeds.split(",")
        ]
        scores.append(statistics.mean(runs))
    top = max(scores[:-1])
    best = rates[scores.index(top)]
    regret = top - scores[-1]
    return {
        "method": method,
        "judged_by": "knn, linear" if method in BY_ACCURACY else "loss",
        "recipe": config.settings.lr,
        "best": best,
        "found": float(f"{found:.3g}"),
        "found_over_best": round(found / best, 2),
        "within_2x": 0.5 <= found / best <= 2.0,
        "regret": round(regret if method in BY_ACCURACY else regret / abs(top), 3),
        "scores": " ".join(f"{score:.4g}" for score in scores),
        "at_edge": best in (rates[0], rates[-1]),
        "cpu_seconds": round(time.process_time() - began),
    }


def shrink(method: str, steps: int) -> Config:
    """Return the default recipe of a method in a small size."""
    config = open_recipe(method, "default")
    known = {*known_keys(config.objective), *known_keys(config.settings)}
    if config.objective.find_extra(Masks) is None:
        config = apply_sets(config, ["encoder=resnet-tiny"])
    sets = [f"{key}={value}" for key, value in SMALL.items() if key in known]
    return apply_sets(config, [*sets, f"steps={steps}"])


def score_run(config: Config, data: Path, out: Path) -> float:
    """Return the score of a run, larger is better; a run that fails has the worst."""
    by_accuracy = config.method in BY_ACCURACY
    try:
        train(config, str(data / "train.zip"), out)
    except NotFiniteError:
        return 0.0 if by_accuracy else -1e9
    if not by_accuracy:
        return -statistics.mean(float(row["loss"]) for row in read_log(out)[-LAST:])
    found = evaluate_encoder(
        str(out), str(data / "test.zip"), bank=str(data / "train.zip"), limit=TEST, display=Silent()
    )
    return float(found["knn"] + found["linear"]) / 2


if __name__ == "__main__":
    main()
