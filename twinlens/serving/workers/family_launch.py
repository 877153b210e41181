"""Starts a server of many processes: imports once, forks, announces when all of them serve.

What must stay true: slow imports happen before the first fork; no bundle is opened and no thread is
started before the last one.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from twinlens.bundle.encoder import find_bundle
from twinlens.bundle.store import read_manifest
from twinlens.errors import InputError, TwinlensError
from twinlens.serving.launch import ListenAddress, ServedBundle, announce_models
from twinlens.serving.observe.tracing import Tracer
from twinlens.serving.routes.endpoint import list_modules
from twinlens.serving.settings import ServerSettings
from twinlens.serving.workers.encoder_process import run_encoder
from twinlens.serving.workers.family import ENCODER, HEAD, HTTP, Family, Openers
from twinlens.serving.workers.hand_out import ConnectionDealer
from twinlens.serving.workers.head_process import Following, run_head
from twinlens.serving.workers.http_process import run_http
from twinlens.serving.workers.keeper import Keeper
from twinlens.serving.workers.shared_rates import RateTable

_PRELOADED = (
    "onnxruntime",
    "uvloop",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.lifespan.on",
)
_LINE = 1024  # connections that wait for an encoder process or the head


@dataclass(frozen=True)
class FamilyPlan:
    """What a server of many processes serves, and how."""

    settings: ServerSettings
    openers: Openers
    address: ListenAddress
    workers: int
    named: Mapping[str, str]
    collections: Mapping[str, Path]
    start_tracer: Callable[[], Tracer | None]
    following: Following
    manifests: Mapping[str, ServedBundle] = field(default_factory=dict)


def run_family(plan: FamilyPlan, listener: socket.socket) -> None:
    """Serve until a signal; return when all processes have ended."""
    if sys.platform != "linux":
        raise InputError("--workers needs Linux; leave it out here", field="workers")
    _preload()
    with _make_family(plan, listener) as family:
        dealer = ConnectionDealer(family, listener)
        mains = {
            HTTP: lambda i: partial(_be_http, family, dealer, i, plan),
            HEAD: lambda _: partial(_be_head, family, plan),
            ENCODER: lambda i: partial(run_encoder, family, i),
        }
        keeper = Keeper(family, dealer, mains)
        try:
            keeper.start()
            _announce(keeper, plan, listener)
            number = keeper.serve()
        finally:
            keeper.stop()
    if number == signal.SIGINT:
        raise KeyboardInterrupt


def _be_http(
    family: Family, dealer: ConnectionDealer, index: int, plan: FamilyPlan, end: socket.socket
) -> None:
    run_http(family, index, end, dealer.inboxes[index][1], plan.start_tracer)


def _be_head(family: Family, plan: FamilyPlan, end: socket.socket) -> None:
    run_head(family, end, plan.start_tracer, plan.following)


@contextmanager
def _make_family(plan: FamilyPlan, listener: socket.socket) -> Iterator[Family]:
    """Make the sockets between the processes, in a folder that no other user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="twinlens-"))
    try:
        family = Family(
            plan.settings,
            plan.named,
            plan.collections,
            plan.openers,
            plan.workers,
            folder,
            [_listen(folder / f"encoder-{i}") for i in range(len(plan.openers.devices))],
            _listen(folder / "head"),
            listener.getsockname()[0],
            RateTable(plan.settings),
            plan.address.ssl_files,
        )
        yield family
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(_LINE)
    return listener


def _preload() -> None:
    """Import what every process needs, and keep the collector from writing to shared pages."""
    for name in (*_PRELOADED, *list_modules()):
        if find_spec(name) is not None:
            import_module(name)
    # The libraries' threads wait for work at a fork; theirs is a lock-free idle loop.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    gc.collect()
    gc.freeze()


def _announce(keeper: Keeper, plan: FamilyPlan, listener: socket.socket) -> None:
    bundles = []
    for entry in keeper.table.entries:
        slot = next(iter(entry.slots.values()))
        known = plan.manifests.get(entry.name)
        manifest = known.manifest if known else read_manifest(find_bundle(entry.source))
        bundles.append(ServedBundle(entry.name, manifest, slot["provider"]))
    announce_models(bundles, plan.settings.log_format, listener, plan.address.scheme)


def run_apart(action: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Run an action in a process of its own, so that its threads do not exist here at a fork."""
    reading, writing = os.pipe()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            answer: dict[str, object] = {"found": action()}
        except TwinlensError as error:
            answer = {"message": error.message, "field": error.field}
        except KeyboardInterrupt:
            os._exit(130)
        with os.fdopen(writing, "w") as stream:
            json.dump(answer, stream)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    os.waitpid(pid, 0)
    if not text:
        raise InputError("the server could not prepare what it serves; the lines above say why")
    told = json.loads(text)
    if "message" in told:
        raise InputError(told["message"], field=told["field"])
    found: dict[str, str] = told["found"]
    return found
