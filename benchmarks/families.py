"""All families of methods on one small data set, with the same CPU seconds each.

    python benchmarks/families.py --runs FOLDER [--budget 15] [--precision bf16] [--page]

Trains each method's default recipe at 32 pixels on one thread, on the clothes under $TWINLENS_DATA,
judges it by kNN, a linear probe and the spectrum of its representation, and draws what pretext
tasks answer. A method's row is kept in FOLDER, so several calls share the work; `--page` writes
table, spectra and pictures into docs/families.md. `--quick` is three methods in a minute.

Budgets are CPU seconds: a step is timed first, and the schedule is planned for the steps that fit.
Captions are made of the class; teachers answer to one view of each picture. `cpu_seconds` counts a
whole run, decoding and a teacher's answers too. Nothing is tuned for this data set.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from galleries.answers import DRAWN, draw_strip
from galleries.spectra import draw_spectra
from report import Report
from train_cpu import SETTLING, TWO_TOWERS, borrow_tokenizer
from worlds.pictures import write_half

from twinlens.training.config import Config, apply_sets
from twinlens.training.evaluation.embeddings import embed_source, open_embedder
from twinlens.training.evaluation.report import judge_labels
from twinlens.training.evaluation.signal import embed_views, signal_rank
from twinlens.training.evaluation.spectrum import measure_spectrum
from twinlens.training.loop.loop import train
from twinlens.training.progress import Silent
from twinlens.training.recipes import open_recipe
from twinlens.training.runs.run import open_run
from twinlens.training.runs.teachers import learn_from

DATA = "clothing96"
DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, IMAGES = DOCS / "families.md", DOCS / "img"
START, END = "<!-- families: made by benchmarks/families.py -->\n", "<!-- end of families -->"
STORED = 48  # short side of the pictures that are kept
TIMED = 5  # steps
IMAGES_OF_RANK, VIEWS = 400, 6
BUDGET = 15.0  # CPU seconds per method
TOTAL = 35.0  # CPU minutes that everything together may take


@dataclass(frozen=True)
class Member:
    """A method as a member of its family."""

    family: str
    year: int
    method: str
    recipe: str = "default"
    sets: tuple[str, ...] = ()


UNTRAINED = {
    "untrained resnet-tiny": Member("none", 0, "simclr"),
    "untrained vit-nano": Member("none", 0, "mae"),
}
MEMBERS = {
    "autoencoder": Member("rebuild", 2006, "autoencoder"),
    "denoising": Member("rebuild", 2008, "autoencoder", "denoising"),
    "context": Member("pretext", 2015, "context"),
    "jigsaw": Member("pretext", 2016, "jigsaw"),
    "colorize": Member("pretext", 2016, "colorize"),
    "rotation": Member("pretext", 2018, "rotation"),
    "cpc": Member("contrast", 2018, "cpc"),
    "moco": Member("contrast", 2019, "moco"),
    "simclr": Member("contrast", 2020, "simclr"),
    "mocov3": Member("contrast", 2021, "mocov3"),
    "byol": Member("no negatives", 2020, "byol"),
    "simsiam": Member("no negatives", 2020, "simsiam"),
    "barlow": Member("decorrelate", 2021, "barlow"),
    "vicreg": Member("decorrelate", 2021, "vicreg"),
    "lejepa": Member("decorrelate", 2025, "lejepa"),
    "swav": Member("clusters", 2020, "swav"),
    "dino": Member("clusters", 2021, "dino"),
    "ibot": Member("clusters", 2021, "ibot"),
    "dinov2": Member("clusters", 2023, "dinov2"),
    "beit": Member("hidden patches", 2021, "beit"),
    "mae": Member("hidden patches", 2021, "mae"),
    "simmim": Member("hidden patches", 2021, "simmim"),
    "margin": Member("labels", 2006, "margin"),
    "triplet": Member("labels", 2015, "triplet"),
    "supcon": Member("labels", 2020, "supcon"),
    "finetune": Member("labels", 2012, "finetune", sets=("encoder=resnet-tiny", "image_size=32")),
    "devise": Member("captions", 2013, "devise"),
    "clip": Member("captions", 2021, "clip"),
    "siglip": Member("captions", 2023, "siglip"),
    "distill": Member("teachers", 2015, "distill"),
    "mobileclip": Member("teachers", 2024, "mobileclip"),
}
QUICK = ("rotation", "simclr", "mae")


def main() -> None:
    """Measure what is missing; print; write the page if asked."""
    arguments = parse()
    folder = os.environ.get("TWINLENS_DATA")
    if folder is None:
        print(f"skipped: TWINLENS_DATA is not set, and {DATA} is not part of the project")
        return
    with tempfile.TemporaryDirectory() as work:
        runs = arguments.runs or Path(work)
        os.environ.setdefault("TWINLENS_CACHE", str(runs / "cache"))
        data = cut_once(Path(folder), runs, arguments.pictures)
        rows = {}
        for name in choose(arguments):
            rows[name] = measure_once(name, data, runs, arguments.budget, arguments.precision)
            print(json.dumps({key: rows[name][key] for key in SHOWN}), flush=True)
        finish(rows, arguments)
        if arguments.page:
            write_page(rows, data, runs)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three methods, five seconds each")
    parser.add_argument("--methods", default="", help="comma-separated; empty = all")
    parser.add_argument("--budget", type=float, default=0.0, help="CPU seconds per method")
    parser.add_argument("--precision", default="fp32", help="bf16 where the CPU has AVX512-BF16")
    parser.add_argument("--pictures", type=int, default=10**9, help="training pictures, at most")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="folder of rows and runs")
    parser.add_argument("--page", action="store_true", help="write docs/families.md")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.methods = arguments.methods or ",".join(QUICK)
        arguments.pictures = min(arguments.pictures, 400)
    arguments.budget = arguments.budget or (5.0 if arguments.quick else BUDGET)
    return arguments


def choose(arguments: argparse.Namespace) -> list[str]:
    """Return the names of the rows."""
    return arguments.methods.split(",") if arguments.methods else [*UNTRAINED, *MEMBERS]


def cut_once(folder: Path, runs: Path, pictures: int) -> Path:
    """Return the folder of both halves, written once, at the stored size."""
    data = runs / DATA
    if not data.is_dir():
        with tempfile.TemporaryDirectory(dir=runs) as work:
            for half in ("train.zip", "test.zip"):
                write_half(folder / DATA / half, Path(work) / half, pictures, side=STORED)
            Path(work).rename(data)
            Path(work).mkdir()
    return data


def measure_once(
    name: str, data: Path, runs: Path, budget: float, precision: str
) -> dict[str, Any]:
    """Return a method's row: the kept one, or a new one."""
    path = runs / f"{name.replace(' ', '-')}.json"
    if path.is_file():
        kept: dict[str, Any] = json.loads(path.read_text())
        if (kept["budget"], kept["precision"]) == (budget, precision):
            return kept
    row = measure(name, data, runs, budget, precision)
    path.write_text(json.dumps(row) + "\n")
    return row


def measure(name: str, data: Path, runs: Path, budget: float, precision: str) -> dict[str, Any]:
    """Train a method for its budget, and evaluate it."""
    began, member = time.process_time(), (UNTRAINED | MEMBERS)[name]
    with tempfile.TemporaryDirectory(dir=runs) as work:
        config = open_config(member, data, Path(work), precision)
        if name in UNTRAINED:
            config = apply_sets(config, ["lr=0", "weight_decay=0", f"steps={SETTLING}"])
        else:
            steps = max(TIMED, round(budget / time_step(config, data, Path(work))))
            warmup = min(config.settings.warmup, steps // 5)
            config = apply_sets(config, [f"steps={steps}", f"warmup={warmup}"])
        # What a run needs besides it, such as a tokenizer, is in the work folder, so all ends here.
        started, out = time.process_time(), runs / name.replace(" ", "-")
        train(config, str(data / "train.zip"), out)
        trained = time.process_time() - started
    numbers = judge(out, data)
    return {
        "name": name,
        **asdict(member),
        "budget": budget,
        "precision": precision,
        "encoder": config.settings.encoder,
        "steps": config.settings.steps,
        "images": config.settings.steps * config.settings.batch,
        "cpu_seconds": round(trained, 1),
        **numbers,
        "all_seconds": round(time.process_time() - began, 1),
    }


def open_config(member: Member, data: Path, work: Path, precision: str) -> Config:
    """Return the configuration of a method, at the common size."""
    config = open_recipe(member.method, member.recipe)
    sets = [f"stored_size={STORED}", "device=cpu", "threads=1", "doctor=false"]
    sets += [f"precision={precision}", *member.sets]
    if "captions" in config.objective.needs:
        sets += TWO_TOWERS
    config = apply_sets(config, sets)
    if hasattr(config.objective, "teachers"):
        config = apply_sets(learn_from(config, "builtin"), ["teachers.views=1"])
    return borrow_tokenizer(config, data, work) if member.method == "beit" else config


class Stopwatch(Silent):
    """A display that records the CPU time at each step of a method."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.times: list[float] = []

    def advance(self, what: str, done: int, total: int, numbers: Mapping[str, float]) -> None:
        """Record it."""
        if what == self.method:
            self.times.append(time.process_time())


def time_step(config: Config, data: Path, work: Path) -> float:
    """Return the CPU seconds of one step, without decoding and start-up."""
    watch = Stopwatch(config.method)
    timed = apply_sets(config, [f"steps={TIMED}", "save_every=1000000", "log_every=1"])
    train(timed, str(data / "test.zip"), work / "timing", watch)
    steps = [later - before for before, later in pairwise(watch.times)]
    assert len(steps) == TIMED - 1, steps
    return statistics.median(steps[1:])


@torch.no_grad()
def judge(run: Path, data: Path) -> dict[str, Any]:
    """Return the metrics of a run on the test half, and its spectrum."""
    embedder, display = open_embedder(str(run)), Silent()
    bank, queries = (
        embed_source(embedder, str(data / half), 0, display) for half in ("train.zip", "test.zip")
    )
    found = judge_labels(bank, queries, shots=())
    spectrum = measure_spectrum(queries.rows)
    variance = spectrum.singular.double().square()
    views = embed_views(open_run(run), str(data / "test.zip"), images=IMAGES_OF_RANK, views=VIEWS)
    return {
        "knn": found["knn"],
        "linear": found["linear"],
        "effective_rank": round(spectrum.effective_rank, 1),
        "signal_rank": round(signal_rank(views), 1),
        "top_eigenvalue": round(spectrum.top_share(1), 3),
        "shares": [float(f"{share:.3g}") for share in variance / variance.sum()],
    }


SHOWN = (
    "family", "name", "year", "encoder", "steps", "images", "cpu_seconds", "knn", "linear",
    "effective_rank", "signal_rank", "top_eigenvalue", "all_seconds",
)  # fmt: skip


def finish(rows: dict[str, dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Print the table; compare the total with its time limit."""
    report = Report("families")
    for row in rows.values():
        report.row(**{key: row[key] for key in SHOWN})
    minutes = sum(float(row["all_seconds"]) for row in rows.values()) / 60
    report.bar("cpu_minutes", round(minutes, 1), TOTAL, minutes <= TOTAL)
    report.finish(arguments.json)


def write_page(rows: dict[str, dict[str, Any]], data: Path, runs: Path) -> None:
    """Write table, spectra and pictures into the page."""
    for name in DRAWN.keys() & rows.keys():
        draw_strip(name, runs / name, data / "test.zip", IMAGES / f"family-{name}.webp")
    trained = {name: row["shares"] for name, row in rows.items() if name in MEMBERS}
    base = rows["untrained resnet-tiny"]["shares"]
    draw_spectra(trained, base, IMAGES / "families-spectra.svg")
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(START)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{START}{make_table(rows)}{END}{after}", encoding="utf-8")


def make_table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table as Markdown."""
    lines = [
        "| family | method | year | steps | images | CPU s | kNN | linear | effective rank |"
        " signal rank | largest eigenvalue |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        own = (
            ["", f"*{name}*", "", "", "", ""]
            if name in UNTRAINED
            else [row["family"], name, row["year"], f"{row['steps']:,}", f"{row['images']:,}",
                  f"{row['cpu_seconds']:.0f}"]
        )  # fmt: skip
        numbers = [f"{row[key]:.1f}" for key in ("knn", "linear", "effective_rank", "signal_rank")]
        cells = [*map(str, own), *numbers, f"{row['top_eigenvalue']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
