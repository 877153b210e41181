"""Copies are found by pixels, whatever their size, format or crop, and look-alikes are not."""

from __future__ import annotations

import io
import json
import os
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.index.upkeep.planted import CHANGES, GridEncoder, draw, judge, original_of, plant
from twinlens.bundle.arrays import Rows
from twinlens.bundle.encoder import open_bundle
from twinlens.errors import InputError
from twinlens.index.ingest.builder import build
from twinlens.index.ingest.corpus import open_corpus
from twinlens.index.ingest.reading import ImageEncoder
from twinlens.index.upkeep import neighbours
from twinlens.index.upkeep.copies import EXACT, NEAR, find_copies, remove_copies
from twinlens.index.writer import Writer, create_collection

Make = Callable[[int], Rows]
STYLES = {"emojitwo", "fluent_flat", "noto", "blobmoji", "openmoji_color"}
PLAIN_SHAPES = "25[A-F].|2B1B|2B1C|26AA|26AB|1F53[45]|1F7E.|1F7F0"


def index(folder: Path, out: Path, encoder: ImageEncoder, dim: int) -> Writer:
    create_collection(out, dim=dim)
    writer = Writer(out)
    build(writer, open_corpus(folder), encoder)
    return writer


CHOSEN = [f"d{n}" for n in range(0, 60, 4)]


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawings") / "images"
    plant(folder, {f"d{n}": draw(n) for n in range(60)}, CHOSEN)
    return folder


@pytest.fixture
def planted(drawings: Path, tmp_path: Path) -> Iterator[Writer]:
    with index(drawings, tmp_path / "c", GridEncoder(), 192) as writer:
        yield writer


def test_planted_copies_are_found_and_nothing_else(planted: Writer) -> None:
    precision, recall, groups = judge(planted.collection, CHOSEN)
    assert (precision, recall) == (1.0, 1.0)
    kinds = {one.item.id: one.kind for group in groups for one in group.copies}
    assert all(kind == NEAR for name, kind in kinds.items() if "~jpeg" in name)
    for family in CHOSEN:
        (group,) = (g for g in groups if original_of(g.kept.id) == family)
        assert group.kept.id == f"{family}~larger.png"
        assert len(group.copies) == len(CHANGES)


def test_only_exact_copies_are_found_on_request(planted: Writer) -> None:
    groups = find_copies(planted.collection, only_exact=True)
    assert {(g.kept.id, *(one.item.id for one in g.copies)) for g in groups} == {
        (f"{name}.png", f"{name}~exact.bmp") for name in CHOSEN
    }
    assert {one.kind for group in groups for one in group.copies} == {EXACT}


def test_the_first_item_is_kept_on_request(planted: Writer) -> None:
    groups = find_copies(planted.collection, keep="first")
    assert {group.kept.id for group in groups} == {f"{name}.png" for name in CHOSEN}


def test_copies_are_removed_within_the_limit(planted: Writer) -> None:
    groups = find_copies(planted.collection)
    with pytest.raises(InputError, match="--max-delete 90"):
        remove_copies(planted, groups, "20%")
    kept = groups[0].kept.id
    late = groups[0].copies[0].item.id
    planted.upsert([late], np.ones((1, 192)))  # written anew since: it may be no copy any more
    assert remove_copies(planted, groups, "90") == 89
    assert planted.collection.count() == 61
    assert {planted.collection.get(name).id for name in (kept, late)} == {kept, late}
    assert find_copies(planted.collection) == []


def test_a_group_whose_kept_item_is_gone_is_left_alone(planted: Writer) -> None:
    groups = find_copies(planted.collection)
    planted.delete([groups[0].kept.id])
    before = planted.collection.count()
    assert remove_copies(planted, groups, "100%") == before - 60 - len(CHANGES) + 1


def test_without_images_embeddings_decide(writer: Writer, rows: Make) -> None:
    table = rows(30)
    near = 0.8 * table[0] + 0.6 * rows(1)[0]
    writer.upsert([f"i{n}" for n in range(30)], table)
    writer.upsert(["same", "near"], np.stack([table[3], near]))
    (group,) = find_copies(writer.collection)
    assert (group.kept.id, [(one.item.id, one.kind) for one in group.copies]) == (
        "i3",
        [("same", EXACT)],
    )
    found = find_copies(writer.collection, similarity=0.7)
    assert ("i0", "near", NEAR) in {(g.kept.id, c.item.id, c.kind) for g in found for c in g.copies}


def test_hundreds_of_copies_of_one_image_are_one_group(writer: Writer, rows: Make) -> None:
    writer.upsert([f"i{n}" for n in range(300)], np.repeat(rows(1), 300, axis=0))
    (group,) = find_copies(writer.collection)
    assert (group.kept.id, len(group.copies)) == ("i0", 299)


def test_the_index_finds_the_same_pairs(planted: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    def list_groups() -> list[tuple[str, list[str]]]:
        groups = find_copies(planted.collection)
        return [(group.kept.id, [one.item.id for one in group.copies]) for group in groups]

    exact = list_groups()
    monkeypatch.setattr(neighbours, "EXACT_ROWS", 10)
    assert list_groups() == exact


@pytest.mark.parametrize(
    ("options", "field"), [({"keep": "newest"}, "keep"), ({"similarity": 2.0}, "similarity")]
)
def test_options_that_mean_nothing_are_refused(
    writer: Writer, options: dict[str, object], field: str
) -> None:
    with pytest.raises(InputError) as told:
        find_copies(writer.collection, **options)  # type: ignore[arg-type]
    assert told.value.field == field


@pytest.mark.slow
def test_planted_copies_of_emoji_are_found_at_the_default_threshold(tmp_path: Path) -> None:
    """One drawing a concept and family of styles, since the others are copies of each other.

    Plain squares and discs are left out: they are the same picture in every style.
    """
    root = os.environ.get("TWINLENS_DATA")
    if not root:
        pytest.skip("TWINLENS_DATA is not set")
    images: dict[str, Image.Image] = {}
    with zipfile.ZipFile(Path(root) / "emoji64" / "test.zip") as archive:
        for line in archive.read("index.jsonl").decode().splitlines():
            row = json.loads(line)
            code = row["hexcode"]
            concept = code if code.startswith("1F1") else code.partition("-")[0]
            if row["style"] in STYLES and not re.fullmatch(PLAIN_SHAPES, code):
                raw = archive.read(row["file"])
                image = Image.open(io.BytesIO(raw)).convert("RGB")
                images.setdefault(f"{row['style']}-{concept}", image)
    chosen = random.Random(1).sample(sorted(images), 300)
    plant(tmp_path / "images", images, chosen)
    encoder = open_bundle("builtin")
    with index(tmp_path / "images", tmp_path / "c", encoder, encoder.embedding_dim) as writer:
        precision, recall, groups = judge(writer.collection, chosen)
    strange = [
        (g.kept.id, one.item.id)
        for g in groups
        for one in g.copies
        if original_of(g.kept.id) != original_of(one.item.id)
    ]
    assert precision >= 0.99, strange
    assert recall >= 0.95
