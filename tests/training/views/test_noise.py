"""Noise has the amount that it was asked for, and comes from the generator alone."""

from __future__ import annotations

import pytest
import torch

from twinlens.training.seeds import generator
from twinlens.training.views.noise import Noise, add_noise


def test_gaussian_noise_has_its_deviation() -> None:
    views = torch.randn(16, 3, 16, 16)
    added = add_noise(views, Noise("gaussian", 0.3), generator(1)) - views
    assert float(added.std()) == pytest.approx(0.3, rel=0.03)
    assert abs(float(added.mean())) < 0.01


def test_masking_puts_out_its_share_of_the_pixels_in_all_channels() -> None:
    views = torch.rand(16, 3, 16, 16) + 1
    spoilt = add_noise(views, Noise("masking", 0.25), generator(1))
    out = spoilt == 0
    assert float(out.float().mean()) == pytest.approx(0.25, abs=0.02)
    assert torch.equal(out[:, 0], out[:, 1]) and torch.equal(out[:, 0], out[:, 2])
    assert torch.equal(spoilt[~out], views[~out])


@pytest.mark.parametrize("kind", ["gaussian", "masking"])
def test_no_noise_changes_nothing_and_a_generator_repeats_itself(kind: str) -> None:
    views = torch.randn(2, 3, 8, 8)
    none = Noise("gaussian", 0.0) if kind == "gaussian" else Noise("masking", 0.0)
    assert torch.equal(add_noise(views, none, generator(1)), views)
    some = Noise("gaussian", 0.5) if kind == "gaussian" else Noise("masking", 0.5)
    one, other = (add_noise(views, some, generator(7)) for _ in range(2))
    assert torch.equal(one, other) and not torch.equal(one, views)
