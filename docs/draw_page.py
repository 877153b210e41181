"""Draw docs/img/page.png: the page of a running `twinlens demo --no-emoji`, after one search.

python docs/draw_page.py http://127.0.0.1:8000
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

OUT = Path(__file__).parent / "img" / "page.png"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def draw(url: str) -> None:
    """Search once to warm the server, then search and draw."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1200, "height": 760})
        page.goto(url)
        for words, first in (("a green square", "green square"), ("a red heart", "red heart")):
            page.fill("#search-text", words)
            page.keyboard.press("Enter")
            page.locator(".hit strong").first.filter(has_text=first).wait_for()
            page.wait_for_load_state("networkidle")
        page.locator("#search-text").blur()
        page.screenshot(path=OUT)
        browser.close()


if __name__ == "__main__":
    draw(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
