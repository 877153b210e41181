"""The parity gate: ONNX Runtime's embeddings must equal torch's, or nothing is written.

torch computes the reference rows in one padded batch, with the model as its library wrote it; they
are compared in float64. The graph runs in batches of 1, 2 and 7, so that a dependence on other rows
of the batch is found too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from twinlens.errors import TwinlensError

EmbeddingRows = NDArray[np.float32]

PARITY: Final = 1e-6  # 1 - cosine
BATCHES: Final = (1, 2, 7)
_LENGTH_TOLERANCE = 1e-5


class ParityError(TwinlensError):
    """An exported graph does not compute what the model computes; no bundle is written."""

    code = "parity_failed"


def open_graph(path: Path, *, threads: int = 0) -> onnxruntime.InferenceSession:
    """Open a graph on the CPU; `threads` 0 means one thread per core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Waiting threads sleep: on a busy machine, spinning costs more than waking them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def check_parity(
    tower: str,
    path: Path,
    feed: Callable[[int, int], dict[str, NDArray[Any]]],
    reference: EmbeddingRows,
) -> float:
    """Return the largest 1 - cosine between the graph at `path` and `reference` (n, d).

    `feed(start, stop)` gives the graph's inputs for those rows. Raises `ParityError` over 1e-6.
    """
    session = open_graph(path)
    worst = 0.0
    for size in BATCHES:
        for start in range(0, len(reference), size):
            stop = min(start + size, len(reference))
            (rows,) = session.run(None, feed(start, stop))
            gap = measure_gap(rows, reference[start:stop])
            if not gap <= PARITY:  # NaN fails too
                raise ParityError(
                    f"the {tower} tower in ONNX Runtime {onnxruntime.__version__} differs from "
                    f"torch by 1 - cosine = {gap:.2e} in a batch of {stop - start}; at most "
                    f"{PARITY:.0e} is allowed, so no bundle was written"
                )
            worst = max(worst, gap)
    return worst


def measure_gap(rows: EmbeddingRows, reference: EmbeddingRows) -> float:
    """Return the largest 1 - cosine; NaN for another shape or rows not of unit length."""
    if rows.shape != reference.shape:
        return float("nan")
    ours, theirs = rows.astype(np.float64), reference.astype(np.float64)
    lengths = np.linalg.norm(ours, axis=1)
    if not np.abs(lengths - 1).max() <= _LENGTH_TOLERANCE:  # NaN fails too
        return float("nan")
    cosines = (ours * theirs).sum(1) / (lengths * np.linalg.norm(theirs, axis=1))
    return max(0.0, float((1 - cosines).max()))
