"""clip-retrieval's requests over a served collection."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings


@pytest.fixture
def client(encoder: Any, tmp_path: Path, uri: Callable[..., str]) -> Iterator[TestClient]:
    store = CollectionStore(tmp_path / "data")
    service = Service(ServerSettings(), lambda source, precision: encoder)
    service.load("colours", "colours")
    items = [
        {"id": "red", "image": uri((255, 0, 0)), "metadata": {"caption": "warm", "id": 7}},
        {"id": "crimson", "image": uri((254, 0, 0))},
        {"id": "blue", "image": uri((0, 0, 255)), "metadata": {"url": "https://a.example/b"}},
    ]
    with TestClient(add_middleware(build_app(service, build_routers(service, store)))) as opened:
        opened.put("/collections/photos", json={})
        told = opened.post("/collections/photos/items", json={"items": items})
        assert told.status_code == 200
        yield opened
    store.close()


def query(**body: Any) -> dict[str, Any]:
    """Return a body as its client builds it: all queries, those not asked null."""
    queries: dict[str, Any] = dict.fromkeys(("text", "image", "image_url", "embedding_input"))
    return {
        **queries,
        "deduplicate": False,
        "use_safety_model": True,
        "use_violence_detector": True,
        "indice_name": "photos",
        "use_mclip": False,
        "aesthetic_score": 9,
        "aesthetic_weight": 0.5,
        "modality": "image",
        "num_images": 2,
        "num_result_ids": 2,
        **body,
    }


def test_it_searches_by_text_image_and_row(client: TestClient, uri: Callable[..., str]) -> None:
    told = client.post("/knn-service", json=query(text="blue")).json()
    assert told[0] == {
        "id": "blue",
        "similarity": pytest.approx(told[0]["similarity"]),
        "url": "https://a.example/b",
    }
    bare = uri((255, 0, 0)).partition(",")[2]
    told = client.post("/knn-service", json=query(image=bare)).json()
    assert [one["id"] for one in told] == ["red", "crimson"]
    assert told[0]["caption"] == "warm"
    assert client.get(told[0]["url"]).headers["content-type"] == "image/webp"
    row = client.post("/embed", json={"texts": ["blue"]}).json()["embeddings"][0]
    told = client.post("/knn-service", json=query(embedding_input=row)).json()
    assert told[0]["id"] == "blue"


def test_duplicates_are_left_out_where_asked_for(client: TestClient) -> None:
    told = client.post("/knn-service", json=query(text="red", deduplicate=True)).json()
    assert {one["id"] for one in told} & {"red", "crimson"} == {told[0]["id"]}


def test_its_client_sends_no_content_type_and_a_page_cannot(client: TestClient) -> None:
    body = json.dumps(query(text="red")).encode()
    assert client.post("/knn-service", content=body).status_code == 200
    plain = {"content-type": "text/plain"}
    assert client.post("/knn-service", content=body, headers=plain).status_code == 415


def test_the_collections_are_its_indices(client: TestClient) -> None:
    assert client.get("/indices-list").json() == ["photos"]


def test_two_queries_and_an_unknown_index_are_refused(client: TestClient) -> None:
    told = client.post("/knn-service", json=query(text="red", image_url="http://x"))
    assert (told.status_code, told.json()["error"]["param"]) == (400, "text")
    told = client.post("/knn-service", json=query(text="red", indice_name="laion"))
    assert told.status_code == 404
