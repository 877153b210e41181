"""A collection follows its folder: each change once, whatever order, kill or lock."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.index.ingest import drill_watch
from tests.index.ingest.test_builder import DIM, PixelEncoder, paint
from twinlens.errors import InputError
from twinlens.index.collection import Collection
from twinlens.index.ingest import live_folder
from twinlens.index.ingest.builder import BuildOptions, build
from twinlens.index.ingest.intake import IndexingProgress, read_failures
from twinlens.index.ingest.live_folder import LiveFolder, apply_changes, follow
from twinlens.index.verify import verify_collection
from twinlens.index.writer import Writer, create_collection

OPTIONS = BuildOptions(batch=4, workers=2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twenty images, five of them in a folder."""
    folder = tmp_path / "images"
    paint(folder, [f"{n:02}.png" for n in range(15)])
    paint(folder / "trip", [f"{n:02}.png" for n in range(5)], seed=1)
    return folder


@pytest.fixture
def writer(tmp_path: Path, root: Path) -> Iterator[Writer]:
    create_collection(tmp_path / "c", dim=DIM)
    with Writer(tmp_path / "c", seal_rows=30) as opened:
        build(opened, LiveFolder(root).corpus(), PixelEncoder(), OPTIONS)
        yield opened


def apply(writer: Writer, root: Path, *paths: str) -> tuple[int, int]:
    progress = apply_changes(writer, LiveFolder(root), paths, PixelEncoder(), OPTIONS)
    return progress.embedded, progress.removed


def names(place: Path) -> set[str]:
    with Collection(place) as reader:
        return {item.id for item in reader.catalog.items()}


def names_on_disk(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*.png")}


def check_in_step(place: Path, root: Path) -> None:
    """Compare ids and embeddings with the files."""
    encoder = PixelEncoder()
    with Collection(place) as reader:
        assert {item.id for item in reader.catalog.items()} == names_on_disk(root)
        for name in names_on_disk(root):
            pixels = encoder.preprocess((root / name).read_bytes())
            expected = encoder.encode_pixels(pixels[None])[0]
            assert np.allclose(reader.embedding(name), expected, atol=1e-3), name


def test_added_changed_and_removed_files_follow(writer: Writer, root: Path) -> None:
    paint(root, ["new.png", "03.png"], seed=9)
    (root / "04.png").unlink()
    assert apply(writer, root, "new.png", "03.png", "04.png", "05.png") == (2, 1)
    check_in_step(writer.folder, root)


def test_a_folder_that_is_moved_takes_its_images_along(writer: Writer, root: Path) -> None:
    (root / "trip").rename(root / "holiday")
    assert apply(writer, root, "trip", "holiday") == (5, 5)
    check_in_step(writer.folder, root)


def test_a_name_that_only_begins_alike_is_left_alone(writer: Writer, root: Path) -> None:
    paint(root / "trip2", ["a.png"])
    apply(writer, root, "trip2")
    shutil.rmtree(root / "trip")
    assert apply(writer, root, "trip") == (0, 5)
    check_in_step(writer.folder, root)


def test_a_change_told_twice_or_undone_costs_nothing(writer: Writer, root: Path) -> None:
    epoch = writer.catalog.head().epoch
    assert apply(writer, root, "01.png", "none.png", "trip") == (0, 0)
    assert writer.catalog.head().epoch == epoch


def test_items_from_elsewhere_are_not_deleted(writer: Writer, root: Path, tmp_path: Path) -> None:
    writer.upsert(["posted.png"], np.ones((1, DIM)), [{"path": "/elsewhere/posted.png"}])
    assert apply(writer, root, "posted.png") == (0, 0)
    assert "posted.png" in names(writer.folder)


def test_an_image_that_is_damaged_is_a_failure_until_it_is_mended(
    writer: Writer, root: Path
) -> None:
    good = (root / "02.png").read_bytes()
    (root / "00.png").write_bytes(b"no image")
    (root / "02.png").write_bytes(good[: len(good) // 2])
    apply(writer, root, "00.png")
    apply(writer, root, "02.png")
    assert {one["id"] for one in read_failures(writer.folder)} == {"00.png", "02.png"}
    (root / "02.png").write_bytes(good)
    assert apply(writer, root, "02.png") == (1, 0)
    assert {one["id"] for one in read_failures(writer.folder)} == {"00.png"}
    (root / "00.png").unlink()
    apply(writer, root, "00.png")
    assert read_failures(writer.folder) == []


def test_a_folder_that_is_gone_empties_nothing(writer: Writer, root: Path) -> None:
    root.rename(root.with_name("unmounted"))
    with pytest.raises(InputError, match="nothing was deleted"):
        apply(writer, root, *[f"{n:02}.png" for n in range(5)])
    assert len(names(writer.folder)) == 20


def test_more_than_the_limit_is_not_deleted(writer: Writer, root: Path) -> None:
    for n in range(11):
        (root / f"{n:02}.png").unlink()
    with pytest.raises(InputError, match="at most 10 may be"):
        apply(writer, root, *[f"{n:02}.png" for n in range(11)])
    assert len(names(writer.folder)) == 20


class Follower:
    """`follow` in a thread."""

    def __init__(self, place: Path, live: LiveFolder) -> None:
        self.told: list[tuple[int, int]] = []
        self.warnings: list[str] = []
        self.faults: list[BaseException] = []
        self._stop = threading.Event()
        changes = live.watch(self._stop)
        assert next(changes) == set()
        self._thread = threading.Thread(target=self._run, args=(place, live, changes))
        self._thread.start()

    def _run(self, place: Path, live: LiveFolder, changes: Iterator[set[str]]) -> None:
        def tell(progress: IndexingProgress) -> None:
            self.told.append((progress.embedded, progress.removed))

        try:
            follow(place, live, changes, PixelEncoder(), OPTIONS, tell, self.warnings.append)
        except BaseException as error:
            self.faults.append(error)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        assert self.faults == []


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def place(writer: Writer) -> Path:
    """The collection, written to by nobody."""
    writer.close()
    return writer.folder


@pytest.mark.parametrize("poll", [False, True])
def test_a_watch_follows(
    place: Path, root: Path, poll: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_folder, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(live_folder, "WAKE_SECONDS", 0.3)
    follower = Follower(place, LiveFolder(root, poll=poll, quiet=0.05))
    try:
        paint(root / "later", ["a.png", "b.png"], seed=5)
        (root / ".hidden.png").write_bytes((root / "01.png").read_bytes())
        (root / "notes.txt").write_text("no image")
        wait_for(lambda: "later/b.png" in names(place))
        (root / "01.png").unlink()
        wait_for(lambda: "01.png" not in names(place))
    finally:
        follower.close()
    (root / ".hidden.png").unlink()
    check_in_step(place, root)
    assert sum(embedded for embedded, _ in follower.told) == 2


def test_a_watch_waits_for_another_writer(
    place: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_folder, "WAKE_SECONDS", 0.1)
    follower = Follower(place, LiveFolder(root, quiet=0.05))
    try:
        with Writer(place):
            paint(root, ["x.png"], seed=6)
            wait_for(lambda: follower.warnings)
            assert "x.png" not in names(place)
        wait_for(lambda: "x.png" in names(place))
    finally:
        follower.close()
    assert len(follower.warnings) == 1


def disturb(root: Path, rng: random.Random, number: int) -> None:
    """Change the folder in one way."""
    files = sorted(root.rglob("*.png"))
    kind = rng.choice(["add", "add", "change", "remove", "move", "folder"])
    if kind == "folder":
        paint(root / f"f{number}", [f"{n}.png" for n in range(3)], seed=number)
    elif kind == "add" or len(files) < 10:
        paint(root, [f"a{number}.png"], seed=number)
    elif kind == "change":
        chosen = rng.choice(files)
        paint(chosen.parent, [chosen.name], seed=number)
    elif kind == "move":
        rng.choice(files).rename(root / f"m{number}.png")
    else:
        rng.choice(files).unlink()


def drill_watch_of(place: Path, root: Path, rounds: int) -> int:
    """Kill watches at random moments while the folder changes; return the groups applied."""
    create_collection(place, dim=DIM)
    paint(root, [f"{n:02}.png" for n in range(20)])
    rng, number, groups = random.Random(rounds), 0, 0
    command = [sys.executable, str(Path(drill_watch.__file__)), str(place), str(root)]
    for _ in range(rounds):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if rng.random() < 0.8:  # else it is killed while it starts or compares the folder
            process.stdout.readline()
        end = time.monotonic() + rng.uniform(0.1, 1.5)
        while time.monotonic() < end:
            disturb(root, rng, number)
            number += 1
            time.sleep(rng.uniform(0, 0.08))
        process.kill()
        printed, _ = process.communicate()
        groups += sum(line != "ready" for line in printed.splitlines())
        assert verify_collection(place).is_sound
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        disturb(root, rng, number)
        wait_for(lambda: names(place) == names_on_disk(root))
        time.sleep(0.5)  # a change of pixels alone
    finally:
        process.kill()
        process.communicate()
    check_in_step(place, root)
    return groups


def test_a_killed_watch_misses_nothing(tmp_path: Path) -> None:
    drill_watch_of(tmp_path / "c", tmp_path / "images", rounds=2)


@pytest.mark.slow
def test_100_killed_watches_miss_nothing(tmp_path: Path) -> None:
    assert drill_watch_of(tmp_path / "c", tmp_path / "images", rounds=100) > 50
