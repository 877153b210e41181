"""ONNX Runtime sessions: one per graph, with the settings that suit encoders.

What must stay true: a tower that opens has the inputs, outputs and dimensions of the manifest, and
the reported provider is the one that the session actually uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.processors import count_physical_cores
from twinlens.errors import BundleError, InputError, MissingDependencyError
from twinlens.kernels.onnx.register import register_kernels

if TYPE_CHECKING:
    import onnxruntime

DEVICES = ("auto", "cpu", "cuda")
_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class Runtime:
    """The device and number of threads. `threads` None means one per physical core."""

    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Raise for an unknown device or an invalid number of threads."""
        if self.device not in DEVICES:
            raise InputError(
                f"device {self.device!r} is unknown; choose one of {', '.join(DEVICES)}"
            )
        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads is {self.threads}; it must be at least 1")


class Graph:
    """One opened ONNX graph with named inputs and outputs."""

    def __init__(
        self, path: Path, runtime: Runtime, *, inputs: tuple[str, ...], output: str
    ) -> None:
        """Open the graph at `path`; raise if it lacks one of `inputs` or `output`."""
        self.path = path
        self._session = _open_session(path, runtime)
        self.provider: str = self._session.get_providers()[0]
        self.shapes: dict[str, list[int | str | None]] = {
            value.name: list(value.shape)
            for value in [*self._session.get_inputs(), *self._session.get_outputs()]
        }
        found = [value.name for value in self._session.get_inputs()]
        if tuple(found) != inputs:
            raise BundleError(f"{path}: the graph's inputs are {found}; expected {list(inputs)}")
        names = [value.name for value in self._session.get_outputs()]
        if output not in names:
            raise BundleError(f"{path}: the graph's outputs are {names}; expected {output!r}")

    def run(self, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Run the graph and return the named outputs."""
        results: list[NDArray[np.float32]] = self._session.run(outputs, feeds)
        return results

    def check_dim(self, name: str, axis: int, expected: int) -> None:
        """Raise if a fixed dimension of `name` differs from the manifest."""
        found = self.shapes[name][axis]
        if isinstance(found, int) and found != expected:
            raise BundleError(
                f"{self.path}: {name!r} has {found} in dimension {axis}; the manifest says "
                f"{expected}"
            )


def _open_session(path: Path, runtime: Runtime) -> onnxruntime.InferenceSession:
    """Open `path` on the requested device; raise with the reason if that fails."""
    ort = _import_runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = runtime.threads or count_physical_cores()
    options.inter_op_num_threads = 1
    # Memory plans per input shape would accumulate, since texts have many lengths.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    providers = _choose_providers(ort, runtime.device)
    register_kernels(options, providers)
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        reason = str(error).strip().splitlines()[0][:300]
        raise BundleError(
            f"{path} does not load in ONNX Runtime {ort.__version__}: {reason}"
        ) from None
    if runtime.device == "cuda" and session.get_providers()[0] != _CUDA:
        raise InputError(
            "device 'cuda' was requested but ONNX Runtime could not start it on this machine; "
            "check the driver and that onnxruntime-gpu is installed, or use --device cpu"
        )
    return session


def _import_runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError(
            "onnxruntime is not installed; run: pip install 'twinlens[cpu]' (or "
            "'twinlens[gpu]' on CUDA)"
        ) from None
    return onnxruntime


def _choose_providers(ort: Any, device: str) -> list[str]:
    """Return the providers to request, best first; a listed CUDA may still fall back to the CPU."""
    available = ort.get_available_providers()
    if device == "cpu" or (device == "auto" and _CUDA not in available):
        return [_CPU]
    if _CUDA not in available:
        raise MissingDependencyError(
            "device 'cuda' needs onnxruntime-gpu; run: pip install 'twinlens[gpu]', or use "
            "--device cpu"
        )
    return [_CUDA, _CPU]
