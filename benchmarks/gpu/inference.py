"""Inference on a GPU: compared with float64, launched from the library, then timed beside torch."""

from __future__ import annotations

import ctypes
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from report import Report

from gpu.stage import BYTES, Sizes, add_time, capture, make_embeddings, measure
from twinlens.kernels import reference, similarity
from twinlens.kernels.gpu import inference
from twinlens.kernels.gpu.launch import Launch
from twinlens.kernels.gpu.plan_table import CLASSES, ROWS, PlanName
from twinlens.kernels.gpu.plans import PLANS, TopkPlan
from twinlens.kernels.gpu.tile_table import KernelName, Tile

TYPES = (torch.bfloat16, torch.float16, torch.float32)


def check_inference(report: Report, sizes: Sizes) -> None:
    """Compare probabilities and top k with the specification in float64; the bars are errors."""
    torch.manual_seed(0)
    for dtype in TYPES if sizes.device == "cuda" else (torch.float32,):
        for name in PLANS:
            if sizes.device == "cuda" or PLANS[name] == PLANS["small"]:
                off = find_plan_error(name, dtype, sizes)
                report.bar(f"zero-shot error, {name}, {dtype}", off, 1e-5, off <= 1e-5)
    x, y = (torch.randn(n, sizes.d, device=sizes.device) for n in (5, 300))
    scale = torch.tensor(50.0, device=sizes.device)
    with triton_inference():
        top, index = similarity.similarity_topk(x, y, scale, 8)
    best, where = reference.similarity_topk(x.double(), y.double(), scale.double(), 8)
    off = (top - best).abs().max().item()
    report.bar("top-k probability error", off, 1e-4, off <= 1e-4)
    same = (index == where).float().mean().item()
    report.bar("top-k indices equal", same, 1.0, same == 1.0)


def find_plan_error(name: PlanName, dtype: torch.dtype, sizes: Sizes) -> float:
    """Return the worst error of a plan against float64; infinity if it fails or varies."""
    try:
        return _find_plan_error(name, dtype, sizes)
    except Exception as error:
        print(f"  {name} {dtype}: {str(error)[:80]}", flush=True)
        return math.inf


def _find_plan_error(name: PlanName, dtype: torch.dtype, sizes: Sizes) -> float:
    worst = 0.0
    shapes = ((64, 1000), (37, 4096), (5, 20_000)) if sizes.device == "cuda" else ((2, 50),)
    for n, m in shapes:
        x, y = (torch.randn(k, sizes.d, device=sizes.device).to(dtype) for k in (n, m))
        x[1], y[m // 2] = 0.0, y[3]
        scale = torch.tensor(100.0, device=sizes.device)
        want = reference.similarity_softmax(x.double(), y.double(), scale.double())
        first = inference.similarity(x, y, scale, None, PLANS[name])
        off = float((first - want).abs().max())
        for _ in range(5):
            if not torch.equal(first, inference.similarity(x, y, scale, None, PLANS[name])):
                off = math.inf
        worst = max(worst, off if off == off else math.inf)
    return worst


def check_library(report: Report) -> None:
    """Launch the library's machine code through the driver."""
    from twinlens.kernels.onnx.build import build_library

    with tempfile.TemporaryDirectory() as folder:
        major, _ = torch.cuda.get_device_capability()
        path = build_library(Path(folder), architectures=(min(100, 10 * major),)).library
        library = ctypes.CDLL(str(path))
        for n, m, d in ((64, 1000, 512), (7, 203, 70)):
            off = _launch(library, n, m, d)
            report.bar(f"library through the driver, d={d}", off, 2e-3, off <= 2e-3)


def time_top_k(report: Report, sizes: Sizes) -> None:
    """Time the top 8 of very many classes, against torch's product and topk."""
    x, y, scale = _make_bank(sizes)
    with triton_inference():
        seconds = measure(lambda: similarity.similarity_topk(x, y, scale, 8), sizes)
    floor = y.numel() * y.element_size() / BYTES
    add_time(report, "top 8", "twinlens", seconds, floor, sizes)
    unit = F.normalize(y, dim=1)

    def torch_topk() -> object:
        logits = (scale * (F.normalize(x, dim=1) @ unit.T)).float()
        return logits.logsumexp(1), logits.topk(8)

    theirs = measure(torch_topk, sizes)
    add_time(report, "top 8", "torch, normalised before", theirs, floor, sizes)
    if sizes.device == "cuda":
        report.bar("top 8 of ten million (ms)", seconds * 1e3, 3.2, seconds <= 3.2e-3)
        report.bar("times torch's speed, top 8", theirs / seconds, 3.0, theirs >= 3 * seconds)


def prepare_topk(sizes: Sizes, *, tma: bool) -> Callable[[], object]:
    """Return the action that finds the top 8 of very many classes, by the table's current tile.

    It raises if the first answer, or one of a few more, differs from plain torch's: a tile that is
    fast because it is wrong must not win.
    """
    x, y, scale = _make_bank(sizes)
    name: KernelName = "topk_tma" if tma else "topk"
    _, want = similarity.blocked_topk(x.float(), y, scale, 8)
    checked: set[Tile] = set()

    def act() -> object:
        tile = Launch.on(x.device).tile(name, x, y)
        plan = TopkPlan(tile, tma=tma)
        if tile not in checked:
            checked.add(tile)
            for _ in range(3):
                if not torch.equal(inference.topk(x, y, scale, 8, plan)[1], want):
                    raise ValueError(f"wrong indices with {tile}")
        return inference.topk(x, y, scale, 8, plan)

    return act


def prepare_similarity(
    n: int, m: int, dtype: torch.dtype, sizes: Sizes, plan: PlanName | None = None
) -> Callable[[], object]:
    """Return the action that computes probabilities of n embeddings over m classes."""
    x, y, scale = _make_shape(n, m, dtype, sizes)
    return lambda: inference.similarity(x, y, scale, None, None if plan is None else PLANS[plan])


def time_zero_shot(report: Report, sizes: Sizes) -> None:
    """Time probabilities of n embeddings over m classes, captured in a graph, beside torch's."""
    if sizes.device != "cuda":
        return add_time(report, "zero-shot", "twinlens", _time_shape(2, 40, sizes)[0], None, sizes)
    for dtype in (torch.bfloat16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        slower = 0
        for n in ROWS:
            row = {f"zero-shot {name}, n": str(n)}
            for m in CLASSES:
                ours, theirs = _time_shape(n, m, replace(sizes, rounds=10), dtype)
                row[f"m = {m:,}"] = f"{ours * 1e6:,.1f} / {theirs * 1e6:,.1f}"
                slower += ours > theirs
                if (n, m) == (64, 1000):
                    report.bar(f"zero-shot 64 x 1000, {name} (us)", ours * 1e6, 12, ours <= 12e-6)
            report.row(**row)
        report.bar(f"zero-shot {name}: sizes at which torch is faster", slower, 0, slower == 0)
    return None


def _time_shape(
    n: int, m: int, sizes: Sizes, dtype: torch.dtype = torch.float32
) -> tuple[float, float]:
    """Return our seconds and those of plain torch, both captured."""
    x, y, scale = _make_shape(n, m, dtype, sizes)
    ours = measure(capture(lambda: inference.similarity(x, y, scale, None), sizes), sizes)
    eager = capture(lambda: reference.similarity_softmax(x, y, scale), sizes)
    return ours, measure(eager, sizes)


def _make_shape(
    n: int, m: int, dtype: torch.dtype, sizes: Sizes
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, y = (torch.randn(k, sizes.d, device=sizes.device, dtype=dtype) for k in (n, m))
    return x, y, torch.tensor(100.0, device=sizes.device)


def _make_bank(sizes: Sizes) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a few queries, very many classes, and a scale."""
    x = make_embeddings(sizes.queries, sizes)
    y = torch.cat([make_embeddings(part, sizes) for part in _parts(sizes.classes, 1 << 20)])
    return x, y, torch.tensor(100.0, device=sizes.device)


@contextmanager
def triton_inference() -> Iterator[None]:
    """Use the Triton kernels on the CPU too, for the dry run."""
    with mock.patch.object(similarity, "suits_triton", lambda x: True):
        yield


def _launch(library: Any, n: int, m: int, d: int) -> float:
    """Launch the embedded softmax on torch's memory and stream; return its error."""
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


def _parts(total: int, most: int) -> list[int]:
    return [min(most, total - start) for start in range(0, total, most)]
