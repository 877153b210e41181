"""The builtin encoder: speed on one core, decode apart, and quality where the data is.

Run: `python benchmarks/builtin.py [--quick] --json FILE`. Quality wants the folder that
`TWINLENS_DATA` names (docs/builtin.md says how to lay it out) and is left out, saying so, without.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from report import Report, parse_arguments, time_interleaved

import twinlens
from twinlens.bundle.encoder import Encoder

BATCHES = (1, 8, 32)
WORDS = ["red heart", "Hund", "ein Bild von einem Hund", "赤いハート", "a photo of a blue shirt"]
# What the full version of this encoder is to reach, in percent.
AIMS = {
    "seen_noto_r1": 85.0,
    "unseen_noto_r5": 50.0,
    "unseen_noto_groups": 75.0,
    "fluent_3d_to_noto_r1": 85.0,
    "icons_r5": 40.0,
    "clothes_zero_shot": 72.0,
    "clothes_probe": 80.0,
}
LANGUAGE_GAP = 15.0  # points of R@1 that a language may be behind English


def main() -> None:
    """Measure, print, write."""
    arguments = parse_arguments(__doc__)
    report = Report("builtin")
    encoder = twinlens.open_bundle("builtin", threads=1)
    measure_speed(report, encoder, rounds=5 if arguments.quick else 50)
    data = os.environ.get("TWINLENS_DATA")
    if arguments.quick or not data:
        print("quality left out: it wants TWINLENS_DATA and a run without --quick")
    else:
        measure_quality(report, encoder, Path(data))
    report.finish(arguments.json)


def measure_speed(report: Report, encoder: Encoder, rounds: int) -> None:
    """Add items per CPU second of both towers at several batch sizes."""
    assert encoder.manifest.image is not None
    rng, side = np.random.default_rng(0), encoder.manifest.image.height
    pixels = rng.integers(0, 256, (max(BATCHES), side, side, 3), dtype=np.uint8)
    tokens = encoder.tokenize([WORDS[i % len(WORDS)] for i in range(max(BATCHES))])
    contenders = {f"image {n}": lambda n=n: encoder.encode_pixels(pixels[:n]) for n in BATCHES}
    contenders |= {f"text {n}": lambda n=n: encoder.encode_tokens(tokens[:n]) for n in BATCHES}
    seconds = time_interleaved(contenders, rounds)
    rates = {name: int(name.split()[1]) / taken for name, taken in seconds.items()}
    for name, rate in rates.items():
        tower, batch = name.split()
        report.row(what=f"{tower}s a CPU second", batch=batch, value=rate)
    report.bar("images_per_second_batch_8", rates["image 8"], 500, rates["image 8"] >= 500)
    report.bar("texts_per_second_batch_8", rates["text 8"], 2000, rates["text 8"] >= 2000)


def measure_quality(report: Report, encoder: Encoder, folder: Path) -> None:
    """Add every metric of the evaluation, and the aims as bars."""
    from twinlens.training.builtin.corpus import read_corpus
    from twinlens.training.builtin.evaluation import evaluate
    from twinlens.training.builtin.towers import IMAGE_SIZE
    from twinlens.training.builtin.words import read_words

    train, test = (read_corpus(folder, split, side=IMAGE_SIZE) for split in ("train", "test"))
    found = evaluate(encoder, train, test, read_words())
    for name, value in found.items():
        report.row(what=name, batch="", value=value)
    for name, aim in AIMS.items():
        report.bar(name, found[name], aim, found[name] >= aim)
    gap = found["seen_noto_r1"] - found["seen_noto_worst_language_r1"]
    report.bar("worst_language_gap", gap, LANGUAGE_GAP, gap <= LANGUAGE_GAP)


if __name__ == "__main__":
    main()
