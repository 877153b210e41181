"""Colour matrices against torchvision's formulas."""

from __future__ import annotations

import pytest
import torch

from twinlens.training.seeds import generator
from twinlens.training.views.colours import LUMINANCE, apply_matrix, saturate, turn_hue


def test_grey_keeps_luminance_and_a_full_turn_of_the_hue_changes_nothing() -> None:
    pixels = torch.rand(5, 3, 20, generator=generator(0))
    grey = saturate(torch.zeros(5)) @ pixels
    assert float(grey.std(dim=1).max()) < 1e-6
    luminance = torch.einsum("c,ncp->np", LUMINANCE, pixels)
    torch.testing.assert_close(grey[:, 0], luminance)
    torch.testing.assert_close(turn_hue(pixels, torch.ones(5)), pixels, atol=1e-5, rtol=0)


@pytest.mark.parametrize("turn", [-0.5, -0.2, -0.05, 0.0, 0.1, 0.4])
def test_a_hue_turns_as_torchvision_turns_it(turn: float) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    pixels = torch.rand(3, 40, 40, generator=generator(0))
    pixels[:, :2] = pixels[:1, :2]  # greys have no hue
    pixels[1, 3] = pixels[0, 3]  # and where two channels are equal, either is the largest
    expected = functional.adjust_hue(pixels, turn)
    ours = turn_hue(pixels.flatten(1)[None], torch.tensor([turn]))
    torch.testing.assert_close(ours[0].view_as(pixels), expected, atol=2e-5, rtol=0)


def test_contrast_blends_with_the_mean_luminance_as_torchvision_does() -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    image = torch.rand(3, 12, 12, generator=generator(0)) * 0.5 + 0.2  # nothing clips
    for contrast in (0.6, 1.4):
        expected = functional.adjust_contrast(image, contrast)
        matrix = (torch.eye(3) * contrast)[None]
        ours = apply_matrix(image.flatten(1)[None], matrix, torch.tensor([contrast]))
        torch.testing.assert_close(ours[0].reshape(3, 12, 12), expected, atol=2e-3, rtol=0)
