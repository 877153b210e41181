"""Copies between a folder and stores: everything comes along, and a second run copies nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.index.stores.conftest import Keeper
from tests.index.stores.places import DIM
from twinlens.bundle.arrays import Rows
from twinlens.errors import ConflictError
from twinlens.index.collection import Collection
from twinlens.index.stores.migration import copy_items
from twinlens.index.writer import Writer, create_collection

Make = Callable[[int], Rows]


def fill(folder: Path, rows: Rows, revision: str = "r1") -> None:
    create_collection(folder, dim=DIM, bundle_name="fake", bundle_revision=revision)
    with Writer(folder, seal_rows=100) as writer:
        ids = [f"i{n}" for n in range(len(rows))]
        metadata = [{"n": n, "tags": ["a", n]} for n in range(len(rows))]
        writer.upsert(ids, rows, metadata, [f"v{n}-x" for n in range(len(rows))])
        writer.delete(["i0"])
        writer.upsert(["i1"], rows[1:2], [{"n": -1}], ["v1-y"])  # moves to the end


def test_a_collection_goes_to_a_store_and_comes_back_the_same(
    keeper: Keeper, rows: Make, tmp_path: Path
) -> None:
    table = rows(1500)
    fill(tmp_path / "from", table)
    create_collection(tmp_path / "back", dim=DIM, bundle_name="fake", bundle_revision="r1")
    with Collection(tmp_path / "from") as source, keeper.open_writer() as store:
        assert copy_items(source, store) == (1499, 0)
        assert copy_items(source, store) == (0, 1499)
        with Writer(tmp_path / "back") as writer:
            assert copy_items(store.collection, writer) == (1499, 0)
            back = writer.collection
            old = [(one.id, one.version, one.metadata) for one in source.catalog.items()]
            new = [(one.id, one.version, one.metadata) for one in back.catalog.items()]
            assert new == old
            for name in ("i1", "i700"):
                np.testing.assert_allclose(back.embedding(name), source.embedding(name), atol=1e-3)


def test_a_copy_that_was_cut_off_goes_on(keeper: Keeper, rows: Make, tmp_path: Path) -> None:
    fill(tmp_path / "from", rows(2500))

    class CutError(Exception):
        pass

    def cut(done: int, total: int) -> None:
        raise CutError

    with Collection(tmp_path / "from") as source, keeper.open_writer() as store:
        with pytest.raises(CutError):
            copy_items(source, store, cut)
        assert copy_items(source, store) == (1499, 1000)
        assert store.collection.count() == 2499


def test_a_collection_of_another_bundle_is_refused(
    keeper: Keeper, rows: Make, tmp_path: Path
) -> None:
    fill(tmp_path / "from", rows(5), revision="r2")
    with (
        Collection(tmp_path / "from") as source,
        keeper.open_writer() as store,
        pytest.raises(ConflictError, match="revision r1"),
    ):
        copy_items(source, store)
