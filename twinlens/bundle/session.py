"""One graph of a bundle, behind the same interface whichever engine runs it.

What must stay true: a tower that opens has the inputs, outputs and dimensions of the manifest, and
the reported engine and provider are those that actually run the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.engine.onnxruntime_session import OnnxRuntimeSession
from twinlens.bundle.engine.openvino_session import OpenVinoSession
from twinlens.errors import BundleError, InputError

DEVICES = ("auto", "cpu", "cuda")
ENGINES = ("auto", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Runtime:
    """The device, number of threads and engine. `threads` None means one per physical core.

    `auto` as the engine means ONNX Runtime, except for towers: those may be measured.
    """

    device: str = "auto"
    threads: int | None = None
    engine: str = "auto"

    def __post_init__(self) -> None:
        """Raise for an unknown device or engine, or an invalid number of threads."""
        if self.device not in DEVICES:
            raise InputError(
                f"device {self.device!r} is unknown; choose one of {', '.join(DEVICES)}"
            )
        if self.engine not in ENGINES:
            raise InputError(
                f"engine {self.engine!r} is unknown; choose one of {', '.join(ENGINES)}",
                field="engine",
            )
        if self.engine == "openvino" and self.device == "cuda":
            raise InputError(
                "engine 'openvino' runs on the CPU; use --device cpu, or --engine onnxruntime",
                field="engine",
            )
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads is {self.threads}; it must be at least 1")


class EngineSession(Protocol):
    """What an engine offers for one graph."""

    engine: str
    provider: str
    inputs: dict[str, list[int | str | None]]
    outputs: dict[str, list[int | str | None]]

    def run(self, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Run the graph and return the named outputs."""
        ...


class Graph:
    """One opened ONNX graph with named inputs and outputs."""

    def __init__(
        self,
        path: Path,
        runtime: Runtime,
        *,
        inputs: tuple[str, ...],
        output: str,
        in_bf16: bool = False,
    ) -> None:
        """Open the graph at `path`; raise if it lacks one of `inputs` or `output`."""
        self.path = path
        self._session = _open_session(path, runtime, in_bf16)
        self.engine: str = self._session.engine
        self.provider: str = self._session.provider
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

    def check_dim(self, name: str, axis: int, expected: int) -> None:
        """Raise if a fixed dimension of `name` differs from the manifest."""
        found = self.shapes[name][axis]
        if isinstance(found, int) and found != expected:
            raise BundleError(
                f"{self.path}: {name!r} has {found} in dimension {axis}; the manifest says "
                f"{expected}"
            )


def _open_session(path: Path, runtime: Runtime, in_bf16: bool) -> EngineSession:
    if runtime.engine == "openvino":
        return OpenVinoSession(path, runtime.threads, in_bf16=in_bf16)
    return OnnxRuntimeSession(path, runtime.device, runtime.threads)
