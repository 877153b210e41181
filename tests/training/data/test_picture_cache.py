"""A cache of decoded pictures: the same pictures, decoded once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.family import small_config, with_settings, write_images
from tests.training.loop.test_resume import assert_same_bytes
from twinlens.errors import TwinlensError
from twinlens.training.data import pixels
from twinlens.training.data.decoding import WholePicture
from twinlens.training.data.picture_cache import name_cache
from twinlens.training.data.pixels import PixelStore
from twinlens.training.data.sources import open_source
from twinlens.training.loop.loop import train


def open_store(folder: Path, cache: Path) -> PixelStore:
    store = PixelStore(open_source(folder), WholePicture(12), memory_bytes=0)
    store.load_cached(name_cache(cache, store.source, 12))
    return store


def test_cached_pictures_are_the_decoded_ones(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 6)
    (folder / "red/bad.png").write_bytes(b"no picture")
    plain = PixelStore(open_source(folder), WholePicture(12), memory_bytes=1e9)
    plain.load()
    for _ in range(2):  # as it is written, and as it is read again
        store = open_store(folder, tmp_path / "cache")
        assert store.indices == plain.indices and store.bad.keys() == plain.bad.keys()
        places = range(len(store))
        pairs = zip(store.fetch(places)[0], plain.fetch(places)[0], strict=True)
        assert all(np.array_equal(one, other) for one, other in pairs)


def test_a_second_run_decodes_nothing_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = str(write_images(tmp_path / "data", 12))
    config = with_settings(small_config("simclr"), steps=3)
    train(config, data, tmp_path / "plain")
    cached = with_settings(config, cache=str(tmp_path / "cache"))
    train(cached, data, tmp_path / "first")
    monkeypatch.setattr(pixels.PixelStore, "_try", None)
    train(cached, data, tmp_path / "second")
    assert_same_bytes(tmp_path / "plain", tmp_path / "first")
    assert_same_bytes(tmp_path / "plain", tmp_path / "second")


def test_other_data_or_another_side_have_another_cache(tmp_path: Path) -> None:
    source = open_source(write_images(tmp_path / "images", 4))
    names = {name_cache(tmp_path, source, side) for side in (12, 24)}
    (tmp_path / "images/red/000.txt").write_text("another caption")
    names.add(name_cache(tmp_path, open_source(tmp_path / "images"), 12))
    assert len(names) == 3


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", 4)
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(TwinlensError, match="--set cache=DIR"):
        open_store(folder, tmp_path / "cache")
