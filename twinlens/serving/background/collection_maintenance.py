"""Compaction, indexing and tuning of collections as jobs, beside live searches and upserts.

A job is begun by a client, or by upserts that leave more unindexed rows than an exact search should
carry. It may be cut off at any moment: each step is published by itself, and the next start of the
server begins the job again.
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
from twinlens.index.maintenance import IndexPlan, check_plan, needs_sample, optimise, store_sample
from twinlens.index.stats import measured_recall
from twinlens.index.writer import Writer
from twinlens.serving.call import Call
from twinlens.serving.collections.served import ServedCollection
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.jobs import Job
from twinlens.serving.service import Service

KIND = "collection"
STAGES = 5  # about as many as a build tells of
_TEXTS_A_STEP = 32


class _StoppedError(Exception):
    """The server closes, or the collection goes: whatever is at work ends at its next stage."""


class CollectionJobs:
    """Starts and does the upkeep of a server's collections."""

    def __init__(self, service: Service, store: CollectionStore) -> None:
        self._service = service
        self._store = store
        service.jobs.register(KIND, self.run)

    def start(
        self,
        held: ServedCollection,
        plan: IndexPlan,
        queries: Sequence[str] = (),
        *,
        compact: bool = False,
    ) -> Job:
        """Begin the upkeep of one collection; one at a time."""
        check_plan(plan)
        if self._is_busy(held.name):
            raise ConflictError(
                f"collection {held.name!r} is being built already; GET /jobs tells how far it is",
                field="collection",
                code="build_running",
            )
        spec = {
            "name": held.name,
            "kind": plan.kind,
            "target": plan.target,
            "compact": compact,
            "queries": list(queries),
        }
        return self._service.jobs.start(KIND, spec, total=STAGES)

    def start_where_due(self, held: ServedCollection) -> Job | None:
        """Begin the upkeep of a collection that has grown beyond what exact search should carry."""
        loose = count_unindexed(held)
        dim = held.collection.snapshot().head.dim
        # What no index could serve well stays exact: it is tried again only when much more came.
        if self._is_busy(held.name) or not choose_kinds(
            loose - held.maintained_rows, dim, text_sample=False
        ):
            return None
        try:
            return self.start(held, IndexPlan())
        except OverloadedError:
            return None  # the upsert that asks has succeeded; the next one will ask again

    async def run(self, job: Job) -> dict[str, Any]:
        """Sample text queries where an index wants them, then compact and index."""
        held = self._store.find(job.spec["name"])
        plan = IndexPlan(job.spec["kind"], float(job.spec["target"]))

        stop = threading.Event()

        def observe(stage: str) -> None:
            if stop.is_set() or held.is_closing:
                raise _StoppedError
            job.stage, job.done = stage, min(job.done + 1, job.total - 1)

        await self._sample(held, plan, job)

        def upkeep(writer: Writer) -> None:
            if job.spec["compact"]:
                observe("compacting")
                writer.compact()
            optimise(writer, plan, observe)

        try:
            await held.maintain(upkeep)
        except asyncio.CancelledError:
            stop.set()  # the record of the job stays open: the next start takes it up again
            raise
        except _StoppedError:
            raise ConflictError("the collection was taken away while it was built") from None
        job.stage = None
        held.maintained_rows = count_unindexed(held)
        snapshot = held.collection.snapshot()
        kinds = [part.ann_index.row.kind if part.ann_index else "exact" for part in snapshot.parts]
        return {"collection": held.name, "segments": kinds, "recall": measured_recall(snapshot)}

    async def _sample(self, held: ServedCollection, plan: IndexPlan, job: Job) -> None:
        """Store text queries to tune on: the client's, else captions, else words in templates."""
        given = job.spec["queries"]
        if not given and not await held.maintain(lambda writer: needs_sample(writer, plan)):
            return
        head = held.collection.head
        fitting = [
            model
            for model in self._service.registry.models()
            if model.revision == head.bundle_revision and model.texts is not None
        ]
        if not fitting:
            return  # tuned on images alone, which the recall of texts, null, tells
        with self._service.registry.lease(fitting[0].name) as model:
            templates = model.encoder.manifest.templates
            sample: TextSample = await held.read(
                lambda reader: choose_texts(reader.catalog, templates, given)
            )
            job.stage = f"embedding {len(sample.texts)} text queries ({sample.source})"
            rows = await _embed(model, sample.texts)
        await held.maintain(lambda writer: store_sample(writer, "text", rows, sample.source))

    def _is_busy(self, name: str) -> bool:
        return any(
            job.kind == KIND and job.finished is None and job.spec["name"] == name
            for job in self._service.jobs.all()
        )


def count_unindexed(held: ServedCollection) -> int:
    """Return how many rows every search compares one by one."""
    snapshot = held.collection.snapshot()
    loose = sum(len(part.segment) for part in snapshot.parts if part.ann_index is None)
    return loose + snapshot.delta.count


async def _embed(model: ServedModel, texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts behind all live requests."""
    call = Call(model.clock, float("inf"), pixels_left=0, is_background=True)
    rows: list[Any] = []
    while len(rows) < len(texts):
        step = texts[len(rows) : len(rows) + _TEXTS_A_STEP]
        try:
            embedded = await model.embed_texts(step, call)
        except OverloadedError:  # live traffic has the queue; this can wait
            await asyncio.sleep(0.1)
            continue
        failed = [one for one in embedded.answers if isinstance(one, Exception)]
        if failed:
            raise failed[0]
        rows += embedded.answers
    return np.stack(rows)
