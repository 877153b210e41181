"""Query arithmetic and grouping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from twinlens.errors import InputError
from twinlens.index.query.grouping import group_duplicates
from twinlens.index.query.query import QueryPart, embed_query
from twinlens.index.writer import Writer

AXES = {"red": 0, "bicycle": 1, "car": 2}


class AxisEncoder:
    """Maps every known text to its own axis; images likewise, by their bytes."""

    def embed_texts(
        self, texts: Sequence[str], /, *, input_type: str | None = None
    ) -> npt.NDArray[np.float32]:
        return np.eye(4, dtype=np.float32)[[AXES[text] for text in texts]]

    def embed_images(self, images: Sequence[Any]) -> npt.NDArray[np.float32]:
        return self.embed_texts([image.decode() for image in images])


def embed(*parts: QueryPart) -> list[float]:
    row = embed_query(parts, AxisEncoder(), 4)
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-6)
    return [round(float(value), 4) for value in row]


def test_parts_are_summed_with_their_weights() -> None:
    assert embed(QueryPart(text="red")) == [1, 0, 0, 0]
    assert embed(QueryPart(text="red"), QueryPart(image=b"bicycle")) == [0.7071, 0.7071, 0, 0]
    assert embed(QueryPart(text="red", weight=3), QueryPart(text="car", weight=-4)) == [
        0.6, 0, -0.8, 0,
    ]  # fmt: skip
    assert embed(QueryPart(vector=(0, 0, 0, 9)), QueryPart(text="red")) == [0.7071, 0, 0, 0.7071]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "0 parts"),
        ([QueryPart()], "has nothing"),
        ([QueryPart(text="red", image=b"car")], "give one of"),
        ([QueryPart(text="red"), QueryPart(text="red", weight=-1)], "cancel"),
        ([QueryPart(text="red", weight=float("nan"))], "not finite"),
        ([QueryPart(vector=(1, 2))], "dimension 4"),
    ],
)
def test_an_invalid_query_is_refused(parts: list[QueryPart], message: str) -> None:
    with pytest.raises(InputError, match=message):
        embed_query(parts, AxisEncoder(), 4)


def test_a_text_needs_a_bundle() -> None:
    with pytest.raises(InputError, match="no bundle"):
        embed_query([QueryPart(text="red")], None, 4)
    assert embed_query([QueryPart(vector=(1, 0, 0, 0))], None, 4)[0] == 1


def test_duplicates_are_grouped_under_the_better_one_and_do_not_chain() -> None:
    angles = np.deg2rad([0, 8, 16, 90])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert group_duplicates(rows, float(np.cos(np.deg2rad(10)))) == [[0, 1], [2], [3]]
    assert group_duplicates(rows, -1.0) == [[0, 1, 2, 3]]
    assert group_duplicates(rows[:0]) == []
    with pytest.raises(InputError, match="cosine"):
        group_duplicates(rows, 2)


def test_a_grouped_search_returns_copies_as_one_hit(writer: Writer) -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((8, 16)).astype(np.float32)
    rows = np.concatenate([base, base + 0.01 * rng.standard_normal((8, 16))])
    writer.upsert([f"a{n}" for n in range(8)] + [f"b{n}" for n in range(8)], rows)
    plain = writer.collection.search(base[0], 4)[0]
    assert {hit.id for hit in plain[:2]} == {"a0", "b0"}
    grouped = writer.collection.search_grouped(base[0], 4)
    assert len(grouped) == 4
    assert {grouped[0].id, *grouped[0].duplicates} == {"a0", "b0"}
    assert len({hit.id[1:] for hit in grouped}) == 4
