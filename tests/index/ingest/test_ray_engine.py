"""Builds on Ray: the same items and failures as a local build, each once, whatever is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.index.ingest.test_builder import DIM, PixelEncoder, paint
from twinlens.errors import InputError
from twinlens.index.collection import Collection
from twinlens.index.ingest import ray_engine
from twinlens.index.ingest.builder import BuildOptions, EmbeddingEngine, build
from twinlens.index.ingest.corpus import open_corpus
from twinlens.index.ingest.intake import IndexingProgress, read_failures
from twinlens.index.ingest.ray_blocks import BlockEncoder, PoolSize, choose_block, choose_pool
from twinlens.index.ingest.ray_engine import RayEngine
from twinlens.index.verify import verify_collection
from twinlens.index.writer import Writer, create_collection

ROOT = Path(__file__).parents[3]


def open_pixels(threads: int) -> PixelEncoder:
    return PixelEncoder()


class HereCluster:
    """Stands for a cluster: the pool is this process."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> HereCluster:
        return self

    def __exit__(self, *_: object) -> None: ...

    def size_pool(self) -> PoolSize:
        return PoolSize(2, 1, 0, 1)


def ask_here(blocks: list[Any], work: Any) -> Iterator[Any]:
    reading = work.reading
    worker = BlockEncoder(
        *(work.open_encoder, work.pool.threads),
        *(reading.describe, reading.options, reading.checksum, work.batch),
    )
    yield from map(worker, blocks)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> RayEngine:
    monkeypatch.setattr(ray_engine, "_Cluster", HereCluster)
    monkeypatch.setattr(ray_engine, "_ask_pool", ask_here)
    return RayEngine(open_pixels)


def build_with(
    folder: Path, images: Path, engine: EmbeddingEngine | None, **options: Any
) -> IndexingProgress:
    if not folder.exists():
        create_collection(folder, dim=DIM)
    with Writer(folder) as writer:
        chosen = BuildOptions(batch=4, **options)
        return build(writer, open_corpus(images), PixelEncoder(), chosen, embed=engine)


def read_reasons(folder: Path) -> list[tuple[str, str]]:
    """Return the failures, without the addresses that Pillow's messages hold."""
    return [(one["id"], re.sub("0x[0-9a-f]+", "", one["error"])) for one in read_failures(folder)]


def read_items(folder: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    with Collection(folder) as collection:
        return {one.id: (one.version, one.metadata) for one in collection.catalog.items()}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    paint(folder, [f"{n:03}.png" for n in range(50)])
    (folder / "020.png").write_bytes(b"nothing")
    (folder / "049.png").unlink()
    (folder / "049.png").symlink_to("missing.png")
    old = time.time() - 60
    for path in folder.iterdir():
        if path.exists():
            os.utime(path, (old, old))
    return folder


@pytest.mark.parametrize("size", [4, 13])
def test_blocks_give_the_same_items_and_failures_as_a_local_build(
    tmp_path: Path, images: Path, engine: RayEngine, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "choose_block", lambda *_: size)
    local = build_with(tmp_path / "local", images, None)
    blocks = build_with(tmp_path / "blocks", images, engine)
    assert (blocks.seen, blocks.embedded, blocks.failed) == (
        local.seen,
        local.embedded,
        local.failed,
    )
    assert read_reasons(tmp_path / "blocks") == read_reasons(tmp_path / "local")
    assert read_items(tmp_path / "blocks") == read_items(tmp_path / "local")
    with Collection(tmp_path / "local") as one, Collection(tmp_path / "blocks") as other:
        for name in ("000.png", "021.png", "048.png"):
            assert (one.embedding(name) == other.embedding(name)).all()


def test_a_second_build_embeds_only_what_changed(
    tmp_path: Path, images: Path, engine: RayEngine
) -> None:
    build_with(tmp_path / "c", images, engine)
    again = build_with(tmp_path / "c", images, engine)
    assert (again.embedded, again.unchanged, again.failed) == (0, 48, 1)
    paint(images, ["007.png"], seed=9)
    (images / "008.png").unlink()
    changed = build_with(tmp_path / "c", images, engine)
    assert (changed.embedded, changed.unchanged, changed.removed) == (1, 46, 1)


def test_a_corpus_that_only_the_driver_can_read_is_sent_to_the_workers(
    tmp_path: Path, images: Path, engine: RayEngine
) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for path in sorted(images.glob("00*.png")):
            archive.write(path, path.name)
        archive.writestr("00x.png", b"nothing")
    for name, chosen in (("local", None), ("blocks", engine)):
        progress = build_with(tmp_path / name, tmp_path / "images.zip", chosen)
        assert (progress.embedded, progress.failed) == (10, 1)
    assert read_items(tmp_path / "blocks") == read_items(tmp_path / "local")


def test_waves_keep_the_order_and_miss_nothing(
    tmp_path: Path, images: Path, engine: RayEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_engine, "WAVE_ENTRIES", 7)
    monkeypatch.setattr(ray_engine, "LOOKED_UP", 3)
    assert build_with(tmp_path / "c", images, engine).embedded == 48
    assert list(read_items(tmp_path / "c")) == [f"{n:03}.png" for n in range(49) if n != 20]


@pytest.mark.parametrize(
    ("total", "free", "expected"),
    [
        ({"CPU": 1.0}, {"CPU": 1.0}, PoolSize(1, 1, 0, 1)),
        ({"CPU": 2.0}, {"CPU": 1.0}, PoolSize(2, 1, 0, 1)),
        ({"CPU": 64.0, "GPU": 4.0}, {"CPU": 64.0, "GPU": 4.0}, PoolSize(4, 16, 1, 16)),
        ({"CPU": 2.0, "GPU": 4.0}, {"CPU": 2.0, "GPU": 4.0}, PoolSize(2, 1, 1, 1)),
    ],
)
def test_the_pool_never_asks_for_more_than_the_cluster_has(
    total: dict[str, float], free: dict[str, float], expected: PoolSize
) -> None:
    pool = choose_pool(total, free)
    assert pool == expected
    assert pool.most * pool.cpus <= total["CPU"]
    assert pool.most * pool.gpus <= total.get("GPU", 0)


@pytest.mark.parametrize(
    ("total", "actors", "expected"),
    [
        (None, 2, 32),
        (300, 1, 32),
        (5000, 2, 32),
        (50_000, 2, 100),
        (50_000, 16, 32),
        (10**6, 2, 256),
    ],
)
def test_blocks_grow_with_the_corpus_while_few_images_would_be_repeated(
    total: int | None, actors: int, expected: int
) -> None:
    assert choose_block(total, actors, 32) == expected


@pytest.mark.parametrize(
    ("total", "free"),
    [({"CPU": 2.0}, {"CPU": 0.5}), ({}, {}), ({"CPU": 2.0, "GPU": 1.0}, {"CPU": 2.0})],
)
def test_a_pool_that_could_never_start_is_refused_at_once(
    total: dict[str, float], free: dict[str, float]
) -> None:
    with pytest.raises(InputError, match="has no free"):
        choose_pool(total, free)


class SlowRay:
    """Stands for Ray on a busy machine: the first starts are given up, and leave a process."""

    __file__ = "/nowhere/ray/__init__.py"

    def __init__(self, failures: int, reason: str = "The current node timed out during startup."):
        self.left, self.reason, self.started = failures, reason, 0
        self.nodes: list[subprocess.Popen[bytes]] = []

    def init(self, **_: object) -> None:
        self.started += 1
        if self.left:
            self.left -= 1
            command = [sys.executable, "-c", "import time; time.sleep(60)", "/nowhere/ray/raylet"]
            self.nodes.append(subprocess.Popen(command))
            raise RuntimeError(self.reason)


@pytest.mark.parametrize(
    ("slow", "tries", "message"),
    [
        (SlowRay(0), 1, ""),
        (SlowRay(2), 3, ""),
        (SlowRay(99), ray_engine.START_TRIES, "the machine is busy.*--address auto"),
        (SlowRay(1, "no such file"), 1, "no such file"),
    ],
)
def test_a_start_that_a_busy_machine_delays_is_tried_again(
    slow: SlowRay, tries: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_agent_register_timeout_ms", "1")
    monkeypatch.setattr(ray_engine, "import_ray", lambda: slow)
    if message:
        with pytest.raises((InputError, RuntimeError), match=message):
            ray_engine.start_ray(2)
    else:
        ray_engine.start_ray(2)
    assert slow.started == tries
    if "no such file" in message:  # not a start that was given up
        slow.nodes[0].kill()
    assert [node.wait(timeout=20) for node in slow.nodes] == [-signal.SIGKILL] * len(slow.nodes)


def start_drill(collection: Path, images: Path, log: Path, cpus: int) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("drill_ray.py")
    command = [sys.executable, *map(str, (script, collection, images, log, cpus))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )


def wait_for(process: subprocess.Popen[str], count: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:  # Ray tells of a killed worker between ours
        word = line.strip()
        if word == "done" or (word.isdigit() and int(word) >= count):
            return
    raise AssertionError("the build ended too early")


@pytest.mark.scale
@pytest.mark.parametrize("cpus", [1, 2])
def test_a_killed_worker_and_a_killed_driver_cost_little_and_lose_nothing(
    tmp_path: Path, cpus: int
) -> None:
    """One CPU too: a pool that needs two would wait for ever."""
    total = 5000 if cpus == 2 else 300
    images, log, folder = tmp_path / "images", tmp_path / "log", tmp_path / "c"
    paint(images, [f"{n:05}.png" for n in range(total)])
    create_collection(folder, dim=DIM)
    driver = start_drill(folder, images, log, cpus)
    wait_for(driver, total // 4)
    workers = Counter(line.split()[0] for line in log.read_text().splitlines())
    os.kill(int(next(iter(workers))), signal.SIGKILL)
    wait_for(driver, total // 2)
    driver.kill()
    driver.wait()
    assert driver.stdout is not None
    driver.stdout.close()
    time.sleep(2)  # workers without a driver stop
    again = start_drill(folder, images, log, cpus)
    out, _ = again.communicate(timeout=600)
    assert again.returncode == 0 and "done" in out.splitlines()
    embedded = Counter(line.split()[1] for line in log.read_text().splitlines())
    assert set(read_items(folder)) == {f"{n:05}.png" for n in range(total)}
    assert len(embedded) == total
    repeated = sum(embedded.values()) - total
    if cpus == 2:
        assert repeated <= 0.02 * total, repeated
    assert verify_collection(folder).is_sound
