"""Writes a bundle atomically, and verifies that a bundle is exactly what was written.

What must stay true: a bundle folder is never incomplete under its own name, and every byte that an
encoder loads was hashed against the manifest first. The revision identifies embeddings: it changes
if and only if something changes that can change an embedding.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twinlens.bundle.graph import list_external_files
from twinlens.bundle.manifest import (
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    check_path,
    parse_manifest,
)
from twinlens.disk import sync
from twinlens.errors import BundleError, ConflictError

# These fields do not affect embeddings: after renaming or remeasuring an encoder, collections must
# still accept it.
_NOT_IN_REVISION = ("name", "provenance", "extensions", "variants", "files", "revision")


def write_bundle(
    out: Path, manifest: Manifest, fill: Callable[[Path], None], *, force: bool = False
) -> Manifest:
    """Write the bundle `out`: `fill` a folder beside it, hash its files, then rename it.

    Any failure, including Ctrl-C, leaves nothing behind. An existing bundle is replaced only with
    `force`.
    """
    if out.exists() and not force:
        raise ConflictError(
            f"{out} exists already; choose another name or overwrite it with --force"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.tmp-", dir=out.parent))
    try:
        fill(temporary)
        finished = seal_manifest(temporary, manifest)
        (temporary / MANIFEST_NAME).write_text(finished.to_json(), encoding="utf-8")
        temporary.chmod(0o755)
        _sync_tree(temporary)
        _publish(temporary, out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return finished


def seal_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Return `manifest` with the files of `folder`, their hashes and the resulting revision."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST_NAME)
    files = tuple(
        FileEntry(p.relative_to(folder).as_posix(), p.stat().st_size, hash_file(p)) for p in paths
    )
    sealed = dataclasses.replace(manifest, files=files)
    return dataclasses.replace(sealed, revision=compute_revision(sealed))


def compute_revision(manifest: Manifest) -> str:
    """Return the sha256 over the files' hashes and the manifest fields that affect embeddings."""
    fields = _list_choices(manifest)
    identity = {k: v for k, v in fields.items() if k not in _NOT_IN_REVISION}
    if manifest.required_extensions:
        identity["extensions"] = manifest.required_extensions
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    for entry in sorted(manifest.files, key=lambda entry: entry.path):
        digest.update(f"\n{entry.path} {entry.sha256}".encode())
    return digest.hexdigest()


def write_extensions(folder: Path, extensions: Mapping[str, Any]) -> Manifest:
    """Add or replace extensions of the bundle in `folder` and return its manifest.

    Only information, which is outside the revision: an export writes whatever affects embeddings.
    """
    manifest = read_manifest(folder)
    changed = dataclasses.replace(manifest, extensions={**manifest.extensions, **extensions})
    if compute_revision(changed) != manifest.revision:
        raise BundleError(
            f"{folder}: extensions {sorted(extensions)} would change the revision, and with it"
            " every collection that was made by this bundle; export a new bundle instead"
        )
    temporary = folder / f".{MANIFEST_NAME}.tmp"
    temporary.write_text(changed.to_json(), encoding="utf-8")
    with temporary.open("rb") as handle:
        os.fsync(handle.fileno())
    temporary.replace(folder / MANIFEST_NAME)
    return changed


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the bundle in `folder` without checking its other files."""
    path = folder / MANIFEST_NAME
    if not folder.exists():
        raise BundleError(f"bundle {str(folder)!r} does not exist", code="not_found")
    if not path.is_file():
        raise BundleError(f"{str(folder)!r} is not a bundle: it holds no {MANIFEST_NAME}")
    try:
        return parse_manifest(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise BundleError(f"{path} is not UTF-8 text") from None


def verify_bundle(folder: Path, *, hashes: bool = True) -> Manifest:
    """Return the manifest of `folder` after checking that no file has changed.

    With `hashes` off only names and sizes are checked: for callers that have verified the folder.
    """
    manifest = read_manifest(folder)
    for entry in manifest.files:
        _check_file(folder, entry, hashes)
    listed = {entry.path for entry in manifest.files}
    for path in _referenced(manifest):
        if check_path(path) not in listed:
            raise BundleError(
                f"{folder}: the manifest uses {path!r}, which its `files` do not list"
            )
        if path.endswith(".onnx"):
            _check_external(folder, path, listed)
    if manifest.revision != compute_revision(manifest):
        raise BundleError(
            f"{folder}/{MANIFEST_NAME}: revision {manifest.revision[:12]} does not follow from "
            "its content: "
            "the manifest was edited after the export; export the bundle again"
        )
    return manifest


def hash_file(path: Path) -> str:
    """Return the sha256 of the file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _list_choices(part: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults, nested ones likewise.

    Omitting defaults lets a later version add a field without changing the identity of old bundles.
    """
    choices: dict[str, Any] = {}
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if dataclasses.is_dataclass(value):
            choices[field.name] = _list_choices(value)
        elif value != field.default:
            choices[field.name] = value
    return choices


def _check_file(folder: Path, entry: FileEntry, hashes: bool) -> None:
    path = folder / entry.path
    if not path.is_file():
        raise BundleError(f"{folder}: file {entry.path!r} is missing; copy the bundle again")
    if folder.resolve() not in path.resolve().parents:
        raise BundleError(f"{folder}: file {entry.path!r} is a link that leaves the bundle")
    if path.stat().st_size != entry.bytes:
        raise BundleError(
            f"{folder}: file {entry.path!r} has {path.stat().st_size} bytes, the manifest says "
            f"{entry.bytes}; "
            "copy the bundle again"
        )
    if hashes and hash_file(path) != entry.sha256:
        raise BundleError(
            f"{folder}: the sha256 of file {entry.path!r} is not the manifest's: it was changed "
            "or damaged; "
            "copy the bundle again"
        )


def _check_external(folder: Path, path: str, listed: set[str]) -> None:
    """Raise if a graph's weights are outside the bundle or in a file that was not hashed."""
    for location in list_external_files(folder / path):
        inside = (Path(path).parent / location).as_posix()
        if check_path(location) and check_path(inside) not in listed:
            raise BundleError(
                f"{folder}: graph {path!r} reads weights from {location!r}, which the manifest "
                "does not list"
            )


def _referenced(manifest: Manifest) -> list[str]:
    """Return every file that a field of the manifest names."""
    paths = [manifest.similarity.file, *(variant.file for variant in manifest.variants)]
    if manifest.image:
        paths.append(manifest.image.file)
    if manifest.text:
        paths += [manifest.text.file, manifest.text.tokenizer]
    if manifest.attention:
        paths.append(manifest.attention.file)
    return list(dict.fromkeys(paths))


def _sync_tree(folder: Path) -> None:
    """Flush every file and folder, so that the rename is not durable before the content."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def _publish(temporary: Path, out: Path) -> None:
    """Rename the finished folder to its name; move an existing bundle aside first."""
    if not out.exists():
        temporary.rename(out)
        return
    backup = Path(tempfile.mkdtemp(prefix=f".{out.name}.old-", dir=out.parent))
    out.rename(backup / "bundle")
    try:
        temporary.rename(out)
    except BaseException:
        (backup / "bundle").rename(out)
        raise
    finally:
        shutil.rmtree(backup, ignore_errors=True)
