"""What is iBOT's and DINOv2's own: heads see hidden patches alone, and what centres average."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.training.family import small_batch, small_config, small_network
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.loop.gradients import Differentiator
from twinlens.training.nn.heads import PrototypeHead
from twinlens.training.runs.state import State
from twinlens.training.schedules import TrainingProgress

METHODS = ("ibot", "dinov2")


def open_parts(method: str) -> tuple[Any, Any, Any, State]:
    config = small_config(method)
    net = small_network(config).double()
    state = State(config.objective.state(), net, 0).double()
    return config.objective, net, small_batch(config, 8, torch.float64), state


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_patches_are_the_heads_where_hidden_and_0_elsewhere(method: str) -> None:
    objective, net, batch, _ = open_parts(method)
    found, mask = objective.student(net, batch)["patches"], batch.extra["mask"]
    views = batch.views["global"].flatten(0, 1)
    mask_token = net["mask_token"]()
    tokens = net["image"].tokens(views, hidden=mask.flatten(0, 1), mask_token=mask_token)
    head = net["patch_projector" if objective.separate else "projector"]
    whole = head.narrow(tokens[:, 1:]).unflatten(0, mask.shape[:2])
    torch.testing.assert_close(found[mask], whole[mask])
    assert mask.any() and not found[~mask].any()


@pytest.mark.parametrize("method", METHODS)
def test_the_student_s_head_sees_no_patch_that_is_shown(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, net, batch, _ = open_parts(method)
    seen: list[int] = []
    narrow = PrototypeHead.narrow

    def count(head: PrototypeHead, rows: torch.Tensor) -> torch.Tensor:
        seen.append(rows[..., 0].numel())
        return narrow(head, rows)

    monkeypatch.setattr(PrototypeHead, "narrow", count)
    objective.student(net, batch)
    assert seen == [8 * 2, 8 * 2, int(batch.extra["mask"].sum())]  # large, small, hidden


@pytest.mark.parametrize("method", METHODS)
def test_the_centre_of_patches_moves_to_the_mean_of_the_logits_that_count(method: str) -> None:
    """All that the teacher saw in iBOT, hidden patches alone in DINOv2."""
    objective, net, batch, state = open_parts(method)
    way = Differentiator(objective, net, net, state, Ranks())
    result = way.backward(batch, TrainingProgress(0, 9))
    teacher, mask = state.ema_teacher, batch.extra["mask"]
    assert teacher is not None
    with torch.no_grad():
        tokens = teacher["image"].tokens(batch.views["global"].flatten(0, 1))  # type: ignore[operator]
        head = teacher["patch_projector" if objective.separate else "projector"]
        logits = head(tokens[:, 1:]).unflatten(0, mask.shape[:2])
    counted = logits if method == "ibot" else logits[mask]
    state.update(net, result.state_rows, TrainingProgress(0, 9), Ranks())
    expected = 0.1 * counted.flatten(0, -2).mean(dim=0)
    torch.testing.assert_close(state.tensors()["patch_centre"], expected)


def test_a_batch_without_hidden_patches_leaves_the_centre_where_it_is() -> None:
    objective, net, batch, state = open_parts("dinov2")
    batch.extra["mask"][:] = False
    result = Differentiator(objective, net, net, state, Ranks()).backward(
        batch, TrainingProgress(0, 9)
    )
    assert float(result.terms["patch_loss"]) == 0 and torch.isfinite(result.terms["loss"])
    state.update(net, result.state_rows, TrainingProgress(0, 9), Ranks())
    assert not state.tensors()["patch_centre"].any() and state.tensors()["centre"].any()
