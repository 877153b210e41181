"""The one rule for shorter embeddings: what a bundle offers, and how rows are cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import TOY_MANIFEST
from twinlens.bundle.dimensions import check_dimensions, list_lengths, shorten
from twinlens.errors import InputError

FULL = TOY_MANIFEST.embedding_dim
ANY = replace(TOY_MANIFEST, any_dimension=True)


@pytest.mark.parametrize("dimensions", range(-1, FULL + 2))
def test_a_bundle_offers_the_lengths_that_it_names_and_no_other(dimensions: int) -> None:
    if dimensions in list_lengths(TOY_MANIFEST):
        check_dimensions(TOY_MANIFEST, dimensions)
        return
    with pytest.raises(InputError, match=r"'toy' offers 4, 8, 16$") as caught:
        check_dimensions(TOY_MANIFEST, dimensions)
    assert caught.value.field == "dimensions"


@pytest.mark.parametrize("dimensions", range(-1, FULL + 2))
def test_a_bundle_that_allows_any_length_still_has_an_end(dimensions: int) -> None:
    if 1 <= dimensions <= FULL:
        check_dimensions(ANY, dimensions)
        return
    with pytest.raises(InputError, match="offers 1 to 16"):
        check_dimensions(ANY, dimensions)


def test_no_length_means_all_of_it() -> None:
    check_dimensions(TOY_MANIFEST, None)
    rows = np.random.default_rng(0).standard_normal((3, FULL)).astype(np.float32)
    assert shorten(rows, None) is rows
    assert shorten(rows, FULL) is rows


@pytest.mark.parametrize("dimensions", [1, 4, 15])
def test_a_shorter_row_keeps_its_direction_and_is_of_unit_length(dimensions: int) -> None:
    rows = np.random.default_rng(1).standard_normal((5, FULL)).astype(np.float32)
    short = shorten(rows, dimensions)
    kept = rows[:, :dimensions].astype(np.float64)
    assert short.dtype == np.float32
    assert np.allclose(short, kept / np.linalg.norm(kept, axis=1, keepdims=True), atol=1e-6)
