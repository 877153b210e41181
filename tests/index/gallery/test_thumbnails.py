"""Thumbnails: made once, bounded, and never of a file that a client named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twinlens.bundle.image.thumbnail import make_thumbnail
from twinlens.errors import ImageError
from twinlens.index.gallery.contact_sheet import write_sheet
from twinlens.index.gallery.thumbnails import ThumbnailStore
from twinlens.index.hits import Hit
from twinlens.index.storage.records import Item


def photo(seed: int, size: tuple[int, int] = (300, 200)) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG")
    return out.getvalue()


def test_a_thumbnail_is_small_and_keeps_its_aspect_ratio() -> None:
    with Image.open(io.BytesIO(make_thumbnail(photo(0, (600, 300))))) as small:
        assert (small.format, small.size) == ("WEBP", (224, 112))
    with pytest.raises(ImageError):
        make_thumbnail(b"nothing")


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_a_thumbnail_of_16_bits_is_not_white_and_stands_upright(format: str) -> None:
    levels = np.full((30, 60), 20_000, np.uint16)
    levels[:, 30:] = 40_000
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    out = io.BytesIO()
    Image.fromarray(levels).save(out, format, exif=exif)
    with Image.open(io.BytesIO(make_thumbnail(out.getvalue()))) as small:
        assert small.size == (30, 60)
        shown = np.asarray(small.convert("L"), np.float64)
    np.testing.assert_allclose(shown[[10, 50], 15], [20_000 / 257, 40_000 / 257], atol=4)


def test_a_thumbnail_is_created_once_and_outlives_the_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(photo(1))
    item = Item(1, "a", "hash-hash", {"path": str(path)})
    store = ThumbnailStore(tmp_path)
    first = store.get(item)
    path.unlink()
    store.close()
    store = ThumbnailStore(tmp_path)
    assert store.get(item) == first is not None
    assert store.get(Item(2, "a", "other-hash", {"path": str(path)})) is None
    store.close()


def test_the_store_is_bounded_and_drops_the_oldest(tmp_path: Path) -> None:
    one = len(make_thumbnail(photo(0)))
    store = ThumbnailStore(tmp_path, max_bytes=3 * one + one // 2)
    for n in range(6):
        store.put(f"i{n}", "v", photo(n))
    stored = [n for n in range(6) if store.get(Item(n, f"i{n}", "v", {})) is not None]
    assert stored == [3, 4, 5]
    store.close()


def test_a_sheet_is_self_contained_and_escapes_its_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(photo(1))
    hits = [Hit("<b>a</b>", 0.5, {"path": str(path)}), Hit("gone", 0.4, {"path": "/no/such.png"})]
    text = write_sheet(hits, "<i>query</i>", tmp_path / "sheet.html").read_text()
    assert text.count("data:image/webp;base64,") == 1
    assert "&lt;b&gt;a&lt;/b&gt;" in text
    assert "<i>query" not in text
    assert "http" not in text
