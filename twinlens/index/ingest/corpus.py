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
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twinlens.bundle.image.image_source import IMAGE_SUFFIXES
from twinlens.bundle.image.video import VIDEO_SUFFIXES
from twinlens.errors import InputError
from twinlens.index.ingest.entries import CorpusEntry, unreadable
from twinlens.index.ingest.file_list import FileList
from twinlens.index.ingest.file_names import (
    UNSUPPORTED_SUFFIXES,
    count_unsupported,
    describe_unsupported,
    is_hidden,
    is_image,
    is_video,
    suffix_of,
)
from twinlens.index.ingest.remote_files import is_remote, list_files, read_url
from twinlens.index.ingest.tables import BadRow, read_table, split_lines
from twinlens.index.ingest.tar_shards import read_shards
from twinlens.index.ingest.videos import read_video_frame, split_frame

PATH_COLUMNS = ("path", "file", "image", "filename", "filepath", "image_path")
ZIP_TABLE = "index.jsonl"
_IN_TAR = re.compile(r"(.*\.tar)@(\d+)\+(\d+)", re.IGNORECASE)


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
    if is_remote(text):
        return _from_url(text)
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
        return pick_images(path.parent, [path.name])
    if glob.has_magic(text):
        return _from_glob(path)
    raise InputError(f"{text} does not exist; give a folder, a glob, a tar, a zip or a table")


def read_path(path: str) -> bytes:
    """Return the bytes at an item's `path`: a file, a member of a zip or a tar, or a frame.

    Every failure is an `OSError`: the file has moved, or has changed since it was indexed.
    """
    if is_remote(path):
        return read_url(path)
    inside = _IN_TAR.fullmatch(path)
    if inside and not Path(path).exists():
        with Path(inside[1]).open("rb") as handle:
            handle.seek(int(inside[2]))
            return handle.read(int(inside[3]))
    if split_frame(path) is not None and not Path(path).exists():
        return read_video_frame(path)
    archive, sign, name = path.partition(".zip!")
    if sign and not Path(path).exists():
        try:
            with zipfile.ZipFile(archive + ".zip") as opened:
                return opened.read(name)
        except (KeyError, zipfile.BadZipFile) as error:
            raise OSError(f"{path}: {error}") from error
    return Path(path).read_bytes()


def _from_folder(folder: Path) -> Corpus:
    images, tars, others = FileList(), [], Counter[str]()
    for name in walk_files(str(folder)):
        suffix = suffix_of(name)
        if suffix in IMAGE_SUFFIXES or suffix in VIDEO_SUFFIXES:
            images.add(name)
        elif suffix == ".tar":
            tars.append(folder / name)
        else:
            others[suffix] += 1
    unsupported = {suffix: others[suffix] for suffix in others if suffix in UNSUPPORTED_SUFFIXES}
    if tars and not images:
        return _from_tars(folder, tars)
    if not images:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        hint = (
            f"; it holds {describe_unsupported(unsupported)}: convert them" if unsupported else ""
        )
        raise InputError(f"{folder} holds no image ({kinds}), no video and no .tar{hint}")
    return replace(pick_images(folder, images), unsupported=unsupported)


def _from_url(url: str) -> Corpus:
    """Read the images below an address of object storage."""
    files = list(list_files(url))
    images = [one for one in files if is_image(one.name)]
    if not images:
        raise InputError(
            f"{url} holds no image; give a folder of images: tars, zips, tables and videos are read"
            " from this machine alone"
        )

    def entries() -> Iterator[CorpusEntry]:
        for one in images:
            read = functools.partial(read_url, one.url)
            yield CorpusEntry(one.name, read, {"path": one.url}, mark=one.mark)

    unsupported = count_unsupported([one.name for one in files])
    return Corpus(url.rstrip("/"), "images", entries, len(images), unsupported)


def walk_files(folder: str, prefix: str = "") -> Iterator[str]:
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
            yield from walk_files(entry.path, f"{prefix}{entry.name}/")
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
    return pick_images(root, [path.relative_to(root).as_posix() for path in files])


def pick_images(root: Path, names: list[str] | FileList) -> Corpus:
    """Return the corpus of these files below a folder."""
    base = str(root.resolve())  # once: resolving each path costs several system calls

    def entries() -> Iterator[CorpusEntry]:
        for name in names:
            path = f"{base}/{name}"
            yield CorpusEntry(name, functools.partial(_read, path), {"path": path}, file=path)

    has_video = any(map(is_video, names))  # a video has any number of frames
    return Corpus(base, "images", entries, None if has_video else len(names))


def _read(path: str) -> bytes:
    return Path(path).read_bytes()


def _from_zip(path: Path) -> Corpus:
    try:
        with zipfile.ZipFile(path) as archive:
            visible = [name for name in archive.namelist() if not is_hidden(name)]
            rows = _zip_rows(archive)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is not a readable zip: {error}; replace it") from None
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
    return Corpus(str(root.resolve()), "tar", lambda: read_shards(root, paths), None)


def _from_table(path: Path, id_column: str | None, path_column: str | None) -> Corpus:
    rows = read_table(path)
    columns = list(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row))
    bad = next((row for row in rows if isinstance(row, BadRow)), None)
    if bad and not columns:
        raise InputError(f"{path} {bad.where}: {bad.reason}")
    chosen = path_column or next((name for name in PATH_COLUMNS if name in columns), None)
    for column in (chosen, id_column):
        if column is not None and column not in columns:
            raise InputError(f"{path} has no column {column!r}; it has {columns}")
    if chosen is None:
        raise InputError(
            f"{path} has no column named {', '.join(PATH_COLUMNS)}; name it with --path-column"
        )

    def entries() -> Iterator[CorpusEntry]:
        for number, row in enumerate(rows, 1):
            if isinstance(row, BadRow):  # whose row it was is not known: any id may be its own
                reason = f"{path} {row.where}: {row.reason}; correct it, or remove the row"
                yield unreadable(f"{path.name} {row.where}", reason, covers="")
            else:
                yield _row_entry(path, number, row, id_column, chosen)

    return Corpus(str(path.resolve()), "table", entries, len(rows))


def _row_entry(
    path: Path, number: int, row: dict[str, Any], id_column: str | None, path_column: str
) -> CorpusEntry:
    name = row.get(path_column)
    given = None if id_column is None else row.get(id_column)
    if name is None or name == "":
        reason = f"{path} row {number} has no {path_column!r}: give the path of its image"
        if given is None:
            return unreadable(f"{path.name} row {number}", reason, covers="")
        return unreadable(str(given), reason)
    place = path.parent / str(name)
    rest = {key: value for key, value in row.items() if key != path_column}
    own = str(name) if id_column is None else "" if given is None else str(given)
    full = str(place.resolve())
    return CorpusEntry(own, place.read_bytes, {**rest, "path": full}, file=full)
