"""Lab is what others compute, grey has no colour left, and bins cover what a screen shows."""

from __future__ import annotations

import numpy as np
import torch

from twinlens.training.views.lab import (
    convert_from_lab,
    convert_to_lab,
    find_bins,
    take_colours,
)

# L, a and b of sRGB colours under D65, as tables print them.
KNOWN = {
    (1.0, 0.0, 0.0): (53.24, 80.09, 67.20),
    (0.0, 1.0, 0.0): (87.73, -86.18, 83.18),
    (0.0, 0.0, 1.0): (32.30, 79.19, -107.86),
    (1.0, 1.0, 1.0): (100.0, 0.0, 0.0),
    (0.0, 0.0, 0.0): (0.0, 0.0, 0.0),
}


def test_known_colours_have_their_known_places() -> None:
    pixels = torch.tensor(list(KNOWN), dtype=torch.float64)
    found = convert_to_lab(pixels)
    assert torch.allclose(found, torch.tensor(list(KNOWN.values())).double(), atol=0.02)


def test_there_and_back_is_the_same_colour() -> None:
    pixels = torch.rand(2, 3, 9, 9, dtype=torch.float64)
    assert torch.allclose(convert_from_lab(convert_to_lab(pixels)), pixels, atol=1e-9)


def test_a_grey_view_keeps_its_lightness_and_nothing_of_its_colours() -> None:
    pixels = torch.rand(3, 3, 8, 8)
    grey, colours = take_colours(pixels, 4)
    assert torch.allclose(grey[:, :1].expand_as(grey), grey, atol=1e-4)
    before, after = convert_to_lab(pixels), convert_to_lab(grey)
    assert torch.allclose(before[:, 0], after[:, 0], atol=0.05)
    assert colours.shape == (3, 4, 2)
    corner = before[:, 1:, :4, 4:].mean(dim=(2, 3))
    assert torch.allclose(colours[:, 1], corner, atol=1e-3)


def test_every_colour_has_a_bin_within_half_a_side() -> None:
    bins = torch.from_numpy(find_bins(10.0))
    assert 230 < len(bins) < 320
    colours = convert_to_lab(torch.rand(2000, 3, dtype=torch.float64))[:, 1:]
    away = (colours[:, None] - bins).abs().amax(dim=-1).amin(dim=1)
    assert float((away <= 5 + 1e-9).double().mean()) > 0.99
    assert len(find_bins(20.0)) < len(bins) / 3
    assert np.array_equal(find_bins(10.0), np.unique(find_bins(10.0), axis=0))
