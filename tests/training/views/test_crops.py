"""Boxes against torchvision's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from twinlens.training.seeds import generator
from twinlens.training.views.crops import Crops, draw_boxes

# (height, width), so large that torchvision's rounding to whole pixels cannot show: a square, a
# photograph, a picture upright, and a panorama in which most boxes do not fit.
SHAPES = [(5000, 5000), (3750, 5000), (6000, 3000), (1500, 9000)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.05, 0.32)])
def test_boxes_are_distributed_as_torchvisions(
    shape: tuple[int, int], scale: tuple[float, float]
) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    torch.manual_seed(0)
    blank = torch.zeros(3, shape[0], 1).expand(-1, -1, shape[1])
    usual = np.array(
        [
            transforms.RandomResizedCrop.get_params(blank, list(scale), [3 / 4, 4 / 3])
            for _ in range(4000)
        ]
    )
    crops = Crops(scale_min=scale[0], scale_max=scale[1])
    boxes = draw_boxes(generator(1), crops, torch.tensor(shape).expand(4000, 2)).numpy()
    left, top, width, height = boxes.T
    assert (width >= 1).all() and (height >= 1).all()
    assert ks_2samp(width * height, usual[:, 2] * usual[:, 3]).pvalue > 0.01
    assert ks_2samp((width / height).round(3), (usual[:, 3] / usual[:, 2]).round(3)).pvalue > 0.01
    assert ks_2samp(left, usual[:, 1]).pvalue > 0.01
    assert ks_2samp(top, usual[:, 0]).pvalue > 0.01
    assert (left >= 0).all() and (left + width <= shape[1]).all()
    assert (top >= 0).all() and (top + height <= shape[0]).all()


def test_where_no_box_fits_the_middle_of_a_panorama_is_taken() -> None:
    """As torchvision does: the largest centred box of an allowed ratio."""
    crops = Crops(scale_min=1.0)
    boxes = draw_boxes(generator(0), crops, torch.tensor([[30, 300], [300, 30]]))
    assert boxes.tolist() == [[130, 0, 40, 30], [0, 130, 30, 40]]
