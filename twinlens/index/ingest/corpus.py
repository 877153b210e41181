"""Sources of items: an image folder, a glob, tar shards, a zip, a CSV or Parquet table.

A corpus yields entries in a stable order, each with an id that is the same on every run. Reading an
entry may fail, which fails only that entry.
"""

from __future__ import annotations

import functools
import glob
import json
import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from twinlens.errors import InputError
from twinlens.index.ingest.file_names import (
    IMAGE_SUFFIXES,
    count_unsupported,
    describe_unsupported,
    is_hidden,
    is_image,
    suffix_of,
)
from twinlens.index.ingest.tables import read_table, split_lines

PATH_COLUMNS = ("path", "file", "image", "filename", "filepath", "image_path")
TEXT_SUFFIXES = {".txt": "caption", ".cls": "label", ".caption": "caption"}
ZIP_TABLE = "index.jsonl"
_IN_TAR = re.compile(r"(.*\.tar)@(\d+)\+(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class CorpusEntry:
    """One item to index; `read` returns the bytes of its image."""

    id: str
    read: Callable[[], bytes]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """A source of entries. `count` is None if only reading all of it would tell.

    `unsupported` counts skipped images of unsupported formats by suffix.
    """

    name: str
    kind: str
    entries: Callable[[], Iterator[CorpusEntry]]
    count: int | None
    unsupported: Mapping[str, int] = field(default_factory=dict)


def open_corpus(
    source: str | Path, *, id_column: str | None = None, path_column: str | None = None
) -> Corpus:
    """Open the corpus at `source`, whatever its form."""
    text = str(source)
    path = Path(text).expanduser()
    table = path.suffix.lower() in {".csv", ".tsv", ".parquet", ".jsonl"}
    if (id_column or path_column) and not table:
        raise InputError(
            f"{text} is not a table; --id-column and --path-column are for CSV, JSONL and Parquet",
            field="id_column",
        )
    if path.is_dir():
        return _from_folder(path)
    if path.is_file():
        if table:
            return _from_table(path, id_column, path_column)
        if path.suffix.lower() == ".zip":
            return _from_zip(path)
        if path.suffix.lower() == ".tar":
            return _from_tars(path.parent, [path])
        return _from_images(path.parent, [path.name])
    if glob.has_magic(text):
        return _from_glob(path)
    raise InputError(f"{text} does not exist; give a folder, a glob, a tar, a zip or a table")


def read_path(path: str) -> bytes:
    """Return the bytes at an item's `path`: a file, or a member of a zip or a tar.

    Every failure is an `OSError`: the file has moved, or has changed since it was indexed.
    """
    inside = _IN_TAR.fullmatch(path)
    if inside and not Path(path).exists():
        with Path(inside[1]).open("rb") as handle:
            handle.seek(int(inside[2]))
            return handle.read(int(inside[3]))
    archive, sign, name = path.partition(".zip!")
    if sign and not Path(path).exists():
        try:
            with zipfile.ZipFile(archive + ".zip") as opened:
                return opened.read(name)
        except (KeyError, zipfile.BadZipFile) as error:
            raise OSError(f"{path}: {error}") from error
    return Path(path).read_bytes()


def _from_folder(folder: Path) -> Corpus:
    found = list(_walk(str(folder)))
    unsupported = count_unsupported(found)
    images = [name for name in found if suffix_of(name) in IMAGE_SUFFIXES]
    tars = [folder / name for name in found if suffix_of(name) == ".tar"]
    if tars and not images:
        return _from_tars(folder, tars)
    if not images:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        hint = (
            f"; it holds {describe_unsupported(unsupported)}: convert them" if unsupported else ""
        )
        raise InputError(f"{folder} holds no image ({kinds}) and no .tar{hint}")
    return replace(_from_images(folder, images), unsupported=unsupported)


def _walk(folder: str, prefix: str = "") -> Iterator[str]:
    """Yield the relative paths of the files below a folder, without hidden ones.

    Plain strings: a million `Path` objects would take half a minute before the first image.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:  # continuing would delete unreachable items as missing
        raise InputError(
            f"{folder} cannot be read: {error.strerror}; fix its permissions or move it"
        ) from None
    for entry in found:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, f"{prefix}{entry.name}/")
        elif entry.is_file():
            yield prefix + entry.name


def _from_glob(pattern: Path) -> Corpus:
    parts = pattern.parts
    fixed = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    root = Path(*parts[:fixed])
    files = sorted(path for path in root.glob(str(Path(*parts[fixed:]))) if path.is_file())
    if not files:
        raise InputError(f"{pattern} matches no file")
    if all(path.suffix.lower() == ".tar" for path in files):
        return _from_tars(root, files)
    return _from_images(root, [path.relative_to(root).as_posix() for path in files])


def _from_images(root: Path, names: list[str]) -> Corpus:
    base = str(root.resolve())  # once: resolving each path costs several system calls

    def entries() -> Iterator[CorpusEntry]:
        for name in names:
            path = f"{base}/{name}"
            yield CorpusEntry(name, functools.partial(_read, path), {"path": path})

    return Corpus(base, "images", entries, len(names))


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def _from_zip(path: Path) -> Corpus:
    with zipfile.ZipFile(path) as archive:
        visible = [name for name in archive.namelist() if not is_hidden(name)]
        rows = _zip_rows(archive)
    names, unsupported = sorted(filter(is_image, visible)), count_unsupported(visible)
    if not names:
        hint = (
            f"; it holds {describe_unsupported(unsupported)}: convert them" if unsupported else ""
        )
        raise InputError(f"{path} holds no image{hint}")

    def entries() -> Iterator[CorpusEntry]:
        # Closed when the last entry is released: entries are read after this loop has ended.
        archive = zipfile.ZipFile(path)  # thread-safe for reads
        for name in names:
            place = {"path": f"{path.resolve()}!{name}"}
            yield CorpusEntry(name, _reader(archive, name), {**rows.get(name, {}), **place})

    return Corpus(str(path.resolve()), "zip", entries, len(names), unsupported)


def _reader(archive: zipfile.ZipFile, name: str) -> Callable[[], bytes]:
    return lambda: archive.read(name)


def _zip_rows(archive: zipfile.ZipFile) -> dict[str, dict[str, Any]]:
    """Return the rows of `index.jsonl` by file name."""
    if ZIP_TABLE not in archive.namelist():
        return {}
    rows = {}
    for number, line in split_lines(archive.read(ZIP_TABLE)):
        try:
            row = json.loads(line)
            rows[row["file"]] = {key: value for key, value in row.items() if key != "file"}
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{archive.filename}: {ZIP_TABLE} line {number} is not an object with `file`"
            ) from None
    return rows


def _from_tars(root: Path, paths: list[Path]) -> Corpus:
    """Read WebDataset shards: members with the same key form one sample."""

    def entries() -> Iterator[CorpusEntry]:
        for path in paths:
            shard = path.relative_to(root).as_posix()
            for key, members in _samples(path):
                image = next((name for name in members if is_image(name)), None)
                if image is not None:
                    raw, offset = members[image]
                    place = {"path": f"{path.resolve()}@{offset}+{len(raw)}"}
                    sides = {name: content for name, (content, _) in members.items()}
                    yield CorpusEntry(
                        f"{shard}/{key}", _constant(raw), {**_sidecars(sides), **place}
                    )

    return Corpus(str(root.resolve()), "tar", entries, None)


def _constant(raw: bytes) -> Callable[[], bytes]:
    return lambda: raw


def _samples(path: Path) -> Iterator[tuple[str, dict[str, tuple[bytes, int]]]]:
    """Yield the samples of a shard in order: key, and (bytes, offset) by member name."""
    key, members = "", dict[str, tuple[bytes, int]]()
    try:
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
    except tarfile.TarError as error:
        raise InputError(f"{path} is not a readable tar: {error}") from error
    if members:
        yield key, members


def _sidecars(members: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the metadata in an image's sidecar files: .json, .txt, .cls."""
    metadata: dict[str, Any] = {}
    for name, raw in members.items():
        suffix = PurePosixPath(name).suffix.lower()
        if suffix == ".json":
            try:
                content = json.loads(raw)
            except ValueError:
                continue  # index the image without it
            metadata.update(content if isinstance(content, dict) else {"json": content})
        elif suffix in TEXT_SUFFIXES:
            metadata[TEXT_SUFFIXES[suffix]] = raw.decode(errors="replace").strip()
    return metadata


def _from_table(path: Path, id_column: str | None, path_column: str | None) -> Corpus:
    rows = list(read_table(path))
    columns = list(rows[0]) if rows else []
    chosen = path_column or next((name for name in PATH_COLUMNS if name in columns), None)
    for column in (chosen, id_column):
        if column is not None and column not in columns:
            raise InputError(f"{path} has no column {column!r}; it has {columns}")
    if chosen is None:
        raise InputError(
            f"{path} has no column named {', '.join(PATH_COLUMNS)}; name it with --path-column"
        )

    def entries() -> Iterator[CorpusEntry]:
        for row in rows:
            name = str(row[chosen])
            place = path.parent / name
            rest = {key: value for key, value in row.items() if key != chosen}
            yield CorpusEntry(
                name if not id_column else "" if row[id_column] is None else str(row[id_column]),
                place.read_bytes,
                {**rest, "path": str(place.resolve())},
            )

    return Corpus(str(path.resolve()), "table", entries, len(rows))
