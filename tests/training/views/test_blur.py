"""Banded blurs against dense ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from twinlens.training.seeds import generator
from twinlens.training.views.blur import blur, weigh_bands


def blurring(sigma: Tensor, side: int) -> Tensor:
    """Return the whole matrices (n, side, side) of a blur."""
    return weigh_bands(sigma, side, side, side)[:, 0]


@pytest.mark.parametrize("side", [12, 24, 32, 112])
def test_a_banded_blur_is_the_dense_one(side: int) -> None:
    planes = torch.rand(5, 3, side, side, generator=generator(0))
    sigma = torch.tensor([0.1, 0.4, 0.9, 1.5, 2.0]) * side / 112
    dense = blurring(sigma, side)[:, None]
    torch.testing.assert_close(blur(planes, sigma), dense @ planes @ dense.mT, atol=2e-4, rtol=0)


def test_a_blur_of_zero_is_the_identity_and_others_average() -> None:
    matrices = blurring(torch.tensor([0.0, 1.5]), 9)
    torch.testing.assert_close(matrices[0], torch.eye(9))
    torch.testing.assert_close(matrices[1].sum(dim=1), torch.ones(9))
    assert float(matrices[1].max()) < 0.5


def test_no_weight_is_so_small_that_it_slows_the_product() -> None:
    """A processor may take a hundred times as long for a denormal number."""
    weights = blurring(torch.linspace(0.1, 2.0, 40), 64)
    assert float(weights[weights > 0].min()) > 1e-10
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(40, 64))
