"""Decoded images: bad ones are left out and listed, streaming is deterministic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.family import write_images
from twinlens.bundle.image.preprocessing import Preprocessor
from twinlens.errors import InputError
from twinlens.training.data.pixels import PixelStore, square_spec
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
    pixels, records = store.fetch(range(len(store)))
    assert pixels.dtype == np.uint8 and pixels.shape[1:] == (16, 16, 3)
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
    assert np.array_equal(one, other)
    first.close()
    second.close()


def test_when_nothing_can_be_decoded_the_error_gives_the_first_reason(tmp_path: Path) -> None:
    folder = write_images(tmp_path, 2)
    spoil(folder, "red/000.png", "green/001.png")
    with pytest.raises(InputError, match=r"none of the 2 images can be decoded; green/001\.png: "):
        open_store(folder, 1e9)
