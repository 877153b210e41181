"""Shorter embeddings: which lengths a bundle allows, and how rows are cut.

What must stay true: this is the one rule; the encoder, the server and the command line all use it.
"""

from __future__ import annotations

from twinlens.bundle.classes import Rows, normalise_rows
from twinlens.bundle.manifest import Manifest
from twinlens.errors import InputError


def check_dimensions(manifest: Manifest, dimensions: int | None) -> None:
    """Refuse a length that this bundle was not trained to be cut to; None means all."""
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
    """Return the lengths that a bundle offers, for people."""
    if manifest.any_dimension:
        return f"1 to {manifest.embedding_dim}"
    return ", ".join(map(str, list_lengths(manifest)))


def list_lengths(manifest: Manifest) -> list[int]:
    """Return the lengths that are named by the bundle, shortest first."""
    return sorted({*manifest.matryoshka_dims, manifest.embedding_dim})


def shorten(rows: Rows, dimensions: int | None) -> Rows:
    """Return the first `dimensions` of each row, normalised again; None keeps all."""
    if dimensions is None or dimensions >= rows.shape[1]:
        return rows
    return normalise_rows(rows[:, :dimensions])
