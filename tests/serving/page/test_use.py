"""Use of the page: dropping and pasting images, keyboard only, its curl commands in a shell."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Pictures = dict[str, Path]
PANELS = ["search", "add", "classify", "compare", "inside", "status"]
# Give the page a file as a browser does on drop or paste.
_GIVE = """([selector, kind, bytes]) => {
  const files = new DataTransfer();
  files.items.add(new File([new Uint8Array(bytes)], "given.png", { type: "image/png" }));
  const options = { bubbles: true, cancelable: true };
  const event = kind === "drop"
    ? new DragEvent("drop", { ...options, dataTransfer: files })
    : new ClipboardEvent("paste", { ...options, clipboardData: files });
  document.querySelector(selector).dispatchEvent(event);
}"""
# The controls of a panel without an accessible name, and images without an `alt`.
_NAMELESS = """(panel) => {
  const all = (selector) => [...document.querySelectorAll(`#${panel} ${selector}`)];
  const nameOf = (node) => [...(node.labels ?? [])].map((label) => label.textContent).join("")
    + (node.getAttribute("aria-label") ?? "") + (node.matches("button") ? node.textContent : "");
  const controls = all(":is(button, input, select, textarea, canvas, [role=region])");
  return [...controls.filter((node) => !nameOf(node).trim()), ...all("img:not([alt])")]
    .map((node) => node.outerHTML);
}"""


def wait_for_text(page: Any, selector: str, text: str) -> str:
    page.locator(selector, has_text=text).first.wait_for()
    return str(page.locator(selector, has_text=text).first.inner_text())


def give(page: Any, selector: str, kind: str, path: Path) -> None:
    page.evaluate(_GIVE, [selector, kind, list(path.read_bytes())])


def wait_for_curl(page: Any, words: str, *, without: str = "\0") -> None:
    """Wait for the curl command of the search; polled, since the policy forbids `eval`."""
    for _ in range(200):
        line = page.text_content("#search-curl")
        if words in line and without not in line:
            return
        page.wait_for_timeout(50)
    raise AssertionError(line)


def read_shares(page: Any) -> list[tuple[str, list[float]]]:
    """Return each label of the first image with its percentages, one or before and after."""
    rows = page.locator("#classify-results .card").first.locator(".labels li").all_inner_texts()
    found = [re.split(r"\n+", row.strip()) for row in rows]
    return [(row[0], [float(n) for n in re.findall(r"[\d.]+", row[-1])]) for row in found]


def run_curl(page: Any, selector: str, folder: Path) -> bytes:
    """Run a panel's curl command in a folder with the images that it names."""
    line = page.text_content(selector)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line.replace("curl -s", "curl -sS --fail-with-body")],
        cwd=folder,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_dropped_or_pasted_image_becomes_the_query(
    page: Any, server: str, pictures: Pictures, kind: str
) -> None:
    page.goto(server)
    wait_for_text(page, "#search-status", "All pictures.")
    give(
        page,
        "#search-image .drop" if kind == "drop" else "#search-text",
        kind,
        pictures["red square"],
    )
    wait_for_text(page, "#search-status", "6 results in")
    assert page.locator("#search-results strong").first.text_content() == "red square"
    assert page.locator("#search-image .preview").count() == 1


def test_an_image_goes_to_the_field_it_was_dropped_on(
    page: Any, server: str, pictures: Pictures
) -> None:
    page.goto(f"{server}/#classify")
    page.locator("#teach summary").click()
    give(page, "#teach-images .drop", "paste", pictures["red circle"])
    page.locator("#teach-images .preview").wait_for()
    assert page.locator("#classify-images .preview").count() == 0
    give(page, "#classify-classes", "drop", pictures["blue square"])
    page.locator("#classify-images .preview").wait_for()
    assert page.locator("#teach-images .preview").count() == 1


def test_a_chosen_tiff_is_searched_with_though_the_browser_may_not_show_it(
    page: Any, server: str, pictures: Pictures
) -> None:
    page.goto(server)
    wait_for_text(page, "#search-status", "All pictures.")
    field = page.locator("#search-image input[type=file]")
    assert {"image/*", ".heic", ".tif", ".avif"} <= set(field.get_attribute("accept").split(","))
    out = io.BytesIO()
    Image.open(pictures["red square"]).save(out, "TIFF")
    # As where a browser knows no type for the name.
    field.set_input_files({"name": "scan.TIF", "mimeType": "", "buffer": out.getvalue()})
    wait_for_text(page, "#search-status", "6 results in")
    assert page.locator("#search-results strong").first.text_content() == "red square"


def test_sample_images_are_offered(page: Any, server: str) -> None:
    page.goto(f"{server}/#classify")
    page.fill("#classify-classes", "red circle\nblue square")
    page.get_by_role("button", name="Try red circle").first.click()
    page.locator("#classify-results .labels li").first.wait_for()
    assert read_shares(page)[0][0] == "red circle"


def test_the_effect_of_examples_is_shown_and_the_draft_is_deleted(
    page: Any, server: str, pictures: Pictures
) -> None:
    page.goto(f"{server}/#classify")
    page.fill("#classify-classes", "first thing\nsecond thing")
    page.set_input_files("#classify-images input", [pictures["blue square"]])
    page.locator("#classify-results .labels li").first.wait_for()
    assert all(len(shares) == 1 for _, shares in read_shares(page))
    page.locator("#teach summary").click()
    for name, lesson in (("first thing", "red circle"), ("second thing", "blue square")):
        page.select_option("#teach-class", name)
        page.set_input_files("#teach-images input", [pictures[lesson]])
        page.click("#teach-add")
    page.locator("#classify-legend").wait_for()
    wait_for_text(page, "#teach-held", "second thing 1")
    second = page.locator("#classify-results .labels li", has_text="second thing")
    second.filter(has_text=re.compile(r"→ (9\d|100) %")).wait_for()
    shares = dict(read_shares(page))
    before, after = shares["second thing"]
    assert after > before and after > 90
    offered = page.locator("#classify-stored option").all_inner_texts()
    assert not [name for name in offered if "draft" in name], "a draft is nobody's classifier"
    page.fill("#teach-name", "kept")
    page.click("#teach-save")
    wait_for_text(page, "#teach-told", "Saved as kept")
    for _ in range(100):
        names = [one["name"] for one in page.request.get(f"{server}/classifiers").json()["data"]]
        if not any(name.startswith("page-draft") for name in names):
            break
        page.wait_for_timeout(50)
    assert "kept" in names and not any(name.startswith("page-draft") for name in names)


def test_attention_is_drawn_where_the_encoder_looks(page: Any, server: str, tmp_path: Path) -> None:
    """The attention of this bundle is on dark pixels: here the upper left."""
    picture = Image.new("RGB", (96, 96), (200, 200, 200))
    picture.paste((10, 10, 10), (0, 0, 32, 32))
    picture.save(tmp_path / "corner.png")
    page.goto(f"{server}/#inside")
    page.set_input_files("#attention-image input", tmp_path / "corner.png")
    wait_for_text(page, "#attention-status", "Last layer")
    assert page.locator("#attention-result img").count() == 2
    drawn = Image.open(io.BytesIO(run_curl_to_file(page, tmp_path)))
    warmth = np.asarray(drawn.convert("RGB"), np.float32)
    redness = warmth[:, :, 0] - warmth[:, :, 2]
    assert redness[:14, :14].mean() > redness[24:, 24:].mean() + 20


def run_curl_to_file(page: Any, folder: Path) -> bytes:
    run_curl(page, "#attention-curl", folder)
    return (folder / "map.png").read_bytes()


def test_the_curl_command_of_a_panel_runs_and_answers_the_same(
    page: Any, server: str, pictures: Pictures
) -> None:
    folder = pictures["red circle"].parent
    shutil.copy(pictures["red square"], folder / "FILE1")
    page.goto(server)
    wait_for_text(page, "#search-status", "All pictures.")
    page.fill("#search-text", 'it\'s a "$quoted" `thing` \\ here')
    page.keyboard.press("Enter")
    wait_for_text(page, "#search-status", "results in")
    assert len(json.loads(run_curl(page, "#search-curl", folder))["data"]) == 6
    page.set_input_files("#search-image input", pictures["red square"])
    wait_for_curl(page, "FILE1")
    page.fill("#search-text", "")
    page.keyboard.press("Enter")
    wait_for_curl(page, "FILE1", without="quoted")
    assert json.loads(run_curl(page, "#search-curl", folder))["data"][0]["id"] == "red square"
    page.click("#tab-classify")
    page.set_input_files("#classify-images input", [pictures["red circle"]])
    page.locator("#classify-results .labels li").first.wait_for()
    answer = json.loads(run_curl(page, "#classify-curl", folder))["data"][0]["labels"]
    assert answer[0]["label"] == read_shares(page)[0][0]
    page.click("#tab-compare")
    page.click("#compare-form button.primary")
    page.locator(".heat tbody td").first.wait_for()
    rows = json.loads(run_curl(page, "#compare-curl", folder))["similarities"]
    assert f"{rows[0][0]:.3f}" == page.locator(".heat tbody td").first.inner_text()
    page.click("#tab-inside")
    wait_for_text(page, "#map-status", "6 of 6 pictures")
    assert json.loads(run_curl(page, "#map-curl", folder))["total"] == 6
    page.click("#tab-status")
    wait_for_text(page, "#status-models", "builtin")
    assert b"twinlens_stage_seconds" in run_curl(page, "#status-curl", folder)


def test_a_text_an_image_and_excluded_terms_are_weighted(
    page: Any, server: str, pictures: Pictures
) -> None:
    page.goto(server)
    wait_for_text(page, "#search-status", "All pictures.")
    page.locator("#search-more summary").click()
    assert page.is_disabled("#search-share")
    page.fill("#search-text", "a blue circle")
    page.set_input_files("#search-image input", pictures["red square"])
    page.fill("#search-share", "0.9")
    page.fill("#search-minus", "blue, green")
    page.locator("#search-minus").press("Enter")
    wait_for_curl(page, "green")
    wait_for_text(page, "#search-status", "6 results")
    weights = re.findall(r'"weight":(-?[\d.]+)', page.text_content("#search-curl"))
    assert [round(float(weight), 2) for weight in weights] == [0.1, 0.9, -0.5, -0.5]
    assert page.locator("#search-results strong").first.text_content() == "red square"


def test_a_search_needs_no_mouse(page: Any, server: str) -> None:
    page.goto(server)
    wait_for_text(page, "#search-status", "All pictures.")
    assert page.evaluate("document.activeElement.id") == "search-text"
    page.keyboard.type("a blue square")
    page.keyboard.press("Enter")
    wait_for_text(page, "#search-status", "results in")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "like":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "where the focus is has to be seen"
    page.keyboard.press("Enter")
    wait_for_text(page, "#search-terms", "like blue square")


@pytest.mark.parametrize("name", PANELS)
def test_every_control_has_a_name(page: Any, server: str, pictures: Pictures, name: str) -> None:
    page.goto(f"{server}/#{name}")
    page.wait_for_load_state("networkidle")
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    if name == "classify":
        page.set_input_files("#classify-images input", [pictures["red circle"]])
        page.locator("#classify-results .labels li").first.wait_for()
    assert page.evaluate(_NAMELESS, name) == []
    ids: list[str] = page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
    assert len(ids) == len(set(ids))
    assert page.locator("main h1, header h1").count() == 1


def test_reduced_motion_disables_animations(browser: Any, server: str) -> None:
    moving = "getComputedStyle(document.querySelector('.track i')).transitionDuration"
    for wish, expected in (("reduce", "0s"), ("no-preference", "0.25s")):
        tab = browser.new_page(reduced_motion=wish)
        tab.goto(f"{server}/#status")
        tab.locator(".track i").first.wait_for(state="attached")
        assert tab.evaluate(moving) == expected
        tab.close()


def test_a_job_and_its_progress_are_shown(page: Any, server: str) -> None:
    job = {"classes": ["a cat", "a dog"], "background": True}
    answer = page.request.put(f"{server}/classifiers/later", data=job)
    assert answer.status == 202
    page.goto(f"{server}/#status")
    row = page.locator("#status-jobs tbody tr", has_text=answer.json()["job"]["id"])
    row.filter(has_text="100 %").wait_for()
    assert row.locator(".meter .track i").evaluate("bar => bar.style.width") == "100%"
