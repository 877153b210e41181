"""What is kept between steps: EMA teacher, queue, centre, clamps."""

from __future__ import annotations

import torch

from tests.training.family import small_config, small_network
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.objective import Clamp, Ema, Queue
from twinlens.training.runs.state import State
from twinlens.training.schedules import Cosine, TrainingProgress
from twinlens.training.seeds import generator


def test_an_ema_teacher_is_a_copy_that_follows() -> None:
    config = small_config("byol")
    net = small_network(config)
    state = State((Ema(("image", "projector"), Cosine(0.9, 0.9)),), net, 0)
    assert state.ema_teacher is not None and "predictor" not in state.ema_teacher
    pairs = list(
        zip(state.ema_teacher["image"].parameters(), net["image"].parameters(), strict=True)
    )
    assert all(slow.data_ptr() != fast.data_ptr() for slow, fast in pairs)
    assert not any(slow.requires_grad for slow, _ in pairs)
    before = [slow.clone() for slow, _ in pairs]
    with torch.no_grad():
        for _, fast in pairs:
            fast.add_(1.0)
    state.update(net, [], TrainingProgress(0, 10), Ranks())
    for (slow, fast), old in zip(pairs, before, strict=True):
        torch.testing.assert_close(slow, 0.9 * old + 0.1 * fast)


def test_a_queue_starts_with_unit_rows_wraps_and_keeps_the_newest() -> None:
    net = small_network(small_config("simclr"))
    state = State((Queue("queue", 5, 2, "k"),), net, 0)
    torch.testing.assert_close(state.tensors()["queue"].norm(dim=1), torch.ones(5))
    for number in range(3):
        rows = torch.full((2, 2), float(number))
        state.update(net, [{"k": rows}], TrainingProgress(number, 9), Ranks())
    assert state.tensors()["queue"][:, 0].tolist() == [2.0, 0.0, 1.0, 1.0, 2.0]
    many = torch.arange(16.0).view(8, 2)
    state.update(net, [{"k": many}], TrainingProgress(4, 9), Ranks())
    assert sorted(state.tensors()["queue"][:, 0].tolist()) == [6.0, 8.0, 10.0, 12.0, 14.0]


def test_all_micro_batches_enter_the_queue_after_the_step() -> None:
    net = small_network(small_config("simclr"))
    state = State((Queue("queue", 4, 1, "k"),), net, 0)
    rows_by_part = [{"k": torch.tensor([[float(part)]])} for part in range(3)]
    state.update(net, rows_by_part, TrainingProgress(0, 1), Ranks())
    assert state.tensors()["queue"][:3, 0].tolist() == [0.0, 1.0, 2.0]


def test_a_clamp_bounds_the_parameter_itself() -> None:
    net = small_network(small_config("clip"))
    state = State((Clamp("scale.value", 0.0, 1.0),), net, 0)
    state.update(net, [], TrainingProgress(0, 1), Ranks())
    assert float(net.parts.get_parameter("scale.value").detach()) == 1.0


def test_the_centre_moves_after_the_loss_and_by_raw_logits() -> None:
    config = small_config("dino")
    net = small_network(config)
    state = State(config.objective.state(), net, 0)
    assert float(state.tensors()["centre"].abs().sum()) == 0
    logits = torch.randn(4, 2, 12, generator=generator(0))
    state.update(net, [{"logits": logits}], TrainingProgress(0, 1), Ranks())
    torch.testing.assert_close(state.tensors()["centre"], 0.1 * logits.mean(dim=(0, 1)))
