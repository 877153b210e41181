"""Draw the pictures of the page, docs/img/page-*.webp: every panel by day, by night, on a phone.

twinlens demo                                          # in another terminal
python docs/draw_page.py http://127.0.0.1:8000         # --png FOLDER: keeps the raw pictures
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

OUT = Path(__file__).parent / "img"
EXAMPLES = Path(__file__).parent.parent / "examples"
PICTURES = [str(EXAMPLES / f"{name}.png") for name in ("heart", "sun", "leaf")]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SIZES = {"light": (1200, 800), "dark": (1200, 800), "phone": (390, 780)}


def draw(url: str, raw: Path | None) -> None:
    """Draw every panel in every guise, each after its own scene."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        for guise, (width, height) in SIZES.items():
            scheme = "dark" if guise == "dark" else "light"
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                device_scale_factor=1.5 if guise == "phone" else 1,
            )
            page.set_default_timeout(120_000)
            for name, play in SCENES.items():
                page.goto(f"{url}/#{PANELS.get(name, name)}")
                page.reload()
                play(page)
                page.wait_for_load_state("networkidle")
                page.wait_for_timeout(500)
                page.evaluate("document.activeElement?.blur(); scrollTo(0, 0)")
                save(page.screenshot(), OUT / f"page-{name}-{guise}.webp", raw)
            page.close()
        browser.close()


def _search(page: Any) -> None:
    for words in ("a green square", "a red heart"):  # the first warms the server
        page.fill("#search-text", words)
        page.keyboard.press("Enter")
        page.locator("#search-status", has_text="results in").wait_for()
        page.wait_for_load_state("networkidle")


def _look(page: Any) -> None:
    _search(page)
    page.locator("#search-results .open").nth(1).click()
    page.locator("#look-size", has_text="1").wait_for()


def _add(page: Any) -> None:
    page.locator("#add-collection option").first.wait_for(state="attached")


def _classify(page: Any) -> None:
    page.set_input_files("#classify-images input", PICTURES)
    page.locator("#classify-results .labels li").first.wait_for()


def _tag(page: Any) -> None:
    page.set_input_files("#tag-images input", PICTURES)
    page.locator("#tag-results").locator("text=%").nth(4).wait_for()
    page.locator("#tag-status", has_text="…").wait_for(state="detached")


def _teach(page: Any) -> None:
    """Show what one example of a leaf, another picture than the one asked about, changes."""
    page.fill("#classify-classes", "red heart\nsun\nleaf")
    page.set_input_files("#classify-images input", PICTURES)
    page.locator("#classify-results .labels li").first.wait_for()
    page.locator("#teach summary").click()
    page.select_option("#teach-class", "leaf")
    turned = io.BytesIO()
    with Image.open(PICTURES[2]) as leaf:
        leaf.convert("RGB").rotate(40, fillcolor="white").save(turned, "PNG")
    lesson = {"name": "leaf.png", "mimeType": "image/png", "buffer": turned.getvalue()}
    page.set_input_files("#teach-images input", [lesson])
    page.click("#teach-add")
    page.locator("#classify-legend").wait_for()


def _compare(page: Any) -> None:
    page.set_input_files("#compare-right-images input", PICTURES)
    page.fill("#pair-left", "a red heart")
    page.fill("#pair-right", "love")
    page.click("#pair-form button")
    page.locator("#pair-status", has_text="in both").wait_for()
    page.click("#compare-form button.primary")
    page.locator(".heat td.best").first.wait_for()


def _inside(page: Any) -> None:
    page.locator("#map-status", has_text="pictures").wait_for()
    for _ in range(120):  # the layout of neighbours is made once, in the background
        if "being made" not in page.inner_text("#map-status"):
            break
        page.wait_for_timeout(1000)
    page.select_option("#map-colour", "@groups")
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(500)


def _status(page: Any) -> None:
    page.locator("#status-stages", has_text="encode").wait_for()


PANELS = {"look": "search", "teach": "classify"}  # scenes of another panel than their own
SCENES: dict[str, Callable[[Any], None]] = {
    "search": _search,
    "look": _look,
    "add": _add,
    "classify": _classify,
    "teach": _teach,
    "tag": _tag,
    "compare": _compare,
    "inside": _inside,
    "status": _status,
}


def save(content: bytes, target: Path, raw: Path | None) -> None:
    """Write a screenshot as WebP to `target`, and as PNG to the folder `raw` if given."""
    if raw is not None:
        raw.mkdir(parents=True, exist_ok=True)
        (raw / f"{target.stem}.png").write_bytes(content)

    with Image.open(io.BytesIO(content)) as picture:
        picture.convert("RGB").save(target, quality=82, method=6)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    parser.add_argument("--png", type=Path)
    given = parser.parse_args()
    draw(given.url, given.png)
