"""What all processes of a server share from the start, and each process's share of the limits.

What must stay true: the shares add up to no more than the whole, except that each process may
always take one item or request.
"""

from __future__ import annotations

import mmap
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from twinlens.serving.contracts import StagedEncoder
from twinlens.serving.settings import ServerSettings
from twinlens.serving.workers.shared_rates import RateTable

HTTP, HEAD, ENCODER = "http", "head", "encoder"
_COUNT_BYTES = 8


class Openers(Protocol):
    """How processes open bundles."""

    devices: Sequence[str]

    def open_whole(self, source: str, precision: str, device: str) -> StagedEncoder:
        """Open and verify a bundle in an encoder process."""
        ...

    def open_outer(self, source: str, precision: str, told: Mapping[str, Any]) -> StagedEncoder:
        """Open a bundle without its towers; `told` is what the encoder process said of it."""
        ...


@dataclass(frozen=True)
class Family:
    """The processes of one server: what they share from the start."""

    settings: ServerSettings
    named: Mapping[str, str]  # sources of bundles by name
    collections: Mapping[str, Path]  # those given by folder
    openers: Openers
    workers: int  # HTTP processes
    folder: Path  # of the sockets
    encoder_listeners: Sequence[socket.socket]
    head_listener: socket.socket
    host: str  # that the server listens on
    rates: RateTable
    ssl_files: Mapping[str, str] = field(default_factory=dict)
    closed: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 4096))

    @property
    def encoder_addresses(self) -> list[str]:
        """The address of each encoder process's socket."""
        return [str(self.folder / f"encoder-{i}") for i in range(len(self.openers.devices))]

    @property
    def head_address(self) -> str:
        """The address of the head's socket."""
        return str(self.folder / "head")

    @property
    def data(self) -> Path:
        """The folder of classifiers and jobs: a temporary one if none is set."""
        return self.settings.data or self.folder / "data"

    @property
    def collections_folder(self) -> Path | None:
        """The folder in which collections are created, if there is one."""
        return self.settings.data / "collections" if self.settings.data else None

    def read_closed(self, index: int) -> int:
        """Return how many connections an HTTP process has ended."""
        at = _COUNT_BYTES * index
        return int.from_bytes(self.closed[at : at + _COUNT_BYTES], "little")

    def write_closed(self, index: int, count: int) -> None:
        """Note how many connections an HTTP process has ended."""
        at = _COUNT_BYTES * index
        self.closed[at : at + _COUNT_BYTES] = count.to_bytes(_COUNT_BYTES, "little")


def share_settings(settings: ServerSettings, workers: int, data: Path | None) -> ServerSettings:
    """Return the settings of one of several HTTP processes."""
    limits, batching = settings.limits, settings.batching
    shared = replace(
        limits,
        requests_in_flight=_share(limits.requests_in_flight, workers),
        bytes_in_flight=max(limits.body_bytes, _share(limits.bytes_in_flight, workers)),
        image_queue=_share(limits.image_queue, workers),
        text_queue=_share(limits.text_queue, workers),
    )
    return replace(
        settings,
        limits=shared,
        batching=replace(
            batching,
            cache_bytes=batching.cache_bytes // workers,
            decode_threads=max(1, batching.decode_threads // workers),
        ),
        data=data,
    )


def _share(whole: int, workers: int) -> int:
    return max(1, -(-whole // workers)) if whole else 0
