"""Which searches run on a GPU, tested with a fake of FAISS that has the same limits."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.index.synthetic import World
from twinlens.index.collection import Collection
from twinlens.index.maintenance import IndexPlan, optimise, store_sample
from twinlens.index.vectors import gpu
from twinlens.index.vectors.faiss_setup import load_faiss, num_gpus
from twinlens.index.writer import Writer, create_collection

WORLD = World()
COUNT = 4000


class Copy:
    """An index on the device: no selectors, a limit on candidates; breaks on demand."""

    def __init__(self, device: Stand, index: Any) -> None:
        self.device = device
        self.index = index

    def search(self, queries: Any, count: int, params: Any = None) -> Any:
        if self.device.is_broken:
            raise RuntimeError("CUDA error: an illegal memory access")
        assert count <= gpu.MOST
        assert params is None or params.sel is None
        self.device.searches += 1
        return self.index.search(queries, count, params=params)

    def add(self, rows: Any) -> None:
        if self.device.is_full:
            raise RuntimeError("out of memory")
        self.device.added += len(rows)
        self.index.add(rows)


class Stand:
    """FAISS with a device."""

    def __init__(self) -> None:
        self.searches = self.added = 0
        self.is_broken = self.is_full = False
        self.SearchParametersIVF = load_faiss().SearchParametersIVF
        self.GpuIndexFlatConfig = SimpleNamespace

    def get_num_gpus(self) -> int:
        return 1

    def StandardGpuResources(self) -> object:  # noqa: N802
        return object()

    def index_cpu_to_gpu(self, resources: object, device: int, index: Any) -> Copy:
        if self.is_full:
            raise RuntimeError("out of memory")
        return Copy(self, index)

    def index_gpu_to_cpu(self, copy: Copy) -> Any:
        return copy.index

    def GpuIndexFlatIP(self, resources: object, dim: int, config: Any) -> Copy:  # noqa: N802
        assert config.useFloat16
        return Copy(self, load_faiss().IndexFlatIP(dim))


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    made = Stand()
    monkeypatch.setattr(gpu, "load_faiss", lambda: made)
    gpu.find_device.cache_clear()
    yield made
    gpu.find_device.cache_clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("gpu") / "c"
    create_collection(place, dim=WORLD.dim)
    with Writer(place) as writer:
        metadata = [{"n": n} for n in range(COUNT)]
        writer.upsert([f"i{n}" for n in range(COUNT)], WORLD.images(COUNT, 1), metadata)
        store_sample(writer, "text", WORLD.texts(300, 2), "given")
        writer.seal()
        optimise(writer, IndexPlan("ivf-sq8", 0.9))
    return place


QUERIES = WORLD.texts(20, 9)


def ids(collection: Collection, **options: Any) -> list[list[str]]:
    return [[hit.id for hit in hits] for hits in collection.search(QUERIES, 10, **options)]


def test_an_indexed_search_and_an_exact_one_run_on_the_device(folder: Path, stand: Stand) -> None:
    with Collection(folder) as reader:
        on_device = ids(reader), ids(reader, exact=True)
    assert stand.searches == 2
    assert stand.added == COUNT  # the rows, for the exact one
    stand.is_full = True
    with Collection(folder) as reader:
        assert (ids(reader), ids(reader, exact=True)) == on_device
    assert stand.searches == 2  # these ran on the CPU


def test_filters_deletions_and_large_answers_stay_on_the_cpu(folder: Path, stand: Stand) -> None:
    with Collection(folder) as reader:
        ids(reader, filter="n < 3000")
        reader.search(QUERIES, gpu.MOST + 1, exact=True)
    assert stand.searches == 0


def test_a_failing_device_is_dropped_and_the_answer_is_correct(
    folder: Path, stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    with Collection(folder) as reader:
        before = ids(reader)
        stand.is_broken = True
        with caplog.at_level(logging.WARNING, "twinlens.index.vectors.gpu"):
            assert ids(reader) == before
            assert ids(reader) == before
        assert ids(reader, exact=True) == ids(reader, exact=True)
    warnings = [record for record in caplog.records if "continuing on the CPU" in record.message]
    assert len(warnings) == 2  # once per copy, not at every search
    assert stand.searches == 1


def test_rows_are_added_on_the_device_or_without_memory_on_the_cpu(stand: Stand) -> None:
    faiss = load_faiss()
    rows = WORLD.images(500, 1)
    made = []
    for is_full in (False, True):
        stand.is_full = is_full
        empty = faiss.IndexFlatIP(WORLD.dim)
        made.append(gpu.add_blocks(empty, lambda: iter([rows[:300], rows[300:]]), has_kernels=True))
    assert stand.added == 500
    assert [index.ntotal for index in made] == [500, 500]
    found = [index.search(QUERIES, 5)[1] for index in made]
    np.testing.assert_array_equal(found[0], found[1])


def test_without_a_device_nothing_is_copied() -> None:
    gpu.find_device.cache_clear()
    if num_gpus(load_faiss()):
        pytest.skip("there is a GPU here")
    assert gpu.find_device() is None
    assert gpu.copy_rows(WORLD.images(10, 1)) is None
    assert gpu.copy_index(load_faiss().IndexFlatIP(8), "flat") is None


@pytest.mark.slow
def test_the_gpu_benchmark_runs_without_a_gpu(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[3] / "benchmarks" / "search_gpu.py"
    result = tmp_path / "result.json"
    subprocess.run([sys.executable, script, "--dry-run", "--json", result], check=True)
    report = json.loads(result.read_text())
    assert report["bars"]["exact_answers_shared"]["holds"]
    assert report["rows"][0]["what"].startswith("device")
