"""Twinlens: train an encoder, export it as a bundle, index with it, serve it.

The public interface is small; the names below import their modules when first used, so that
`import twinlens` is fast.

What must stay true: no library used here contacts anybody unasked. Some report their use unless a
variable says otherwise before they are imported, so it is set here, where every import begins.
OpenVINO has none of its own: `twinlens.bundle.engine.openvino_session` alone imports it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from twinlens.version import __version__

if TYPE_CHECKING:
    from twinlens.bundle.encoder import Encoder, open_bundle
    from twinlens.client import AsyncClient, Client
    from twinlens.index.collection import Collection
    from twinlens.index.stores.opening import open_collection

_SILENCE = {
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime connects to its maker some 20 s after its import
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
for _name, _value in _SILENCE.items():
    os.environ.setdefault(_name, _value)

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
    "open_collection": "twinlens.index.stores.opening",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'twinlens' has no attribute {name!r}; it has {__all__}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
