"""Collections that a vector store keeps, through HTTP: the same paths, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.index.stores.places import STORES, find_opener
from twinlens.errors import StoreError
from twinlens.index.stores.store import VectorStore
from twinlens.index.stores.store_collection import StoreCollection
from twinlens.index.stores.store_writer import StoreWriter
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections import served, shared_writer
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

Uri = Callable[..., str]


@pytest.fixture(params=STORES)
def server(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    encoder: Any,
) -> Iterator[TestClient]:
    """A server whose collection `photos` is in a store."""
    open_one: Callable[[], VectorStore] = find_opener(
        request.param, request, tmp_path, encoder.revision
    )

    def open_reader(source: object, *, cache: Path | None = None) -> StoreCollection:
        return StoreCollection(open_one(), tmp_path)

    monkeypatch.setattr(served, "open_collection", open_reader)
    monkeypatch.setattr(
        shared_writer, "open_writer", lambda source: StoreWriter(open_reader(source))
    )
    service = Service(ServerSettings(), lambda source, precision: encoder)
    service.load("colours", "colours")
    store = CollectionStore()
    store.add("photos", "postgresql://me:secret@here/db")
    app = build_app(service, build_routers(service, store))
    with TestClient(add_middleware(app)) as client:
        yield client
    store.close()


def post(client: TestClient, path: str, body: Any, status: int = 200) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_items_are_written_searched_changed_listed_and_deleted(
    server: TestClient, uri: Uri
) -> None:
    items = [
        {"id": name, "image": uri(colour), "metadata": {"year": year}}
        for name, colour, year in (
            ("red.png", (255, 0, 0), 2019),
            ("green.png", (0, 255, 0), 2020),
            ("blue.png", (0, 0, 255), 2021),
        )
    ]
    assert post(server, "/collections/photos/items", {"items": items})["upserted"] == 3
    told = post(server, "/search", {"collection": "photos", "query": "red", "k": 2})
    assert told["data"][0]["id"] == "red.png" and len(told["data"]) == 2
    assert told["recall"] == {"image": 1.0, "text": 1.0}
    asked = {"collection": "photos", "query": "red", "filter": "year > 2019", "explain": True}
    told = post(server, "/search", asked)
    assert {hit["id"] for hit in told["data"]} == {"green.png", "blue.png"}
    assert told["path"]["parts"][0]["path"] == "exact"
    change = {"items": [{"id": "blue.png", "metadata": {"year": 2000}}]}
    assert server.patch("/collections/photos/items", json=change).json()["updated"] == 1
    page = server.get("/collections/photos/items", params={"filter": "year <= 2019"}).json()
    assert [item["id"] for item in page["data"]] == ["red.png", "blue.png"]
    first = server.get("/collections/photos/items", params={"limit": 1}).json()
    rest = server.get("/collections/photos/items", params={"cursor": first["next"]}).json()
    assert [item["id"] for item in rest["data"]] == ["green.png", "blue.png"]
    assert server.get("/collections/photos/thumbnails/red.png").status_code == 200
    assert len(server.get("/collections/photos/map").json()["ids"]) == 3
    gone = server.request("DELETE", "/collections/photos/items", json={"filter": "year < 2010"})
    assert gone.json()["deleted"] == 1
    assert server.get("/collections/photos").json()["count"] == 2
    assert server.get("/collections/photos/items/blue.png").status_code == 404
    assert "twinlens_collection_items" in server.get("/metrics").text


def test_what_only_a_folder_can_do_is_refused_and_no_password_is_told(server: TestClient) -> None:
    hybrid = {"collection": "photos", "query": "red", "words": "red"}
    for path, body in (("/search", hybrid), ("/collections/photos/build", {})):
        told = post(server, path, body, 400)
        assert "collection 'photos' is kept by" in told["error"]["message"]
        assert "secret" not in str(told) and "://" not in told["error"]["message"]


def test_another_models_embeddings_are_refused(server: TestClient, uri: Uri) -> None:
    body = {"items": [{"id": "a", "vector": [1.0] * 8}]}
    assert "16 numbers" in str(post(server, "/collections/photos/items", body, 400))
    unknown = {"collection": "photos", "query": "red", "model": "other"}
    assert server.post("/search", json=unknown).status_code == 404


def test_a_store_that_does_not_answer_is_503(
    server: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreError("postgresql://me@here/db: PostgreSQL does not answer")

    monkeypatch.setattr(StoreCollection, "search", fail)
    told = post(server, "/search", {"collection": "photos", "query": "red"}, 503)
    assert told["error"]["message"] == "the store of collection 'photos' does not answer; try again"
