"""A second set of embeddings of a collection's items, by another bundle, beside those that answer.

It lies in a folder inside the collection's: `next`, until it is swapped in, or `previous-...`, to
go back to. Its segments hold the rids of the collection, so that a swap changes no item. The
record names all that belongs to the set, and is replaced as a whole: after a kill the set is as it
was at the last record, and files that it does not name are removed.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from twinlens.disk import sync
from twinlens.errors import CollectionError
from twinlens.index.storage.durable import check_hashes, link_folder
from twinlens.index.storage.records import BundleRecord, SegmentRow, segment_body, segment_from
from twinlens.index.storage.segment import Segment
from twinlens.index.vectors.arrays import Floats, Rids, load_array

NEXT_NAME = "next"
PREVIOUS_NAME = "previous"
RECORD_NAME = "embeddings.json"
QUERIES_NAME = "queries.npy"


@dataclass(frozen=True)
class QuerySample:
    """Text queries for tuning, as this bundle embeds them, and where they are from."""

    texts: tuple[str, ...]
    source: str
    rows: Floats


@dataclass(frozen=True)
class BundleEmbeddings:
    """The segments of one bundle; `unread` are rids whose image could not be embedded.

    All items up to `last_rid` are in it, or unread, or deleted since.
    """

    folder: Path
    bundle: BundleRecord
    segments: tuple[SegmentRow, ...] = ()
    unread: tuple[int, ...] = ()
    last_rid: int = 0

    def save(self) -> None:
        """Write the record."""
        body = {
            "bundle": asdict(self.bundle),
            "segments": [[row.name, json.loads(segment_body(row))] for row in self.segments],
            "unread": self.unread,
            "last_rid": self.last_rid,
        }
        path = self.folder / RECORD_NAME
        partial = path.with_suffix(".tmp")
        partial.write_text(json.dumps(body), encoding="utf-8")
        sync(partial)
        partial.replace(path)
        sync(self.folder)

    def open_segments(self) -> list[Segment]:
        """Return the segments, opened."""
        return [Segment(self.folder, row, self.bundle.dim) for row in self.segments]

    def rids(self) -> Rids:
        """Return the rids of all rows, ascending; some may be deleted items."""
        parts = [np.asarray(segment.rids) for segment in self.open_segments()]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

    def folders(self) -> set[str]:
        """Return the names of the folders that belong to the set."""
        indexes = {row.index.name for row in self.segments if row.index}
        return {row.name for row in self.segments} | indexes

    def verify(self) -> None:
        """Check every byte of the segments and indexes."""
        for row in self.segments:
            check_hashes(self.folder / row.name, row.files)
            if row.index:
                check_hashes(self.folder / row.index.name, row.index.files)

    def sweep(self) -> None:
        """Remove folders that the record does not name."""
        for path in self.folder.iterdir():
            if path.is_dir() and path.name not in self.folders():
                shutil.rmtree(path)

    def link_into(self, target: Path) -> None:
        """Make the segments and indexes appear in another folder too."""
        for name in sorted(self.folders()):
            if not (target / name).exists():
                link_folder(self.folder / name, target / name)
        sync(target)

    def write_queries(self, sample: QuerySample) -> None:
        """Store the sample of text queries."""
        path = self.folder / QUERIES_NAME
        with path.open("wb") as handle:
            np.save(handle, sample.rows.astype(np.float16), allow_pickle=False)
        body = {"texts": sample.texts, "source": sample.source}
        path.with_suffix(".json").write_text(json.dumps(body), encoding="utf-8")
        sync(path)

    def read_queries(self) -> QuerySample | None:
        """Return the sample of text queries, or None if the bundle has no text tower."""
        path = self.folder / QUERIES_NAME
        if not path.exists():
            return None
        body = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        rows: Floats = load_array(path).astype(np.float32)
        return QuerySample(tuple(body["texts"]), body["source"], rows)


def read_set(folder: Path) -> BundleEmbeddings | None:
    """Return the set in a folder, or None if none was recorded there."""
    try:
        body = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
        return BundleEmbeddings(
            folder,
            BundleRecord(**body["bundle"]),
            tuple(segment_from(name, raw) for name, raw in body["segments"]),
            tuple(body["unread"]),
            int(body["last_rid"]),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CollectionError(
            f"{folder / RECORD_NAME} is damaged ({error}); remove it with"
            " `twinlens index reembed DIR --discard`"
        ) from error
