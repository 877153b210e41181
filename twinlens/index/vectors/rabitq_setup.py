"""Imports rabitqlib, which is optional, and says why it cannot be used where it cannot.

No other module imports rabitqlib. Its x86 wheels are compiled for AVX2 and FMA: on an older CPU its
first instruction would end the process, so the CPU is asked before the library is loaded.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path
from typing import Any

from twinlens.errors import MissingDependencyError

INSTALL = "pip install 'twinlens[rabitq]'"


@functools.cache
def rabitq_obstacle() -> str | None:
    """Return why rabitqlib cannot be used on this machine, or None if it can."""
    if not runs_avx2():
        return "this CPU has no AVX2 and FMA, which rabitqlib needs"
    try:
        import rabitqlib
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "rabitqlib":
            return f"rabitqlib is not installed: {INSTALL}"
        return f"rabitqlib cannot be loaded: {error}"
    return None if hasattr(rabitqlib.IvfIndex, "add") else f"rabitqlib is too old: {INSTALL}"


def load_rabitqlib() -> Any:
    """Import rabitqlib; raise if it cannot be used here."""
    obstacle = rabitq_obstacle()
    if obstacle is not None:
        raise MissingDependencyError(obstacle)
    import rabitqlib

    return rabitqlib


def runs_avx2(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the CPU runs the code of an x86 wheel; other CPUs have wheels of their own."""
    if platform.machine() not in {"x86_64", "AMD64"} or not cpuinfo.exists():
        return True
    for line in cpuinfo.read_text().splitlines():
        if line.startswith("flags"):
            return {"avx2", "fma"} <= set(line.split())
    return False
