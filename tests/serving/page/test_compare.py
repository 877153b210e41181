"""Compare: two searches side by side, two models, and a training run that goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.page.conftest import _Running

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "first"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"method": "clip", "steps": 100}))
    (run / "log.jsonl").write_text(json.dumps({"step": 0, "loss": 2.0, "rank": 5.0}) + "\n")
    return run.parent


@pytest.fixture(scope="module")
def run_server(tmp_path_factory: pytest.TempPathFactory, runs: Path) -> Iterator[str]:
    arguments = ["first=builtin", "second=builtin", "--runs", str(runs)]
    with _Running(tmp_path_factory.mktemp("run-data"), {}, arguments) as url:
        yield url


def test_two_searches_show_what_both_found(page: Any, server: str) -> None:
    page.goto(f"{server}/#compare")
    page.locator("#pair-left-in option").first.wait_for(state="attached")
    page.fill("#pair-left", "a red circle")
    page.fill("#pair-right", "a blue square")
    page.click("#pair-form button")
    page.locator("#pair-status", has_text="6 of 6 are in both.").wait_for()
    first = "#pair-left-results li"
    assert page.locator(first).first.inner_text().startswith("red circle")
    assert page.locator(f"{first}.shared").count() == 6
    assert "q=a+red+circle" in page.url and "q2=a+blue+square" in page.url
    page.reload()
    page.locator("#pair-status", has_text="are in both.").wait_for()


def test_two_models_are_compared_and_an_error_clears_the_tables(page: Any, run_server: str) -> None:
    page.set_default_timeout(60_000)
    page.goto(f"{run_server}/#compare")
    page.locator("#compare-second option").nth(2).wait_for(state="attached")
    page.select_option("#compare-second", "second")
    page.click("#compare form#compare-form button.primary")
    page.locator("#compare-tables table").nth(1).wait_for()
    assert "100 % of the rows have the same best column" in page.inner_text("#compare-status")
    assert page.locator("#compare-tables caption").all_inner_texts() == ["first", "second"]
    page.fill("#compare-left", "")
    page.click("#compare form#compare-form button.primary")
    page.wait_for_selector("#compare-status.error")
    assert page.locator("#compare-tables table").count() == 0


def test_a_training_run_is_drawn_as_it_goes_on(page: Any, run_server: str, runs: Path) -> None:
    page.set_default_timeout(60_000)
    page.goto(run_server)
    page.click("#tab-runs")
    page.locator("#runs-status", has_text="Step 0 of 100").wait_for()
    assert page.locator("#runs-charts figure").count() == 2
    with (runs / "first" / "log.jsonl").open("a") as log:
        for step in range(10, 60, 10):
            log.write(json.dumps({"step": step, "loss": 2 / step, "rank": 5.0 + step}) + "\n")
    page.locator("#runs-status", has_text="Step 50 of 100, running.").wait_for()
    assert page.locator("#runs-charts svg").first.get_attribute("aria-label") == (
        "loss: 0.04 at step 50"
    )
    assert page.title().startswith("first")


def test_without_runs_there_is_no_tab_for_them(page: Any, server: str) -> None:
    page.goto(server)
    page.locator("#search-results .hit").first.wait_for()
    assert not page.locator("#tab-runs").is_visible()
