"""Boxes against torchvision's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from twinlens.training.seeds import generator
from twinlens.training.views.crops import Crops, draw_boxes

SIDE_OF_BOXES = 5000  # so large that torchvision's rounding to whole pixels cannot show


def test_boxes_are_distributed_as_torchvisions() -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    torch.manual_seed(0)
    blank = torch.zeros(3, SIDE_OF_BOXES, 1).expand(-1, -1, SIDE_OF_BOXES)
    usual = np.array(
        [
            transforms.RandomResizedCrop.get_params(blank, [0.08, 1.0], [3 / 4, 4 / 3])
            for _ in range(4000)
        ]
    )
    boxes = draw_boxes(generator(1), 4000, Crops(scale_min=0.08), SIDE_OF_BOXES).numpy()
    left, top, width, height = boxes.T
    assert (width >= 1).all() and (height >= 1).all()
    assert ks_2samp(width * height, usual[:, 2] * usual[:, 3]).pvalue > 0.01
    assert ks_2samp(width / height, usual[:, 3] / usual[:, 2]).pvalue > 0.01
    assert ks_2samp(left, usual[:, 1]).pvalue > 0.01
    assert ks_2samp(top, usual[:, 0]).pvalue > 0.01
    assert (left >= 0).all() and (left + width <= SIDE_OF_BOXES).all()
