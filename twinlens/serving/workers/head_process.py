"""The process that writes classifiers, collections, jobs and models; HTTP processes forward to it.

What must stay true: it is the only one that writes to the data folder.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from twinlens.serving.admission.origin_guard import list_hosts
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.launch import configure_server
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.workers.control import Control
from twinlens.serving.workers.family import Family
from twinlens.serving.workers.family_service import FamilyService
from twinlens.serving.workers.followers import LeadingClassifiers, LeadingStore
from twinlens.serving.workers.head_proxy import FromProxies
from twinlens.serving.workers.http_process import RoleServer, StartTracer

# Watches a folder while entered; the function that it yields starts to apply changes.
Following = Callable[[], AbstractContextManager[Callable[[], None]]]


class HeadServer(RoleServer):
    """Serves the HTTP processes, on a socket of their own."""

    store: LeadingStore
    classifiers: LeadingClassifiers
    start_following: Callable[[], None]
    _has_begun = False

    def add_handlers(self, control: Control) -> None:
        """Handle the writes that HTTP processes ask for."""
        control.handle("adopt", self.classifiers.adopt)
        control.handle("maintain", self.store.maintain)

    async def _apply(self, body: Any) -> None:
        await super()._apply(body)
        if not self._has_begun:
            self._has_begun = True
            self.start_following()


def run_head(
    family: Family,
    end: socket.socket,
    start_tracer: StartTracer,
    following: Following,
) -> None:
    """Run the head process."""
    service = FamilyService(family, family.workers, family.data, tracer=start_tracer())
    lead = partial(getattr, service, "control")
    classifiers = LeadingClassifiers(family.data / "classifiers", lead)
    service.classifiers = classifiers
    with following() as start_following:
        store = LeadingStore(family.collections_folder, lead)
        try:
            for name, path in family.collections.items():
                store.add(name, path)
            app = build_app(service, build_routers(service, store))
            hosts = list_hosts(family.host, family.settings.hosts)
            middleware = add_middleware(app, hosts, has_cors=False)
            config = configure_server(FromProxies(middleware), middleware)
            server = HeadServer(config, service, end)
            server.store, server.classifiers = store, classifiers
            server.start_following = start_following
            server.run([family.head_listener])
        finally:
            store.close()
