"""Corruptions are those of ImageNet-C: within one grey level where both define them alike."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from twinlens.training.suites.questions.corruptions import CORRUPTIONS, STRENGTHS, corrupt_picture

PUBLISHED = {
    "blur": "gaussian_blur",
    "jpeg": "jpeg_compression",
    "resize": "pixelate",
    "contrast": "contrast",
    "noise": "gaussian_noise",
}


def draw_picture() -> Image.Image:
    """Return a photograph's like: smooth, with edges and noise."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:96, :120]
    planes = [128 + 90 * np.sin(x / 17 + i) * np.cos(y / (9 + i)) for i in range(3)]
    values = np.stack(planes, axis=2)
    values[30:60, 40:80] = (250, 20, 60)
    noisy = values + rng.normal(size=values.shape, scale=8)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def corrupt(kind: str, strength: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(0)
    return np.asarray(corrupt_picture(draw_picture(), kind, strength, rng), np.int64)


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_strength_takes_more_away_than_the_one_before(kind: str) -> None:
    clean = np.asarray(draw_picture(), np.int64)
    errors = [np.abs(corrupt(kind, strength) - clean).mean() for strength in STRENGTHS]
    assert errors == sorted(errors) and errors[0] > 0


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_corruption_equals_the_public_one(kind: str, strength: int) -> None:
    """Noise as well, given the same draws."""
    theirs = pytest.importorskip(
        "imagecorruptions", reason="imagecorruptions-imaug (with numba, OpenCV) is not installed"
    )
    np.random.seed(7)
    image = np.asarray(draw_picture())
    expected = theirs.corrupt(image, strength, PUBLISHED[kind]).astype(np.int64)

    class SameDraws(np.random.Generator):
        def normal(self, size: object = None, scale: float = 1.0) -> object:  # type: ignore[override]
            return np.random.RandomState(7).normal(size=size, scale=scale)  # type: ignore[call-overload]

    found = corrupt_picture(draw_picture(), kind, strength, SameDraws(np.random.PCG64(0)))
    assert np.abs(np.asarray(found, np.int64) - expected).max() <= 1


def test_a_contrast_is_about_the_mean_of_each_channel() -> None:
    """By the formula: (x - mean) * 0.05 + mean at the last strength."""
    clean = np.asarray(draw_picture(), np.float64)
    means = clean.mean(axis=(0, 1))
    assert np.abs(corrupt("contrast", 5) - ((clean - means) * 0.05 + means)).max() <= 1
