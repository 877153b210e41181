"""Maintenance of a collection: compaction into few segments, and indexes for large ones.

Every step is published separately; after a kill the collection is intact, and the next maintenance
continues.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from twinlens.errors import InputError
from twinlens.index.ann.ann_index import AnnIndex, build_index
from twinlens.index.ann.kinds import find_kind
from twinlens.index.ann.policy import choose_kinds
from twinlens.index.ann.recall import Sample, true_sample
from twinlens.index.ann.tuner import DEFAULT_TARGET
from twinlens.index.snapshot import EXACT_ROWS
from twinlens.index.storage.catalog import Catalog
from twinlens.index.storage.records import IndexRow, SegmentRow
from twinlens.index.storage.segment import Segment
from twinlens.index.vectors.arrays import Floats, unit_rows
from twinlens.index.writer import Writer

SAMPLE_NOTE = "sample:"
SOURCE_NOTE = "sample source:"
SAMPLE_QUERIES = 1000  # per modality: half for tuning, half for the reported recall
OUTSIDE_SHARE = 0.25  # of all rows outside the largest segment: compact above this
DEAD_SHARE = 0.2
MIN_ROWS = EXACT_ROWS + 1  # fewer are searched exactly, whatever index they have


@dataclass(frozen=True)
class IndexPlan:
    """Which index to build: `auto` follows the policy, `exact` builds none."""

    kind: str = "auto"
    target: float = DEFAULT_TARGET
    memory: int | None = None  # bytes for the codes; None: half of the machine's memory


def check_plan(plan: IndexPlan) -> None:
    """Raise if a plan is invalid, before any work."""
    if plan.kind not in {"auto", "exact"}:
        find_kind(plan.kind)
    if not 0.5 <= plan.target <= 0.999:
        raise InputError(f"target is {plan.target}; it must be 0.5 to 0.999", field="target")


def store_sample(writer: Writer, modality: str, queries: Floats, source: str) -> None:
    """Store a sample of queries for tuning, and its source."""
    rows = unit_rows(queries, writer.catalog.head().dim, "queries")
    body = io.BytesIO()
    np.save(body, rows.astype(np.float16), allow_pickle=False)
    with writer.catalog.writing() as transaction:
        transaction.write_note(SAMPLE_NOTE + modality, body.getvalue())
        transaction.write_note(SOURCE_NOTE + modality, source.encode())


def read_sample(catalog: Catalog, modality: str) -> Floats | None:
    """Return the stored queries of a modality, or None."""
    body = catalog.note(SAMPLE_NOTE + modality)
    if body is None:
        return None
    rows: Floats = np.load(io.BytesIO(body), allow_pickle=False).astype(np.float32)
    return rows


def needs_sample(writer: Writer, plan: IndexPlan) -> bool:
    """Return whether tuning an index would need text queries that are not stored yet."""
    if plan.kind == "exact" or read_sample(writer.catalog, "text") is not None:
        return False
    head, count = writer.catalog.head(), writer.catalog.count()
    return plan.kind != "auto" or bool(
        choose_kinds(count, head.dim, text_sample=True, memory=plan.memory)
    )


def optimise(
    writer: Writer,
    plan: IndexPlan | None = None,
    observe: Callable[[str], None] = lambda stage: None,
) -> None:
    """Compact if needed, then index every segment that is large enough for the plan."""
    plan = plan or IndexPlan()
    check_plan(plan)
    with writer.maintenance_lock:
        writer.seal()
        if _needs_compaction(writer):
            observe("compacting")
            writer.compact()
        for row in writer.catalog.segments():
            _index_segment(writer, row, plan, observe)


def repair(writer: Writer) -> list[str]:
    """Rebuild every index whose files are damaged; return their names."""
    rebuilt = []
    with writer.maintenance_lock:
        for row in writer.catalog.segments():
            if row.index is None or _is_intact(writer, row.index):
                continue
            plan = IndexPlan(row.index.kind, float(row.index.tuning["target"]))
            _index_segment(writer, dataclasses.replace(row, index=None), plan, lambda stage: None)
            rebuilt.append(row.index.name)
    return rebuilt


def _needs_compaction(writer: Writer) -> bool:
    rows = writer.catalog.segments()
    total = sum(row.rows for row in rows)
    if not total:
        return False
    largest = max(row.rows for row in rows)
    dead = total - (writer.catalog.count() - writer.catalog.delta_count())
    return total - largest > OUTSIDE_SHARE * total or dead > DEAD_SHARE * total


def _index_segment(
    writer: Writer, row: SegmentRow, plan: IndexPlan, observe: Callable[[str], None]
) -> None:
    """Build for one segment the first index of the plan that reaches the target."""
    head = writer.catalog.head()
    text = read_sample(writer.catalog, "text")
    if plan.kind == "auto":
        kinds = choose_kinds(row.rows, head.dim, text_sample=text is not None, memory=plan.memory)
    else:
        kinds = [] if plan.kind == "exact" else [plan.kind]
    if kinds and row.rows < MIN_ROWS:
        observe(f"{row.rows} rows are searched exactly: an index needs {MIN_ROWS} or more")
        kinds = []
    if row.index and row.index.kind in kinds and row.index.tuning["target"] == plan.target:
        if _is_intact(writer, row.index):
            return
        observe(f"rebuilding a damaged {row.index.kind}")
    if not kinds:
        if row.index:
            _publish(writer, row, None)
        return
    segment = Segment(writer.folder, row, head.dim)
    segment.verify()
    observe("sampling queries")
    samples = _samples(segment, text)
    for kind in kinds:
        observe(f"building {kind}")
        index = build_index(writer.folder, segment, kind, samples, plan.target)
        if index is not None:
            _publish(writer, row, index)
            return
    observe(f"no index reaches {plan.target} recall: this segment is searched exactly")
    _publish(writer, row, None)


def _samples(segment: Segment, text: Floats | None) -> Mapping[str, Sample]:
    """Return the queries for tuning: rows of the segment, and texts if there are any."""
    rows = segment.matrix(False)
    count = min(SAMPLE_QUERIES, len(rows))
    own = np.sort(np.random.default_rng(1).choice(len(rows), count, replace=False))
    samples = {"image": true_sample(rows[own].astype(np.float32), rows, own)}
    if text is not None:
        samples["text"] = true_sample(text[: 2 * SAMPLE_QUERIES], rows)
    return samples


def _publish(writer: Writer, row: SegmentRow, index: IndexRow | None) -> None:
    with writer.catalog.writing(new_generation=True) as transaction:
        transaction.insert_segment(dataclasses.replace(row, index=index))
    writer.collection.refresh()
    writer.sweep()


def _is_intact(writer: Writer, row: IndexRow) -> bool:
    return AnnIndex(writer.folder, row).open() is not None
