"""CPC's patches: where they lie, who predicts whom, and that nobody sees what it predicts."""

from __future__ import annotations

import torch

from tests.training.family import small_config, small_network
from twinlens.training.objective import Batch
from twinlens.training.objectives.cpc import cut_overlapping


def test_patches_overlap_by_half_and_cover_the_image() -> None:
    image = torch.arange(16.0).expand(1, 3, 16, 16)
    patches = cut_overlapping(image, 3)
    assert patches.shape == (1, 3, 3, 3, 8, 8)
    assert patches[0, 0, :, 0, 0, 0].tolist() == [0, 4, 8]
    assert patches[0, :, 2, 0, 0, -1].tolist() == [15, 15, 15]


def test_a_prediction_sees_the_rows_above_alone() -> None:
    """Questions are by distance, row, column: of 3 x 3 patches six at distance 1, three at 2."""
    config = small_config("cpc")
    net = small_network(config, norms=False)
    images = torch.randn(2, 1, 3, 16, 16)
    changed = images.clone()
    changed[..., 8:, :] += 1.0  # in rows 1 and 2 of patches, not in row 0
    rows = [config.objective.student(net, Batch({"global": x}))["p"] for x in (images, changed)]
    same = (rows[0] == rows[1]).all(dim=2).all(dim=0).tolist()
    assert same == [True] * 3 + [False] * 3 + [True] * 3
