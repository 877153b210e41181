"""Small halves of real picture sets, so that a short training is not mostly decoding.

A half is a zip of a few thousand pictures, drawn evenly and always the same, each with a class and
captions. The halves of emoji64 share no concepts, so its class is the emoji's group, which both
halves share, and its caption is its label. A set without captions gets captions of its class by
templates. Pictures without a class are left out.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from twinlens.demo import draw_corpus

SETS = ("emoji64", "cifar10_jpeg")
CAPTIONED = ("emoji64", "drawings")  # in words of their own
TEMPLATES = ("{}", "a photo of the {}", "a small picture of one {}", "this is the {}")


def cut_set(folder: Path, name: str, work: Path, *, train: int, test: int) -> Path:
    """Write the halves of a set, `train.zip` and `test.zip`, into a new folder, and return it."""
    out = work / name
    out.mkdir(parents=True)
    for half, count in (("train", train), ("test", test)):
        write_half(folder / name / f"{half}.zip", out / f"{half}.zip", count)
    return out


def write_half(source: Path, target: Path, count: int, *, side: int = 0) -> None:
    """Write `count` pictures of a zip, or all if it has fewer, with short sides of `side`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        rows = list(read_rows(old))
        places = np.random.default_rng(0).permutation(len(rows))[:count]
        chosen = [rows[place] for place in sorted(places)]
        for row in chosen:
            content = old.read(row["file"])
            new.writestr(row["file"], shrink(content, side) if side else content)
        new.writestr("index.jsonl", "".join(json.dumps(row) + "\n" for row in chosen))


def shrink(content: bytes, side: int) -> bytes:
    """Return a picture as PNG, its short side at `side` pixels."""
    with Image.open(io.BytesIO(content)) as image:
        rate = side / min(image.size)
        size = (round(image.width * rate), round(image.height * rate))
        small = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return buffer.getvalue()


def read_rows(source: zipfile.ZipFile) -> Iterator[dict[str, Any]]:
    """Yield file, class and captions of each picture."""
    groups = _groups(source)
    for row in _lines(source, "index.jsonl"):
        if "hexcode" in row:
            group = groups.get(row["hexcode"], "other")
            yield {"file": row["file"], "cls": group, "captions": [row["label"]]}
        elif row["cls"] is not None:
            captions = [template.format(row["cls"]) for template in TEMPLATES]
            yield {"file": row["file"], "cls": row["cls"], "captions": captions}


def draw_set(work: Path) -> Path:
    """Draw pictures by code, as a replacement for a real set; return their table."""
    return draw_corpus(work / "drawings", find=lambda: None).table


def _groups(source: zipfile.ZipFile) -> dict[str, str]:
    if "meta.jsonl" not in source.namelist():
        return {}
    return {row["hexcode"]: row["group"] for row in _lines(source, "meta.jsonl")}


def _lines(source: zipfile.ZipFile, name: str) -> Iterator[dict[str, Any]]:
    for line in source.read(name).decode("utf-8").splitlines():
        yield json.loads(line)
