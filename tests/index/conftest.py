"""Small collections and a generator of embeddings with out-of-distribution text queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from twinlens.bundle.arrays import Rows
from twinlens.index.writer import Writer, create_collection

DIM = 16


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def rows(rng: np.random.Generator) -> Callable[[int], Rows]:
    """Return a maker of random unit rows."""

    def make(count: int) -> Rows:
        raw = rng.standard_normal((count, DIM)).astype(np.float32)
        unit: Rows = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        return unit

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of an empty collection."""
    place = tmp_path / "photos"
    create_collection(place, dim=DIM, bundle_name="fake", bundle_revision="r1")
    return place


@pytest.fixture
def writer(folder: Path) -> Iterator[Writer]:
    with Writer(folder, seal_rows=50) as opened:
        yield opened
