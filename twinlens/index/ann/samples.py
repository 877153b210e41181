"""Text queries for tuning, best source first: the user's own, captions, words in templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twinlens.index.ann.words import WORDS
from twinlens.index.storage.captions import CAPTION_FIELDS, LABEL_FIELDS, texts_in
from twinlens.index.storage.catalog import Catalog

ENOUGH = 200  # captions needed for a measurement
LOOKED_AT = 20_000  # items sampled, approximately


@dataclass(frozen=True)
class TextSample:
    """Texts and the name of their source, which is recorded with the tuning."""

    texts: tuple[str, ...]
    source: str


def choose_texts(
    catalog: Catalog,
    templates: Sequence[str],
    given: Sequence[str] = (),
    count: int = 1000,
) -> TextSample:
    """Return up to `count` distinct texts that resemble the queries of users."""
    if given:
        return TextSample(_draw(given, count), "given")
    captions: set[str] = set()
    labels: set[str] = set()
    best: set[str] = set()  # each item's captions, or else its labels
    for item in catalog.items(step=max(1, -(-catalog.count() // LOOKED_AT))):
        item_captions = texts_in(item.metadata, CAPTION_FIELDS)
        item_labels = texts_in(item.metadata, LABEL_FIELDS)
        captions.update(item_captions)
        labels.update(item_labels)
        best.update(item_captions or item_labels)
    if len(captions) >= ENOUGH:
        return TextSample(_draw(sorted(best), count), "captions")
    words = sorted(labels) if len(labels) >= ENOUGH else sorted({*labels, *WORDS})
    filled = [template.format(word) for template in templates or ("{}",) for word in words]
    return TextSample(_draw(filled, count), "templates over words")


def _draw(texts: Sequence[str], count: int) -> tuple[str, ...]:
    """Return up to `count` distinct texts; deterministic."""
    different = list(dict.fromkeys(texts))
    if len(different) <= count:
        return tuple(different)
    chosen = np.random.default_rng(0).choice(len(different), count, replace=False)
    return tuple(different[place] for place in chosen)
