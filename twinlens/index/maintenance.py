"""Maintenance of a collection: compaction into few segments, and indexes for large ones.

Every step is published separately; after a kill the collection is intact, and the next maintenance
continues.
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twinlens.errors import CollectionError, InputError
from twinlens.index.ann.ann_index import build_index
from twinlens.index.ann.kinds import KINDS, find_kind, find_obstacle, require_kind
from twinlens.index.ann.policy import MEMORY_SHARE, available_memory, choose_kinds
from twinlens.index.ann.recall import Sample, true_sample
from twinlens.index.ann.samples import TextSample
from twinlens.index.ann.tuner import DEFAULT_TARGET
from twinlens.index.snapshot import EXACT_ROWS, SegmentView, Snapshot
from twinlens.index.storage.catalog import Catalog
from twinlens.index.storage.compaction import SegmentState, has_many_dead
from twinlens.index.storage.durable import check_hashes
from twinlens.index.storage.records import IndexRow, SegmentRow
from twinlens.index.storage.segment import Segment
from twinlens.index.storage.transaction import Transaction
from twinlens.index.vectors.arrays import Floats, Mask, load_array, unit_rows
from twinlens.index.writer import Writer

SAMPLE_NOTE = "sample:"
SOURCE_NOTE = "sample source:"
TEXTS_NOTE = "sample texts:"
ASKED = "asked"  # in an index's settings: the kind that its plan named
SAMPLE_QUERIES = 1000  # per modality: half for tuning, half for the reported recall
SAMPLE_SHARE = 8  # at most one row in so many is a query: the index is tuned without them
DEAD_ROWS = 1024  # fewer deleted rows cost nothing measurable
MIN_ROWS = EXACT_ROWS + 1  # fewer are searched exactly, whatever index they have


@dataclass(frozen=True)
class IndexPlan:
    """Which index to build: `auto` follows the policy, `exact` builds none."""

    kind: str = "auto"
    target: float = DEFAULT_TARGET
    memory: int | None = None  # bytes for the codes; None: half of the machine's memory
    asked: str | None = None  # the kind originally requested, if a repair keeps the kind it found


def check_plan(plan: IndexPlan) -> None:
    """Raise if a plan is invalid, before any work."""
    if plan.kind not in {"auto", "exact"}:
        require_kind(plan.kind)
    if not 0.5 <= plan.target <= 0.999:
        raise InputError(f"target is {plan.target}; it must be 0.5 to 0.999", field="target")


def store_sample(
    writer: Writer, modality: str, queries: Floats, source: str, texts: Sequence[str] = ()
) -> None:
    """Store a sample of queries for tuning, its source, and the texts that were embedded."""
    rows = unit_rows(queries, writer.catalog.head().dim, "queries")
    with writer.catalog.writing() as transaction:
        write_sample(transaction, modality, rows, source, texts)


def write_sample(
    transaction: Transaction, modality: str, rows: Floats, source: str, texts: Sequence[str]
) -> None:
    """Store a sample of unit rows as part of a commit."""
    body = io.BytesIO()
    np.save(body, rows.astype(np.float16), allow_pickle=False)
    transaction.write_note(SAMPLE_NOTE + modality, body.getvalue())
    transaction.write_note(SOURCE_NOTE + modality, source.encode())
    transaction.write_note(TEXTS_NOTE + modality, json.dumps(list(texts)).encode())


def read_texts(catalog: Catalog) -> TextSample | None:
    """Return the texts of the stored queries, or None: collections of 0.1 hold rows alone."""
    body, source = catalog.note(f"{TEXTS_NOTE}text"), catalog.note(f"{SOURCE_NOTE}text")
    texts = json.loads(body) if body else []
    return TextSample(tuple(texts), (source or b"").decode()) if texts else None


def read_sample(catalog: Catalog, modality: str) -> Floats | None:
    """Return the stored queries of a modality, or None."""
    body = catalog.note(SAMPLE_NOTE + modality)
    if body is None:
        return None
    rows: Floats = load_array(io.BytesIO(body)).astype(np.float32)
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
    """Compact where it is worth it, then index every segment that is large enough for the plan."""
    plan = plan or IndexPlan()
    check_plan(plan)
    with writer.maintenance_lock:
        if writer.needs_compaction():
            observe("compacting")
            writer.compact()
        for row in writer.catalog.segments():
            _index_segment(writer, row, plan, observe)


def needs_maintenance(snapshot: Snapshot) -> bool:
    """Return whether deletions call for maintenance: many dead rows, or a stale recall."""
    for part in snapshot.parts:
        state = SegmentState(part.segment.row, part.live_count)
        if state.dead >= DEAD_ROWS and has_many_dead(state):
            return True
    return any(part.is_stale and part.live_count > EXACT_ROWS for part in snapshot.parts)


def repeat_plan(snapshot: Snapshot) -> IndexPlan:
    """Return the plan of the largest index, or the default plan if there is no index."""
    rows = [part.ann_index.row for part in _largest_first(snapshot) if part.ann_index is not None]
    return _plan_of(rows[0]) if rows else IndexPlan()


def _largest_first(snapshot: Snapshot) -> list[SegmentView]:
    return sorted(snapshot.parts, key=lambda part: -len(part.segment))


def _plan_of(row: IndexRow) -> IndexPlan:
    """Return the plan of an index; a kind that cannot be built here makes it `auto`.

    Version 0.1 did not store the requested kind.
    """
    is_graph = row.kind in KINDS and find_kind(row.kind).is_graph
    asked = row.settings.get(ASKED, row.kind if is_graph else "auto")
    if asked not in {"auto", "exact"} and find_obstacle(asked) is not None:
        asked = "auto"
    return IndexPlan(asked, float(row.tuning["target"]))


def repair(writer: Writer) -> list[str]:
    """Rebuild every index whose files are damaged; return their names."""
    rebuilt = []
    with writer.maintenance_lock:
        for row in writer.catalog.segments():
            if row.index is None or _is_intact(writer, row.index):
                continue
            before = _plan_of(row.index)
            kind = before.kind if find_obstacle(row.index.kind) else row.index.kind
            plan = IndexPlan(kind, before.target, asked=before.kind)
            _index_segment(writer, dataclasses.replace(row, index=None), plan, lambda stage: None)
            rebuilt.append(row.index.name)
    return rebuilt


def _index_segment(
    writer: Writer, row: SegmentRow, plan: IndexPlan, observe: Callable[[str], None]
) -> None:
    """Build for one segment the first index of the plan that reaches the target."""
    head = writer.catalog.head()
    text = read_sample(writer.catalog, "text")
    view = next(
        (part for part in writer.collection.snapshot().parts if part.segment.name == row.name), None
    )
    shared = share_memory(plan, row, writer.catalog.segments())
    kinds = plan_kinds(shared, row.rows, head.dim, text)
    if kinds and row.rows < MIN_ROWS:
        observe(f"{row.rows} rows are searched exactly: an index needs {MIN_ROWS} or more")
        kinds = []
    if row.index and row.index.kind in kinds and row.index.tuning["target"] == plan.target:
        if _is_intact(writer, row.index):
            if view is None or not view.is_stale:
                return
            observe("measuring again after deletions")
        else:
            observe(f"rebuilding a damaged {row.index.kind}")
    if not kinds:
        if row.index:
            _publish(writer, row, None)
        return
    segment = Segment(writer.folder, row, head.dim)
    segment.verify()
    live = view.live if view else None
    _publish(writer, row, index_rows(writer.folder, segment, plan, kinds, text, live, observe))


def plan_kinds(plan: IndexPlan, rows: int, dim: int, text: Floats | None) -> list[str]:
    """Return the kinds of index to try for a segment, best first."""
    if plan.kind == "auto":
        return list(choose_kinds(rows, dim, text_sample=text is not None, memory=plan.memory))
    return [] if plan.kind == "exact" else [plan.kind]


def index_rows(
    folder: Path,
    segment: Segment,
    plan: IndexPlan,
    kinds: Sequence[str],
    text: Floats | None,
    live: Mask | None,
    observe: Callable[[str], None],
) -> IndexRow | None:
    """Build beside a segment the first index that reaches the target; None if none does."""
    observe("sampling queries")
    samples = _samples(segment, text, live)
    for kind in kinds:
        observe(f"building {kind}")
        index = build_index(folder, segment, kind, samples, plan.target, live)
        if index is not None:
            asked = {ASKED: plan.asked or plan.kind}
            return dataclasses.replace(index, settings={**index.settings, **asked})
    observe(f"no index reaches {plan.target} recall: this segment is searched exactly")
    return None


def share_memory(plan: IndexPlan, row: SegmentRow, rows: Sequence[SegmentRow]) -> IndexPlan:
    """Return the plan with the bytes that the codes of one segment may take: its share by rows."""
    whole = available_memory() * MEMORY_SHARE if plan.memory is None else plan.memory
    return dataclasses.replace(plan, memory=int(whole * row.rows / sum(one.rows for one in rows)))


def _samples(segment: Segment, text: Floats | None, live: Mask | None) -> Mapping[str, Sample]:
    """Return the queries for tuning: live rows of the segment, and texts if there are any."""
    rows = segment.matrix(False)
    there = np.arange(len(rows)) if live is None else np.flatnonzero(live)
    count = min(SAMPLE_QUERIES, max(1, len(there) // SAMPLE_SHARE))
    own = np.sort(np.random.default_rng(1).choice(there, count, replace=False))
    samples = {"image": true_sample(rows[own].astype(np.float32), rows, own, live)}
    if text is not None:
        samples["text"] = true_sample(text[: 2 * SAMPLE_QUERIES], rows, live=live)
    return samples


def _publish(writer: Writer, row: SegmentRow, index: IndexRow | None) -> None:
    with writer.catalog.writing(new_generation=True) as transaction:
        transaction.insert_segment(dataclasses.replace(row, index=index))
    writer.collection.refresh()
    writer.sweep()


def _is_intact(writer: Writer, row: IndexRow) -> bool:
    """Return whether no file of an index is damaged; that it can be opened here is not asked."""
    try:
        check_hashes(writer.folder / row.name, row.files)
    except CollectionError:
        return False
    return True
