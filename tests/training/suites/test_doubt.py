"""Calibrations of encoders whose knowledge is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.training.suites.exhibits import CLASSES, SOFTMAX, TEMPLATES, key_of, make_material
from twinlens.bundle.arrays import Rows
from twinlens.bundle.classes import normalise_rows
from twinlens.errors import InputError
from twinlens.training.suites.doubt import (
    DoubtPolicy,
    find_origin,
    learn_calibration,
    match_material,
)
from twinlens.training.suites.examinee import Examinee
from twinlens.training.suites.material import Exhibit, Material

MATERIAL = make_material()
LABELLED = Material("labelled", tuple(replace(e, captions=()) for e in MATERIAL.exhibits))


def know_labels(strength: float) -> Examinee:
    """Return an encoder that sees a picture's label, `strength` over its noise."""
    label_of = {key_of(e.picture): e.label for e in MATERIAL.exhibits}

    def embed(names: list[str], seed: int, strength: float) -> Rows:
        rng = np.random.default_rng(seed)
        rows = rng.standard_normal((len(names), 32))
        for row, name in zip(rows, names, strict=True):
            row[next(i for i, label in enumerate(CLASSES) if label in name)] += strength
        return normalise_rows(rows.astype(np.float32))

    return Examinee(
        "labels",
        TEMPLATES,
        SOFTMAX,
        lambda pictures: embed([str(label_of[key_of(p)]) for p in pictures], 1, strength),
        lambda texts: embed(list(texts), 2, 40.0),
    )


def test_an_encoder_that_knows_is_believed_and_one_that_does_not_is_not() -> None:
    knows, blind = (learn_calibration(know_labels(s), [LABELLED]).measured for s in (20.0, 0.0))
    assert knows["mistakes"] < 0.2 and knows["refusals"] < 0.05
    assert blind["refusals"] > 0.7
    assert knows["ece_calibrated"] < 0.1 and blind["ece_calibrated"] < blind["ece"]


def test_captions_are_taken_before_labels_and_classes_by_the_templates() -> None:
    by_captions = match_material(know_labels(9.0), MATERIAL, 0)
    by_labels = match_material(know_labels(9.0), LABELLED, 0)
    assert (by_captions.kind, by_labels.kind) == ("captions", "labels")
    assert by_labels.pictures.cosines.shape == (len(MATERIAL.exhibits), len(CLASSES))
    assert by_labels.texts.cosines.shape == (len(CLASSES), len(MATERIAL.exhibits))
    assert (by_labels.texts.right == by_labels.pictures.right.T).all()


def test_the_source_is_told() -> None:
    found = learn_calibration(know_labels(9.0), [LABELLED, MATERIAL])
    assert found.source["labelled"] == {"texts": "labels", "pictures": 120, "different": 6}
    assert set(found.source) == {"labelled", "noise"}


def test_pictures_that_lie_higher_above_all_texts_are_judged_over_their_level() -> None:
    """All texts share a direction that half of the pictures share too."""
    knows = know_labels(9.0)
    shared = np.zeros(33, np.float32)
    shared[-1] = 1.0

    def add(rows: Rows, weights: Rows) -> Rows:
        return normalise_rows(np.pad(rows, ((0, 0), (0, 1))) + weights[:, None] * shared)

    drawn = {key_of(e.picture) for e in LABELLED.exhibits[::2]}
    mixed = replace(
        knows,
        embed_images=lambda pictures: add(
            knows.embed_images(pictures),
            np.array([2 * (key_of(p) in drawn) for p in pictures], np.float32),
        ),
        embed_texts=lambda texts: add(knows.embed_texts(texts), np.ones(len(texts), np.float32)),
    )
    plain, over = (
        learn_calibration(mixed, [LABELLED], policy=DoubtPolicy(levelled=levelled))
        for levelled in (False, True)
    )
    assert len(over.origin) == 33 and not plain.origin
    assert over.measured["refusals"] < 0.1 < plain.measured["refusals"]


def test_each_data_set_weighs_alike_in_the_origin() -> None:
    many = np.array([[1, 0], [1, 0], [0.5, 0]], np.float32)
    one = np.array([[0, 1]], np.float32)
    assert find_origin([many, one]) == (0.4167, 0.5)


def test_texts_that_are_no_searches_teach_none() -> None:
    quiet = DoubtPolicy(unsearched=frozenset({LABELLED.name}))
    alone = learn_calibration(know_labels(9.0), [MATERIAL])
    both = learn_calibration(know_labels(9.0), [MATERIAL, LABELLED], policy=quiet)
    assert both.search == alone.search
    assert both.classes != alone.classes


def test_data_without_texts_are_refused() -> None:
    bare = Exhibit("a.png", b"", None, ())
    with pytest.raises(InputError, match="neither captions nor two labels"):
        match_material(know_labels(9.0), Material("bare", (bare,)), 0)
