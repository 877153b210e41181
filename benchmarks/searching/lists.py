"""Lists at 4 bits beside their contenders: graphs, and the library that they come from.

Each contender has settings from cheap to thorough. Some texts select, for each recall, the setting
that reaches it with the least CPU; then all answer the other texts alternately, a block of single
texts at a time, and the median block counts. Bare rabitqlib is the same index, called as a library,
with its candidates scored again by NumPy: the difference is the cost of the collection.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from worlds.embeddings import Rows

from searching.stage import BLOCK, K, Stage
from searching.stores import Hnsw, Store, Usearch
from twinlens.index.ann.ann_index import AnnIndex, _encode, _fit_space, _train_and_add
from twinlens.index.ann.candidates import Candidates, IndexParams
from twinlens.index.ann.kinds import PROBES, find_kind
from twinlens.index.ann.rabitq_lists import LISTS_NAME
from twinlens.index.collection import Collection
from twinlens.index.maintenance import IndexPlan, optimise
from twinlens.index.vectors.exact import top_k
from twinlens.index.vectors.faiss_setup import load_faiss

KIND = "ivf-rabitq4"
TARGETS = {0.95: 0.6, 0.99: 0.5}  # of recall, and of HNSW's time
SETTINGS = tuple(
    (probe, expansion) for expansion in (2, 3) for probe in PROBES if 4 <= probe <= 160
)
CHOOSING = 400  # texts that select the settings
APART = 7  # blocks between those that two contenders get in one turn
ENOUGH = 0.9955  # more expensive settings add nothing


class Lists(Store):
    """`Collection.search` in full."""

    label = f"twinlens {KIND}"
    params = SETTINGS

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        ann_index = collection.snapshot().parts[0].ann_index
        opened = None if ann_index is None else ann_index.open()
        if ann_index is None or opened is None or opened.codes is None:
            raise RuntimeError(f"there is no open index of kind {KIND}")
        self._ann_index: AnnIndex = ann_index
        self._opened: Candidates = opened
        self.codes = opened.codes

    def build(self, rows: Rows, place: Path) -> None:
        return  # it exists

    def turn(self, param: Any) -> None:
        tuning = dataclasses.replace(self._ann_index.tuning, params=IndexParams(*param))
        self._ann_index.tuning = tuning

    def ask(self, text: Rows) -> Sequence[Any]:
        return self._collection.search(text, K)[0]

    def numbers(self, answer: Sequence[Any]) -> list[int]:
        return [int(hit.id[1:]) for hit in answer]


class EightBits(Lists):
    """The lists that serve filters, as a separate index."""

    label = "twinlens ivf-sq8, the same lists"

    def __init__(self, collection: Collection) -> None:
        super().__init__(collection)
        self._ann_index._open = Candidates("ivf-sq8", self._opened.index, self._opened.space)


class Bare(Store):
    """The library's own call, with its candidates scored again."""

    label = "rabitqlib and re-ranking"
    params = SETTINGS

    def __init__(self, lists: Lists, rows: Any) -> None:
        self._index = lists.codes._index
        self._rows = rows

    def build(self, rows: Rows, place: Path) -> None:
        return

    def turn(self, param: Any) -> None:
        self._probe, self._count = param[0], K * param[1]

    def ask(self, text: Rows) -> Sequence[int]:
        ids = self._index.search(text[None], self._count, self._probe, False)[0][0]
        scores = self._rows[ids].astype(np.float32) @ text
        found: list[int] = ids[np.argsort(-scores)[:K]].tolist()
        return found


class Call(Bare):
    """The library's own call alone."""

    label = "rabitqlib's call alone"

    def ask(self, text: Rows) -> Sequence[int]:
        found: list[int] = self._index.search(text[None], self._count, self._probe, False)[0][
            0
        ].tolist()
        return found[:K]


class Kept(Store):
    """A graph that a folder keeps for later runs, with the CPU seconds of its build."""

    def __init__(self, keep: Path | None) -> None:
        self._keep = keep

    def build(self, rows: Rows, place: Path) -> None:
        folder = self._keep or place
        name = self.label.split()[-1]
        graph, note = folder / f"{name}.graph", folder / f"{name}.json"
        if note.exists():
            self.load(graph)
            self.cpu = float(json.loads(note.read_text())["cpu_s"])
            return
        start = time.process_time()
        super().build(rows, place)  # type: ignore[safe-super]
        self.cpu = time.process_time() - start
        self.save(graph)
        note.write_text(json.dumps({"cpu_s": self.cpu}))

    @abstractmethod
    def load(self, path: Path) -> None:
        """Read the graph."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the graph."""


class KeptHnsw(Kept, Hnsw):
    """FAISS's graph, kept."""

    def load(self, path: Path) -> None:
        self._index = load_faiss().read_index(str(path))

    def save(self, path: Path) -> None:
        load_faiss().write_index(self._index, str(path))


class KeptUsearch(Kept, Usearch):
    """The graph of usearch, kept."""

    def load(self, path: Path) -> None:
        self._index = import_module("usearch.index").Index.restore(str(path))

    def save(self, path: Path) -> None:
        self._index.save(str(path))


@dataclass
class Entrant:
    """A contender, and the results of each of its settings: (setting, recall, ms)."""

    store: Store
    reached: list[tuple[Any, float, float]]

    def setting_for(self, target: float) -> Any:
        """Return the cheapest setting that reaches a recall, or `...`."""
        able = [(ms, setting) for setting, recall, ms in self.reached if recall >= target]
        return min(able, key=lambda one: one[0])[1] if able else ...


def compare_lists(stage: Stage) -> None:
    """Build, select settings, and compare at equal recall; skipped without rabitqlib."""
    if obstacle := find_kind(KIND).obstacle():
        stage.report.row(what=f"{KIND}: {obstacle}")
        return
    optimise(stage.writer, IndexPlan(KIND))
    rows = stage.collection.snapshot().parts[0].segment.embeddings
    stage.collection.warm()
    with Collection(stage.writer.folder) as other:
        other.warm()
        lists = Lists(stage.collection)
        graph = KeptHnsw(stage.keep)
        stores: list[Store] = [lists, Bare(lists, rows), EightBits(other), graph]
        if not Usearch.missing():
            stores.append(KeptUsearch(stage.keep))
        truth = [set(row) for row in top_k(stage.texts, rows, K)[1].tolist()]
        entrants = [_enter(stage, store, truth) for store in stores]
        for target in TARGETS:
            _race(stage, entrants, Call(lists, rows), target, truth)
    _weigh(stage, rows, graph.cpu)


def _enter(stage: Stage, store: Store, truth: list[set[int]]) -> Entrant:
    store.build(stage.world.images, stage.place)
    reached: list[tuple[Any, float, float]] = []
    done: set[Any] = set()  # expansions beyond which settings add nothing
    for setting in store.params:
        group = setting[1] if isinstance(setting, tuple) else None
        if group in done:
            continue
        store.turn(setting)
        start = time.process_time()
        found = [store.ask(text) for text in stage.texts[:CHOOSING]]
        ms = 1000 * (time.process_time() - start) / CHOOSING
        recall = _recall(zip(map(store.numbers, found), truth, strict=False))
        reached.append((setting, recall, ms))
        stage.report.row(what=f"{store.label}, {setting}", ms=ms, recall=recall)
        if recall >= ENOUGH:
            done.add(group)
    return Entrant(store, reached)


def _race(
    stage: Stage, entrants: list[Entrant], call: Call, target: float, truth: list[set[int]]
) -> None:
    """Give all that reach the recall the same blocks of texts alternately."""
    ready = {one.store.label: (one.store, one.setting_for(target)) for one in entrants}
    for label, (_, setting) in list(ready.items()):
        if setting is ...:
            stage.report.row(what=f"at {target}: {label} does not reach it")
            del ready[label]
    if Lists.label in ready:
        ready[call.label] = (call, ready[Lists.label][1])
    ms, recalls = _run(ready, stage.texts[CHOOSING:], truth[CHOOSING:])
    for label, (_, setting) in ready.items():
        stage.report.row(
            what=f"at {target}: {label} {setting}",
            ms=ms[label],
            ratio=ms[label] / ms.get(Hnsw.label, float("nan")),
            recall=recalls[label],
        )
    _hold(stage, target, ms)


def _hold(stage: Stage, target: float, ms: dict[str, float]) -> None:
    """Compare with the targets."""
    mine = ms.get(Lists.label, float("nan"))
    for label, most in ((Hnsw.label, TARGETS[target]), (Bare.label, 1.15)):
        ratio = mine / ms.get(label, float("nan"))
        stage.report.bar(
            f"{KIND}_{target}_over_{label}".replace(" ", "_"), ratio, most, ratio <= most
        )
    for label in (Call.label, Bare.label):
        above = 1000 * (mine - ms.get(label, float("nan")))
        stage.report.bar(f"us_above_{label}_{target}".replace(" ", "_"), above, 60.0, above <= 60)


def _run(
    ready: dict[str, tuple[Store, Any]], texts: Rows, truth: list[set[int]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the median CPU milliseconds per text, and the recall, of each."""
    spent: dict[str, list[float]] = {label: [] for label in ready}
    found: dict[str, list[tuple[Sequence[int], set[int]]]] = {label: [] for label in ready}
    blocks = len(texts) // BLOCK
    for turn in range(blocks):
        for number, (label, (store, setting)) in enumerate(ready.items()):
            # Not the previous contender's block, whose lists and rows are in the caches.
            at = BLOCK * ((turn + APART * number) % blocks)
            store.turn(setting)
            store.ask(texts[at - 1])  # the previous contender's data in the caches are not its own
            begun = time.process_time()
            answers = [store.ask(text) for text in texts[at : at + BLOCK]]
            spent[label].append(1000 * (time.process_time() - begun) / BLOCK)
            found[label] += zip(map(store.numbers, answers), truth[at : at + BLOCK], strict=True)
    return (
        {label: statistics.median(values) for label, values in spent.items()},
        {label: _recall(values) for label, values in found.items()},
    )


def _weigh(stage: Stage, rows: Any, graph: float) -> None:
    """Compare the build time with the graph's; count the bytes of the codes."""
    kind, known = find_kind(KIND), np.arange(len(rows))
    start = time.process_time()
    space = _fit_space(kind, rows, {}, known)
    _encode(_train_and_add(kind, rows, space), rows, space)
    cpu = time.process_time() - start
    stage.report.row(what=f"build {KIND}; hnsw32 {graph:.0f} s", cpu_s=cpu, ratio=cpu / graph)
    stage.report.bar(f"build_{KIND}_share_of_hnsw32", cpu / graph, 0.25, cpu <= 0.25 * graph)
    (path,) = stage.writer.folder.glob(f"idx-*/{LISTS_NAME}")
    size = path.stat().st_size / len(rows)
    stage.report.bar("bytes_a_row_of_codes", size, 300.0, size <= 300)


def _recall(pairs: Iterable[tuple[Sequence[int], set[int]]]) -> float:
    return float(np.mean([len(set(answer) & best) / len(best) for answer, best in pairs]))
