"""Draw the pictures of the tutorials, docs/img/tutorial-*.webp, from servers that this starts.

    python docs/draw_tutorials.py          # --png FOLDER: keeps the raw pictures too

The photographs are those that the package holds; the run is a minute of training on its drawings.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from docs.draw_page import FLAGS, save
from docs.stage import start_server

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = ROOT / "twinlens" / "demo" / "photos"
RAW: Path | None = None


def draw_search(work: Path, page: Any) -> None:
    """Draw a search among photographs, one of them opened, and a zip that was added."""
    photos = work / "photos"
    photos.mkdir()
    for picture in PHOTOS.glob("*.webp"):
        shutil.copy(picture, photos)
    shutil.make_archive(str(work / "holiday"), "zip", photos)
    arguments = ["serve", "builtin:photographs", "--images", str(photos)]
    with start_server([*arguments, "--data", str(work / "data")], dict(os.environ)) as address:
        page.goto(f"http://{address}/#search")
        for words in ("a kitchen", "a cat"):  # the first warms the server
            page.fill("#search-text", words)
            page.keyboard.press("Enter")
            page.locator("#search-status", has_text="results in").wait_for()
            page.wait_for_load_state("networkidle")
        shoot(page, "search")
        page.locator("#search-results .open").first.click()
        page.locator("#look-size", has_text="\u00d7").wait_for()
        shoot(page, "look")
        page.goto(f"http://{address}/#add")
        page.reload()
        page.locator("#add-collection option").first.wait_for(state="attached")
        page.set_input_files("#add-files", str(work / "holiday.zip"))
        page.locator("#add-search").wait_for()
        shoot(page, "add")


def draw_report(work: Path, page: Any) -> None:
    """Draw the report of a short run on drawings."""
    for arguments in (
        "demo --no-emoji --no-index --folder toys",
        "train simclr toys/drawings --out my-run --set steps=100 --set batch=64",
    ):
        command = [sys.executable, "-m", "twinlens.cli.main", *arguments.split()]
        subprocess.run(command, cwd=work, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    page.goto((work / "my-run" / "report.html").as_uri())
    shoot(page, "report")


def shoot(page: Any, name: str) -> None:
    """Keep what the page shows now."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)
    page.evaluate("document.activeElement?.blur(); scrollTo(0, 0)")
    save(page.screenshot(), ROOT / "docs" / "img" / f"tutorial-{name}.webp", RAW)


def main(only: list[str]) -> None:
    """Draw all, or those named."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        for name, draw in SCENES.items():
            if only and name not in only:
                continue
            with tempfile.TemporaryDirectory(prefix="twinlens-tutorial-") as work:
                page = browser.new_page(viewport={"width": 1000, "height": 620})
                page.set_default_timeout(120_000)
                draw(Path(work), page)
                page.close()
        browser.close()


SCENES = {"search": draw_search, "report": draw_report}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", choices=[[], *SCENES])
    parser.add_argument("--png", type=Path)
    given = parser.parse_args()
    RAW = given.png
    main(given.only)
