"""Patches of pixels: cut in the encoder's order, standardised one by one."""

from __future__ import annotations

import torch

from twinlens.training.encoders.vit import SHAPES, VisionTransformer
from twinlens.training.nn.reconstruction import cut_patches, masked_mean, standardise_patches


def test_patches_come_in_the_order_of_the_encoders_tokens() -> None:
    """A convolution whose stride is its size is a linear layer on these patches."""
    tower = VisionTransformer(SHAPES["vit-nano"], 4, 16)
    images = torch.randn(2, 3, 16, 16)
    patches = cut_patches(images, 4)
    weight = tower.embed.weight.flatten(1)
    tokens = tower.embed(images).flatten(2).mT
    bias = tower.embed.get_parameter("bias")
    torch.testing.assert_close(patches @ weight.mT + bias, tokens)


def test_a_decoder_that_answers_zero_has_the_loss_of_chance() -> None:
    """(P - 1) / P, since the deviation is the unbiased one: 0.9987 for P = 768."""
    target = standardise_patches(torch.rand(4, 9, 768, dtype=torch.float64))
    loss = masked_mean(target.square().mean(dim=-1), torch.ones(4, 9, dtype=torch.bool))
    assert abs(float(loss) - 767 / 768) < 1e-4


def test_flat_patches_stay_finite_and_no_mask_means_no_error() -> None:
    assert torch.equal(standardise_patches(torch.full((1, 2, 12), 0.5)), torch.zeros(1, 2, 12))
    values = torch.ones(2, 4)
    mask = torch.tensor([[True, False, False, False], [False] * 4])
    assert float(masked_mean(values, mask)) == 0.5
