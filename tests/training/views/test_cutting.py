"""Two ways to cut and resize boxes, against Pillow and each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from twinlens.training.seeds import generator
from twinlens.training.views.crops import Crops
from twinlens.training.views.cutting import cut_by_matrices, cut_by_slices
from twinlens.training.views.pictures import whole_pictures
from twinlens.training.views.plans import draw_plan

CUTS = {"slices": cut_by_slices, "matrices": cut_by_matrices}


@pytest.mark.parametrize("way", CUTS)
def test_a_box_resamples_as_pillow_crops_and_resizes(way: str) -> None:
    """Shrinking (antialiased) and growing; the borders as well."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels)[None]
    for left, top, width, height in ((0, 0, 40, 40), (5, 8, 30, 20), (10, 2, 7, 9)):
        box = torch.tensor([[left, top, width, height]])
        view = CUTS[way](images, box, torch.tensor([False]), 16)[0].permute(1, 2, 0).numpy() * 255
        crop = Image.fromarray(pixels).crop((left, top, left + width, top + height))
        expected = np.asarray(crop.resize((16, 16), Image.Resampling.BILINEAR), dtype=np.float32)
        gap = np.abs(view - expected)
        # Pillow rounds to integers after each pass; so do the slices, by coarser weights.
        assert gap.max() < 2.01 and gap.mean() < 0.5


@pytest.mark.parametrize(
    ("tall", "wide", "side"), [(36, 36, 32), (40, 53, 16), (111, 74, 64), (147, 147, 128)]
)
def test_slices_cut_what_matrices_cut(tall: int, wide: int, side: int) -> None:
    images = torch.randint(0, 256, (12, tall, wide, 3), dtype=torch.uint8, generator=generator(0))
    sizes = whole_pictures(images).sizes - torch.arange(12)[:, None]  # smaller than the canvas
    recipe = draw_plan(generator(1), Crops(scale_min=0.05), sizes, side, 0)
    assert recipe.flip.any() and not recipe.flip.all()
    one = cut_by_slices(images, recipe.boxes, recipe.flip, side)
    other = cut_by_matrices(images, recipe.boxes, recipe.flip, side)
    assert float((one - other).abs().max()) < 1.3 / 255  # bytes are rounded after each pass
