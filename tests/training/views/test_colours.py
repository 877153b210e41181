"""Colour matrices against torchvision's formulas."""

from __future__ import annotations

import pytest
import torch

from twinlens.training.seeds import generator
from twinlens.training.views.colours import apply_colours, rotate, saturate


def test_colour_matrices_preserve_grey_and_luminance() -> None:
    pixels = torch.rand(5, 3, 20, generator=generator(0))
    grey = saturate(torch.zeros(5)) @ pixels
    assert float(grey.std(dim=1).max()) < 1e-6
    torch.testing.assert_close(rotate(torch.ones(1)), torch.eye(3)[None], atol=1e-4, rtol=0)
    luminance = torch.tensor([0.299, 0.587, 0.114])
    turned = rotate(torch.full((5,), 0.3)) @ pixels
    kept = torch.einsum("c,ncp->np", luminance, turned)
    torch.testing.assert_close(
        kept, torch.einsum("c,ncp->np", luminance, pixels), atol=1e-3, rtol=0
    )


def test_contrast_blends_with_the_mean_luminance_as_torchvision_does() -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    image = torch.rand(3, 12, 12, generator=generator(0)) * 0.5 + 0.2  # nothing clips
    for contrast in (0.6, 1.4):
        expected = functional.adjust_contrast(image, contrast)
        matrix = (torch.eye(3) * contrast)[None]
        ours = apply_colours(image.flatten(1)[None], matrix, torch.tensor([contrast]))
        torch.testing.assert_close(ours[0].reshape(3, 12, 12), expected, atol=2e-3, rtol=0)
