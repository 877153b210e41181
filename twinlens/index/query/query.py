"""Query arithmetic: a weighted sum of texts, images and vectors as one embedding.

Each part is a unit row, so that weights mean the same for texts and images; the sum is normalised
again, and parts that cancel each other out are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from twinlens.errors import InputError
from twinlens.index.vectors.arrays import Floats, unit_rows

MAX_PARTS = 64
CANCELLED = 1e-3


class QueryEncoder(Protocol):
    """The methods of an encoder that queries use."""

    def embed_texts(
        self, texts: Sequence[str], /, *, input_type: str | None = None
    ) -> npt.NDArray[np.float32]:
        """Return unit rows (n, d) of texts of this purpose."""

    def embed_images(self, images: Sequence[Any], /) -> npt.NDArray[np.float32]:
        """Return unit rows (n, d)."""


@dataclass(frozen=True)
class QueryPart:
    """One term: exactly one of text, image (bytes or path) and vector; negative weights repel."""

    text: str | None = None
    image: bytes | Path | None = None
    vector: tuple[float, ...] | None = None
    weight: float = 1.0


def embed_query(parts: Sequence[QueryPart], encoder: QueryEncoder | None, dim: int) -> Floats:
    """Return the embedding (d,) of a weighted sum of parts."""
    if not 1 <= len(parts) <= MAX_PARTS:
        raise InputError(
            f"a query has {len(parts)} parts; give 1 to {MAX_PARTS}: text, image or vector",
            field="query",
        )
    total = np.zeros(dim, dtype=np.float32)
    for number, part in enumerate(parts):
        if not np.isfinite(part.weight):
            raise InputError(f"query[{number}]: weight {part.weight} is not finite", field="query")
        total += part.weight * _embed(part, encoder, dim, number)
    if float(np.linalg.norm(total)) < CANCELLED * sum(abs(part.weight) for part in parts):
        raise InputError("the parts of the query cancel each other out", field="query")
    return _unit(total, dim, "query")


def _embed(part: QueryPart, encoder: QueryEncoder | None, dim: int, number: int) -> Floats:
    given = [name for name in ("text", "image", "vector") if getattr(part, name) is not None]
    if len(given) != 1:
        raise InputError(
            f"query[{number}] has {given or 'nothing'}; give one of text, image and vector",
            field="query",
        )
    if part.vector is not None:
        return _unit(part.vector, dim, f"query[{number}]")
    if encoder is None:
        raise InputError(
            f"query[{number}] is a {given[0]}, and there is no bundle to embed it with",
            field="bundle",
        )
    if part.text is not None:
        return _unit(encoder.embed_texts([part.text], input_type="query")[0], dim, "text")
    return _unit(encoder.embed_images([part.image])[0], dim, "image")


def _unit(row: npt.ArrayLike, dim: int, field: str) -> Floats:
    first: Floats = unit_rows(row, dim, field)[0]
    return first
