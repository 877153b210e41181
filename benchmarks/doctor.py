"""The doctor's false alarms: every method by its default recipe, small, and the doctor's verdicts.

    python benchmarks/doctor.py [--quick] [--methods mae,beit] [--data drawings] --json FILE

300 steps at 16 pixels and three seeds per method on 1,000 pictures of emoji64 under $TWINLENS_DATA,
or on drawings made by code if it is unset. The recipe's optimizer, rate, warmup and decay are
unchanged; only sizes are smaller. The exit code is 0 for any result: the bar reports it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from report import Report
from worlds.pictures import CAPTIONED, cut_set, draw_set

from twinlens.training.config import Config, apply_sets, known_keys
from twinlens.training.doctor.examination import examine
from twinlens.training.doctor.verdict import HEALTHY
from twinlens.training.loop.loop import NotFiniteError, train
from twinlens.training.objectives import METHODS
from twinlens.training.recipes import open_recipe
from twinlens.training.views.masks import Masks

PICTURES = 1000
SHOWN = ("loss", "chance", "rank", "spread", "head_spread")
SMALL = {  # of the method's or the run's own settings, if it has them
    "hidden": "64",
    "narrow": "32",
    "prototypes": "64",
    "queue": "256",
    "local.count": "2",
    "tokenizer_steps": "60",
    "size": "32",
    "image_size": "16",
    "batch": "16",
    "text_width": "32",
    "text_depth": "1",
    "text_heads": "2",
    "threads": "1",
    "device": "cpu",
    "log_every": "10",
    "monitor_share": "0",
    "save_every": "1000000",
}


def main() -> None:
    """Train each method with each seed, and count the alarms."""
    arguments = parse()
    report = Report("doctor")
    with tempfile.TemporaryDirectory() as work:
        data = find_data(arguments.data, Path(work))
        for method in arguments.methods.split(","):
            for seed in map(int, arguments.seeds.split(",")):
                config = shrink(method, arguments.steps, seed)
                row = examine_run(config, data, Path(work) / f"{method}-{seed}")
                report.row(method=method, data=arguments.data, **row)
                print(json.dumps(report.rows[-1]), flush=True)
    healthy = sum(row["state"] == HEALTHY for row in report.rows)
    alarms = len(report.rows) - healthy
    report.bar("false_alarms", alarms, 0, alarms == 0)
    report.finish(arguments.json)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, 60 steps")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--data", choices=("emoji64", "drawings"))
    parser.add_argument("--seeds", default="")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    arguments.data = arguments.data or ("emoji64" if "TWINLENS_DATA" in os.environ else "drawings")
    arguments.seeds = arguments.seeds or ("0" if arguments.quick else "0,1,2")
    arguments.steps = arguments.steps or (60 if arguments.quick else 300)
    return arguments


def find_data(name: str, work: Path) -> str:
    """Return where the pictures are, after subsampling or drawing them."""
    assert name in CAPTIONED
    if name == "drawings":
        return str(draw_set(work))
    folder = Path(os.environ["TWINLENS_DATA"])
    return str(cut_set(folder, name, work, train=PICTURES, test=1) / "train.zip")


def shrink(method: str, steps: int, seed: int) -> Config:
    """Return the default recipe of a method in a small size."""
    config = open_recipe(method, "default")
    known = {*known_keys(config.objective), *known_keys(config.settings)}
    if config.objective.find_extra(Masks) is None:
        config = apply_sets(config, ["encoder=resnet-tiny"])
    sets = [f"{key}={value}" for key, value in SMALL.items() if key in known]
    return apply_sets(config, [*sets, f"steps={steps}", f"seed={seed}"])


def examine_run(config: Config, data: str, out: Path) -> dict[str, object]:
    """Train a run to its end, or until it fails, and return the doctor's verdicts."""
    began = time.process_time()
    try:
        train(config, data, out)
    except NotFiniteError as error:
        print(error)
    found = examine(out)
    shown = {name: round(found.readings[name], 3) for name in SHOWN if name in found.readings}
    return {
        "seed": config.settings.seed,
        "state": found.state,
        "step": found.step,
        "verdicts": "; ".join(verdict.name for verdict in found.verdicts),
        **shown,
        "cpu_seconds": round(time.process_time() - began, 1),
    }


if __name__ == "__main__":
    main()
