"""What is SwAV's own: a queue that waits until it is full, and prototypes of fixed length."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.training.family import small_batch, small_config, small_network, write_images
from tests.training.loop.test_resume import last_tensors
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.loop.gradients import Differentiator
from twinlens.training.loop.loop import train
from twinlens.training.runs.state import State
from twinlens.training.schedules import TrainingProgress


def loss_at(step: int, queue_seed: int) -> float:
    config = small_config("swav")
    net = small_network(config)
    state = State(config.objective.state(), net, queue_seed)
    way = Differentiator(config.objective, net, net, state, Ranks())
    result = way.backward(small_batch(config, 8, torch.float32), TrainingProgress(step, 9))
    return float(result.terms["loss"])


def test_the_queue_is_unused_until_it_is_full() -> None:
    """8 images of 2 crops fill 16 places in one step."""
    assert loss_at(0, queue_seed=0) == loss_at(0, queue_seed=1)
    assert loss_at(1, queue_seed=0) != loss_at(1, queue_seed=1)


def test_the_queue_takes_the_batch_after_the_loss_has_seen_it() -> None:
    config = small_config("swav")
    net = small_network(config)
    state = State(config.objective.state(), net, 0)
    before = state.tensors()["queue"].clone()
    way = Differentiator(config.objective, net, net, state, Ranks())
    result = way.backward(small_batch(config, 8, torch.float32), TrainingProgress(0, 9))
    assert torch.equal(state.tensors()["queue"], before)
    state.update(net, result.state_rows, TrainingProgress(0, 9), Ranks())
    assert not (state.tensors()["queue"] == before).all(dim=1).any()


def test_prototypes_have_unit_length_before_every_forward(tmp_path: Path) -> None:
    config = small_config("swav", steps=3, lr=5.0)
    net = small_network(config)
    State(config.objective.state(), net, 0)
    torch.testing.assert_close(
        net["prototypes"].get_parameter("weight").norm(dim=1), torch.ones(12)
    )
    train(config, str(write_images(tmp_path / "data", 20)), tmp_path / "run")
    trained = last_tensors(tmp_path / "run")["weights/prototypes.weight"]
    torch.testing.assert_close(trained.norm(dim=1), torch.ones(12))
