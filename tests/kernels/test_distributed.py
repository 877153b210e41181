"""Three processes over gloo give the loss and the gradients of one."""

from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from twinlens.kernels import reference
from twinlens.kernels.pairs import Pairs

RANKS, EACH, DIM = 3, 20, 24


def _problems() -> dict[str, dict[str, Any]]:
    torch.manual_seed(0)
    n = RANKS * EACH
    x, y = torch.randn(n, DIM), torch.randn(n, DIM)
    views, labels = torch.randn(n, DIM), torch.randint(0, 7, (n,))
    opposed = torch.nn.functional.normalize(torch.randn(1, DIM), dim=1)
    noise = 0.1 * torch.randn(2, n, DIM) / DIM**0.5
    return {
        "clip": {"x": x, "y": y, "scale": 50.0},
        "kept terms": {"x": x, "y": y, "scale": 50.0, "memory": "stored"},
        "underflowed": {"x": opposed + noise[0], "y": -opposed + noise[1], "scale": 150.0},
        "supcon": {"x": views, "y": views, "scale": 14.3, "labels": labels, "symmetric": False},
        "labels both ways": {"x": views, "y": views, "scale": 14.3, "labels": labels},
        "siglip": {"x": x, "y": y, "scale": 10.0, "bias": -3.0, "kind": "sigmoid"},
    }


def _work(rank: int, port: int, folder: str) -> None:
    from twinlens.kernels.distributed import sharded_contrastive_loss

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    mine = slice(rank * EACH, (rank + 1) * EACH)
    results = {}
    for name, problem in _problems().items():
        given = dict(problem)
        inputs = [given.pop(k)[mine].clone().requires_grad_() for k in ("x", "y")]
        inputs.append(torch.tensor(given.pop("scale"), requires_grad=True))
        if "bias" in given:
            given["bias"] = torch.tensor(given["bias"], requires_grad=True)
            inputs.append(given["bias"])
        if "labels" in given:
            given["labels"] = given["labels"][mine]
        given["combine"] = "sum" if name != "siglip" else "mean"
        value = sharded_contrastive_loss(inputs[0], inputs[1], inputs[2], **given)
        with torch.no_grad():
            alone = sharded_contrastive_loss(inputs[0], inputs[1], inputs[2], **given)
        torch.testing.assert_close(alone, value.detach())
        results[name] = (value.detach(), torch.autograd.grad(value, inputs))
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_work, args=(r, port, str(folder))) for r in range(RANKS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * RANKS
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("name", _problems())
def test_three_ranks_equal_one_process(name: str, ranks: list[dict[str, Any]]) -> None:
    given = _problems()[name]
    labels = given.get("labels")
    pairs = Pairs() if labels is None else Pairs(0, labels, labels, exclude_self=True)
    bias = given.get("bias")
    true, gradients = reference.oracle(
        given["x"],
        given["y"],
        torch.tensor(given["scale"]),
        pairs,
        bias=None if bias is None else torch.tensor(bias),
        kind=given.get("kind", "softmax"),
        symmetric=given.get("symmetric", True),
    )
    boost = RANKS if name == "siglip" else 1
    tolerance = 2e-5 if name == "underflowed" else 4e-6
    for value, _ in (rank[name] for rank in ranks):
        torch.testing.assert_close(value.double(), true, rtol=1e-6, atol=1e-6)
    for place, key in enumerate(("x", "y")):
        whole = torch.cat([rank[name][1][place] for rank in ranks])
        assert _error(whole, boost * gradients[key]) <= tolerance
    for place, key in enumerate(("scale", "bias")[: len(gradients) - 2], start=2):
        for rank in ranks:
            assert _error(rank[name][1][place], gradients[key]) <= 10 * tolerance


def _error(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want).norm() / want.norm())
