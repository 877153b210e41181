"""A folder of very many files, indexed once and again: what is read when nothing has changed.

The files are hard links to a few, so that a million need no disk space; the encoder is trivial, so
that the indexer is measured.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scaling.memory import StageUsage, measuring
from scaling.stages import Plan
from twinlens.index.ingest.builder import BuildOptions, build
from twinlens.index.ingest.corpus import Corpus, open_corpus
from twinlens.index.ingest.entries import CorpusEntry
from twinlens.index.writer import Writer, create_collection

LINKED = 20_000  # links per file: file systems allow 65,000
IN_FOLDER = 1000
DIM = 16


class ByteEncoder:
    """Embeds an image as a few of its bytes."""

    def preprocess(self, image: bytes) -> npt.NDArray[np.uint8]:
        """Return the first bytes as pixels."""
        return np.frombuffer(image[: 3 * DIM], np.uint8).reshape(1, DIM, 3)

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return unit rows."""
        rows = pixels[:, 0, :, 0].astype(np.float32) + 1
        unit: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit


def build_folder(plan: Plan) -> list[StageUsage]:
    """Index a folder of `plan.rows` files, then twice more without a change: by stamp, by bytes."""
    images = plan.place / "images"
    _lay_out(images, plan.rows)
    folder = plan.place / "of-files"
    create_collection(folder, dim=DIM)
    usages = []
    for name, checksum in (("first", False), ("again", False), ("again, --checksum", True)):
        read = itertools.count()
        with Writer(folder) as writer, measuring(f"build, {name}") as usage:
            options = BuildOptions(batch=256, workers=2, exif=False, checksum=checksum)
            progress = build(
                writer, _count_reads(open_corpus(images), read), ByteEncoder(), options
            )
        usage.told = {
            "files": progress.seen,
            "files read": next(read),
            "embedded": progress.embedded,
            "unchanged": progress.unchanged,
            "failed": progress.failed,
        }
        usages.append(usage)
    return usages


def _count_reads(corpus: Corpus, read: Iterator[int]) -> Corpus:
    """Return a corpus that counts the files that are read."""

    def entries() -> Iterator[CorpusEntry]:
        for entry in corpus.entries():
            yield replace(entry, read=partial(_read_counted, entry, read))

    return replace(corpus, entries=entries)


def _read_counted(entry: CorpusEntry, read: Iterator[int]) -> bytes:
    next(read)
    return entry.read()


def _lay_out(images: Path, count: int) -> None:
    """Create `count` links to a few files, which changed an hour ago."""
    rng = np.random.default_rng(1)
    images.mkdir()
    source = images / ".source"
    source.mkdir()
    for start in range(0, count, LINKED):
        origin = source / f"{start}.jpg"
        origin.write_bytes(rng.bytes(200))
        os.utime(origin, (time.time() - 3600,) * 2)
        for number in range(start, min(count, start + LINKED)):
            place = images / f"{number // IN_FOLDER:05}"
            if number % IN_FOLDER == 0:
                place.mkdir()
            os.link(origin, place / f"{number:08}.jpg")
