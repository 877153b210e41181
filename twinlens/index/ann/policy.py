"""Which kind of index a segment gets: by its size, the memory, and what is known of queries.

The limits were measured at 512 dimensions (`docs/index.md`); they scale with the bytes of a row.
"""

from __future__ import annotations

import os

EXACT_ROWS = 50_000  # up to here a GEMM over everything answers in a few milliseconds
FLAT_ROWS = 300_000  # up to here 8 bits a value do without k-means
MEMORY_SHARE = 0.5


def choose_kinds(rows: int, dim: int, *, text_sample: bool, memory: int | None = None) -> list[str]:
    """Return the kinds to try, best first; after the last one comes exact search."""
    budget = available_memory() * MEMORY_SHARE if memory is None else memory
    scaled = rows * dim / 512
    if scaled <= EXACT_ROWS:
        return []
    if rows * dim > budget:
        return ["ivf-rabitq", "ivf-pq"]
    if scaled <= FLAT_ROWS:
        return ["projected-sq8", "sq8"] if text_sample and dim > 128 else ["sq8"]
    return ["ivf-sq8", "sq8"]


def available_memory() -> int:
    """Return the bytes of physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
