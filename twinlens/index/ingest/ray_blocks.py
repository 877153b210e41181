"""The pool on Ray: its size, and the work of an actor: a block of entries in, embeddings out.

A block holds what `decode_entry` needs, and no code. What must stay true: an actor imports neither
Ray nor the catalog, and an entry fails with the words of a local build.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import orjson

from twinlens.errors import InputError
from twinlens.index.ingest.corpus import read_path
from twinlens.index.ingest.entries import CorpusEntry
from twinlens.index.ingest.intake import Decoded
from twinlens.index.ingest.reading import Describe, ImageEncoder, ReadingPlan, decode_entry

OpenEncoder = Callable[[int], ImageEncoder]  # the number of threads -> an encoder, in a worker
REPEATED = 0.01  # of the corpus, when a driver dies; queued blocks may come to as much again
ANSWERED_BLOCKS = 3  # at most: fetched ahead, being sorted, and not yet committed
BLOCK_BATCHES = 8  # at most, of a block


@dataclass(frozen=True)
class PoolSize:
    """How many actors there may be, and what one of them takes."""

    most: int
    cpus: float
    gpus: float
    threads: int


def choose_pool(total: dict[str, float], free: dict[str, float]) -> PoolSize:
    """Return the pool for a cluster with these resources; refuse one that could never start."""
    cpus, gpus = int(total.get("CPU", 0)), int(total.get("GPU", 0))
    kind = "GPU" if gpus else "CPU"
    if free.get(kind, 0) < 1 or (gpus and free.get("CPU", 0) < 1):
        raise InputError(
            f"the Ray cluster has no free {kind} ({free.get(kind, 0):g} of {total.get(kind, 0):g});"
            " wait for its other jobs, or add nodes",
            field="address",
        )
    if not gpus:
        return PoolSize(cpus, 1, 0, 1)
    share = max(1, cpus // gpus)
    return PoolSize(min(gpus, cpus), share, 1, share)


def choose_block(total: int | None, actors: int, batch: int) -> int:
    """Return how many entries a block holds: one batch, or several of a large corpus.

    Each block costs Ray the same, whatever it holds; those that a driver loses when it dies are
    repeated, and are kept to about 1 % of the corpus.
    """
    lost = actors + ANSWERED_BLOCKS
    return max(batch, min(BLOCK_BATCHES * batch, int((total or 0) * REPEATED / lost)))


def write_block(
    entries: Mapping[int, CorpusEntry], known: Mapping[int, str], raw: Mapping[int, bytes]
) -> Any:
    """Return the table that a worker gets: what `decode_entry` needs, and no code."""
    import pyarrow

    ids = [os.fsencode(one.id) for one in entries.values()]
    files = [None if one.file is None else os.fsencode(one.file) for one in entries.values()]
    marks = [one.mark for one in entries.values()]
    return pyarrow.table(
        {
            "number": pyarrow.array(list(entries), pyarrow.int64()),
            "id": pyarrow.array(ids, pyarrow.binary()),
            "file": pyarrow.array(files, pyarrow.binary()),
            "mark": marks,
            "raw": pyarrow.array([raw.get(n) for n in entries], pyarrow.large_binary()),
            "metadata": [orjson.dumps(dict(one.metadata), default=str) for one in entries.values()],
            "version": [one.version for one in entries.values()],
            "known": [known[number] for number in entries],
        }
    )


def open_in_worker(folder: str, precision: str, device: str, threads: int) -> ImageEncoder:
    """Open a bundle in a worker, by a path that every node has."""
    from twinlens.bundle.encoder import open_bundle

    return open_bundle(folder, precision=precision, device=device, threads=threads)


class BlockEncoder:
    """An actor of the pool: reads, decodes and encodes the entries of a block."""

    def __init__(
        self,
        open_encoder: OpenEncoder,
        threads: int,
        describe: Describe,
        options: str,
        checksum: bool,
        batch: int,
    ) -> None:
        self._batch = batch
        self._reading = ReadingPlan(open_encoder(threads), describe, options, checksum)
        self._decoding = ThreadPoolExecutor(threads)

    def __call__(self, block: Any) -> Any:
        """Return what became of each entry, and the rows of those that were embedded."""
        import pyarrow

        told: list[bytes] = []
        rows: list[bytes] = []
        waiting = self._decoding.map(self._decode, block.to_pylist())
        while batch := list(itertools.islice(waiting, self._batch)):  # the next ones are decoded
            told += map(_write_told, batch)
            rows += self._encode(batch)
        return pyarrow.table(
            {
                "number": block["number"],
                "told": pyarrow.array(told, pyarrow.binary()),
                "row": pyarrow.array(rows, pyarrow.binary()),
            }
        )

    def _encode(self, batch: list[Decoded]) -> list[bytes]:
        pixels = [one.pixels for one in batch if one.pixels is not None]
        rows = iter(self._reading.encoder.encode_pixels(np.stack(pixels)) if pixels else ())
        return [
            next(rows).astype(np.float32).tobytes() if one.pixels is not None else b""
            for one in batch
        ]

    def _decode(self, row: dict[str, Any]) -> Decoded:
        file = None if row["file"] is None else os.fsdecode(row["file"])
        metadata = orjson.loads(row["metadata"])
        path = metadata["path"] if row["mark"] else file or ""
        read = partial(read_path, path) if row["raw"] is None else partial(bytes, row["raw"])
        entry = CorpusEntry(
            os.fsdecode(row["id"]),
            read,
            metadata,
            file=file,
            version=row["version"],
            mark=row["mark"],
        )
        return decode_entry(entry, row["known"], self._reading)


def _write_told(one: Decoded) -> bytes:
    """Return the outcome of an entry, without its pixels and its embedding."""
    told = {
        "version": one.version,
        "is_unchanged": one.is_unchanged,
        "failure": one.failure.encode("utf-8", "backslashreplace").decode(),
        "is_restamped": one.is_restamped,
        "is_unread": one.is_unread,
        "metadata": dict(one.entry.metadata),
    }
    return orjson.dumps(told, default=str)
