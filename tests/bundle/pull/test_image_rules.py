"""Processors of transformers and open_clip become a rule that a bundle repeats, or are refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.bundle.manifest import ImageSpec
from twinlens.bundle.pull.image_rules import read_open_clip, read_processor
from twinlens.bundle.pull.plain_path import make_pixels
from twinlens.errors import BundleError

SHORT, SQUARE = {"shortest_edge": 64}, {"height": 64, "width": 64}
CROP = {"height": 56, "width": 56}


def read(name: str, **config: Any) -> ImageSpec:
    return read_processor({"image_processor_type": name, **config}, "preprocessor_config.json")


@pytest.mark.parametrize(
    ("name", "config", "frame", "resize", "aim", "interpolation", "mean"),
    [
        (
            "CLIPImageProcessor",
            {"size": SHORT, "crop_size": CROP},
            56,
            "shortest",
            64,
            "bicubic",
            0.481,
        ),
        (
            "CLIPFeatureExtractor",
            {"size": 64, "crop_size": 64},
            64,
            "shortest",
            64,
            "bicubic",
            0.481,
        ),
        ("SiglipImageProcessor", {"size": SQUARE}, 64, "squash", 64, "bicubic", 0.5),
        (
            "SiglipImageProcessorFast",
            {"size": SQUARE, "resample": 2},
            64,
            "squash",
            64,
            "bilinear",
            0.5,
        ),
        ("ViTImageProcessor", {"size": 64}, 64, "squash", 64, "bilinear", 0.5),
        (
            "BitImageProcessor",
            {"size": SHORT, "crop_size": CROP, "image_mean": [0.485] * 3},
            56,
            "shortest",
            64,
            "bicubic",
            0.485,
        ),
        ("DINOv3ViTImageProcessorFast", {"size": SQUARE}, 64, "squash", 64, "bilinear", 0.485),
        (
            "DeiTImageProcessor",
            {"size": SQUARE, "crop_size": CROP},
            56,
            "squash",
            64,
            "bicubic",
            0.485,
        ),
        (
            "ConvNextImageProcessor",
            {"size": SHORT, "crop_pct": 0.875},
            64,
            "shortest",
            73,
            "bicubic",
            0.485,
        ),
        (
            "ConvNextImageProcessor",
            {"size": {"shortest_edge": 384}},
            384,
            "squash",
            384,
            "bicubic",
            0.485,
        ),
        (
            "CLIPImageProcessor",
            {"size": SHORT, "crop_size": CROP, "do_normalize": False, "resample": 2},
            56,
            "shortest",
            64,
            "bilinear",
            0.0,
        ),
    ],
)
def test_a_processor_of_transformers(
    name: str, config: dict[str, Any], frame: int, resize: str, aim: int, interpolation: str,
    mean: float,
) -> None:  # fmt: skip
    spec = read(name, **config)
    assert (spec.height, spec.width, spec.resize, spec.resize_to) == (frame, frame, resize, aim)
    assert spec.interpolation == interpolation
    assert spec.mean[0] == pytest.approx(mean, abs=1e-3)
    assert (spec.crop, spec.convert) == ("floor", "before_resize")


def test_levels_that_are_not_scaled_to_one_are_brought_to_it() -> None:
    spec = read("ViTImageProcessor", size=8, do_rescale=False, image_mean=[127.5] * 3,
                image_std=[51.0] * 3)  # fmt: skip
    assert spec.mean == pytest.approx((0.5,) * 3)
    assert spec.std == pytest.approx((0.2,) * 3)


def test_open_clips_description() -> None:
    content = {"size": [32, 48], "interpolation": "bilinear", "resize_mode": "longest",
               "fill_color": 7, "mean": [0.1] * 3, "std": [0.2] * 3}  # fmt: skip
    spec = read_open_clip(content, "preprocess_cfg.json")
    assert (spec.height, spec.width, spec.resize, spec.resize_to) == (32, 48, "longest", 32)
    assert (spec.fill, spec.crop, spec.convert) == (7, "round", "after_resize")


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("FunnyProcessor", {"size": 8}, "'FunnyProcessor' is unknown"),
        ("Siglip2ImageProcessor", {"patch_size": 16}, "NaFlex"),
        ("CLIPImageProcessor", {}, "`size` is missing"),
        ("CLIPImageProcessor", {"size": SHORT}, "not cropped"),
        ("CLIPImageProcessor", {"size": 8, "crop_size": 8, "do_resize": False}, "do_resize"),
        ("ViTImageProcessor", {"size": 8, "do_pad": True}, "do_pad"),
        ("ViTImageProcessor", {"size": {"longest_edge": 8}}, "size is"),
        ("ViTImageProcessor", {"size": SQUARE, "crop_size": {"height": 8, "width": 9}}, "differ"),
        ("ViTImageProcessor", {"size": 8, "image_mean": [0.5]}, "three numbers"),
    ],
)
def test_what_cannot_be_repeated_is_refused(name: str, config: dict[str, Any], said: str) -> None:
    with pytest.raises(BundleError, match=said):
        read(name, **config)


@pytest.mark.parametrize("size", [(97, 131), (131, 97), (64, 64), (30, 300), (57, 60), (21, 24)])
@pytest.mark.parametrize(
    "spec",
    [
        ImageSpec("", 56, 56, "shortest", 64, "bicubic", (0.5,) * 3, (0.25,) * 3, crop="floor"),
        ImageSpec("", 56, 56, "shortest", 64, "bicubic", (0.5,) * 3, (0.25,) * 3),
        ImageSpec("", 64, 64, "squash", 64, "bilinear", (0.5,) * 3, (0.25,) * 3),
        ImageSpec("", 48, 64, "longest", 48, "bicubic", (0.5,) * 3, (0.25,) * 3, fill=9),
        ImageSpec("", 48, 64, "shortest", 48, "bicubic", (0.5,) * 3, (0.25,) * 3),
    ],
    ids=lambda spec: f"{spec.resize} {spec.crop} {spec.width}x{spec.height}",
)
def test_the_plain_path_and_the_bundles_path_give_the_same_pixels(
    spec: ImageSpec, size: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(6).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    ours = (Preprocessor(spec)(buffer.getvalue()) / 255 - spec.mean) / spec.std
    plain = make_pixels(spec, buffer.getvalue())
    np.testing.assert_allclose(plain, ours.transpose(2, 0, 1), atol=1e-5)
