"""One of two ranks: every method's gradient and updated state, written for `test_ranks`.

Run as `python rank_worker.py RANK WORLD RENDEZVOUS OUT`. With a world of 1 it is the reference.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.training.distributed import sharded
from tests.training.family import PROVEN, is_coupled, small_batch, small_config, small_network
from twinlens.training.distributed.ranks import Ranks, leave_ranks, wrap_ddp
from twinlens.training.loop.gradients import Differentiator
from twinlens.training.objective import ENCODED, Batch
from twinlens.training.runs.assembly import synchronise_norms
from twinlens.training.runs.state import State
from twinlens.training.schedules import TrainingProgress

N = 8
DTYPES = {"float64": torch.float64, "float32": torch.float32}


def ways() -> Iterator[tuple[str, str, str, int, int]]:
    """Yield (method, dtype, encoder, chunk, accumulate): all that must not depend on ranks."""
    for method in PROVEN:
        for dtype in DTYPES:
            yield method, dtype, "resnet-tiny", 0, 1
        # Chunks and micro-batches of one rank are not those of two, so no BatchNorm here.
        yield method, "float64", "vit-nano/4", 2, 1
        if not is_coupled(method):
            yield method, "float64", "vit-nano/4", 0, 2


def differentiate(
    method: str, dtype: str, encoder: str, chunk: int, accumulate: int, ranks: Ranks
) -> dict[str, Tensor]:
    """Return gradients and state after one step's backward pass and update."""
    config = small_config(method, encoder=encoder)
    net = small_network(config, norms=encoder == "resnet-tiny")
    synchronise_norms(net, config, ranks.world)
    net.to(DTYPES[dtype])
    state = State(config.objective.state(), net, 0).to(DTYPES[dtype])
    passes: nn.Module = net
    if ranks.world > 1:
        passes = wrap_ddp(net, torch.device("cpu"))
    local = N // ranks.world
    whole = small_batch(config, N, DTYPES[dtype])
    batch = cut_texts(whole.part(ranks.rank * local, (ranks.rank + 1) * local))
    way = Differentiator(config.objective, net, passes, state, ranks, None, chunk)
    torch.manual_seed(0)
    result = way.backward(batch, TrainingProgress(1, 4), accumulate=accumulate)
    state.update(net, result.state_rows, TrainingProgress(1, 4), ranks)
    grads = {f"grad/{k}": p.grad for k, p in net.parts.named_parameters() if p.grad is not None}
    kept = {f"state/{k}": v for k, v in state.state_dict().items() if "tracked" not in k}
    return {k: v.detach().clone().contiguous() for k, v in {**grads, **kept}.items()}


def cut_texts(batch: Batch) -> Batch:
    """Return the batch with texts padded to its own longest, as a rank's feeder has them."""
    cut = {
        name: rows[..., : int((rows != 0).flatten(0, -2).any(dim=0).sum())]
        for name, rows in batch.extra.items()
        if name in ENCODED
    }
    return Batch(batch.views, {**batch.extra, **cut})


def main(rank: int, world: int, rendezvous: str, out: Path) -> None:
    """Write one file per way."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world
        )
    ranks = Ranks(rank, world)
    for name, case in sharded.CASES.items():
        save_file(sharded.differentiate(case, ranks), out / f"fsdp-{name}.{rank}of{world}")
    if world > 1:
        sharded.train_and_resume(out, ranks)
    for way in ways():
        name = "-".join(map(str, way)).replace("/", "_")
        save_file(differentiate(*way, ranks), out / f"{name}.{rank}of{world}.safetensors")
    leave_ranks(ranks)


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
