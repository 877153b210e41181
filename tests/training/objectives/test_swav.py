"""What is SwAV's own: a queue for each large crop that waits until it is full; unit prototypes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.family import small_batch, small_config, small_network, write_images
from tests.training.loop.test_resume import last_tensors
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.loop.gradients import Differentiator
from twinlens.training.loop.loop import train
from twinlens.training.objective import LossInputs, Queue
from twinlens.training.objectives.swav import SwAV
from twinlens.training.runs.state import State
from twinlens.training.schedules import TrainingProgress
from twinlens.training.seeds import generator


def loss_at(step: int, queue_seed: int) -> float:
    config = small_config("swav")
    net = small_network(config)
    state = State(config.objective.state(), net, queue_seed)
    way = Differentiator(config.objective, net, net, state, Ranks())
    result = way.backward(small_batch(config, 8, torch.float32), TrainingProgress(step, 9))
    return float(result.terms["loss"])


def test_the_queue_is_unused_until_it_is_full() -> None:
    """8 images fill 16 places of a crop in two steps."""
    assert loss_at(1, queue_seed=0) == loss_at(1, queue_seed=1)
    assert loss_at(2, queue_seed=0) != loss_at(2, queue_seed=1)


def test_the_queue_takes_the_batch_after_the_loss_has_seen_it() -> None:
    config = small_config("swav")
    net = small_network(config)
    state = State(config.objective.state(), net, 0)
    before = state.tensors()["queue_1"].clone()
    way = Differentiator(config.objective, net, net, state, Ranks())
    result = way.backward(small_batch(config, 8, torch.float32), TrainingProgress(0, 9))
    assert torch.equal(state.tensors()["queue_1"], before)
    state.update(net, result.state_rows, TrainingProgress(0, 9), Ranks())
    second = result.state_rows[0]["z"][:, 1]
    assert torch.equal(state.tensors()["queue_1"][:8], second)
    assert torch.equal(state.tensors()["queue_1"][8:], before[8:])


def follow_the_release(
    z: Tensor, small: Tensor, prototypes: Tensor, begun: int, settings: SwAV
) -> list[tuple[Tensor, Tensor]]:
    """Return each step's loss and its gradient by the crops, as the paper's release takes them.

    z (steps, n, 2, d), small (steps, n, v, d). A queue for each assigned crop begins at step
    `begun`, is used from the first step that finds its last row filled, newest rows first.
    """
    steps, n, _, d = z.shape
    queues, used, found = torch.zeros(2, settings.queue, d, dtype=z.dtype), False, []
    for step in range(steps):
        crops = torch.cat([z[step], small[step]], dim=1).clone().requires_grad_()
        rows = torch.nn.functional.normalize(crops, dim=-1)
        output = rows @ prototypes.mT
        terms = []
        for crop in range(2):
            with torch.no_grad():
                scores = output[:, crop].detach()
                if settings.queue and step >= begun:
                    used = used or bool(queues[crop, -1].any())
                    if used:
                        scores = torch.cat([queues[crop] @ prototypes.mT, scores])
                    queues[crop, n:] = queues[crop, :-n].clone()
                    queues[crop, :n] = rows[:, crop].detach()
                q = torch.exp(scores / settings.sharpness).mT  # (k, rows)
                q /= q.sum()
                for _ in range(settings.iterations):
                    q /= q.sum(dim=1, keepdim=True) * len(q)
                    q /= q.sum(dim=0, keepdim=True) * q.shape[1]
                target = (q * q.shape[1]).mT[-n:]
            others = [v for v in range(rows.shape[1]) if v != crop]
            logs = [(output[:, v] / settings.temperature).log_softmax(dim=1) for v in others]
            losses = [-(target * log).sum(dim=1).mean() for log in logs]
            terms.append(torch.stack(losses).mean())
        loss = torch.stack(terms).mean()
        found.append((loss.detach(), torch.autograd.grad(loss, crops)[0]))
    return found


@pytest.mark.parametrize("epochs", [0.0, 1.5])
def test_steps_with_queues_equal_the_loop_of_the_release(epochs: float) -> None:
    """From the first step to well after the queues are full, in value and gradient."""
    draws, n, steps, per_epoch = generator(0), 4, 9, 2
    settings = SwAV(prototypes=6, dim=5, queue=12, queue_from=epochs)
    z, small = (torch.randn(steps, n, v, 5, generator=draws).double() for v in (2, 3))
    prototypes = torch.nn.functional.normalize(torch.randn(6, 5, generator=draws).double(), dim=1)
    expected = follow_the_release(z, small, prototypes, round(epochs * per_epoch), settings)
    net = small_network(small_config("swav"))
    queues = tuple(item for item in settings.state() if isinstance(item, Queue))
    state, plain = State(queues, net, 0).double(), 0
    for step in range(steps):
        rows = {"z": z[step].clone().requires_grad_(), "small": small[step].clone()}
        rows["small"].requires_grad_()
        progress = TrainingProgress(step, steps, per_epoch)
        inputs = LossInputs(rows, {}, {"prototypes": prototypes}, state.tensors(), {}, progress)
        loss = settings.loss(inputs)["loss"]
        slopes = torch.autograd.grad(loss, [rows["z"], rows["small"]])
        torch.testing.assert_close(loss.detach(), expected[step][0], rtol=1e-12, atol=0)
        torch.testing.assert_close(
            torch.cat(slopes, dim=1), expected[step][1], rtol=1e-9, atol=1e-12
        )
        without = dataclasses.replace(settings, queue=0).loss(inputs)["loss"]
        plain += int(torch.equal(without, loss))
        state.update(net, [{"z": rows["z"].detach()}], progress, Ranks())
    assert plain == 3 + round(epochs * per_epoch)  # and the queues count from then on


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
