"""The report is one page that holds what it promises and loads nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.training.doctor.faulty_methods import draw_shapes, small_run
from twinlens.training.loop.loop import train
from twinlens.training.report.charts import draw_lines, draw_page, draw_points
from twinlens.training.report.page import write_report


@pytest.mark.parametrize("method", ["simmim", "simclr"])
def test_a_report_shows_curves_views_map_verdict_and_recipe(method: str, tmp_path: Path) -> None:
    data = draw_shapes(tmp_path / "data", 24)
    train(small_run(method, 15), str(data), tmp_path / "run")
    page = write_report(tmp_path / "run").read_text(encoding="utf-8")
    for words in ("loss (dashed: chance)", "effective rank", "singular values", "views"):
        assert words in page
    assert "Doctor: too early to tell" in page and "embeddings, two main directions" in page
    assert ("attention by head" in page) == (method == "simmim")
    assert "&quot;method&quot;" in page and "fingerprint" in page
    assert page.count("<circle") == 24 and page.count("data:image/png") >= 6
    # Nothing is fetched: no scripts, and every source is inside the page.
    assert "<script" not in page and "<link" not in page
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]*)"', page))


def test_a_report_survives_data_that_are_gone(tmp_path: Path) -> None:
    data = draw_shapes(tmp_path / "data", 16)
    train(small_run("simclr", 5), str(data), tmp_path / "run")
    data.rename(tmp_path / "elsewhere")
    assert "No pictures" in write_report(tmp_path / "run").read_text(encoding="utf-8")


def test_names_are_escaped() -> None:
    for figure in (
        draw_lines("<a>", {"<b>": [(0, 1), (1, 2)]}),
        draw_points("<a>", [(0, 0), (1, 1)], ["<b>", "c"]),
    ):
        assert "<a>" not in figure and "<b>" not in figure.replace("<b style", "")


def test_a_line_runs_from_lowest_to_highest_value() -> None:
    figure = draw_lines("loss", {"loss": [(0, 5.0), (10, 1.0)]}, 3.0)
    (points,) = re.findall(r'points="([^"]*)"', figure)
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in points.split())
    assert x0 < x1 and y0 < y1  # down the page is down in value
    (level,) = re.findall(r'y1="([^"]*)" y2="[^"]*" class="level"', figure)
    assert abs(float(level) - (y0 + y1) / 2) < 0.2


def test_a_page_of_charts_has_labelled_axes_and_loads_nothing() -> None:
    page = draw_page("<why>", [draw_points("map", [(1, 20.5), (3, 41)], ["a", "b"], framed=True)])
    assert {"20.5", "41", "1", "3"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", page))
    assert ".axis{stroke:#999;fill:none}" in page and "<why>" not in page
    assert not re.search(r"https?:|src=|href=", page)


def test_an_empty_chart_is_not_drawn() -> None:
    assert draw_lines("knn", {"knn": []}) == "" and draw_points("map", [], []) == ""
