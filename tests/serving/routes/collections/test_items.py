"""Listing, changing and deleting items over HTTP, and what searches may ask of them."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import piexif
import pytest
from PIL import Image
from starlette.testclient import TestClient

from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

Uri = Callable[..., str]
ITEMS = "/collections/photos/items"


@pytest.fixture
def filled(encoder: Any, tmp_path: Path) -> Iterator[TestClient]:
    """Nine items of three colours: frames of three films, with captions."""
    store = CollectionStore(tmp_path / "data")
    service = Service(ServerSettings(), lambda source, precision: encoder)
    service.load("colours", "colours")
    with TestClient(add_middleware(build_app(service, build_routers(service, store)))) as client:
        assert client.put("/collections/photos", json={}).status_code == 201
        items = [
            {
                "id": f"{colour}{n}",
                "text": colour,
                "metadata": {"film": colour, "n": n, "caption": f"{colour} in Korvenau {n}"},
            }
            for colour in ("red", "green", "blue")
            for n in range(3)
        ]
        assert client.post(ITEMS, json={"items": items}).status_code == 200
        yield client
    store.close()


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["data"]]


def search(client: TestClient, **body: Any) -> Any:
    return client.post("/search", json={"collection": "photos", **body})


def test_all_items_are_scrolled_while_others_come_and_go(filled: TestClient) -> None:
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": 4} | ({"cursor": cursor} if cursor else {})
        answer = filled.get(ITEMS, params=query)
        seen += ids(answer)
        cursor = answer.json()["next"]
        if cursor is None:
            break
        filled.request("DELETE", ITEMS, json={"ids": [seen[0]]})
    assert seen == [f"{colour}{n}" for colour in ("red", "green", "blue") for n in range(3)]


def test_a_page_may_be_of_a_filter_and_skip(filled: TestClient) -> None:
    assert ids(filled.get(ITEMS, params={"filter": "n = 1"})) == ["red1", "green1", "blue1"]
    page = filled.get(ITEMS, params={"filter": "n = 1", "limit": 1, "offset": 1})
    assert ids(page) == ["green1"]
    assert ids(filled.get(ITEMS, params={"filter": "n = 1", "cursor": page.json()["next"]})) == [
        "blue1"
    ]


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 1001}, {"cursor": "x"}, {"filter": "m = 1"}, {"offset": -1}]
)
def test_an_invalid_page_is_refused(filled: TestClient, query: dict[str, Any]) -> None:
    answer = filled.get(ITEMS, params=query)
    assert answer.status_code in (400, 422)
    assert next(iter(query)) in answer.text


def test_metadata_change_alone(filled: TestClient) -> None:
    before = [(hit["id"], hit["score"]) for hit in search(filled, query="red").json()["data"]]
    changes = [
        {"id": "red1", "metadata": {"n": None, "tone": "warm"}},
        {"id": "none", "metadata": {}},
    ]
    answer = filled.patch(ITEMS, json={"items": changes}).json()
    assert (answer["updated"], answer["missing"]) == (1, ["none"])
    shown = filled.get(f"{ITEMS}/red1").json()["metadata"]
    assert shown == {"film": "red", "caption": "red in Korvenau 1", "tone": "warm"}
    after = [(hit["id"], hit["score"]) for hit in search(filled, query="red").json()["data"]]
    assert {id for id, _ in before} == {id for id, _ in after}
    assert dict(before) == pytest.approx(dict(after))
    whole = {"items": [{"id": "red1", "metadata": {"a": 1}}], "replace": True}
    assert filled.patch(ITEMS, json=whole).json()["updated"] == 1
    assert filled.get(f"{ITEMS}/red1").json()["metadata"] == {"a": 1}


def test_the_path_of_a_file_cannot_be_changed(filled: TestClient) -> None:
    change = {"items": [{"id": "red1", "metadata": {"path": "/etc/passwd"}}]}
    answer = filled.patch(ITEMS, json=change)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "metadata")


def test_items_of_a_filter_are_deleted(filled: TestClient) -> None:
    def delete(**body: Any) -> Any:
        return filled.request("DELETE", ITEMS, json=body)

    assert delete(filter="n >= 1", dry_run=True).json() == {
        "object": "collection.items",
        "deleted": 6,
        "dry_run": True,
    }
    assert delete(filter="n >= 1", max_delete="5").status_code == 400
    assert len(ids(filled.get(ITEMS))) == 9
    assert delete(filter="n >= 1").json()["deleted"] == 6
    assert ids(filled.get(ITEMS)) == ["red0", "green0", "blue0"]
    assert delete(filter="typo = 1").status_code == 400
    assert delete(filter="n = 0", ids=["red0"]).status_code == 400


def test_words_are_found_in_captions_and_explained(filled: TestClient) -> None:
    answer = search(filled, query="green", words="red 2", k=9, explain=True)
    hits = {hit["id"]: hit["explain"] for hit in answer.json()["data"]}
    assert hits["red2"]["words"]["rank"] == 1
    assert hits["green0"]["words"] is None
    assert hits["green0"]["vector"]["rank"] <= 3
    assert answer.json()["path"]["parts"][0]["path"] == "exact"
    assert "path" not in search(filled, query="green").json()
    new = [{"id": "later", "text": "blue", "metadata": {"caption": "zanzibar"}}]
    filled.post(ITEMS, json={"items": new})
    assert ids(search(filled, query="red", words="zanzibar", balance=1.0, k=1)) == ["later"]


def test_the_best_of_each_film_and_a_later_page(filled: TestClient) -> None:
    best = ids(search(filled, query="green", one_per="film", k=9))
    assert best[0][:-1] == "green"
    assert {one[:-1] for one in best} == {"red", "green", "blue"}
    assert len(best) == 3
    assert ids(search(filled, query="green", one_per="film", offset=1, k=9)) == best[1:]
    spread = ids(search(filled, query="green", diversity=0.9, k=3))
    assert len({one[:-1] for one in spread}) > 1


def test_options_that_group_excludes_are_refused(filled: TestClient) -> None:
    answer = search(filled, query="red", group=0.9, offset=1)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "group")


def photo() -> bytes:
    exif = {
        "0th": {piexif.ImageIFD.Model: b"D850"},
        "Exif": {piexif.ExifIFD.DateTimeOriginal: b"2024:05:01 13:14:15"},
        "GPS": {
            piexif.GPSIFD.GPSLatitudeRef: b"N",
            piexif.GPSIFD.GPSLatitude: ((48, 1), (30, 1), (0, 1)),
            piexif.GPSIFD.GPSLongitudeRef: b"E",
            piexif.GPSIFD.GPSLongitude: ((2, 1), (0, 1), (0, 1)),
        },
    }
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (255, 0, 0)).save(buffer, "JPEG", exif=piexif.dump(exif))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, {"camera", "taken"}),
        ({"place": True}, {"camera", "taken", "latitude", "longitude"}),
        ({"exif": False}, set()),
    ],
)
def test_metadata_of_posted_photographs_come_from_exif(
    filled: TestClient, options: dict[str, bool], fields: set[str]
) -> None:
    uri = "data:image/jpeg;base64," + base64.b64encode(photo()).decode()
    item = {"id": "photo", "image": uri, "metadata": {"lens": "mine"}}
    assert filled.post(ITEMS, json={"items": [item], **options}).status_code == 200
    metadata = filled.get(f"{ITEMS}/photo").json()["metadata"]
    assert set(metadata) - {"lens"} == fields
    if "taken" in fields:
        assert ids(search(filled, query="red", filter='taken >= "2024-05"')) == ["photo"]


def wait(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/collections/photos/report", json=body)
    assert answer.status_code == 202, answer.text
    job = answer.json()["job"]
    while job["finished"] is None:
        time.sleep(0.02)
        job = client.get(f"/jobs/{job['id']}").json()
    assert job["error"] is None
    result: dict[str, Any] = job["result"]
    return result


def test_reports_say_what_a_collection_holds(filled: TestClient) -> None:
    copies = wait(filled, find="copies", similarity=0.999)
    assert (copies["group_count"], copies["copy_count"]) == (3, 6)
    clusters = wait(filled, find="clusters", count=3)["clusters"]
    assert [one["count"] for one in clusters] == [3, 3, 3]
    assert all(len({id[:-1] for id in one["ids"]}) == 1 for one in clusters)
    assert all(one["names"] for one in clusters)
    subset = wait(filled, find="subset", count=3)["ids"]
    assert len({id[:-1] for id in subset}) == 3
    assert len(wait(filled, find="outliers", count=4)["items"]) == 4
    odd = wait(filled, find="outliers", field="film")
    assert odd["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"find": "x"},
        {"find": "subset", "similarity": 0.9},
        {"find": "copies", "field": "film"},
        {"find": "clusters", "count": 1001},
    ],
)
def test_an_invalid_report_is_refused(filled: TestClient, body: dict[str, Any]) -> None:
    answer = filled.post("/collections/photos/report", json=body)
    assert answer.status_code == 400
