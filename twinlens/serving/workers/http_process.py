"""The process that answers requests: connections come from the keeper, towers run elsewhere.

What must stay true: it answers as a single server does, and serves nothing that the keeper's table
does not have.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from twinlens.serving.admission.origin_guard import list_hosts
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.engine.memory import freeze_objects
from twinlens.serving.launch import configure_server
from twinlens.serving.observe.tracing import Tracer
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.workers.control import Control
from twinlens.serving.workers.family import Family
from twinlens.serving.workers.family_service import FamilyService
from twinlens.serving.workers.followers import FollowingClassifiers, FollowingStore
from twinlens.serving.workers.head_proxy import HeadProxy
from twinlens.serving.workers.metric_sums import dump_metrics

_MOST_AT_ONCE = 64  # connections taken before other work gets a turn

StartTracer = Callable[[], Tracer | None]


class RoleServer(uvicorn.Server):
    """A server that ends when the keeper says so; it ignores signals."""

    def __init__(self, config: uvicorn.Config, service: FamilyService, end: socket.socket) -> None:
        super().__init__(config)
        self._service = service
        self._end = end

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Do nothing."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the line to the keeper, then start as any server does."""
        service = self._service
        control = service.control = Control(self._stop)
        control.handle("state", service.take_state)
        control.handle("models", self._apply)
        control.handle("metrics", self._dump)
        control.handle("stop", self._stop_soon)
        self.add_handlers(control)
        await control.open(self._end)
        await super().startup(sockets)
        freeze_objects()

    def add_handlers(self, control: Control) -> None:
        """Add the handlers of this kind of process."""

    async def _apply(self, body: Any) -> None:
        await self._service.apply(body)

    async def _dump(self, _: Any) -> list[Any]:
        return dump_metrics(self._service.metrics.settle())

    async def _stop_soon(self, _: Any) -> None:
        self._stop()

    def _stop(self) -> None:
        self._service.is_draining = True
        self.should_exit = True


class HttpServer(RoleServer):
    """Serves connections that the keeper has accepted."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: FamilyService,
        end: socket.socket,
        family: Family,
        index: int,
        inbox: socket.socket,
        store: FollowingStore,
        classifiers: FollowingClassifiers,
    ) -> None:
        super().__init__(config, service, end)
        self._family = family
        self._index = index
        self._inbox = inbox
        self._store = store
        self._classifiers = classifiers
        self._closed = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._make: Callable[[], asyncio.Protocol] = asyncio.Protocol

    def add_handlers(self, control: Control) -> None:
        """Follow the head's classifiers and collections."""
        control.handle("classifier", self._classifiers.follow)
        control.handle("collection", self._store.follow)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take connections from the keeper instead of listening."""
        await super().startup([])
        loop = asyncio.get_running_loop()
        make: Any = partial(
            count_ends(self.config.http_protocol_class, self.note_closed),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        self._make = make
        self._inbox.setblocking(False)
        loop.add_reader(self._inbox, self._take)

    def _take(self) -> None:
        """Take the connections that the keeper has passed."""
        loop = asyncio.get_running_loop()
        for _ in range(_MOST_AT_ONCE):
            try:
                _, descriptors, _, _ = socket.recv_fds(self._inbox, 1, 1)
            except (BlockingIOError, InterruptedError):
                return
            for descriptor in descriptors:
                end = socket.socket(fileno=descriptor)
                end.setblocking(False)
                task = loop.create_task(self._accept(end))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _accept(self, end: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(self._make, end, ssl=self.config.ssl)
        except OSError:  # it ended before it began
            self.note_closed()

    def note_closed(self) -> None:
        """Tell the keeper that a connection has ended."""
        self._closed += 1
        self._family.write_closed(self._index, self._closed)


def count_ends(protocol: Any, note: Callable[[], None]) -> Any:
    """Return a class of connections whose ends are noted."""

    class CountedConnection(protocol):  # type: ignore[misc]
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            note()

    return CountedConnection


def run_http(
    family: Family,
    index: int,
    end: socket.socket,
    inbox: socket.socket,
    start_tracer: StartTracer,
) -> None:
    """Run one of the HTTP processes."""
    service = FamilyService(family, index, None, tracer=start_tracer())
    lead = partial(getattr, service, "control")
    classifiers = FollowingClassifiers(family.data / "classifiers", family.folder, lead)
    service.classifiers = classifiers
    store = FollowingStore(family.collections_folder, family.collections, lead)
    app = build_app(service, build_routers(service, store))
    proxy = partial(HeadProxy, service=service, address=family.head_address)
    hosts = list_hosts(family.host, family.settings.hosts)
    middleware = add_middleware(app, hosts, proxy)
    config = configure_server(middleware, middleware, family.ssl_files)
    server = HttpServer(config, service, end, family, index, inbox, store, classifiers)
    try:
        server.run([])
    finally:
        store.close()
