"""Inference on a GPU: held to float64, launched from the library, then timed beside plain torch."""

from __future__ import annotations

import ctypes
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from report import Report

from gpu.stage import BYTES, DRY, Sizes, add_time, capture, make_embeddings, measure
from twinlens.kernels import reference, similarity


def check_inference(report: Report, sizes: Sizes) -> None:
    """Hold probabilities and the top k to the specification in float64; the bars are errors."""
    torch.manual_seed(0)
    x, y = (torch.randn(n, sizes.d, device=sizes.device) for n in (5, 300))
    scale = torch.tensor(50.0, device=sizes.device)
    with triton_inference():
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


def check_library(report: Report) -> None:
    """Launch the library's machine code through the driver, and through ONNX Runtime if it can."""
    from twinlens.kernels.onnx.build import build_library

    with tempfile.TemporaryDirectory() as folder:
        path = build_library(Path(folder)).library
        library = ctypes.CDLL(str(path))
        for n, m, d in ((64, 1000, 512), (7, 203, 70)):
            off = _launch(library, n, m, d)
            report.bar(f"library through the driver, d={d}", off, 2e-3, off <= 2e-3)
        session = _run_session(path)
        if session is None:
            report.row(measurement="library in ONNX Runtime", contender="no CUDA provider")
        else:
            report.bar("library in ONNX Runtime", session, 2e-3, session <= 2e-3)


def time_inference(report: Report, sizes: Sizes) -> None:
    """Time the top k of very many classes, and zero-shot probabilities."""
    time_top_k(report, sizes)
    time_zero_shot(report, sizes)


def time_top_k(report: Report, sizes: Sizes) -> None:
    """Time the top 8 of very many classes, against torch's product and topk."""
    x = make_embeddings(sizes.queries, sizes)
    y = torch.cat([make_embeddings(part, sizes) for part in _parts(sizes.classes, 1 << 20)])
    scale = torch.tensor(100.0, device=sizes.device)
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
        report.bar("times torch's speed, top 8", theirs / seconds, 4.0, theirs >= 4 * seconds)


def time_zero_shot(report: Report, sizes: Sizes) -> None:
    """Time probabilities of 64 images over 1000 classes, captured in a graph where there is one."""
    n, m = (2, 40) if sizes is DRY else (64, 1000)
    x, y = make_embeddings(n, sizes), make_embeddings(m, sizes)
    scale = torch.tensor(100.0, device=sizes.device)
    with triton_inference():
        ours = capture(lambda: similarity.similarity_softmax(x, y, scale), sizes)
        seconds = measure(ours, sizes)
    eager = measure(capture(lambda: reference.similarity_softmax(x, y, scale), sizes), sizes)
    add_time(report, "zero-shot", "twinlens", seconds, None, sizes)
    add_time(report, "zero-shot", "torch eager, captured too", eager, None, sizes)
    if sizes.device == "cuda":
        report.bar("zero-shot 64 x 1000 (us)", seconds * 1e6, 15.0, seconds <= 15e-6)


@contextmanager
def triton_inference() -> Iterator[None]:
    """Take the Triton kernels on the CPU too, for the dry run."""
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


def _run_session(library: Path) -> float | None:
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


def _parts(total: int, most: int) -> list[int]:
    return [min(most, total - start) for start in range(0, total, most)]
