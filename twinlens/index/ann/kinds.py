"""The kinds of index, in one table: to add one, add a row.

Every kind proposes candidates that are then rescored by their full embeddings; so a kind is a FAISS
factory string, the space in which it works, and the two parameters that the tuner sets. A kind may
have 4-bit codes beside its FAISS index, which then serves searches with a filter only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from twinlens.errors import InputError, MissingDependencyError
from twinlens.index.vectors.rabitq_setup import rabitq_obstacle

FLAT_ROWS = 300_000  # of 512 dimensions: up to here a scan at 8 bits per value is fast enough
PROJECTED_DIM = 128
# Near enough to each other that the first which suffices costs little more than is needed.
PROBES = (
    *(1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 72, 80, 96, 112, 128),
    *(160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024),
)
# Candidates per answer: few for precise codes, many for coarse ones.
FINE = (1, 2, 3, 5, 10)
ROUGH = (2, 3, 5, 10, 20, 30, 50, 100)


@dataclass(frozen=True)
class Workload:
    """The properties of a segment that the choice of a kind depends on."""

    rows: int
    dim: int
    text_sample: bool  # whether a sample of text queries exists
    memory: float  # bytes for the codes

    @property
    def fits_memory(self) -> bool:
        """Whether codes of 8 bits per value fit."""
        return self.rows * self.dim <= self.memory

    @property
    def is_flat(self) -> bool:
        """Whether scanning all rows is fast enough; the limit scales with the bytes of a row."""
        return self.rows * self.dim / 512 <= FLAT_ROWS


@dataclass(frozen=True)
class IndexKind:
    """One way to propose candidates."""

    factory: Callable[[int, int], str]  # (rows, dim) to FAISS's factory string
    summary: str
    space: Literal["full", "centred", "projected"] = "full"
    param: Literal["", "nprobe", "efSearch"] = ""
    probes: tuple[int, ...] = (0,)  # values of the parameter, from cheap to thorough
    expansions: tuple[int, ...] = ROUGH
    bytes_per_row: Callable[[int], float] = lambda dim: dim
    on_gpu: bool = False  # whether FAISS has kernels for it
    has_rabitq: bool = False  # whether searches without a filter use 4-bit codes of rabitqlib
    suits: Callable[[Workload], bool] = lambda work: False  # whether `auto` tries it

    @property
    def is_graph(self) -> bool:
        """Whether rows are linked to each other: a row in the index makes its own search easier."""
        return self.param == "efSearch"

    def obstacle(self) -> str | None:
        """Return why indexes of this kind cannot be opened on this machine, or None."""
        return rabitq_obstacle() if self.has_rabitq else None


def _lists(rows: int) -> int:
    """Return the number of lists of an inverted file: about 4 sqrt(rows)."""
    most = max(16, min(65_536, rows // 40))  # k-means needs about 40 rows per list
    return min(most, 1 << int(math.log2(4 * math.sqrt(rows))))


# In the order in which `auto` tries suitable kinds.
KINDS: dict[str, IndexKind] = {
    "ivf-rabitq4": IndexKind(
        lambda rows, dim: f"IVF{_lists(rows)},SQ8",
        "the nearest of ~4 sqrt(n) lists, at 4 bits per value; at 8 under filters",
        space="centred",
        param="nprobe",
        probes=PROBES,
        expansions=FINE,
        bytes_per_row=lambda dim: max(64, dim) / 2 + 40,
        has_rabitq=True,
        suits=lambda work: work.rows * (max(64, work.dim) / 2 + 40) <= work.memory,
    ),
    "projected-sq8": IndexKind(
        lambda rows, dim: "SQ8",
        "all rows at 8 bits, projected to the 128 dimensions most relevant to queries",
        space="projected",
        expansions=(*ROUGH, 200, 400),  # filtered searches need more candidates with a projection
        bytes_per_row=lambda dim: min(dim, PROJECTED_DIM),
        suits=lambda work: (
            work.fits_memory and work.is_flat and work.text_sample and work.dim > PROJECTED_DIM
        ),
    ),
    "ivf-sq8": IndexKind(
        lambda rows, dim: f"IVF{_lists(rows)},SQ8",
        "the nearest of ~4 sqrt(n) lists, at 8 bits per value",
        space="centred",
        param="nprobe",
        probes=PROBES,
        expansions=FINE,
        on_gpu=True,
        suits=lambda work: work.fits_memory and not work.is_flat,
    ),
    "sq8": IndexKind(
        lambda rows, dim: "SQ8",
        "all rows at 8 bits per value",
        expansions=FINE,
        suits=lambda work: work.fits_memory,
    ),
    "ivf-pq": IndexKind(
        lambda rows, dim: f"IVF{_lists(rows)},PQ{_quarter(dim)}x4fs",
        "the nearest lists at 4 bits per 4 dimensions: for collections larger than memory",
        space="centred",
        param="nprobe",
        probes=PROBES,
        bytes_per_row=lambda dim: dim / 8,
        suits=lambda work: not work.fits_memory,
    ),
    "hnsw": IndexKind(
        lambda rows, dim: "HNSW32,Flat",
        "a graph: lowest latency, five times the build time and four times the memory",
        param="efSearch",
        probes=(20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024),
        # Scores are exact. Twice the answers are enough to break ties between equal rows as exact
        # search does; more candidates would widen the search itself.
        expansions=(2,),
        bytes_per_row=lambda dim: 4 * dim + 272,
    ),
}


def list_kinds() -> str:
    """Return the names of all kinds, for help texts and errors."""
    return ", ".join(["auto", "exact", *KINDS])


def find_kind(name: str) -> IndexKind:
    """Return a kind by name; the error for an unknown one lists all."""
    if name not in KINDS:
        raise InputError(f"kind {name!r} is unknown; known: {list_kinds()}", field="kind")
    return KINDS[name]


def find_obstacle(name: str) -> str | None:
    """Return why an index of this kind cannot be opened here, or None; old kinds are unknown."""
    if name not in KINDS:
        return f"this version does not know the kind {name!r}; `twinlens index compact` replaces it"
    return KINDS[name].obstacle()


def require_kind(name: str) -> None:
    """Raise unless indexes of this kind can be built here."""
    obstacle = find_kind(name).obstacle()
    if obstacle is not None:
        raise MissingDependencyError(f"an index of kind {name} cannot be built: {obstacle}")


def _quarter(dim: int) -> int:
    """Return the number of sub-quantisers: the largest divisor of `dim` up to a quarter of it."""
    return next(count for count in range(max(1, dim // 4), 0, -1) if dim % count == 0)
