"""The losses on a GPU: held to the float64 oracle, then timed, the peers beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from report import Report
from torch import Tensor

from gpu.peers import find_clip_peers
from gpu.stage import DRY, FLOPS, Sizes, add_time, make_embeddings, measure
from twinlens.kernels import contrastive, loss, reference
from twinlens.kernels.contrastive import LOG2_E, Problem, Side
from twinlens.kernels.gpu.engine import TritonEngine
from twinlens.kernels.pairs import Pairs


def check_losses(report: Report, sizes: Sizes) -> None:
    """Hold the gradients to the float64 oracle; the bars are errors."""
    torch.manual_seed(0)
    shapes = [(33, 33, 32)] if sizes is DRY else [(1000, 1000, 512), (777, 1031, 200), (1, 5, 16)]
    bars = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
    for dtype, bar in bars.items():
        worst = max(_find_error(*shape, dtype, sizes.device) for shape in shapes)
        report.bar(f"gradient error {dtype}", worst, bar, worst <= bar)


def time_losses(report: Report, sizes: Sizes) -> None:
    """Time the sweep, one step beside the peers, and a batch of a million."""
    time_lse(report, sizes)
    time_step(report, sizes)
    time_huge_batch(report, sizes)


def time_lse(report: Report, sizes: Sizes) -> None:
    """Time the two-sided log-sum-exp of a square batch."""
    problem, shares = make_problem(sizes, sizes.batch)
    engine = TritonEngine()
    seconds = measure(lambda: engine.softmax_sums(problem, shares, keep=False), sizes)
    floor = 2 * sizes.batch**2 * sizes.d / FLOPS
    add_time(report, "two-sided lse", "twinlens", seconds, floor, sizes)
    if sizes.device == "cuda":
        report.bar("two-sided lse of 64k (ms)", seconds * 1e3, 9.5, seconds <= 9.5e-3)


def time_step(report: Report, sizes: Sizes) -> None:
    """Time forward and backward of CLIP's loss, ours and the peers'; and our extra memory."""
    ours = _time_loss(report, "twinlens", compute_clip, sizes, sizes.batch)
    for name, peer in find_clip_peers().items():
        n = sizes.batch if name == "inf-cl" else sizes.vanilla
        theirs = _time_loss(report, name, peer, sizes, n)
        if name == "inf-cl":
            report.bar("times Inf-CL's speed at 64k", theirs / ours, 5.0, theirs / ours >= 5.0)
        elif sizes.device == "cuda":
            here = _time_loss(report, f"twinlens beside {name}", compute_clip, sizes, n)
            report.bar(f"times {name}'s speed at {n}", theirs / here, 1.0, theirs >= here)
    if sizes.device != "cuda":
        return
    report.bar("forward and backward of 64k (ms)", ours * 1e3, 38.0, ours <= 38e-3)
    extra = _measure_memory(sizes)
    report.bar("loss memory at 64k (GB)", extra, 0.4, extra <= 0.4)


def time_huge_batch(report: Report, sizes: Sizes) -> None:
    """Time a batch of a million on one GPU."""
    once = replace(sizes, rounds=1)
    seconds = _time_loss(report, "twinlens, huge batch", compute_clip, once, sizes.huge)
    if sizes.device == "cuda":
        report.bar("batch of 1,048,576 (s)", seconds, 10.0, seconds <= 10.0)


def compute_clip(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Return our symmetric loss, by the Triton engine whatever the device."""
    return loss.contrastive_loss(x, y, scale, engine="triton")


def step(run: Callable[..., Tensor], x: Tensor, y: Tensor) -> None:
    """Run a loss forward and backward to both embeddings and the scale."""
    scale = torch.tensor(100.0, device=x.device, requires_grad=True)
    given = x.detach().requires_grad_(), y.detach().requires_grad_(), scale
    torch.autograd.grad(run(*given), given)


def make_problem(sizes: Sizes, n: int) -> tuple[Problem, contrastive.PerSide]:
    """Return a square problem at scale 100, and its shares, as an engine wants them."""
    x, y = (Side.measure(make_embeddings(n, sizes)) for _ in range(2))
    factor = torch.tensor(100.0 * LOG2_E, device=sizes.device)
    problem = Problem(x, y, factor, Pairs(), symmetric=True)
    return problem, contrastive.compute_weights(problem)[0]


def _time_loss(
    report: Report, name: str, run: Callable[..., Tensor], sizes: Sizes, n: int
) -> float:
    x, y = make_embeddings(n, sizes), make_embeddings(n, sizes)
    seconds = measure(lambda: step(run, x, y), sizes)
    floor = 8 * n * n * sizes.d / FLOPS
    add_time(report, f"forward and backward, n={n}", name, seconds, floor, sizes)
    return seconds


def _find_error(n: int, m: int, d: int, dtype: torch.dtype, device: str) -> float:
    """Return the worst relative error of the gradients by x and y against float64."""
    x, y = (torch.randn(k, d, device=device, dtype=dtype, requires_grad=True) for k in (n, m))
    scale = torch.tensor(14.3, device=device)
    _, exact = reference.oracle(x, y, scale)
    value = compute_clip(x, y, scale)
    found = torch.autograd.grad(value, (x, y))
    errors = [
        float((got.double() - exact[k]).norm() / exact[k].norm().clamp_min(1e-5))
        for k, got in zip(("x", "y"), found, strict=True)
    ]
    return max(errors)


def _measure_memory(sizes: Sizes) -> float:
    """Return the peak GB of one step beyond its inputs and their gradients."""
    x, y = make_embeddings(sizes.batch, sizes), make_embeddings(sizes.batch, sizes)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(compute_clip, x, y)
    gradients = 2 * x.numel() * x.element_size()
    return (torch.cuda.max_memory_allocated() - before - gradients) / 1e9
