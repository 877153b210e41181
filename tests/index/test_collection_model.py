"""Random sequences of operations on a collection, compared with a dict and numpy."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from twinlens.index.collection import Collection
from twinlens.index.writer import Writer, create_collection

DIM = 6
IDS = st.integers(0, 25).map(lambda n: f"item {n}")


class CollectionModel(RuleBasedStateMachine):
    """Runs a writer and a reader, and compares both with `self.model`."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp()) / "c"
        self.rng = np.random.default_rng(1)
        self.model: dict[str, tuple[npt.NDArray[np.float32], int]] = {}

    @initialize()
    def make(self) -> None:
        create_collection(self.folder, dim=DIM)
        self.writer = Writer(self.folder, seal_rows=12)
        self.reader = Collection(self.folder)

    @rule(ids=st.lists(IDS, min_size=1, max_size=20), colour=st.integers(0, 3))
    def upsert(self, ids: list[str], colour: int) -> None:
        rows = self.rng.standard_normal((len(ids), DIM)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        self.writer.upsert(ids, rows, [{"colour": colour}] * len(ids))
        self.model.update({name: (row, colour) for name, row in zip(ids, rows, strict=True)})

    @rule(ids=st.lists(IDS, max_size=8, unique=True))
    def delete(self, ids: list[str]) -> None:
        assert self.writer.delete(ids) == sum(name in self.model for name in ids)
        for name in ids:
            self.model.pop(name, None)

    @rule()
    def seal(self) -> None:
        self.writer.seal()

    @rule()
    def compact(self) -> None:
        self.writer.compact()

    @rule()
    def reopen_the_writer(self) -> None:
        self.writer.close()
        self.writer = Writer(self.folder, seal_rows=12)

    @rule()
    def reopen_the_reader(self) -> None:
        self.reader.close()
        self.reader = Collection(self.folder)

    @rule(k=st.integers(1, 30), colour=st.none() | st.integers(0, 3))
    def search(self, k: int, colour: int | None) -> None:
        query = self.rng.standard_normal(DIM).astype(np.float32)
        query /= np.linalg.norm(query)
        truth = {
            name: float(row.astype(np.float16).astype(np.float32) @ query)
            for name, (row, held) in self.model.items()
            if colour is None or held == colour
        }
        self.reader.refresh()
        text = None if colour is None else f"colour = {colour}"
        for collection in (self.writer.collection, self.reader):
            hits = collection.search(query, k, filter=text)[0]
            assert len(hits) == len({hit.id for hit in hits}) == min(k, len(truth))
            best = sorted(truth.values(), reverse=True)[:k]
            np.testing.assert_allclose([hit.score for hit in hits], best, atol=1e-4)
            for hit in hits:
                assert abs(truth[hit.id] - hit.score) < 1e-4
                assert hit.metadata == {"colour": self.model[hit.id][1]}

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert self.writer.collection.count() == len(self.writer.collection) == len(self.model)
        assert {item.id for item in self.writer.catalog.items()} == set(self.model)

    def teardown(self) -> None:
        self.writer.close()
        self.reader.close()
        shutil.rmtree(self.folder.parent)


TestCollectionModel = CollectionModel.TestCase
TestCollectionModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
