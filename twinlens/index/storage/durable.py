"""Folders that survive a crash: written under another name, flushed, hashed, then renamed.

A published folder is immutable: it is never written to again, so readers may map its files.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twinlens.disk import sync
from twinlens.errors import CollectionError, InputError

PENDING = "tmp-"
NETWORK_FILESYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "afs"})


@dataclass(frozen=True)
class FileRecord:
    """The catalog's record of a file: enough to detect any change."""

    bytes: int
    sha256: str


def fresh_name(kind: str) -> str:
    """Return a unique name that sorts by time: `seg-0192f3a1c2d4-9f3c11`."""
    return f"{kind}-{time.time_ns() // 1000:014x}-{secrets.token_hex(4)}"


def hash_file(path: Path) -> FileRecord:
    """Return size and sha256 of a file."""
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256")
        return FileRecord(handle.tell(), digest.hexdigest())


def check_sizes(folder: Path, files: dict[str, FileRecord]) -> None:
    """Raise if a file of a folder is missing or truncated: cheap enough for every opening."""
    for name, record in files.items():
        try:
            size = (folder / name).stat().st_size
        except FileNotFoundError:
            raise CollectionError(f"{folder / name} is missing") from None
        if size != record.bytes:
            raise CollectionError(
                f"{folder / name} has {size} bytes; {record.bytes} were published: it is damaged"
            )


def check_hashes(folder: Path, files: dict[str, FileRecord]) -> None:
    """Raise if any byte of a folder differs from what was published."""
    check_sizes(folder, files)
    for name, record in files.items():
        try:
            found = hash_file(folder / name).sha256
        except OSError as error:
            raise CollectionError(f"{folder / name} cannot be read: {error}") from error
        if found != record.sha256:
            raise CollectionError(
                f"{folder / name} is damaged: its sha256 is not the published one"
            )


def publish_folder(root: Path, name: str, fill: Callable[[Path], None]) -> dict[str, FileRecord]:
    """Let `fill` write into a new folder, flush it to disk and rename it to `root/name`."""
    pending = root / (PENDING + name)
    pending.mkdir()
    try:
        fill(pending)
        files = {path.name: hash_file(path) for path in sorted(pending.iterdir())}
        for path in pending.iterdir():
            sync(path)
        sync(pending)
        pending.rename(root / name)
    except BaseException:
        shutil.rmtree(pending, ignore_errors=True)
        raise
    sync(root)
    return files


def link_folder(origin: Path, target: Path, *, link: bool = True) -> tuple[int, int]:
    """Make a published folder appear at `target` too; return how many files were linked, copied.

    Files are hard links where the file system allows, since a published folder never changes.
    """
    partial = target.with_name(f"{PENDING}{target.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    names = sorted(path.name for path in origin.iterdir())
    linked = sum(link and _link(origin / name, partial / name) for name in names)
    for name in names:
        if not (partial / name).exists():
            shutil.copyfile(origin / name, partial / name)
            sync(partial / name)
    sync(partial)
    partial.rename(target)
    return linked, len(names) - linked


def _link(origin: Path, target: Path) -> bool:
    try:
        os.link(origin, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        return False
    return True


def refuse_network(folder: Path, mounts: Path = Path("/proc/mounts")) -> None:
    """Raise for a folder on a network file system: SQLite's locks are unreliable there."""
    if not mounts.exists():
        return
    place = folder.resolve()
    best, kind = Path("/"), ""
    for line in mounts.read_text(errors="replace").splitlines():
        _, mount, filesystem = line.split()[:3]
        point = Path(mount.replace("\\040", " "))
        if place.is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, kind = point, filesystem
    if kind in NETWORK_FILESYSTEMS:
        raise InputError(
            f"{folder} is on {kind}, where file locks are unreliable; keep a collection that is"
            " written to on a local disk (a copy of it may be read anywhere)"
        )
