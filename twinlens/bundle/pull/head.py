"""The steps from a tower's output to an embedding: pooling, dense layers, normalisation.

What must stay true: they are described once, here; the graph and the plain path both follow it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Rows
from twinlens.errors import InputError

POOLINGS: Final = ("cls", "mean", "max", "last", "pooler_output")
ACTIVATIONS: Final = ("identity", "tanh", "relu", "sigmoid")
_LEAST = 1e-12


@dataclass(frozen=True)
class Dense:
    """A linear layer: `weight` (out, in), `bias` (out) or None, then an activation."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None = None
    activation: str = "identity"


@dataclass(frozen=True)
class TowerHead:
    """The graph's output to read, how its positions become one row, and the layers after that.

    `pooling` is "" if the output is already one row per item.
    """

    output: str
    pooling: str = ""
    layers: tuple[Dense, ...] = ()


def check_pooling(pooling: str) -> str:
    """Return the pooling if it is known."""
    if pooling and pooling not in POOLINGS:
        raise InputError(
            f"pooling {pooling!r} is unknown; choose from {', '.join(POOLINGS)}", field="pooling"
        )
    return pooling


def apply_head(head: TowerHead, output: NDArray[Any], mask: NDArray[Any] | None) -> Rows:
    """Return unit rows (n, d) in plain numpy; `mask` (n, length) marks the tokens of a text."""
    rows = np.asarray(output, np.float32)
    if head.pooling:
        rows = _pool(head.pooling, rows, mask)
    for layer in head.layers:
        rows = rows @ layer.weight.T
        rows = rows if layer.bias is None else rows + layer.bias
        rows = np.asarray(_activate(layer.activation, rows), np.float32)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, _LEAST), np.float32)


def _pool(pooling: str, rows: Rows, mask: NDArray[Any] | None) -> Rows:
    if rows.ndim == 4:  # a map of a convolutional tower
        return np.asarray(rows.mean(axis=(2, 3)), np.float32)
    if pooling == "cls":
        return rows[:, 0]
    seen = np.ones(rows.shape[:2], bool) if mask is None else mask.astype(bool)
    if pooling == "last":
        last = seen.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
        return np.asarray(rows[np.arange(len(rows)), last], np.float32)
    if pooling == "max":
        return np.asarray(np.where(seen[:, :, None], rows, -np.inf).max(axis=1), np.float32)
    weights = seen[:, :, None].astype(np.float32)
    return np.asarray((rows * weights).sum(axis=1) / weights.sum(axis=1), np.float32)


def _activate(name: str, rows: Rows) -> NDArray[Any]:
    if name == "tanh":
        return np.asarray(np.tanh(rows))
    if name == "relu":
        return np.maximum(rows, 0)
    return 1 / (1 + np.exp(-rows)) if name == "sigmoid" else rows
