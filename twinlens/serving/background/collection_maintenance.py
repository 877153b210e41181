"""Compaction, indexing and tuning of collections as jobs, beside live searches and upserts.

A job is started by a client, by upserts that leave too many unindexed rows for exact search, or by
deletions that leave too many dead rows or a stale recall. It may be interrupted at any time: each
step is published separately, and the server restarts the job at its next start.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twinlens.errors import ConflictError, OverloadedError
from twinlens.index.ann.policy import choose_kinds
from twinlens.index.ann.samples import TextSample, choose_texts
from twinlens.index.maintenance import (
    IndexPlan,
    check_plan,
    needs_maintenance,
    needs_sample,
    optimise,
    repeat_plan,
    store_sample,
)
from twinlens.index.stats import measured_recall
from twinlens.index.writer import Writer
from twinlens.serving.call import Call, Priority
from twinlens.serving.collections.served import ServedCollection
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.jobs import Job
from twinlens.serving.service import Service

KIND = "collection"
STAGES = 5  # roughly as many as a build reports
_TEXTS_A_STEP = 32


class _StoppedError(Exception):
    """The server stops, or the collection is removed: the work ends at its next stage."""


class CollectionJobs:
    """Starts and runs maintenance of a server's collections."""

    def __init__(self, service: Service, store: CollectionStore) -> None:
        self._service = service
        self._store = store
        service.jobs.register(KIND, self.run)

    def start(
        self,
        served: ServedCollection,
        plan: IndexPlan,
        queries: Sequence[str] = (),
        *,
        compact: bool = False,
    ) -> Job:
        """Start maintenance of one collection; at most one job per collection."""
        check_plan(plan)
        served.require_folder()
        if self._is_busy(served.name):
            raise ConflictError(
                f"collection {served.name!r} is being built already; GET /jobs shows its progress",
                field="collection",
                code="build_running",
            )
        spec = {
            "name": served.name,
            "kind": plan.kind,
            "target": plan.target,
            "compact": compact,
            "queries": list(queries),
        }
        return self._service.jobs.start(KIND, spec, total=STAGES)

    def start_where_due(self, served: ServedCollection) -> Job | None:
        """Start maintenance of a collection that needs it after upserts or deletions.

        It has too many unindexed rows for exact search, many deleted rows, or a stale recall.
        """
        unindexed = count_unindexed(served)
        snapshot = served.snapshot()
        # Rows that no index could serve well stay exact; retried only after many more rows came.
        grown = choose_kinds(
            unindexed - served.maintained_rows, snapshot.head.dim, text_sample=False
        )
        if self._is_busy(served.name) or not (grown or needs_maintenance(snapshot)):
            return None
        try:
            return self.start(served, repeat_plan(snapshot))
        except OverloadedError:
            return None  # the upsert has succeeded; the next one tries again

    async def run(self, job: Job) -> dict[str, Any]:
        """Sample text queries where an index needs them, then compact and index."""
        served = self._store.find(job.spec["name"])
        plan = IndexPlan(job.spec["kind"], float(job.spec["target"]))

        stop = threading.Event()

        def observe(stage: str) -> None:
            if stop.is_set() or served.is_closing:
                raise _StoppedError
            job.stage, job.done = stage, min(job.done + 1, job.total - 1)

        await self._sample(served, plan, job)

        def run_stages(writer: Writer) -> None:
            if job.spec["compact"]:
                observe("compacting")
                writer.compact()
            optimise(writer, plan, observe)

        try:
            await served.maintain(run_stages)
        except asyncio.CancelledError:
            stop.set()  # the job's record stays open: the next start of the server resumes it
            raise
        except _StoppedError:
            raise ConflictError("the collection was removed while it was being built") from None
        job.stage = None
        served.maintained_rows = count_unindexed(served)
        snapshot = served.snapshot()
        kinds = [part.ann_index.row.kind if part.ann_index else "exact" for part in snapshot.parts]
        return {"collection": served.name, "segments": kinds, "recall": measured_recall(snapshot)}

    async def _sample(self, served: ServedCollection, plan: IndexPlan, job: Job) -> None:
        """Store text queries to tune on: the client's, else captions, else words in templates."""
        given = job.spec["queries"]
        if not given and not await served.maintain(lambda writer: needs_sample(writer, plan)):
            return
        head = served.snapshot().head
        matching = [
            model
            for model in self._service.registry.models()
            if model.revision == head.bundle_revision and model.texts is not None
        ]
        if not matching:
            return  # tuned on images alone; the recall of texts is then null
        with self._service.registry.lease(matching[0].name) as model:
            templates = model.encoder.manifest.templates
            sample: TextSample = await served.read(
                lambda reader: choose_texts(reader.catalog, templates, given)
            )
            job.stage = f"embedding {len(sample.texts)} text queries ({sample.source})"
            rows = await embed_texts(model, sample.texts)
        await served.maintain(
            lambda writer: store_sample(writer, "text", rows, sample.source, sample.texts)
        )

    def _is_busy(self, name: str) -> bool:
        return any(
            job.kind == KIND and job.finished is None and job.spec["name"] == name
            for job in self._service.jobs.all()
        )


def count_unindexed(served: ServedCollection) -> int:
    """Return how many rows no index covers: every search compares them one by one."""
    snapshot = served.snapshot()
    unindexed = sum(len(part.segment) for part in snapshot.parts if part.ann_index is None)
    return unindexed + snapshot.delta.count


async def embed_texts(model: ServedModel, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed queries at background priority."""
    call = Call(
        model.clock, float("inf"), pixels_left=0, priority=Priority.BACKGROUND, input_type="query"
    )
    rows: list[Any] = []
    while len(rows) < len(texts):
        step = texts[len(rows) : len(rows) + _TEXTS_A_STEP]
        try:
            embedded = await model.embed_texts(step, call)
        except OverloadedError:  # live requests fill the queue; retry later
            await asyncio.sleep(0.1)
            continue
        failed = [one for one in embedded.answers if isinstance(one, Exception)]
        if failed:
            raise failed[0]
        rows += embedded.answers
    return np.stack(rows)
