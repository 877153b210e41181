"""ONNX Runtime sessions: one per graph, with settings for encoders.

What must stay true: the reported provider is the one that the session actually uses, and a chosen
GPU is used or its absence is an error: nothing runs on the CPU instead.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Rows
from twinlens.bundle.engine.cuda_driver import count_cards, name_card
from twinlens.bundle.engine.device import read_number
from twinlens.bundle.processors import count_physical_cores
from twinlens.errors import BundleError, InputError, MissingDependencyError
from twinlens.kernels.onnx.register import register_kernels

if TYPE_CHECKING:
    import onnxruntime

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


class OnnxRuntimeSession:
    """One graph in ONNX Runtime."""

    engine = "onnxruntime"
    in_flight = 1
    captures = False

    def __init__(
        self,
        path: Path,
        device: str,
        threads: int | None,
        cuda_options: Mapping[str, str] | None = None,
    ) -> None:
        """Open the graph at `path` on the device; raise with the reason if that fails."""
        self._session = _open_session(path, device, threads, cuda_options)
        self.provider: str = self._session.get_providers()[0]
        self.inputs = {value.name: list(value.shape) for value in self._session.get_inputs()}
        self.outputs = {value.name: list(value.shape) for value in self._session.get_outputs()}

    def run(self, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Run the graph and return the named outputs."""
        results: list[NDArray[np.float32]] = self._session.run(outputs, feeds)
        return results

    def embed(self, name: str, items: NDArray[Any] | Sequence[NDArray[Any]]) -> Rows:
        """Return the rows of one batch, given as an array or as its items."""
        batch = items if isinstance(items, np.ndarray) else np.stack(items)
        return self.run(["embedding"], {name: batch})[0]


def runs_on_cuda(device: str) -> bool:
    """Return whether a session on `device` would run on a GPU."""
    if device == "cpu" or _CUDA not in import_runtime().get_available_providers():
        return False
    return count_cards() > 0


def read_version() -> str:
    """Return the version of ONNX Runtime."""
    return str(import_runtime().__version__)


def choose_device(device: str) -> str:
    """Return `cpu` or a GPU by its number; raise for a missing GPU.

    `auto` is the first GPU if this ONNX Runtime has CUDA and the driver finds one, else `cpu`.
    """
    if device == "auto":
        return "cuda:0" if runs_on_cuda(device) else "cpu"
    if device == "cpu":
        return device
    if _CUDA not in import_runtime().get_available_providers():
        raise MissingDependencyError(
            f"device {device!r} needs onnxruntime-gpu; run: pip install 'twinlens[gpu]', or use "
            "--device cpu"
        )
    cards = count_cards()
    if read_number(device) >= cards:
        here = f"cards here: {', '.join(f'cuda:{i}' for i in range(cards))}" if cards else "no card"
        raise InputError(
            f"device {device!r} is not on this machine ({here} by the driver); check nvidia-smi, "
            "or use --device cpu",
            field="device",
        )
    return device


def describe_device(device: str) -> str:
    """Return what identifies a device in a record: `cpu`, or a GPU's model."""
    chosen = choose_device(device)
    return chosen if chosen == "cpu" else name_card(read_number(chosen))


def _open_session(
    path: Path, device: str, threads: int | None, cuda_options: Mapping[str, str] | None
) -> onnxruntime.InferenceSession:
    ort = import_runtime()
    chosen = choose_device(device)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or count_physical_cores()
    options.inter_op_num_threads = 1
    # Memory plans per input shape would accumulate, since texts have many lengths.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    providers: list[Any] = [_CPU]
    if chosen != "cpu":
        _load_cuda()
        # float32 is computed in float32: the GPU's shorter TF32 changes similarities by 3e-4.
        settings = {"device_id": str(read_number(chosen)), "use_tf32": "0", **(cuda_options or {})}
        providers = [(_CUDA, settings), _CPU]
    register_kernels(options, [_CPU] if chosen == "cpu" else [_CUDA, _CPU])
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        reason = str(error).strip().splitlines()[0][:300]
        raise BundleError(
            f"{path} does not load in ONNX Runtime {ort.__version__}: {reason}"
        ) from None
    if chosen != "cpu" and session.get_providers()[0] != _CUDA:
        raise InputError(
            f"device {chosen!r} is here, but ONNX Runtime {ort.__version__} could not start it; "
            "the lines above say which library it lacks. Install them with pip install "
            "'twinlens[gpu]', or use --device cpu",
            field="device",
        )
    return session


@functools.cache
def _load_cuda() -> None:
    """Load the CUDA libraries that pip installed, which are on no search path."""
    ort = import_runtime()
    ort.set_default_logger_severity(3)  # else each session warns that CUDA is no plugin
    load = getattr(ort, "preload_dlls", None)
    if load is not None:
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
            load()


def import_runtime() -> Any:
    """Return the module `onnxruntime`."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError(
            "onnxruntime is not installed; run: pip install 'twinlens[cpu]' (or "
            "'twinlens[gpu]' on CUDA)"
        ) from None
    return onnxruntime
