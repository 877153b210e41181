"""Giving memory back to the system after a bundle was closed.

A model and its threads refer to each other, so the collector has to free them; and the allocator
keeps what the runtime freed from many threads until it is asked. Both take milliseconds, and
without them a server that swaps bundles grows by one each time.
"""

from __future__ import annotations

import ctypes
import gc
import sys


def release_memory() -> None:
    """Collect garbage and return free pages to the system where the C library can."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # absent from musl
        if trim is not None:
            trim(0)
