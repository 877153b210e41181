"""BatchNorm over the rows that a run asks for."""

from __future__ import annotations

import torch
from torch import nn

from twinlens.training.nn.batchnorm import SplitNorm, convert_batchnorm
from twinlens.training.seeds import generator


def test_split_norm_is_batchnorm_within_each_split() -> None:
    plain = nn.BatchNorm2d(3)
    split = convert_batchnorm(nn.Sequential(nn.BatchNorm2d(3)), "split", splits=4, world=1)
    rows = torch.randn(8, 3, 5, 5, generator=generator(0))
    out = split(rows)
    for part in range(4):
        torch.testing.assert_close(out[part::4], plain(rows[part::4]), rtol=1e-4, atol=1e-5)
    layer = split[0]  # type: ignore[index]
    assert isinstance(layer, SplitNorm)
    means = torch.stack([rows[part::4].mean(dim=(0, 2, 3)) for part in range(4)])
    torch.testing.assert_close(layer.running_mean, 0.1 * means.mean(dim=0))


def test_in_evaluation_all_batchnorms_are_one() -> None:
    layer = nn.BatchNorm1d(3)
    rows = torch.randn(8, 3, generator=generator(0))
    layer(rows)
    expected = layer.eval()(rows)
    split = convert_batchnorm(nn.Sequential(layer), "split", splits=4, world=1)
    torch.testing.assert_close(split.eval()(rows), expected)
