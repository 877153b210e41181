"""The page says what a model is for, and warns of pictures that it does not know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from twinlens.bundle.domain.outliers import make_outliers
from twinlens.demo.drawings import draw_all


def test_classify_shows_the_card_and_warns_of_strange_pictures_alone(
    page: Any, server: str, tmp_path: Path
) -> None:
    drawn = [np.asarray(picture.image.convert("RGB")) for picture in draw_all(64)]
    files: dict[str, list[Path]] = {"drawn": [], "strange": []}
    for kind, images in (("drawn", drawn[:8]), ("strange", make_outliers([np.stack(drawn)], 8))):
        for i, pixels in enumerate(images):
            files[kind].append(tmp_path / f"{kind}{i}.png")
            Image.fromarray(pixels).save(files[kind][-1])
    page.goto(f"{server}/#classify")
    page.locator(
        "#classify-card", has_text="Do not rely on it for photographs of anything but clothes"
    ).wait_for()
    page.set_input_files("#classify-images input", files["strange"])
    warning = page.locator("#classify-warning", has_text="look unlike what model 'builtin' knows")
    warning.wait_for()
    assert "`twinlens models`" in warning.inner_text()
    page.reload()
    page.set_input_files("#classify-images input", files["drawn"])
    page.locator("#classify-status", has_text="images in").wait_for()
    assert page.locator("#classify-warning").is_hidden()
    page.locator("#classify summary").first.click()
    page.select_option("#classify-model", "vit")
    assert page.locator("#classify-card").inner_text() == ""


def test_a_collection_of_strange_pictures_is_told_at_the_search(page: Any, server: str) -> None:
    def answer(route: Any) -> None:
        body = route.fetch().json()
        body["data"][0]["warning"] = "these 9 pictures look unlike what model 'builtin' knows"
        route.fulfill(body=json.dumps(body), content_type="application/json")

    page.goto(f"{server}/#search")
    page.locator("#search-results li").first.wait_for()
    assert page.locator("#search-warning").is_hidden()
    page.route("**/collections", answer)
    page.reload()
    page.locator("#search-warning", has_text="These 9 pictures look unlike").wait_for()
    page.unroute_all(behavior="wait")
