"""SIGReg: how far rows are from an isotropic Gaussian, by its characteristic function on lines.

Balestriero and LeCun 2025, https://arxiv.org/abs/2511.08544, algorithm 1. On each random direction
the Epps-Pulley statistic compares the rows' characteristic function with that of N(0, 1):
    n int |mean_j exp(i t a^T z_j) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt    over |t| <= reach.
What must stay true: directions are a function of seed and step, so that ranks and a resumed run
take the same ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from twinlens.training.seeds import generator


def draw_directions(dim: int, count: int, step: int, like: Tensor) -> Tensor:
    """Return directions (dim, count) of length 1, in the dtype and on the device of `like`."""
    drawn = torch.randn(dim, count, generator=generator(step, 59), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=0).to(like)


def place_points(count: int, reach: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the points t of the trapezoid rule from 0 to `reach`, and their weights.

    The integrand is even, so each point also stands for its mirror image. Weights include the
    window.
    """
    points = torch.linspace(0, reach, count, dtype=torch.float64)
    weights = torch.full_like(points, 2 * reach / (count - 1))
    weights[[0, -1]] /= 2
    return points.to(like), (weights * (-points.square() / 2).exp()).to(like)


def departure(z: Tensor, directions: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """Return the statistic of rows z (n, dim), the mean over directions; 0 for a Gaussian."""
    angles = (z @ directions)[..., None] * points  # (n, directions, points)
    expected = (-points.square() / 2).exp()
    gap = (angles.cos().mean(dim=0) - expected).square() + angles.sin().mean(dim=0).square()
    return (gap @ weights).mean() * len(z)
