"""Items far from all others, and wrong labels, come first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from twinlens.bundle.arrays import Rows
from twinlens.errors import InputError
from twinlens.index.upkeep import neighbours
from twinlens.index.upkeep.outliers import find_disagreements, find_outliers
from twinlens.index.writer import Writer

Make = Callable[[int], Rows]


@pytest.fixture
def filled(writer: Writer, rows: Make) -> Writer:
    """Four groups with labels, two of them wrong, and three items that belong to none."""
    centres = rows(4)
    groups = np.repeat(np.arange(4), 30)
    raw = centres[groups] + 0.15 * rows(120)
    labels = [f"group{group}" for group in groups]
    labels[5], labels[70] = "group3", "group0"
    metadata = [{"label": label} for label in labels]
    writer.upsert([f"i{n}" for n in range(120)], raw, metadata)
    writer.upsert([f"far{n}" for n in range(3)], -centres[:3] + 0.3 * rows(3))
    return writer


@pytest.mark.parametrize("compared", [50_000, 10])
def test_items_far_from_all_others_come_first(
    filled: Writer, monkeypatch: pytest.MonkeyPatch, compared: int
) -> None:
    monkeypatch.setattr(neighbours, "EXACT_ROWS", compared)
    found = find_outliers(filled.collection, 5)
    assert {one.item.id for one in found[:3]} == {"far0", "far1", "far2"}
    assert [one.cosine for one in found] == sorted(one.cosine for one in found)
    rows = np.stack([filled.collection.embedding(i.id) for i in filled.catalog.items()])
    own = filled.collection.embedding(found[0].item.id)
    nearest = np.sort(rows @ own)[-11:-1]  # without itself
    assert found[0].cosine == pytest.approx(float(nearest.mean()), abs=1e-3)


def test_wrong_labels_are_found_with_the_likely_ones(filled: Writer) -> None:
    found = find_disagreements(filled.collection, "label", 10)
    assert {(one.item.id, one.label, one.expected) for one in found} == {
        ("i5", "group3", "group0"),
        ("i70", "group0", "group2"),
    }
    assert all(one.share >= 0.9 for one in found)
    assert len(find_disagreements(filled.collection, "label", 1)) == 1


def test_few_items_have_no_outliers(writer: Writer, rows: Make) -> None:
    assert find_outliers(writer.collection, 3) == []
    writer.upsert(["one"], rows(1))
    assert find_outliers(writer.collection, 3) == []


def test_a_field_that_no_item_has_is_refused(filled: Writer) -> None:
    with pytest.raises(InputError, match="no item has a field 'lable'"):
        find_disagreements(filled.collection, "lable", 3)
    with pytest.raises(InputError, match="count is 0"):
        find_outliers(filled.collection, 0)
