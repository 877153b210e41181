"""Everything about the kernels that only a CUDA machine can say, in one run.

    python benchmarks/kernels_gpu.py --json FILE        correctness first, then times against peers
    python benchmarks/kernels_gpu.py --tune             times of candidate tiles, as table entries
    TRITON_INTERPRET=1 python benchmarks/kernels_gpu.py --dry-run      the same code, tiny, on a CPU

Correctness runs again under compute-sanitizer where it is installed. Times are medians; a floor is
the operations (or bytes) that the result needs, over what the card can do, so `share_of_floor` says
how far a kernel is from the card. Inf-CL is timed where it is importable.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from report import Report
from torch import Tensor

from twinlens.kernels import contrastive, loss, reference, similarity
from twinlens.kernels.contrastive import LOG2_E, Problem, Side
from twinlens.kernels.gpu import tile_table
from twinlens.kernels.gpu.engine import TritonEngine
from twinlens.kernels.pairs import Pairs

FLOPS, BYTES = 0.78e15, 4.3e12  # of an H200 a second: bfloat16 products, memory


@dataclass(frozen=True)
class Sizes:
    """How large each measurement is."""

    device: str
    batch: int = 65536
    vanilla: int = 32768
    huge: int = 1 << 20
    classes: int = 10_000_000
    queries: int = 32
    d: int = 512
    rounds: int = 20


FULL = Sizes("cuda")
DRY = Sizes("cpu", batch=48, vanilla=48, huge=64, classes=300, queries=2, d=32, rounds=1)


def main() -> int:
    """Run what was asked for; exit 1 if a result is wrong, whatever the times are."""
    arguments = _parse()
    if arguments.dry_run:
        sizes = DRY
    elif torch.cuda.is_available():
        sizes = replace(FULL, d=arguments.dim)
    else:
        print("no CUDA device here; --dry-run shows that the script works")
        return 1
    report = Report("kernels_gpu")
    check_correctness(report, sizes)
    if arguments.correctness:
        report.finish(None)
        return _exit_code(report)
    if sizes.device == "cuda":
        check_with_sanitizer(report)
        check_library(report)
    if arguments.tune:
        tune(sizes)
        return _exit_code(report)
    time_lse(report, sizes)
    time_step(report, sizes)
    time_huge_batch(report, sizes)
    time_top_k(report, sizes)
    time_zero_shot(report, sizes)
    report.finish(arguments.json)
    return _exit_code(report)


def check_correctness(report: Report, sizes: Sizes) -> None:
    """Hold each path to the float64 oracle; the bars are errors."""
    torch.manual_seed(0)
    shapes = [(33, 33, 32)] if sizes is DRY else [(1000, 1000, 512), (777, 1031, 200), (1, 5, 16)]
    bars = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
    for dtype, bar in bars.items():
        worst = max(_loss_error(*shape, dtype, sizes.device) for shape in shapes)
        report.bar(f"gradient error {dtype}", worst, bar, worst <= bar)
    x, y = (torch.randn(n, sizes.d, device=sizes.device) for n in (5, 300))
    scale = torch.tensor(50.0, device=sizes.device)
    with _triton_inference():
        p = similarity.similarity_softmax(x, y, scale)
        top, index = similarity.similarity_topk(x, y, scale, 8)
    want = reference.similarity_softmax(x.double(), y.double(), scale.double())
    off = (p - want).abs().max().item()
    report.bar("zero-shot error", off, 2e-3, off <= 2e-3)
    best, where = reference.similarity_topk(x.double(), y.double(), scale.double(), 8)
    off = (top - best).abs().max().item()
    report.bar("top-k probability error", off, 2e-3, off <= 2e-3)
    same = (index == where).float().mean().item()
    report.bar("top-k indices equal", same, 1.0, same == 1.0)


def check_with_sanitizer(report: Report) -> None:
    """Run the correctness part again under compute-sanitizer, if it is installed."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        report.row(measurement="compute-sanitizer", contender="not installed")
        return
    command = [tool, "--error-exitcode", "9", sys.executable, __file__, "--correctness"]
    code = subprocess.run(command, check=False, capture_output=True).returncode
    report.bar("compute-sanitizer exit code", code, 0, code == 0)


def check_library(report: Report) -> None:
    """Launch the library's machine code through the driver, and through ONNX Runtime if it can."""
    import ctypes
    import tempfile

    from twinlens.kernels.onnx.build import build_library

    with tempfile.TemporaryDirectory() as folder:
        path = build_library(Path(folder)).library
        library = ctypes.CDLL(str(path))
        for n, m, d in ((64, 1000, 512), (7, 203, 70)):
            off = _launch_error(library, n, m, d)
            report.bar(f"library through the driver, d={d}", off, 2e-3, off <= 2e-3)
        session = _runtime_error(path)
        if session is None:
            report.row(measurement="library in ONNX Runtime", contender="no CUDA provider")
        else:
            report.bar("library in ONNX Runtime", session, 2e-3, session <= 2e-3)


def time_lse(report: Report, sizes: Sizes) -> None:
    """Time the two-sided log-sum-exp of a square batch."""
    problem, shares = _problem(sizes, sizes.batch)
    engine = TritonEngine()
    seconds = _time(lambda: engine.softmax_lse(problem, shares), sizes)
    floor = 2 * sizes.batch**2 * sizes.d / FLOPS
    _add(report, "two-sided lse", "twinlens", seconds, floor, sizes)
    if sizes.device == "cuda":
        report.bar("two-sided lse of 64k (ms)", seconds * 1e3, 9.5, seconds <= 9.5e-3)


def time_step(report: Report, sizes: Sizes) -> None:
    """Time forward and backward of CLIP's loss, ours and the peers'; and our extra memory."""
    ours = _time_loss(report, "twinlens", _ours, sizes, sizes.batch)
    for name, peer in _peers().items():
        n = sizes.batch if name == "inf-cl" else sizes.vanilla
        theirs = _time_loss(report, name, peer, sizes, n)
        if name == "inf-cl":
            report.bar("times Inf-CL's speed at 64k", theirs / ours, 5.0, theirs / ours >= 5.0)
        elif sizes.device == "cuda":
            here = _time_loss(report, f"twinlens beside {name}", _ours, sizes, n)
            report.bar(f"times {name}'s speed at {n}", theirs / here, 1.0, theirs >= here)
    if sizes.device != "cuda":
        return
    report.bar("forward and backward of 64k (ms)", ours * 1e3, 38.0, ours <= 38e-3)
    extra = _extra_memory(sizes)
    report.bar("loss memory at 64k (GB)", extra, 0.4, extra <= 0.4)


def time_huge_batch(report: Report, sizes: Sizes) -> None:
    """Time a batch of a million on one GPU."""
    once = replace(sizes, rounds=1)
    seconds = _time_loss(report, "twinlens, huge batch", _ours, once, sizes.huge)
    if sizes.device == "cuda":
        report.bar("batch of 1,048,576 (s)", seconds, 10.0, seconds <= 10.0)


def time_top_k(report: Report, sizes: Sizes) -> None:
    """Time the top 8 of very many classes, against torch's product and topk."""
    x = _embeddings(sizes.queries, sizes)
    y = torch.cat([_embeddings(part, sizes) for part in _parts(sizes.classes, 1 << 20)])
    scale = torch.tensor(100.0, device=sizes.device)
    with _triton_inference():
        seconds = _time(lambda: similarity.similarity_topk(x, y, scale, 8), sizes)
    floor = y.numel() * y.element_size() / BYTES
    _add(report, "top 8", "twinlens", seconds, floor, sizes)
    unit = F.normalize(y, dim=1)

    def torch_topk() -> object:
        logits = (scale * (F.normalize(x, dim=1) @ unit.T)).float()
        return logits.logsumexp(1), logits.topk(8)

    theirs = _time(torch_topk, sizes)
    _add(report, "top 8", "torch, normalised before", theirs, floor, sizes)
    if sizes.device == "cuda":
        report.bar("top 8 of ten million (ms)", seconds * 1e3, 3.2, seconds <= 3.2e-3)
        report.bar("times torch's speed, top 8", theirs / seconds, 4.0, theirs >= 4 * seconds)


def time_zero_shot(report: Report, sizes: Sizes) -> None:
    """Time probabilities of 64 images over 1000 classes, captured in a graph where there is one."""
    n, m = (2, 40) if sizes is DRY else (64, 1000)
    x, y = _embeddings(n, sizes), _embeddings(m, sizes)
    scale = torch.tensor(100.0, device=sizes.device)
    with _triton_inference():
        seconds = _time(_captured(lambda: similarity.similarity_softmax(x, y, scale), sizes), sizes)
    eager = _time(_captured(lambda: reference.similarity_softmax(x, y, scale), sizes), sizes)
    _add(report, "zero-shot", "twinlens", seconds, None, sizes)
    _add(report, "zero-shot", "torch eager, captured too", eager, None, sizes)
    if sizes.device == "cuda":
        report.bar("zero-shot 64 x 1000 (us)", seconds * 1e6, 15.0, seconds <= 15e-6)


def tune(sizes: Sizes) -> None:
    """Print candidate tiles of the two heavy kernels, fastest first, as entries of the table."""
    for kernel in ("sweep", "sweep_tma", "gradient"):
        found = []
        for rows, columns, warps, stages in _candidates():
            tile = tile_table.Tile(rows, columns, 64, warps, stages)
            with mock.patch.dict(tile_table._TABLE, {(kernel, 90, 2): tile}):
                seconds = _try(kernel, sizes)
            found.append((seconds, tile))
        for seconds, tile in sorted(found, key=lambda pair: pair[0]):
            print(f'    ("{kernel}", 90, 2): {tile},  # {seconds * 1e3:.2f} ms')


def _candidates() -> Iterator[tuple[int, int, int, int]]:
    for rows, columns in ((128, 128), (128, 256), (256, 128), (64, 256), (64, 128)):
        for warps in (4, 8):
            for stages in (2, 3, 4):
                yield rows, columns, warps, stages


def _try(kernel: str, sizes: Sizes) -> float:
    problem, shares = _problem(sizes, sizes.batch)
    few = replace(sizes, rounds=5)
    try:
        if kernel == "gradient":
            return _time(lambda: _step(_ours, problem.x.raw, problem.y.raw), few)
        engine = TritonEngine(use_tma=kernel == "sweep_tma")
        return _time(lambda: engine.softmax_lse(problem, shares), few)
    except Exception as error:  # a tile that does not fit is an answer, not a failure
        print(f"    # {kernel}: {str(error)[:80]}")
        return math.inf


def _ours(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    return loss.contrastive_loss(x, y, scale, engine="triton")


def _eager(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    logits = scale * F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    labels = torch.arange(len(x), device=x.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def _peers() -> dict[str, Callable[..., Tensor]]:
    """Return those of the peers that are installed, as functions of x, y and scale."""
    peers: dict[str, Callable[..., Tensor]] = {"torch eager": _eager}
    if torch.cuda.is_available():
        peers["torch.compile"] = torch.compile(_eager)
    if find_spec("open_clip"):
        from open_clip import ClipLoss

        plain = ClipLoss()
        peers["open_clip"] = lambda x, y, s: plain(F.normalize(x, dim=1), F.normalize(y, dim=1), s)
    if find_spec("inf_cl") and torch.cuda.is_available():
        one_sided = importlib.import_module("inf_cl").cal_flash_loss

        def both(x: Tensor, y: Tensor, s: Tensor) -> Tensor:
            u, v = F.normalize(x, dim=1), F.normalize(y, dim=1)
            value: Tensor = one_sided(u, v, scale=s).mean() + one_sided(v, u, scale=s).mean()
            return value / 2

        peers["inf-cl"] = both
    return peers


def _step(run: Callable[..., Tensor], x: Tensor, y: Tensor) -> None:
    scale = torch.tensor(100.0, device=x.device, requires_grad=True)
    given = x.detach().requires_grad_(), y.detach().requires_grad_(), scale
    torch.autograd.grad(run(*given), given)


def _time_loss(
    report: Report, name: str, run: Callable[..., Tensor], sizes: Sizes, n: int
) -> float:
    x, y = _embeddings(n, sizes), _embeddings(n, sizes)
    seconds = _time(lambda: _step(run, x, y), sizes)
    _add(report, f"forward and backward, n={n}", name, seconds, 8 * n * n * sizes.d / FLOPS, sizes)
    return seconds


def _loss_error(n: int, m: int, d: int, dtype: torch.dtype, device: str) -> float:
    """Return the worst relative error of the gradients by x and y against float64."""
    x, y = (torch.randn(k, d, device=device, dtype=dtype, requires_grad=True) for k in (n, m))
    scale = torch.tensor(14.3, device=device)
    _, exact = reference.oracle(x, y, scale)
    value = _ours(x, y, scale)
    found = torch.autograd.grad(value, (x, y))
    errors = [
        float((got.double() - exact[k]).norm() / exact[k].norm().clamp_min(1e-5))
        for k, got in zip(("x", "y"), found, strict=True)
    ]
    return max(errors)


def _launch_error(library: Any, n: int, m: int, d: int) -> float:
    """Launch the embedded softmax on torch's memory and stream; return its error."""
    import ctypes

    x, y = torch.randn(n, d, device="cuda"), torch.randn(m, d, device="cuda")
    scale, p = torch.tensor(50.0, device="cuda"), torch.empty(n, m, device="cuda")
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (x, y, scale)]
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    sizes = [ctypes.c_int64(v) for v in (n, m, d)]
    code = library.twinlens_score_cuda(
        stream, *pointers, None, ctypes.c_void_p(p.data_ptr()), *sizes
    )
    if code:
        print(f"  the driver answered {code}")
        return math.inf
    want = reference.similarity_softmax(x.double(), y.double(), scale.double())
    return float((p - want).abs().max())


def _runtime_error(library: Path) -> float | None:
    """Return the error of a session on CUDA with the library; None where CUDA does not start."""
    import numpy as np
    import onnxruntime

    from twinlens.kernels.onnx.attach import build_similarity

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library))
    model = build_similarity("softmax", scale=50.0)
    wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=wanted)
    if "CUDAExecutionProvider" not in session.get_providers():
        return None
    x, y = (F.normalize(torch.randn(n, 512), dim=1) for n in (64, 1000))
    scores = session.run(["scores"], {"embeddings": x.numpy(), "classes": y.numpy()})[0]
    want = reference.similarity_softmax(x.double(), y.double(), torch.tensor(50.0).double())
    return float(np.abs(scores - want.numpy()).max())


def _extra_memory(sizes: Sizes) -> float:
    """Return the peak GB of one step beyond its inputs and their gradients."""
    x, y = _embeddings(sizes.batch, sizes), _embeddings(sizes.batch, sizes)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    _step(_ours, x, y)
    gradients = 2 * x.numel() * x.element_size()
    return (torch.cuda.max_memory_allocated() - before - gradients) / 1e9


def _problem(sizes: Sizes, n: int) -> tuple[Problem, contrastive.PerSide]:
    x, y = (Side.measure(_embeddings(n, sizes)) for _ in range(2))
    factor = torch.tensor(100.0 * LOG2_E, device=sizes.device)
    problem = Problem(x, y, factor, Pairs(), symmetric=True)
    return problem, contrastive.compute_weights(problem)[0]


def _embeddings(n: int, sizes: Sizes) -> Tensor:
    dtype = torch.bfloat16 if sizes.device == "cuda" else torch.float32
    return torch.randn(n, sizes.d, device=sizes.device, dtype=dtype)


def _parts(total: int, most: int) -> list[int]:
    return [min(most, total - start) for start in range(0, total, most)]


def _time(action: Callable[[], object], sizes: Sizes) -> float:
    """Return the median seconds of one call, compiled and warm."""
    for _ in range(2 if sizes.device == "cuda" else 0):
        action()
    seconds = []
    for _ in range(sizes.rounds):
        if sizes.device != "cuda":
            start = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - start)
            continue
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        action()
        last.record()
        torch.cuda.synchronize()
        seconds.append(first.elapsed_time(last) / 1e3)
    return statistics.median(seconds)


def _captured(action: Callable[[], object], sizes: Sizes) -> Callable[[], object]:
    """Return the action as a replay of a CUDA graph: Python's own time is not the kernel's."""
    if sizes.device != "cuda":
        return action
    action()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        action()
    return graph.replay


@contextmanager
def _triton_inference() -> Iterator[None]:
    """Take the Triton kernels on the CPU too, for the dry run."""
    with mock.patch.object(similarity, "suits_triton", lambda x: True):
        yield


def _add(
    report: Report, what: str, who: str, seconds: float, floor: float | None, sizes: Sizes
) -> None:
    share = floor / seconds if floor is not None and sizes.device == "cuda" else ""
    report.row(measurement=what, contender=who, ms=seconds * 1e3, share_of_floor=share)


def _exit_code(report: Report) -> int:
    """Return 1 if something was wrong; a missed time is a result, not a failure."""
    words = ("error", "equal", "sanitizer", "library")
    wrong = [k for k, bar in report.bars.items() if not bar["holds"] and any(w in k for w in words)]
    return 1 if wrong else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="accepted, and the same run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and bars here")
    parser.add_argument("--dim", type=int, default=FULL.d, help="width of the embeddings")
    parser.add_argument("--tune", action="store_true", help="time candidate tiles instead")
    parser.add_argument("--correctness", action="store_true", help="stop after the errors")
    parser.add_argument("--dry-run", action="store_true", help="tiny, interpreted, on the CPU")
    arguments = parser.parse_args()
    if arguments.dry_run and os.environ.get("TRITON_INTERPRET") != "1":
        parser.error("--dry-run needs TRITON_INTERPRET=1 in the environment")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
