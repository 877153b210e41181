"""Where Twinlens keeps files of its own: what it can make again, and what users made.

What must stay true: deleting the cache loses time, never data; nothing is removed from the data.
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


def find_data() -> Path:
    """Return the folder of what a user made and did not name a place for; it need not exist yet."""
    if chosen := os.environ.get("TWINLENS_DATA"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "twinlens"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "twinlens" / "data"
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "twinlens"
