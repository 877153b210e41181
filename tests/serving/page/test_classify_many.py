"""Many pictures are classified into a sortable table, against their folders, and saved as CSV."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytestmark = pytest.mark.slow
COLOURS = {"red": (220, 20, 20), "green": (20, 160, 20), "blue": (20, 20, 220)}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Squares in folders of their colours; one lies in the wrong folder."""
    for colour, value in COLOURS.items():
        place = tmp_path / "squares" / f"{colour}_square"
        place.mkdir(parents=True)
        for n in range(6):
            side = 60 + 8 * n
            Image.new("RGB", (side, side), value).save(place / f"{colour} {n}.png")
    wrong = tmp_path / "squares" / "red_square" / "=wrong.png"
    Image.new("RGB", (64, 64), COLOURS["blue"]).save(wrong)
    return tmp_path / "squares"


def classify(page: Any, server: str, folders: Path) -> None:
    page.set_default_timeout(60_000)
    page.goto(f"{server}/#classify")
    page.fill("#classify-classes", "red square\ngreen square\nblue square")
    page.set_input_files("#classify-images input[webkitdirectory]", folders)
    page.locator("#classify-status", has_text="19 images in").wait_for()


def column(page: Any, place: int) -> list[str]:
    found: list[str] = page.locator(
        f"#classify-table tbody td:nth-child({place})"
    ).all_inner_texts()
    return found


def test_a_folder_becomes_a_table_that_sorts_and_is_compared_with_its_folders(
    page: Any, server: str, folders: Path
) -> None:
    classify(page, server, folders)
    assert len(column(page, 2)) == 19
    page.get_by_role("button", name="Probability").click()
    shares = [float(text.removesuffix(" %") or 0) for text in column(page, 4)]
    assert shares == sorted(shares, reverse=True)
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("Probability")
    page.get_by_role("button", name="Picture").click()
    assert column(page, 2) == sorted(column(page, 2))
    told = page.inner_text("#classify-confusion p")
    assert "of 19" in told
    right = [text for text in column(page, 6) if text.startswith("✓")]
    assert told.endswith(f"{len(right)} of 19.")
    (row,) = [i for i, name in enumerate(column(page, 2)) if name.endswith("=wrong.png")]
    assert column(page, 6)[row] == "✗ red square"


def test_the_threshold_and_the_file_agree_with_the_table(
    page: Any, server: str, folders: Path
) -> None:
    classify(page, server, folders)
    page.locator("#classify-least").fill("1")
    page.locator("#classify-least-told", has_text="100 %").wait_for()
    refused = column(page, 3).count("none of these")
    assert 10 < refused <= 19
    with page.expect_download() as started:
        page.click("#classify-csv")
    with Path(started.value.path()).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 19
    assert sum(row["class"] == "none of these" for row in rows) == refused
    assert {"red square", "green square", "blue square"} <= set(rows[0])
    assert sum(row["picture"].endswith("=wrong.png") for row in rows) == 1
    page.check("#classify-as-cards")
    assert page.locator("#classify-results .card").count() == 19


def test_folder_names_are_offered_as_classes(page: Any, server: str, folders: Path) -> None:
    classify(page, server, folders)
    page.click("#classify-folders")
    assert sorted(page.input_value("#classify-classes").split("\n")) == [
        "blue square",
        "green square",
        "red square",
    ]


def test_templates_are_shown_as_the_model_reads_them(page: Any, server: str) -> None:
    page.goto(f"{server}/#classify")
    page.locator("#classify-model option").first.wait_for(state="attached")
    page.locator("#classify summary").first.click()
    page.fill("#classify-classes", "owl")
    page.select_option("#classify-templates", "icon")
    page.locator("#classify-prompts", has_text="an icon of a owl.").wait_for()
    page.select_option("#classify-templates", "")
    page.locator("#classify-prompts", has_text="“owl”").wait_for()


def test_it_says_whether_saved_classes_survive_a_restart(page: Any, server: str) -> None:
    page.goto(f"{server}/#classify")
    page.locator("#teach-kept", has_text="outlive it").wait_for(state="attached")


def test_where_none_fits_no_bar_says_otherwise(page: Any, server: str, tmp_path: Path) -> None:
    Image.effect_noise((96, 96), 90).convert("RGB").save(tmp_path / "noise.png")
    page.goto(f"{server}/#classify")
    page.fill("#classify-classes", "an invoice in latin\na suspension bridge at night")
    page.set_input_files("#classify-images input", tmp_path / "noise.png")
    page.locator("#classify-status", has_text="1 image in").wait_for()
    page.locator("#classify-least").fill("0.99")
    page.locator("#classify-results .verdict", has_text="None of these.").wait_for()
    told = page.locator("#classify-results .score").all_inner_texts()  # calibrated: each its own
    assert len(told) == 2
    assert all(float(text.removesuffix(" %").removeprefix("<")) < 50 for text in told)
