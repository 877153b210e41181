"""The life of a large collection, stage by stage, each in its own process.

So the reported memory is that of the stage alone, and the caches of one stage do not help the next.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.memory import StageUsage, measuring
from scaling.world import make_blocks, make_texts, name_of
from twinlens.index.collection import Collection
from twinlens.index.maintenance import IndexPlan, optimise, store_sample
from twinlens.index.stats import measured_recall
from twinlens.index.upkeep.backup import back_up
from twinlens.index.writer import Writer, create_collection

WRITTEN = 40_000  # rows per call
ASKED = 50  # queries that were not used for tuning
SAMPLED = 1000  # texts that tuning may use
K = 10


@dataclass(frozen=True)
class Plan:
    """What is measured: number and dimension of rows, folder, and kind of index."""

    place: Path
    rows: int
    dim: int
    kind: str

    @property
    def folder(self) -> Path:
        """The collection."""
        return self.place / "c"


def run_stage(stage: Callable[[Plan], list[StageUsage]], plan: Plan) -> list[StageUsage]:
    """Run a stage in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(stage, plan).result()


def write(plan: Plan) -> list[StageUsage]:
    """Write all items, then merge them into few segments."""
    create_collection(plan.folder, dim=plan.dim)
    made = 0.0
    with Writer(plan.folder) as writer:
        with measuring("write") as usage:
            blocks = make_blocks(plan.rows, plan.dim, WRITTEN)
            while True:
                spent = time.process_time()
                block = next(blocks, None)
                made += time.process_time() - spent
                if block is None:
                    break
                writer.upsert(block.ids, block.rows, block.metadata)
        usage.told = {"CPU s to generate the items, included": round(made, 1)}
        with measuring("join segments") as joining:
            writer.compact()
        joining.told = {"segments": [row.rows for row in writer.catalog.segments()]}
    usage.told |= {"disk": disk_of(plan.folder)}
    return [usage, joining]


def index(plan: Plan) -> list[StageUsage]:
    """Build and tune the index of each segment."""
    with measuring("index") as usage, Writer(plan.folder) as writer:
        store_sample(writer, "text", make_texts(SAMPLED, plan.dim), "given")
        optimise(writer, IndexPlan(plan.kind))
        kinds = [row.index.kind if row.index else "exact" for row in writer.catalog.segments()]
        recall = measured_recall(writer.collection.snapshot())
    usage.told = {"kinds": kinds, "recall": recall, "disk": disk_of(plan.folder)}
    return [usage]


def serve(plan: Plan) -> list[StageUsage]:
    """Open and search as a server does, without and with filters."""
    queries = make_texts(SAMPLED + ASKED, plan.dim)[SAMPLED:]
    with measuring("open") as opening:
        collection = Collection(plan.folder, resident_bytes=0)
    with measuring("first search") as first:
        collection.search(queries[0], K)
    with measuring(f"{ASKED} searches") as later:
        taken = []
        for query in queries:
            begun = time.process_time()
            collection.search(query, K)
            taken.append(1000 * (time.process_time() - begun))
    later.told = {
        "CPU ms, median": round(float(np.median(taken)), 2),
        "99 %": round(float(np.percentile(taken, 99)), 2),
    }
    usages = [opening, first, later]
    wanted = plan.rows // 2
    filters = {
        "filter by path": f'path = "/photos/{name_of(wanted)}"',
        "filter by a word": 'caption contains "tiger"',
    }
    for name, text in filters.items():
        with measuring(name) as filtering:
            hits = collection.search(queries[1], K, filter=text)[0]
        filtering.told = {"hits": len(hits)}
        usages.append(filtering)
    collection.close()
    return usages


def delete(plan: Plan) -> list[StageUsage]:
    """Delete one in a hundred items, in one commit."""
    drawn = np.random.default_rng(5).choice(plan.rows, plan.rows // 100, replace=False)
    ids = [name_of(number) for number in drawn.tolist()]
    with Writer(plan.folder) as writer, measuring("delete 1 %") as usage:
        writer.delete(ids)
    return [usage]


def compact(plan: Plan) -> list[StageUsage]:
    """Compact after few deletions: segments that are not worth it are not rewritten."""
    return [_compact(plan, "compact")]


def compact_in_full(plan: Plan) -> list[StageUsage]:
    """Rewrite every segment with a deleted row; indexes would be rebuilt after it."""
    return [_compact(plan, "compact --full", full=True)]


def _compact(plan: Plan, name: str, full: bool = False) -> StageUsage:
    with Writer(plan.folder) as writer, measuring(name) as usage:
        before = {row.name for row in writer.catalog.segments()}
        writer.compact(full=full)
        rows = writer.catalog.segments()
        written = sum(row.rows for row in rows if row.name not in before)
    usage.told = {"rows written": written, "segments": [row.rows for row in rows]}
    return usage


def snapshot(plan: Plan) -> list[StageUsage]:
    """Take a snapshot, which is verified, by hard links."""
    with measuring("snapshot") as usage:
        report = back_up(plan.folder, plan.place / "snapshot")
    shutil.rmtree(plan.place / "snapshot")
    usage.told = {"files linked": report.linked, "items": report.items}
    return [usage]


def disk_of(folder: Path) -> str:
    """Return a collection's disk usage, and its parts per row."""
    sizes: dict[str, int] = {}
    for root, _, files in os.walk(folder):
        for name in files:
            sizes[name] = sizes.get(name, 0) + (Path(root) / name).stat().st_size
    parts = [f"{name} {size / 1e9:.2f}" for name, size in sorted(sizes.items()) if size > 1e7]
    return f"{sum(sizes.values()) / 1e9:.2f} GB ({', '.join(parts)})"
