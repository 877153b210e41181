"""The node in ONNX Runtime's CUDA, with inputs and output bound: its error, and its time.

An idle GPU lowers its clock, so each time is measured after a third of a second of products; the
time after a second of idling is reported too. Parts that are not installed leave a row that says
so.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import Report

from gpu.stage import Sizes
from twinlens.kernels import reference

SCALE, ROUNDS = 50.0, 2000
BUSY, IDLE = 0.3, 1.0  # seconds


def time_node(report: Report, sizes: Sizes, models: Path | None = None) -> None:
    """Compare the node with float64 and time it.

    `models` is a folder with node.onnx, if onnx is not installed, and perhaps a built library.
    """
    for name in ("onnxruntime", "onnx"):
        if find_spec(name) is None and (name != "onnx" or models is None):
            report.row(measurement="node in ONNX Runtime", contender=f"no {name}")
            return
    from twinlens.kernels.onnx.build import build_library
    from twinlens.kernels.onnx.register import find_library

    with tempfile.TemporaryDirectory() as folder:
        major, _ = torch.cuda.get_device_capability()
        given = None if models is None else find_library(models)
        library = (
            given or build_library(Path(folder), architectures=(min(100, 10 * major),)).library
        )
        model = _make_model() if models is None else (models / "node.onnx").read_bytes()
        _time_model(report, model, library, sizes)


def _time_model(report: Report, model: bytes, library: Path, sizes: Sizes) -> None:
    session = _open(model, library)
    if "CUDAExecutionProvider" not in session.get_providers():
        report.row(measurement="node in ONNX Runtime", contender="no CUDA provider")
        return
    bound = _Bound(session, 64, 1000, sizes.d)
    off = bound.find_error()
    report.bar("node in ONNX Runtime, error", off, 1e-5, off <= 1e-5)
    warm = _time_warm(bound.run)
    _add(report, "bound", warm)
    _add(report, "bound, after a second of idling", _time_idle(bound.run))
    _add(
        report,
        "bound, no rows: what any node costs",
        _time_warm(_Bound(session, 0, 1000, sizes.d).run),
    )
    graph = _Bound(_open(model, library, enable_cuda_graph="1"), 64, 1000, sizes.d)
    _add(report, "bound, captured", _time_warm(graph.run))
    report.bar("node in ONNX Runtime, 64 x 1000, bound (us)", warm * 1e6, 40.0, warm <= 40e-6)


class _Bound:
    """A session whose inputs and output are on the GPU."""

    def __init__(self, session: Any, n: int, m: int, d: int) -> None:
        import onnxruntime

        self.session, self.binding = session, session.io_binding()
        place = onnxruntime.OrtValue.ortvalue_from_numpy
        self.x, self.y = (np.random.default_rng(k).normal(size=(k, d)) for k in (n, m))
        self.given = [place(a.astype(np.float32), "cuda", 0) for a in (self.x, self.y)]
        for name, value in zip(("embeddings", "classes"), self.given, strict=True):
            self.binding.bind_ortvalue_input(name, value)
        self.out = onnxruntime.OrtValue.ortvalue_from_shape_and_type([n, m], np.float32, "cuda", 0)
        self.binding.bind_ortvalue_output("scores", self.out)

    def run(self) -> None:
        self.session.run_with_iobinding(self.binding)

    def find_error(self) -> float:
        self.run()
        x, y = (torch.from_numpy(a.astype(np.float32)).double() for a in (self.x, self.y))
        want = reference.similarity_softmax(x, y, torch.tensor(SCALE).double())
        return float(np.abs(self.out.numpy() - want.numpy()).max())


def _open(model: bytes, library: Path, **cuda: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library))
    providers = [("CUDAExecutionProvider", cuda), "CPUExecutionProvider"]
    return onnxruntime.InferenceSession(model, options, providers=providers)


def _make_model() -> bytes:
    """Return a model of the node alone; a bundle's also computes the cosines."""
    from twinlens.kernels.onnx.attach import build_node

    made: bytes = build_node("softmax", scale=SCALE).SerializeToString()
    return made


def _time_warm(run: Callable[[], None], rounds: int = ROUNDS) -> float:
    """Return the mean seconds of a call, each waiting for its result, on a busy GPU."""
    for _ in range(10):
        run()
    square = torch.randn(4096, 4096, device="cuda")
    start = time.monotonic()
    while time.monotonic() - start < BUSY:
        square @ square
        torch.cuda.synchronize()
    return _time(run, rounds)


def _time_idle(run: Callable[[], None]) -> float:
    time.sleep(IDLE)
    return _time(run, 50)


def _time(run: Callable[[], None], rounds: int) -> float:
    start = time.perf_counter()
    for _ in range(rounds):
        run()
    return (time.perf_counter() - start) / rounds


def _add(report: Report, who: str, seconds: float) -> None:
    report.row(measurement="node in ONNX Runtime, 64 x 1000", contender=who, us=seconds * 1e6)
