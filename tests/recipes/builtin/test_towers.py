"""The towers: rows do not depend on their batch; what ships gives the rows that were trained."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from recipes.builtin.storage import fold_norms, store_half
from recipes.builtin.tokens import embed_tokens
from recipes.builtin.towers import ImageTower, TextShape, TextTower, TwoTowers, normalise_pixels

SHAPE = TextShape(vocabulary=50)


def _pixels(count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 64, 64, 3), generator=generator, dtype=torch.uint8)


def test_padding_does_not_change_a_text() -> None:
    tower = TextTower(SHAPE).eval()
    short = torch.tensor([[2, 5, 6]])
    padded = torch.tensor([[2, 5, 6, 0, 0, 0], [2, 7, 8, 9, 10, 11]])
    torch.testing.assert_close(tower(padded)[:1], tower(short), rtol=1e-5, atol=1e-5)


def test_order_of_words_changes_a_text() -> None:
    tower = TextTower(SHAPE).eval()
    one, other = tower(torch.tensor([[2, 5, 6], [2, 6, 5]]))
    assert not torch.allclose(one, other, atol=1e-4)


def test_texts_of_many_lengths_come_back_in_their_order() -> None:
    tower = TextTower(SHAPE).eval()
    ids = [[2, *range(3, 3 + length)] for length in (7, 1, 4, 2, 9, 3, 5)]
    rows = embed_tokens(tower, ids)
    for row, one in zip(rows, ids, strict=True):
        torch.testing.assert_close(row, tower(torch.tensor([one]))[0], rtol=1e-5, atol=1e-5)


def test_an_image_is_embedded_alike_alone_and_in_a_batch() -> None:
    tower = ImageTower().eval()
    pixels = normalise_pixels(_pixels())
    torch.testing.assert_close(tower(pixels)[2:3], tower(pixels[2:3]), rtol=1e-4, atol=1e-4)


def test_folding_norms_keeps_the_rows() -> None:
    tower = ImageTower()
    tower.train()
    for _ in range(3):  # gives the norms statistics that are not 0 and 1
        tower(normalise_pixels(_pixels(8)))
    tower.eval()
    pixels = normalise_pixels(_pixels())
    torch.testing.assert_close(fold_norms(tower)(pixels), tower(pixels), rtol=1e-3, atol=1e-3)


def test_half_storage_halves_the_bytes_and_keeps_the_direction() -> None:
    model = TwoTowers(SHAPE).eval()
    pixels = normalise_pixels(_pixels())
    stored = store_half(fold_norms(model.image))
    full = sum(p.numel() * 4 for p in model.image.parameters())
    assert sum(b.numel() * b.element_size() for b in stored.buffers()) < 0.55 * full
    cosine = F.cosine_similarity(stored(pixels), model.image(pixels))
    assert cosine.min() > 1 - 1e-5
