"""Doubt: calibrates a bundle's cosines on pictures with labels or captions.

What must stay true: captions are used if the data have them, else labels, each as a user would ask:
classes by the bundle's templates, searches by the bare text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twinlens.bundle.arrays import Rows
from twinlens.bundle.calibration.calibration import ALARM, Calibration
from twinlens.bundle.calibration.fitting import Matches, fit_calibration, match_rows
from twinlens.bundle.classes import build_class_bank
from twinlens.errors import InputError
from twinlens.training.suites.examinee import BATCH, Examinee
from twinlens.training.suites.material import Material

MOST = 2000  # pictures per data set
LEAST = 20


@dataclass(frozen=True)
class DoubtPolicy:
    """How a calibration is learned from several kinds of pictures.

    The best wrong answer passes a limit in the share `alarm` of questions; `refused` bounds the
    share of right answers that a limit refuses in any data set; `levelled` scores classes relative
    to the level of each picture, for kinds of pictures with different levels; `unsearched` names
    data sets whose texts are no searches.
    """

    alarm: float = ALARM
    refused: float | None = None
    levelled: bool = False
    unsearched: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class KnownPairs:
    """Cosines of a data set in both directions, and the kind of its texts."""

    pictures: Matches
    texts: Matches
    kind: str
    seen: Rows  # the pictures
    asked: Rows  # the texts


def learn_calibration(
    examinee: Examinee,
    materials: Sequence[Material],
    *,
    seed: int = 0,
    policy: DoubtPolicy | None = None,
) -> Calibration:
    """Return the calibration of an encoder from the pictures and texts of one or more data sets."""
    policy = policy or DoubtPolicy()
    known = [match_material(examinee, material, seed) for material in materials]
    source = {
        material.name: {
            "texts": pairs.kind,
            "pictures": len(pairs.pictures.right),
            "different": pairs.pictures.right.shape[1],
        }
        for material, pairs in zip(materials, known, strict=True)
    }
    origin = find_origin([pairs.asked for pairs in known]) if policy.levelled else ()
    pictures = [
        pairs.pictures.less(pairs.seen @ np.array(origin)) if origin else pairs.pictures
        for pairs in known
    ]
    named = zip(materials, known, strict=True)
    return fit_calibration(
        pictures,
        [pairs.texts for one, pairs in named if one.name not in policy.unsearched],
        examinee.similarity.scale,
        source,
        seed=seed,
        alarm=policy.alarm,
        refused=policy.refused,
        origin=origin,
    )


def find_origin(texts: Sequence[Rows]) -> tuple[float, ...]:
    """Return the mean row of texts; each data set has the same weight."""
    mean = np.mean([rows.mean(axis=0) for rows in texts], axis=0)
    return tuple(round(float(value), 4) for value in mean)


def match_material(examinee: Examinee, material: Material, seed: int) -> KnownPairs:
    """Return the matches of a data set's pictures with its texts, and of texts with pictures."""
    kind = "captions" if "captions" in material.has else "labels"
    if kind not in material.has:
        raise InputError(
            f"{material.name} has neither captions nor two labels; calibration needs pictures whose"
            " texts are known",
            field="DATA",
        )
    rng = np.random.default_rng(seed)
    named = [e for e in material.exhibits if (e.captions if kind == "captions" else e.label)]
    if len(named) < LEAST:
        raise InputError(
            f"{material.name} has {len(named)} pictures with {kind}; calibration needs at least"
            f" {LEAST}",
            field="DATA",
        )
    chosen = [named[place] for place in rng.permutation(len(named))[:MOST]]
    # The first caption only: others of a picture would count as wrong ones of other pictures.
    own = [e.captions[0] if kind == "captions" else str(e.label) for e in chosen]
    texts = list(dict.fromkeys(own))
    right = np.array([[text == other for other in texts] for text in own])
    pictures = _embed_pictures(examinee, [e.picture for e in chosen])
    asked = _embed_texts(examinee, texts)
    offered = asked if kind == "captions" else _embed_classes(examinee, texts)
    return KnownPairs(
        match_rows(pictures, offered, right),
        match_rows(asked, pictures, right.T),
        kind,
        pictures,
        asked,
    )


def _embed_pictures(examinee: Examinee, pictures: Sequence[bytes]) -> Rows:
    starts = range(0, len(pictures), BATCH)
    return np.concatenate([examinee.embed_images(pictures[s : s + BATCH]) for s in starts])


def _embed_texts(examinee: Examinee, texts: Sequence[str]) -> Rows:
    starts = range(0, len(texts), BATCH)
    return np.concatenate([examinee.embed_texts(texts[s : s + BATCH]) for s in starts])


def _embed_classes(examinee: Examinee, names: Sequence[str]) -> Rows:
    return build_class_bank(
        lambda prompts: _embed_texts(examinee, prompts), names, examinee.templates
    )
