"""OpenVINO on the CPU: one compiled graph, one infer request per thread, fp32 or bf16.

What must stay true: importing it here contacts no host and writes nothing. The package `openvino`
reports its import to an analytics host and keeps an identity in `~/intel`, unless its telemetry
cannot be imported; so that import is blocked first. OpenVINO has no setting for it.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Rows
from twinlens.bundle.processors import count_physical_cores
from twinlens.errors import BundleError, MissingDependencyError

if TYPE_CHECKING:
    import openvino

_REPORTER = "openvino_telemetry"


class OpenVinoSession:
    """One graph in OpenVINO; with `in_bf16` matrix products and convolutions compute in bfloat16.

    The inputs, the outputs and everything after the last product stay float32.
    """

    engine = "openvino"
    provider = "OpenVINO CPU"
    in_flight = 1
    captures = False

    def __init__(self, path: Path, threads: int | None, *, in_bf16: bool = False) -> None:
        """Compile the graph at `path`; raise with the reason if OpenVINO cannot read it."""
        self._compiled = _compile_graph(path, threads, in_bf16)
        self._own = threading.local()  # an infer request serves one thread at a time
        self.inputs = {port.get_any_name(): _list_dims(port) for port in self._compiled.inputs}
        self.outputs = {port.get_any_name(): _list_dims(port) for port in self._compiled.outputs}

    @property
    def threads(self) -> int:
        """The number of threads that OpenVINO computes with."""
        return int(self._compiled.get_property("INFERENCE_NUM_THREADS"))

    def run(self, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Run the graph and return the named outputs, as arrays of their own."""
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._compiled.create_infer_request()
        results = request.infer(feeds, share_inputs=True)
        return [np.array(results[name]) for name in outputs]

    def embed(self, name: str, items: NDArray[Any] | Sequence[NDArray[Any]]) -> Rows:
        """Return the unit rows of one batch, given as an array or as its items."""
        batch = items if isinstance(items, np.ndarray) else np.stack(items)
        rows: Rows = self.run(["embedding"], {name: batch})[0]
        # OpenVINO adds an epsilon to each length that it divides by.
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return rows


def is_installed() -> bool:
    """Return whether OpenVINO could be imported; does not import it."""
    return importlib.util.find_spec("openvino") is not None


def read_version() -> str:
    """Return the version of the installed package, without importing it."""
    try:
        return importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:  # a build under another name
        return "unknown"


def has_bf16() -> bool:
    """Return whether this CPU multiplies in bfloat16 (AVX512-BF16 or AMX)."""
    return "BF16" in _start_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def import_openvino() -> Any:
    """Return the module `openvino`, imported without its telemetry."""
    # A module set to None cannot be imported, and OpenVINO then uses its own stub.
    if "openvino" not in sys.modules:
        sys.modules[_REPORTER] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(
            f"engine 'openvino' cannot be imported ({error}); run: pip install "
            "'twinlens[openvino]', or use --engine onnxruntime"
        ) from None
    return openvino


@functools.cache
def _start_core() -> Any:
    return import_openvino().Core()


def _compile_graph(path: Path, threads: int | None, in_bf16: bool) -> openvino.CompiledModel:
    core = _start_core()
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if in_bf16 else "f32",
        "INFERENCE_NUM_THREADS": threads or count_physical_cores(),
        "NUM_STREAMS": 1,
        # Threads pinned by two engines or processes would share a core while others idle.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        return core.compile_model(core.read_model(str(path)), "CPU", settings)
    except Exception as error:  # OpenVINO's exceptions are RuntimeErrors of many lines
        reason = " ".join(str(error).split())[-300:]
        raise BundleError(
            f"{path} does not load in OpenVINO {read_version()}: {reason}; use --engine onnxruntime"
        ) from None


def _list_dims(port: Any) -> list[int | str | None]:
    """Return the dimensions of an input or output; None for free ones."""
    return [None if dim.is_dynamic else dim.get_length() for dim in port.get_partial_shape()]
