"""Verifies every byte of a collection against the hashes in its catalog."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twinlens.errors import CollectionError
from twinlens.index.storage.catalog import Catalog
from twinlens.index.storage.commit_record import (
    RECORD_NAME,
    CommitRecord,
    check_epoch,
    check_log,
)
from twinlens.index.storage.durable import check_hashes
from twinlens.index.storage.records import Changes, SegmentRow
from twinlens.index.storage.segment import Segment
from twinlens.index.storage.transaction import RECORD_PROMISE
from twinlens.index.vectors.arrays import Rids

ATTEMPTS = 5


@dataclass(frozen=True)
class VerifyReport:
    """The result of a verification: `faults` are permanent, `index_faults` can be rebuilt."""

    items: int
    files: int
    faults: tuple[str, ...]
    index_faults: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Whether there are no faults."""
        return not self.faults and not self.index_faults


def verify_collection(folder: str | Path) -> VerifyReport:
    """Check every file that the catalog names, and that each item has exactly one row."""
    root = Path(folder)
    try:
        record = check_log(root)  # before the catalog, which only advances
        catalog = Catalog(root)
    except CollectionError as error:
        return VerifyReport(0, 0, (error.message,), ())
    try:
        check_epoch(root, record, catalog.head().epoch)
        for _ in range(ATTEMPTS):
            generation = catalog.head().generation
            report = _verify_once(root, catalog)
            if report.is_sound or catalog.head().generation == generation:
                break
            # A compaction removed folders during the check: check the new state.
        return report
    except CollectionError as error:
        return VerifyReport(0, 0, (error.message,), ())
    finally:
        catalog.close()


def _verify_once(root: Path, catalog: Catalog) -> VerifyReport:
    try:
        return _verify(root, catalog)
    except CollectionError as error:
        return VerifyReport(0, 0, (error.message,), ())


def _verify(root: Path, catalog: Catalog) -> VerifyReport:
    with catalog.reading():
        rids = catalog.verify()
        changes = catalog.changes(0, 0, with_segments=True)
    faults: list[str] = []
    index_faults = list(_record_faults(root, catalog))
    for row in changes.segments:
        faults += _faults_of(root / row.name, row)
        if row.index:
            index_faults += _faults_of(root / row.index.name, row)
    if not faults:
        faults += _misplaced(root, changes, rids)
    files = sum(
        len(row.files) + len(row.index.files if row.index else ()) for row in changes.segments
    )
    files += 1 + (root / RECORD_NAME).exists()
    return VerifyReport(len(rids), files, tuple(faults), tuple(index_faults))


def _record_faults(root: Path, catalog: Catalog) -> Iterator[str]:
    """Yield a fault if the commit record is missing or damaged; the next writer rewrites it."""
    path = root / RECORD_NAME
    if path.exists():
        if CommitRecord.parse(path.read_bytes()) is None:
            yield f"{path} is damaged: its checksum is not that of its content"
    elif RECORD_PROMISE in catalog.extensions():
        yield f"{path} is missing: lost commits cannot be detected"


def _faults_of(folder: Path, row: SegmentRow) -> Iterator[str]:
    files = row.files if folder.name == row.name else (row.index.files if row.index else {})
    try:
        check_hashes(folder, files)
    except CollectionError as error:
        yield error.message


def _misplaced(root: Path, changes: Changes, rids: Rids) -> Iterator[str]:
    """Compare the rids of all rows with those of the items."""
    stored_rids = [changes.rids]
    for row in changes.segments:
        stored = np.asarray(Segment(root, row, changes.head.dim).rids)
        if np.any(np.diff(stored) <= 0):
            yield f"{root / row.name}: rids are not ascending"
        stored_rids.append(stored[~np.isin(stored, changes.tombstones)])
    found = np.sort(np.concatenate(stored_rids))
    if not np.array_equal(found, rids):
        missing = len(np.setdiff1d(rids, found))
        yield (f"{root}: {len(found)} rows for {len(rids)} items ({missing} items have no row)")
