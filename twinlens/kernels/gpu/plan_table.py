"""Which plan is used for n embeddings and m classes: written by measurement, read by `plans`.

`python benchmarks/kernels_gpu.py --tune --write` replaces everything after the imports.
"""

from __future__ import annotations

from typing import Literal

PlanName = Literal[
    "small",
    "chained",
    "small partial",
    "middle",
    "middle partial",
    "large",
    "tma",
    "tma partial",
    "library",
]

ROWS = (1, 8, 64, 256, 1024, 4096)
CLASSES = (2, 100, 1000, 10_000, 100_000, 1_000_000)

# Whether the top k of few queries reads the classes by the tensor memory accelerator.
TOPK_BY_TMA = True

# Measured on NVIDIA H200, torch 2.11.0, triton 3.6.0, 2026-11-27.
# By bytes of an element; a line for each of ROWS, a plan for each of CLASSES.
PLAN_TABLE: dict[int, tuple[tuple[PlanName, ...], ...]] = {
    2: (
        ("chained", "chained", "chained", "middle partial", "middle partial", "middle partial"),
        ("chained", "chained", "chained", "middle partial", "middle partial", "middle partial"),
        ("chained", "chained", "chained", "middle partial", "middle partial", "middle partial"),
        ("small", "chained", "library", "library", "library", "library"),
        ("chained", "middle", "library", "tma", "library", "library"),
        ("small", "middle", "library", "library", "library", "library"),
    ),
    4: (
        ("small", "chained", "chained", "library", "library", "library"),
        ("chained", "chained", "chained", "library", "library", "library"),
        ("chained", "chained", "small", "middle partial", "middle partial", "library"),
        ("small", "library", "library", "tma partial", "tma", "tma"),
        ("small", "library", "middle", "tma", "large", "large"),
        ("small", "middle", "tma", "large", "large", "large"),
    ),
}
