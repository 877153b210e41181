"""Filters correlated with the queries: parameters tuned on random filters are raised for these."""

from __future__ import annotations

import numpy as np
import pytest

from tests.index.synthetic import World
from twinlens.bundle.arrays import Rows
from twinlens.index.ann.adverse_filters import _measure_each, select_adverse_rows, widen
from twinlens.index.ann.ann_index import _train_and_add
from twinlens.index.ann.candidates import Candidates, IndexParams
from twinlens.index.ann.kinds import find_kind
from twinlens.index.ann.recall import true_sample
from twinlens.index.vectors.space import centred_space, identity_space

WORLD = World()
TARGET = 0.95


def _index(kind: str, rows: Rows) -> Candidates:
    space = centred_space(rows) if kind == "ivf-sq8" else identity_space(rows.shape[1])
    return Candidates(kind, _train_and_add(find_kind(kind), rows, space), space)


@pytest.fixture(scope="module")
def rows() -> Rows:
    return WORLD.images(6000, 1)


@pytest.mark.parametrize(
    ("kind", "params"), [("ivf-sq8", IndexParams(4, 3)), ("sq8", IndexParams(0, 1))]
)
def test_parameters_are_raised_until_held_out_queries_reach_the_target(
    kind: str, params: IndexParams, rows: Rows
) -> None:
    index, texts = _index(kind, rows), WORLD.texts(400, 2)
    chosen = widen(index, rows, {"text": true_sample(texts, rows)}, 0.1, params, TARGET)
    assert chosen is not None
    allowed = select_adverse_rows(rows, texts, 0.1)
    unseen = true_sample(WORLD.texts(400, 3), rows, None, allowed)
    before = _measure_each(index, unseen, allowed, params).mean()
    after = _measure_each(index, unseen, allowed, chosen).mean()
    assert after >= TARGET - 0.01
    if kind == "ivf-sq8":
        assert before < TARGET  # otherwise the test shows nothing
        assert chosen.probe > params.probe
    assert chosen.expansion >= params.expansion


def test_the_worst_modality_decides(rows: Rows) -> None:
    index, start = _index("ivf-sq8", rows), IndexParams(1, 3)
    samples = {
        "image": true_sample(WORLD.images(300, 7), rows),
        "text": true_sample(WORLD.texts(300, 2), rows),
    }
    alone = [widen(index, rows, {name: one}, 0.1, start, 0.9) for name, one in samples.items()]
    both = widen(index, rows, samples, 0.1, start, 0.9)
    assert both is not None
    assert None not in alone
    assert both.probe == max(one.probe for one in alone if one)


def test_an_unreachable_target_gives_none(rows: Rows) -> None:
    index = _index("ivf-sq8", rows)
    texts = {"text": true_sample(WORLD.texts(60, 2), rows)}
    assert widen(index, rows, texts, 0.1, IndexParams(1, 1), 0.9999) is None


def test_adverse_rows_are_those_with_the_smallest_products(rows: Rows) -> None:
    texts = WORLD.texts(50, 2)
    near = rows @ texts.mean(axis=0)
    allowed = select_adverse_rows(rows, texts, 0.25)
    assert np.count_nonzero(allowed) == 1500
    assert near[allowed].max() <= near[~allowed].min() + 1e-6
