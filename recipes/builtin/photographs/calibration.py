"""`python -m recipes.builtin.photographs.calibration [DATA]`: calibrate both builtins.

The drawings' encoder is calibrated on seen and unseen emoji; that of photographs on seen emoji and
every second picture of ImageNet, by names of classes and of everyday kinds (the other pictures
measure, in `benchmarks/builtin.py`). What must stay true: of names that the encoder itself confuses
one is kept, so that a picture that counts as wrong is wrong. No revision changes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recipes.builtin.corpus import find_data
from recipes.builtin.photographs.evaluation import KINDS, Measured, Measures, share
from recipes.builtin.photographs.wordnet import list_names
from twinlens.bundle.calibration.calibration import EXTENSION, read_calibration
from twinlens.bundle.classes import build_class_bank
from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.bundle.location import DRAWINGS, PHOTOGRAPHS, find_bundle
from twinlens.bundle.store import write_extensions
from twinlens.cli.bundle.calibrate import describe_calibration
from twinlens.cli.terminal import print_error, print_note
from twinlens.errors import TwinlensError
from twinlens.training.suites.doubt import DoubtPolicy, learn_calibration
from twinlens.training.suites.examinee import Examinee, make_examinee
from twinlens.training.suites.material import Exhibit, Material

MOST = 1300  # pictures of each kind
_STYLE = "noto"
_ALIKE = 0.5  # cosine of two names above which they may mean the same
_ASKED = ("dog", "car", "bird", "fruit", "boat")
_NEAR = ("vehicle", "ship", "truck")  # some of these are boats and cars
_OUTSIDE = 100
# Drawings are nearer to all texts than photographs. Kinds are no searches: a gallery has many
# pictures of each, and only one would be drawn.
POLICY = DoubtPolicy(alarm=0.25, refused=0.2, levelled=True, unsearched=frozenset({"kinds"}))
Row = Mapping[str, Any]


def calibrate(folder: Path, data: Path, *, photographs: bool) -> dict[str, Any]:
    """Write the calibration of the bundle in `folder`; return it."""
    examinee = make_examinee(open_bundle(folder))
    read = read_mixed(data) if photographs else read_drawings(data)
    materials = [keep_distinct(examinee, material) for material in read]
    policy = POLICY if photographs else None
    found = learn_calibration(examinee, materials, policy=policy).to_extension()
    write_extensions(folder, {EXTENSION: found})
    return found


def keep_distinct(examinee: Examinee, material: Material) -> Material:
    """Return the material without names similar to an earlier one, and without their pictures."""
    names = list(dict.fromkeys(str(exhibit.label) for exhibit in material.exhibits))
    rows, kept = examinee.embed_texts(names), list[int]()
    for i, row in enumerate(rows):
        if not kept or float((rows[kept] @ row).max()) < _ALIKE:
            kept.append(i)
    distinct = {names[i] for i in kept}
    exhibits = tuple(e for e in material.exhibits if e.label in distinct)
    return dataclasses.replace(material, exhibits=exhibits)


def read_kinds(data: Path) -> list[Material]:
    """Return photographs by their names, and by their everyday kinds."""
    photographs = read_photographs(data)
    number = {name: i for i, name in enumerate(list_names())}
    kinds = json.loads(KINDS.read_text(encoding="utf-8"))["everyday"]
    named = [
        dataclasses.replace(exhibit, label=kind)
        for exhibit in photographs.exhibits
        for kind, classes in kinds.items()
        if number[str(exhibit.label)] in classes
    ]
    first = {exhibit.key: exhibit for exhibit in reversed(named)}  # of its first kind
    return [photographs, Material("kinds", tuple(first.values()))]


def read_mixed(data: Path) -> list[Material]:
    """Return photographs, seen emoji, and both in one gallery, by their names."""
    photographs, kinds = read_kinds(data)
    emoji = read_drawings(data)[0]
    both = Material("emoji and photographs", emoji.exhibits + photographs.exhibits)
    return [photographs, kinds, emoji, both]


def read_drawings(data: Path) -> list[Material]:
    """Return seen and unseen emoji, by their names."""
    return [
        _read(kind, data / "emoji64" / f"{split}.zip", _name_emoji)
        for kind, split in (("emoji", "train"), ("new emoji", "test"))
    ]


def _name_emoji(row: Row) -> str | None:
    return str(row["label"]) if row["style"] == _STYLE else None


def read_photographs(data: Path, *, first: int = 0) -> Material:
    """Return every second photograph of ImageNet's by the first name of its class."""
    names = list_names()
    archive = data / "imagenet1k_1perclass" / "all.zip"
    return _read("photographs", archive, lambda row: names[row["label"]], slice(first, None, 2))


def measure_doubt(encoder: Encoder, data: Path) -> Measures:
    """Return how many of 100 photographs outside the offered classes are answered, and inside.

    The photographs were not used for calibration.
    """
    calibration = read_calibration(encoder.manifest)
    assert calibration is not None
    number = {name: i for i, name in enumerate(list_names())}
    kinds = json.loads(KINDS.read_text(encoding="utf-8"))["everyday"]
    asked = {i for kind in _ASKED for i in kinds[kind]}
    near = {i for kind in _NEAR for i in kinds[kind]}
    shown = [(e, number[str(e.label)]) for e in read_photographs(data, first=1).exhibits]
    inside = [e.picture for e, i in shown if i in asked]
    outside = [e.picture for e, i in shown if i not in asked | near][:_OUTSIDE]
    bank = build_class_bank(encoder.embed_texts, _ASKED, encoder.manifest.templates)
    scale = encoder.manifest.similarity.scale

    def answer(pictures: list[bytes]) -> Measured:
        rows = encoder.embed_images(pictures)
        levels = calibration.find_levels(rows)
        verdicts = [
            calibration.judge_classes(cosines, scale, level=level)
            for cosines, level in zip(rows @ bank.T, levels, strict=True)
        ]
        return share(np.array([not verdict.none_of_these for verdict in verdicts]))

    return {"outside_answered": answer(outside), "inside_answered": answer(inside)}


def _read(
    kind: str, archive: Path, name: Callable[[Row], str | None], part: slice = slice(None)
) -> Material:
    with zipfile.ZipFile(archive) as stored:
        rows = [json.loads(line) for line in stored.read("index.jsonl").decode().splitlines()]
        named = [(row["file"], label) for row in rows if (label := name(row)) is not None][part]
        order = np.random.default_rng(0).permutation(len(named))[:MOST]
        return Material(kind, tuple(_show(stored, (named[i] for i in order))))


def _show(stored: zipfile.ZipFile, named: Iterable[tuple[str, str]]) -> Iterable[Exhibit]:
    for file, label in named:
        yield Exhibit(file, stored.read(file), label, ())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(
        "python -m recipes.builtin.photographs.calibration", description=__doc__
    )
    parser.add_argument("data", metavar="DATA", type=Path, nargs="?", help="folder of the data")
    parser.add_argument(
        "--bundle", action="append", choices=(DRAWINGS, PHOTOGRAPHS), help="repeatable; both"
    )
    options = parser.parse_args(arguments)
    try:
        for name in options.bundle or (DRAWINGS, PHOTOGRAPHS):
            data = options.data or find_data()
            found = calibrate(find_bundle(name), data, photographs=name == PHOTOGRAPHS)
            print_note(f"{name}: {'; '.join(describe_calibration(found))}")
    except TwinlensError as error:
        print_error(error.message)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
