"""`twinlens serve --workers N`: prepares what many processes serve, and starts them."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from twinlens.cli.serving.browser import open_when_ready
from twinlens.cli.serving.bundle_names import pull_models
from twinlens.cli.serving.collections import find_place, following, index_images, read_named
from twinlens.errors import InputError

LEAST_CORES = 6  # a machine with fewer gets one process by default

if TYPE_CHECKING:
    from twinlens.cli.serving.collections import Images
    from twinlens.serving.launch import ListenAddress
    from twinlens.serving.observe.tracing import Tracer
    from twinlens.serving.settings import ServerSettings
    from twinlens.serving.workers.family import Openers


def serve_family(
    settings: ServerSettings,
    openers: Openers,
    address: ListenAddress,
    workers: int,
    named: dict[str, str],
    collections: list[str],
    images: Images | None,
    show: bool,
) -> None:
    """Serve with many processes until a signal."""
    if not hasattr(os, "fork"):
        raise InputError(
            f"--workers {workers} needs fork, which this system does not have; leave it out to "
            "serve from one process",
            field="workers",
        )
    from twinlens.serving.files import own_folder
    from twinlens.serving.launch import bind_port
    from twinlens.serving.observe.logs import configure_logs
    from twinlens.serving.workers.family_launch import FamilyPlan, run_apart, run_family

    configure_logs(settings.log_format, requests=settings.log_requests)
    address.check()
    opened = {name: _require_folder(name, path) for name, path in read_named(collections)}
    with own_folder(settings.data), bind_port(address.host, address.port) as listener:
        named = run_apart(partial(pull_models, named, settings.precisions))
        first = next(iter(named.values()))
        if images is not None:
            run_apart(lambda: {"images": str(index_images(images, settings.data, first))})
            opened["images"] = find_place(images, settings.data, first)
        plan = FamilyPlan(
            settings,
            openers,
            address,
            workers,
            named,
            opened,
            partial(start_tracer, settings),
            partial(_follow, images, settings.data, first, listener, address.scheme, show),
        )
        run_family(plan, listener)


def _require_folder(name: str, path: str) -> Path:
    if "://" in path:
        raise InputError(
            f"--collection {name}={path}: the collections of a store are served by one process;"
            " add --workers 1",
            field="collection",
        )
    return Path(path)


@contextmanager
def _follow(
    images: Images | None,
    data: Path | None,
    bundle: str,
    listener: socket.socket,
    scheme: str,
    show: bool,
) -> Iterator[Callable[[], None]]:
    """Follow the pictures, and open the page where asked, in the process that keeps the data."""
    with following(images, data, bundle) as start:
        if show:
            open_when_ready(listener, scheme)
        yield start


def choose_workers(device: str) -> int:
    """Return how many HTTP processes suit this machine.

    On a CPU the encoder keeps the cores busy, so one process is as fast; with a GPU, all cores but
    two decode.
    """
    from twinlens.bundle.processors import count_logical_cpus

    cores = count_logical_cpus()
    if device == "cpu" or cores < LEAST_CORES or sys.platform != "linux":
        return 1
    from twinlens.kernels.onnx.register import has_cuda_device
    from twinlens.serving.workers.family_launch import run_apart

    # The driver does not survive a fork, so it is asked by a process that forks nothing.
    found = run_apart(lambda: {"cuda": str(has_cuda_device())})
    return cores - 2 if found["cuda"] == "True" else 1


def start_tracer(settings: ServerSettings) -> Tracer | None:
    """Return the tracer, if tracing is on."""
    if not settings.tracing:
        return None
    from twinlens.serving.observe.tracing import Tracer, start_exporting

    return Tracer(start_exporting())


def make_openers(
    settings: ServerSettings,
    device: str,
    threads: int | None,
    engine: str,
    fast: bool,
    device_memory: float | None,
) -> Openers:
    """Return how the processes open bundles: one encoder process for each device."""
    from twinlens.bundle.engine.device import list_devices
    from twinlens.serving.workers.openers import BundleOpeners

    return BundleOpeners(
        settings,
        list_devices(device),
        threads=threads,
        engine=engine,
        fast=fast,
        device_memory=device_memory,
    )
