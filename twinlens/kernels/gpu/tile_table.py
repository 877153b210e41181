"""The sizes of tiles, by kernel, architecture, element width and embedding width: a static table.

Autotuning would measure inside training, choose differently between runs, and need a GPU to import.
`python benchmarks/kernels_gpu.py --tune --write` replaces entries by the best candidate; a comment
above such an entry says what was measured, and on what. All others were chosen from the compiler's
report: shared memory within the limit, matrix instructions of the architecture, few or no spilled
registers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

KernelName = Literal[
    "sweep",
    "sweep_tma",
    "kept_tma",
    "gradient",
    "gradient_tma",
    "sigmoid_tma",
    "gradient_rows",
    "prefix_sweep",
    "prefix_gradient",
    "underflowed",
    "softmax",
    "softmax_middle",
    "softmax_large",
    "softmax_tma",
    "softmax_partial",
    "row",
    "long_row",
    "topk",
    "topk_tma",
    "topk_many",
]


@dataclass(frozen=True)
class Tile:
    """BM rows x BN columns, BK at a time along the embedding; warps and the pipeline's depth."""

    BM: int
    BN: int
    BK: int
    warps: int
    stages: int
    blocks: int = 1  # programs per processor at a time
    parts: int = 1  # parts of a written tile: less shared memory is in use

    @property
    def sizes(self) -> dict[str, int]:
        """Return the three sizes under the names that kernels use."""
        return {"BM": self.BM, "BN": self.BN, "BK": self.BK}


# (kernel, architecture, bytes per element): 2 for 16-bit types, 4 for float32.
_TABLE: dict[tuple[KernelName, int, int], Tile] = {
    ("sweep", 90, 2): Tile(128, 128, 64, 8, 3),
    ("sweep", 90, 4): Tile(128, 64, 32, 8, 3),
    ("sweep", 80, 2): Tile(128, 128, 32, 8, 3),
    ("sweep", 80, 4): Tile(64, 64, 32, 8, 3),
    # measured: 8.12 ms, NVIDIA H200, torch 2.11.0, triton 3.6.0, 2026-11-27
    ("sweep_tma", 90, 2): Tile(128, 128, 64, 4, 3, blocks=2),
    ("sweep_tma", 90, 4): Tile(64, 64, 32, 8, 3),
    # measured: 11.2 ms, NVIDIA H200, torch 2.11.0, triton 3.6.0, 2026-11-27
    ("kept_tma", 90, 2): Tile(128, 128, 64, 4, 3, blocks=2, parts=4),
    ("kept_tma", 90, 4): Tile(64, 64, 32, 8, 3),
    ("gradient", 90, 2): Tile(128, 128, 64, 8, 3),
    ("gradient", 90, 4): Tile(128, 64, 32, 8, 3),
    ("gradient", 80, 2): Tile(128, 128, 32, 8, 3),
    ("gradient", 80, 4): Tile(64, 64, 32, 8, 3),
    # measured: 33.2 ms, NVIDIA H200, torch 2.11.0, triton 3.6.0, 2026-11-27
    ("gradient_tma", 90, 2): Tile(128, 256, 64, 8, 3),
    ("gradient_tma", 90, 4): Tile(64, 64, 32, 8, 3),
    # measured: 27.2 ms, NVIDIA H200, torch 2.11.0, triton 3.6.0, 2026-11-27
    ("sigmoid_tma", 90, 2): Tile(128, 128, 64, 4, 3, blocks=2, parts=2),
    ("sigmoid_tma", 90, 4): Tile(64, 64, 32, 8, 3),
    ("gradient_rows", 90, 2): Tile(64, 64, 64, 8, 2),
    ("gradient_rows", 90, 4): Tile(32, 32, 32, 8, 2),
    ("gradient_rows", 80, 2): Tile(64, 64, 32, 8, 2),
    ("gradient_rows", 80, 4): Tile(32, 32, 32, 8, 2),
    ("prefix_sweep", 90, 2): Tile(128, 128, 64, 8, 3),
    ("prefix_sweep", 90, 4): Tile(64, 64, 32, 8, 3),
    ("prefix_sweep", 80, 2): Tile(128, 64, 32, 8, 3),
    ("prefix_sweep", 80, 4): Tile(64, 64, 32, 8, 3),
    ("prefix_gradient", 90, 2): Tile(128, 64, 64, 8, 3),
    ("prefix_gradient", 90, 4): Tile(64, 64, 32, 8, 3),
    ("prefix_gradient", 80, 2): Tile(64, 64, 32, 8, 3),
    ("prefix_gradient", 80, 4): Tile(64, 64, 32, 8, 3),
    ("underflowed", 90, 2): Tile(64, 64, 64, 8, 2),
    ("underflowed", 90, 4): Tile(64, 64, 32, 8, 2),
    ("underflowed", 80, 2): Tile(64, 64, 32, 8, 2),
    ("underflowed", 80, 4): Tile(64, 64, 32, 8, 2),
    # measured: 0.0102 ms, NVIDIA H200, torch 2.11.0, triton 3.6.0, 2026-11-27
    ("softmax", 90, 2): Tile(16, 32, 128, 4, 3, blocks=8),
    # measured: 0.017 ms, NVIDIA H200, torch 2.11.0, triton 3.6.0, 2026-11-27
    ("softmax", 90, 4): Tile(16, 32, 64, 4, 4, blocks=8),
    ("softmax", 80, 2): Tile(16, 32, 128, 4, 3, blocks=8),
    ("softmax", 80, 4): Tile(16, 32, 64, 4, 3, blocks=8),
    ("softmax_middle", 90, 2): Tile(64, 64, 64, 4, 4, blocks=3),
    ("softmax_middle", 90, 4): Tile(64, 64, 32, 4, 3, blocks=3),
    ("softmax_middle", 80, 2): Tile(64, 64, 32, 4, 3, blocks=3),
    ("softmax_middle", 80, 4): Tile(64, 64, 32, 4, 3, blocks=3),
    ("softmax_large", 90, 2): Tile(128, 128, 64, 8, 3, blocks=2),
    ("softmax_large", 90, 4): Tile(128, 128, 32, 8, 3, blocks=2),
    ("softmax_large", 80, 2): Tile(128, 128, 32, 8, 3, blocks=2),
    ("softmax_large", 80, 4): Tile(64, 64, 32, 8, 3, blocks=2),
    ("softmax_tma", 90, 2): Tile(128, 256, 64, 8, 3),
    ("softmax_tma", 90, 4): Tile(128, 128, 32, 8, 3),
    ("softmax_partial", 90, 2): Tile(128, 128, 64, 8, 4),
    ("softmax_partial", 90, 4): Tile(128, 128, 32, 8, 3),
    ("row", 90, 4): Tile(1, 1024, 16, 4, 1),
    ("row", 80, 4): Tile(1, 1024, 16, 4, 1),
    ("long_row", 90, 4): Tile(1, 8192, 16, 16, 1),
    ("long_row", 80, 4): Tile(1, 8192, 16, 16, 1),
    # measured: 2.62 ms, NVIDIA H200, torch 2.11.0, triton 3.6.0, 2026-11-27
    ("topk", 90, 2): Tile(32, 128, 128, 4, 3, blocks=2),
    ("topk", 90, 4): Tile(32, 128, 32, 4, 4, blocks=2),
    ("topk", 80, 2): Tile(32, 128, 64, 4, 3, blocks=2),
    ("topk", 80, 4): Tile(32, 128, 32, 4, 3, blocks=2),
    # measured: 2.55 ms, NVIDIA H200, torch 2.11.0, triton 3.6.0, 2026-11-27
    ("topk_tma", 90, 2): Tile(32, 256, 64, 8, 5),
    ("topk_tma", 90, 4): Tile(32, 128, 32, 4, 4, blocks=2),
    ("topk_many", 90, 2): Tile(64, 128, 64, 8, 4),
    ("topk_many", 90, 4): Tile(64, 64, 32, 4, 4, blocks=2),
    ("topk_many", 80, 2): Tile(64, 128, 64, 8, 3),
    ("topk_many", 80, 4): Tile(64, 64, 32, 4, 3, blocks=2),
}

# Addresses that are not multiples of 16 bytes load one element at a time and need more registers.
_GENERIC: dict[tuple[KernelName, int, int], Tile] = {
    ("sweep", 90, 2): Tile(128, 64, 32, 8, 3),
    ("sweep", 90, 4): Tile(64, 64, 32, 8, 3),
    ("gradient", 90, 2): Tile(128, 64, 32, 8, 3),
    ("gradient", 80, 2): Tile(64, 64, 32, 8, 3),
    ("prefix_sweep", 90, 2): Tile(64, 64, 32, 8, 3),
    ("prefix_sweep", 90, 4): Tile(64, 32, 32, 8, 3),
    ("prefix_gradient", 90, 2): Tile(64, 64, 32, 8, 3),
    ("softmax", 90, 2): Tile(16, 32, 32, 4, 2),
    ("softmax", 90, 4): Tile(16, 32, 16, 4, 2),
    ("softmax", 80, 2): Tile(16, 32, 32, 4, 2),
    ("softmax", 80, 4): Tile(16, 32, 16, 4, 2),
    ("topk", 90, 2): Tile(16, 64, 32, 8, 2),
    ("topk", 90, 4): Tile(16, 64, 32, 8, 2),
    ("topk", 80, 2): Tile(16, 64, 32, 8, 2),
    ("topk", 80, 4): Tile(16, 64, 16, 8, 2),
}

# The interpreter's cost is per operation on a tile, for any size: few, large tiles.
_INTERPRETED = Tile(64, 128, 64, 4, 1)


def find_tile(
    kernel: KernelName, arch: int, element_bytes: int, d: int, *, aligned: bool = True
) -> Tile:
    """Return the tile for a kernel on an architecture (80, 90, ...; 0 means interpreted).

    A newer architecture uses the entries of the newest one below it.
    """
    if arch == 0:
        return replace(_INTERPRETED, BN=32) if kernel.startswith("topk") else _INTERPRETED
    known: Literal[80, 90] = 90 if arch >= 90 else 80
    size: Literal[2, 4] = 2 if element_bytes <= 2 else 4
    tile = _TABLE[kernel, known, size]
    if not aligned:
        tile = _GENERIC.get((kernel, known, size), tile)
    # A step longer than the embedding would multiply zeros; the product needs at least 16.
    step = max(16, min(tile.BK, 1 << (d - 1).bit_length()))
    return tile if step == tile.BK else replace(tile, BK=step)
