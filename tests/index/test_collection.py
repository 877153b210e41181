"""The collection on disk: writes are visible to this process and to others."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinlens.bundle.arrays import Rows
from twinlens.errors import (
    CollectionError,
    InputError,
    LockedError,
    NotFoundError,
    ReadOnlyError,
)
from twinlens.index.collection import Collection
from twinlens.index.storage.durable import refuse_network
from twinlens.index.storage.lock import WriterLock
from twinlens.index.writer import Writer, create_collection

Make = Callable[[int], Rows]


def test_items_survive_seal_compaction_and_reopening(folder: Path, rows: Make) -> None:
    table = rows(300)
    ids = [f"i{n:03}" for n in range(300)]
    with Writer(folder, seal_rows=20) as writer:
        for start in range(0, 300, 15):
            writer.upsert(ids[start : start + 15], table[start : start + 15])
        assert len(writer.catalog.segments()) < 8  # small ones were merged meanwhile
        writer.delete(ids[:100])
        writer.upsert(ids[100:110], -table[100:110], [{"new": True}] * 10)
        writer.compact()
        assert len(writer.catalog.segments()) == 1
        assert not len(writer.catalog.changes(0, 0).tombstones)
        folders = [path.name for path in folder.iterdir() if path.is_dir()]
        assert folders == [writer.catalog.segments()[0].name]
    with Collection(folder) as reader:
        assert reader.count() == 200
        assert reader.count("new = true") == 10
        for n in (100, 109, 110, 299):
            sign = -1 if n < 110 else 1
            assert reader.search(sign * table[n], k=1)[0][0].id == ids[n]
        with pytest.raises(NotFoundError, match="i000"):
            reader.get("i000")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: w.upsert(["a"], np.zeros((1, 16))), "has length 0"),
        (lambda w: w.upsert(["a"], np.full((1, 16), np.nan)), "not finite"),
        (lambda w: w.upsert(["a"], np.ones((1, 8))), "dimension 16"),
        (lambda w: w.upsert(["a", "b"], np.ones((1, 16))), "2 ids but 1 embeddings"),
        (lambda w: w.upsert([""], np.ones((1, 16))), "not usable"),
        (lambda w: w.upsert(["\ud800"], np.ones((1, 16))), "not valid Unicode"),
        (lambda w: w.upsert(["a"], np.ones((1, 16)), [{"x": object()}]), "JSON"),
        (lambda w: w.collection.search(np.ones(16), k=0), "between 1 and"),
    ],
)
def test_invalid_items_are_refused_and_change_nothing(
    writer: Writer, call: Callable[[Writer], object], message: str
) -> None:
    epoch = writer.catalog.head().epoch
    with pytest.raises(InputError, match=message):
        call(writer)
    assert writer.catalog.head().epoch == epoch
    assert writer.collection.count() == 0


def test_a_second_writer_is_refused_and_the_error_names_the_first(
    folder: Path, writer: Writer
) -> None:
    with pytest.raises(LockedError, match=r"process \d+ on") as caught:
        Writer(folder)
    assert caught.value.code == "locked"
    writer.close()
    Writer(folder).close()


def test_the_lock_is_released_when_its_process_dies(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path;"
        "from twinlens.index.storage.lock import WriterLock;"
        "lock = WriterLock(Path(sys.argv[1])); print('locked', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    with pytest.raises(LockedError):
        WriterLock(tmp_path)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    WriterLock(tmp_path).release()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_to_is_told_with_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.open

    def refuse(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if str(path).endswith("writer.lock"):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ReadOnlyError, match=r"cannot be written to: .*; copy the collection"):
        Writer(folder)


def test_a_folder_that_is_not_a_collection_is_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(CollectionError, match="is not a collection"):
        Collection(tmp_path)
    with pytest.raises(CollectionError, match="is not a collection"):
        Writer(tmp_path)
    with pytest.raises(InputError, match="not an empty folder"):
        create_collection(folder, dim=4)


def test_a_network_file_system_is_refused_for_writing(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
    with pytest.raises(InputError, match="nfs4"):
        refuse_network(tmp_path / "photos", mounts)
    mounts.write_text(f"server:/x / nfs4 rw 0 0\n/dev/a {tmp_path} ext4 rw 0 0\n")
    refuse_network(tmp_path / "photos", mounts)


def test_searches_continue_without_error_while_segments_change(folder: Path, rows: Make) -> None:
    """Readers see every acknowledged item and no deleted one, whatever maintenance runs."""
    table = rows(400)
    ids = [f"i{n}" for n in range(400)]
    faults: list[str] = []
    done = threading.Event()
    with Writer(folder, seal_rows=32) as writer, Collection(folder) as other:
        writer.upsert(ids[:100], table[:100])
        other.refresh()

        def look(collection: Collection) -> None:
            turn = 0
            while not done.is_set():
                turn = (turn + 1) % 100
                hits = collection.search(table[turn], k=3)[0]
                if len(hits) != 3 or hits[0].id != ids[turn]:
                    faults.append(f"{turn}: {hits}")

        threads = [threading.Thread(target=look, args=(one,)) for one in (writer.collection, other)]
        for thread in threads:
            thread.start()
        for start in range(100, 400, 20):
            writer.upsert(ids[start : start + 20], table[start : start + 20])
            assert writer.collection.search(table[start], k=1)[0][0].id == ids[start]
        writer.delete(ids[200:])
        writer.compact()
        time.sleep(0.05)
        done.set()
        for thread in threads:
            thread.join()
        other.refresh()
        assert other.count() == writer.collection.count() == 200
    assert faults == []


def test_a_segment_compacted_away_before_its_first_search_still_answers(
    folder: Path, rows: Make
) -> None:
    table = rows(120)
    with Writer(folder, seal_rows=50) as writer:
        writer.upsert([str(n) for n in range(60)], table[:60])
        with Collection(folder) as reader:
            snapshot = reader.snapshot()  # open, but not read yet
            writer.upsert([str(n) for n in range(60, 120)], table[60:])
            writer.compact()
            assert len(list(folder.glob("seg-*"))) == 1
            scores, rids = snapshot.search(table[3:4], 1)
            assert (round(float(scores[0, 0]), 2), int(rids[0, 0])) == (1.0, 4)


def test_a_folder_without_write_permission_is_searched(folder: Path, rows: Make) -> None:
    table = rows(60)
    with Writer(folder, seal_rows=50) as writer:
        writer.upsert([str(n) for n in range(60)], table)
    folder.chmod(0o555)
    try:
        with Collection(folder) as reader:
            assert reader.search(table[7], k=1)[0][0].id == "7"
    finally:
        folder.chmod(0o755)
