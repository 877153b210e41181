"""Photos, and a collection that the command line built from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def photos(tmp_path: Path, squares: dict[str, bytes]) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for colour, raw in squares.items():
        (folder / f"{colour}.png").write_bytes(raw)
    (folder / "broken.png").write_bytes(b"nothing")
    return folder


@pytest.fixture
def built(cli: Run, photos: Path, tmp_path: Path, toy_bundle: Path) -> Path:
    out = tmp_path / "photos.index"
    code, text, err = cli("index", "build", photos, "-o", out, "--bundle", toy_bundle, "--json")
    assert code == 0, err
    summary = json.loads(text)
    assert summary["count"] == summary["embedded"] == len(list(photos.iterdir())) - 1
    assert summary["failed"] == 1
    assert summary["recall"] == {"image": 1.0, "text": 1.0}
    return out
