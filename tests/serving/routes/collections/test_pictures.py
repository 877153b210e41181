"""`/collections/{name}/pictures` and `/facets`: the indexed files alone, and counts of values."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from twinlens.index.writer import Writer
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

PICTURES = "/collections/photos/pictures"


def encode(format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(buffer, format)
    return buffer.getvalue()


@pytest.fixture
def served(encoder: Any, tmp_path: Path) -> Iterator[TestClient]:
    """Items as the indexer writes them (`-` in the version) and one as a client does."""
    store = CollectionStore(tmp_path / "data")
    service = Service(ServerSettings(), lambda source, precision: encoder)
    service.load("colours", "colours")
    rows = np.eye(5, encoder.embedding_dim, dtype=np.float32)
    for name, content in (("a.png", encode("PNG")), ("b.tif", encode("TIFF")), ("c.txt", b"no")):
        (tmp_path / name).write_bytes(content)
    with TestClient(add_middleware(build_app(service, build_routers(service, store)))) as client:
        client.put("/collections/photos", json={})
        names = ["a.png", "b.tif", "c.txt", "gone.png", "sent.png"]
        metadata = [
            {
                "path": str(tmp_path / name),
                "tone": "warm" if n < 3 else "cold",
                "year": 2000 + n % 2,
            }
            for n, name in enumerate(names)
        ]
        metadata[-1]["path"] = str(tmp_path / "a.png")
        versions = [*["size-time"] * 4, "api:0123"]
        with Writer(store.find("photos").folder) as writer:
            writer.upsert(names, rows, metadata, versions)
        store.find("photos").collection.refresh()
        yield client
    store.close()


def test_a_picture_is_sent_as_it_is_or_in_a_format_that_browsers_show(served: TestClient) -> None:
    png = served.get(f"{PICTURES}/a.png")
    assert (png.headers["content-type"], png.content) == ("image/png", encode("PNG"))
    assert "sandbox" in png.headers["content-security-policy"]
    shown = served.get(f"{PICTURES}/b.tif")
    assert (shown.headers["content-type"], shown.content[8:12]) == ("image/webp", b"WEBP")
    saved = served.get(f"{PICTURES}/b.tif?download=true")
    assert (saved.headers["content-type"], saved.content) == ("image/tiff", encode("TIFF"))
    assert saved.headers["content-disposition"] == "attachment; filename*=UTF-8''b.tif"


@pytest.mark.parametrize("name", ["c.txt", "gone.png", "sent.png", "none.png"])
def test_nothing_but_indexed_pictures_is_sent(
    served: TestClient, name: str, tmp_path: Path
) -> None:
    answer = served.get(f"{PICTURES}/{name}")
    assert answer.status_code == 404
    assert str(tmp_path) not in answer.text


def test_an_item_says_where_its_picture_is(served: TestClient) -> None:
    item = served.get("/collections/photos/items/a.png").json()
    assert item["picture"] == f"{PICTURES}/a.png"
    assert "path" not in item["metadata"]
    assert "picture" not in served.get("/collections/photos/items/sent.png").json()


def test_facets_count_values_of_all_or_of_a_filter(served: TestClient, tmp_path: Path) -> None:
    def read(**query: str) -> dict[str, list[tuple[object, int]]]:
        body = served.get("/collections/photos/facets", params=query).json()
        return {
            one["field"]: [(v["value"], v["count"]) for v in one["values"]] for one in body["data"]
        }

    assert read() == {"tone": [("warm", 3), ("cold", 2)], "year": [(2000, 3), (2001, 2)]}
    assert read(filter='tone = "cold"') == {"tone": [("cold", 2)], "year": [(2000, 1), (2001, 1)]}
    refused = served.get("/collections/photos/facets", params={"filter": "nope = 1"})
    assert refused.status_code == 400
    assert str(tmp_path) not in served.get("/collections/photos/facets").text
