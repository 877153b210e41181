"""One server: its parts, and the functions that every route needs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from prometheus_client.metrics_core import Metric
from starlette.requests import Request
from starlette.responses import Response

from twinlens.bundle.processors import count_logical_cpus
from twinlens.errors import TwinlensError
from twinlens.serving.aliases import read_aliases
from twinlens.serving.call import Call, Priority, read_seconds
from twinlens.serving.clock import Clock
from twinlens.serving.contracts import Answers, StagedEncoder
from twinlens.serving.engine.cache import RecentlyUsed, TextCache
from twinlens.serving.engine.decode import DecodePool
from twinlens.serving.engine.memory import release_memory
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.engine.promised_work import PromisedWork
from twinlens.serving.engine.registry import Registry
from twinlens.serving.engine.throttle import Throttles
from twinlens.serving.failures import first_failure, locate
from twinlens.serving.jobs import JobBook
from twinlens.serving.keys import Keyring, Scope
from twinlens.serving.observe.metrics import Metrics, counter, gauge
from twinlens.serving.observe.tracing import Tracer
from twinlens.serving.requests.body import BodyReader
from twinlens.serving.requests.fetch import Fetcher
from twinlens.serving.settings import ServerSettings
from twinlens.serving.zeroshot.banks import ClassBank
from twinlens.serving.zeroshot.classifiers import ClassifierStore

log = logging.getLogger("twinlens.serving")

Opener = Callable[[str, str], StagedEncoder]  # (source, precision) -> encoder


class Service:
    """Everything that lives as long as the server does."""

    def __init__(
        self,
        settings: ServerSettings,
        opener: Opener,
        *,
        clock: Clock | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.metrics = Metrics()
        self.tracer = tracer
        self.cache = TextCache(settings.batching.cache_bytes)
        cores = count_logical_cpus()
        self.throttles = Throttles(max(1, cores // 2))
        self.promised_work = PromisedWork()
        self.banks: RecentlyUsed[ClassBank] = RecentlyUsed(256)
        give_way = partial(self.throttles.give_way, Priority.LARGE)
        self.bodies = BodyReader(settings.limits, self.clock, give_way)
        self.fetcher = Fetcher(settings.fetching, settings.limits.image_bytes)
        self.keys = Keyring(settings.keys, settings.limits.key_requests_per_minute, self.clock)
        self.classifiers = ClassifierStore(_subfolder(settings, "classifiers"))
        self.jobs = JobBook(_subfolder(settings, "jobs"))
        self.is_draining = False
        self._has_closed = False
        threads = settings.batching.decode_threads or cores
        self.pool = DecodePool(threads, self.throttles, self.clock)
        self._background = ThreadPoolExecutor(2, thread_name_prefix="background")
        self._opener = opener
        self.registry = Registry(self._close_later, read_aliases(settings.aliases))
        self.metrics.watch(self._read_metrics)

    def load(self, name: str, source: str) -> None:
        """Open the bundle at `source` at every precision and serve it as `name`."""
        self._serve(name, source, self.open_models(name, source))

    def open_models(self, name: str, source: str) -> dict[str, ServedModel]:
        """Open a bundle without serving it yet; slow, so never called on the event loop."""
        return {
            precision: ServedModel(
                name,
                self._opener(source, precision),
                self.settings,
                pool=self.pool,
                cache=self.cache,
                precision=precision,
                clock=self.clock,
                observe=self.metrics.count_batch,
                throttles=self.throttles,
                promised_work=self.promised_work,
            )
            for precision in self.settings.precisions
        }

    async def swap(self, name: str, source: str) -> None:
        """Open a bundle while requests run, then serve it; if that fails, nothing changes."""
        loop = asyncio.get_running_loop()
        models = await loop.run_in_executor(self._background, self.open_models, name, source)
        self._serve(name, source, models)

    async def remove(self, name: str) -> None:
        """Stop serving a name."""
        self.registry.remove(name)

    def _serve(self, name: str, source: str, models: dict[str, ServedModel]) -> None:
        """Serve opened models as `name`, with the classifiers that come with their bundle."""
        self.classifiers.offer(next(iter(models.values())).encoder, time.time())
        self.registry.serve(name, models, source=source, created=int(time.time()))

    def find_faults(self) -> list[str]:
        """Return why the server is not ready; empty when it is."""
        if self.is_draining:
            return ["the server is shutting down"]
        models = self.registry.models()
        if not models:
            return ["no bundle is loaded"]
        watch = self.settings.watch
        faults = (tower.find_fault(watch) for model in models for tower in model.towers)
        return [fault for fault in faults if fault]

    async def watch(self) -> None:
        """Replace dead workers, probe faulty ones, cancel overdue bodies; runs until cancelled."""
        while True:
            await asyncio.sleep(self.settings.watch.interval)
            self.bodies.expire()
            if self._has_closed:
                self._has_closed = False
                self._background.submit(release_memory)
            for model in self.registry.models():
                for tower in model.towers:
                    if tower.find_fault(self.settings.watch):
                        tower.restart_workers(self.settings.watch)
                        model.probe()

    async def render_metrics(self) -> bytes:
        """Return the server's metrics in Prometheus' text format."""
        return self.metrics.render()

    def authorize(self, request: Request, scope: Scope) -> None:
        """Raise unless the request's key, if keys are required, has the scope."""
        request.scope["state"]["key"] = self.keys.check(request.headers, scope)

    def begin(self, request: Request, scope: Scope = "read") -> Call:
        """Authorize, and return the call that carries this request through the stages."""
        self.authorize(request, scope)
        return self.make_call(request)

    def make_call(self, request: Request) -> Call:
        """Return the call of a request that may be answered."""
        limits = self.settings.limits
        seconds = limits.request_seconds
        asked = request.headers.get("twinlens-timeout")
        if asked is not None:
            seconds = min(seconds, read_seconds(asked))
        reservation = request.scope["state"].get("reservation")
        call = Call(
            self.clock,
            deadline=self.clock.now() + seconds,
            pixels_left=limits.request_pixels,
            wait_gone=lambda: _wait_gone(request),
            reservation=reservation,
            client=reservation.address if reservation is not None else "",
        )
        request.scope["state"]["call"] = call
        return call

    @asynccontextmanager
    async def receive(self, request: Request, call: Call) -> AsyncIterator[bytes]:
        """Read the body; count its bytes until the request has ended."""
        began = self.clock.now()
        try:
            body = await self.bodies.read(request, call)
            if call.reservation is not None and not call.reservation.has_place:
                call.reservation.arrive()
            call.seconds["receive"] = self.clock.now() - began
            yield body
        finally:
            self.bodies.release(call)

    def check_items(self, model: ServedModel, answers: Answers, call: Call, where: str) -> None:
        """Count failed items; raise the first error if no item succeeded."""
        call.items += len(answers)
        call.failed_items = self.count_failures(model, answers)
        failed = first_failure(answers)
        if failed is not None and call.failed_items == len(answers):
            raise locate(*failed, where)

    def count_failures(self, model: ServedModel, answers: Answers) -> int:
        """Return how many items failed, and count them by error code."""
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        for error in failed:
            code = error.code if isinstance(error, TwinlensError) else "internal_error"
            self.metrics.count_failure(model.name, code)
        return len(failed)

    def reply(
        self,
        content: bytes,
        model: ServedModel,
        call: Call,
        *,
        media: str = "application/json",
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Return the answer with the headers common to all answers of a model."""
        call.model = model.name
        self.metrics.count_stages(model.name, call.seconds)
        stages = [f"{stage};dur={1000 * seconds:.2f}" for stage, seconds in call.seconds.items()]
        named = {
            "Twinlens-Model": model.name,
            "Twinlens-Revision": model.revision,
            "Server-Timing": ", ".join(stages),
        }
        if call.failed_items:
            named["Twinlens-Failed-Items"] = str(call.failed_items)
        return Response(content, status, {**named, **(headers or {})}, media_type=media)

    def close(self) -> None:
        """Stop every thread."""
        for model in self.registry.models():
            model.close()
        self.pool.shutdown(wait=False, cancel_futures=True)
        self._background.shutdown(wait=False, cancel_futures=True)

    def _close_later(self, model: ServedModel) -> None:
        """Stop a model's workers without blocking the event loop on their last batch."""
        self._background.submit(model.close).add_done_callback(self._note_closed)

    def _note_closed(self, _: object) -> None:
        """Let the watchdog release the memory at its next check, when no reference is left."""
        self._has_closed = True

    def _read_metrics(self) -> Iterable[Metric]:
        towers = [(model.name, tower) for model in self.registry.models() for tower in model.towers]
        labels = ["model", "tower"]
        names = [([name, tower.name.rsplit("/", 1)[-1]], tower) for name, tower in towers]
        yield gauge(
            "twinlens_queue_items",
            "Items that wait for a worker",
            labels,
            [(label, tower.batcher.depth) for label, tower in names],
        )
        yield gauge(
            "twinlens_held_items",
            "Items between acceptance and answer",
            labels,
            [(label, tower.batcher.held) for label, tower in names],
        )
        yield counter(
            "twinlens_worker_restarts",
            "Workers that the watchdog replaced",
            labels,
            [(label, tower.restarts) for label, tower in names],
        )
        yield counter(
            "twinlens_text_cache_lookups",
            "Texts looked up in the cache",
            ["model", "precision", "result"],
            [
                ([model.name, model.precision, result], count)
                for model in self.registry.models()
                for result, count in (("hit", model.cache_hits), ("miss", model.cache_misses))
            ],
        )
        yield gauge(
            "twinlens_text_cache_bytes",
            "Bytes in the text cache",
            [],
            [([], self.cache.used_bytes)],
        )
        yield gauge(
            "twinlens_ready",
            "Whether /readyz answers 200",
            [],
            [([], float(not self.find_faults()))],
        )


def _subfolder(settings: ServerSettings, name: str) -> Path | None:
    return None if settings.data is None else settings.data / name


async def _wait_gone(request: Request) -> None:
    """Return when the client has closed the connection; only once the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
