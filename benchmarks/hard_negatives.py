"""What hard negatives bring: composition and retrieval of drawn scenes, with them and without.

`clip` trains on scenes of two shapes that only an arrangement tells apart, on equal pictures,
captions and steps: on captions alone, with negatives that a word makes false (`hard_negatives`),
and with negatives listed in the data, which the composition suite's rules wrote for the training
captions. Other scenes are asked of: composition by the suite's rules, relations by fresh drawings
whose rules no run has seen, and retrieval.
Bars: at least 2,000 pairs; listed negatives raise composition, and retrieval loses a point at most.

    python benchmarks/hard_negatives.py [--quick] --json FILE
"""

from __future__ import annotations

import io
import json
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from report import Report, parse_arguments

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

SCENES = {"train": 4000, "test": 600}
SIDE = 32
STEPS = 800
PAIRS, POINT = 2000, 0.01
NEGATIVES = 1
SEEDS = (0,)
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
    arguments = parse_arguments(__doc__)
    torch.set_num_threads(1)
    share = 0.05 if arguments.quick else 1.0
    report = Report("hard_negatives", arguments.json)
    scores: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for part, count in SCENES.items():
            write_scenes(work, part, round(count * share))
        for seed in SEEDS[:1] if arguments.quick else SEEDS:
            for name, (part, sets) in VARIANTS.items():
                began = time.process_time()
                steps = round(STEPS * share)
                run = learn(work, f"{part}-{len(sets)}-{seed}", part, seed, steps, sets)
                seconds = time.process_time() - began
                found = ask(run, work / "test.zip")
                for suite, (score, _) in found.items():
                    scores.setdefault((name, suite), []).append(score)
                shown = {suite: round(100 * score, 1) for suite, (score, _) in found.items()}
                report.row(
                    run=name, seed=seed, cpu_seconds=round(seconds), **shown,
                    pairs=found["composition"][1],
                )  # fmt: skip
                print(report.rows[-1], flush=True)
    judge(report, scores)
    report.finish(arguments.json)


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
    """Write pictures with a caption each, and the negatives where they are given."""
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


def ask(run: Path, where: Path) -> dict[str, tuple[float, int]]:
    """Return score and number of questions of each suite."""
    material, examinee = read_material(str(where), 0), examine_run(run)
    found = {name: run_suite(SUITES[name], examinee, material).measure for name in ASKED}
    return {name: (measure.score, measure.n) for name, measure in found.items()}


def judge(report: Report, scores: dict[tuple[str, str], list[float]]) -> None:
    """Hold the means to the bars."""
    before, after = "captions alone", "listed by rules"

    def gain(suite: str) -> float:
        pairs = zip(scores[after, suite], scores[before, suite], strict=True)
        return float(np.mean([other - own for other, own in pairs]))

    pairs = min(int(str(row["pairs"])) for row in report.rows)
    report.bar("hard_negatives_pairs", pairs, PAIRS, pairs >= PAIRS)
    for suite, floor in (("composition", 0.0), ("relations", 0.0), ("retrieval", -POINT)):
        report.bar(f"hard_negatives_{suite}_gain", gain(suite), floor, gain(suite) > floor)


if __name__ == "__main__":
    main()
