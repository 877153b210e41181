"""A bundle on every suite: drawings, and the data that `TWINLENS_DATA` names.

Run: `python benchmarks/evaluation.py [--quick] --json FILE`. Prints the tables of
docs/benchmarks/evaluation.md for the builtin, or for the bundle or run that `TWINLENS_BUNDLE`
names; without `TWINLENS_DATA` only the suites that need no data run. Missing data sets are left
out.
"""

from __future__ import annotations

import json
import os
import time
import zipfile
from dataclasses import replace
from pathlib import Path

from report import Report, parse_arguments

from twinlens.training.suites.catalogue import SUITES, run_suite
from twinlens.training.suites.examinee import Examinee, open_examinee
from twinlens.training.suites.material import Material, read_material
from twinlens.training.suites.result import Measure

LIMIT = 1000
MINUTES = 6.0  # CPU seconds that all suites together may take on 1,000 pictures
# suites of each data set; "" means none
ASKED = {
    "": ("relations", "pairs", "association", "typographic", "robustness"),
    "coco_mini/test.zip": ("composition", "retrieval", "robustness"),
    "icons64/test.zip": ("retrieval",),
    "clothing96/test.zip": ("classes", "templates", "calibration", "typographic", "robustness"),
    "emoji64/test.zip": (
        "association", "classes", "templates", "calibration", "robustness", "languages",
    ),
    "cifar10_jpeg/test.zip": ("classes", "calibration"),
    "nlvr1/test.zip": ("relations",),
    "imagenet1k_1perclass/all.zip": ("languages",),
}  # fmt: skip
IMAGENET = {"ar": "ar", "cn": "zh", "it": "it", "jp": "ja"}  # file -> language


def main() -> None:
    """Ask, print, write."""
    arguments = parse_arguments(__doc__)
    report = Report("evaluation")
    examinee = open_either(os.environ.get("TWINLENS_BUNDLE", "builtin"))
    limit = 60 if arguments.quick else LIMIT
    began = time.process_time()
    for place, suites in ASKED.items():
        material = find_material(place, limit)
        if material is None:
            print(f"{place} skipped: it is not under TWINLENS_DATA")
            continue
        for name in suites:
            ask(report, examinee, name, material)
    minutes = (time.process_time() - began) / 60
    report.bar("cpu_minutes", minutes, MINUTES, minutes <= MINUTES)
    report.finish(arguments.json)


def open_either(where: str) -> Examinee:
    """Return the bundle or the run at a path; a run needs torch."""
    if not (Path(where) / "config.json").is_file():
        return open_examinee(where)
    from twinlens.training.evaluation.run_examinee import examine_run

    return examine_run(Path(where))


def find_translations(place: str, folder: Path) -> dict[str, dict[str, str]]:
    """Return the names in other languages of a data set."""
    if place.startswith("emoji64"):
        with zipfile.ZipFile(folder / place) as archive:
            lines = archive.read("meta.jsonl").decode().splitlines()
        rows = [json.loads(line) for line in lines]
        languages = set.intersection(*(set(row["labels"]) for row in rows))
        return {k: {row["label"]: row["labels"][k] for row in rows} for k in sorted(languages)}
    if place.startswith("imagenet1k"):
        english, *others = (
            json.loads((folder / "words" / "imagenet_names" / f"{name}.json").read_text())[
                "imagenet1k"
            ]
            for name in ("en", *IMAGENET)
        )
        tables = zip(IMAGENET.values(), others, strict=True)
        return {k: dict(zip(english, names, strict=True)) for k, names in tables}
    return {}


def find_material(place: str, limit: int) -> Material | None:
    """Return the data at a place below `TWINLENS_DATA`; None if they are missing."""
    if not place:
        return Material("drawings")
    path = Path(os.environ.get("TWINLENS_DATA", "nowhere")) / place
    if not path.is_file():
        return None
    material = read_material(str(path), limit)
    translations = find_translations(place, Path(os.environ["TWINLENS_DATA"]))
    return replace(material, name=place.split("/")[0], translations=translations)


def ask(report: Report, examinee: Examinee, name: str, material: Material) -> None:
    """Add a line for a suite, and for its groups if they are few."""
    result = run_suite(SUITES[name], examinee, material)
    add_row(report, material, name, "", result.measure, dict(result.numbers))
    if len(result.groups) <= 25:
        for group, measure in result.groups.items():
            add_row(report, material, name, group, measure, {})


def add_row(
    report: Report,
    material: Material,
    suite: str,
    group: str,
    measure: Measure,
    numbers: dict[str, float],
) -> None:
    """Add a line of per cent."""
    report.row(
        data=material.name,
        suite=suite,
        group=group,
        score=round(100 * measure.score, 1),
        chance=round(100 * measure.chance, 1),
        low=round(100 * measure.low, 1),
        high=round(100 * measure.high, 1),
        n=measure.n,
        **numbers,
    )


if __name__ == "__main__":
    main()
