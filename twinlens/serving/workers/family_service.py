"""The service of an HTTP process or of the head: its models' towers run in encoder processes.

What must stay true: this process serves what the keeper's table lists, and a request uses one
opened bundle from its start to its end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from twinlens.errors import ConflictError, TwinlensError
from twinlens.serving.contracts import StagedEncoder
from twinlens.serving.engine.memory import release_memory
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.observe.tracing import Tracer
from twinlens.serving.service import Service
from twinlens.serving.workers.control import Control
from twinlens.serving.workers.family import ENCODER, Family, share_settings
from twinlens.serving.workers.items.distant_tower import DistantTowers
from twinlens.serving.workers.items.link import EncoderLink
from twinlens.serving.workers.items.places import PlaceSizes
from twinlens.serving.workers.metric_sums import render_dump
from twinlens.serving.workers.table import ModelTable, ServedEntry, make_entry, make_keys

log = logging.getLogger("twinlens.serving")

_LOOK_SECONDS = 0.1


class FamilyService(Service):
    """One of the processes that answer requests."""

    control: Control

    def __init__(
        self,
        family: Family,
        process: int,
        data: Path | None,
        *,
        tracer: Tracer | None = None,
    ) -> None:
        settings = share_settings(family.settings, family.workers, data)
        super().__init__(settings, _open_nothing, tracer=tracer)
        self.keys.share(family.rates.build_rates(self.clock))
        self._family = family
        self._process = process  # a number of its own
        self._table = ModelTable()
        self._keys: dict[str, str] = {}  # the default slot's key, by name
        self._links: list[EncoderLink] = []
        self._opening = ThreadPoolExecutor(1, thread_name_prefix="opening")
        self._applying = asyncio.Lock()
        self.faults: list[str] = ["the server is starting"]

    def find_faults(self) -> list[str]:
        """Return why the server, not only this process, is not ready."""
        if self.is_draining:
            return ["the server is shutting down"]
        return self.faults

    async def take_state(self, body: Any) -> None:
        """Store the state of the server that the keeper sends."""
        self.faults = body["faults"]
        if body["draining"]:
            self.is_draining = True

    async def apply(self, body: Any) -> None:
        """Serve the models of the table."""
        table = ModelTable.parse(body)
        async with self._applying:
            for entry in table.entries:
                key = next(iter(entry.slots.values()))["key"]
                if self._keys.get(entry.name) != key:
                    await self._serve_entry(entry)
                    self._keys[entry.name] = key
            for name in self.registry.names:
                if name not in table.names:
                    self.registry.remove(name)
                    self._keys.pop(name, None)
            self._table = table

    async def swap(self, name: str, source: str) -> None:
        """Open a bundle in every encoder process, then serve it in every process."""
        keys = make_keys(name, self.settings.precisions)
        body = {"name": name, "source": source, "keys": keys}
        told = await self.control.ask(ENCODER, "open", body)
        table = self._table.replace(make_entry(name, source, told))
        await self.control.ask("all", "models", table.write())

    async def remove(self, name: str) -> None:
        """Stop serving a name in every process."""
        self.registry.find(name)
        if name not in self.registry.names:
            raise ConflictError(f"{name!r} is an alias; name the model", field="name")
        await self.control.ask("all", "models", self._table.remove(name).write())

    async def _serve_entry(self, entry: ServedEntry) -> None:
        loop = asyncio.get_running_loop()
        models = {}
        for precision, slot in entry.slots.items():
            encoder = await loop.run_in_executor(
                self._opening, self._open_outer, entry.source, precision, slot
            )
            models[precision] = self._build(entry.name, encoder, precision, slot["key"])
        self.classifiers.offer(next(iter(models.values())).encoder, time.time())
        self.registry.serve(entry.name, models, source=entry.source, created=entry.created)

    def _open_outer(self, source: str, precision: str, slot: Any) -> StagedEncoder:
        try:
            return self._family.openers.open_outer(source, precision, slot)
        except TwinlensError as error:
            log.error("cannot open %s: %s", source, error.message)
            raise

    def _build(self, name: str, encoder: StagedEncoder, precision: str, key: str) -> ServedModel:
        """Return a model whose towers are elsewhere."""
        image, limits = encoder.manifest.image, self.settings.limits
        sizes = PlaceSizes(
            images=0 if image is None else limits.image_queue,
            texts=0 if encoder.manifest.text is None else limits.text_queue,
            height=0 if image is None else image.height,
            width=0 if image is None else image.width,
        )
        link = EncoderLink(
            key,
            encoder.embedding_dim,
            sizes,
            self._family.encoder_addresses,
            process=self._process,
        )
        self._links.append(link)
        return ServedModel(
            name,
            encoder,
            self.settings,
            pool=self.pool,
            cache=self.cache,
            precision=precision,
            clock=self.clock,
            throttles=self.throttles,
            promised_work=self.promised_work,
            towers=DistantTowers(name, encoder, link, self.settings, self.throttles, self.clock),
            decodes_here=True,
        )

    async def render_metrics(self) -> bytes:
        """Return the metrics of all processes together."""
        (dump,) = await self.control.ask("keeper", "metrics")
        return render_dump(dump)

    async def watch(self) -> None:
        """Cancel overdue bodies, tell encoders of abandoned items; runs until cancelled."""
        passed = 0.0
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._links = [link for link in self._links if not link.is_closed]
            for link in self._links:
                link.mark_unwanted()
            passed += _LOOK_SECONDS
            if passed < self.settings.watch.interval:
                continue
            passed = 0.0
            self.bodies.expire()
            if self._has_closed:
                self._has_closed = False
                self._opening.submit(release_memory)
            self.control.tell("beat")

    def close(self) -> None:
        """Stop every thread."""
        super().close()
        self._opening.shutdown(wait=False, cancel_futures=True)


def _open_nothing(source: str, precision: str) -> StagedEncoder:
    raise RuntimeError("encoder processes open bundles; this is a bug")
