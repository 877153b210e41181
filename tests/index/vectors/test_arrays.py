"""The normalisation and check of embeddings that enter the index."""

from __future__ import annotations

import numpy as np
import pytest

from twinlens.errors import InputError
from twinlens.index.vectors.arrays import unit_rows


def test_a_single_row_gives_the_same_result_as_in_a_batch() -> None:
    rows = np.random.default_rng(0).standard_normal((20, 24)) * np.logspace(-4, 4, 20)[:, None]
    many = unit_rows(rows, 24)
    for place, row in enumerate(rows):
        for given in (row, row[None], row.tolist()):
            alone = unit_rows(given, 24)
            assert alone.dtype == np.float32
            assert alone.flags["C_CONTIGUOUS"]
            np.testing.assert_allclose(alone, many[place : place + 1], atol=1e-7)


@pytest.mark.parametrize("broken", [0.0, 1e-8, np.nan, np.inf])
@pytest.mark.parametrize("count", [1, 3])
def test_a_row_without_a_direction_is_refused_with_its_index(broken: float, count: int) -> None:
    rows = np.ones((count, 4), np.float32)
    rows[-1] = broken
    with pytest.raises(InputError, match=rf"query\[{count - 1}\] is not finite or has length 0"):
        unit_rows(rows, 4, "query")
