"""Looking at pictures: the lightbox, endless results, facets, and addresses that lead back."""

from __future__ import annotations

import io
import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from PIL import Image

pytestmark = pytest.mark.slow
HITS = "#search-results .hit"
Pictures = dict[str, Path]


def wait_for_hits(page: Any, text: str = "") -> None:
    page.locator("#search-status", has_text=text or "All pictures.").wait_for()
    page.locator(HITS).first.wait_for()


def read_address(page: Any) -> dict[str, list[str]]:
    """Return the parts of the address behind the panel's name."""
    return parse_qs(urlparse(page.url).fragment.partition("?")[2])


def wait_for_address(page: Any, **wanted: str | None) -> None:
    for _ in range(100):
        found = read_address(page)
        if all(found.get(key, [None])[0] == value for key, value in wanted.items()):
            return
        page.wait_for_timeout(50)
    raise AssertionError(page.url)


def search(page: Any, text: str) -> None:
    page.fill("#search-text", text)
    page.keyboard.press("Enter")
    wait_for_hits(page, "results in")


def test_the_lightbox_shows_the_original_and_works_by_keyboard(
    page: Any, photo_server: str
) -> None:
    page.goto(photo_server)
    wait_for_hits(page)
    page.locator(".hit .open").first.focus()
    page.keyboard.press("Enter")
    page.locator("#look-size", has_text="1200").wait_for()
    assert page.evaluate("document.getElementById('look-image').naturalHeight") == 1200
    first = page.inner_text("#look-path")
    assert first.endswith(".jpg") and "/" in first
    assert page.inner_text("#look-title") == first.rpartition("/")[2].removesuffix(".jpg")
    page.locator("#look-data dd", has_text="Model").wait_for()
    assert page.is_disabled("#look-previous")
    page.keyboard.press("ArrowRight")
    second = page.locator("#look-path").filter(has_not_text=first)
    second.wait_for()
    page.keyboard.press("ArrowLeft")
    page.locator("#look-path", has_text=first).wait_for()
    page.keyboard.press("+")
    grown = "document.getElementById('look-image').style.transform"
    assert "scale(1.5)" in page.evaluate(grown)
    page.keyboard.press("0")
    assert "scale(1)" in page.evaluate(grown)
    page.keyboard.press("Escape")
    assert not page.locator("#look").is_visible()
    assert page.evaluate("document.activeElement.className") == "open", "where one was before"


def test_the_original_is_downloaded_under_its_name(page: Any, photo_server: str) -> None:
    page.goto(photo_server)
    wait_for_hits(page)
    page.locator(".hit .open").first.click()
    page.locator("#look-size", has_text="1200").wait_for()
    name = page.inner_text("#look-path").rpartition("/")[2]
    with page.expect_download() as started:
        page.click("#look-download")
    assert started.value.suggested_filename == name
    assert Path(started.value.path()).read_bytes()[:3] == b"\xff\xd8\xff"


def test_a_picture_that_a_client_sent_has_its_preview(page: Any, server: str) -> None:
    page.goto(server)
    wait_for_hits(page)
    page.locator(HITS, has_text="red circle").locator(".open").click()
    page.locator("#look-told", has_text="Only this preview is kept").wait_for()
    assert page.evaluate("document.getElementById('look-image').naturalWidth") > 0


def test_similar_and_not_this_make_a_query(page: Any, server: str) -> None:
    page.goto(server)
    search(page, "a red circle")
    page.locator(HITS, has_text="red circle").locator(".open").click()
    page.click("#look-unlike")
    page.locator("#search-terms", has_text="not like red circle").wait_for()
    wait_for_hits(page, "6 results in")
    assert page.locator(f"{HITS} strong").first.text_content() != "red circle"
    page.locator(HITS, has_text="green circle").locator(".open").click()
    page.click("#look-like")
    page.locator("#search-terms", has_text="like green circle").wait_for()
    wait_for_address(page, like="green circle", unlike=None, q=None)
    page.get_by_role("button", name="Remove: like green circle").click()
    wait_for_hits(page, "All pictures.")


def test_results_go_on_as_one_scrolls(page: Any, photo_server: str) -> None:
    page.goto(photo_server)
    wait_for_hits(page)
    for _ in range(20):
        page.mouse.wheel(0, 4000)
        page.wait_for_timeout(150)
    assert page.locator(HITS).count() == 120
    assert not page.locator("#search-next").is_visible()
    search(page, "a red disc")
    page.evaluate("document.getElementById('search-next').click()")
    page.locator(HITS).nth(95).wait_for(state="attached")
    names = page.locator(f"{HITS} strong").all_text_contents()
    assert len(names) == len(set(names))


def test_rows_of_the_gallery_end_where_the_panel_ends(page: Any, photo_server: str) -> None:
    page.goto(photo_server)
    wait_for_hits(page)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(300)
    boxes = page.evaluate(
        "[...document.querySelectorAll('#search-results .hit')]"
        ".map((hit) => { const box = hit.getBoundingClientRect();"
        " return [box.top, box.left, box.right]; })"
    )
    rows: dict[float, list[tuple[float, float]]] = {}
    for top, left, right in boxes:
        rows.setdefault(round(top), []).append((left, right))
    *full, _ = rows.values()
    assert len(full) >= 3
    assert max(row[-1][1] for row in full) - min(row[-1][1] for row in full) < 2
    assert all(b[0] - a[1] > 4 for row in full for a, b in pairwise(row))


def test_facets_count_and_filter(page: Any, photo_server: str) -> None:
    page.goto(photo_server)
    wait_for_hits(page)
    chip = page.locator("#search-facets .chip", has_text="Model B")
    chip.wait_for()
    assert "40" in chip.inner_text()
    chip.click()
    page.locator("#search-status", has_text="All pictures that match").wait_for()
    page.wait_for_timeout(300)
    assert page.locator(HITS).count() == 40
    assert chip.get_attribute("aria-pressed") == "true"
    page.reload()
    page.locator("#search-status", has_text="All pictures that match").wait_for()
    assert page.locator("#search-facets .chip[aria-pressed=true]").count() == 1


def test_an_address_leads_to_the_same_place(page: Any, browser: Any, photo_server: str) -> None:
    page.goto(photo_server)
    search(page, "a green disc")
    page.locator(".hit .open").nth(2).click()
    page.locator("#look-size", has_text="1200").wait_for()
    item = page.inner_text("#look-path")
    assert page.title().startswith(item)
    other = browser.new_page()
    other.goto(page.url)
    other.locator("#look-path", has_text=item).wait_for()
    assert other.input_value("#search-text") == "a green disc"
    other.close()
    page.reload()
    page.locator("#look-path", has_text=item).wait_for()


def test_back_and_forward_undo_and_redo_steps(page: Any, photo_server: str) -> None:
    page.goto(photo_server)
    search(page, "a green disc")
    assert page.title() == "a green disc \u2013 Twinlens"
    search(page, "a red disc")
    page.locator(".hit .open").first.click()
    page.locator("#look[open]").wait_for()
    page.click("#look-close")
    page.click("#tab-status")
    assert page.title() == "Status \u2013 Twinlens"
    page.go_back()
    page.locator("#search").wait_for()
    page.go_back()
    wait_for_address(page, q="a red disc", item=None)
    page.go_back()
    wait_for_address(page, q="a green disc")
    wait_for_hits(page, "results in")
    assert page.input_value("#search-text") == "a green disc"
    page.go_forward()
    wait_for_address(page, q="a red disc")
    assert page.input_value("#search-text") == "a red disc"


def test_an_error_takes_away_results_that_are_stale(page: Any, server: str) -> None:
    page.goto(server)
    search(page, "a red circle")
    page.locator("#search-more summary").click()
    page.fill("#search-filter", "kind = ")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-status.error")
    assert page.locator(HITS).count() == 0


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_of_the_lightbox_is_cut(page: Any, photo_server: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    page.goto(photo_server)
    wait_for_hits(page)
    page.locator(".hit .open").first.click()
    page.locator("#look-size", has_text="1200").wait_for()
    assert page.evaluate("document.getElementById('look').scrollWidth") <= width
    for name in ("look-close", "look-previous", "look-next", "look-like", "look-stage"):
        box = page.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width, name
        assert box["y"] >= 0 and box["y"] + box["height"] <= 740, name


def test_a_small_original_is_not_blown_up_to_the_window(page: Any, photo_server: str) -> None:
    tiny = io.BytesIO()
    Image.new("RGB", (60, 40), (200, 30, 30)).save(tiny, "PNG")
    page.route(
        re.compile(r"/collections/[^/]+/pictures/"),
        lambda route: route.fulfill(body=tiny.getvalue(), content_type="image/png"),
    )
    page.goto(photo_server)
    wait_for_hits(page)
    page.locator(".hit .open").first.click()
    page.locator("#look-size", has_text="60 \N{MULTIPLICATION SIGN} 40").wait_for()
    box = page.locator("#look-image").bounding_box()
    assert (box["width"], box["height"]) == (180, 120)
    stage = page.locator("#look-stage").bounding_box()
    assert abs(2 * box["x"] + box["width"] - 2 * stage["x"] - stage["width"]) <= 2, "in the middle"
