"""RUN/report.html of real runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.training.doctor.faulty_methods import draw_shapes, small_run
from twinlens.training.loop.loop import train
from twinlens.training.report.page import write_report


@pytest.mark.parametrize("method", ["simmim", "simclr"])
def test_a_report_shows_curves_views_map_verdict_and_recipe(method: str, tmp_path: Path) -> None:
    data = draw_shapes(tmp_path / "data", 24)
    train(small_run(method, 15), str(data), tmp_path / "run")
    page = write_report(tmp_path / "run").read_text(encoding="utf-8")
    for words in ("loss (dashed: chance)", "effective rank", "singular values", "views"):
        assert words in page
    assert "share of variance in the largest directions" in page and "top5_eigenvalues" in page
    assert ("positive_cosine" in page) == (method == "simclr")
    assert (
        "Doctor: too early to tell" in page and "embeddings, first two principal components" in page
    )
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
