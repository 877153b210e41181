"""Tiles lie where they were drawn to lie, and orders are different from each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from twinlens.errors import InputError
from twinlens.training.seeds import generator
from twinlens.training.views.tiles import (
    Puzzle,
    choose_orders,
    cut_tiles,
    draw_puzzles,
    standardise_tiles,
    tile_side,
)


def test_a_tile_is_the_part_of_its_cell_that_the_shift_says() -> None:
    image = torch.arange(3 * 12 * 12.0).view(1, 3, 12, 12)
    places = torch.tensor([[4, 0, 8]])
    shifts = torch.tensor([[[0.0, 0.0], [0.99, 0.0], [0.5, 0.99]]])
    tiles = cut_tiles(image, shifts, places, 3, 3)
    assert tiles.shape == (1, 3, 3, 3, 3)
    assert torch.equal(tiles[0, 0], image[0, :, 4:7, 4:7])
    assert torch.equal(tiles[0, 1], image[0, :, 1:4, 0:3])
    assert torch.equal(tiles[0, 2], image[0, :, 9:12, 9:12])


def test_tiles_without_freedom_put_together_in_their_order_are_the_image() -> None:
    images = torch.randn(4, 3, 12, 12)
    order = torch.from_numpy(choose_orders(9, 4))
    tiles = cut_tiles(images, torch.rand(4, 9, 2), order, 3, 4)
    back = torch.zeros_like(tiles).scatter_(1, order[..., None, None, None].expand_as(tiles), tiles)
    whole = back.unflatten(1, (3, 3)).permute(0, 3, 1, 4, 2, 5).reshape(images.shape)
    assert torch.equal(whole, images)


def test_each_tile_has_mean_0_and_deviation_1_and_a_flat_one_stays_finite() -> None:
    tiles = torch.randn(2, 3, 3, 5, 5) * 7 + 4
    tiles[0, 0] = 2.0
    flat = standardise_tiles(tiles).flatten(2)
    assert flat.isfinite().all()
    assert flat.mean(dim=-1).abs().max() < 1e-5
    assert torch.allclose(flat.std(dim=-1)[1], torch.ones(3), atol=1e-4)


@pytest.mark.parametrize(("tiles", "count"), [(9, 100), (9, 1000), (4, 24), (16, 64)])
def test_orders_are_different_and_far_from_each_other(tiles: int, count: int) -> None:
    orders = choose_orders(tiles, count)
    assert len(np.unique(orders, axis=0)) == count
    assert (np.sort(orders, axis=1) == np.arange(tiles)).all()
    some = orders[:24]
    apart = [(one != other).mean() for i, one in enumerate(some) for other in some[:i]]
    if count < math.factorial(tiles):  # two random orders differ in all places but one
        assert float(np.mean(apart)) > 1 - 1 / tiles
    assert np.array_equal(orders, choose_orders.__wrapped__(tiles, count))


def test_a_tile_is_a_multiple_of_a_patch_and_a_cell_without_one_is_refused() -> None:
    assert tile_side(255, 3, 64 / 85, 1) == 64
    assert tile_side(224, 3, 0.75, 16) == 48
    assert tile_side(12, 3, 0.5, 4) == 4
    with pytest.raises(InputError, match=r"grid is 3.*hold no patch of 16.*--set image_size=48"):
        tile_side(32, 3, 0.75, 16)


def test_draws_belong_to_the_generator_and_stay_in_range() -> None:
    puzzle = Puzzle(8, 2)
    one, other = (draw_puzzles(generator(3), puzzle, 500) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert set(one["answer"].tolist()) == set(range(8))
    assert one["shifts"].shape == (500, 2, 2)
    assert 0 <= float(one["shifts"].min()) < 0.02 and 0.98 < float(one["shifts"].max()) < 1
