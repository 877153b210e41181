"""Decoded images: bad ones are left out and listed, streaming is deterministic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.family import write_images
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.errors import InputError
from twinlens.training.data.decoding import WholePicture
from twinlens.training.data.pixels import SAMPLE, PixelStore, square_spec
from twinlens.training.data.sources import open_source


def open_store(folder: Path, memory_bytes: float) -> PixelStore:
    store = PixelStore(
        open_source(folder), Preprocessor(square_spec(16)), memory_bytes=memory_bytes
    )
    store.load()
    return store


def spoil(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"this is no image")


@pytest.mark.parametrize("memory_bytes", [0, 1e9])
def test_bad_images_are_left_out_counted_and_named(tmp_path: Path, memory_bytes: float) -> None:
    folder = write_images(tmp_path, 9)
    spoil(folder, "red/000.png", "green/004.png")
    store = open_store(folder, memory_bytes)
    images, records = store.fetch(range(len(store)))
    assert all(image.dtype == np.uint8 and image.shape == (16, 16, 3) for image in images)
    keys = {store.source.records[record].key for record in records}
    assert keys.isdisjoint({"red/000.png", "green/004.png"}) and len(keys) == 7
    assert {store.source.records[bad].key for bad in store.bad} == {"red/000.png", "green/004.png"}
    store.close()


def test_streaming_puts_the_next_good_image_in_place_whatever_came_before(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 9)
    spoil(folder, "red/000.png")
    first, second = open_store(folder, 0), open_store(folder, 0)
    second.fetch([5, 6, 7, 8])
    bad = [record.key for record in first.source.records].index("red/000.png")
    one, _ = first.fetch([bad, 2])
    other, _ = second.fetch([bad, 2])
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    first.close()
    second.close()


def test_when_nothing_can_be_decoded_the_error_gives_the_first_reason(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 2)
    spoil(folder, "red/000.png", "green/001.png")
    with pytest.raises(InputError, match=r"none of the 2 images can be decoded; green/001\.png: "):
        open_store(folder, 1e9)


def write_photos(folder: Path, sizes: list[tuple[int, int]]) -> Path:
    draws = np.random.default_rng(0)
    for number, (width, height) in enumerate(sizes):
        pixels = draws.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)
    return folder


def test_pictures_keep_their_aspect_are_not_enlarged_and_long_ones_keep_the_middle(
    tmp_path: Path,
) -> None:
    folder = write_photos(tmp_path, [(500, 375), (300, 600), (20, 14), (1000, 60)])
    store = PixelStore(open_source(folder), WholePicture(48), memory_bytes=1e9)
    store.load()
    images, _ = store.fetch(range(4))
    assert [image.shape[:2] for image in images] == [(48, 64), (96, 48), (14, 20), (48, 192)]
    with Image.open(folder / "0.jpg") as photo:
        expected = photo.resize((64, 48), Image.Resampling.BICUBIC)
    assert np.abs(images[0].astype(int) - np.asarray(expected).astype(int)).mean() < 6
    store.close()


def test_a_photo_on_its_side_is_stored_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 60), "red").save(tmp_path / "0.jpg", exif=exif)
    assert WholePicture(30)((tmp_path / "0.jpg").read_bytes()).shape == (50, 30, 3)


def test_streaming_gives_what_memory_gives(tmp_path: Path) -> None:
    """And what does not fit is told from the first images: the rest is not decoded for nothing."""
    folder = write_photos(tmp_path, [(60 + 3 * i, 50) for i in range(150)])
    decoded: list[int] = []
    stores = [
        PixelStore(open_source(folder), WholePicture(32), memory_bytes=room) for room in (1e9, 1e4)
    ]
    for store in stores:
        store.load(decoded.append)
    assert len(decoded) == 150 + SAMPLE
    order = [3, 149, 0, 77]
    (one, records), (other, again) = (store.fetch(order) for store in stores)
    assert records == again and len({image.shape for image in one}) > 1
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    for store in stores:
        store.close()
