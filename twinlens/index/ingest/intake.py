"""Takes in decoded entries of a build: sorts them, commits embedded rows, writes failures.

Rows are committed by number or by time, whichever comes first; committed rows stay, even if the
build fails later.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from twinlens.disk import sync
from twinlens.index.ingest.entries import CorpusEntry
from twinlens.index.ingest.id_set import IdSet
from twinlens.index.vectors.arrays import Floats
from twinlens.index.writer import Writer

FAILURES_NAME = "failures.jsonl"
COMMIT_ROWS = 256
COMMIT_SECONDS = 10.0
RESTAMPED_ROWS = 4096


@dataclass
class IndexingProgress:
    """Progress of a build; the observer receives the same object at every call."""

    total: int | None
    seen: int = 0
    embedded: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: int = 0
    most_common_failure: str = ""
    stage: str = "embedding"
    started: float = field(default_factory=time.monotonic)

    @property
    def rate(self) -> float:
        """Items per second so far."""
        return self.seen / max(1e-9, time.monotonic() - self.started)

    @property
    def seconds_left(self) -> float | None:
        """The remaining seconds at this rate, or None if the total is unknown."""
        if self.total is None or not self.seen:
            return None
        return (self.total - self.seen) / self.rate


@dataclass(frozen=True)
class Decoded:
    """A worker's result for an entry: pixels to embed, an unchanged embedding, or a failure."""

    entry: CorpusEntry
    version: str = ""
    pixels: npt.NDArray[np.uint8] | None = None
    row: Floats | None = None  # the embedding, where the worker has encoded the pixels too
    is_unchanged: bool = False
    failure: str = ""
    is_restamped: bool = False  # unchanged, and only its version is new
    is_unread: bool = False  # the failure says nothing of what the item shows now


@dataclass
class IntakeBatch:
    """The entries of one batch to store; `size` counts failed ones too."""

    size: int
    fresh: list[Decoded]
    renamed: list[Decoded]  # same image, new metadata
    restamped: list[Decoded]
    unchanged: int

    def take(self, one: Decoded) -> None:
        """Add an entry that did not fail."""
        self.unchanged += one.is_unchanged
        if one.pixels is not None or one.row is not None:
            self.fresh.append(one)
        elif not one.is_unchanged:
            self.renamed.append(one)
        elif one.is_restamped:
            self.restamped.append(one)


class Intake:
    """The state of a build: pending rows, progress, present ids and failures."""

    def __init__(self, writer: Writer, progress: IndexingProgress) -> None:
        self.pending = Pending(writer)
        self.progress = progress
        self.present = IdSet()
        self.undecodable: set[str] = set()
        self._unread: set[str] = set()
        self._covered: tuple[str, ...] = ()  # how ids start that a failure may hide
        self.failures: list[dict[str, str]] = []

    def sort(self, batch: list[Decoded]) -> IntakeBatch:
        """Separate entries to embed from unchanged and failed ones."""
        sorted_in = IntakeBatch(len(batch), [], [], [], 0)
        known = self.present.has([one.entry.id for one in batch])
        here: set[str] = set()
        for one, is_known in zip(batch, known.tolist(), strict=True):
            name = one.entry.id
            if one.failure or is_known or name in here:
                reason = one.failure or "duplicate id in the corpus; the first entry is used"
                self.failures.append({"id": _printable(name), "error": _printable(reason)})
                if one.failure:
                    self._count_failure(one)
                continue
            here.add(name)
            self.present.add(name)
            sorted_in.take(one)
        return sorted_in

    @property
    def most_common_failure(self) -> str:
        """The reason that most items failed for, or ""."""
        reasons = Counter(one["error"] for one in self.failures)
        return reasons.most_common(1)[0][0] if reasons else ""

    def find_gone(self, ids: Sequence[str], *, keep: bool) -> list[str]:
        """Return the ids that are not in the corpus, and those of images that are none any more.

        With `keep`, only the latter.
        """
        present = self.present.has(ids)
        return [
            name
            for name, is_present in zip(ids, present.tolist(), strict=True)
            if not is_present
            and (name in self.undecodable or not (keep or self._may_be_hidden(name)))
        ]

    def _may_be_hidden(self, name: str) -> bool:
        return name in self._unread or name.startswith(self._covered)

    def _count_failure(self, one: Decoded) -> None:
        if not one.is_unread:
            self.undecodable.add(one.entry.id)
            return
        self._unread.add(one.entry.id)
        if one.entry.covers is not None and one.entry.covers not in self._covered:
            self._covered = (*self._covered, one.entry.covers)

    def store(self, group: IntakeBatch, rows: Future[Floats]) -> None:
        """Pass a batch to the writer once it is embedded."""
        embedded = rows.result()
        if group.fresh:
            self.pending.add(group.fresh, embedded)
        for one in group.renamed:
            row = self.pending.writer.collection.embedding(one.entry.id)
            self.pending.add([one], row[None])
        self.pending.restamp(group.restamped)
        self.progress.seen += group.size
        self.progress.embedded += len(group.fresh)
        self.progress.unchanged += group.unchanged + len(group.renamed)
        self.progress.failed = len(self.failures)


class Pending:
    """Embedded rows not yet committed; committed by number or by time."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.commit_rows = COMMIT_ROWS
        self._items: list[Decoded] = []
        self._rows: list[Floats] = []
        self._restamped: dict[str, str] = {}
        self._since = time.monotonic()

    def add(self, items: list[Decoded], rows: Floats) -> None:
        """Add embedded items; commit when due."""
        self._items += [replace(one, pixels=None, row=None) for one in items]
        self._rows.append(rows)
        late = time.monotonic() - self._since > COMMIT_SECONDS
        if len(self._items) >= self.commit_rows or late:
            self.commit()

    def restamp(self, items: list[Decoded]) -> None:
        """Add unchanged items of a new version; committed by number."""
        self._restamped |= {one.entry.id: one.version for one in items}
        if len(self._restamped) >= RESTAMPED_ROWS:
            self._commit_versions()

    def _commit_versions(self) -> None:
        if self._restamped:
            self.writer.restamp(self._restamped)
        self._restamped = {}

    def commit(self) -> None:
        """Commit all pending rows."""
        self._commit_versions()
        if self._items:
            self.writer.upsert(
                [one.entry.id for one in self._items],
                np.concatenate(self._rows),
                [one.entry.metadata for one in self._items],
                [one.version for one in self._items],
            )
        self._items, self._rows = [], []
        self._since = time.monotonic()


def write_failures(folder: Path, failures: list[dict[str, str]]) -> None:
    """Replace the list of failures atomically; without failures, remove it."""
    path = folder / FAILURES_NAME
    if not failures:
        path.unlink(missing_ok=True)
        return
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in failures))
    sync(temporary)
    temporary.replace(path)
    sync(folder)


def read_failures(folder: Path) -> list[dict[str, str]]:
    """Return the failures that the last build wrote; a damaged line is left out."""
    try:
        lines = (folder / FAILURES_NAME).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    found = []
    for line in filter(None, lines):
        with suppress(ValueError):
            found.append(orjson.loads(line))
    return found


def _printable(text: str) -> str:
    """Return valid Unicode text: a file name may be arbitrary bytes."""
    return text.encode("utf-8", "backslashreplace").decode()
