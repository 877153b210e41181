"""What hard negatives gain: composition and retrieval of drawn scenes, with and without them.

    python benchmarks/hard_negatives.py [--runs FOLDER] [--seeds 0,1,2] [--steps 800] --json FILE

`clip` trains on scenes of two shapes that differ only in arrangement, on equal pictures, captions
and steps: on captions alone, with generated negatives (`hard_negatives`), and with negatives listed
in the data, which the composition suite's rules wrote for the training captions. Other scenes are
asked about: composition by the suite's rules, relations by new drawings whose rules no run has
seen, and retrieval. A run's row is kept in FOLDER, so several calls share the work. Bars: at least
2,000 pairs; listed negatives raise composition in the mean over the seeds, and retrieval loses a
point at most.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from report import Report

from twinlens.training.evaluation.run_examinee import examine_run
from twinlens.training.loop.loop import train
from twinlens.training.progress import Silent
from twinlens.training.recipes import open_recipe
from twinlens.training.runs.starting import apply_pairs
from twinlens.training.suites.catalogue import SUITES, run_suite
from twinlens.training.suites.material import Exhibit, read_material
from twinlens.training.suites.questions.composition import list_pairs
from twinlens.training.suites.questions.relations import GROUPS
from twinlens.training.suites.questions.wording import Vocabulary, read_vocabulary
from twinlens.training.suites.result import Result

SCENES = {"train": 4000, "test": 600}
SIDE = 32
STEPS = 800
PAIRS, POINT = 2000, 1.0
NEGATIVES = 1
SEEDS = "0,1,2"
QUICK = 0.05  # of scenes and steps
KINDS = ("left and right", "above and below", "colours", "sizes")
ASKED = ("composition", "relations", "retrieval")
# name -> the data's part, and what is set
VARIANTS = {
    "captions alone": ("train", ()),
    "a word replaced": ("train", (f"hard_negatives={NEGATIVES}",)),
    "listed by rules": ("listed", (f"hard_negatives={NEGATIVES}",)),
}


def main() -> None:
    """Draw, train, ask, print."""
    arguments = parse()
    torch.set_num_threads(1)
    share = QUICK if arguments.quick else 1.0
    report = Report("hard_negatives", arguments.json)
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.runs or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        for part, count in SCENES.items():
            if not (work / f"{part}.zip").is_file():
                write_scenes(work, part, round(count * share))
        for seed in map(int, arguments.seeds.split(",")):
            for name in arguments.variants.split(","):
                report.row(**measure_once(work, name, seed, round(arguments.steps * share)))
                print(report.rows[-1], flush=True)
    judge(report)
    report.finish(arguments.json)


def parse() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, few scenes and steps")
    parser.add_argument("--seeds", default=SEEDS, help="with commas between")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--variants", default=",".join(VARIANTS), help="with commas between")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="folder of rows and runs")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds = arguments.seeds.split(",")[0]
    return arguments


def measure_once(work: Path, name: str, seed: int, steps: int) -> dict[str, object]:
    """Return the row of a variant and a seed: the kept one, or a new one."""
    path = work / f"{name.replace(' ', '-')}-{seed}-{steps}.json"
    if not path.is_file():
        path.write_text(json.dumps(measure(work, name, seed, steps)) + "\n")
    kept: dict[str, object] = json.loads(path.read_text())
    return kept


def measure(work: Path, name: str, seed: int, steps: int) -> dict[str, object]:
    """Train a variant, and ask it."""
    part, sets = VARIANTS[name]
    began = time.process_time()
    run = learn(work, f"{name.replace(' ', '-')}-{seed}-{steps}", part, seed, steps, sets)
    seconds = time.process_time() - began
    found = ask(run, work / "test.zip")
    shown = {suite: round(100 * result.measure.score, 1) for suite, result in found.items()}
    groups = {
        group: round(100 * own.score, 1) for group, own in found["composition"].groups.items()
    }
    return {
        "run": name, "seed": seed, "steps": steps, "cpu_seconds": round(seconds), **shown,
        "pairs": found["composition"].measure.n, **groups,
    }  # fmt: skip


def write_scenes(work: Path, part: str, count: int) -> None:
    """Write scenes with their captions; of training, a second zip lists negatives by the rules."""
    rng = np.random.default_rng(sum(map(ord, part)))
    pictures: dict[str, bytes] = {}
    captions: list[str] = []
    for number in range(count):
        scene, caption, _ = GROUPS[KINDS[number % len(KINDS)]](rng)
        buffer = io.BytesIO()
        scene.resize((SIDE, SIDE)).save(buffer, "PNG")
        pictures[f"{number:05}.png"] = buffer.getvalue()
        captions.append(caption)
    write_zip(work / f"{part}.zip", pictures, captions)
    if part == "train":
        nouns = read_vocabulary(captions)
        listed = [list_negatives(caption, nouns, rng) for caption in captions]
        write_zip(work / "listed.zip", pictures, captions, listed)


def list_negatives(caption: str, nouns: Vocabulary, rng: np.random.Generator) -> list[str]:
    """Return the captions that the composition suite's rules make of one."""
    pairs = list_pairs(Exhibit("", b"", None, (caption,)), nouns, rng)
    return [false for _, _, false in pairs]


def write_zip(
    path: Path,
    pictures: dict[str, bytes],
    captions: Sequence[str],
    negatives: Sequence[list[str]] | None = None,
) -> None:
    """Write pictures with a caption each, and negatives if given."""
    rows: list[dict[str, object]] = [
        {"file": name, "captions": [caption]}
        for name, caption in zip(pictures, captions, strict=True)
    ]
    if negatives is not None:
        rows = [row | {"negatives": own} for row, own in zip(rows, negatives, strict=True)]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in pictures.items():
            archive.writestr(name, data)
        archive.writestr("index.jsonl", "\n".join(map(json.dumps, rows)))


def learn(work: Path, name: str, part: str, seed: int, steps: int, sets: tuple[str, ...]) -> Path:
    """Train a run on a part of the data."""
    usual = [f"seed={seed}", f"steps={steps}", "batch=128", "threads=1", "device=cpu"]
    small = [
        "encoder=vit-nano/4", "image_size=32", "text_width=64", "dim=64", "vocabulary=300",
        "context=24", "doctor=false", "monitor_share=0", "save_every=100000",
    ]  # fmt: skip
    config = apply_pairs(open_recipe("clip", "default"), [*usual, *small, *sets])
    train(config, str(work / f"{part}.zip"), work / name, Silent())
    return work / name


def ask(run: Path, where: Path) -> dict[str, Result]:
    """Return the result of each suite."""
    material, examinee = read_material(str(where), 0), examine_run(run)
    return {name: run_suite(SUITES[name], examinee, material) for name in ASKED}


def judge(report: Report) -> None:
    """Compare the means over the seeds with the bars."""
    pairs = min(int(str(row["pairs"])) for row in report.rows)
    report.bar("hard_negatives_pairs", pairs, PAIRS, pairs >= PAIRS)
    for suite, floor in (("composition", 0.0), ("relations", 0.0), ("retrieval", -POINT)):
        gain = gain_of(report, suite)
        report.bar(f"hard_negatives_{suite}_gain", gain, floor, gain > floor)


def gain_of(report: Report, suite: str) -> float:
    """Return the mean gain over seeds of listed negatives on a suite, in points."""
    scores = {
        name: np.array([float(str(row[suite])) for row in report.rows if row["run"] == name])
        for name in ("captions alone", "listed by rules")
    }
    return round(float((scores["listed by rules"] - scores["captions alone"]).mean()), 2)


if __name__ == "__main__":
    main()
