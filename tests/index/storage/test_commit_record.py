"""A log that was damaged, cut or lost is told; a crash at any moment is not called damage."""

from __future__ import annotations

import io
import os
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from twinlens.errors import CollectionError
from twinlens.index.collection import Collection
from twinlens.index.storage import commit_record, write_ahead_log
from twinlens.index.storage.commit_record import (
    LOG_NAME,
    RECORD_NAME,
    CommitLedger,
    CommitRecord,
    check_log,
    read_record,
)
from twinlens.index.storage.write_ahead_log import (
    HEADER_BYTES,
    find_bad_frame,
    is_header_sound,
)
from twinlens.index.verify import verify_collection
from twinlens.index.writer import Writer

FRAME = 24 + 4096
Make = Callable[[int], npt.NDArray[np.float32]]


@pytest.fixture
def killed(folder: Path, tmp_path: Path, rows: Make) -> Iterator[Path]:
    """Return what `kill -9` leaves behind after 12 commits: everything is in the log."""
    with Writer(folder) as writer:
        for number in range(11):
            writer.upsert([f"i{number}"], rows(1))
        writer.delete(["i3"])
        shutil.copytree(folder, tmp_path / "killed", ignore=shutil.ignore_patterns("*-shm"))
    yield tmp_path / "killed"


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1 << (at % 8)
    path.write_bytes(raw)


def test_what_a_kill_leaves_is_sound(killed: Path) -> None:
    assert (killed / LOG_NAME).stat().st_size > 12 * FRAME
    report = verify_collection(killed)
    assert (report.is_sound, report.items) == (True, 10)


def test_every_flipped_byte_of_the_log_is_found(killed: Path, tmp_path: Path) -> None:
    size = (killed / LOG_NAME).stat().st_size
    luck = random.Random(1)
    places = [*range(HEADER_BYTES + 24), *(luck.randrange(size) for _ in range(100))]
    for at in places:
        shutil.copy(killed / LOG_NAME, tmp_path / "log")
        flip(killed / LOG_NAME, at)
        assert verify_collection(killed).faults, at
        with pytest.raises(CollectionError, match="catalog"):
            Writer(killed)
        shutil.copy(tmp_path / "log", killed / LOG_NAME)
        (killed / "catalog.sqlite-shm").unlink(missing_ok=True)
    assert verify_collection(killed).is_sound  # a refused writer left all as it was


@pytest.mark.parametrize("cut", ["gone", "empty", "header", "frames", "within a frame"])
def test_a_log_that_was_cut_or_lost_is_told(killed: Path, cut: str) -> None:
    path = killed / LOG_NAME
    raw = path.read_bytes()
    sizes = {"empty": 0, "header": 20, "frames": HEADER_BYTES + 5 * FRAME, "within a frame": -9}
    if cut == "gone":
        path.unlink()
    else:
        path.write_bytes(raw[: sizes[cut]])
    assert verify_collection(killed).faults
    with pytest.raises(CollectionError, match="restore the collection from a copy"):
        Writer(killed)


def test_lost_commits_are_told_with_a_way_on(
    killed: Path, caplog: pytest.LogCaptureFixture, rows: Make
) -> None:
    (killed / LOG_NAME).unlink()
    (fault,) = verify_collection(killed).faults
    assert "commit 12 was acknowledged and the catalog ends at 0" in fault
    with Collection(killed) as reader:
        assert reader.search(np.ones(16), 3) == [[]]
    assert "searching the remaining items" in caplog.text
    (killed / RECORD_NAME).unlink()
    with Writer(killed) as writer:
        writer.upsert(["new"], rows(1))
    assert verify_collection(killed).is_sound


@pytest.mark.parametrize("tail", ["half a frame", "old frames", "a commit that was not noted"])
def test_what_a_crash_leaves_behind_the_last_commit_is_no_damage(killed: Path, tail: str) -> None:
    log = killed / LOG_NAME
    raw = log.read_bytes()
    if tail == "half a frame":
        log.write_bytes(raw + raw[-FRAME:][:1000])
    elif tail == "old frames":
        log.write_bytes(raw + bytes(2 * FRAME))
    else:
        record = read_record(killed)
        assert record is not None
        before = CommitRecord(record.epoch - 1, record.salt, record.log_bytes - FRAME)
        (killed / RECORD_NAME).write_bytes(before.dump())
    assert verify_collection(killed).is_sound
    Writer(killed).close()
    assert verify_collection(killed).is_sound


@pytest.mark.parametrize("tail", ["an earlier cycle", "half of a commit"])
def test_frames_that_no_commit_owns_are_no_damage_after_shorter_commits(
    folder: Path, rows: Make, tail: str
) -> None:
    """A writer was killed between the frames of a long commit; the next one commits less."""
    with Writer(folder) as writer:
        writer.upsert([f"i{n}" for n in range(30)], rows(30))
    log = folder / LOG_NAME

    def leave_frames() -> int:
        raw = log.read_bytes()
        left = os.urandom(60 * FRAME) if tail == "an earlier cycle" else raw[-FRAME:] * 60
        log.write_bytes(raw + left)
        return len(raw + left)

    with Collection(folder) as reader:  # so that closing a writer keeps the log
        with Writer(folder) as writer:
            writer.upsert(["a"], rows(1))
        leave_frames()
        assert verify_collection(folder).is_sound
        with Writer(folder) as writer:
            assert verify_collection(folder).is_sound
            writer.upsert(["b"], rows(1))
            size = leave_frames()  # as a large transaction that is rolled back does
            for name in ("c", "d"):
                writer.upsert([name], rows(1))
                assert log.stat().st_size == size
                assert verify_collection(folder).is_sound
        with Writer(folder):
            assert verify_collection(folder).is_sound
        assert len(reader) == 34


def test_every_flipped_byte_of_the_record_is_found_and_repaired(killed: Path) -> None:
    sound = (killed / RECORD_NAME).read_bytes()
    for at in range(len(sound)):
        flip(killed / RECORD_NAME, at)
        report = verify_collection(killed)
        assert (report.faults, len(report.index_faults)) == ((), 1)
        (killed / RECORD_NAME).write_bytes(sound)
    (killed / RECORD_NAME).unlink()
    assert "is missing" in verify_collection(killed).index_faults[0]
    Writer(killed).close()
    assert verify_collection(killed).is_sound


def test_every_byte_of_the_log_counts_whatever_cycle_it_is_in(folder: Path, rows: Make) -> None:
    salts = set()
    with Writer(folder) as writer:
        for number in range(700):
            writer.upsert([f"i{number % 40}"], rows(1), [{"text": "x" * 4000}])
            if number % 20:
                continue
            record = check_log(folder)
            raw = (folder / LOG_NAME).read_bytes()
            assert record is not None
            assert record.log_bytes == len(raw)
            assert is_header_sound(raw)
            assert find_bad_frame(io.BytesIO(raw), len(raw)) is None
            salts.add(record.salt)
    assert len(salts) >= 2  # the log began anew on the way
    assert not (folder / LOG_NAME).exists()
    assert verify_collection(folder).is_sound


def test_verifying_beside_a_writer_never_tells_of_damage(folder: Path, rows: Make) -> None:
    done = threading.Event()
    faults: list[str] = []
    count = 0

    def look() -> None:
        nonlocal count
        while not done.is_set():
            faults.extend(verify_collection(folder).faults)
            count += 1

    with Writer(folder, seal_rows=20) as writer:
        thread = threading.Thread(target=look)
        thread.start()
        for number in range(150):
            writer.upsert([f"i{number}"], rows(1), [{"text": "x" * 20_000}])
        done.set()
        thread.join()
    assert faults == []
    assert count > 3


def test_a_commit_that_cannot_be_noted_stands(
    folder: Path, rows: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Writer(folder) as writer:

        def refuse(*_: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", refuse)
        assert writer.upsert(["a"], rows(1)) == 1
        monkeypatch.undo()
        assert "was not recorded: [Errno 28]" in caplog.text
    assert verify_collection(folder).is_sound


@pytest.mark.parametrize("block", [1, 3, 2048])
def test_a_log_is_checked_in_blocks_and_the_damaged_frame_is_named(
    killed: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_ahead_log, "BLOCK", block)
    raw = (killed / LOG_NAME).read_bytes()
    count = (len(raw) - HEADER_BYTES) // FRAME
    assert find_bad_frame(io.BytesIO(raw), len(raw)) is None
    for number in range(1, count + 1):
        at = HEADER_BYTES + (number - 1) * FRAME + 307 * number % FRAME
        damaged = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        assert find_bad_frame(io.BytesIO(damaged), len(raw)) == number
        cut = raw[: HEADER_BYTES + number * FRAME - 1]
        assert find_bad_frame(io.BytesIO(cut), len(raw)) == number


def test_a_recorded_commit_is_seen_at_once(
    folder: Path, rows: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_record, "ASK_SECONDS", float("inf"))
    with Writer(folder) as writer, Collection(folder) as reader:
        for number in range(5):
            writer.upsert([f"i{number}"], rows(1))
            assert reader.count() == number + 1
        writer.delete(["i0"])
        assert reader.count() == 4


def test_an_unrecorded_commit_is_seen_soon(
    folder: Path, rows: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Writer(folder) as writer, Collection(folder) as reader:
        monkeypatch.setattr(CommitLedger, "record", lambda *_: None)
        monkeypatch.setattr(commit_record, "ASK_SECONDS", float("inf"))
        reader.snapshot()
        writer.upsert(["i0"], rows(1))
        assert reader.count() == 0
        monkeypatch.setattr(commit_record, "ASK_SECONDS", 0.01)
        time.sleep(0.02)
        assert reader.count() == 1


def test_without_commits_sqlite_is_not_asked(
    folder: Path, rows: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit_record, "ASK_SECONDS", float("inf"))
    with Writer(folder) as writer, Collection(folder) as reader:
        writer.upsert(["i0"], rows(1))
        reader.search(rows(1)[0], 1)
        asked: list[int] = []
        known = reader.catalog.version

        def ask() -> int:
            asked.append(1)
            return known()

        monkeypatch.setattr(reader.catalog, "version", ask)
        for _ in range(20):
            reader.search(rows(1)[0], 1)
        assert not asked
        writer.delete(["i0"])
        assert reader.search(rows(1)[0], 1) == [[]]
        assert asked


def test_without_a_record_sqlite_is_always_asked(folder: Path, rows: Make) -> None:
    (folder / RECORD_NAME).unlink()
    with Collection(folder) as reader:
        assert reader._watch.look() is not None
        reader.search(rows(1)[0], 1)
        assert reader._watch.look() is not None


def test_a_closed_reader_says_so(folder: Path, rows: Make) -> None:
    with Collection(folder) as reader:
        reader.search(rows(1)[0], 1)
    with pytest.raises(CollectionError, match="closed"):
        reader.search(rows(1)[0], 1)
