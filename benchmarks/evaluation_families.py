"""Encoders of all families on every suite: small runs beside the bundles that ship.

    TWINLENS_DATA=DATA python benchmarks/evaluation_families.py --runs FOLDER [--page] --json FILE

One method of each family learns emoji at 32 pixels with its default recipe, for the same CPU
seconds. Suites compare pictures with texts, so a method without captions then gets a text tower,
`clip --recipe lit`: its image tower stays as it is, and a text tower learns to name emoji in its
space. Each run is asked every suite, once, on one data set a suite. Rows are kept in FOLDER, so
several calls share the work; `--page` writes the table into docs/benchmarks/evaluation.md.

What must stay true: nothing is tuned for the suites, and all rows answer the same questions.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import torch
from evaluation import find_material
from families import MEMBERS, TIMED, UNTRAINED, Member, open_config, time_step
from report import Report
from train_cpu import SETTLING
from worlds.pictures import write_half

from twinlens.training.config import apply_sets
from twinlens.training.evaluation.run_examinee import examine_run
from twinlens.training.loop.loop import train
from twinlens.training.progress import Silent
from twinlens.training.recipes import open_recipe
from twinlens.training.runs.starting import apply_pairs
from twinlens.training.suites.catalogue import SUITES
from twinlens.training.suites.examinee import Examinee, embed_sheet, open_examinee
from twinlens.training.suites.material import Material
from twinlens.training.suites.sheet import Sheet

DATA, PICTURES, STORED = "emoji64", 4000, 48  # to learn from; pixels of the short side
BUDGET = 15.0  # CPU seconds per method
TEXT_STEPS = 150  # CPU seconds of a text tower for a locked image tower
LIMIT = 300  # pictures of a data set that are asked about
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "evaluation.md"
START = "<!-- families: made by benchmarks/evaluation_families.py -->\n"
END = "<!-- end of families -->"
SHIPPED = ("builtin:photographs", "builtin:drawings")
RANDOM = tuple(UNTRAINED)
METHODS = (
    "autoencoder", "rotation", "moco", "simclr", "byol", "vicreg", "swav", "dino", "mae", "supcon",
    "clip", "siglip", "distill", "mobileclip",
)  # fmt: skip
CAPTIONED = ("clip", "siglip", "devise", "mobileclip")
# The data of each suite; "" draws them.
ASKED = {
    "composition": "coco_mini/test.zip",
    "relations": "",
    "pairs": "",
    "association": "emoji64/test.zip",
    "typographic": "",
    "robustness": "emoji64/test.zip",
    "retrieval": "icons64/test.zip",
    "languages": "emoji64/test.zip",
    "classes": "emoji64/test.zip",
    "templates": "emoji64/test.zip",
    "calibration": "emoji64/test.zip",
}


def main() -> None:
    """Measure what is missing; print; write the page if asked."""
    arguments = parse()
    if "TWINLENS_DATA" not in os.environ:
        sys.exit("set TWINLENS_DATA to the folder of the data sets")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        runs = arguments.runs or Path(work)
        runs.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("TWINLENS_CACHE", str(runs / "cache"))
        names = arguments.names.split(",") if arguments.names else [*SHIPPED, *RANDOM, *METHODS]
        rows = {name: measure_once(name, runs, arguments.budget) for name in names}
    report = Report("evaluation_families")
    for name, row in rows.items():
        report.row(name=name, **{suite: found["score"] for suite, found in row["suites"].items()})
    report.finish(arguments.json)
    if arguments.page:
        write_page(rows)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one method, five seconds")
    parser.add_argument("--names", default="", help="rows, comma-separated; empty = all")
    parser.add_argument("--budget", type=float, default=BUDGET, help="CPU seconds per method")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="folder of rows and runs")
    parser.add_argument("--page", action="store_true", help="write the table to its page")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.names, arguments.budget = arguments.names or "clip", 5.0
    return arguments


def measure_once(name: str, runs: Path, budget: float) -> dict[str, Any]:
    """Return a row: the one that is kept, or a new one."""
    path = runs / f"{name.replace(':', '-').replace(' ', '-')}.json"
    if not path.is_file():
        path.write_text(json.dumps(measure(name, runs, budget)) + "\n")
    row: dict[str, Any] = json.loads(path.read_text())
    print(name, {suite: found["score"] for suite, found in row["suites"].items()}, flush=True)
    return row


def measure(name: str, runs: Path, budget: float) -> dict[str, Any]:
    """Return what an encoder scores; a method is trained first."""
    began = time.process_time()
    if name in SHIPPED:
        examinee, told = open_examinee(name), {"family": "shipped"}
    else:
        run, told = learn(name, runs, budget)
        examinee = examine_run(run)
    trained = time.process_time() - began
    suites = {suite: ask(suite, examinee) for suite in ASKED}
    seconds = {"train_seconds": round(trained), "all_seconds": round(time.process_time() - began)}
    return {**told, **seconds, "suites": suites}


def learn(name: str, runs: Path, budget: float) -> tuple[Path, dict[str, Any]]:
    """Train a method for its budget, followed by a text tower if it has none."""
    data, member = cut_once(runs), (UNTRAINED | MEMBERS)[name]
    with tempfile.TemporaryDirectory(dir=runs) as work:
        config = open_config(member, data, Path(work), "fp32")
        if name in UNTRAINED:
            sets = ["lr=0", "weight_decay=0", f"steps={SETTLING}"]
        else:
            steps = max(TIMED, round(budget / time_step(config, data, Path(work))))
            sets = [f"steps={steps}", f"warmup={min(config.settings.warmup, steps // 5)}"]
        out = runs / name.replace(" ", "-")
        train(apply_sets(config, sets), str(data / "train.zip"), out, Silent())
    told = {"family": member.family, "encoder": config.settings.encoder, "sets": sets}
    return (out if is_captioned(member) else add_texts(out, data, runs)), told


def is_captioned(member: Member) -> bool:
    """Tell whether a method learns texts itself."""
    return member.method in CAPTIONED


def add_texts(run: Path, data: Path, runs: Path) -> Path:
    """Train a text tower for the frozen image tower of a run."""
    out = runs / f"{run.name}-with-texts"
    sets = [f"init={run}", "device=cpu", "threads=1", "doctor=false", f"steps={TEXT_STEPS}"]
    train(apply_pairs(open_recipe("clip", "lit"), sets), str(data / "train.zip"), out, Silent())
    return out


def cut_once(runs: Path) -> Path:
    """Return the folder of both halves, written once, at the stored size."""
    data = runs / DATA
    if not data.is_dir():
        source = Path(os.environ["TWINLENS_DATA"]) / DATA
        with tempfile.TemporaryDirectory(dir=runs) as work:
            for half in ("train.zip", "test.zip"):
                write_half(source / half, Path(work) / half, PICTURES, side=STORED)
            Path(work).rename(data)
            Path(work).mkdir()
    return data


@cache
def read_questions(place: str) -> Material:
    """Return the data of a suite."""
    material = find_material(place, LIMIT)
    if material is None:
        sys.exit(f"{place} is not under TWINLENS_DATA")
    return material


@cache
def write_sheet(suite: str, templates: tuple[str, ...]) -> Sheet:
    """Return the questions of a suite, written once for all rows."""
    return SUITES[suite].write(read_questions(ASKED[suite]), templates, 0)


def ask(suite: str, examinee: Examinee) -> dict[str, Any]:
    """Return score, chance and interval of a suite in per cent, and the number of questions."""
    sheet = write_sheet(suite, examinee.templates)
    measure = SUITES[suite].judge(suite, sheet, embed_sheet(examinee, sheet), 0).measure
    shares = {name: getattr(measure, name) for name in ("score", "chance", "low", "high")}
    return {**{name: round(100 * share, 1) for name, share in shares.items()}, "n": measure.n}


def write_page(rows: dict[str, dict[str, Any]]) -> None:
    """Write the table into the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(START)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{START}{make_table(rows)}{END}{after}", encoding="utf-8")


def make_table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table as Markdown."""
    first = next(iter(rows.values()))["suites"]
    lines = [
        f"| family | encoder | {' | '.join(ASKED)} |",
        "|" + "---|" * (len(ASKED) + 2),
        f"| | *chance* | {' | '.join(str(first[suite]['chance']) for suite in ASKED)} |",
    ]
    for name, row in rows.items():
        cells = [show(row["suites"][suite]) for suite in ASKED]
        family = "" if name in RANDOM else row["family"]
        lines.append(f"| {family} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def show(found: dict[str, Any]) -> str:
    """Return a score as a cell: bold if its interval contains chance, or lies below."""
    return f"{found['score']}" if found["low"] > found["chance"] else f"**{found['score']}**"


if __name__ == "__main__":
    main()
