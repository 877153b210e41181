"""Copies a collection into another folder while it is searched and written to.

The catalog is copied by SQLite's backup, which includes the log, so the copy is the state of one
commit. Published folders are immutable: their files are hard links where the file system allows,
else copies. The copy is written under another name, verified and renamed: OUT is whole or absent.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from twinlens.disk import sync
from twinlens.errors import CollectionError, InputError, LockedError
from twinlens.index.storage.catalog import Catalog
from twinlens.index.storage.commit_record import CommitLedger, check_epoch, read_record
from twinlens.index.storage.database import CATALOG_NAME, connect
from twinlens.index.storage.durable import PENDING, fresh_name, link_folder
from twinlens.index.storage.lock import WriterLock
from twinlens.index.storage.records import SegmentRow
from twinlens.index.verify import verify_collection

ATTEMPTS = 20


@dataclass(frozen=True)
class BackupReport:
    """What was written: items, the commit that they show, files that share their bytes."""

    items: int
    epoch: int
    linked: int = 0
    copied: int = 0


def back_up(folder: str | Path, out: str | Path, *, link: bool = True) -> BackupReport:
    """Write the current state of a collection to `out`, which must not exist, and verify it."""
    source, place = Path(folder), Path(out)
    _check_place(source, place)
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(place)
    with _pending(place) as pending:
        report = _fill(source, pending, link)
        _check(pending, place)
        pending.rename(place)
    sync(place.parent)
    return report


def _check_place(source: Path, place: Path) -> None:
    Catalog(source).close()  # raises an error that names what is missing
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InputError(f"{place} exists and is not an empty folder; name another", field="out")
    if place.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{place} is inside of {source}; choose a place outside", field="out")


@contextmanager
def _pending(place: Path) -> Iterator[Path]:
    """Yield a locked folder beside `place`; whatever is left of it at the end is removed."""
    pending = place.parent / fresh_name(f"{PENDING}{place.name}")
    pending.mkdir()
    try:
        with WriterLock(pending):
            yield pending
    finally:
        shutil.rmtree(pending, ignore_errors=True)


def _remove_leftovers(place: Path) -> None:
    """Remove what killed backups to this place left; a backup that still runs holds its lock."""
    for path in place.parent.glob(f"{PENDING}{place.name}-*"):
        try:
            with WriterLock(path):
                shutil.rmtree(path, ignore_errors=True)
        except LockedError:
            continue


def _fill(source: Path, pending: Path, link: bool) -> BackupReport:
    report = BackupReport(0, 0)
    for _ in range(ATTEMPTS):
        record = read_record(source)  # before the catalog, which only advances
        _copy_catalog(source, pending)
        catalog = Catalog(pending)
        try:
            epoch, items, segments = catalog.head().epoch, catalog.count(), catalog.segments()
        finally:
            catalog.close()
        check_epoch(source, record, epoch)
        report = replace(report, items=items, epoch=epoch)
        try:
            for name in _folders_of(segments):
                report = _take_folder(source / name, pending / name, link, report)
            _require_files(pending, segments)
        except FileNotFoundError:
            continue  # replaced by a compaction meanwhile: the newer state does not name it
        _finish(pending, segments, epoch)
        return report
    raise CollectionError(f"{source} changed too often while it was copied; try again")


def _copy_catalog(source: Path, pending: Path) -> None:
    target = pending / CATALOG_NAME
    target.unlink(missing_ok=True)
    origin = connect(source / CATALOG_NAME, write=False)
    copy = sqlite3.connect(target, isolation_level=None)
    try:
        origin.backup(copy)  # in one step: one state, and writers go on meanwhile
    except sqlite3.DatabaseError as error:
        raise CollectionError(f"{source / CATALOG_NAME} cannot be copied: {error}") from error
    finally:
        copy.close()
        origin.close()


def _folders_of(segments: list[SegmentRow]) -> set[str]:
    indexes = {row.index.name for row in segments if row.index}
    return {row.name for row in segments} | indexes


def _require_files(pending: Path, segments: list[SegmentRow]) -> None:
    """Raise if a folder was being removed while it was copied; what came of it is removed."""
    for row in segments:
        parts = [(row.name, row.files)] + ([(row.index.name, row.index.files)] if row.index else [])
        for name, files in parts:
            if not all((pending / name / one).exists() for one in files):
                shutil.rmtree(pending / name)
                raise FileNotFoundError(name)


def _take_folder(origin: Path, target: Path, link: bool, report: BackupReport) -> BackupReport:
    """Link or copy the files of a published folder, unless an earlier attempt has."""
    if target.exists():
        return report
    linked, copied = link_folder(origin, target, link=link)
    return replace(report, linked=report.linked + linked, copied=report.copied + copied)


def _finish(pending: Path, segments: list[SegmentRow], epoch: int) -> None:
    """Drop folders that only an earlier attempt named; record the commit; flush to disk."""
    named = _folders_of(segments)
    for path in pending.iterdir():
        if path.is_dir() and path.name not in named:
            shutil.rmtree(path)
    CommitLedger(pending, epoch).close()
    sync(pending / CATALOG_NAME)
    sync(pending)


def _check(pending: Path, place: Path) -> None:
    report = verify_collection(pending)
    faults = [fault.replace(str(pending), str(place)) for fault in report.faults]
    derived = [fault.replace(str(pending), str(place)) for fault in report.index_faults]
    if not report.is_sound:
        remedy = "restore the collection from an older copy, or build it again"
        raise CollectionError(
            f"the copy is not sound, so {place} was not written: {'; '.join([*faults, *derived])};"
            f" {remedy if faults else 'run `twinlens index verify --repair` on the collection'}"
        )
    for end in ("-wal", "-shm"):  # empty: the check read the copy, nobody wrote to it
        pending.joinpath(CATALOG_NAME + end).unlink(missing_ok=True)
