"""Twinlens: train an encoder, export it as a bundle, index with it, serve it.

The public interface is small; the names below import their modules when first used, so that
`import twinlens` is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinlens.version import __version__

if TYPE_CHECKING:
    from twinlens.bundle.encoder import Encoder, open_bundle
    from twinlens.client import AsyncClient, Client
    from twinlens.index.collection import Collection, open_collection

__all__ = [
    "AsyncClient",
    "Client",
    "Collection",
    "Encoder",
    "__version__",
    "open_bundle",
    "open_collection",
]

_HOME = {
    "AsyncClient": "twinlens.client",
    "Client": "twinlens.client",
    "Collection": "twinlens.index.collection",
    "Encoder": "twinlens.bundle.encoder",
    "open_bundle": "twinlens.bundle.encoder",
    "open_collection": "twinlens.index.collection",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'twinlens' has no attribute {name!r}; it has {__all__}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
