"""What `rank_worker` does with sharded parameters, for `test_ranks`."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn

from tests.training.family import small_batch, small_config, small_network, write_images
from twinlens.training.assembly import synchronise_norms
from twinlens.training.config import Config
from twinlens.training.gradients import Differentiator
from twinlens.training.loop import clip_gradients, take_step
from twinlens.training.parallel import Ranks
from twinlens.training.progress import Silent
from twinlens.training.schedules import Progress
from twinlens.training.session import open_session
from twinlens.training.sharding import shard_network, whole
from twinlens.training.state import State

# BatchNorm over ranks and a ring; a twin; cached gradients and a learned scale; unit rows.
METHODS = {"moco": 0, "byol": 0, "clip": 2, "swav": 0}
N, CLIP, STEPS = 8, 0.5, 3


def differentiate(method: str, ranks: Ranks) -> dict[str, Tensor]:
    """Return the clipped gradient of sharded parameters and the renewed state, put together."""
    config = small_config(method, encoder="resnet-tiny" if method == "moco" else "vit-nano/4")
    net = small_network(config, norms=METHODS[method] == 0)
    synchronise_norms(net, config, ranks.world)
    net.double()
    state = State(config.objective.state(), net, 0).double()
    passes: nn.Module = net
    if ranks.world > 1:
        shard_network(net, torch.device("cpu"), ranks)
    local = N // ranks.world
    batch = small_batch(config, N, torch.float64).part(ranks.rank * local, (ranks.rank + 1) * local)
    way = Differentiator(config.objective, net, passes, state, ranks, None, METHODS[method])
    outcome = way.backward(batch, Progress(1, 4))
    norm = clip_gradients(net, CLIP)
    state.renew(net, outcome.taught, Progress(1, 4), ranks)
    found = {f"state/{name}": value for name, value in state.state_dict().items()}
    for name, parameter in net.parts.named_parameters():
        found[f"weight/{name}"] = whole(parameter)
        if parameter.grad is not None:
            found[f"grad/{name}"] = whole(parameter.grad)
    return {name: value.detach().clone().contiguous() for name, value in found.items()} | {
        "norm": norm.detach().clone()
    }


def config_of(method: str) -> Config:
    """Return the settings of a sharded run."""
    optimizer = "adamw" if method == "clip" else "sgd"
    return small_config(method, parallel="fsdp", steps=STEPS, save_every=1, optimizer=optimizer)


def train_and_resume(out: Path, ranks: Ranks) -> None:
    """Train CLIP and BYOL twice, once with a new session in the middle."""
    if ranks.first:
        write_images(out / "data", 20)
    ranks.wait()
    place = {"WORLD_SIZE": str(ranks.world), "LOCAL_RANK": str(ranks.rank)}
    with mock.patch.dict(os.environ, place):
        for method in ("clip", "byol"):
            train_in_parts(config_of(method), out, f"{method}-straight", [STEPS])
            train_in_parts(config_of(method), out, f"{method}-resumed", [1, STEPS])


def train_in_parts(config: Config, out: Path, name: str, ends: list[int]) -> None:
    """Train to each of the ends in a session of its own."""
    for end in ends:
        session = open_session(config, str(out / "data"), out / name, Silent())
        for step in range(session.step, end):
            take_step(session, step, Silent())
        session.close()
