"""A tower's graph on one GPU, in ONNX Runtime: its provider's settings, and its batches in lanes.

Normalising pixels and rows is part of the graph and runs on the GPU too: uint8 goes in, float32
rows come back. What must stay true: if the GPU or a capture is refused, the reason is reported, and
nothing runs on the CPU instead.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Rows
from twinlens.bundle.engine.cuda_driver import CardMemory, CudaMemory
from twinlens.bundle.engine.device import explain_failure, read_number
from twinlens.bundle.engine.lanes import LANES, Lanes
from twinlens.bundle.engine.onnxruntime_session import OnnxRuntimeSession, import_runtime
from twinlens.errors import DeviceError

log = logging.getLogger("twinlens.bundle")

_DTYPES: Final = {"tensor(uint8)": np.uint8, "tensor(int64)": np.int64}
GIB: Final = 1 << 30


class CudaSession(OnnxRuntimeSession):
    """One tower on one GPU."""

    in_flight = LANES

    def __init__(
        self, path: Path, device: str, threads: int | None, memory_limit: float | None = None
    ) -> None:
        """Open the graph on the GPU; raise with the reason if that fails."""
        self._device = device
        self._lost: DeviceError | None = None
        card = CudaMemory(read_number(device))
        self._lanes = self._open_lanes(path, threads, memory_limit, card)
        self.captures = self._lanes.captures

    def embed(self, name: str, items: NDArray[Any] | Sequence[NDArray[Any]]) -> Rows:
        """Return the rows of one batch; raise a `DeviceError` that says what the GPU lacks."""
        if self._lost is not None:
            raise self._lost
        try:
            return self._lanes.embed(items)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            failure = explain_failure(error, self._device)
            if failure is None:
                raise
            if failure.kind == "lost":
                self._lost = failure
            log.error("%s (%s)", failure.message, " ".join(str(error).split())[:300])
            raise failure from error

    def run(self, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Run the graph from host arrays, without a captured graph."""
        options = make_run_options(-1) if self.captures else None
        results: list[NDArray[np.float32]] = self._session.run(outputs, feeds, options)
        return results

    def _open_lanes(
        self, path: Path, threads: int | None, limit: float | None, card: CardMemory
    ) -> Lanes:
        """Open the session with captured graphs; without them if ONNX Runtime refuses."""
        for captures in (True, False):
            options = list_options(card, limit, captures)
            try:
                super().__init__(path, self._device, threads, options)
                lanes = bind_lanes(self._session, card, captures=captures)
                item = np.zeros(_example_shape(self._session), lanes.dtype)
                lanes.embed(item[None])
                return lanes
            except Exception as error:
                failure = explain_failure(error, self._device)
                if not captures or (failure is not None and failure.kind == "full"):
                    raise failure or error from None
                log.info("%s runs without captured graphs: %s", path.name, str(error)[:300])
        raise AssertionError("unreachable")


def list_options(card: CardMemory, limit: float | None, captures: bool) -> dict[str, str]:
    """Return the provider's settings; `limit` is in GiB."""
    options = {
        "device_id": str(card.number),
        "user_compute_stream": str(card.stream),
        "enable_cuda_graph": "1" if captures else "0",
        "cudnn_conv_algo_search": "HEURISTIC",  # a search for each batch size takes seconds
        "arena_extend_strategy": "kSameAsRequested",
    }
    if limit is not None:
        options["gpu_mem_limit"] = str(int(limit * GIB))
    return options


def bind_lanes(session: Any, card: CardMemory, *, captures: bool) -> Lanes:
    """Return the lanes of a session with one input and one output."""
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    dtype = np.dtype(_DTYPES[given.type])

    def bind(source: int, shape: tuple[int, ...], target: int, rows: tuple[int, ...]) -> Any:
        binding = session.io_binding()
        binding.bind_input(given.name, card.kind, card.number, dtype.type, shape, source)
        binding.bind_output(made.name, card.kind, card.number, np.float32, rows, target)
        return binding

    def start(binding: Any, graph: int) -> None:
        session.run_with_iobinding(binding, make_run_options(graph if captures else None))

    return Lanes(card, bind, start, dtype=dtype, width=made.shape[1], captures=captures)


def make_run_options(graph: int | None) -> Any:
    """Return options for a run that does not wait for the GPU; `graph` -1 captures nothing."""
    options = import_runtime().RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    if graph is not None:
        options.add_run_config_entry("gpu_graph_id", str(graph))
    return options


def _example_shape(session: Any) -> tuple[int, ...]:
    """Return the shape of one item, with 8 for free dimensions."""
    shape = session.get_inputs()[0].shape[1:]
    return tuple(side if isinstance(side, int) else 8 for side in shape)
