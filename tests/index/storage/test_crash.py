"""Crash and corruption: nothing acknowledged is lost, damaged rows are never returned."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.index.storage import drill_writer as drill
from twinlens.errors import CollectionError
from twinlens.index.collection import Collection
from twinlens.index.storage.caption_build import is_complete, match_captions
from twinlens.index.vectors.arrays import Floats
from twinlens.index.verify import verify_collection
from twinlens.index.writer import Writer, create_collection

DRILL = Path(drill.__file__)


def _write_and_kill(folder: Path, start: int, seconds: float) -> int:
    """Let the drill write for a while after a commit; return the next operation's number."""
    process = subprocess.Popen(
        [sys.executable, str(DRILL), str(folder), str(start)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    printed = [int(process.stdout.readline())]
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    printed += [int(line) for line in process.stdout if line.endswith("\n")]
    process.wait()
    timer.join()
    process.stdout.close()
    return printed[-1] + 1


def _content(collection: Collection) -> dict[str, tuple[int, bytes]]:
    return {
        item.id: (int(item.version), collection.embedding(item.id).astype(np.float16).tobytes())
        for item in collection.catalog.items()
    }


def _expected(count: int) -> dict[str, tuple[int, bytes]]:
    model: drill.Model = {}
    for number in range(count):
        drill.apply(model, number)
    return {name: (n, row.astype(np.float16).tobytes()) for name, (n, row) in model.items()}


def _captions_match(writer: Writer) -> bool:
    """Return whether the words of every item's caption find exactly the items that have it."""
    by_version = defaultdict(set)
    for item in writer.catalog.items():
        by_version[item.version].add(item.rid)
    found = {
        version: {rid for rid, _ in match_captions(writer.catalog, f"step{version}", 1000)}
        for version in by_version
    }
    return is_complete(writer.catalog) and found == by_version


@contextmanager
def _reading(folder: Path) -> Iterator[list[str]]:
    """Search in this process concurrently, as a server does; yield the errors."""
    faults: list[str] = []
    done = threading.Event()

    def look() -> None:
        with Collection(folder) as reader:
            while not done.is_set():
                try:
                    reader.search(np.ones(8), k=5)
                except CollectionError as error:
                    faults.append(error.message)
                time.sleep(0.005)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield faults
    finally:
        done.set()
        thread.join()


def _drill(folder: Path, rounds: int) -> None:
    rng = random.Random(rounds)
    create_collection(folder, dim=drill.DIM)
    following = built = 0
    with _reading(folder) as faults:
        for _ in range(rounds):
            following = _write_and_kill(folder, following, rng.uniform(0, 0.25))
            with Writer(folder, seal_rows=drill.SEAL_ROWS) as writer:
                found = _content(writer.collection)
                leftovers = {path.name for path in folder.iterdir() if path.is_dir()}
                rows = writer.catalog.segments()
                indexes = {row.index.name for row in rows if row.index}
                assert leftovers == {row.name for row in rows} | indexes
                built += bool(indexes)
                assert _captions_match(writer)
            assert verify_collection(folder).is_sound
            # The operation after the last printed one may or may not have been committed.
            if found != _expected(following):
                following += 1
                assert found == _expected(following)
    assert faults == []
    assert built or rounds < 50  # indexes were under way too


def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    _drill(tmp_path / "c", rounds=6)


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_kill_9_at_100_points(tmp_path: Path) -> None:
    _drill(tmp_path / "c", rounds=100)


@pytest.fixture
def sound(tmp_path: Path, rows: Callable[[int], npt.NDArray[np.float32]]) -> Path:
    """Return a collection with a segment, tombstones and a delta, closed."""
    folder = tmp_path / "sound"
    create_collection(folder, dim=16)
    with Writer(folder, seal_rows=50) as writer:
        table = rows(80)
        writer.upsert([f"i{n}" for n in range(60)], table[:60], [{"n": n} for n in range(60)])
        writer.upsert([f"j{n}" for n in range(20)], table[60:], [{"n": n} for n in range(20)])
        writer.delete(["i3", "j4"])
    return folder


def _flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1 << (at % 8)
    path.write_bytes(raw)


def test_an_intact_collection_verifies(sound: Path) -> None:
    verdict = verify_collection(sound)
    assert verdict.is_sound
    assert (verdict.items, verdict.files) == (78, 7)


def test_a_flipped_byte_in_a_segment_is_detected_and_never_used_in_an_answer(
    sound: Path, tmp_path: Path
) -> None:
    """A search reads embeddings and rids, one with a filter the columns; the rest stays unread."""
    rng = random.Random(3)
    query = np.ones(16, np.float32)
    with Collection(sound) as reader:
        truth = reader.search(query, k=3)
    names = sorted(path.relative_to(sound) for path in sound.glob("seg-*/*"))
    assert [name.name for name in names] == [
        "columns.bin",
        "embeddings.npy",
        "embeddings.sums.npy",
        "items.bin",
        "rids.npy",
    ]
    for number in range(100):
        place = tmp_path / f"copy{number}"
        shutil.copytree(sound, place)
        name = names[number % 5]
        _flip(place / name, rng.randrange((place / name).stat().st_size))
        assert any(str(name.parent) in fault for fault in verify_collection(place).faults)
        with Collection(place) as reader:
            if name.name in {"embeddings.npy", "rids.npy"}:
                with pytest.raises(CollectionError, match="damaged"):
                    reader.search(query, k=3)
                continue
            if name.name == "items.bin":
                _search_or_find(reader, query, truth)
            else:
                assert reader.search(query, k=3) == truth
            if name.name == "columns.bin":
                with pytest.raises(CollectionError, match="damaged"):
                    reader.search(query, k=3, filter="n >= 0")
            with pytest.raises(CollectionError, match="damaged"):
                reader.warm()


def _search_or_find(reader: Collection, query: Floats, truth: object) -> None:
    """Search; only what is read may be found damaged."""
    try:
        assert reader.search(query, k=3) == truth
    except CollectionError as error:
        assert "damaged" in error.message


@pytest.mark.parametrize("cut", ["shorter", "longer", "missing"])
def test_a_file_of_another_length_is_detected_when_opened(sound: Path, cut: str) -> None:
    path = next(sound.glob("seg-*/embeddings.npy"))
    if cut == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"x" if cut == "longer" else path.read_bytes()[:-1])
    assert verify_collection(sound).faults
    with pytest.raises(CollectionError, match=r"embeddings\.npy"):
        Collection(sound)


def test_a_flipped_byte_in_the_catalog_is_detected_or_changes_nothing(
    sound: Path, tmp_path: Path
) -> None:
    """Bytes that SQLite does not use may flip undetected; then every row is unchanged."""
    with Collection(sound) as reader:
        truth = _everything(reader)
    rng, found = random.Random(5), 0
    size = (sound / "catalog.sqlite").stat().st_size
    for number in range(150):
        place = tmp_path / f"copy{number}"
        shutil.copytree(sound, place)
        _flip(place / "catalog.sqlite", rng.randrange(size))
        if verify_collection(place).faults:
            found += 1
            continue
        with Collection(place) as reader:
            assert _everything(reader) == truth
    assert found > 20  # otherwise the flips hit only padding and the test shows nothing


def _everything(reader: Collection) -> list[object]:
    items = list(reader.catalog.items())
    return [items, [reader.embedding(item.id).tobytes() for item in items], reader.head]
