"""The pictures that calibrate: what is taken of a folder, what is drawn, and what is refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twinlens.errors import InputError, NotFoundError
from twinlens.training.export.int8.calibration import draw_textures, read_folder, read_pictures


def write_pictures(folder: Path, count: int) -> None:
    (folder / "deep").mkdir(parents=True)
    for i in range(count):
        place = folder / "deep" if i % 2 else folder
        Image.new("RGB", (9, 9), (i % 256, 7, 9)).save(place / f"{i:03d}.png")


def test_a_folder_gives_pictures_from_all_of_it_and_none_both_fits_and_judges(
    tmp_path: Path,
) -> None:
    write_pictures(tmp_path / "photos", 200)
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    found = read_folder(tmp_path / "photos")
    assert len(found.fit) + len(found.judge) == 96
    assert len(found.fit) == 2 * len(found.judge)
    assert not set(found.fit) & set(found.judge)
    reds = {int(np.asarray(Image.open(io.BytesIO(p)))[0, 0, 0]) for p in found.fit}
    assert min(reds) < 10
    assert max(reds) > 190
    described = found.describe()
    assert (described["pictures"], described["count"]) == ("folder photos", 64)
    assert described["sha256"] == read_folder(tmp_path / "photos").describe()["sha256"]


def test_a_small_or_missing_folder_is_refused_with_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        read_pictures(tmp_path / "none")
    write_pictures(tmp_path / "few", 11)
    with pytest.raises(InputError, match=r"holds 11 pictures .* at least 12 are needed"):
        read_folder(tmp_path / "few")


def test_a_zip_gives_the_pictures_that_its_folder_gives(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 200)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in sorted((tmp_path / "photos").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path / "photos"))
    zipped, folder = (read_pictures(tmp_path / name) for name in ("photos.zip", "photos"))
    assert (zipped.source, set(zipped.fit)) == ("data photos.zip", set(folder.fit))


def test_drawn_textures_never_change_and_differ_in_contrast() -> None:
    first = draw_textures()
    assert first == draw_textures()
    deviations = [float(np.asarray(Image.open(io.BytesIO(p))).std()) for p in first.fit]
    assert max(deviations) > 2 * min(deviations)
    assert len(set(first.fit + first.judge)) == len(first.fit) + len(first.judge)
