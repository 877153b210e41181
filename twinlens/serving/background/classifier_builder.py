"""Building classifiers: from class names and templates, from example images, or from both.

A class with examples is their mean direction (its prototype); one with a text too is the weighted
mean of both. So image-only encoders classify as well.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twinlens.bundle.arrays import Row, Rows
from twinlens.bundle.classes import normalise_rows
from twinlens.errors import InputError, OverloadedError, TwinlensError
from twinlens.serving.call import Call, Priority
from twinlens.serving.contracts import EncodedImage
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.files import write_file
from twinlens.serving.jobs import Job
from twinlens.serving.service import Service
from twinlens.serving.zeroshot.banks import (
    ClassBank,
    embed_classes,
    embed_in_time,
    embed_neutral,
)
from twinlens.serving.zeroshot.classifiers import Classifier

KIND = "classifier"
_CLASSES_A_STEP = 8
_SAVE_SECONDS = 2.0


@dataclass(frozen=True)
class ClassSpec:
    """One class: its name, and example images, if any."""

    name: str
    examples: Sequence[EncodedImage] = field(default=())


async def build_classifier(
    model: ServedModel,
    name: str,
    classes: Sequence[ClassSpec],
    templates: Sequence[str],
    text_weight: float,
    call: Call,
) -> Classifier:
    """Return the classifier of a few classes within the request."""
    names = [spec.name for spec in classes]
    prototypes = [await embed_prototype(model, spec, i, call) for i, spec in enumerate(classes)]
    has_text = model.texts is not None
    if not has_text and any(prototype is None for prototype in prototypes):
        raise InputError(
            f"{model.name!r} has no text tower, so every class needs example images",
            field="classes",
        )
    rows, neutral = None, None
    if has_text and (text_weight > 0 or any(p is None for p in prototypes)):
        rows = await embed_in_time(model, names, templates, call)
        neutral = await embed_neutral(model, templates, call)
    bank = merge(names, rows, neutral, prototypes, text_weight)
    count = sum(len(spec.examples) for spec in classes)
    return Classifier(name, model.revision, bank, time.time(), tuple(templates), count)


async def embed_prototype(
    model: ServedModel, spec: ClassSpec, index: int, call: Call
) -> Row | None:
    """Return the mean direction of a class's examples; None where it has none."""
    if not spec.examples:
        return None
    embedded = await model.embed_images(spec.examples, call)
    for i, answer in enumerate(embedded.answers):
        if isinstance(answer, TwinlensError):
            answer.field = f"classes[{index}].examples[{i}]"
        if isinstance(answer, Exception):
            raise answer
    rows = np.stack([a for a in embedded.answers if not isinstance(a, Exception)])
    mean: Row = normalise_rows(rows.mean(axis=0, keepdims=True))[0]
    return mean


def merge(
    names: Sequence[str],
    texts: Rows | None,
    neutral: Row | None,
    prototypes: Sequence[Row | None],
    text_weight: float,
) -> ClassBank:
    """Return the bank of classes given by text, by prototype, or by both."""
    rows: list[Row] = []
    for i, prototype in enumerate(prototypes):
        if prototype is None:
            assert texts is not None, "a class without examples needs a text"
            rows.append(texts[i])
        elif texts is None:
            rows.append(prototype)
        else:
            rows.append(text_weight * texts[i] + (1 - text_weight) * prototype)
    stacked = normalise_rows(np.stack(rows))
    if neutral is None:
        neutral = normalise_rows(stacked.mean(axis=0, keepdims=True))[0]
    return ClassBank(tuple(names), stacked, neutral)


class ClassifierJobs:
    """Large classifiers as jobs: at low priority, with progress, resumable."""

    def __init__(self, service: Service) -> None:
        self._service = service
        service.jobs.register(KIND, self.run)

    def start(
        self, model: ServedModel, name: str, classes: Sequence[str], templates: Sequence[str]
    ) -> Job:
        """Start building a classifier from names alone."""
        spec = {
            "name": name,
            "model": model.name,
            "revision": model.revision,
            "classes": list(classes),
            "templates": list(templates),
        }
        return self._service.jobs.start(KIND, spec, total=len(classes))

    async def run(self, job: Job) -> dict[str, Any]:
        """Build slice by slice, saving partial rows every few seconds, and store the classifier."""
        spec = job.spec
        with self._service.registry.lease(spec["model"]) as model:
            if model.revision != spec["revision"]:
                raise InputError("the model was replaced by another revision; PUT it again")
            call = Call(model.clock, float("inf"), pixels_left=0, priority=Priority.BACKGROUND)
            rows = await self._build_rows(model, job, call)
            neutral = await embed_neutral(model, spec["templates"], call)
            bank = ClassBank(tuple(spec["classes"]), rows, neutral)
            classifier = Classifier(
                spec["name"], model.revision, bank, time.time(), tuple(spec["templates"])
            )
            await asyncio.to_thread(self._service.classifiers.put, classifier)
        return {"classifier": spec["name"], "revision": spec["revision"]}

    async def _build_rows(self, model: ServedModel, job: Job, call: Call) -> Rows:
        classes, templates = job.spec["classes"], job.spec["templates"]
        parts = [self._read_partial(job, model.encoder.embedding_dim)]
        job.done = len(parts[0])
        saved = time.monotonic()
        while job.done < len(classes):
            names = classes[job.done : job.done + _CLASSES_A_STEP]
            try:
                parts.append(await embed_classes(model, names, templates, call))
            except OverloadedError:  # live requests fill the queue; retry later
                await asyncio.sleep(0.1)
                continue
            job.done += len(names)
            if time.monotonic() - saved > _SAVE_SECONDS:
                await asyncio.to_thread(self._save_partial, job, np.concatenate(parts))
                saved = time.monotonic()
        return np.concatenate(parts)

    def _save_partial(self, job: Job, rows: Rows) -> None:
        path = self._service.jobs.partial_path(job)
        if path is not None:
            file = io.BytesIO()
            np.savez(file, rows=rows)
            write_file(path, file.getvalue())

    def _read_partial(self, job: Job, dim: int) -> Rows:
        """Return the rows that an earlier process saved."""
        path = self._service.jobs.partial_path(job)
        if path is None or not path.is_file():
            return np.zeros((0, dim), np.float32)
        with np.load(path, allow_pickle=False) as arrays:
            rows: Rows = arrays["rows"]
        return rows
