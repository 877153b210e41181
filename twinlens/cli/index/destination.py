"""The collection that a build or an import writes to: which bundle it wants, and its creation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twinlens.bundle.encoder import Encoder


def bundle_for(folder: Path, bundle: str | None) -> str:
    """Return the named bundle, else the one that the collection was built with, else builtin."""
    from twinlens.index.storage.catalog import Catalog
    from twinlens.index.storage.database import CATALOG_NAME

    if bundle is not None or not (folder / CATALOG_NAME).exists():
        return bundle or "builtin"
    catalog = Catalog(folder)
    source = catalog.head().bundle_source
    catalog.close()
    return source or "builtin"


def ensure_collection(folder: Path, encoder: Encoder) -> None:
    """Create the collection for the encoder's embeddings, unless it exists."""
    from twinlens.index.storage.database import CATALOG_NAME
    from twinlens.index.writer import create_collection

    if (folder / CATALOG_NAME).exists():
        return
    source = str(encoder.folder.resolve())
    create_collection(
        folder,
        dim=encoder.embedding_dim,
        bundle_name=encoder.name,
        bundle_revision=encoder.revision,
        bundle_source="builtin" if _is_builtin(encoder) else source,
    )


def _is_builtin(encoder: Encoder) -> bool:
    from twinlens.bundle.encoder import BUILTIN, find_bundle

    return encoder.folder.resolve() == find_bundle(BUILTIN).resolve()
