"""A backup is one state of a collection in use, whole or absent, and opens by itself."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.index.storage import drill_writer as drill
from tests.index.upkeep import drill_backup
from twinlens.bundle.arrays import Rows
from twinlens.errors import CollectionError, InputError
from twinlens.index.collection import Collection
from twinlens.index.maintenance import IndexPlan, optimise
from twinlens.index.storage.durable import PENDING, link_folder
from twinlens.index.storage.lock import WriterLock
from twinlens.index.upkeep import backup
from twinlens.index.upkeep.backup import back_up
from twinlens.index.verify import verify_collection
from twinlens.index.writer import Writer, create_collection

Make = Callable[[int], Rows]


@pytest.fixture
def filled(writer: Writer, rows: Make) -> Writer:
    """A segment, a delta whose commits are only in the log, and deletions."""
    writer.upsert([f"i{n}" for n in range(60)], rows(60), [{"n": n} for n in range(60)])
    writer.upsert([f"j{n}" for n in range(20)], rows(20))
    writer.delete(["i3", "j4"])
    return writer


def read_everything(folder: Path) -> list[object]:
    with Collection(folder) as reader:
        items = list(reader.catalog.items())
        return [items, [reader.embedding(item.id).tobytes() for item in items], reader.head]


def test_a_collection_in_use_is_copied_with_its_log(filled: Writer, tmp_path: Path) -> None:
    report = back_up(filled.folder, tmp_path / "out")
    assert (report.items, report.linked, report.copied) == (78, 5, 0)
    assert verify_collection(tmp_path / "out").is_sound
    assert read_everything(tmp_path / "out") == read_everything(filled.folder)
    embeddings = next((tmp_path / "out").glob("seg-*/embeddings.npy"))
    assert embeddings.stat().st_nlink == 2
    filled.delete(["i5"])
    filled.compact()
    assert verify_collection(tmp_path / "out").items == 78


def test_a_backup_is_written_to_and_leaves_the_first_as_it_is(
    filled: Writer, tmp_path: Path, rows: Make
) -> None:
    before = read_everything(filled.folder)
    back_up(filled.folder, tmp_path / "out")
    with Writer(tmp_path / "out") as copy:
        copy.upsert(["new"], rows(1))
        copy.delete([f"i{n}" for n in range(10, 40)])
        copy.compact()
    assert read_everything(filled.folder) == before
    assert verify_collection(filled.folder).is_sound
    assert verify_collection(tmp_path / "out").items == 49


def test_its_index_comes_along(folder: Path, tmp_path: Path, rows: Make) -> None:
    with Writer(folder) as writer:
        writer.upsert([f"i{n}" for n in range(3000)], rows(3000))
        optimise(writer, IndexPlan("hnsw", 0.5))
        report = back_up(folder, tmp_path / "out", link=False)
    assert (report.linked, report.copied) == (0, 8)
    with Collection(tmp_path / "out") as copy:
        index = copy.snapshot().parts[0].ann_index
        assert index is not None
        assert index.open() is not None


def test_files_are_copied_where_they_cannot_be_linked(
    filled: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert back_up(filled.folder, tmp_path / "out").copied == 5
    assert read_everything(tmp_path / "out") == read_everything(filled.folder)


def test_a_compaction_in_the_middle_starts_the_copy_again(
    filled: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = backup._copy_catalog
    times: list[int] = []

    def compact_afterwards(source: Path, pending: Path) -> None:
        real(source, pending)
        times.append(len(times))
        if len(times) == 1:
            filled.compact()

    monkeypatch.setattr(backup, "_copy_catalog", compact_afterwards)
    report = back_up(filled.folder, tmp_path / "out")
    assert times == [0, 1]
    assert report.epoch == filled.collection.head.epoch
    assert read_everything(tmp_path / "out") == read_everything(filled.folder)
    assert len(list((tmp_path / "out").glob("seg-*"))) == 1


def test_a_damaged_collection_leaves_no_backup(filled: Writer, tmp_path: Path) -> None:
    path = next(filled.folder.glob("seg-*/embeddings.npy"))
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CollectionError, match="not sound") as told:
        back_up(filled.folder, tmp_path / "out")
    assert "sha256" in told.value.message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_a_collection_that_lost_commits_is_not_backed_up(
    filled: Writer, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "cut", ignore=shutil.ignore_patterns("*-wal", "*-shm"))
    with pytest.raises(CollectionError, match="was acknowledged"):
        back_up(tmp_path / "cut", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_killed_backup_left_is_removed_and_a_running_one_stays(
    filled: Writer, tmp_path: Path
) -> None:
    left = tmp_path / f"{PENDING}out-0-dead"
    left.mkdir()
    running = tmp_path / f"{PENDING}out-1-alive"
    running.mkdir()
    with WriterLock(running):
        back_up(filled.folder, tmp_path / "out")
    assert not left.exists()
    assert running.exists()


@pytest.mark.parametrize("place", ["photos/out", "photos"])
def test_a_place_that_cannot_be_is_refused(filled: Writer, tmp_path: Path, place: str) -> None:
    with pytest.raises(InputError, match=r"inside of|not an empty folder"):
        back_up(filled.folder, tmp_path / place)


def start(program: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(program), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> list[str]:
    """Kill a process and return the whole lines that it had printed."""
    process.kill()
    assert process.stdout is not None
    lines = [line.strip() for line in process.stdout if line.endswith("\n")]
    process.wait()
    process.stdout.close()
    return lines


class StateBook:
    """The content after each operation of the drill, as hashes, to find where a copy stands."""

    def __init__(self) -> None:
        self._model: drill.Model = {}
        self._states = [self._hash()]

    def has(self, folder: Path, first: int, last: int) -> bool:
        """Return whether a collection is the state after one of these numbers of operations."""
        while len(self._states) <= last:
            drill.apply(self._model, len(self._states) - 1)
            self._states.append(self._hash())
        with Collection(folder) as reader:
            found = {
                item.id: (int(item.version), reader.embedding(item.id).astype(np.float16).tobytes())
                for item in reader.catalog.items()
            }
        return hash(frozenset(found.items())) in self._states[first : last + 1]

    def _hash(self) -> int:
        held = {k: (n, row.astype(np.float16).tobytes()) for k, (n, row) in self._model.items()}
        return hash(frozenset(held.items()))


def drill_backups(folder: Path, out: Path, rounds: int) -> int:
    """Kill backups at random moments while a writer goes on; return how many were finished."""
    create_collection(folder, dim=drill.DIM)
    out.mkdir()
    rng, book, finished, following = random.Random(rounds), StateBook(), 0, 0
    for _ in range(rounds):
        writer = start(Path(drill.__file__), folder, following)
        assert writer.stdout is not None
        begun = int(writer.stdout.readline())
        copier = start(Path(drill_backup.__file__), folder, out)
        assert copier.stdout is not None
        assert copier.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.6))
        printed = end(copier)
        following = int(([str(begun), *end(writer)])[-1]) + 1
        copies = [path for path in out.iterdir() if not path.name.startswith(PENDING)]
        assert {path.name for path in copies} >= set(printed)
        for copy in copies:
            assert verify_collection(copy).is_sound
            # The operation after the last printed one may or may not have been committed.
            assert book.has(copy, begun + 1, following + 1)
            shutil.rmtree(copy)
        finished += len(copies)
        with Writer(folder, seal_rows=drill.SEAL_ROWS):
            assert verify_collection(folder).is_sound
        if not book.has(folder, following, following):
            following += 1
            assert book.has(folder, following, following)
    return finished


def test_killed_backups_leave_nothing_under_their_name(tmp_path: Path) -> None:
    drill_backups(tmp_path / "c", tmp_path / "out", rounds=2)


@pytest.mark.slow
def test_100_killed_backups_lose_nothing(tmp_path: Path) -> None:
    assert drill_backups(tmp_path / "c", tmp_path / "out", rounds=100) > 50


def test_searches_and_writes_go_on_during_backups(filled: Writer, tmp_path: Path) -> None:
    faults: list[Exception] = []

    def copy() -> None:
        try:
            for number in range(5):
                back_up(filled.folder, tmp_path / f"out{number}")
        except Exception as error:
            faults.append(error)

    thread = threading.Thread(target=copy)
    thread.start()
    count = 0
    while thread.is_alive():
        filled.upsert([f"k{count % 40}"], np.ones((1, 16)))
        assert filled.collection.search(np.ones(16), 3)[0]
        count += 1
        if count % 20 == 0:
            filled.compact()
    thread.join()
    assert faults == []
    assert count > 10


def test_a_folder_that_is_half_removed_starts_the_copy_again(
    filled: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[int] = []

    def lose_a_file(origin: Path, target: Path, *, link: bool) -> tuple[int, int]:
        found = link_folder(origin, target, link=link)
        times.append(1)
        if len(times) == 1:
            (target / "rids.npy").unlink()
        return found

    monkeypatch.setattr(backup, "link_folder", lose_a_file)
    back_up(filled.folder, tmp_path / "out")
    assert len(times) == 2
    assert read_everything(tmp_path / "out") == read_everything(filled.folder)
