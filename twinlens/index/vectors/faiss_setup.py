"""Imports and configures FAISS: three of its defaults silently cost 2x to 10x.

No other module imports faiss. `load_faiss` refuses a build that does not behave as the index needs,
since defaults have changed between releases without notice.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twinlens.errors import MissingDependencyError

# From this many queries on, FAISS uses a GEMM instead of one pass over memory per query; a GEMM for
# one query takes twice as long as a pass. Older releases count queries (20 by default), 1.15 counts
# their values: queries times dimension (128000 by default).
GEMM_QUERIES = 4
GEMM_VALUES = GEMM_QUERIES * 512
CORE_TYPE = "OPENBLAS_CORETYPE"
AVX512_CORE = "SkylakeX"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Setup:
    """The FAISS configuration; shown by `twinlens index stats`."""

    version: str
    blas_threshold: int
    blas_core: str  # the kernels of the wheel's BLAS; "" if unknown
    gpus: int


@functools.cache
def load_faiss() -> Any:
    """Import FAISS, configure it and check that it complies."""
    forced = CORE_TYPE not in os.environ and has_avx512()
    if forced:
        os.environ[CORE_TYPE] = AVX512_CORE  # read when the library is loaded
    try:
        import faiss
    except ImportError:
        raise MissingDependencyError(
            "faiss is not installed; install it with `pip install 'twinlens[cpu]'`"
        ) from None
    finally:
        if forced:
            del os.environ[CORE_TYPE]  # child processes must not inherit it
    counts_values = int(faiss.cvar.distance_compute_blas_threshold) > 1000
    threshold = GEMM_VALUES if counts_values else GEMM_QUERIES
    faiss.cvar.distance_compute_blas_threshold = threshold
    _check(faiss, threshold)
    return faiss


def read_setup() -> Setup:
    """Return the FAISS configuration."""
    faiss = load_faiss()
    return Setup(
        str(faiss.__version__),
        int(faiss.cvar.distance_compute_blas_threshold),
        _bundled_core(),
        num_gpus(faiss),
    )


def num_gpus(faiss: Any) -> int:
    """Return the number of devices that this build of FAISS can use."""
    count = getattr(faiss, "get_num_gpus", None)
    return int(count()) if count else 0


def has_avx512(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the CPU has AVX-512: the wheel's old OpenBLAS misses it on newer CPUs."""
    if platform.machine() not in {"x86_64", "AMD64"} or not cpuinfo.exists():
        return False
    needed = {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}
    for line in cpuinfo.read_text().splitlines():
        if line.startswith("flags"):
            return needed <= set(line.split())
    return False


def _check(faiss: Any, threshold: int) -> None:
    """Check an exact and a filtered search on a small index."""
    if int(faiss.cvar.distance_compute_blas_threshold) != threshold:
        raise MissingDependencyError(f"faiss {faiss.__version__} ignores its BLAS threshold")
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((256, 16)).astype(np.float32)
    flat = faiss.IndexFlatIP(16)
    flat.add(rows)
    _, found = flat.search(rows[:8], 3)
    if not np.array_equal(found[:, 0], np.argmax(rows[:8] @ rows.T, axis=1)):
        raise MissingDependencyError(f"faiss {faiss.__version__} answers an exact search wrongly")
    allowed = rng.random(256) < 0.5
    bits = np.packbits(allowed, bitorder="little")
    selector = faiss.IDSelectorBitmap(bits)
    _, found = flat.search(rows[:8], 3, params=faiss.SearchParameters(sel=selector))
    if not allowed[found].all():
        raise MissingDependencyError(f"faiss {faiss.__version__} ignores its selector")


def _bundled_core() -> str:
    """Return the kernels that the OpenBLAS bundled with FAISS uses."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    paths = {line.split()[-1] for line in lines if "openblas" in line and "faiss" in line}
    for path in paths:
        ask = getattr(ctypes.CDLL(path), "openblas_get_corename", None)
        if ask is not None:
            ask.restype = ctypes.c_char_p
            return str(ask().decode())
    return ""
