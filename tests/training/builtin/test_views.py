"""Views: what a caption says of an image stays true of its view."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from twinlens.training.builtin.towers import PIXEL_MEAN, PIXEL_STD
from twinlens.training.builtin.views import make_views


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


def _views(pixels: Tensor, *, photos: bool = False, monochrome: bool = False) -> Tensor:
    n = len(pixels)
    views = make_views(pixels, torch.full((n,), photos), torch.full((n,), monochrome), 48)
    return views * PIXEL_STD + PIXEL_MEAN


def _half_dark(count: int) -> Tensor:
    """Return images whose left half is black."""
    pixels = torch.full((count, 64, 64, 3), 255, dtype=torch.uint8)
    pixels[:, :, :32] = 0
    return pixels


def test_views_have_the_size_asked_for_and_stay_in_range() -> None:
    views = _views(_half_dark(8))
    assert views.shape == (8, 3, 48, 48)
    assert views.min() >= 0
    assert views.max() <= 1


def _left_is_darker(views: Tensor) -> Tensor:
    return views[..., :12].mean((1, 2, 3)) < views[..., -12:].mean((1, 2, 3))


def test_drawings_are_never_mirrored() -> None:
    assert _left_is_darker(_views(_half_dark(200))).all()


def test_photographs_are_mirrored_half_of_the_time() -> None:
    share = _left_is_darker(_views(_half_dark(200), photos=True)).float().mean()
    assert 0.3 < share < 0.7


def test_drawings_in_one_colour_are_sometimes_inverted_and_others_never() -> None:
    white = torch.full((200, 64, 64, 3), 255, dtype=torch.uint8)
    dark = (_views(white, monochrome=True).median(-1).values.median(-1).values < 0.3).all(1)
    assert 5 < int(dark.sum()) < 50
    dark = (_views(white).median(-1).values.median(-1).values < 0.3).all(1)
    assert not dark.any()


def test_red_stays_red_or_becomes_grey() -> None:
    red = torch.zeros(100, 64, 64, 3, dtype=torch.uint8)
    red[..., 0] = 220
    middle = _views(red)[:, :, 20:28, 20:28].median(-1).values.median(-1).values
    grey = (middle.amax(1) - middle.amin(1)) < 0.05
    reddest = middle.argmax(1) == 0
    covered = 0.25  # a random square may hide the middle
    assert (grey | reddest).float().mean() > 1 - covered
