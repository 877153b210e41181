"""Memory of a long-lived process: what stays is set aside, what was closed goes back to the system.

The collector's full pass looks at every object there is: 50 ms of a server that has just loaded,
and nobody is answered meanwhile. What is there when a server begins to listen is set aside instead.
A model and its threads refer to each other, so when one is closed the collector has to look at all
of it again; and the allocator keeps what the runtime freed from many threads until it is asked.
Without both a server that swaps bundles grows by one each time.
"""

from __future__ import annotations

import ctypes
import gc
import sys


def set_aside() -> None:
    """Have the collector pass over all that is there by now."""
    gc.collect()
    gc.freeze()


def release_memory() -> None:
    """Collect garbage everywhere and return free pages to the system where the C library can."""
    gc.unfreeze()
    set_aside()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # absent from musl
        if trim is not None:
            trim(0)
