"""Decoded pictures kept in a folder, so that only the first run decodes.

One memory-mapped file of bytes and one of shapes, both named by a hash of the data, the side and
the decoder. What must stay true: a cached picture equals the decoded one byte for byte; the files
are complete or absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import PIL
from numpy.typing import NDArray

from twinlens.bundle.arrays import Pixels
from twinlens.errors import TwinlensError
from twinlens.training.data.records import DataSource, fingerprint

VERSION = 1


@dataclass(frozen=True)
class CachedPictures(Sequence[Pixels]):
    """Pictures in one file, one after another; `records` are those that could be decoded."""

    content: NDArray[np.uint8]
    starts: NDArray[np.int64]
    shapes: NDArray[np.int64]  # (n, 2): height and width
    records: NDArray[np.int64]
    bad: dict[int, str]

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pixels]: ...
    def __getitem__(self, index: int | slice) -> Pixels | list[Pixels]:
        """Return a picture, or several, without a copy."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        height, width = self.shapes[index].tolist()
        start = int(self.starts[index])
        return self.content[start : start + height * width * 3].reshape(height, width, 3)


def name_cache(folder: Path, source: DataSource, short: int) -> Path:
    """Return the common prefix of a cache's paths."""
    known = (VERSION, fingerprint(source.records), short, PIL.__version__)
    return folder / hashlib.sha256(repr(known).encode()).hexdigest()[:32]


def open_cache(name: Path) -> CachedPictures | None:
    """Return the pictures of a cache, if it is complete."""
    index, pixels = name.with_suffix(".npz"), name.with_suffix(".pixels")
    if not (index.is_file() and pixels.is_file()):
        return None
    with np.load(index, allow_pickle=False) as arrays:
        shapes, records = arrays["shapes"], arrays["records"]
        bad = dict(zip(arrays["bad"].tolist(), arrays["why"].tolist(), strict=True))
    sizes = shapes.prod(axis=1) * 3
    content = np.memmap(pixels, np.uint8, "r") if sizes.sum() else np.zeros(0, np.uint8)
    return CachedPictures(content, np.cumsum(sizes) - sizes, shapes, records, bad)


def write_cache(
    name: Path, decoded: Iterator[tuple[int, Pixels | None]], bad: Callable[[], dict[int, str]]
) -> None:
    """Write the pictures of all records, None where decoding failed; `bad` returns the reasons."""
    shapes, records = [], []
    beside = name.with_suffix(f".{os.getpid()}.part")
    try:
        name.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            for record, pixels in decoded:
                if pixels is not None:
                    file.write(np.ascontiguousarray(pixels).data)
                    shapes.append(pixels.shape[:2])
                    records.append(record)
        beside.replace(name.with_suffix(".pixels"))
        _write_index(name, beside, shapes, records, bad())
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise TwinlensError(
            f"cannot write the cache {name.parent}: {error.strerror}; free some space there, or"
            " give another folder: --set cache=DIR",
            code="cache_failed",
        ) from error


def _write_index(
    name: Path,
    beside: Path,
    shapes: list[tuple[int, ...]],
    records: list[int],
    bad: dict[int, str],
) -> None:
    with beside.open("wb") as file:
        np.savez(
            file,
            shapes=np.array(shapes, np.int64).reshape(-1, 2),
            records=np.array(records, np.int64),
            bad=np.array(sorted(bad), np.int64),
            why=np.array([bad[record] for record in sorted(bad)], np.str_),
        )
    beside.replace(name.with_suffix(".npz"))
