"""Two encoders behind one graph."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from recipes.builtin.photographs.joined import (
    DrawingTower,
    Gate,
    Gates,
    Head,
    JoinedImages,
    JoinedTexts,
    PhotoTower,
    interleave,
    shrinking,
)
from recipes.builtin.photographs.space import DIM
from recipes.builtin.tokens import TRAINED_LENGTH
from recipes.builtin.towers import ImageTower

rng = np.random.default_rng(0)


class Means(nn.Module):
    """Maps of eight channels: the mean brightness in each, about 1 to 3."""

    def forward(self, pixels: Tensor) -> Tensor:
        return 2 + pixels.mean((1, 2, 3))[:, None, None, None].expand(-1, 8, 1, 1)


class Fixed(nn.Module):
    """The same row for everything."""

    def forward(self, items: Tensor) -> Tensor:
        return torch.ones(len(items), DIM)


def make_images(bias: float = -0.94, first: float = 0.0) -> JoinedImages:
    head = Head(
        weight=rng.normal(size=(5, 8)).astype(np.float32),
        bias=np.zeros(5, np.float32),
        space=rng.normal(size=(5, DIM)).astype(np.float32),
        linear=rng.normal(size=(DIM, 8)).astype(np.float32),
        offset=np.zeros(DIM, np.float32),
        share=1.0,
        stress=np.ones(DIM, np.float32),
    )
    never = Gate(np.zeros(320, np.float32), first)
    gates = Gates(never, Gate(np.full(8, 0.09, np.float32), bias))
    photos = PhotoTower(Means(), head)
    return JoinedImages(DrawingTower(ImageTower(), 224), photos, gates).eval()


def grey(level: float) -> Tensor:
    return torch.full((1, 3, 224, 224), level)


def test_a_drawing_has_nothing_in_the_photographs_half_and_the_other_way_round() -> None:
    images = make_images()
    bright, dark = images(grey(1.0)), images(grey(0.0))
    assert bright[:, 1::2].abs().max() == 0
    assert dark[:, 0::2].abs().max() == 0


def test_rows_have_unit_length_and_change_smoothly_between_both() -> None:
    images = make_images()
    rows = torch.cat([images(grey(level)) for level in np.linspace(0.4, 0.6, 21)])
    assert torch.allclose(rows.norm(dim=1), torch.ones(21), atol=1e-5)
    steps = (rows[1:] * rows[:-1]).sum(1)
    assert steps.min() > 0.98


def test_what_the_first_gate_calls_a_drawing_is_one_whatever_the_last_says() -> None:
    row = make_images(first=1.0)(grey(0.0))
    assert row[:, 1::2].abs().max() == 0
    assert row[:, 0::2].norm() > 0.99


def test_the_small_picture_is_what_pillow_makes_of_it() -> None:
    picture = Image.effect_noise((224, 224), 60)
    matrix = shrinking(224, 48)
    ours = matrix @ np.asarray(picture, np.float32) @ matrix.T
    theirs = np.asarray(picture.resize((48, 48), Image.Resampling.BICUBIC), np.float32)
    assert np.abs(ours - theirs).max() < 1.5


def test_tokens_are_spelled_for_the_drawings_tower_and_cut_at_its_length() -> None:
    spelling = [[0], [1], [2], [3, 4], [5, 6, 7]]
    texts = JoinedTexts(Fixed(), Fixed(), spelling, 1.2)
    spelled = texts.spell(torch.tensor([[2, 3, 4, 0], [2, 0, 0, 0]]))
    assert spelled.shape == (2, TRAINED_LENGTH)
    assert spelled[0, :7].tolist() == [2, 3, 4, 5, 6, 7, 0]
    assert spelled[1, :2].tolist() == [2, 0]
    long = texts.spell(torch.full((1, 24), 4))
    assert long[0].tolist() == ([5, 6, 7] * 8)[:TRAINED_LENGTH]


def test_entries_of_both_stand_in_turn() -> None:
    both = interleave(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]))
    assert both.tolist() == [[1.0, 3.0, 2.0, 4.0]]
