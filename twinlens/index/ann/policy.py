"""Chooses the kinds of index to try for a segment, by its size, the memory and known text queries.

The limits were measured at 512 dimensions (`docs/index.md`); they scale with the bytes of a row.
"""

from __future__ import annotations

import os

from twinlens.index.ann.kinds import KINDS, Workload

EXACT_ROWS = 50_000  # up to here a GEMM over all rows takes a few milliseconds
MEMORY_SHARE = 0.5


def choose_kinds(rows: int, dim: int, *, text_sample: bool, memory: int | None = None) -> list[str]:
    """Return the kinds to try, best first, of those that can be opened on this machine.

    If all fail, the segment is searched exactly.
    """
    budget = available_memory() * MEMORY_SHARE if memory is None else memory
    if rows * dim / 512 <= EXACT_ROWS:
        return []
    work = Workload(rows, dim, text_sample, budget)
    return [name for name, kind in KINDS.items() if kind.suits(work) and kind.obstacle() is None]


def available_memory() -> int:
    """Return the bytes of physical memory; 4 GiB where the system does not tell (Windows)."""
    if not hasattr(os, "sysconf"):
        return 4 << 30
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
