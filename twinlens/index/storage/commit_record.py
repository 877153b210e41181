"""`catalog.commits`: the number of the last commit, stored outside of SQLite's files.

SQLite silently ignores commits in a damaged or lost log. So after each commit is on disk, its epoch
and the end of the log are written here, in place and with a checksum. The catalog is behind this
record only if commits were lost. A crash between commit and record leaves an older record, which
is harmless. The record is smaller than a sector, so that a write is never torn.
"""

from __future__ import annotations

import logging
import math
import os
import struct
import time
import weakref
import zlib
from dataclasses import dataclass
from pathlib import Path

from twinlens.disk import open_to_read, open_to_write, read_at, sync, write_at
from twinlens.errors import CollectionError
from twinlens.index.storage.write_ahead_log import (
    FRAME_HEADER_BYTES,
    HEADER_BYTES,
    find_bad_frame,
    frame_end,
    is_commit,
    is_header_sound,
    salt_of,
)

RECORD_NAME = "catalog.commits"
LOG_NAME = "catalog.sqlite-wal"
ATTEMPTS = 20
log = logging.getLogger(__name__)
_MAGIC = b"TLCOMMIT"
_LAYOUT = struct.Struct(">8sQ8sQ")
RECORD_BYTES = _LAYOUT.size + 4  # with the checksum
ASK_SECONDS = 0.02
_REMEDY = "restore the collection from a copy, or build it again"


@dataclass(frozen=True)
class CommitRecord:
    """The last commit, and the end of the log after it."""

    epoch: int
    salt: bytes = bytes(8)  # of the log's cycle
    log_bytes: int = 0

    def dump(self) -> bytes:
        """Return the bytes of the record."""
        body = _LAYOUT.pack(_MAGIC, self.epoch, self.salt.ljust(8, b"\0"), self.log_bytes)
        return body + zlib.crc32(body).to_bytes(4, "big")

    @staticmethod
    def parse(raw: bytes) -> CommitRecord | None:
        """Return the record, or None if it is damaged."""
        body, crc = raw[: _LAYOUT.size], raw[_LAYOUT.size :]
        if len(body) < _LAYOUT.size or crc != zlib.crc32(body).to_bytes(4, "big"):
            return None
        _, epoch, salt, log_bytes = _LAYOUT.unpack(body)
        return CommitRecord(epoch, salt, log_bytes)


class CommitLedger:
    """Writes the record of a collection.

    `frames` is SQLite's number of committed frames in the log. The end of each commit is followed
    from there, since the file may be longer: a commit that was killed or rolled back leaves frames
    behind. SQLite's index of the log tells the same, but closing it would release SQLite's locks.
    """

    def __init__(self, folder: Path, epoch: int, frames: int = 0) -> None:
        self._log = str(folder / LOG_NAME)
        self._salt, self._end = b"", HEADER_BYTES
        path = folder / RECORD_NAME
        is_new = not path.exists()
        self._descriptor = open_to_write(path)
        header = _read_header(folder)
        if frames > 0 and len(header) == HEADER_BYTES:
            self._salt, self._end = salt_of(header), frame_end(header, frames)
        self._put(epoch)
        os.ftruncate(self._descriptor, RECORD_BYTES)
        if is_new:
            os.fsync(self._descriptor)
            sync(folder)

    def write(self, epoch: int) -> None:
        """Record a commit that is on disk; not flushed: a power cut may leave an older record."""
        try:
            log = open_to_read(self._log)  # on the path of every commit
        except FileNotFoundError:
            self._salt, self._end = b"", HEADER_BYTES
        else:
            try:
                self._follow(log)
            finally:
                os.close(log)
        self._put(epoch)

    def _follow(self, log: int) -> None:
        """Move to the end of the commit that begins where the last one ended."""
        header = read_at(log, HEADER_BYTES, 0)
        if salt_of(header) != self._salt:  # SQLite began the log anew
            self._salt, self._end = salt_of(header), HEADER_BYTES
        step = frame_end(header, 1) - HEADER_BYTES
        while len(frame := read_at(log, FRAME_HEADER_BYTES, self._end)) == FRAME_HEADER_BYTES:
            self._end += step
            if is_commit(frame):
                break

    def _put(self, epoch: int) -> None:
        record = CommitRecord(epoch, self._salt, self._end if self._salt else 0)
        write_at(self._descriptor, record.dump(), 0)

    def record(self, epoch: int) -> None:
        """Write the record after a commit; a failure here does not undo the commit."""
        try:
            self.write(epoch)
        except OSError as error:
            log.error("%s: commit %d was not recorded: %s", self._log, epoch, error)

    def close(self) -> None:
        """Release the file."""
        os.close(self._descriptor)


class CommitWatch:
    """Says whether there may be commits that a reader has not seen, for less than SQLite does.

    The record is read each time. SQLite has to be asked where it changed, and after `ASK_SECONDS`
    in any case: a commit may be unrecorded, as those of older versions are.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor: int | None = None
        self._seen = (b"", -math.inf)  # the record before SQLite was last asked, and when
        if hasattr(os, "pread") and (folder / RECORD_NAME).exists():
            self._descriptor = open_to_read(folder / RECORD_NAME)
            self._closing = weakref.finalize(self, os.close, self._descriptor)

    def look(self) -> tuple[bytes, float] | None:
        """Return None if SQLite need not be asked; else what `settle` takes once it was."""
        if self._descriptor is None:
            return self._seen
        now, record = time.monotonic(), os.pread(self._descriptor, RECORD_BYTES, 0)
        if record == self._seen[0] and now - self._seen[1] < ASK_SECONDS:
            return None
        return record, now

    def settle(self, looked: tuple[bytes, float]) -> None:
        """Note that all commits that were seen by this look are known."""
        self._seen = looked

    def close(self) -> None:
        """Release the file; from then on SQLite is always asked."""
        if self._descriptor is not None:
            self._descriptor = None
            self._closing()


def _read_header(folder: Path) -> bytes:
    """Return the header of the log; empty if it does not exist."""
    try:
        with (folder / LOG_NAME).open("rb") as handle:
            return handle.read(HEADER_BYTES)
    except FileNotFoundError:
        return b""


def read_record(folder: Path) -> CommitRecord | None:
    """Return the record, or None if it is missing or damaged."""
    try:
        return CommitRecord.parse((folder / RECORD_NAME).read_bytes())
    except FileNotFoundError:
        return None


def check_log(folder: Path) -> CommitRecord | None:
    """Return the record; raise if the log is damaged before the end of the last commit.

    A writer may restart the log in between: then the record or the header changes, and we retry.
    """
    for _ in range(ATTEMPTS):
        record = read_record(folder)
        header = _read_header(folder)
        fault = "" if record is None else _find_fault(folder, record, header)
        if not fault:
            return record
        if record == read_record(folder) and header == _read_header(folder):
            raise CollectionError(fault)
    return record


def check_epoch(folder: Path, record: CommitRecord | None, epoch: int) -> None:
    """Raise if the catalog is behind a record that was read before it."""
    if record is not None and epoch < record.epoch:
        raise CollectionError(
            f"{folder}: commit {record.epoch} was acknowledged and the catalog ends at {epoch}:"
            f" {LOG_NAME} was lost, truncated or damaged; {_REMEDY}. To continue without it,"
            f" delete {RECORD_NAME}"
        )


def _find_fault(folder: Path, record: CommitRecord, header: bytes) -> str:
    if not is_header_sound(header):
        return f"{folder / LOG_NAME} is damaged: its header is not what was written; {_REMEDY}"
    if record.log_bytes <= HEADER_BYTES or salt_of(header) != record.salt:
        return ""  # the log was restarted: recorded commits are in catalog.sqlite
    try:
        with (folder / LOG_NAME).open("rb") as log:
            frame = find_bad_frame(log, record.log_bytes)
    except FileNotFoundError:  # a writer has just closed it
        return ""
    if frame is None:
        return ""
    return (
        f"{folder / LOG_NAME} is damaged or cut: frame {frame} is not what was written; {_REMEDY}"
    )
