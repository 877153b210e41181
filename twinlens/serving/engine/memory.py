"""Memory of a long-lived process: freeze objects that stay, return freed memory to the system.

A full garbage collection visits every object: 50 ms on a server that has just loaded, during which
no request is answered. So the objects that exist when a server starts to listen are frozen. A model
and its threads refer to each other, so closing one needs a full collection; and the allocator keeps
memory that the runtime freed in many threads until it is trimmed. Without both, a server that swaps
bundles grows by one bundle each time.
"""

from __future__ import annotations

import ctypes
import gc
import sys


def freeze_objects() -> None:
    """Exclude all present objects from garbage collection."""
    gc.collect()
    gc.freeze()


def release_memory() -> None:
    """Collect all garbage and return free pages to the system where the C library can."""
    gc.unfreeze()
    freeze_objects()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # absent from musl
        if trim is not None:
            trim(0)
