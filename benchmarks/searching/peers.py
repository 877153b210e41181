"""Other stores on the same rows and texts, at equal measured recall, in one interleaved run.

First each contender's dial is swept, for the plot. Then, for each recall, each contender is set to
the first value of its dial that reached it, and all answer the same texts alternately. CPU
milliseconds count every thread, and the server process of those that have one.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from worlds.embeddings import Rows

from searching.stage import K, Stage
from searching.stores import STORES, Store
from twinlens.index.ann.candidates import IndexParams
from twinlens.index.maintenance import IndexPlan, optimise
from twinlens.index.vectors.exact import top_k
from twinlens.index.vectors.faiss_setup import load_faiss

TARGETS = (0.95, 0.99)
ASKED = 200  # texts that select the parameters
ROUNDS = 200  # of these texts, in the interleaved run: at most `ASKED`


class Twinlens(Store):
    """`Collection.search` in full, on the inverted lists of the stage; its dial is the probe."""

    label = "twinlens ivf-sq8"
    params = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)

    def __init__(self, stage: Stage, number_of: dict[str, int]) -> None:
        self._stage = stage
        self._number_of = number_of

    def build(self, rows: Rows, place: Path) -> None:
        optimise(self._stage.writer, IndexPlan("ivf-sq8"))
        ann_index = self._stage.collection.snapshot().parts[0].ann_index
        if ann_index is None:
            raise RuntimeError("no index reaches the target here")
        self._ann_index, self._tuned = ann_index, ann_index.tuning

    def turn(self, param: Any) -> None:
        params = IndexParams(param, max(3, self._tuned.params.expansion))
        self._ann_index.tuning = dataclasses.replace(self._tuned, params=params)

    def ask(self, text: Rows) -> Sequence[int]:
        return [self._number_of[hit.id] for hit in self._stage.collection.search(text, K)[0]]

    def close(self) -> None:
        self._ann_index.tuning = self._tuned


class Flat(Store):
    """FAISS's full scan with its defaults: the denominator of every ratio."""

    label = "FAISS Flat"

    def build(self, rows: Rows, place: Path) -> None:
        self._index = load_faiss().IndexFlatIP(rows.shape[1])
        self._index.add(rows)

    def ask(self, text: Rows) -> Sequence[int]:
        found: list[int] = self._index.search(text[None], K)[1][0].tolist()
        return found


@dataclass
class Entrant:
    """A store with the recall that each value of its dial reached."""

    store: Store
    recalls: list[tuple[Any, float]]

    def dial_for(self, target: float) -> Any:
        """Return the first value that reaches the target, or `...` if none does."""
        return next((param for param, recall in self.recalls if recall >= target), ...)


def compare_stores(stage: Stage, number_of: dict[str, int] | None = None) -> None:
    """Build what is installed, sweep the parameters, then run all at equal recall."""
    images, texts = stage.world.images, stage.texts[:ASKED]
    number_of = number_of or {f"i{n}": n for n in range(len(images))}
    truth = [set(row) for row in top_k(texts, images, K)[1].tolist()]
    entrants: list[Entrant] = []
    with tempfile.TemporaryDirectory(dir=stage.place) as place:
        try:
            for store in (Flat(), Twinlens(stage, number_of)):
                entrants.append(_enter(stage, store, texts, truth, Path(place)))
            for kind in STORES:
                if missing := kind.missing():
                    absent = f"{kind.label}: not installed ({', '.join(missing)})"
                    stage.report.row(what=absent)
                    continue
                try:
                    entrants.append(_enter(stage, kind(), texts, truth, Path(place)))
                except Exception as error:  # a store that fails must not cost the others' results
                    stage.report.row(what=f"{kind.label}: failed with {error!r}"[:300])
            for target in TARGETS:
                _race(stage, entrants, target, texts, truth)
        finally:
            for entrant in entrants:
                entrant.store.close()


def _enter(stage: Stage, store: Store, texts: Rows, truth: list[set[int]], place: Path) -> Entrant:
    """Build one store and sweep its dial."""
    start = store.spent()
    store.build(stage.world.images, place)
    built = store.spent() - start
    recalls = []
    for param in store.params:
        store.turn(param)
        start = store.spent()
        found = [store.ask(text) for text in texts]
        cost = 1000 * (store.spent() - start) / len(texts)
        recall = _recall(found, truth)
        recalls.append((param, recall))
        shown = store.label if param is None else f"{store.label}, {param}"
        stage.report.row(what=shown, ms=cost, recall=recall, cpu_s=built)
        if recall >= 0.9975:
            break  # higher values add nothing
    return Entrant(store, recalls)


def _race(
    stage: Stage, entrants: list[Entrant], target: float, texts: Rows, truth: list[set[int]]
) -> None:
    """Give all that reach the target the same texts alternately."""
    ready = [(one.store, one.dial_for(target)) for one in entrants]
    running = [(store, param) for store, param in ready if param is not ...]
    for store, param in running:
        store.turn(param)
    cpu = {store.label: 0.0 for store, _ in running}
    wall: dict[str, list[float]] = {store.label: [] for store, _ in running}
    found: dict[str, list[Sequence[int]]] = {store.label: [] for store, _ in running}
    for turn in range(ROUNDS):
        for store, _ in running:
            before, start = store.spent(), time.perf_counter()
            answer = store.ask(texts[turn])
            wall[store.label].append(1000 * (time.perf_counter() - start))
            cpu[store.label] += 1000 * (store.spent() - before) / ROUNDS
            found[store.label].append(answer)
    ours = cpu[Twinlens.label] if Twinlens.label in cpu else float("nan")
    for store, param in running:
        stage.report.row(
            what=f"at {target}: {store.label}" + ("" if param is None else f" ({param})"),
            ms=cpu[store.label],
            wall_p50_ms=statistics.median(wall[store.label]),
            ratio=cpu[store.label] / ours,
            recall=_recall(found[store.label], truth[: len(found[store.label])]),
        )
    for store, param in ready:
        if param is ...:
            stage.report.row(what=f"at {target}: {store.label} does not reach it on its dial")


def _recall(found: list[Sequence[int]], truth: list[set[int]]) -> float:
    return float(np.mean([len(set(a) & b) / len(b) for a, b in zip(found, truth, strict=True)]))
