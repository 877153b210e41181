"""Effective rank, spread and singular values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from twinlens.training.evaluation.spectrum import measure_spectrum
from twinlens.training.seeds import generator


def test_the_effective_rank_of_k_equal_directions_is_k() -> None:
    rows = torch.cat([torch.eye(6), -torch.eye(6)])
    spectrum = measure_spectrum(rows)
    assert spectrum.effective_rank == pytest.approx(6, rel=1e-4)
    np.testing.assert_allclose(spectrum.singular, np.sqrt(2) * np.ones(6), rtol=1e-4)


def test_healthy_rows_spread_near_one_and_collapsed_rows_near_zero() -> None:
    healthy = torch.randn(2000, 64, generator=generator(0))
    assert measure_spectrum(healthy).spread == pytest.approx(1, abs=0.05)
    collapsed = torch.ones(500, 64) + 1e-3 * healthy[:500]
    assert measure_spectrum(collapsed).spread < 0.01
    assert measure_spectrum(torch.ones(50, 8)).effective_rank == pytest.approx(1)


def test_singular_values_are_those_of_an_svd() -> None:
    rows = torch.randn(40, 12, generator=generator(0))
    unit = torch.nn.functional.normalize(rows, dim=1)
    expected = torch.linalg.svdvals(unit - unit.mean(dim=0))
    torch.testing.assert_close(measure_spectrum(rows).singular, expected, rtol=1e-4, atol=1e-5)
