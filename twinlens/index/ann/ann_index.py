"""The FAISS index of a segment: built beside it, opened when first needed, verified by its hash.

It is derived data. If it is damaged or missing, its segment is searched exactly and reports the
damage; the index is never the only copy of anything.
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
from twinlens.index.ann.candidates import INDEX_NAME, TUNED_K, Candidates, IndexParams
from twinlens.index.ann.filtered_params import FilteredParams, choose_params
from twinlens.index.ann.kinds import PROJECTED_DIM, IndexKind, find_kind
from twinlens.index.ann.recall import Recall, Sample, fitting_part, true_sample, withheld_rows
from twinlens.index.ann.tuner import Tuning, tune
from twinlens.index.storage.durable import check_hashes, fresh_name, publish_folder
from twinlens.index.storage.records import IndexRow, SegmentRow
from twinlens.index.storage.segment import Segment
from twinlens.index.vectors.arrays import Floats, Mask, RowNumbers, as_float32
from twinlens.index.vectors.faiss_setup import load_faiss, num_gpus
from twinlens.index.vectors.gpu import add_blocks
from twinlens.index.vectors.space import Space, centred_space, identity_space, projected_space

TRAIN_ROWS_PER_LIST = 100  # more rows do not improve the centres
TRAIN_ROUNDS = 10
BLOCK = 16_384

log = logging.getLogger(__name__)


class AnnIndex:
    """The index of one segment; thread-safe."""

    def __init__(self, root: Path, row: IndexRow) -> None:
        self.row = row
        self.tuning = tuning_from(row.tuning)
        self.damage: str | None = None
        self._folder = root / row.name
        self._lock = threading.Lock()
        self._open: Candidates | None = None
        self._answers: tuple[TrueAnswers | None] | None = None

    def search(
        self, segment: Segment, queries: Floats, k: int, allowed: Mask | None, *, filtered: bool
    ) -> tuple[Floats, RowNumbers] | None:
        """Return the k best rows, or None if only an exact search can answer."""
        index = self.open()
        if index is None:
            return None
        params = self._params(index, queries, k, allowed, filtered)
        if params is None:
            return None
        found = index.find(queries, segment.matrix(False), k, params, allowed)
        # The caller guarantees k rows: an incomplete result must not be returned.
        return None if found[1].min() < 0 else found

    def plan(
        self, queries: Floats, k: int, allowed: Mask | None, *, filtered: bool
    ) -> tuple[IndexParams, int] | None:
        """Return the parameters that `search` uses and the number of lists, 0 without lists."""
        index = self.open()
        params = None if index is None else self._params(index, queries, k, allowed, filtered)
        return None if index is None or params is None else (params, index.list_count)

    def open(self) -> Candidates | None:
        """Check and map the index once; if it is damaged, return None and set `damage`."""
        with self._lock:
            if self._open is None and self.damage is None:
                try:
                    check_hashes(self._folder, self.row.files)
                    self._open = Candidates.load(self._folder, self.row.kind)
                except (TwinlensError, RuntimeError, OSError) as error:
                    self.damage = str(error)
                    log.error("%s: searching exactly until it is rebuilt", error)
            return self._open

    def lost_shares(self, live: Mask) -> dict[str, float]:
        """Return the share of measured answers that are deleted, by modality."""
        if self._answers is None:  # two threads may both read it
            self._answers = (load_answers(self._folder, self.row.files),)
        return lost_shares(self._answers[0], live, list(self.tuning.recall))

    def _params(
        self, index: Candidates, queries: Floats, k: int, allowed: Mask | None, filtered: bool
    ) -> IndexParams | None:
        """Return the tuned parameters, adapted to `k` and to the filter."""
        farther = max(1.0, k / TUNED_K) ** 0.5
        if not filtered or allowed is None:
            return IndexParams(
                round(self.tuning.params.probe * farther), self.tuning.params.expansion
            )
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
    index = Candidates(kind_name, _train_and_add(kind, rows, space, withheld), space)
    tuning = tune(index, rows, samples, target, fitted=kind.space == "projected", live=live)
    if tuning is None:
        return None
    if kind.is_graph:
        index.add(rows, withheld)

    def fill(folder: Path) -> None:
        load_faiss().write_index(index.stored, str(folder / INDEX_NAME))
        space.save(folder)
        save_answers(folder, samples)

    name = fresh_name("idx")
    files = publish_folder(root, name, fill)
    settings = {"factory": kind.factory(len(rows), space.dim), "space": kind.space}
    return IndexRow(name, kind_name, files, settings, dataclasses.asdict(tuning))


def tuning_from(raw: Mapping[str, Any]) -> Tuning:
    """Return the tuning that `dataclasses.asdict` serialised."""
    return Tuning(
        IndexParams(**_read_params(raw)),
        raw["target"],
        {name: _read_recall(one) for name, one in raw["recall"].items()},
        raw["milliseconds"],
        tuple(
            FilteredParams(
                one["share"], IndexParams(**found) if (found := _read_params(one)) else None
            )
            for one in raw.get("filtered", ())  # if missing, filtered searches are exact
        ),
        raw.get("confidence", 0.95),  # what 0.1 stated
    )


def _read_recall(raw: Mapping[str, Any]) -> Recall:
    return Recall(raw["value"], raw["low"], raw["high"], raw["queries"])


def _read_params(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters, which collections written by 0.1 call `dials`."""
    found: Mapping[str, Any] = (raw["params"] if "params" in raw else raw["dials"]) or {}
    return {name: found[name] for name in ("probe", "expansion") if name in found}


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
