"""Clusters recover groups that lie apart, and their names are words near them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import adjusted_rand_score

from twinlens.bundle.arrays import Rows
from twinlens.errors import InputError
from twinlens.index.ann.words import WORDS
from twinlens.index.upkeep.clusters import cluster_rows, name_clusters, read_words
from twinlens.index.writer import Writer

Make = Callable[[int], Rows]
Halves = npt.NDArray[np.float16]


def make_groups(rows: Make, sizes: tuple[int, ...]) -> tuple[Halves, npt.NDArray[np.int64], Rows]:
    """Return rows around centres, the group of each, and the centres."""
    centres = rows(len(sizes))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    raw = centres[groups] + 0.3 * rows(len(groups))
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    return unit.astype(np.float16), groups, centres


def test_groups_that_lie_apart_are_recovered_largest_first(rows: Make) -> None:
    table, groups, _ = make_groups(rows, (50, 120, 80, 60))
    found = cluster_rows(table, 4)
    assert adjusted_rand_score(groups, found.labels) == 1.0
    assert np.bincount(found.labels).tolist() == [120, 80, 60, 50]
    first = found.members(0)
    assert sorted(first.tolist()) == np.flatnonzero(groups == 1).tolist()
    assert np.all(np.diff(found.cosines[first]) <= 0)


def test_no_move_of_a_row_to_another_centre_helps(rows: Make) -> None:
    table = rows(500).astype(np.float16)
    found = cluster_rows(table, 12)
    near = table.astype(np.float32) @ found.centres.T
    assert np.array_equal(near.argmax(axis=1), found.labels)
    assert np.allclose(np.linalg.norm(found.centres, axis=1), 1, atol=1e-3)


def test_clusters_depend_on_the_rows_alone(rows: Make) -> None:
    table = rows(300).astype(np.float16)
    assert np.array_equal(cluster_rows(table, 9).labels, cluster_rows(table, 9).labels)


def test_copies_need_fewer_clusters_than_were_asked_for(rows: Make) -> None:
    table = np.repeat(rows(3), 20, axis=0).astype(np.float16)
    assert len(cluster_rows(table, 10).centres) == 3


@pytest.mark.parametrize("count", [0, 11])
def test_a_number_that_cannot_be_is_refused(rows: Make, count: int) -> None:
    with pytest.raises(InputError, match="clusters of 10 items"):
        cluster_rows(rows(10).astype(np.float16), count)


def test_names_are_found_across_the_gap_between_words_and_images(rows: Make) -> None:
    table, groups, centres = make_groups(rows, (60, 60, 60))
    gap = 3 * rows(1)
    raw = centres + gap
    words = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    found = cluster_rows(table, 3)
    names = name_clusters(found, table, ["cat", "dog", "sea"], words, 1)
    for number, (name,) in enumerate(names):
        group = groups[found.labels == number][0]
        assert name == ["cat", "dog", "sea"][group]


def test_words_come_from_labels_and_frequent_captions_else_the_language(
    writer: Writer, rows: Make
) -> None:
    assert read_words(writer.catalog) == list(WORDS)
    texts = ["A horse at the sea", "the horse", "once"]
    metadata = [{"caption": text, "label": "polo pony"} for text in texts]
    writer.upsert(["a", "b", "c"], rows(3), metadata)
    assert sorted(read_words(writer.catalog)) == ["horse", "polo pony", "the"]
