"""`/search` and `/collections` over HTTP, around the fake encoder of colours."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.bundle.calibration.test_calibration import CALIBRATION
from twinlens.bundle.calibration.calibration import EXTENSION, Evidence
from twinlens.index.maintenance import IndexPlan, optimise
from twinlens.index.writer import Writer, create_collection
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections.search import SearchParams
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

Uri = Callable[..., str]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CollectionStore]:
    opened = CollectionStore(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def client(encoder: Any, store: CollectionStore) -> Iterator[TestClient]:
    settings = ServerSettings(aliases=("hues=colours",))
    service = Service(settings, lambda source, precision: encoder)
    service.load("colours", "colours")
    with TestClient(add_middleware(build_app(service, build_routers(service, store)))) as opened:
        yield opened


@pytest.fixture
def filled(client: TestClient, uri: Uri) -> TestClient:
    assert client.put("/collections/photos", json={}).status_code == 201
    items = [
        {"id": "red", "image": uri((255, 0, 0)), "metadata": {"year": 2020, "tone": "warm"}},
        {"id": "green/1", "image": uri((0, 255, 0)), "metadata": {"year": 2021}},
        {"id": "blue", "image": uri((0, 0, 255)), "metadata": {"year": 2022, "tone": "cold"}},
    ]
    answer = client.post("/collections/photos/items", json={"items": items})
    assert (answer.status_code, answer.json()["upserted"]) == (200, 3)
    return client


def found(client: TestClient, **body: Any) -> list[str]:
    answer = client.post("/search", json={"collection": "photos", **body})
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["data"]]


def test_texts_images_vectors_and_mixes_are_searched(filled: TestClient, uri: Uri) -> None:
    assert found(filled, query="blue", k=1) == ["blue"]
    assert found(filled, text="green", k=1) == ["green/1"]
    assert found(filled, image=uri((250, 0, 0)), k=1) == ["red"]
    row = filled.post("/embed", json={"texts": ["red"]}).json()["embeddings"][0]
    assert found(filled, vector=row, k=1) == ["red"]
    mix = [{"text": "red"}, {"image": uri((0, 0, 255)), "weight": 3}]
    assert found(filled, query=mix, k=1) == ["blue"]
    against = [{"text": "red"}, {"text": "blue"}, {"text": "red", "weight": -1.5}]
    assert found(filled, query=against)[0] == "blue"


def test_an_item_of_the_collection_is_a_term(filled: TestClient) -> None:
    assert found(filled, query=[{"item": "green/1"}], k=1) == ["green/1"]
    assert found(filled, query={"item": "blue"}, k=1) == ["blue"]
    mix = [{"item": "red"}, {"item": "blue", "weight": 3}]
    assert found(filled, query=mix, k=1) == ["blue"]
    body = {"collection": "photos", "query": [{"item": "nothing"}]}
    answer = filled.post("/search", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    both = {"collection": "photos", "query": [{"item": "red", "text": "red"}]}
    assert filled.post("/search", json=both).status_code == 400
    stored = {"items": [{"id": "copy", "item": "red"}]}
    assert filled.post("/collections/photos/items", json=stored).status_code == 400


def test_a_raw_image_is_a_query(filled: TestClient, image: Callable[..., bytes]) -> None:
    answer = filled.post(
        "/search?collection=photos&k=1",
        content=image((0, 255, 0)),
        headers={"content-type": "image/png"},
    )
    assert [hit["id"] for hit in answer.json()["data"]] == ["green/1"]


def test_an_answer_names_its_model_and_its_recall(filled: TestClient) -> None:
    body = filled.post("/search", json={"query": "red"}).json()
    assert body["collection"] == "photos"
    assert body["model"] == "colours"
    assert body["recall"] == {"image": 1.0, "text": 1.0}
    assert set(body["data"][0]) == {"id", "score", "metadata", "thumbnail"}


def test_filters_thresholds_and_groups_restrict_the_hits(filled: TestClient, uri: Uri) -> None:
    assert set(found(filled, query="red", filter="year >= 2021")) == {"green/1", "blue"}
    assert found(filled, query="red", filter='tone = "cold"') == ["blue"]
    assert found(filled, query="red", threshold=0.99) in (["red"], [])
    copy = {"id": "red again", "image": uri((255, 0, 0))}
    filled.post("/collections/photos/items", json={"items": [copy]})
    answer = filled.post("/search", json={"query": "red", "group": 0.98}).json()["data"]
    assert len(answer) == 3
    assert {answer[0]["id"], *answer[0]["duplicates"]} == {"red", "red again"}


def test_items_are_read_replaced_and_deleted(filled: TestClient, uri: Uri) -> None:
    item = filled.get("/collections/photos/items/green/1").json()
    assert item == {"object": "item", "id": "green/1", "metadata": {"year": 2021}}
    again = {"id": "green/1", "text": "white", "metadata": {"year": 1}}
    filled.post("/collections/photos/items", json={"items": [again]})
    assert filled.get("/collections/photos/items/green/1").json()["metadata"] == {"year": 1}
    body = {"ids": ["green/1", "nothing"]}
    deleted = filled.request("DELETE", "/collections/photos/items", json=body)
    assert deleted.json()["deleted"] == 1
    assert filled.get("/collections/photos/items/green/1").status_code == 404
    assert "green/1" not in found(filled, query="green")
    assert filled.get("/collections/photos").json()["count"] == 2


def test_a_bad_item_fails_alone(filled: TestClient, uri: Uri) -> None:
    bad = "data:image/png;base64," + base64.b64encode(b"no image").decode()
    items = [
        {"id": "bad", "image": bad},
        {"id": "good", "image": uri((9, 9, 9))},
        {"id": "short", "vector": [1, 2]},
    ]
    answer = filled.post("/collections/photos/items", json={"items": items})
    assert answer.json()["upserted"] == 1
    codes = [one.get("error", {}).get("code") for one in answer.json()["data"]]
    assert codes == ["image_decode_failed", None, "vector_mismatch"]
    named = [one.get("error", {}).get("param") for one in answer.json()["data"]]
    assert named == ["items[0].image", None, "items[2]"]
    assert answer.headers["twinlens-failed-items"] == "2"


def test_thumbnails_are_small_and_created_once(filled: TestClient) -> None:
    hit = filled.post("/search", json={"query": "green", "k": 1}).json()["data"][0]
    answer = filled.get(hit["thumbnail"])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/webp"
    assert answer.content[8:12] == b"WEBP"
    assert filled.get("/collections/photos/thumbnails/none").status_code == 404


def test_a_path_that_a_client_wrote_is_never_opened(
    filled: TestClient, tmp_path: Path, image: Callable[..., bytes]
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(image())
    item = {"id": "sly", "text": "red", "metadata": {"path": str(secret)}}
    filled.post("/collections/photos/items", json={"items": [item]})
    assert filled.get("/collections/photos/thumbnails/sly").status_code == 404


def test_the_map_places_every_item(filled: TestClient) -> None:
    body = filled.get("/collections/photos/map").json()
    assert set(body["ids"]) == {"red", "green/1", "blue"}
    assert np.abs(np.array(body["points"])).max() == pytest.approx(1)
    assert body["variance_share"] > 0.9
    assert len(filled.get("/collections/photos/map?points=2").json()["ids"]) == 2


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"query": "red", "collection": "nope"}, 404, "collection_not_found"),
        ({"query": "red", "filter": "year >="}, 400, "invalid_value"),
        ({"query": "red", "filter": "yaer >= 2020"}, 400, "invalid_value"),
        ({"query": "red", "k": 0}, 400, "invalid_value"),
        ({"query": "red", "kk": 3}, 400, "unknown_field"),
        ({}, 400, "invalid_value"),
        ({"vector": [1, 2]}, 400, "invalid_value"),
        ({"query": [{"text": "red"}, {"text": "red", "weight": -1}]}, 400, "invalid_value"),
        ({"query": "red", "model": "nope"}, 404, "model_not_found"),
    ],
)
def test_an_invalid_search_says_why(
    filled: TestClient, body: dict[str, Any], status: int, code: str
) -> None:
    answer = filled.post("/search", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_search_may_name_its_model_by_an_alias(filled: TestClient) -> None:
    answer = filled.post("/search", json={"query": "red", "k": 1, "model": "hues"})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["data"][0]["id"], answer.json()["model"]) == ("red", "colours")


def test_a_collection_of_another_bundle_is_409_and_says_which(
    client: TestClient, store: CollectionStore, tmp_path: Path
) -> None:
    place = tmp_path / "older"
    create_collection(place, dim=16, bundle_name="older", bundle_revision="f00d")
    store.add("older", place)
    answer = client.post("/search", json={"query": "red", "collection": "older"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (409, "bundle_mismatch")
    assert "'older' revision f00d" in error["message"]
    assert str(tmp_path) not in answer.text


def test_collections_are_created_and_deleted(
    client: TestClient, store: CollectionStore, tmp_path: Path
) -> None:
    assert client.put("/collections/a", json={}).status_code == 201
    assert client.put("/collections/a", json={}).status_code == 409
    assert client.put("/collections/..%2Fx", json={}).status_code in (400, 404)
    assert [one["name"] for one in client.get("/collections").json()["data"]] == ["a"]
    assert client.delete("/collections/a").json()["deleted"] is True
    assert client.get("/collections/a").status_code == 404
    assert list((tmp_path / "data").iterdir()) == []


def test_created_collections_survive_a_restart(filled: TestClient, tmp_path: Path) -> None:
    again = CollectionStore(tmp_path / "data")
    assert again.find("photos").collection.count() == 3
    again.close()


def test_another_writer_means_409_and_searches_continue(
    client: TestClient, store: CollectionStore, tmp_path: Path
) -> None:
    create_collection(tmp_path / "c", dim=16, bundle_revision="a" * 64)
    with Writer(tmp_path / "c") as other:
        store.add("c", tmp_path / "c")
        answer = client.post("/collections/c/items", json={"items": [{"id": "x", "text": "red"}]})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "locked")
        other.upsert(["late"], np.ones((1, 16)))
        answer = client.post("/search", json={"query": "red"})
        assert [hit["id"] for hit in answer.json()["data"]] == ["late"]


def test_the_server_releases_its_writer_when_idle(
    client: TestClient, store: CollectionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinlens.serving.collections.shared_writer.WRITER_IDLE_SECONDS", 0.01)
    create_collection(tmp_path / "c", dim=16, bundle_revision="a" * 64)
    served = store.add("c", tmp_path / "c")
    body = {"items": [{"id": "x", "text": "red"}]}
    assert client.post("/collections/c/items", json=body).status_code == 200
    end = time.monotonic() + 5
    while served.writer.is_open:  # the timer may fire before this line
        assert time.monotonic() < end
        time.sleep(0.01)
    Writer(tmp_path / "c").close()


def test_a_damaged_index_is_rebuilt_while_searches_continue(
    client: TestClient, store: CollectionStore, tmp_path: Path
) -> None:
    folder = tmp_path / "c"
    create_collection(folder, dim=16, bundle_revision="a" * 64)
    rows = np.random.default_rng(0).standard_normal((2500, 16))
    with Writer(folder) as writer:
        writer.upsert([f"i{n}" for n in range(2500)], rows)
        optimise(writer, IndexPlan("ivf-sq8", 0.9))
    path = next(folder.glob("idx-*/index.faiss"))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    served = store.add("c", folder)
    body = {"vector": rows[7].tolist(), "k": 1}
    for _ in range(200):
        assert client.post("/search", json=body).json()["data"][0]["id"] == "i7"
        if not served.collection.snapshot().damaged and not path.exists():
            break
        time.sleep(0.05)
    assert not path.exists()  # another index has replaced it
    assert client.get("/collections/c").json()["exact"] is False


def test_searches_that_wait_share_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_collection(tmp_path / "c", dim=16, bundle_revision="a" * 64)
    rows = np.eye(16, dtype=np.float32)
    with Writer(tmp_path / "c") as writer:
        writer.upsert([f"i{n}" for n in range(16)], rows)
    store = CollectionStore()
    served = store.add("c", tmp_path / "c")
    sizes: list[int] = []
    plain = served.collection.search

    def watch(queries: Any, *rest: Any, **named: Any) -> Any:
        sizes.append(len(queries))
        return plain(queries, *rest, **named)

    monkeypatch.setattr(served.collection, "search", watch)

    async def main() -> None:
        answers = await asyncio.gather(*(served.search(row, SearchParams(k=1)) for row in rows))
        assert [one.hits[0].id for one in answers] == [f"i{n}" for n in range(16)]
        other = await asyncio.gather(
            served.search(rows[0], SearchParams(k=2)), served.search(rows[1], SearchParams(k=3))
        )
        assert [len(one.hits) for one in other] == [2, 3]

    asyncio.run(main())
    store.close()
    assert max(sizes) > 1
    assert sum(sizes) == 18


def test_a_page_of_another_site_writes_nothing(filled: TestClient) -> None:
    body = b'{"items": [{"id": "planted", "text": "red"}]}'
    plain = {"content-type": "text/plain"}
    path = "/collections/photos/items"
    assert filled.post(path, content=body, headers=plain).status_code == 415
    json_of_another = {"content-type": "application/json", "origin": "http://evil.test"}
    assert filled.post(path, content=body, headers=json_of_another).status_code == 403
    assert filled.get("/collections/photos/items/planted").status_code == 404


def test_a_vector_beyond_32_bit_numbers_is_a_400(filled: TestClient) -> None:
    vector = [1e181, *[0.0] * 15]
    items = {"items": [{"id": "long", "vector": vector}]}
    for path, body in (("/collections/photos/items", items), ("/search", {"vector": vector})):
        answer = filled.post(path, json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "vector_mismatch"


def test_a_calibrated_bundle_gives_probabilities_for_the_hits_of_a_text(
    filled: TestClient, encoder: Any, uri: Uri
) -> None:
    """A lone text alone: what the cosines of images, vectors and sums are worth is not known."""
    plain = filled.post("/search", json={"collection": "photos", "query": "red"}).json()
    assert "none_of_these" not in plain and "calibrated" not in plain["data"][0]
    sure, strict = (Evidence(1, limit, limit, 50.0) for limit in (0.5, 1.5))
    for evidence, is_none in ((sure, False), (strict, True)):
        extension = replace(CALIBRATION, search=(evidence,)).to_extension()
        encoder.manifest = replace(encoder.manifest, extensions={EXTENSION: extension})
        told = filled.post("/search", json={"collection": "photos", "text": "red"}).json()
        assert told["none_of_these"] is is_none
        shares = [hit["calibrated"] for hit in told["data"]]
        assert shares == sorted(shares, reverse=True)
        assert (shares[0] > 0.9) is not is_none
    for other in ({"image": uri()}, {"query": ["red", "blue"]}):
        told = filled.post("/search", json={"collection": "photos", **other}).json()
        assert "none_of_these" not in told and "calibrated" not in told["data"][0]
