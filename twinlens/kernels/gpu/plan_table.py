"""Which plan is taken for n embeddings and m classes: written by measurement, read by `plans`.

`python benchmarks/kernels_gpu.py --tune --write` replaces what follows the imports.
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
TOPK_BY_TMA = False

# Not measured yet. By bytes of an element; a line for each of ROWS, a plan for each of CLASSES.
PLAN_TABLE: dict[int, tuple[tuple[PlanName, ...], ...]] = {
    2: (
        ("small", "small", "small", "small partial", "small partial", "small partial"),
        ("small", "small", "small", "small partial", "small partial", "small partial"),
        ("small", "small", "small", "middle", "middle partial", "tma partial"),
        ("small", "small", "middle", "middle", "tma partial", "tma partial"),
        ("small", "middle", "middle", "large", "tma partial", "tma partial"),
        ("small", "middle", "large", "library", "library", "tma partial"),
    ),
    4: (
        ("small", "small", "small", "small partial", "small partial", "small partial"),
        ("small", "small", "small", "small partial", "small partial", "small partial"),
        ("small", "small", "small", "middle", "middle partial", "middle partial"),
        ("small", "small", "middle", "middle", "large", "large"),
        ("small", "middle", "middle", "large", "large", "large"),
        ("small", "middle", "large", "library", "library", "library"),
    ),
}
