"""ONNX Runtime sessions: one per graph, with the settings that suit encoders.

What must stay true: the reported provider is the one that the session actually uses.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.processors import count_physical_cores
from twinlens.errors import BundleError, InputError, MissingDependencyError
from twinlens.kernels.onnx.register import has_cuda_device, register_kernels

if TYPE_CHECKING:
    import onnxruntime

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


class OnnxRuntimeSession:
    """One graph in ONNX Runtime."""

    engine = "onnxruntime"

    def __init__(self, path: Path, device: str, threads: int | None) -> None:
        """Open the graph at `path` on the device; raise with the reason if that fails."""
        self._session = _open_session(path, device, threads)
        self.provider: str = self._session.get_providers()[0]
        self.inputs = {value.name: list(value.shape) for value in self._session.get_inputs()}
        self.outputs = {value.name: list(value.shape) for value in self._session.get_outputs()}

    def run(self, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Run the graph and return the named outputs."""
        results: list[NDArray[np.float32]] = self._session.run(outputs, feeds)
        return results


def runs_on_cuda(device: str) -> bool:
    """Return whether a session asked for `device` would run on a GPU."""
    return _choose_providers(_import_runtime(), device)[0] == _CUDA and has_cuda_device()


def read_version() -> str:
    """Return the version of ONNX Runtime."""
    return str(_import_runtime().__version__)


def _open_session(path: Path, device: str, threads: int | None) -> onnxruntime.InferenceSession:
    ort = _import_runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or count_physical_cores()
    options.inter_op_num_threads = 1
    # Memory plans per input shape would accumulate, since texts have many lengths.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    providers = _choose_providers(ort, device)
    register_kernels(options, providers)
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        reason = str(error).strip().splitlines()[0][:300]
        raise BundleError(
            f"{path} does not load in ONNX Runtime {ort.__version__}: {reason}"
        ) from None
    if device == "cuda" and session.get_providers()[0] != _CUDA:
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
