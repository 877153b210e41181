"""Preprocessing against open_clip's and timm's own evaluation transforms, on upright images."""

from __future__ import annotations

import threading
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tests.bundle.image.made_images import (
    FEW_SHAPES,
    MODES,
    ONE,
    SHAPES,
    ZERO,
    encode,
    picture,
    pixels,
    spec,
)
from twinlens.bundle.arrays import Pixels
from twinlens.bundle.image.framing import frame
from twinlens.bundle.image.image_source import OpenedImage, open_image
from twinlens.bundle.image.preprocessing import ImageLimits, ImageSource, Preprocessor
from twinlens.bundle.image.resampling import to_eight_bits
from twinlens.bundle.manifest import ImageSpec
from twinlens.errors import BundleError, ImageError, InputError, NotFoundError, TooLargeError

open_clip = pytest.importorskip("open_clip")
timm_transforms = pytest.importorskip("timm.data.transforms_factory")


def by_open_clip(image: Image.Image, size: int | tuple[int, int] = 64, **options: Any) -> Pixels:
    transform = open_clip.image_transform(size, is_train=False, mean=ZERO, std=ONE, **options)
    return to_levels(transform(image))


def by_timm(image: Image.Image, size: int | tuple[int, int] = 64, **options: Any) -> Pixels:
    transform = timm_transforms.transforms_imagenet_eval(size, mean=ZERO, std=ONE, **options)
    return to_levels(transform(image.convert("RGB")))  # as timm's own data sets do


def to_levels(tensor: Any) -> Pixels:
    levels: Pixels = np.rint(tensor.numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    return levels


def difference(given: Pixels, expected: Pixels) -> int:
    assert given.shape == expected.shape
    return int(np.abs(given.astype(int) - expected).max())


def shapes_for(mode: str) -> list[tuple[int, int]]:
    """Return all shapes for the common mode, few for the others: the references are slow."""
    return SHAPES if mode == "RGB" else FEW_SHAPES


def is_extreme(shape: tuple[int, int]) -> bool:
    """Return whether the references cannot pad the shape, as it would be below one pixel wide."""
    return max(shape) > 100 * min(shape)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resize", ["shortest", "longest", "squash"])
def test_every_mode_and_shape_equals_open_clips_transform(mode: str, resize: str) -> None:
    for interpolation in ("bicubic", "bilinear"):
        preprocess = Preprocessor(spec(resize=resize, interpolation=interpolation))
        for shape in shapes_for(mode):
            if resize == "longest" and is_extreme(shape):
                continue
            image = to_eight_bits(picture(*shape, mode))
            expected = by_open_clip(image, resize_mode=resize, interpolation=interpolation)
            given, expected = only_seen(preprocess.spec, shape, preprocess(image), expected)
            assert difference(given, expected) <= 1, (mode, shape, interpolation)


def only_seen(
    image: ImageSpec, shape: tuple[int, int], given: Pixels, expected: Pixels
) -> tuple[Pixels, Pixels]:
    """Return both without their padding, since open_clip also converts padding from CMYK."""
    x, y = (framing := frame(image, *shape)).x, framing.y
    part = slice(y.offset, y.offset + y.length), slice(x.offset, x.offset + x.length)
    return given[part], expected[part]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("crop_mode", "resize"), [("center", "shortest"), ("squash", "squash")])
def test_every_mode_and_shape_equals_timms_transform(
    mode: str, crop_mode: str, resize: str
) -> None:
    for crop_pct, resize_to in ((0.875, 73), (1.0, 64), (0.95, 67)):
        preprocess = Preprocessor(spec(resize=resize, resize_to=resize_to, convert="before_resize"))
        for shape in shapes_for(mode):
            image = to_eight_bits(picture(*shape, mode))
            expected = by_timm(
                image, crop_mode=crop_mode, crop_pct=crop_pct, interpolation="bicubic"
            )
            assert difference(preprocess(image), expected) <= 1, (mode, shape, crop_pct)


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])
@pytest.mark.parametrize("convert", ["before_resize", "after_resize"])
def test_every_interpolation_equals_timms(name: str, convert: str) -> None:
    preprocess = Preprocessor(spec(interpolation=name, resize_to=73, convert=convert))
    for mode in ("RGB", "L"):
        for shape in FEW_SHAPES:
            image = picture(*shape, mode)
            expected = by_timm(image, crop_pct=0.875, interpolation=name)
            assert difference(preprocess(image), expected) <= 1, (mode, shape)


@pytest.mark.parametrize("fill", [0, 127, 255])
def test_padding_equals_open_clips_and_timms(fill: int) -> None:
    for shape in [s for s in FEW_SHAPES if not is_extreme(s)]:
        image = picture(*shape)
        given = Preprocessor(spec(resize="longest", fill=fill))(image)
        expected = by_open_clip(image, resize_mode="longest", fill_color=fill)
        assert difference(given, expected) <= 1, shape
        crop: dict[str, Any] = {"crop_mode": "border", "crop_pct": 0.9, "interpolation": "bicubic"}
        given = Preprocessor(spec(resize="longest", resize_to=71, fill=0))(image)
        assert difference(given, by_timm(image, **crop)) <= 1, shape


def test_a_frame_larger_than_the_resized_image_is_padded_as_torchvision_pads() -> None:
    from torchvision import transforms  # used by the references

    reference = transforms.Compose(
        [transforms.Resize(50, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(64),
         transforms.PILToTensor()]
    )  # fmt: skip
    preprocess = Preprocessor(spec(resize_to=50))
    for shape in [(100, 61), (61, 100), (223, 225), (33, 32), (1, 1), (400, 100)]:
        image = picture(*shape)
        expected = reference(image).numpy().transpose(1, 2, 0)
        assert difference(preprocess(image), expected) <= 1, shape


@pytest.mark.parametrize("size", [(48, 96), (96, 48), (50, 61)])
def test_a_frame_that_is_not_square_equals_both_references(size: tuple[int, int]) -> None:
    height, width = size
    wide = {"height": height, "width": width, "resize_to": min(size)}
    for shape in [(100, 61), (61, 100), (223, 225), (2, 3), (400, 100), (96, 48)]:
        image = picture(*shape)
        for resize in ("shortest", "longest", "squash"):
            given = Preprocessor(spec(**wide, resize=resize))(image)
            expected = by_open_clip(image, size, resize_mode=resize)
            assert difference(given, expected) <= 1, (shape, resize)
        given = Preprocessor(spec(**wide))(image)
        expected = by_timm(image, size, crop_pct=1.0, interpolation="bicubic")
        assert difference(given, expected) <= 1, shape


def test_an_image_too_thin_to_keep_a_pixel_keeps_one() -> None:
    preprocess = Preprocessor(spec(resize="longest", fill=9))
    for width, height in [(1, 5000), (5000, 1)]:
        given = preprocess(np.full((height, width, 3), 200, np.uint8))
        assert int((given == 200).all(2).sum()) == 64
        assert int((given == 9).all(2).sum()) == 64 * 63


FILES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "JPEG": ("JPEG", {"quality": 90}, ["RGB", "L", "CMYK"]),
    "progressive JPEG": ("JPEG", {"progressive": True, "subsampling": 0}, ["RGB", "L"]),
    "PNG": ("PNG", {}, ["RGB", "L", "1", "P", "LA", "RGBA", "I;16"]),
    "WebP": ("WEBP", {"quality": 80}, ["RGB", "RGBA"]),
    "lossless WebP": ("WEBP", {"lossless": True}, ["RGB", "RGBA"]),
    "BMP": ("BMP", {}, ["RGB", "L", "1", "P"]),
    "GIF": ("GIF", {}, ["RGB", "L", "1", "P"]),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("source", ["bytes", "path"])
def test_every_format_equals_both_transforms(name: str, source: str, tmp_path: Path) -> None:
    format, options, modes = FILES[name]
    for mode in modes:
        for shape in [(301, 207), (33, 90), (1, 1)]:
            data = encode(picture(*shape, mode), format, **options)
            (tmp_path / "image").write_bytes(data)
            image = to_eight_bits(Image.open(BytesIO(data)))
            given = Preprocessor(spec())(data if source == "bytes" else tmp_path / "image")
            assert difference(given, by_open_clip(image)) <= 1, (mode, shape)
            timms = spec(resize_to=73, convert="before_resize", interpolation="bilinear")
            given = Preprocessor(timms)(data if source == "bytes" else str(tmp_path / "image"))
            assert difference(given, by_timm(image.convert("RGB"))) <= 1, (mode, shape)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_decoded_as_its_first_frame(format: str) -> None:
    first, second = picture(90, 70, seed=1), picture(90, 70, seed=2)
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(first, format, save_all=True, append_images=[second], **options)
    still = Image.open(BytesIO(data))
    assert still.n_frames == 2  # type: ignore[attr-defined]
    assert difference(Preprocessor(spec())(data), by_open_clip(still)) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_an_image_rotated_by_exif_is_decoded_upright(orientation: int, format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(picture(120, 75), format, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(BytesIO(data)))
    assert upright.size == ((75, 120) if orientation >= 5 else (120, 75))
    for source in (data, Image.open(BytesIO(data))):
        assert difference(Preprocessor(spec())(source), by_open_clip(upright)) <= 1
    smooth = upright.resize((24, 24)).resize((800, 600), Image.Resampling.BICUBIC)
    turned = encode(smooth, "JPEG", exif=exif, quality=95)
    exact = Preprocessor(spec())(turned)
    assert difference(Preprocessor(spec(), fast=True)(turned), exact) <= 12


@pytest.mark.parametrize(
    ("array", "mode"),
    [(pixels(90, 70), "RGB"), (pixels(90, 70)[..., 0], "L"), (pixels(90, 70)[:, ::-1], "RGB"),
     (np.dstack([pixels(90, 70), pixels(90, 70, 1)[..., 0]]), "RGBA")],
)  # fmt: skip
def test_an_array_is_read_as_an_image(array: Pixels, mode: str) -> None:
    image = Image.fromarray(np.ascontiguousarray(array))
    assert image.mode == mode
    for convert in ("before_resize", "after_resize"):
        preprocess = Preprocessor(spec(convert=convert))
        np.testing.assert_array_equal(preprocess(array), preprocess(image))


def test_pixels_are_a_contiguous_writable_copy() -> None:
    array = pixels(64, 64)
    for source in (array, Image.fromarray(array), encode(Image.fromarray(array), "PNG")):
        given = Preprocessor(spec())(source)
        np.testing.assert_array_equal(given, array)
        assert given.dtype == np.uint8
        assert given.flags.c_contiguous
        assert given.flags.writeable
        assert not np.shares_memory(given, array)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
@pytest.mark.parametrize("resize", ["shortest", "longest"])
@pytest.mark.parametrize("fast", [False, True])
def test_pixels_are_contiguous_on_every_path(mode: str, resize: str, fast: bool) -> None:
    for name in ("nearest", "bicubic"):
        preprocess = Preprocessor(spec(resize=resize, interpolation=name), fast=fast)
        given = preprocess(picture(90, 70, mode))
        assert given.flags.c_contiguous
        assert given.flags.writeable


def test_the_image_of_the_caller_is_not_changed() -> None:
    image = Image.open(BytesIO(encode(picture(900, 700, "P"), "PNG", transparency=b"\x00\x80")))
    before = image.mode, image.size, dict(image.info)
    for convert in ("before_resize", "after_resize"):
        Preprocessor(spec(convert=convert), fast=True)(image)
    assert (image.mode, image.size, image.info) == before
    photograph = Image.open(BytesIO(encode(picture(900, 700), "JPEG")))
    Preprocessor(spec(), fast=True)(photograph)
    assert photograph.size == (900, 700)


def test_sixteen_bit_grey_is_scaled_where_pillow_would_clip() -> None:
    levels = np.linspace(0, 65535, 64 * 64, dtype=np.uint16).reshape(64, 64)
    wanted = (levels >> 8).astype(np.uint8)
    assert Image.fromarray(levels).convert("RGB").getextrema()[0] == (0, 255)
    assert np.mean(np.asarray(Image.fromarray(levels).convert("L")) == 255) > 0.9  # the fault
    for image in (
        Image.fromarray(levels),
        Image.fromarray(levels.astype(">u2")),
        Image.fromarray(levels.astype(np.int32)),
        encode(Image.fromarray(levels), "PNG"),
    ):
        given = Preprocessor(spec())(image)
        np.testing.assert_array_equal(given, np.repeat(wanted[..., None], 3, axis=2))


def test_thirty_two_bit_integers_within_eight_bits_are_not_scaled() -> None:
    levels = pixels(64, 64)[..., 0]
    given = Preprocessor(spec())(Image.fromarray(levels.astype(np.int32)))
    np.testing.assert_array_equal(given[..., 1], levels)


@pytest.mark.parametrize("level", [70_000, -1])
def test_integers_beyond_sixteen_bits_are_refused(level: int) -> None:
    image = Image.fromarray(np.full((9, 9), level, np.int32))
    with pytest.raises(ImageError, match=f"levels from {level} to {level}"):
        Preprocessor(spec())(image)


@pytest.mark.parametrize("mode", ["F", "La", "RGBa"])
def test_a_mode_without_a_known_range_is_refused(mode: str) -> None:
    with pytest.raises(ImageError, match=f"mode {mode}; convert it to RGB"):
        Preprocessor(spec())(Image.new(mode, (9, 9)))


@pytest.mark.parametrize("mode", ["PA", "RGBX", "LAB", "HSV"])
@pytest.mark.parametrize("convert", ["before_resize", "after_resize"])
def test_rare_modes_are_decoded(mode: str, convert: str) -> None:
    image = Image.new("RGB", (90, 70), (204, 51, 51))  # of the web palette
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    given = Preprocessor(spec(convert=convert))(image)
    assert np.abs(given.astype(int) - np.array([204, 51, 51])).max() <= 6


def test_fast_decoding_is_close_on_a_photograph_and_decodes_less() -> None:
    rng = np.random.default_rng(3)
    smooth = Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=np.uint8))
    data = encode(smooth.resize((1350, 900), Image.Resampling.BICUBIC), "JPEG", quality=92)
    given = Preprocessor(spec(), fast=True)(data)
    exact = Preprocessor(spec())(data)
    apart = np.abs(given.astype(int) - exact)
    assert apart.any(), "the fast path was not taken"
    assert apart.mean() < 1
    assert apart.max() <= 12


@pytest.mark.parametrize("fast", [False, True])
def test_an_image_opened_before_gives_the_pixels_of_its_bytes(fast: bool) -> None:
    preprocess = Preprocessor(spec(), fast=fast)
    for data in (
        encode(picture(900, 700), "JPEG"),
        encode(picture(90, 70, "P"), "PNG"),
        encode(picture(90, 70), "WEBP"),
    ):
        opened = OpenedImage(open_image(data, ImageLimits()))
        assert np.array_equal(preprocess(opened), preprocess(data))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK", "P"])
def test_fast_stays_close_where_nothing_can_be_decoded_smaller(mode: str) -> None:
    for shape in FEW_SHAPES:
        coarse = picture(max(1, shape[0] // 9), max(1, shape[1] // 9), "RGB")
        image = coarse.resize(shape, Image.Resampling.BICUBIC).convert(mode)
        given = Preprocessor(spec(), fast=True)(image)
        assert difference(given, Preprocessor(spec())(image)) <= 2, shape


def test_threads_share_a_preprocessor() -> None:
    sources = [encode(picture(150 + i, 90, seed=i), "JPEG") for i in range(12)]
    preprocess = Preprocessor(spec(), fast=True)
    expected = [preprocess(source) for source in sources]
    answers: list[list[Pixels]] = []
    threads = [
        threading.Thread(target=lambda: answers.append([preprocess(s) for s in sources]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)


@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    side=st.integers(1, 80),
    more=st.integers(-20, 40),
    resize=st.sampled_from(["shortest", "longest", "squash"]),
    name=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]),
)
@settings(max_examples=120, deadline=None)
def test_a_flat_image_stays_flat_and_the_frame_is_always_filled(
    width: int, height: int, side: int, more: int, resize: str, name: str
) -> None:
    image = spec(
        height=side, width=side, resize=resize, resize_to=max(1, side + more), interpolation=name,
        fill=10,
    )  # fmt: skip
    given = Preprocessor(image)(np.full((height, width), 90, np.uint8))
    assert given.shape == (side, side, 3)
    framing = frame(image, width, height)
    seen = framing.x.length * framing.y.length
    assert int((given == 90).all(2).sum()) == seen
    assert int((given == 10).all(2).sum()) == side * side - seen


@given(width=st.integers(1, 3000), height=st.integers(1, 3000), side=st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_rotating_the_image_rotates_its_crop(width: int, height: int, side: int) -> None:
    image = spec(height=side, width=side, resize_to=side)
    across, down = frame(image, width, height), frame(image, height, width)
    assert (across.x, across.y) == (down.y, down.x)


@pytest.mark.parametrize("changes", [{"height": 0}, {"width": -1}, {"resize_to": 0}])
def test_a_manifest_without_a_frame_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(BundleError, match="must be at least 1"):
        Preprocessor(spec(**changes))


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.jpg does not exist"):
        Preprocessor(spec())(tmp_path / "gone.jpg")
    with pytest.raises(InputError, match="cannot be read"):
        Preprocessor(spec())(tmp_path)


@pytest.mark.parametrize(
    ("source", "words"),
    [(3, "of type int"), (None, "of type NoneType"), ([1, 2], "of type list"),
     (np.zeros((4, 4, 3)), "array of float64; expected uint8"),
     (np.zeros((4, 4, 2), np.uint8), "shape 4 x 4 x 2"), (np.zeros(4, np.uint8), "shape 4;"),
     (np.zeros((0, 4, 3), np.uint8), "4 x 0 pixels; it is empty"),
     (Image.new("RGB", (0, 3)), "0 x 3 pixels; it is empty")],
)  # fmt: skip
def test_a_source_that_is_not_an_image_is_refused_with_a_message(source: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Preprocessor(spec())(source)
    assert caught.value.field == "image"


def test_bytes_and_pixels_over_the_limits_are_refused_on_every_path(tmp_path: Path) -> None:
    data = encode(picture(40, 30), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    few = Preprocessor(spec(), limits=ImageLimits(max_bytes=len(data) - 1))
    for source in (data, tmp_path / "a.png", str(tmp_path / "a.png")):
        with pytest.raises(TooLargeError, match=str(len(data) - 1)):
            few(source)
    small = Preprocessor(spec(), limits=ImageLimits(max_pixels=40 * 30 - 1))
    images: list[ImageSource] = [data, picture(40, 30), pixels(40, 30)]
    for image in images:
        with pytest.raises(TooLargeError, match=r"40 x 30 pixels; the limit is 1199"):
            small(image)
    Preprocessor(spec(), limits=ImageLimits(len(data), 40 * 30))(data)
