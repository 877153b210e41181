"""What `rank_worker` does with sharded parameters, for `test_ranks`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch
from torch import Tensor, nn

from tests.training.family import small_batch, small_config, small_network, write_images
from twinlens.training.config import Config
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.distributed.sharding import shard_network, whole
from twinlens.training.loop.gradients import Differentiator
from twinlens.training.loop.loop import clip_gradients, take_step
from twinlens.training.loop.opening import open_session
from twinlens.training.loop.optimizers import open_optimizer, schedule_rates
from twinlens.training.progress import Silent
from twinlens.training.runs.assembly import synchronise_norms
from twinlens.training.runs.state import State
from twinlens.training.schedules import TrainingProgress


@dataclass(frozen=True)
class Case:
    """A network whose parameters are sharded, and how its step is taken."""

    method: str
    encoder: str = "vit-nano/4"
    chunk: int = 0
    optimizer: Literal["sgd", "adamw", "lars"] = "sgd"


CASES = {
    "moco": Case("moco", "resnet-tiny"),  # BatchNorm over ranks and a queue
    "byol": Case("byol", optimizer="lars"),  # an EMA teacher
    "clip": Case("clip", chunk=2, optimizer="adamw"),  # cached gradients and a learned scale
    "swav": Case("swav"),  # unit rows
    "ibot": Case("ibot"),  # prototypes that the loss itself reads, and a teacher's
    "timm": Case("barlow", "timm:test_resnet", optimizer="lars"),
    "timm-vit": Case("vicreg", "timm:test_vit", optimizer="adamw"),
}
N, CLIP, STEPS = 8, 0.5, 3


def differentiate(case: Case, ranks: Ranks) -> dict[str, Tensor]:
    """Return clipped gradients, weights after the step and updated state, put together."""
    config = small_config(case.method, encoder=case.encoder, optimizer=case.optimizer)
    net = small_network(config, norms=case.chunk == 0)
    synchronise_norms(net, config, ranks.world)
    net.double()
    state = State(config.objective.state(), net, 0).double()
    passes: nn.Module = net
    if ranks.world > 1:
        shard_network(net, torch.device("cpu"), ranks)
    local = N // ranks.world
    batch = small_batch(config, N, torch.float64).part(ranks.rank * local, (ranks.rank + 1) * local)
    way = Differentiator(config.objective, net, passes, state, ranks, None, case.chunk)
    result = way.backward(batch, TrainingProgress(1, 4))
    norm = clip_gradients(net, CLIP)
    assert norm is not None
    optimizer = open_optimizer(net, config.objective.groups(), config.settings)
    schedule_rates(optimizer, config.settings, TrainingProgress(1, 4))
    optimizer.step()
    state.update(net, result.state_rows, TrainingProgress(1, 4), ranks)
    found = {f"state/{name}": value for name, value in state.state_dict().items()}
    for name, parameter in net.parts.named_parameters():
        found[f"weight/{name}"] = whole(parameter)
        if parameter.grad is not None:
            found[f"grad/{name}"] = whole(parameter.grad)
    return {name: value.detach().clone().contiguous() for name, value in found.items()} | {
        "norm": norm.detach().clone()
    }


RUNS: dict[str, dict[str, Any]] = {
    "clip": {"optimizer": "adamw"},
    "byol": {},
    "barlow": {"optimizer": "lars", "precision": "bf16", "encoder": "timm:test_resnet"},
}


def config_of(method: str) -> Config:
    """Return the settings of a sharded run."""
    common: dict[str, Any] = {"parallel": "fsdp", "steps": STEPS, "save_every": 1}
    return small_config(method, **common, **RUNS[method])


def train_and_resume(out: Path, ranks: Ranks) -> None:
    """Train each twice, once with a new session in the middle."""
    if ranks.first:
        write_images(out / "data", 20)
    ranks.wait()
    place = {"WORLD_SIZE": str(ranks.world), "LOCAL_RANK": str(ranks.rank)}
    with mock.patch.dict(os.environ, place):
        for method in RUNS:
            config, data = config_of(method), out / "data"
            train_in_parts(config, data, out / f"{method}-straight", [STEPS])
            train_in_parts(config, data, out / f"{method}-resumed", [1, STEPS])


def train_in_parts(config: Config, data: Path, run: Path, ends: list[int]) -> None:
    """Train to each of the ends in a session of its own."""
    for end in ends:
        session = open_session(config, str(data), run, Silent())
        for step in range(session.step, end):
            take_step(session, step, Silent())
        session.close()
