"""What the parts share: a filled collection, its queries, their true answers, and a stopwatch."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from report import Report
from worlds.embeddings import Rows, World

from twinlens.index.collection import Collection
from twinlens.index.maintenance import read_sample, store_sample
from twinlens.index.writer import Writer, create_collection

K = 10
BLOCK = 20  # consecutive queries per throughput measurement
PIECE = 50_000  # rows written at a time
STOCK_THRESHOLD = 128_000  # FAISS 1.15's own value


@dataclass
class Stage:
    """Rows in their own collection, and texts that were not used for tuning."""

    report: Report
    world: World
    texts: Rows
    writer: Writer
    place: Path
    keep: Path | None = None  # a folder for what later runs need not build again

    @property
    def collection(self) -> Collection:
        """The collection that sees each write at once."""
        return self.writer.collection

    @functools.cached_property
    def truth(self) -> list[set[str]]:
        """The ids of the true answers of `texts`."""
        return true_answers(self.collection, self.texts)


def fill(report: Report, world: World, place: Path) -> Stage:
    """Write the world into a collection; every second text tunes. The caller closes it.

    A collection that an earlier run filled at this place is opened instead.
    """
    folder = place / "c"
    if folder.exists():
        writer = Writer(folder)
        if read_sample(writer.catalog, "text") is not None:  # the last key that is written
            return Stage(report, world, world.text_queries[1::2], writer, place)
        writer.close()
        shutil.rmtree(folder)
    create_collection(folder, dim=world.images.shape[1])
    writer = Writer(folder)
    start, wall = time.process_time(), time.perf_counter()
    count = len(world.images)
    lean = _lean(world)
    for at in range(0, count, PIECE):
        piece = range(at, min(count, at + PIECE))
        told = [{"n": n, "share": n / count, "lean": lean[n]} for n in piece]
        writer.upsert([f"i{n}" for n in piece], world.images[at : piece.stop], told)
    writer.compact()
    store_sample(writer, "text", world.text_queries[::2], "given")
    report.row(
        what="write and compact",
        cpu_s=time.process_time() - start,
        wall_s=time.perf_counter() - wall,
        rows=count,
    )
    return Stage(report, world, world.text_queries[1::2], writer, place)


def true_answers(
    collection: Collection, queries: Rows, filter: str | None = None
) -> list[set[str]]:
    """Return the ids of the `K` best of each query, by exact search."""
    answers: list[set[str]] = []
    for at in range(0, len(queries), 64):
        found = collection.search(queries[at : at + 64], K, filter=filter, exact=True)
        answers += [{hit.id for hit in hits} for hits in found]
    return answers


def measure_recall(found: Iterable[set[str]], truth: Sequence[set[str]]) -> float:
    """Return the share of all true answers that were found."""
    same = sum(len(a & b) for a, b in zip(found, truth, strict=True))
    return same / max(1, sum(map(len, truth)))


def ask_each(ask: Callable[[Rows], set[str]], queries: Rows) -> tuple[list[set[str]], float]:
    """Return what each query found, and the mean CPU milliseconds of one."""
    start = time.process_time()
    found = [ask(query) for query in queries]
    return found, 1000 * (time.process_time() - start) / len(queries)


def searcher(collection: Collection, filter: str | None = None) -> Callable[[Rows], set[str]]:
    """Return a call that asks a collection for the ids of one query."""

    def ask(query: Rows) -> set[str]:
        return {hit.id for hit in collection.search(query, K, filter=filter)[0]}

    return ask


def _lean(world: World) -> list[float]:
    """Return how near each row is to the texts as a whole, as its rank from 0 to 1."""
    near = world.images @ world.text_queries.mean(axis=0)
    ranks: list[float] = (np.argsort(np.argsort(near)) / len(near)).tolist()
    return ranks
