"""Copies planted in a folder of images: exact, re-encoded, resized, cropped by a twentieth."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from twinlens.index.collection import Collection
from twinlens.index.upkeep.copies import CopyGroup, find_copies

Change = Callable[[Image.Image], tuple[str, bytes]]


def draw(seed: int, side: int = 96) -> Image.Image:
    """Return a drawing of a few shapes."""
    rng = np.random.default_rng(seed)

    def colour() -> tuple[int, int, int]:
        red, green, blue = rng.integers(0, 256, 3).tolist()
        return red, green, blue

    image = Image.new("RGB", (side, side), colour())
    pen = ImageDraw.Draw(image)
    for _ in range(7):
        left, top = rng.integers(0, side * 3 // 4, 2).tolist()
        box = (left, top, left + int(rng.integers(12, side)), top + int(rng.integers(12, side)))
        shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        shape(box, fill=colour())
    return image


def encode(image: Image.Image, suffix: str, **options: int) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    image.save(
        buffer, {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "bmp": "BMP"}[suffix], **options
    )
    return suffix, buffer.getvalue()


def crop(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    left, top = round(width * share / 2), round(height * share / 2)
    return image.crop((left, top, width - left, height - top))


CHANGES: Mapping[str, Change] = {
    "exact": lambda image: encode(image, "bmp"),  # the same pixels in another format
    "jpeg": lambda image: encode(image, "jpg", quality=75),
    "webp": lambda image: encode(image, "webp", quality=60),
    "smaller": lambda image: encode(image.resize((48, 48), Image.Resampling.LANCZOS), "png"),
    "larger": lambda image: encode(image.resize((128, 128), Image.Resampling.BILINEAR), "png"),
    "cropped": lambda image: encode(crop(image, 0.05), "png"),
}


def plant(folder: Path, images: Mapping[str, Image.Image], chosen: list[str]) -> None:
    """Write the images, and every kind of copy of the chosen ones as `NAME~KIND`."""
    folder.mkdir(parents=True)
    for name, image in images.items():
        (folder / f"{name}.png").write_bytes(encode(image, "png")[1])
        for kind, change in CHANGES.items() if name in chosen else ():
            suffix, raw = change(image)
            (folder / f"{name}~{kind}.{suffix}").write_bytes(raw)


def original_of(id: str) -> str:
    return id.rpartition(".")[0].partition("~")[0]


def judge(collection: Collection, chosen: list[str]) -> tuple[float, float, list[CopyGroup]]:
    """Return precision and recall of the copies found.

    Precision: of the items that dedup would delete, those whose original is the kept item's.
    Recall: of the items that each family has beside one, those that it would delete.
    """
    groups = find_copies(collection)
    told = [(group, one) for group in groups for one in group.copies]
    true = sum(original_of(g.kept.id) == original_of(one.item.id) for g, one in told)
    there = {item.id for item in collection.catalog.items()}
    redundant = sum(sum(original_of(name) == family for name in there) - 1 for family in chosen)
    return true / max(1, len(told)), true / redundant, groups


class GridEncoder:
    """Embeds a coarse grid of colours: alike for copies, and for nothing else."""

    def preprocess(self, image: bytes) -> npt.NDArray[np.uint8]:
        opened = Image.open(io.BytesIO(image)).convert("RGB")
        return np.asarray(opened.resize((8, 8), Image.Resampling.BOX))

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        flat = pixels.reshape(len(pixels), -1).astype(np.float32)
        centred = flat - flat.mean(axis=1, keepdims=True)
        rows: npt.NDArray[np.float32] = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        return rows
