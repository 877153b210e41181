"""The array types of the index, how they are read, and the check of embeddings that enter it.

Embeddings that passed `unit_rows` are finite and of unit length; no later code checks them again.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from twinlens.errors import InputError

Floats = npt.NDArray[np.float32]  # embeddings and scores in memory
Halves = npt.NDArray[np.float16]  # embeddings on disk
Rids = npt.NDArray[np.int64]  # row identities, ascending within a segment
RowNumbers = npt.NDArray[np.int64]  # positions within one segment
Mask = npt.NDArray[np.bool_]  # one flag per row

MIN_NORM = 1e-6
UNIT_ERROR = 5e-7  # of a length in float32; what differs less from 1 need not be divided by it
_FLOAT = np.dtype(np.float32)
# NumPy parses a header as Python, which CPython 3.11 may refuse in two threads at once (a
# SystemError about the depth of recursion).
_PARSING = threading.Lock()


def load_array(source: Path | IO[bytes]) -> npt.NDArray[Any]:
    """Return the array of an .npy file."""
    with _PARSING:
        array: npt.NDArray[Any] = np.load(source, allow_pickle=False)
    return array


def load_arrays(source: Path | IO[bytes]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an .npz file by name."""
    with _PARSING, np.load(source, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def unit_rows(embeddings: npt.ArrayLike, dim: int, field: str = "embeddings") -> Floats:
    """Return `embeddings` as unit rows (n, dim) in float32; raise if that is impossible."""
    if type(embeddings) is np.ndarray and embeddings.dtype is _FLOAT and embeddings.shape == (dim,):
        # A lone query, in a third of the time that the general way below takes.
        length = math.sqrt(embeddings.dot(embeddings))
        if abs(length - 1.0) < UNIT_ERROR and embeddings.flags.c_contiguous:
            return embeddings.reshape(1, dim)
        if MIN_NORM < length < math.inf:
            unit: Floats = embeddings.reshape(1, dim) / length  # type: ignore[assignment]
            return unit
    try:
        rows = np.asarray(embeddings, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{field} is not an array of numbers: {error}", field=field) from None
    if rows.ndim == 1 and rows.size:
        rows = rows[None]
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise InputError(
            f"{field} has shape {rows.shape}; this collection holds embeddings of dimension {dim}",
            field=field,
        )
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(norms[:, 0]) & (norms[:, 0] > MIN_NORM)))
    if bad.size:
        raise InputError(
            f"{field}[{bad[0]}] is not finite or has length 0; an embedding must have a direction",
            field=field,
        )
    return np.ascontiguousarray(rows / norms, dtype=np.float32)


def as_float32(rows: npt.NDArray[Any]) -> Floats:
    """Return `rows` as contiguous float32, without a copy if they already are."""
    return np.ascontiguousarray(rows, dtype=np.float32)
