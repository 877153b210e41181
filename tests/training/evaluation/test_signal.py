"""The signal rank counts directions that views of an image share, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.family import small_config, write_images
from twinlens.training.evaluation.signal import embed_views, signal_rank
from twinlens.training.evaluation.spectrum import measure_spectrum
from twinlens.training.loop.loop import train
from twinlens.training.runs.run import open_run
from twinlens.training.seeds import generator

N, VIEWS, D = 800, 6, 20


def rows_with(directions: int, noise: float) -> Tensor:
    """Return rows (N, VIEWS, D) whose images differ in so many directions."""
    draws = generator(0)
    images = torch.randn(N, 1, D, generator=draws) * (torch.arange(D) < directions)
    return images + noise * torch.randn(N, VIEWS, D, generator=draws)


@pytest.mark.parametrize("directions", [1, 5, 12])
def test_it_counts_the_directions_in_which_images_differ(directions: int) -> None:
    assert signal_rank(rows_with(directions, 0.1)) == pytest.approx(directions, rel=0.02)


def test_noise_has_full_plain_rank_and_no_signal_rank() -> None:
    rows = rows_with(0, 1.0)
    assert measure_spectrum(rows[:, 0]).effective_rank > 0.95 * D
    assert signal_rank(rows) < 1.5


def test_it_does_not_depend_on_how_directions_are_scaled_or_turned() -> None:
    rows = rows_with(5, 0.3)
    turn = torch.randn(D, D, generator=generator(1))
    assert signal_rank(rows @ turn) == pytest.approx(signal_rank(rows), rel=0.02)


def test_dead_directions_and_equal_views_are_no_error() -> None:
    assert signal_rank(torch.ones(10, 3, 4)) == 0
    still = torch.randn(50, 1, 4, generator=generator(0)).expand(-1, 3, -1)
    assert torch.isfinite(torch.tensor(signal_rank(still)))


def test_views_of_a_run_are_embedded(tmp_path: Path) -> None:
    data = str(write_images(tmp_path / "data", 20))
    train(small_config("simclr", steps=1), data, tmp_path / "run")
    rows = embed_views(open_run(tmp_path / "run"), data, images=12, views=3)
    assert rows.shape[:2] == (12, 3)
    assert not torch.equal(rows[:, 0], rows[:, 2])
