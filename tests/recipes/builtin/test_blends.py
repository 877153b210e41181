"""Blends: which images are blended, and what their loss asks for."""

from __future__ import annotations

import torch

from recipes.builtin.blends import Blends, blend_views, measure_blends
from recipes.builtin.loss import cut

CLASSES = {
    "clothes": torch.tensor([-1, -1, -1, -1, 2, 3, 2, 3]),
    "groups": torch.tensor([0, 1, 0, -1, -1, -1, -1, -1]),
}


def test_photographs_are_blended_with_photographs_and_groups_with_groups() -> None:
    views = torch.arange(8.0)[:, None, None, None].expand(8, 3, 2, 2)
    blends = blend_views(views, CLASSES, 6)
    assert len(blends.views) == 6
    for first, second in zip(blends.first.tolist(), blends.second.tolist(), strict=True):
        assert (first >= 4) == (second >= 4)
        assert 3 not in (first, second)  # nothing is known of it
    assert (blends.share >= 0.5).all()
    expected = blends.first * blends.share + blends.second * (1 - blends.share)
    torch.testing.assert_close(blends.views[:, 0, 0, 0], expected)


def test_no_blends_are_made_where_none_are_asked_for_or_nothing_is_known() -> None:
    views = torch.zeros(8, 3, 2, 2)
    assert len(blend_views(views, CLASSES, 0).views) == 0
    unknown = {name: torch.full((8,), -1) for name in CLASSES}
    blends = blend_views(views, unknown, 6)
    assert len(blends.views) == 0
    assert not measure_blends(
        torch.zeros(0, 4), {"groups": torch.eye(4)}, unknown, blends, torch.tensor(1.0)
    )


def test_the_loss_is_least_between_both_classes_and_nearer_to_the_greater_share() -> None:
    bank = torch.eye(4)
    blends = Blends(
        torch.zeros(1, 3, 2, 2), torch.tensor([0]), torch.tensor([1]), torch.tensor([0.7])
    )
    classes = {"groups": torch.tensor([0, 1])}

    def measure(*row: float) -> float:
        rows = cut(torch.tensor([row], dtype=torch.float32))
        return float(
            measure_blends(rows, {"groups": bank}, classes, blends, torch.tensor(3.0))["groups"]
        )

    right = measure(0.8, 0.6, 0, 0)
    assert right < measure(0.6, 0.8, 0, 0) < measure(0, 1, 0, 0)
    assert right < measure(1, 0, 0, 0)
    assert right < measure(0, 0, 1, 0)
