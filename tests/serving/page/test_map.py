"""The map: smooth with 100,000 points, coloured, searched, selected, and never lost."""

from __future__ import annotations

import base64
import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow
_DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
# Zoom in and out with the pointer moving, and time the frames.
_DRAWING = """async () => {
  const canvas = document.getElementById('map');
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const times = [];
  let last = performance.now();
  for (let i = 0; i < 60; i++) {
    const at = { clientX: left + width / 2 + i, clientY: top + height / 2, bubbles: true };
    canvas.dispatchEvent(new PointerEvent('pointermove', at));
    const deltaY = i % 20 < 10 ? -60 : 60;
    canvas.dispatchEvent(new WheelEvent('wheel', { ...at, deltaY, cancelable: true }));
    await new Promise(requestAnimationFrame);
    times.push(performance.now() - last);
    last = performance.now();
  }
  return times;
}"""


def serve_map(page: Any, count: int, clusters: int = 8) -> None:
    """Answer with a refined map of that many points."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, clusters, count)
    middles = rng.normal(0, 0.5, (clusters, 2))
    points = middles[labels] + rng.normal(0, 0.08, (count, 2))
    body = {
        "collection": "shapes",
        "method": "neighbours",
        "refining": False,
        "ids": [f"item {i}" for i in range(count)],
        "points": points.round(4).tolist(),
        "variance_share": 0.5,
        "total": count,
        "labels": labels.tolist(),
        "clusters": [
            {"names": [f"name {k}"], "count": int((labels == k).sum()), "at": middles[k].tolist()}
            for k in range(clusters)
        ],
    }
    page.route("**/map?points=*", lambda route: route.fulfill(json=body))
    page.route("**/thumbnails/*", lambda route: route.fulfill(body=_DOT, content_type="image/png"))


def wait_for_map(page: Any, server: str, text: str = "6 of 6 pictures.") -> None:
    page.set_default_timeout(60_000)
    page.goto(f"{server}/#inside")
    page.locator("#map-status", has_text=text).wait_for()
    page.wait_for_timeout(500)


def count_ink(page: Any) -> int:
    """Return how many pixels of the map are not empty; the policy forbids no reading."""
    found: int = page.evaluate(
        "() => { const map = document.getElementById('map');"
        " const { data } = map.getContext('2d').getImageData(0, 0, map.width, map.height);"
        " let ink = 0; for (let i = 3; i < data.length; i += 4) ink += data[i] > 0; return ink; }"
    )
    return found


def test_a_hundred_thousand_points_move_smoothly(
    page: Any, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    serve_map(page, 100_000)
    wait_for_map(page, server, "100,000 of 100,000")
    page.select_option("#map-colour", "@groups")
    page.wait_for_timeout(2000)
    tools = page.context.new_cdp_session(page)
    tools.send("Performance.enable", {"timeDomain": "threadTicks"})

    def read_seconds() -> float:
        metrics = tools.send("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "ScriptDuration"))

    before = read_seconds()
    times = sorted(page.evaluate(_DRAWING))
    script = 1000 * (read_seconds() - before) / len(times)
    with capsys.disabled():
        print(  # noqa: T201
            f"\n100,000 points: script {script:.1f} ms of CPU a frame,"
            f" median frame {times[30]:.1f} ms, p92 {times[55]:.1f} ms"
        )
    assert script < 16, "twice the aim of 8 ms: a busy machine has a cold cache"
    assert times[30] < 200, "five frames a second on a busy machine without a GPU"


def test_zooming_out_never_ends_in_nothing(page: Any, server: str) -> None:
    serve_map(page, 2000)
    wait_for_map(page, server, "2,000 of 2,000")
    page.uncheck("#map-pictures")
    page.focus("#map")
    for _ in range(30):
        page.keyboard.press("-")
    for _ in range(60):
        page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(300)
    assert count_ink(page) > 500
    for _ in range(40):
        page.keyboard.press("+")
    for _ in range(100):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("0")
    page.wait_for_timeout(300)
    assert count_ink(page) > 1000


def select_all(page: Any) -> None:
    box = page.locator("#map").bounding_box()
    page.click("#map-lasso")
    left, top = box["x"] + 3, box["y"] + 3
    right, bottom = box["x"] + box["width"] - 3, box["y"] + box["height"] - 3
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom)):
        page.mouse.move(x, y, steps=3)
    page.mouse.up()
    page.click("#map-lasso")


def test_a_lasso_selects_and_the_selection_is_saved_tagged_and_shown(
    page: Any, server: str
) -> None:
    wait_for_map(page, server)
    select_all(page)
    page.locator("#map-selection", has_text="6 selected").wait_for()
    with page.expect_download() as started:
        page.click("#pick-save")
    with Path(started.value.path()).open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 6
    page.fill("#pick-field", "album")
    page.fill("#pick-value", "lasso")
    page.get_by_role("button", name="Set on all").click()
    page.locator("#pick-status", has_text="6 have album = lasso").wait_for()
    items = page.request.get(f"{server}/collections/shapes/items").json()["data"]
    assert all(one["metadata"]["album"] == "lasso" for one in items)
    page.click("#pick-teach")
    page.locator("#pick-status", has_text="6 examples of lasso are in Classify").wait_for()
    assert "lasso" in page.input_value("#classify-classes").split("\n")
    page.click("#pick-gallery")
    page.locator("#search-status", has_text="6 selected on the map").wait_for()
    assert page.locator("#search-results .hit").count() == 6


def test_deleting_asks_first(page: Any, server: str) -> None:
    items = [{"id": f"extra {n}", "text": "something else"} for n in range(3)]
    assert page.request.put(f"{server}/collections/brief", data={}).ok
    assert page.request.post(f"{server}/collections/brief/items", data={"items": items}).ok
    page.route("**/thumbnails/*", lambda route: route.fulfill(body=_DOT, content_type="image/png"))
    page.set_default_timeout(60_000)
    page.goto(f"{server}/#inside?in=brief")
    page.locator("#map-status", has_text="3 of 3 pictures.").wait_for()
    select_all(page)
    page.click("#pick-delete")
    page.locator("#pick-delete", has_text="Delete 3 from").wait_for()
    count = f"{server}/collections/brief"
    assert page.request.get(count).json()["count"] == 3
    page.click("#pick-delete")
    page.locator("#map-status", has_text="0 of 0 pictures.").wait_for()
    assert page.request.get(count).json()["count"] == 0
    page.request.delete(count)


def test_colours_by_a_field_and_by_a_query_have_a_legend(page: Any, server: str) -> None:
    wait_for_map(page, server)
    page.select_option("#map-colour", "kind")
    page.locator("#map-legend", has_text="hostile").wait_for()
    assert "shape" in page.inner_text("#map-legend")
    page.fill("#map-find", "a red circle")
    page.keyboard.press("Enter")
    page.locator("#map-legend", has_text="best").wait_for()
    assert "find=a+red+circle" in page.url and "by=kind" in page.url


def test_names_of_clusters_are_drawn_and_the_view_is_in_the_address(page: Any, server: str) -> None:
    serve_map(page, 2000)
    wait_for_map(page, server, "2,000 of 2,000")
    page.uncheck("#map-pictures")
    page.focus("#map")
    for _ in range(3):
        page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(600)
    assert "at=" in page.url
    before = count_ink(page)
    page.reload()
    page.locator("#map-status", has_text="2,000 of 2,000").wait_for()
    page.uncheck("#map-pictures")
    page.wait_for_timeout(600)
    assert abs(count_ink(page) - before) < 0.1 * before
    assert page.title().startswith("Map")
