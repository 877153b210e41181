"""Where Twinlens keeps what it can make or fetch again: `TWINLENS_CACHE`, else the user's cache.

What must stay true: deleting the folder loses time, never data.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def find_cache() -> Path:
    """Return the cache folder; it need not exist yet."""
    if chosen := os.environ.get("TWINLENS_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "twinlens"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "twinlens"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "twinlens"
