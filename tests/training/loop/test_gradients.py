"""One gradient, three ways: whole, cached and accumulated agree where they promise to."""

from __future__ import annotations

import pytest
import torch

from tests.training.family import (
    PROVEN,
    gradients,
    is_coupled,
    small_batch,
    small_config,
    small_network,
)
from twinlens.errors import InputError
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.loop.gradients import BackwardResult, Differentiator
from twinlens.training.nn.network import Network
from twinlens.training.runs.state import State
from twinlens.training.schedules import TrainingProgress

COUPLED = [name for name in PROVEN if is_coupled(name)]
ALONE = [name for name in PROVEN if not is_coupled(name)]


def differentiate(
    method: str, *, norms: bool, chunk: int = 0, accumulate: int = 1, encoder: str = "vit-nano/4"
) -> tuple[Network, BackwardResult]:
    config = small_config(method, encoder=encoder)
    net = small_network(config, norms=norms).double()
    state = State(config.objective.state(), net, 0).double()
    way = Differentiator(config.objective, net, net, state, Ranks(), None, chunk)
    batch = small_batch(config, 8, torch.float64)
    torch.manual_seed(0)
    return net, way.backward(batch, TrainingProgress(1, 4), accumulate=accumulate)


def largest_difference(one: Network, other: Network) -> float:
    pairs = zip(gradients(one), gradients(other), strict=True)
    return max(float((a - b).norm() / (a.norm() + 1e-6)) for (_, a), (_, b) in pairs)


@pytest.mark.parametrize("chunk", [3, 4, 8])
@pytest.mark.parametrize("method", PROVEN)
def test_cached_gradients_equal_the_whole_batch_where_rows_do_not_mix(
    method: str, chunk: int
) -> None:
    whole, whole_outcome = differentiate(method, norms=False)
    cached, cached_outcome = differentiate(method, norms=False, chunk=chunk)
    assert largest_difference(whole, cached) < 1e-9
    assert float(whole_outcome.terms["loss"]) == pytest.approx(float(cached_outcome.terms["loss"]))


@pytest.mark.parametrize("method", PROVEN)
def test_cached_gradients_with_batchnorm_equal_a_forward_in_chunks(method: str) -> None:
    """The reference keeps the graph of every chunk and takes one backward pass."""
    config = small_config(method, encoder="resnet-tiny")
    net = small_network(config).double()
    state = State(config.objective.state(), net, 0).double()
    batch = small_batch(config, 8, torch.float64)
    way = Differentiator(config.objective, net, net, state, Ranks())
    torch.manual_seed(0)
    parts = [batch.part(0, 4), batch.part(4, 8)]
    teacher_rows = [way._teacher_rows(part) for part in parts]
    passes = [way._student(part) for part in parts]
    rows = {name: torch.cat([rows[name] for rows, _ in passes]) for name in passes[0][0]}
    targets = {name: torch.cat([part[name] for part in teacher_rows]) for name in teacher_rows[0]}
    loss = way._loss(rows, targets, passes[0][1], batch, TrainingProgress(1, 4))["loss"]
    torch.autograd.backward(loss)
    cached, _ = differentiate(method, norms=True, chunk=4, encoder="resnet-tiny")
    assert largest_difference(net, cached) < 1e-9


@pytest.mark.parametrize("method", PROVEN)
def test_cached_gradients_move_running_statistics_once(method: str) -> None:
    cached, _ = differentiate(method, norms=True, chunk=8, encoder="resnet-tiny")
    whole, _ = differentiate(method, norms=True, encoder="resnet-tiny")
    for (name, one), (_, other) in zip(cached.named_buffers(), whole.named_buffers(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


@pytest.mark.parametrize("method", ALONE)
def test_accumulation_equals_the_whole_batch_where_the_loss_is_per_image(method: str) -> None:
    whole, _ = differentiate(method, norms=False)
    parts, result = differentiate(method, norms=False, accumulate=4)
    assert largest_difference(whole, parts) < 1e-9
    assert len(result.state_rows) == 4


@pytest.mark.parametrize("method", COUPLED)
def test_accumulation_of_a_coupled_loss_is_refused_with_the_reason(method: str) -> None:
    with pytest.raises(InputError, match=r"fewer negatives.*chunk"):
        differentiate(method, norms=False, accumulate=2)
