"""The process that owns a device: opens bundles, batches the items of all processes, runs towers.

What must stay true: a model is verified before other processes learn of it; the open models are
those of the keeper's table, and retired ones that are still used.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import orjson
import uvicorn
from starlette.types import Receive, Scope, Send

from twinlens.bundle.processors import count_logical_cpus
from twinlens.errors import BundleError
from twinlens.serving.clock import Clock
from twinlens.serving.engine.memory import freeze_objects, release_memory
from twinlens.serving.engine.throttle import Throttles
from twinlens.serving.observe.metrics import Metrics, counter, gauge
from twinlens.serving.workers.control import Control
from twinlens.serving.workers.encoder_models import EncoderModel
from twinlens.serving.workers.family import Family
from twinlens.serving.workers.items.encoder_client import EncoderClient
from twinlens.serving.workers.items.frames import FrameKind, write_frame
from twinlens.serving.workers.items.places import PlaceSizes, SharedPlaces
from twinlens.serving.workers.items.shared_items import Solitude
from twinlens.serving.workers.metric_sums import dump_metrics
from twinlens.serving.workers.table import ModelTable, ServedEntry

log = logging.getLogger("twinlens.serving")

_HELLO_BYTES = 4096


class EncoderProcess:
    """One device's process."""

    def __init__(self, family: Family, index: int) -> None:
        self._family = family
        self._device = family.openers.devices[index]
        self._listener = family.encoder_listeners[index]
        self._clock = Clock()
        self._throttles = Throttles(max(1, count_logical_cpus() // 2))
        self._solitude = Solitude()
        self._metrics = Metrics()
        self._models: dict[str, EncoderModel] = {}
        self._background = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._faults: list[str] = []
        self._ended = asyncio.Event()
        self._is_accepting = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._metrics.watch(self._read_metrics)

    async def run(self, end: socket.socket) -> None:
        """Serve until the keeper says stop, or has ended."""
        control = Control(self._ended.set)
        control.handle("open", self._open)
        control.handle("models", self._apply)
        control.handle("metrics", self._dump)
        control.handle("stop", self._stop)
        await control.open(end)
        watcher = asyncio.create_task(self._watch(control))
        await self._ended.wait()
        await self._wait_left()
        watcher.cancel()
        for model in self._models.values():
            model.close()

    async def _open(self, body: Any) -> dict[str, Any]:
        """Open a bundle at every precision; it is served when the table has it."""
        loop = asyncio.get_running_loop()
        told = {}
        for precision, key in body["keys"].items():
            opened = await loop.run_in_executor(
                self._background, self._open_one, body["name"], body["source"], precision
            )
            self._models[key] = opened
            told[precision] = {"key": key, **opened.describe()}
        return told

    async def _apply(self, body: Any) -> None:
        """Open the models of the table, retire all others, and accept connections."""
        table = ModelTable.parse(body)
        loop = asyncio.get_running_loop()
        for entry in table.entries:
            for precision, slot in entry.slots.items():
                if slot["key"] in self._models:
                    continue
                opened = await loop.run_in_executor(
                    self._background, self._reopen, entry, precision, slot["revision"]
                )
                self._models[slot["key"]] = opened
        wanted = table.keys
        for key, model in list(self._models.items()):
            if key not in wanted:
                model.is_retired = True
                self._leave(model)
        if not self._is_accepting:
            freeze_objects()
            self._is_accepting = True
            self._listener.setblocking(False)
            loop.add_reader(self._listener, self._accept)

    def _open_one(self, name: str, source: str, precision: str) -> EncoderModel:
        encoder = self._family.openers.open_whole(source, precision, self._device)
        return EncoderModel(
            name,
            encoder,
            self._family.settings,
            self._throttles,
            self._clock,
            self._metrics.count_batch,
            self._solitude,
            self._leave,
        )

    def _reopen(self, entry: ServedEntry, precision: str, revision: str) -> EncoderModel:
        """Open a model of the table; raise if its bundle has changed on disk."""
        opened = self._open_one(entry.name, entry.source, precision)
        if opened.encoder.revision != revision:
            opened.close()
            raise BundleError(
                f"bundle of {entry.name!r} changed on disk while the server runs: load it again "
                "with PUT /v1/models/NAME"
            )
        return opened

    def _accept(self) -> None:
        """Accept all waiting connections."""
        while True:
            try:
                end, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            end.setblocking(False)
            asyncio.get_running_loop().add_reader(end, self._greet, end)

    def _greet(self, end: socket.socket) -> None:
        """Read which model is requested, and the descriptor of the memory for its items."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(end)
        try:
            hello, descriptors, _, _ = socket.recv_fds(end, _HELLO_BYTES, 1)
        except OSError:
            hello, descriptors = b"", []
        if not hello or not descriptors:
            end.close()
            return
        key, images, texts, height, width = orjson.loads(hello)
        model = self._models.get(key)
        if model is None or model.is_retired:
            end.send(write_frame(FrameKind.REFUSED))
            end.close()
        else:
            places = SharedPlaces(descriptors[0], PlaceSizes(images, texts, height, width))
            make = partial(EncoderClient, model, places)
            task = loop.create_task(loop.create_connection(make, sock=end))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        os.close(descriptors[0])

    def _leave(self, model: EncoderModel) -> None:
        """Close a retired model that nobody uses any more."""
        if model.clients or not model.is_retired:
            return
        for key, found in list(self._models.items()):
            if found is model:
                del self._models[key]
                log.info("%s: an unused model is closed", model.name)
                self._background.submit(_close, model)

    async def _watch(self, control: Control) -> None:
        """Replace faulty workers; tell the keeper the faults, and that this process is alive."""
        watch = self._family.settings.watch
        while True:
            faults = [fault for model in list(self._models.values()) for fault in model.heal(watch)]
            if faults != self._faults:
                self._faults = faults
                control.tell("faults", faults)
            control.tell("beat")
            await asyncio.sleep(watch.interval)

    async def _dump(self, _: Any) -> list[Any]:
        return dump_metrics(self._metrics.registry)

    async def _stop(self, _: Any) -> None:
        self._ended.set()

    async def _wait_left(self) -> None:
        """Wait until nobody is connected any more, within the time for draining."""
        end = self._clock.now() + self._family.settings.watch.drain_seconds
        while any(m.clients for m in self._models.values()) and self._clock.now() < end:
            await asyncio.sleep(0.02)

    def _read_metrics(self) -> Any:
        found = [
            ([model.name, tower.name.rsplit("/", 1)[-1]], tower)
            for model in list(self._models.values())
            for tower in model.towers
        ]
        yield gauge(
            "twinlens_queue_items",
            "Items that wait for a worker",
            ["model", "tower"],
            [(label, tower.batcher.depth) for label, tower in found],
        )
        yield counter(
            "twinlens_worker_restarts",
            "Workers that the watchdog replaced",
            ["model", "tower"],
            [(label, tower.restarts) for label, tower in found],
        )


def _close(model: EncoderModel) -> None:
    model.close()
    release_memory()


def run_encoder(family: Family, index: int, end: socket.socket) -> None:
    """Run the encoder process of a device."""

    async def main() -> None:
        await EncoderProcess(family, index).run(end)

    factory = uvicorn.Config(_answer_nothing).get_loop_factory()  # the loop of HTTP processes
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


async def _answer_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    """Do nothing: the configuration needs an application."""
