"""Where an encoder came from, in facts that can be verified: file hashes and code versions."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any, Final

from twinlens.bundle.store import hash_file
from twinlens.version import __version__

_PACKAGES: Final = ("torch", "open_clip_torch", "timm", "onnx", "onnxscript", "onnxruntime")


def describe_versions() -> dict[str, str]:
    """Return the versions of the code that made a bundle."""
    found = {"twinlens": __version__}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # onnxruntime is onnxruntime-gpu on CUDA machines; the others are optional
    return found


def describe_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's file name, size and sha256; without its folder."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": hash_file(path)}
