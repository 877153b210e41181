"""My pictures: files, zips and folders become a collection; large pictures are made smaller."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import piexif
import pytest
from PIL import Image

from tests.serving.page.conftest import _Running, draw_photo

pytestmark = pytest.mark.slow
# Drop files as a browser does: on the panel that is shown.
_DROP = """([selector, files]) => {
  const data = new DataTransfer();
  for (const [name, type, text] of files) {
    const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
    data.items.add(new File([bytes], name, { type }));
  }
  const options = { bubbles: true, cancelable: true, dataTransfer: data };
  const target = document.querySelector(selector);
  target.dispatchEvent(new DragEvent("dragover", options));
  const isOver = !document.getElementById("drop-here").hidden;
  const told = document.getElementById("drop-here").textContent;
  target.dispatchEvent(new DragEvent("drop", options));
  return isOver ? told : "";
}"""


def drop(page: Any, selector: str, files: dict[str, bytes], type: str = "image/jpeg") -> str:
    given = [[name, type, base64.b64encode(raw).decode()] for name, raw in files.items()]
    told: str = page.evaluate(_DROP, [selector, given])
    return told


@pytest.fixture(scope="module")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("allowed")
    for number in range(12):
        (folder / f"local {number}.jpg").write_bytes(draw_photo(number))
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory, allowed: Path) -> Iterator[str]:
    """A server with a data folder, no collection, and one folder that may be added."""
    arguments = ["builtin", "--allow-folder", str(allowed)]
    with _Running(tmp_path_factory.mktemp("own"), {}, arguments) as url:
        yield url


@pytest.fixture
def empty(page: Any, own_server: str) -> Iterator[Any]:
    """The page of a server without collections."""
    yield page
    with httpx.Client(base_url=own_server, timeout=30) as client:
        for one in client.get("/collections").json()["data"]:
            client.delete(f"/collections/{one['name']}")


def wait_for_status(page: Any, text: str) -> str:
    page.set_default_timeout(60_000)
    page.locator("#add-status", has_text=text).wait_for()
    return str(page.inner_text("#add-status"))


def test_twenty_dropped_files_are_searchable_and_failures_are_listed(
    empty: Any, own_server: str
) -> None:
    files = {f"photo {n}.jpg": draw_photo(n) for n in range(18)}
    files |= {"bad.jpg": b"no picture", "notes.jpg": b""}
    empty.goto(f"{own_server}/#add")
    empty.locator("#add-collection option").first.wait_for(state="attached")
    assert drop(empty, "#add", files) == "Drop here to add"
    told = wait_for_status(empty, "added to my-pictures")
    assert told.startswith("18 pictures added") and "2 failed" in told
    empty.locator("#add-faults summary").click()
    faults = empty.inner_text("#add-faults-list")
    assert "bad.jpg" in faults and "notes.jpg" in faults
    empty.click("#add-search")
    empty.locator("#search-results .hit").nth(17).wait_for()
    empty.locator("#search-results .open").first.click()
    empty.locator("#look-size", has_text="1200").wait_for()  # kept at the size that was sent


def test_several_files_dropped_on_the_search_are_added(empty: Any, own_server: str) -> None:
    empty.goto(own_server)
    empty.wait_for_selector("#search-status.error")
    assert "My pictures" in empty.inner_text("#search-status")
    told = drop(empty, "#search", {f"{n}.jpg": draw_photo(n) for n in range(3)})
    assert "several to add" in told
    wait_for_status(empty, "3 pictures added")
    assert empty.get_attribute("#tab-add", "aria-selected") == "true"


def test_a_zip_is_unpacked_in_the_browser(empty: Any, own_server: str) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(5):
            archive.writestr(f"trip/{n}.jpg", draw_photo(n))
        archive.writestr("stored.jpg", draw_photo(9), zipfile.ZIP_STORED)
        archive.writestr("read me.txt", "no picture")
        archive.writestr("__MACOSX/._0.jpg", b"no picture")
    empty.goto(f"{own_server}/#add")
    empty.locator("#add-collection option").first.wait_for(state="attached")
    drop(empty, "#add", {"summer.zip": packed.getvalue()}, "application/zip")
    assert "1 file skipped" in wait_for_status(empty, "6 pictures added")
    listed = httpx.get(f"{own_server}/collections/my-pictures/items").json()["data"]
    ids = {one["id"] for one in listed}
    assert {"summer/trip/0.jpg", "summer/stored.jpg"} <= ids


def test_a_damaged_zip_is_told(empty: Any, own_server: str) -> None:
    empty.goto(f"{own_server}/#add")
    empty.locator("#add-collection option").first.wait_for(state="attached")
    drop(empty, "#add", {"broken.zip": b"PK\3\4 and nothing more"}, "application/zip")
    wait_for_status(empty, "1 failed")
    assert "is not a zip file, or is damaged" in empty.locator("#add-faults-list").text_content()


def test_a_picture_of_30_mb_is_made_smaller_and_the_model_hardly_sees_a_difference(
    empty: Any, own_server: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
    large = np.asarray(Image.fromarray(small).resize((6000, 4500), Image.Resampling.BICUBIC))
    noisy = np.clip(large + rng.normal(0, 34, large.shape).astype(np.int16), 0, 255)
    exif = piexif.dump({"0th": {piexif.ImageIFD.Model: b"Camera", piexif.ImageIFD.Orientation: 6}})
    path = tmp_path / "large.jpg"
    Image.fromarray(noisy.astype(np.uint8)).save(path, quality=97, exif=exif)
    assert path.stat().st_size > 28e6
    empty.goto(f"{own_server}/#add")
    empty.locator("#add-collection option").first.wait_for(state="attached")
    empty.set_input_files("#add-files", path)
    assert "shrunk first" in wait_for_status(empty, "1 picture added")
    item = httpx.get(f"{own_server}/collections/my-pictures/items/large.jpg").json()
    assert item["metadata"]["camera"] == "Camera"
    with Image.open(io.BytesIO(httpx.get(own_server + item["picture"]).content)) as kept:
        assert kept.height > kept.width, "upright, as its EXIF said"
    import twinlens

    row = twinlens.open_bundle("builtin").embed_images([path])[0]
    query = {"collection": "my-pictures", "vector": row.tolist(), "k": 1, "exact": True}
    hit = httpx.post(f"{own_server}/search", json=query).json()["data"][0]
    assert hit["score"] > 0.99  # 0.992 for this noise, which no camera makes


def test_a_folder_of_this_machine_is_added_where_that_is_allowed(
    empty: Any, own_server: str, allowed: Path
) -> None:
    empty.goto(f"{own_server}/#add")
    empty.locator("#add-path-form").wait_for()
    assert empty.input_value("#add-path") == str(allowed)
    empty.click("#add-path-form button")
    assert "1 failed" in wait_for_status(empty, "12 pictures added")
    assert "broken.jpg" in empty.locator("#add-faults-list").text_content()
    empty.fill("#add-path", str(allowed.parent))
    empty.click("#add-path-form button")
    empty.wait_for_selector("#add-status.error")


def test_a_server_without_a_data_folder_says_what_to_do(page: Any, server: str) -> None:
    page.goto(f"{server}/#add")
    page.locator("#add-collection option").first.wait_for(state="attached")
    assert not page.locator("#add-path-form").is_visible(), "no folder is allowed there"
