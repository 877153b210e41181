"""`/collections/{name}/map`: points at once, neighbours when ready, colours in the same order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

MAP = "/collections/photos/map"
COLOURS = ("red", "green", "blue")


@pytest.fixture
def filled(encoder: Any, tmp_path: Path) -> Iterator[TestClient]:
    store = CollectionStore(tmp_path / "data")
    service = Service(ServerSettings(), lambda source, precision: encoder)
    service.load("colours", "colours")
    with TestClient(add_middleware(build_app(service, build_routers(service, store)))) as client:
        client.put("/collections/photos", json={})
        items = [
            {"id": f"{n:02}", "text": COLOURS[n % 3], "metadata": {"tone": COLOURS[n % 3], "n": n}}
            for n in range(90)
        ]
        assert client.post("/collections/photos/items", json={"items": items}).status_code == 200
        yield client
    store.close()


def wait_for_neighbours(client: TestClient) -> dict[str, Any]:
    for _ in range(300):
        body: dict[str, Any] = client.get(MAP, params={"layout": "neighbours"}).json()
        if body["method"] == "neighbours":
            return body
        assert body["method"] == "pca" and len(body["points"]) == 90
        time.sleep(0.05)
    raise AssertionError(body)


def test_principal_components_come_first_and_neighbours_when_ready(filled: TestClient) -> None:
    assert filled.get(MAP).json()["method"] == "pca"
    body = wait_for_neighbours(filled)
    assert not body["refining"]
    assert len(body["labels"]) == len(body["points"]) == 90
    assert sum(one["count"] for one in body["clusters"]) == 90
    assert all(one["names"] for one in body["clusters"]), "named by the lexicon"
    assert filled.get(MAP).json()["method"] == "pca", "who does not ask gets what was there"


def test_few_changes_keep_the_layout_and_many_make_it_anew(filled: TestClient) -> None:
    wait_for_neighbours(filled)
    filled.request("DELETE", "/collections/photos/items", json={"ids": ["00"]})
    assert filled.get(MAP, params={"layout": "neighbours"}).json()["method"] == "neighbours"
    ids = [f"{n:02}" for n in range(1, 40)]
    filled.request("DELETE", "/collections/photos/items", json={"ids": ids})
    body = filled.get(MAP, params={"layout": "neighbours"}).json()
    assert (body["method"], len(body["ids"])) == ("pca", 50)


def test_values_and_scores_stand_in_the_order_of_the_points(filled: TestClient) -> None:
    ids = filled.get(MAP).json()["ids"]
    values = filled.get(f"{MAP}/values", params={"field": "tone"}).json()["values"]
    assert values == [COLOURS[int(id) % 3] for id in ids]
    body = {"query": {"text": "red"}, "points": 2000}
    scores = filled.post(f"{MAP}/scores", json=body).json()["scores"]
    best = max(scores)
    assert [score > best - 0.01 for score in scores] == [value == "red" for value in values]


def test_a_kept_layout_shows_what_items_say_and_score_now(filled: TestClient) -> None:
    ids = wait_for_neighbours(filled)["ids"]
    change = {"items": [{"id": id, "metadata": {"album": "new"}} for id in ids]}
    assert filled.patch("/collections/photos/items", json=change).json()["updated"] == 90
    asked = {"layout": "neighbours", "field": "album"}
    assert filled.get(MAP, params=asked).json()["ids"] == ids
    assert filled.get(f"{MAP}/values", params=asked).json()["values"] == ["new"] * 90
    body = {"query": {"text": "red"}, "layout": "neighbours"}
    scores = filled.post(f"{MAP}/scores", json=body).json()["scores"]
    assert None not in scores and max(scores) > min(scores)


def test_the_paths_of_files_are_never_shown_as_values(filled: TestClient) -> None:
    assert filled.get(f"{MAP}/values", params={"field": "path"}).json()["values"] == []


@pytest.mark.parametrize("query", [{"layout": "umap"}, {"points": "many"}])
def test_what_cannot_be_drawn_is_refused(filled: TestClient, query: dict[str, str]) -> None:
    assert filled.get(MAP, params=query).status_code == 400
