"""Views: what a caption says of an image stays true of its view."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recipes.builtin.towers import PIXEL_MEAN, PIXEL_STD
from recipes.builtin.views import Kinds, make_views


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


def _kinds(count: int, *allowed: str) -> Kinds:
    names = ("photos", "monochrome", "mirrored", "discs")
    return Kinds(*(torch.full((count,), name in allowed) for name in names))


def _views(pixels: Tensor, *allowed: str, partners: Tensor | None = None) -> Tensor:
    return make_views(pixels, _kinds(len(pixels), *allowed), 48, partners) * PIXEL_STD + PIXEL_MEAN


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


def test_drawings_are_not_mirrored_unless_they_may_be() -> None:
    views = _views(_half_dark(200))
    assert _left_is_darker(views).float().mean() > 0.9  # of some, only the outline is left
    assert (views[..., :12].mean((1, 2, 3)) < views[..., -12:].mean((1, 2, 3)) + 0.1).all()


@pytest.mark.parametrize("allowed", [("photos", "mirrored"), ("mirrored",)])
def test_what_may_be_mirrored_is_half_of_the_time(allowed: tuple[str, ...]) -> None:
    share = _left_is_darker(_views(_half_dark(200), *allowed)).float().mean()
    assert 0.3 < share < 0.7


def _disc(count: int) -> Tensor:
    """Return images of a black disc that touches all sides."""
    at = torch.arange(64) - 31.5
    inside = (at[:, None] ** 2 + at[None] ** 2).sqrt() < 30.0
    return torch.where(inside[None, :, :, None], 0, 255).to(torch.uint8).expand(count, 64, 64, 3)


def _count_boxes(views: Tensor) -> int:
    """Count the views in which what is dark fills the box that it spans, as no ellipse does."""
    boxes = 0
    for view in views.mean(1) < 0.5:
        rows, columns = (torch.nonzero(view.any(side))[:, 0] for side in (1, 0))
        if len(rows):
            box = view[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            boxes += int(box.float().mean() > 0.87)
    return boxes


def test_flags_drawn_as_discs_become_rectangles_most_of_the_time_and_nothing_else_does() -> None:
    torch.manual_seed(5)
    turned = _views(_disc(200), "discs")
    torch.manual_seed(5)
    left = _views(_disc(200))
    assert _count_boxes(turned) > _count_boxes(left) + 30


def test_drawings_in_one_colour_are_sometimes_inverted_and_others_never() -> None:
    white = torch.full((200, 64, 64, 3), 255, dtype=torch.uint8)
    dark = (_views(white, "monochrome").median(-1).values.median(-1).values < 0.3).all(1)
    assert 5 < int(dark.sum()) < 50
    dark = (_views(white).median(-1).values.median(-1).values < 0.3).all(1)
    assert not dark.any()


@pytest.mark.parametrize(
    ("colour", "first"), [((220, 20, 30), 0), ((30, 200, 40), 1), ((30, 40, 220), 2)]
)
def test_a_colour_stays_what_it_is_called_or_becomes_grey(
    colour: tuple[int, int, int], first: int
) -> None:
    pixels = torch.tensor(colour, dtype=torch.uint8).expand(200, 64, 64, 3)
    middle = _views(pixels)[:, :, 20:28, 20:28].median(-1).values.median(-1).values
    grey = (middle.amax(1) - middle.amin(1)) < 0.05
    same = middle.argmax(1) == first
    covered = 0.25  # a random square may hide the middle
    outlined = 0.06  # of a plain area nothing is left but white
    assert (grey | same).float().mean() > 1 - covered - outlined


def test_drawings_of_one_concept_are_mixed_in_a_fifth_of_the_views_and_others_never() -> None:
    pixels = torch.full((200, 64, 64, 3), 255, dtype=torch.uint8)
    pixels[1::2] = 0
    n = len(pixels)
    alone = _views(pixels, partners=torch.arange(n))
    assert (alone[::2].mean(1).flatten(1).median(1).values > 0.3).all()
    pairs = torch.arange(n).view(-1, 2).flip(1).flatten()
    mixed = _views(pixels, partners=pairs)
    uneven = mixed[::2, :, 8:40, 8:40].mean(1).flatten(1).std(1) > 0.1
    assert 8 < int(uneven.sum()) < 60


def test_a_drawing_keeps_its_shape_whatever_its_strokes_become() -> None:
    pixels = torch.full((300, 64, 64, 3), 255, dtype=torch.uint8)
    pixels[:, 24:40, 24:40] = 40
    views = _views(pixels).mean(1)
    inner, outer = views[:, 15:33, 15:33].amin((1, 2)), views[:, :6, :6].mean((1, 2))
    assert (inner < outer).float().mean() > 0.95
