"""Charts as SVG: lines, axes, pages that load nothing."""

from __future__ import annotations

import re

from twinlens.training.report.charts import draw_lines, draw_page, draw_points


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
