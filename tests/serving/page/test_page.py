"""The page in a real browser, with a real server and the builtin encoder behind it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

HITS = "#search-results .hit"
HOSTILE_TITLE = '<img src=x onerror="window.attacked=1">'
KEY = "open-sesame-42"
Pictures = dict[str, Path]


def names(page: Any) -> list[str]:
    page.wait_for_selector(HITS)
    found: list[str] = page.locator(f"{HITS} strong").all_text_contents()
    return found


def wait_for_text(page: Any, selector: str, text: str) -> str:
    page.locator(selector, has_text=text).wait_for()
    return str(page.inner_text(selector))


def search(page: Any, text: str) -> list[str]:
    page.fill("#search-text", text)
    page.keyboard.press("Enter")
    wait_for_text(page, "#search-status", "results in")
    return names(page)


def test_a_text_search_shows_images_time_and_recall(page: Any, server: str) -> None:
    page.goto(server)
    assert search(page, "a red circle")[0] == "red circle"
    assert "Exact search." in page.text_content("#search-recall")
    assert "encode" in page.text_content("#search-times")
    assert not page.locator("#search-recall").is_visible(), "jargon is behind `Details`"
    loaded = f"{HITS} img"
    page.wait_for_selector(loaded)
    page.wait_for_timeout(300)
    assert page.locator(loaded).first.evaluate("image => image.naturalWidth") > 0
    assert "a red circle" in page.text_content("#search-curl")


def test_search_by_image_with_a_filter_and_by_more_like_this(
    page: Any, server: str, pictures: Pictures
) -> None:
    page.goto(server)
    wait_for_text(page, "#search-status", "All pictures.")
    page.locator("#search-more summary").click()
    page.set_input_files("#search-image input", pictures["red square"])
    wait_for_text(page, "#search-status", "6 results in")
    assert names(page)[0] == "red square"
    assert "base64 < FILE1" in page.text_content("#search-curl")
    page.fill("#search-filter", 'kind = "hostile"')
    page.locator("#search-filter").press("Enter")
    wait_for_text(page, "#search-status", "1 result ")
    page.fill("#search-filter", "kind = ")
    page.locator("#search-filter").press("Enter")
    page.wait_for_selector("#search-status.error")
    page.fill("#search-filter", "")
    page.locator("#search-filter").press("Enter")
    wait_for_text(page, "#search-status", "6 results")
    page.locator(HITS, has_text="green square").hover()
    page.get_by_role("button", name="More like green square").click()
    wait_for_text(page, "#search-terms", "like green square")
    wait_for_text(page, "#search-status", "6 results")
    assert names(page)[0] == "green square"


def test_metadata_that_is_markup_stays_text(page: Any, server: str) -> None:
    page.goto(server)
    assert any(name.startswith(HOSTILE_TITLE) for name in search(page, "blue square"))
    page.locator(HITS, has_text=HOSTILE_TITLE).first.locator(".open").click()
    page.locator("#look-data dt", has_text=HOSTILE_TITLE).wait_for()
    assert page.locator("#look-data dd", has_text=HOSTILE_TITLE).count() == 2
    assert page.locator("#look script, #look-data img").count() == 0
    page.keyboard.press("Escape")
    assert page.locator(f"{HITS} script").count() == 0
    assert page.locator(f"{HITS} img[src=x]").count() == 0
    assert page.evaluate("window.attacked") is None


def test_images_are_classified_and_a_class_gets_examples(
    page: Any, server: str, pictures: Pictures
) -> None:
    page.goto(f"{server}/#classify")
    page.fill("#classify-classes", "red circle\nblue square")
    page.set_input_files("#classify-images input", [pictures["blue square"]])
    first = page.locator("#classify-results .labels li").first
    first.wait_for()
    assert first.inner_text().split("\n")[0] == "blue square"
    page.fill("#classify-classes", "first thing\nsecond thing")
    page.locator("#teach summary").click()
    for name, lesson in (("first thing", "red circle"), ("second thing", "blue square")):
        page.select_option("#teach-class", name)
        page.set_input_files("#teach-images input", [pictures[lesson]])
        page.click("#teach-add")
    page.fill("#teach-name", "taught")
    page.click("#teach-save")
    wait_for_text(page, "#teach-told", "Saved as taught")
    assert page.input_value("#classify-stored") == "taught"
    page.locator("#classify-results .labels li", has_text="second thing").first.wait_for()
    page.wait_for_timeout(200)
    assert first.inner_text().startswith("second thing")


def test_two_lists_are_compared(page: Any, server: str, pictures: Pictures) -> None:
    page.goto(f"{server}/#compare")
    page.fill("#compare-left", "a red circle\na blue square")
    page.fill("#compare-right", "")
    both = [pictures["red circle"], pictures["blue square"]]
    page.set_input_files("#compare-right-images input", both)
    page.click("#compare-form button.primary")
    page.wait_for_selector(".heat td:not(:empty)")
    cells = [float(text) for text in page.locator(".heat tbody td").all_inner_texts()]
    assert len(cells) == 4
    assert cells[0] > cells[1] and cells[3] > cells[2]


def test_the_map_shows_the_item_under_the_pointer(page: Any, server: str) -> None:
    page.goto(f"{server}/#inside")
    wait_for_text(page, "#map-status", "6 of 6 pictures")
    page.focus("#map")
    box = page.locator("#map").bounding_box()
    for step in range(200):  # until a point is below the pointer
        if page.locator("#map-item").is_visible():
            break
        across, down = step % 20 / 20 + 0.02, step // 20 / 10 + 0.02
        page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
    wait_for_text(page, "#map-name", " ")
    name = page.inner_text("#map-name")
    page.keyboard.press("0")
    page.keyboard.down("Shift")
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2)
    page.mouse.up()
    page.keyboard.up("Shift")
    wait_for_text(page, "#map-selection", "6 selected")
    page.click("#map-like")
    wait_for_text(page, "#search-terms", f"like {name}")


def test_status_shows_bundles_collections_and_stages(page: Any, server: str) -> None:
    page.goto(server)
    search(page, "red")
    page.click("#tab-status")
    wait_for_text(page, "#status-models", "builtin")
    wait_for_text(page, "#status-collections", "shapes")
    wait_for_text(page, "#status-stages", "encode")
    wait_for_text(page, "#status-queues", "builtin image")


def test_the_api_is_described_without_a_network(page: Any, server: str) -> None:
    page.goto(f"{server}/docs")
    wait_for_text(page, "#docs-status", "Version")
    page.locator("summary", has_text="/zeroshot").first.click()
    page.get_by_role("link", name="ZeroShotRequest").first.click()
    page.locator("#schema-ZeroShotRequest pre").wait_for()  # fails unless visible
    page.locator("summary", has_text="/collections/{name}/map").first.wait_for()


def test_tabs_work_by_keyboard(page: Any, server: str) -> None:
    page.goto(server)
    page.focus("#tab-search")
    page.keyboard.press("ArrowRight")
    assert page.locator("#add").is_visible() and not page.locator("#search").is_visible()
    page.keyboard.press("End")
    assert page.get_attribute("#tab-status", "aria-selected") == "true"
    assert page.evaluate("document.activeElement.id") == "tab-status"


@pytest.mark.parametrize(
    "name", ["search", "add", "classify", "tag", "compare", "inside", "status"]
)
def test_no_panel_is_wider_than_a_phone(page: Any, server: str, name: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"{server}/#{name}")
    if name == "search":
        search(page, "a red circle")
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_server_with_keys_asks_for_one_and_keeps_it_in_the_tab(
    browser: Any, locked_server: str
) -> None:
    page = browser.new_page()  # its console contains the refusals
    page.set_default_timeout(10_000)
    page.goto(locked_server)
    page.locator("#key-dialog").wait_for()
    page.fill("#key", "wrong-wrong")
    page.click("#key-form .primary")
    page.locator("#key-told", has_text="unknown to the server").wait_for()
    page.fill("#key", KEY)
    page.click("#key-form .primary")
    page.locator("#search-collection option", has_text="shapes").wait_for(state="attached")
    assert search(page, "a red circle")[0] == "red circle"
    page.wait_for_timeout(500)
    image = page.locator(f"{HITS} img").first
    assert image.get_attribute("src").startswith("blob:")
    assert image.evaluate("image => image.naturalWidth") > 0
    assert page.evaluate("sessionStorage.length") == 1
    assert page.evaluate("localStorage.length") == 0
    assert KEY not in page.content()
    page.close()


def test_images_on_the_map_can_be_hidden(page: Any, server: str) -> None:
    page.goto(f"{server}/#inside")
    wait_for_text(page, "#map-status", "6 of 6 pictures")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(400)
    assert count_red(page) > 300, "two of the six pictures are red"
    page.uncheck("#map-pictures")
    page.wait_for_timeout(200)
    assert count_red(page) == 0


def count_red(page: Any) -> int:
    drawn = Image.open(io.BytesIO(page.locator("#map").screenshot())).convert("RGB")
    pixels = np.asarray(drawn, np.int16)
    return int(((pixels[..., 0] > 200) & (pixels[..., 1:].max(axis=-1) < 60)).sum())
