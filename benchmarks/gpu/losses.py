"""The losses on a GPU: compared with the float64 oracle, then timed beside their peers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, get_args

import torch
import torch.nn.functional as F
from report import Report
from torch import Tensor

from gpu.peers import find_clip_peers, find_matryoshka_peers, find_sigmoid_peers
from gpu.stage import (
    DRY,
    FLOPS,
    Sizes,
    add_time,
    capture,
    make_embeddings,
    measure,
    measure_captured,
)
from twinlens.kernels import contrastive, loss, reference
from twinlens.kernels.contrastive import LOG2_E, Memory, Problem, Side
from twinlens.kernels.gpu.engine import TritonEngine
from twinlens.kernels.pairs import Pairs

Loss = Callable[..., Tensor]
Times = tuple[float, float | None]  # seconds of a step, and of its captured graph
HOST_BOUND = 16_384  # rows up to which launches may take longer than the GPU's work
SCALE, SIGMOID_SCALE, SIGMOID_BIAS = 100.0, 10.0, -10.0
LIMITS = {"flat": 0.6, "balanced": 1.0}  # GB beyond inputs and gradients, at 64k


def check_losses(report: Report, sizes: Sizes) -> None:
    """Compare values and gradients with the float64 oracle; the bars are errors."""
    torch.manual_seed(0)
    shapes = [(33, 33, 32)] if sizes is DRY else [(1000, 1000, 512), (777, 1031, 200), (1, 5, 16)]
    bars = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
    for kind in ("softmax", "sigmoid"):
        for dtype, bar in bars.items():
            worst = max(_find_error(*shape, dtype, sizes.device, kind=kind) for shape in shapes)
            report.bar(f"{kind} gradient error {dtype}", worst, bar, worst <= bar)
    stored = _find_error(*shapes[0], torch.bfloat16, sizes.device, kind="softmax", memory="stored")
    report.bar("stored gradient error torch.bfloat16", stored, 1e-2, stored <= 1e-2)
    # The interpreter truncates where a GPU rounds, and G of a prefix is rounded twice.
    for dtype in (torch.float32, torch.bfloat16) if sizes.device == "cuda" else (torch.float32,):
        off = _find_prefix_error(*shapes[0], dtype, sizes.device)
        report.bar(f"matryoshka gradient error {dtype}", off, bars[dtype], off <= bars[dtype])
    if sizes.device == "cuda":
        same = float(_replays_equally(sizes))
        report.bar("gradients of a captured step equal", same, 1.0, same == 1.0)


def time_lse(report: Report, sizes: Sizes) -> None:
    """Time the two-sided log-sum-exp of a square batch."""
    problem, shares = make_problem(sizes, sizes.batch)
    engine = TritonEngine()
    seconds = measure(lambda: engine.softmax_sums(problem, shares, keep=False), sizes)
    floor = 2 * sizes.batch**2 * sizes.d / FLOPS
    add_time(report, "two-sided lse", "twinlens", seconds, floor, sizes)
    if sizes.device == "cuda":
        report.bar("two-sided lse of 64k (ms)", seconds * 1e3, 9.5, seconds <= 9.5e-3)


def time_clip(report: Report, sizes: Sizes) -> None:
    """Time CLIP's step at several sizes, ours and the peers'."""
    peers = find_clip_peers()
    for n in sorted({sizes.small, sizes.vanilla // 4, sizes.vanilla, sizes.batch}):
        ours = _time_step(report, "twinlens", compute_clip, sizes, n, [SCALE])
        if sizes.device == "cuda" and n == sizes.batch:
            report.bar("forward and backward of 64k (ms)", ours[0] * 1e3, 36.0, ours[0] <= 36e-3)
        for name, peer in peers.items():
            if (n <= sizes.vanilla or peer.flat) and (n <= peer.most):
                theirs = _time_step(report, name, peer.compute, sizes, n, [SCALE])
                _compare(report, sizes, name, f"{n}", ours, theirs)


def time_sigmoid(report: Report, sizes: Sizes) -> None:
    """Time SigLIP's step at the width of its models and at ours, on unit rows as peers require."""
    given = [SIGMOID_SCALE, SIGMOID_BIAS]
    cases = [(sizes.batch, sizes.d)]
    if sizes.device == "cuda":
        cases += [(sizes.batch, 768), (sizes.vanilla, 768), (sizes.vanilla // 4, 768)]
    for n, d in cases:
        wide = replace(sizes, d=d)
        ours = _time_step(report, "twinlens", compute_sigmoid, wide, n, given)
        if sizes.device == "cuda" and (n, d) == (sizes.batch, 768):
            report.bar("SigLIP of 64k, width 768 (ms)", ours[0] * 1e3, 36.0, ours[0] <= 36e-3)
        for name, peer in find_sigmoid_peers().items():
            theirs = _time_step(report, name, peer.compute, wide, n, given)
            _compare(report, sizes, name, f"{n}, width {d}", ours, theirs)


def time_memory(report: Report, sizes: Sizes) -> None:
    """Time CLIP's step under each memory setting, and measure its memory."""
    for memory in get_args(Memory):
        run = _under(memory)
        seconds, _ = _time_step(report, f"twinlens, {memory}", run, sizes, sizes.batch, [SCALE])
        extra = _measure_memory(run, sizes)
        report.row(memory=memory, n=sizes.batch, ms=seconds * 1e3, extra_GB=extra)
        if memory in LIMITS:
            limit = LIMITS[memory]
            report.bar(f"{memory} memory at 64k (GB)", extra, limit, extra <= limit)


def time_huge_batch(report: Report, sizes: Sizes) -> None:
    """Time a batch of a million on one GPU, once."""
    once = replace(sizes, rounds=1)
    seconds, _ = _time_step(report, "twinlens, huge batch", compute_clip, once, sizes.huge, [SCALE])
    if sizes.device == "cuda":
        report.bar("batch of 1,048,576 (s)", seconds, 9.0, seconds <= 9.0)


def time_prefixes(report: Report, sizes: Sizes) -> None:
    """Time Matryoshka's step: one pass, prefix by prefix, and memeff's one pass."""
    widths = (sizes.d // 4, sizes.d // 2, sizes.d)
    name = f"{'/'.join(map(str, widths))} of {sizes.batch}"

    def one_by_one(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
        return torch.stack([compute_clip(x[:, :w], y[:, :w], scale) for w in widths]).sum()

    contenders: dict[str, Loss] = {
        "twinlens, one pass": lambda x, y, s: loss.matryoshka_loss(
            x, y, s, widths, engine="triton"
        ),
        "twinlens, prefix by prefix": one_by_one,
        **find_matryoshka_peers(widths),
    }
    x, y = (make_embeddings(sizes.batch, sizes) for _ in range(2))
    few = replace(sizes, rounds=min(sizes.rounds, 5))
    for who, run in contenders.items():
        seconds = measure(prepare_step(run, x, y, [SCALE]), few)
        add_time(report, f"matryoshka, {name}", who, seconds, None, sizes)


def compute_clip(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    """Return our symmetric loss, by the Triton engine on any device."""
    return loss.contrastive_loss(x, y, scale, engine="triton")


def compute_sigmoid(x: Tensor, y: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Return our sigmoid loss, by the Triton engine on any device."""
    return loss.contrastive_loss(x, y, scale, bias=bias, kind="sigmoid", engine="triton")


def prepare_step(run: Loss, x: Tensor, y: Tensor, numbers: list[float]) -> Callable[[], object]:
    """Return a loss forward and backward to both embeddings, the scale and any bias."""
    given = [x.detach().requires_grad_(), y.detach().requires_grad_()]
    given += [torch.tensor(v, device=x.device, requires_grad=True) for v in numbers]
    return lambda: torch.autograd.grad(run(*given), given, allow_unused=True)


def make_problem(
    sizes: Sizes, n: int, *, sigmoid: bool = False
) -> tuple[Problem, contrastive.PerSide]:
    """Return a square problem and its shares, as an engine needs them."""
    x, y = (Side.measure(make_embeddings(n, sizes)) for _ in range(2))
    factor = torch.tensor(SIGMOID_SCALE if sigmoid else SCALE * LOG2_E, device=sizes.device)
    problem = Problem(x, y, factor, Pairs(), symmetric=not sigmoid)
    return problem, contrastive.compute_weights(problem)[0]


def _under(memory: Memory) -> Loss:
    return lambda x, y, s: loss.contrastive_loss(x, y, s, engine="triton", memory=memory)


def _compare(
    report: Report, sizes: Sizes, name: str, size: str, ours: Times, theirs: Times
) -> None:
    if sizes.device != "cuda":
        return
    ratio = theirs[0] / ours[0]
    report.bar(f"times {name}'s speed at {size}", ratio, 1.0, ratio >= 1.0)
    if ours[1] and theirs[1]:
        ratio = theirs[1] / ours[1]
        report.bar(f"times {name}'s speed at {size}, captured", ratio, 1.0, ratio >= 1.0)


def _time_step(
    report: Report, name: str, run: Loss, sizes: Sizes, n: int, numbers: list[float]
) -> Times:
    """Return the seconds of a step, and of its captured graph if launches could dominate."""
    x, y = (F.normalize(make_embeddings(n, sizes), dim=1) for _ in range(2))
    few = replace(sizes, rounds=min(sizes.rounds, max(1, sizes.batch * 10 // n)))
    act = prepare_step(run, x, y, numbers)
    seconds, captured = measure(act, few), None
    if sizes.device == "cuda" and n <= HOST_BOUND:
        captured = measure_captured(act, few)
    units, what = (4, "forward and backward") if len(numbers) == 1 else (3, "sigmoid step")
    floor = units * 2 * n * n * sizes.d / FLOPS
    report.row(
        measurement=f"{what}, n={n}, d={sizes.d}",
        contender=name,
        ms=seconds * 1e3,
        captured_ms=captured * 1e3 if captured else "",
        share_of_floor=floor / (captured or seconds) if sizes.device == "cuda" else "",
    )
    return seconds, captured


def _find_error(n: int, m: int, d: int, dtype: torch.dtype, device: str, **settings: Any) -> float:
    """Return the worst relative error of the gradients by x and y against float64."""
    x, y = (torch.randn(k, d, device=device, dtype=dtype, requires_grad=True) for k in (n, m))
    scale = torch.tensor(14.3, device=device)
    bias = torch.tensor(-3.0, device=device) if settings["kind"] == "sigmoid" else None
    _, exact = reference.oracle(x, y, scale, bias=bias, kind=settings["kind"])

    def differentiate() -> tuple[Tensor, ...]:
        value = loss.contrastive_loss(x, y, scale, bias=bias, engine="triton", **settings)
        return torch.autograd.grad(value, (x, y))

    found = differentiate()
    again = differentiate()  # by the code that the first call compiled
    if not all(map(torch.equal, found, again)):
        return math.inf
    return _compare_gradients(found, (exact["x"], exact["y"]))


def _find_prefix_error(n: int, m: int, d: int, dtype: torch.dtype, device: str) -> float:
    """Return the worst relative error of the gradients of three prefixes against float64."""
    x, y = (torch.randn(k, d, device=device, dtype=dtype, requires_grad=True) for k in (n, m))
    scale, widths = torch.tensor(14.3, device=device), (d // 4, d // 2, d)
    value = loss.matryoshka_loss(x, y, scale, widths, engine="triton")
    found = torch.autograd.grad(value, (x, y))
    wide = [t.detach().double().requires_grad_() for t in (x, y)]
    terms = [
        reference.contrastive_loss(wide[0][:, :width], wide[1][:, :width], scale.double())
        for width in widths
    ]
    return _compare_gradients(found, torch.autograd.grad(torch.stack(terms).sum(), wide))


def _compare_gradients(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    errors = [
        float((got.double() - want).norm() / want.norm().clamp_min(1e-5))
        for got, want in zip(found, exact, strict=True)
    ]
    return max(errors)


def _replays_equally(sizes: Sizes) -> bool:
    """Tell whether a captured step gives the same as an eager one on other embeddings."""
    x, y = (make_embeddings(1000, sizes).requires_grad_() for _ in range(2))
    scale = torch.tensor(14.3, device=sizes.device, requires_grad=True)
    found: list[Tensor] = []

    def act() -> object:
        found[:] = torch.autograd.grad(compute_clip(x, y, scale), (x, y, scale))
        return found

    replay = capture(act, sizes)
    held = list(found)
    with torch.no_grad():
        x.copy_(make_embeddings(1000, sizes))
    replay()
    got = [t.clone() for t in held]
    return all(map(torch.equal, got, torch.autograd.grad(compute_clip(x, y, scale), (x, y, scale))))


def _measure_memory(run: Loss, sizes: Sizes) -> float:
    """Return the peak GB of one step beyond its inputs and their gradients."""
    x, y = make_embeddings(sizes.batch, sizes), make_embeddings(sizes.batch, sizes)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    prepare_step(run, x, y, [SCALE])()
    gradients = 2 * x.numel() * x.element_size()
    return (torch.cuda.max_memory_allocated() - before - gradients) / 1e9
