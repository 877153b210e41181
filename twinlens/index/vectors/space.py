"""The space in which an index works: separate matrices map rows and queries into it.

Centring does not change inner-product order: q.(x - m) sorts rows as q.x does. The projection is
fitted to rows *and* queries: it minimises E (q.x - (A q).(B x))^2 in closed form, so that 128
dimensions keep what matters to queries of another modality. With Kq and Kx the second moments of
queries and of centred rows, Kq^1/2 Kx^1/2 = U S V', A = S^1/2 U' Kq^-1/2 and B = S^1/2 V' Kx^-1/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twinlens.index.vectors.arrays import Floats, as_float32, load_arrays

SPACE_NAME = "space.npz"
RIDGE = 1.0  # of the mean variance: few hundred queries hardly cover the rarest directions


@dataclass(frozen=True)
class Space:
    """`mean` (d,) is subtracted from rows; `of_queries` and `of_rows` (r, d) project, if set."""

    mean: Floats
    of_queries: Floats | None = None
    of_rows: Floats | None = None

    def map_rows(self, rows: npt.NDArray[Any]) -> Floats:
        """Return rows (n, d) in the space."""
        centred = as_float32(rows) - self.mean
        return as_float32(centred if self.of_rows is None else centred @ self.of_rows.T)

    def map_queries(self, queries: Floats) -> Floats:
        """Return queries (n, d) in the space."""
        return queries if self.of_queries is None else as_float32(queries @ self.of_queries.T)

    @property
    def dim(self) -> int:
        """The dimension of the space."""
        return len(self.mean) if self.of_rows is None else len(self.of_rows)

    def save(self, folder: Path) -> None:
        """Write the space beside its index."""
        arrays = {"mean": self.mean}
        if self.of_queries is not None and self.of_rows is not None:
            arrays |= {"of_queries": self.of_queries, "of_rows": self.of_rows}
        with (folder / SPACE_NAME).open("wb") as handle:
            np.savez(handle, allow_pickle=False, **arrays)

    @staticmethod
    def load(folder: Path) -> Space:
        """Read a space whose bytes were checked."""
        return Space(**load_arrays(folder / SPACE_NAME))


def identity_space(dim: int) -> Space:
    """Return the space that leaves rows and queries unchanged."""
    return Space(np.zeros(dim, dtype=np.float32))


def centred_space(sample: Floats) -> Space:
    """Return the space around the mean of a sample of rows."""
    return Space(as_float32(sample.mean(axis=0)))


def projected_space(sample: Floats, queries: Floats, dim: int) -> Space:
    """Return the `dim`-dimensional space that best keeps inner products of queries and rows."""
    mean = as_float32(sample.mean(axis=0))
    moment_queries = _moment(queries)
    moment_rows = _moment(sample - mean)
    root_queries, inverse_queries = _roots(moment_queries)
    root_rows, inverse_rows = _roots(moment_rows)
    left, strength, right = np.linalg.svd(root_queries @ root_rows)
    half = np.sqrt(strength[:dim])[:, None]
    return Space(
        mean,
        as_float32((half * left[:, :dim].T) @ inverse_queries),
        as_float32((half * right[:dim]) @ inverse_rows),
    )


def _moment(rows: Floats) -> npt.NDArray[np.float64]:
    """Return the second moment of rows, with a ridge."""
    wide = rows.astype(np.float64)
    moment: npt.NDArray[np.float64] = wide.T @ wide / len(wide)
    moment += RIDGE * np.trace(moment) / len(moment) * np.eye(len(moment))
    return moment


def _roots(
    moment: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the symmetric square root and its inverse."""
    values, vectors = np.linalg.eigh(moment)
    root = np.sqrt(np.maximum(values, 1e-12))
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T
