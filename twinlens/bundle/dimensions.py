"""Shorter embeddings: which lengths a bundle allows, and how rows are truncated.

What must stay true: the encoder, the server and the command line all use this single rule.
"""

from __future__ import annotations

from twinlens.bundle.arrays import Rows
from twinlens.bundle.classes import normalise_rows
from twinlens.bundle.manifest import Manifest
from twinlens.errors import InputError


def check_dimensions(manifest: Manifest, dimensions: int | None) -> None:
    """Raise if the bundle does not offer this length; None means the full length."""
    full = manifest.embedding_dim
    if dimensions is None or dimensions == full:
        return
    if not 1 <= dimensions < full or not (
        manifest.any_dimension or dimensions in manifest.matryoshka_dims
    ):
        raise InputError(
            f"dimensions is {dimensions}; {manifest.name!r} offers {describe_lengths(manifest)}",
            field="dimensions",
        )


def describe_lengths(manifest: Manifest) -> str:
    """Return the lengths that a bundle offers, as text."""
    if manifest.any_dimension:
        return f"1 to {manifest.embedding_dim}"
    return ", ".join(map(str, list_lengths(manifest)))


def list_lengths(manifest: Manifest) -> list[int]:
    """Return the lengths that the bundle names, shortest first."""
    return sorted({*manifest.matryoshka_dims, manifest.embedding_dim})


def shorten(rows: Rows, dimensions: int | None) -> Rows:
    """Return the first `dimensions` of each row, normalised again; None keeps all."""
    if dimensions is None or dimensions >= rows.shape[1]:
        return rows
    return normalise_rows(rows[:, :dimensions])
