"""Doubt: the answers of a calibrated bundle to pictures of none of the offered classes.

Run: `TWINLENS_DATA=DATA python benchmarks/doubt.py [--quick] --json FILE`. Half of the classes of
each data set calibrate; the pictures of the other half are asked about, each once with its class
among 5, 10 or 20 offered and once without. Bars: at most 15 % of the pictures without their class
are answered, and calibration lowers the expected calibration error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from report import Report, parse_arguments

from twinlens.bundle.calibration.calibration import Calibration
from twinlens.bundle.calibration.fitting import Matches, draw_questions, measure_questions
from twinlens.training.suites.doubt import learn_calibration, match_material
from twinlens.training.suites.examinee import Examinee, open_examinee
from twinlens.training.suites.material import Material, read_material

DATA = ("clothing96", "emoji64", "icons64", "coco_mini")
OFFERED = (5, 10, 20)
MISTAKES = 0.15


def main() -> None:
    """Calibrate, ask, print."""
    arguments = parse_arguments(__doc__)
    if "TWINLENS_DATA" not in os.environ:
        sys.exit("set TWINLENS_DATA to the folder of the data sets")
    report = Report("doubt", arguments.json)
    examinee = open_examinee(os.environ.get("TWINLENS_BUNDLE", "builtin"))
    limit = 200 if arguments.quick else 1000
    for name in DATA:
        path = Path(os.environ["TWINLENS_DATA"]) / name / "test.zip"
        if not path.is_file():
            print(f"{name} skipped: it is not under TWINLENS_DATA")
            continue
        learned, asked = split_classes(read_material(str(path), limit))
        calibration = learn_calibration(examinee, [learned])
        matches = match_material(examinee, asked, 1).pictures
        ask(report, name, calibration, matches, examinee)
    judge(report)
    report.finish(arguments.json)


def split_classes(material: Material, seed: int = 0) -> tuple[Material, Material]:
    """Return the pictures of one half of the texts, and those of the other."""
    texts = sorted({exhibit.names[0] for exhibit in material.exhibits if exhibit.names})
    drawn = np.random.default_rng(seed).permutation(len(texts))
    half = {texts[place] for place in drawn[: len(texts) // 2]}
    named = [exhibit for exhibit in material.exhibits if exhibit.names]
    parts = ([e for e in named if (e.names[0] in half) is first] for first in (True, False))
    first, second = (replace(material, exhibits=tuple(part)) for part in parts)
    return first, second


def ask(
    report: Report, name: str, calibration: Calibration, matches: Matches, examinee: Examinee
) -> None:
    """Add a line for each number of classes that the data have."""
    for offered in OFFERED:
        draws = draw_questions(matches, offered, seed=2)
        if not len(draws.place):
            continue
        found = measure_questions(calibration, [draws], examinee.similarity.scale)
        report.row(data=name, classes=offered, questions=len(draws.place), **found)


def judge(report: Report) -> None:
    """Compare the worst line with the bars."""
    worst = max(_column(report.rows, "mistakes"))
    report.bar("doubt_mistakes", worst, MISTAKES, worst <= MISTAKES)
    pairs = zip(_column(report.rows, "ece_calibrated"), _column(report.rows, "ece"), strict=True)
    share = max(after / before for after, before in pairs)
    report.bar("doubt_ece_share", round(share, 3), 1.0, share < 1)


def _column(rows: Sequence[dict[str, object]], name: str) -> list[float]:
    return [float(str(row[name])) for row in rows]


if __name__ == "__main__":
    main()
