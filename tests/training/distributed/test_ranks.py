"""Two gloo ranks give the gradient of a single process, for every objective."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.training.distributed import rank_worker, sharded
from tests.training.loop.test_resume import assert_same_bytes
from twinlens.errors import InputError
from twinlens.training.config import TrainingSettings
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.distributed.sharding import is_sharded
from twinlens.training.runs.run import open_run

WAYS = list(rank_worker.ways())
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run two ranks as processes, and the reference here, once for all methods."""
    out = tmp_path_factory.mktemp("ranks")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, str(ROOT / "tests/training/distributed/rank_worker.py")]
    ranks = [
        subprocess.Popen([*command, str(rank), "2", str(out / "meet"), str(out)], env=environment)
        for rank in range(2)
    ]
    try:
        rank_worker.main(0, 1, "", out)
        assert [rank.wait(timeout=240) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    return out


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way)))
def test_two_ranks_equal_one(way: tuple[str, str, str, int, int], written: Path) -> None:
    name = "-".join(map(str, way)).replace("/", "_")
    one = load_file(written / f"{name}.0of1.safetensors")
    tolerance = 1e-8 if way[1] == "float64" else 1e-5
    for rank in range(2):
        other = load_file(written / f"{name}.{rank}of2.safetensors")
        assert one.keys() == other.keys()
        for part in ("grad", "state"):
            names = [key for key in one if key.startswith(part)]
            if names:
                gap = norm([one[key] - other[key] for key in names])
                assert gap <= tolerance * norm([one[key] for key in names]), part


@pytest.mark.parametrize("name", sharded.CASES)
def test_sharded_parameters_have_the_gradient_and_the_step_of_whole_ones(
    name: str, written: Path
) -> None:
    one = load_file(written / f"fsdp-{name}.0of1")
    for rank in range(2):
        other = load_file(written / f"fsdp-{name}.{rank}of2")
        assert one.keys() == other.keys()
        for part in ("grad", "weight", "state", "norm"):
            names = [key for key in one if key.startswith(part) and "tracked" not in key]
            if names:
                gap = norm([one[key] - other[key] for key in names])
                assert gap <= 1e-8 * norm([one[key] for key in names]), part


@pytest.mark.parametrize("method", sharded.RUNS)
def test_a_sharded_run_resumes_and_leaves_whole_weights(method: str, written: Path) -> None:
    assert_same_bytes(written / f"{method}-straight", written / f"{method}-resumed")
    run = open_run(written / f"{method}-resumed")
    assert run.step == sharded.STEPS
    assert run.towers["image"](torch.zeros(1, 3, 16, 16)).isfinite().all()


def test_a_compiled_run_is_not_sharded() -> None:
    settings = TrainingSettings(parallel="fsdp", compile=True)
    assert not is_sharded(settings, Ranks())
    with pytest.raises(InputError, match="does not go with parallel=fsdp"):
        is_sharded(settings, Ranks(0, 2))


def test_the_gradient_is_not_trivially_zero(written: Path) -> None:
    for path in written.glob("*.0of1.safetensors"):
        tensors = load_file(path)
        assert norm([value for key, value in tensors.items() if key.startswith("grad")]) > 1e-4, (
            path
        )


def norm(tensors: list[Tensor]) -> float:
    return float(torch.cat([tensor.double().flatten() for tensor in tensors]).norm())
