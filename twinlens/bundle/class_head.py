"""Classifiers inside a bundle: the head of a fine-tuned encoder, as a class bank.

They are the manifest's extension `classifiers`, one file each: {"files": {NAME: FILE}}. An older
version ignores them. What must stay true: rows are normalised and as wide as the embedding, so
scores come from the similarity node, as for any class bank.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twinlens.bundle.arrays import Rows
from twinlens.bundle.manifest import Manifest, check_path
from twinlens.errors import BundleError

EXTENSION = "classifiers"


@dataclass(frozen=True, eq=False)
class ClassHead:
    """A classifier of a bundle: its name, its classes and their unit rows (m, d)."""

    name: str
    classes: tuple[str, ...]
    rows: Rows


def write_head(folder: Path, head: ClassHead) -> dict[str, Any]:
    """Write a head to the folder of a bundle; return the extension that names it."""
    buffer = io.BytesIO()
    names = np.frombuffer(json.dumps(list(head.classes)).encode(), np.uint8)
    np.savez(buffer, rows=np.asarray(head.rows, np.float32), classes=names)
    file = f"{head.name}.npz"
    (folder / file).write_bytes(buffer.getvalue())
    return {"files": {head.name: file}}


def read_heads(folder: Path, manifest: Manifest) -> tuple[ClassHead, ...]:
    """Return the classifiers of a verified bundle."""
    found = manifest.extensions.get(EXTENSION, {}).get("files", {})
    if not isinstance(found, dict):
        raise BundleError(f"bundle.json: extensions.{EXTENSION}.files is {found!r}; not an object")
    listed = {entry.path for entry in manifest.files}
    return tuple(_read(folder, manifest, name, str(file), listed) for name, file in found.items())


def _read(folder: Path, manifest: Manifest, name: str, file: str, listed: set[str]) -> ClassHead:
    if check_path(file) not in listed:
        raise BundleError(f"{folder}: classifier {name!r} is in {file!r}, which `files` lacks")
    try:
        with np.load(folder / file, allow_pickle=False) as arrays:
            rows = np.asarray(arrays["rows"], np.float32)
            classes = tuple(map(str, json.loads(arrays["classes"].tobytes())))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{folder}: classifier file {file!r} cannot be read: {error}") from None
    if rows.shape != (len(classes), manifest.embedding_dim):
        raise BundleError(
            f"{folder}: classifier {name!r} has rows {rows.shape}, and {len(classes)} classes of"
            f" {manifest.embedding_dim} dimensions; export the bundle again"
        )
    return ClassHead(name, classes, rows)
