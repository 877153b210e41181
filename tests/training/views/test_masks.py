"""Masks hide exactly as many patches as asked, in blocks where asked, as their seed says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.training.family import small_config
from twinlens.errors import InputError
from twinlens.training.encoders.token_tower import TokenTower, pick
from twinlens.training.runs.assembly import build_network
from twinlens.training.seeds import generator
from twinlens.training.views.masks import Masks, draw_masks


def draw(masks: Masks, seed: int = 0, n: int = 40, side: int = 8) -> torch.Tensor:
    return draw_masks(generator(seed), masks, (n, 2, side, side))


@pytest.mark.parametrize("kind", ["random", "blocks"])
def test_each_view_hides_the_same_number_of_patches(kind: str) -> None:
    found = draw(Masks("random" if kind == "random" else "blocks", 0.6, 0.6))
    assert found.shape == (40, 2, 64) and set(found.sum(dim=-1).flatten().tolist()) == {38}


def test_every_patch_is_hidden_equally_often_at_random() -> None:
    share = draw(Masks("random", 0.75, 0.75), n=600).double().mean(dim=(0, 1))
    assert float(share.min()) > 0.69 and float(share.max()) < 0.81


def test_a_range_of_ratios_and_a_share_of_masked_views_are_kept() -> None:
    counts = draw(Masks("blocks", 0.1, 0.5, share=0.5), n=400).sum(dim=-1).flatten()
    masked = counts[counts > 0]
    assert 0.43 < len(masked) / len(counts) < 0.57
    assert int(masked.min()) >= 6 and int(masked.max()) <= 32
    assert len(masked.unique()) > 15


def test_blocks_are_more_contiguous_than_single_patches() -> None:
    def neighbours(masks: torch.Tensor) -> float:
        cells = masks.view(-1, 8, 8).double()
        both = (cells[:, 1:] * cells[:, :-1]).sum() + (cells[..., 1:] * cells[..., :-1]).sum()
        return float(both / cells.sum())

    blocks, single = Masks("blocks", 0.4, 0.4), Masks("random", 0.4, 0.4)
    assert neighbours(draw(blocks)) > 1.6 * neighbours(draw(single))


def test_units_hide_together() -> None:
    cells = draw(Masks("random", 0.5, 0.5, unit=2)).view(-1, 4, 2, 4, 2)
    assert torch.equal(cells.any(dim=4).any(dim=2), cells.all(dim=4).all(dim=2))
    assert set(cells.flatten(1).sum(dim=1).tolist()) == {32}


def test_the_same_seed_draws_the_same_masks_and_another_seed_others() -> None:
    masks = Masks("blocks", 0.4, 0.4)
    assert torch.equal(draw(masks), draw(masks)) and not torch.equal(draw(masks), draw(masks, 1))


def test_a_tower_sees_nothing_of_a_hidden_patch() -> None:
    tower = build_network(small_config("simmim"))["image"]
    assert isinstance(tower, TokenTower)
    images = torch.randn(2, 3, 16, 16)
    hidden = torch.zeros(2, 16, dtype=torch.bool)
    hidden[:, 0] = True
    other = images.clone()
    other[:, :, :4, :4] = 9.0
    mask_token = torch.randn(64)
    tokens = [tower.tokens(x, hidden=hidden, mask_token=mask_token) for x in (images, other)]
    assert torch.equal(*tokens)
    keep = torch.arange(1, 16).expand(2, -1)
    assert torch.equal(tower.tokens(images, keep=keep), tower.tokens(other, keep=keep))


def test_keeping_every_patch_is_the_whole_image_in_that_order() -> None:
    tower = build_network(small_config("mae"))["image"]
    assert isinstance(tower, TokenTower)
    images = torch.randn(2, 3, 16, 16)
    order = torch.from_numpy(np.random.default_rng(0).permutation(16)).expand(2, -1)
    whole, kept = tower.tokens(images), tower.tokens(images, keep=order)
    torch.testing.assert_close(pick(whole[:, 1:], order), kept[:, 1:])
    torch.testing.assert_close(whole[:, 0], kept[:, 0])


def test_a_tower_without_patches_is_refused() -> None:
    config = small_config("mae")
    settings = {**vars(config.settings), "encoder": "resnet-tiny"}
    with pytest.raises(InputError, match=r"hides patches.*resnet-tiny.*vit"):
        build_network(type(config)("mae", config.objective, type(config.settings)(**settings)))
