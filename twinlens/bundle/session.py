"""One graph of a bundle, behind the same interface for every engine.

What must stay true: a tower that opens has the inputs, outputs and dimensions of the manifest, and
the reported engine and provider are those that actually run the graph.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Rows
from twinlens.bundle.engine.cuda_session import CudaSession
from twinlens.bundle.engine.device import list_devices
from twinlens.bundle.engine.onnxruntime_session import OnnxRuntimeSession, choose_device
from twinlens.bundle.engine.openvino_session import OpenVinoSession
from twinlens.errors import BundleError, InputError

ENGINES = ("auto", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Runtime:
    """The devices, number of threads and engine. `threads` None means one per physical core.

    Engine `auto` means ONNX Runtime, except for towers, which may be measured. `device` may list
    GPUs, `cuda:0,cuda:1`; `memory_limit` is a tower's limit on each, in GiB.
    """

    device: str = "auto"
    threads: int | None = None
    engine: str = "auto"
    memory_limit: float | None = None

    def __post_init__(self) -> None:
        """Raise for an unknown device or engine, or an invalid number of threads."""
        devices = list_devices(self.device)
        if self.engine not in ENGINES:
            raise InputError(
                f"engine {self.engine!r} is unknown; choose one of {', '.join(ENGINES)}",
                field="engine",
            )
        if self.engine == "openvino" and devices[0].startswith("cuda"):
            raise InputError(
                "engine 'openvino' runs on the CPU; use --device cpu, or --engine onnxruntime",
                field="engine",
            )
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads is {self.threads}; it must be at least 1")
        if self.memory_limit is not None and not self.memory_limit > 0:
            raise InputError(
                f"device memory is {self.memory_limit} GiB; it must be above 0",
                field="device_memory",
            )

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices, each as `auto`, `cpu` or `cuda:N`."""
        return list_devices(self.device)


class EngineSession(Protocol):
    """What an engine provides for one graph."""

    engine: str
    provider: str
    inputs: dict[str, list[int | str | None]]
    outputs: dict[str, list[int | str | None]]
    in_flight: int  # batches that run at once without slowing each other down
    captures: bool  # whether each batch shape is prepared once and then repeated

    def run(self, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Run the graph and return the named outputs."""
        ...

    def embed(self, name: str, items: NDArray[Any] | Sequence[NDArray[Any]]) -> Rows:
        """Return the rows of one batch, given as an array or as its items."""
        ...


class Graph:
    """One opened ONNX graph with named inputs and outputs, on each of the runtime's devices.

    With `in_batches` (a tower) it runs on all of them, else on the first.
    """

    def __init__(
        self,
        path: Path,
        runtime: Runtime,
        *,
        inputs: tuple[str, ...],
        output: str,
        in_bf16: bool = False,
        in_batches: bool = False,
    ) -> None:
        """Open the graph at `path`; raise if it lacks one of `inputs` or `output`."""
        self.path = path
        devices = runtime.devices if in_batches else runtime.devices[:1]
        self._sessions = [
            _open_session(path, runtime, device, in_bf16, in_batches) for device in devices
        ]
        self._running, self._ran = [0] * len(devices), [0] * len(devices)
        self._lock = threading.Lock()
        self._session = self._sessions[0]
        self.engine: str = self._session.engine
        self.provider: str = self._session.provider
        self.captures = self._session.captures
        self.in_flight = sum(session.in_flight for session in self._sessions)
        self.shapes = self._session.inputs | self._session.outputs
        found = list(self._session.inputs)
        if tuple(found) != inputs:
            raise BundleError(f"{path}: the graph's inputs are {found}; expected {list(inputs)}")
        names = list(self._session.outputs)
        if output not in names:
            raise BundleError(f"{path}: the graph's outputs are {names}; expected {output!r}")

    def run(self, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Run the graph and return the named outputs."""
        return self._session.run(outputs, feeds)

    def embed(self, name: str, items: NDArray[Any] | Sequence[NDArray[Any]]) -> Rows:
        """Return the rows of one batch, run on the device with the fewest batches in flight."""
        with self._lock:
            chosen = min(range(len(self._sessions)), key=lambda i: (self._running[i], self._ran[i]))
            self._running[chosen] += 1
            self._ran[chosen] += 1
        try:
            return self._sessions[chosen].embed(name, items)
        finally:
            with self._lock:
                self._running[chosen] -= 1

    def check_dim(self, name: str, axis: int, expected: int) -> None:
        """Raise if a fixed dimension of `name` differs from the manifest."""
        found = self.shapes[name][axis]
        if isinstance(found, int) and found != expected:
            raise BundleError(
                f"{self.path}: {name!r} has {found} in dimension {axis}; the manifest says "
                f"{expected}"
            )


def _open_session(
    path: Path, runtime: Runtime, device: str, in_bf16: bool, in_batches: bool
) -> EngineSession:
    if runtime.engine == "openvino":
        return OpenVinoSession(path, runtime.threads, in_bf16=in_bf16)
    chosen = choose_device(device)
    if in_batches and chosen != "cpu":
        return CudaSession(path, chosen, runtime.threads, runtime.memory_limit)
    return OnnxRuntimeSession(path, chosen, runtime.threads)
