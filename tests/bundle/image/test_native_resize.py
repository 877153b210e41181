"""The compiled resize gives the bits of the installed Pillow, or hands the picture back to it."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from ctypes import CDLL
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.bundle.image import made_images
from twinlens.bundle.arrays import Pixels
from twinlens.bundle.image import native_resize, resampling
from twinlens.bundle.image.native_resize import Stretch, resize_visible
from twinlens.bundle.image.preprocessing import Preprocessor

SOURCE = Path(native_resize.__file__).with_name("resample.c")
FILTERS = [Image.Resampling[name] for name in native_resize._FILTERS]
Rng = np.random.Generator


@pytest.fixture(scope="module")
def library() -> CDLL:
    """The library that was built with the package."""
    found = native_resize._agreeing_library()
    if found is None and shutil.which("gcc") is None:
        pytest.skip("there is no C compiler, so the package was built without the library")
    assert found is not None
    return found


def compile_library(folder: Path, *options: str) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("there is no C compiler")
    path = folder / "_resample.so"
    command = ["gcc", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", *options]
    subprocess.run([*command, "-shared", "-fPIC", SOURCE, "-o", path, "-lm"], check=True)
    return path


def draw_noise(rng: Rng, width: int, height: int) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def draw_stretch(rng: Rng, size: int) -> Stretch:
    """Return a part of `size` source pixels and what is seen of it once it is resized."""
    out = int(rng.integers(1, 120))
    skip = int(rng.integers(0, out))
    first = int(rng.integers(0, size)) if rng.random() < 0.5 else 0
    start = float(np.float32(rng.random() * (size - first) / 2)) if rng.random() < 0.5 else 0.0
    stop = float(size - first)
    if rng.random() < 0.5:
        stop = float(np.float32(start + (stop - start) * (0.2 + 0.8 * rng.random())))
    return Stretch(
        first, size - first, start, stop, out, skip, int(rng.integers(1, out - skip + 1))
    )


def resize_by_pillow(image: Image.Image, x: Stretch, y: Stretch, filter: int) -> Pixels:
    part = image.crop((x.first, y.first, x.first + x.size, y.first + y.size))
    box = (x.start, y.start, x.stop, y.stop)
    whole = np.asarray(part.resize((x.out, y.out), Image.Resampling(filter), box))
    return whole[y.skip : y.skip + y.length, x.skip : x.skip + x.length]


def compare_with_pillow(library: CDLL, seed: int, count: int) -> int:
    """Compare random pictures, boxes and filters; return how many were handed back."""
    rng, handed_back = np.random.default_rng(seed), 0
    for _ in range(count):
        width, height = (int(side) for side in rng.integers(1, 150, 2))
        image, filter = draw_noise(rng, width, height), FILTERS[rng.integers(len(FILTERS))]
        x, y = draw_stretch(rng, width), draw_stretch(rng, height)
        if not native_resize._is_suitable(image, x, y, filter):
            handed_back += 1
            continue
        seen = native_resize._resize(library, image, x, y, filter)
        assert seen is not None
        assert np.array_equal(seen, resize_by_pillow(image, x, y, filter)), (x, y, filter)
    return handed_back


def test_every_part_of_every_picture_has_the_bits_of_pillow(library: CDLL) -> None:
    handed_back = compare_with_pillow(library, 0, 1500)
    assert 0 < handed_back < 750


def test_a_processor_without_the_fast_instructions_gets_the_same_bits(tmp_path: Path) -> None:
    path = compile_library(tmp_path, "-DWITHOUT_AVX2")
    plain = native_resize._declare(CDLL(str(path)))
    assert not plain.twinlens_is_vectorised()
    compare_with_pillow(plain, 1, 400)


def test_a_large_picture_is_resized_in_bands(
    library: CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = draw_noise(np.random.default_rng(2), 331, 297)
    x, y = Stretch(3, 320, 0, 320, 90, 11, 64), Stretch(5, 290, 7, 281, 80, 3, 70)
    whole = resize_visible(image, x, y, Image.Resampling.BICUBIC)
    monkeypatch.setattr(native_resize, "_BAND_BYTES", 20_000)  # some 15 rows
    banded = resize_visible(image, x, y, Image.Resampling.BICUBIC)
    assert whole is not None and banded is not None
    assert np.array_equal(banded, whole)
    assert np.array_equal(whole, resize_by_pillow(image, x, y, Image.Resampling.BICUBIC))


def test_a_picture_in_several_pieces_of_pillows_memory_is_resized(library: CDLL) -> None:
    image = Image.effect_noise((3000, 2000), 60).convert("RGB")
    with pytest.raises(ValueError, match=r"array blocks|not contiguous"):
        image.__arrow_c_array__()
    x, y = Stretch(0, 3000, 0, 3000, 60, 0, 60), Stretch(0, 2000, 0, 2000, 40, 0, 40)
    seen = resize_visible(image, x, y, Image.Resampling.BILINEAR)
    assert seen is not None
    assert np.array_equal(seen, np.asarray(image.resize((60, 40), Image.Resampling.BILINEAR)))


def test_a_picture_that_pillow_stores_in_pieces_all_the_same_is_handed_back(
    library: CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_resize, "_BAND_BYTES", 1 << 40)
    x, y = Stretch(0, 3000, 0, 3000, 60, 0, 60), Stretch(0, 2000, 0, 2000, 40, 0, 40)
    image = Image.new("RGB", (3000, 2000))
    assert resize_visible(image, x, y, Image.Resampling.BILINEAR) is None


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P"])
def test_other_modes_are_handed_back(mode: str) -> None:
    x = Stretch(0, 8, 0, 8, 4, 0, 4)
    assert resize_visible(Image.new(mode, (8, 8)), x, x, Image.Resampling.BICUBIC) is None


@pytest.mark.parametrize(
    "wrong",
    [
        Stretch(0, 9, 0, 9, 4, 0, 4),  # more pixels than the picture has
        Stretch(1, 8, 0, 8, 4, 0, 4),
        Stretch(0, 8, 0, 9, 4, 0, 4),
        Stretch(0, 8, 5, 5, 4, 0, 4),
        Stretch(0, 8, float("nan"), 8, 4, 0, 4),
        Stretch(0, 8, 0, 8, 4, 2, 3),
        Stretch(0, 8, 0, 8, 0, 0, 0),
        Stretch(-1, 8, 0, 8, 4, 0, 4),
    ],
)
def test_what_reaches_outside_the_picture_is_refused(library: CDLL, wrong: Stretch) -> None:
    image, right = Image.new("RGB", (8, 8)), Stretch(0, 8, 0, 8, 4, 0, 4)
    assert native_resize._resize(library, image, wrong, right, 3) is None
    assert native_resize._resize(library, image, right, wrong, 3) is None


def test_a_library_that_disagrees_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native_resize, "_agrees", lambda library: False)
    if native_resize._load(SOURCE.parent) is None:
        pytest.skip("the package was built without the library")
    assert native_resize._agreeing_library.__wrapped__() is None
    assert "differs from Pillow" in caplog.text


def test_a_library_for_another_machine_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "_resample.abi3.so").write_bytes(b"\x7fELF of another machine")
    assert native_resize._load(tmp_path) is None
    assert "does not load" in caplog.text


def encode_picture(rng: Rng) -> bytes:
    """Return a JPEG of random size, content, subsampling and orientation, some of them grey."""
    width, height = (int(side) for side in np.exp(rng.uniform(0, np.log(500), 2)))
    small = rng.integers(0, 256, (max(1, height // 7), max(1, width // 7), 3), np.uint8)
    image = Image.fromarray(small).resize((max(1, width), max(1, height)), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(1, 9))
    file = io.BytesIO()
    image.convert("L" if rng.random() < 0.1 else "RGB").save(
        file,
        "JPEG",
        quality=int(rng.integers(30, 98)),
        subsampling=int(rng.integers(0, 3)),
        progressive=bool(rng.random() < 0.3),
        exif=exif,
    )
    return file.getvalue()


def compare_preprocessing(monkeypatch: pytest.MonkeyPatch, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    specs = [
        made_images.spec(
            height=side, width=side, resize=resize, resize_to=resize_to, interpolation=interpolation
        )
        for side, resize, resize_to in (
            (48, "shortest", 48),
            (64, "squash", 64),
            (32, "longest", 32),
        )
        for interpolation in ("bicubic", "bilinear", "lanczos")
    ]
    for number in range(count):
        data, spec = encode_picture(rng), specs[number % len(specs)]
        preprocess = Preprocessor(spec, fast=number % 4 == 0)
        ours = preprocess(data)
        with monkeypatch.context() as patch:
            patch.setattr(resampling, "resize_visible", lambda *_: None)
            assert np.array_equal(ours, preprocess(data)), (number, spec)


def test_pictures_of_every_kind_have_the_pixels_that_they_have_without_it(
    monkeypatch: pytest.MonkeyPatch, library: CDLL
) -> None:
    compare_preprocessing(monkeypatch, 300, 0)


@pytest.mark.slow
def test_twenty_thousand_pictures_have_the_pixels_that_they_have_without_it(
    monkeypatch: pytest.MonkeyPatch, library: CDLL
) -> None:
    compare_preprocessing(monkeypatch, 20_000, 1)
    compare_with_pillow(library, 2, 20_000)


UNDER_SANITIZER = """
import sys
from ctypes import CDLL
from tests.bundle.image.test_native_resize import compare_with_pillow
from twinlens.bundle.image.native_resize import _declare
compare_with_pillow(_declare(CDLL(sys.argv[1])), 3, 5000)
print("clean")
"""


@pytest.mark.slow
def test_nothing_is_read_or_written_outside_its_memory(tmp_path: Path) -> None:
    path = compile_library(tmp_path, "-g", "-fsanitize=address,undefined")
    preload = subprocess.check_output(["gcc", "-print-file-name=libasan.so"], text=True).strip()
    variables = os.environ | {"LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [sys.executable, "-c", UNDER_SANITIZER, str(path)],
        capture_output=True,
        text=True,
        env=variables,
    )
    assert done.stdout == "clean\n", done.stderr[-3000:]
    assert "runtime error" not in done.stderr
