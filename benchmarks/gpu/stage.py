"""What GPU measurements share: sizes, clocks, captured graphs, rows.

Times are medians of CUDA events over rounds that are already compiled and warm. A floor is the time
that the GPU needs for the operations (or bytes) of the result, so `share_of_floor` says how close a
kernel is to the hardware. On a CPU everything runs too, tiny and interpreted: the dry run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from report import Report
from torch import Tensor

FLOPS, BYTES = 0.78e15, 4.3e12  # of an H200 a second: bfloat16 products, memory
WAIT = 2_000_000  # cycles, about a millisecond: time for the host to fill the queue


@dataclass(frozen=True)
class Sizes:
    """How large each measurement is."""

    device: str
    batch: int = 65536
    vanilla: int = 32768
    small: int = 1024
    huge: int = 1 << 20
    classes: int = 10_000_000
    queries: int = 32
    d: int = 512
    rounds: int = 20


FULL = Sizes("cuda")
DRY = Sizes("cpu", batch=48, vanilla=48, small=12, huge=64, classes=300, queries=2, d=32, rounds=1)


def measure(action: Callable[[], object], sizes: Sizes) -> float:
    """Return the median seconds of one call, compiled and warm."""
    if sizes.device != "cuda":
        return statistics.median(_time_on_cpu(action) for _ in range(sizes.rounds))
    for _ in range(min(2, sizes.rounds)):
        action()
    return statistics.median(_time_on_gpu(action, sizes.rounds))


def capture(action: Callable[[], object], sizes: Sizes) -> Callable[[], object]:
    """Return the action as a replay of a CUDA graph, without Python's own time."""
    if sizes.device != "cuda":
        return action
    action()
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()  # the gradients of the call above are needed again
    with torch.cuda.stream(side):
        graph.capture_begin()
        action()
        graph.capture_end()
    torch.cuda.synchronize()
    return graph.replay


def measure_captured(action: Callable[[], object], sizes: Sizes) -> float | None:
    """Return the median seconds of the action's captured graph; None if it cannot be captured."""
    try:
        return measure(capture(action, sizes), sizes)
    except Exception as error:
        print(f"  not captured: {str(error)[:80]}", flush=True)
        torch.cuda.synchronize()
        return None


def make_embeddings(n: int, sizes: Sizes) -> Tensor:
    """Return n random embeddings: bfloat16 on a GPU, float32 where they are interpreted."""
    dtype = torch.bfloat16 if sizes.device == "cuda" else torch.float32
    return torch.randn(n, sizes.d, device=sizes.device, dtype=dtype)


def add_time(
    report: Report, what: str, who: str, seconds: float, floor: float | None, sizes: Sizes
) -> None:
    """Add the row of one contender."""
    share = floor / seconds if floor is not None and sizes.device == "cuda" else ""
    report.row(measurement=what, contender=who, ms=seconds * 1e3, share_of_floor=share)


def _time_on_gpu(action: Callable[[], object], rounds: int) -> list[float]:
    """Return the seconds of each round, all queued before the first one runs.

    Otherwise a short action's time would include the host's launch: the GPU waits between events.
    """
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
    torch.cuda.synchronize()
    torch.cuda._sleep(WAIT)
    for first, last in pairs:
        first.record()
        action()
        last.record()
    torch.cuda.synchronize()
    return [float(first.elapsed_time(last)) / 1e3 for first, last in pairs]


def _time_on_cpu(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
