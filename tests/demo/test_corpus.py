"""The demo corpus: drawn completely, reused if it exists, and never over other files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twinlens.demo import DemoCorpus, draw_corpus
from twinlens.demo.drawings import count_drawings
from twinlens.demo.photographs import FOLDER, KIND, list_photographs
from twinlens.demo.picture import Picture
from twinlens.errors import ConflictError


def _draw(folder: Path) -> DemoCorpus:
    return draw_corpus(folder, find=lambda: None)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DemoCorpus:
    return _draw(tmp_path_factory.mktemp("demo") / "corpus")


def _read(corpus: DemoCorpus) -> list[dict[str, str]]:
    with corpus.table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_of_the_table_names_a_picture_that_opens(drawn: DemoCorpus) -> None:
    rows = _read(drawn)
    assert len(rows) == drawn.count == count_drawings() + len(list_photographs()) > 100
    for row in rows:
        with Image.open(drawn.folder / row["path"]) as image:
            side = 224 if row["kind"] == KIND else 128
            assert min(image.size) == side
            assert image.mode == "RGB"


def test_notice_thanks_for_every_photograph_and_they_stay_small() -> None:
    notice = (Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
    shown = list_photographs()
    assert {one.file for one in shown} == {file.name for file in FOLDER.glob("*.webp")}
    for one in shown:
        entry = f"{one.name}\n    {one.credit}; {one.licence}\n    {one.source}\n"
        assert entry in notice, one.name
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 1.5e6


def test_names_are_unique_and_no_picture_is_blank(drawn: DemoCorpus) -> None:
    rows = _read(drawn)
    assert len({row["name"] for row in rows}) == len(rows)
    for row in rows:
        with Image.open(drawn.folder / row["path"]) as image:
            assert np.asarray(image).std() > 5, row["name"]


def test_a_shape_has_the_colour_of_its_name(drawn: DemoCorpus) -> None:
    with Image.open(drawn.folder / "shape" / "red-heart.png") as image:
        red, green, blue = np.asarray(image)[64, 64]
    assert red > 200 > 2 * max(green, blue)


def test_a_second_call_reuses_the_corpus(drawn: DemoCorpus) -> None:
    before = drawn.table.stat().st_mtime_ns
    again = _draw(drawn.folder)
    assert again.reused
    assert again.count == drawn.count
    assert drawn.table.stat().st_mtime_ns == before


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ConflictError, match="something else"):
        _draw(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_damaged_marker_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text("{")
    with pytest.raises(ConflictError, match="damaged"):
        _draw(tmp_path)


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path) -> None:
    def stop(pictures: object, total: int) -> list[Picture]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_corpus(tmp_path / "demo", find=lambda: None, track=stop)
    assert not (tmp_path / "demo").exists()
