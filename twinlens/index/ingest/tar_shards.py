"""WebDataset shards: tar files in which members that share a key are one sample.

A shard that is cut or damaged costs itself alone: the samples before the damage are read, an entry
that fails stands for those behind it, and the next shard follows.
"""

from __future__ import annotations

import json
import logging
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from twinlens.index.ingest.entries import CorpusEntry, unreadable
from twinlens.index.ingest.file_names import is_image

TEXT_SUFFIXES = {".txt": "caption", ".cls": "label", ".caption": "caption"}

log = logging.getLogger(__name__)


def read_shards(root: Path, paths: list[Path]) -> Iterator[CorpusEntry]:
    """Yield the samples of all shards that have an image."""
    for path in paths:
        shard = path.relative_to(root).as_posix()
        try:
            yield from _read_shard(shard, path)
        except Exception as error:  # a damaged file may raise anything; the next shard is sound
            reason = f"{path} cannot be read to its end: {error}; replace it and build again"
            log.warning("%s", reason)
            yield unreadable(shard, reason, covers=f"{shard}/")


def _read_shard(shard: str, path: Path) -> Iterator[CorpusEntry]:
    for key, members in _samples(path):
        image = next((name for name in members if is_image(name)), None)
        if image is not None:
            raw, offset = members[image]
            place = {"path": f"{path.resolve()}@{offset}+{len(raw)}"}
            sides = {name: held for name, (held, _) in members.items()}
            yield CorpusEntry(f"{shard}/{key}", _constant(raw), {**_sidecars(sides), **place})


def _constant(raw: bytes) -> Callable[[], bytes]:
    return lambda: raw


def _samples(path: Path) -> Iterator[tuple[str, dict[str, tuple[bytes, int]]]]:
    """Yield the samples of a shard in order: key, and (bytes, offset) by member name."""
    key, members = "", dict[str, tuple[bytes, int]]()
    with tarfile.open(path) as archive:
        for member in archive:
            if not member.isfile():
                continue
            pure = PurePosixPath(member.name)
            own = str(pure.with_name(pure.name.split(".")[0]))
            if own != key and members:
                yield key, members
                members = {}
            key = own
            file = archive.extractfile(member)
            members[member.name] = (file.read() if file else b"", member.offset_data)
        _check_end(archive)
    if members:
        yield key, members


def _check_end(archive: tarfile.TarFile) -> None:
    """Refuse an end without its mark: at a broken header `tarfile` stops without a word."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"no end mark at byte {archive.offset}")


def _sidecars(members: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the metadata in an image's sidecar files: .json, .txt, .cls."""
    metadata: dict[str, Any] = {}
    for name, raw in members.items():
        suffix = PurePosixPath(name).suffix.lower()
        if suffix == ".json":
            try:
                held = json.loads(raw)
            except ValueError:
                continue  # index the image without it
            metadata.update(held if isinstance(held, dict) else {"json": held})
        elif suffix in TEXT_SUFFIXES:
            metadata[TEXT_SUFFIXES[suffix]] = raw.decode(errors="replace").strip()
    return metadata
