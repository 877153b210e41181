"""Blends: shares are exactly what is left of an image, in fades and in boxes."""

from __future__ import annotations

import pytest
import torch

from twinlens.training.seeds import generator
from twinlens.training.views.blends import Blends, blend, draw_blends

N, SIDE = 400, 16


def of_numbers() -> torch.Tensor:
    """Return images each of which is its own number everywhere."""
    return torch.arange(float(N))[:, None, None, None].expand(N, 3, SIDE, SIDE).clone()


@pytest.mark.parametrize(
    "blends", [Blends(mixup=0.8), Blends(cutmix=1.0), Blends(0.4, 1.0), Blends(0.4, 1.0, 0.3)]
)
def test_the_share_is_what_is_left_of_an_image(blends: Blends) -> None:
    plan, images = draw_blends(generator(1), blends, N, SIDE), of_numbers()
    blended = blend(images, plan)
    own, other = torch.arange(float(N)), plan.partner.float()
    expected = plan.share * own + (1 - plan.share) * other
    torch.testing.assert_close(blended.mean(dim=(1, 2, 3)), expected, rtol=1e-4, atol=2e-3)
    untouched = float((plan.share == 1).float().mean())
    assert untouched > 0.6 if blends.share < 1 else untouched < 0.25


def test_boxes_hold_the_partner_alone() -> None:
    plan = draw_blends(generator(2), Blends(cutmix=1.0), N, SIDE)
    blended = blend(of_numbers(), plan)
    for place in range(20):
        kinds = set(blended[place].unique().tolist())
        assert kinds <= {float(place), float(plan.partner[place])}


def test_without_alphas_nothing_is_blended() -> None:
    plan = draw_blends(generator(3), Blends(), N, SIDE)
    assert torch.equal(blend(of_numbers(), plan), of_numbers()) and (plan.share == 1).all()


def test_shares_are_those_of_their_beta() -> None:
    share = draw_blends(generator(4), Blends(mixup=2.0), N * 20, SIDE).share
    assert abs(float(share.mean()) - 0.5) < 0.01 and abs(float(share.var()) - 0.05) < 0.004
