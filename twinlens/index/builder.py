"""The offline indexer: a corpus becomes a collection, and running it again makes up the difference.

An item's version is the hash of its bytes and metadata, so a second run embeds only what is new or
changed and deletes what is gone. Rows are committed a batch at a time: killed anywhere, the next
run repeats one batch. Decoding runs in threads beside the encoder: no process can be orphaned.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import orjson

from twinlens.errors import InputError, TwinlensError
from twinlens.index.corpus import Corpus, Entry
from twinlens.index.durable import sync
from twinlens.index.writer import Writer, check_id

FAILURES_NAME = "failures.jsonl"
CORPUS_NOTE = "corpus"
COMMIT_ROWS = 256
COMMIT_SECONDS = 10.0


class ImageEncoder(Protocol):
    """What the indexer needs of an encoder: its two stages for images."""

    def preprocess(self, image: bytes, /) -> npt.NDArray[np.uint8]:
        """Return pixels (height, width, 3)."""

    def encode_pixels(self, pixels: npt.NDArray[np.uint8], /) -> npt.NDArray[np.float32]:
        """Return embeddings (n, d)."""


@dataclass(frozen=True)
class BuildOptions:
    """How to build. `keep` leaves items alone that this corpus does not have."""

    batch: int = 32
    workers: int = max(2, os.cpu_count() or 2)
    keep: bool = False


@dataclass
class Progress:
    """How far a build is; the same object is handed to the observer again and again."""

    total: int | None
    seen: int = 0
    embedded: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: int = 0
    stage: str = "embedding"
    started: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Items a second so far."""
        return self.seen / max(1e-9, time.monotonic() - self.started)

    @property
    def seconds_left(self) -> float | None:
        """The time that the rest will take at this rate, or None where the end is unknown."""
        if self.total is None or not self.seen:
            return None
        return (self.total - self.seen) / self.rate


@dataclass(frozen=True)
class _Decoded:
    """What a worker made of an entry: pixels to embed, an embedding to keep, or a failure."""

    entry: Entry
    version: str = ""
    pixels: npt.NDArray[np.uint8] | None = None
    is_unchanged: bool = False
    failure: str = ""


def build(
    writer: Writer,
    corpus: Corpus,
    encoder: ImageEncoder,
    options: BuildOptions | None = None,
    observe: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Bring the collection in line with the corpus; return what was done."""
    options = options or BuildOptions()
    _claim(writer, corpus, options)
    known = writer.catalog.versions()
    progress = Progress(corpus.count)
    present: set[str] = set()
    failures: list[dict[str, str]] = []
    pending = _Pending(writer)
    with ThreadPoolExecutor(options.workers, thread_name_prefix="decode") as pool:
        for group in _batches(_decode_ahead(pool, corpus, encoder, known, options), options.batch):
            present |= _take(group, encoder, pending, progress, failures, present)
            observe(progress)
    pending.commit()
    failed = {failure["id"] for failure in failures} - present
    gone = [name for name in known if name in failed or not (options.keep or name in present)]
    progress.removed = writer.delete(gone)
    _write_failures(writer.folder, failures)
    observe(progress)
    return progress


def content_version(raw: bytes, metadata: Mapping[str, Any]) -> str:
    """Return the version of an item: the hash of its bytes, then that of its metadata."""
    described = orjson.dumps(metadata, option=orjson.OPT_SORT_KEYS, default=str)
    return f"{_digest(raw)}-{_digest(described)}"


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:24]


def _claim(writer: Writer, corpus: Corpus, options: BuildOptions) -> None:
    """Refuse to empty a collection of another corpus; remember this one."""
    name = corpus.name.encode()
    before = writer.catalog.note(CORPUS_NOTE)
    if before is None and writer.catalog.count() and not options.keep:
        before = b"an import or upserts"
    if before not in (None, name) and not options.keep:
        raise InputError(
            f"{writer.folder} was built from {before.decode()}; building it from {corpus.name}"
            " would delete those items: add --keep to have both, or choose another folder",
            field="corpus",
        )
    if before is None:
        with writer.catalog.writing() as transaction:
            transaction.write_note(CORPUS_NOTE, name)


def _decode_ahead(
    pool: ThreadPoolExecutor,
    corpus: Corpus,
    encoder: ImageEncoder,
    known: Mapping[str, str],
    options: BuildOptions,
) -> Iterator[_Decoded]:
    """Yield decoded entries in order, so many ahead that the encoder never waits."""
    ahead: deque[Future[_Decoded]] = deque()
    try:
        for entry in corpus.entries():
            ahead.append(pool.submit(_decode, entry, encoder, known.get(entry.id, "")))
            if len(ahead) >= 2 * (options.batch + options.workers):
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()


def _decode(entry: Entry, encoder: ImageEncoder, known: str) -> _Decoded:
    """Read one entry; whatever goes wrong with it is its own matter."""
    try:
        check_id(entry.id)
        raw = entry.read()
        version = content_version(raw, entry.metadata)
        if version == known:
            return _Decoded(entry, version, is_unchanged=True)
        if known and version.split("-")[0] == known.split("-")[0]:
            return _Decoded(entry, version)  # only the metadata is new
        return _Decoded(entry, version, encoder.preprocess(raw))
    except TwinlensError as error:
        return _Decoded(entry, failure=error.message)
    except Exception as error:  # a damaged file may raise anything; it must not end the build
        return _Decoded(entry, failure=f"{type(error).__name__}: {error}")


def _take(
    group: list[_Decoded],
    encoder: ImageEncoder,
    pending: _Pending,
    progress: Progress,
    failures: list[dict[str, str]],
    present: set[str],
) -> set[str]:
    """Embed one batch and hand it to the writer; return the ids that are in the collection."""
    taken: dict[str, _Decoded] = {}
    for one in group:
        name = one.entry.id
        repeated = name in taken or name in present
        if one.failure or repeated:
            reason = one.failure or "the corpus has this id already; the first one counts"
            failures.append({"id": _printable(name), "error": _printable(reason)})
        else:
            taken[name] = one
    fresh = [one for one in taken.values() if one.pixels is not None]
    if fresh:
        rows = encoder.encode_pixels(
            np.stack([one.pixels for one in fresh if one.pixels is not None])
        )
        pending.add(fresh, rows)
    for one in taken.values():
        if one.pixels is None and not one.is_unchanged:
            pending.add([one], pending.writer.collection.embedding(one.entry.id)[None])
    progress.seen += len(group)
    progress.embedded += len(fresh)
    progress.unchanged += len(taken) - len(fresh)
    progress.failed = len(failures)
    return set(taken)


def _printable(text: str) -> str:
    """Return text that is Unicode: the name of a file may be any bytes."""
    return text.encode("utf-8", "backslashreplace").decode()


class _Pending:
    """Embedded rows on their way to the writer: committed by number or by time."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self._items: list[_Decoded] = []
        self._rows: list[npt.NDArray[np.float32]] = []
        self._since = time.monotonic()

    def add(self, items: list[_Decoded], rows: npt.NDArray[np.float32]) -> None:
        """Take embedded items; commit when enough are there."""
        self._items += [replace(one, pixels=None) for one in items]
        self._rows.append(rows)
        late = time.monotonic() - self._since > COMMIT_SECONDS
        if len(self._items) >= COMMIT_ROWS or late:
            self.commit()

    def commit(self) -> None:
        """Make everything taken so far durable."""
        if self._items:
            self.writer.upsert(
                [one.entry.id for one in self._items],
                np.concatenate(self._rows),
                [one.entry.metadata for one in self._items],
                [one.version for one in self._items],
            )
        self._items, self._rows = [], []
        self._since = time.monotonic()


def _write_failures(folder: Path, failures: list[dict[str, str]]) -> None:
    """Replace the list of failures in one step; no failures, no list."""
    path = folder / FAILURES_NAME
    if not failures:
        path.unlink(missing_ok=True)
        return
    beside = path.with_suffix(".tmp")
    beside.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in failures))
    sync(beside)
    beside.replace(path)
    sync(folder)


def _batches(items: Iterable[_Decoded], size: int) -> Iterator[list[_Decoded]]:
    """Group items so that each batch holds about `size` to embed, or enough to report on."""
    batch: list[_Decoded] = []
    pixels = 0
    for one in items:
        batch.append(one)
        pixels += one.pixels is not None
        if pixels == size or len(batch) == 8 * size:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
