"""The index of a segment: built beside it, opened when first needed, its files verified by hash.

It is derived data. If it is damaged or missing, or of a kind that cannot be opened on this machine,
its segment is searched exactly and says why; the index is never the only copy of anything.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.errors import TwinlensError
from twinlens.index.ann.answers import TrueAnswers, load_answers, lost_shares, save_answers
from twinlens.index.ann.candidates import TUNED_K, Candidates, IndexParams, read_list_of_row
from twinlens.index.ann.filtered_params import choose_params
from twinlens.index.ann.kinds import PROJECTED_DIM, IndexKind, find_kind, find_obstacle
from twinlens.index.ann.rabitq_lists import RabitqLists
from twinlens.index.ann.recall import Sample, fitting_part, true_sample, withheld_rows
from twinlens.index.ann.stored_index import open_index, save_index, tuning_from
from twinlens.index.ann.tuner import tune
from twinlens.index.storage.durable import fresh_name, publish_folder
from twinlens.index.storage.records import IndexRow, SegmentRow
from twinlens.index.storage.segment import Segment
from twinlens.index.vectors.arrays import Floats, Mask, RowNumbers, as_float32
from twinlens.index.vectors.exact import rescore
from twinlens.index.vectors.faiss_setup import load_faiss, num_gpus
from twinlens.index.vectors.gpu import add_blocks
from twinlens.index.vectors.space import (
    Space,
    centred_space,
    identity_space,
    projected_space,
)

TRAIN_ROWS_PER_LIST = 100  # more rows do not improve the centres
TRAIN_ROUNDS = 10
BLOCK = 16_384

UNREADABLE = (TwinlensError, RuntimeError, OSError)  # what opening a damaged file raises

log = logging.getLogger(__name__)


class AnnIndex:
    """The index of one segment; thread-safe."""

    def __init__(self, root: Path, row: IndexRow) -> None:
        self.row = row
        self.tuning = tuning_from(row.tuning)
        self.damage: str | None = None
        self.obstacle = find_obstacle(row.kind)  # why this machine cannot open it, or None
        self._folder = root / row.name
        self._lock = threading.Lock()
        self._open: Candidates | None = None
        self._is_told = False  # whether the obstacle was logged
        self._answers: tuple[TrueAnswers | None] | None = None

    def search(
        self, segment: Segment, queries: Floats, k: int, allowed: Mask | None, *, filtered: bool
    ) -> tuple[Floats, RowNumbers] | None:
        """Return the k best rows, or None if only an exact search can answer."""
        index = self.open()
        if index is None:
            return None
        try:
            params = self._params(index, queries, k, allowed, filtered)
            if params is None:
                return None
            places = index.propose_for(queries, k, params, allowed, filtered=filtered)
        except UNREADABLE as error:  # what serves filters is opened by the first of them
            self._report(error)
            return None
        segment.verify_rows(places)
        found = rescore(queries, segment.embeddings, places, k)
        # The caller guarantees k rows: an incomplete result must not be returned.
        return None if found[1].min() < 0 else found

    def propose(
        self, query: Floats, k: int, allowed: Mask | None
    ) -> npt.NDArray[np.uint32] | RowNumbers | None:
        """Return the candidates of one query without a filter; None if the index is not open.

        No row is -1; or as rabitqlib returns it, the largest uint32. Written out for few calls.
        """
        index = self._open
        if index is None:
            return None
        params = self.tuning.params if k <= TUNED_K else self.tuning.params.widened(k)
        codes = index.codes
        if codes is not None and allowed is None and index.space.of_queries is None:
            count = max(k, TUNED_K) * params.expansion
            return codes.ask(query, min(count, codes.count), params.probe)
        try:
            return index.propose_for(query, k, params, allowed)
        except UNREADABLE as error:
            self._report(error)
            return None

    def plan(
        self, queries: Floats, k: int, allowed: Mask | None, *, filtered: bool
    ) -> tuple[IndexParams, int] | None:
        """Return the parameters that `search` uses and the number of lists, 0 without lists."""
        index = self.open()
        try:
            params = None if index is None else self._params(index, queries, k, allowed, filtered)
        except UNREADABLE as error:
            self._report(error)
            return None
        return None if index is None or params is None else (params, index.list_count)

    def open(self) -> Candidates | None:
        """Check and open the index once; if that is impossible, return None and say why once."""
        if self._open is None and self.damage is None and not self._is_told:
            with self._lock:
                self._try_to_open()
        return self._open

    def warm(self) -> None:
        """Check and open all of its files, so that no first search is slow."""
        index = self.open()
        try:
            if index is not None:
                _ = index.index
        except UNREADABLE as error:
            self._report(error)

    def _try_to_open(self) -> None:
        if self._open is not None or self.damage is not None or self._is_told:
            return
        if self.obstacle is not None:
            self._is_told = True
            log.warning("%s: searching exactly: %s", self._folder, self.obstacle)
            return
        try:
            self._open = open_index(self._folder, self.row)
        except UNREADABLE as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        """Note damage, after which the segment is searched exactly."""
        self._open = None
        self.damage = str(error)
        log.error("%s: searching exactly until it is rebuilt", error)

    @property
    def can_answer(self) -> bool:
        """Whether the index can be opened here and is not known to be damaged."""
        return self.damage is None and self.obstacle is None

    def lost_shares(self, live: Mask) -> dict[str, float]:
        """Return the share of measured answers that are deleted, by modality."""
        if self._answers is None:  # two threads may both read it
            self._answers = (load_answers(self._folder, self.row.files),)
        return lost_shares(self._answers[0], live, list(self.tuning.recall))

    def _params(
        self, index: Candidates, queries: Floats, k: int, allowed: Mask | None, filtered: bool
    ) -> IndexParams | None:
        """Return the tuned parameters, adapted to `k` and to the filter."""
        unfiltered = not filtered or allowed is None
        if allowed is None or unfiltered:
            return self.tuning.params.widened(k)
        farther = max(1.0, k / TUNED_K) ** 0.5
        share = np.count_nonzero(allowed) / len(allowed)
        params = choose_params(self.tuning.filtered, share)
        if params is None:
            return None
        probe = round(params.probe * farther)
        per_list = index.count_by_list(allowed)
        probe = index.probe_for(queries, probe, per_list, k * params.expansion)
        return IndexParams(probe, params.expansion)


def build_index(
    root: Path,
    segment: Segment,
    kind_name: str,
    samples: Mapping[str, Sample],
    target: float,
    live: Mask | None = None,
) -> IndexRow | None:
    """Train, fill, tune and publish an index; None if no parameters reach the target.

    Rows that serve as queries are withheld from training; a graph contains them only after tuning.
    """
    kind, rows = find_kind(kind_name), segment.matrix(False)
    withheld = withheld_rows(samples)
    known = np.ones(len(rows), bool) if live is None else live.copy()
    known[withheld] = False
    if kind.is_graph:
        live = known
        samples = {name: true_sample(one.queries, rows, live=live) for name, one in samples.items()}
    space = _fit_space(kind, rows, samples, np.flatnonzero(known))
    stored = _train_and_add(kind, rows, space, withheld)
    codes = _encode(stored, rows, space) if kind.has_rabitq else None
    index = Candidates(kind_name, stored, space, codes)
    tuning = tune(index, rows, samples, target, fitted=kind.space == "projected", live=live)
    if tuning is None:
        return None
    if kind.is_graph:
        index.add(rows, withheld)

    def fill(folder: Path) -> None:
        save_index(folder, index)
        save_answers(folder, samples)

    name = fresh_name("idx")
    files = publish_folder(root, name, fill)
    settings = {"factory": kind.factory(len(rows), space.dim), "space": kind.space}
    if codes is not None:
        settings["codes"] = codes.name
    return IndexRow(name, kind_name, files, settings, dataclasses.asdict(tuning))


def _fit_space(
    kind: IndexKind, rows: npt.NDArray[Any], samples: Mapping[str, Sample], known: RowNumbers
) -> Space:
    if kind.space == "full":
        return identity_space(rows.shape[1])
    sample = as_float32(rows[_draw(known, 50_000)])
    if kind.space == "centred":
        return centred_space(sample)
    queries = np.concatenate([fitting_part(one).queries for one in samples.values()])
    return projected_space(sample, queries, min(PROJECTED_DIM, rows.shape[1]))


def _train_and_add(
    kind: IndexKind,
    rows: npt.NDArray[Any],
    space: Space,
    withheld: RowNumbers | None = None,
) -> Any:
    """Return an index of all rows, trained without the withheld ones; a graph leaves them out."""
    faiss = load_faiss()
    factory = kind.factory(len(rows), space.dim)
    index = faiss.index_factory(space.dim, factory, faiss.METRIC_INNER_PRODUCT)
    known = np.arange(len(rows))
    if withheld is not None:
        known = np.delete(known, withheld)
    wanted = len(rows)
    if kind.param == "nprobe":
        index.cp.niter = TRAIN_ROUNDS
        index.cp.min_points_per_centroid = 1  # else it warns where an eighth is withheld
        index.cp.max_points_per_centroid = TRAIN_ROWS_PER_LIST
        wanted = TRAIN_ROWS_PER_LIST * index.nlist
        if num_gpus(faiss):
            flat = faiss.IndexFlatIP(space.dim)
            index.clustering_index = faiss.index_cpu_to_all_gpus(flat)
    if not index.is_trained:
        index.train(space.map_rows(rows[_draw(known, wanted)]))
    if kind.is_graph:
        index.hnsw.efConstruction = 120
        return _add_numbered(faiss.IndexIDMap(index), rows, space, known)

    def blocks() -> Iterator[Floats]:
        for start in range(0, len(rows), BLOCK):
            yield space.map_rows(rows[start : start + BLOCK])

    return add_blocks(index, blocks, has_kernels=kind.on_gpu)


def _encode(index: Any, rows: npt.NDArray[Any], space: Space) -> RabitqLists:
    """Return 4-bit codes of the rows of an inverted file, in the same lists."""
    centres = index.quantizer.reconstruct_n(0, index.nlist)
    return RabitqLists.build(
        lambda part: space.map_rows(rows[part]), centres, read_list_of_row(index)
    )


def _add_numbered(index: Any, rows: npt.NDArray[Any], space: Space, numbers: RowNumbers) -> Any:
    for start in range(0, len(numbers), BLOCK):
        chosen = numbers[start : start + BLOCK]
        index.add_with_ids(space.map_rows(rows[chosen]), chosen)
    return index


def _draw(numbers: RowNumbers, wanted: int) -> RowNumbers:
    """Return up to `wanted` of the row numbers in order; deterministic."""
    if wanted >= len(numbers):
        return numbers
    return np.sort(np.random.default_rng(0).choice(numbers, wanted, replace=False))


def reopen_index(folder: Path, row: SegmentRow, known: AnnIndex | None) -> AnnIndex | None:
    """Return the index of a segment, or the one that is open if it is unchanged."""
    if row.index is None:
        return None
    if known is not None and known.row.name == row.index.name:
        return known
    return AnnIndex(folder, row.index)
