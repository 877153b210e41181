"""Several bundles, and loading, swapping and unloading while requests run."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from twinlens.errors import BundleError, NotFoundError
from twinlens.serving.engine.memory import freeze_objects
from twinlens.serving.keys import parse_keys
from twinlens.serving.settings import ServerSettings, Watch

ADMIN = {"authorization": "Bearer admin-key"}
KEYS = parse_keys("admin:admin-key")


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    for name in ("blue-1", "blue-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bundle.json").write_text("{}")
    return tmp_path


@pytest.fixture
def opener(make_encoder: Any) -> Callable[[str, str], Any]:
    """Each source has its own revision; one is damaged."""

    def open_encoder(source: str, precision: str) -> Any:
        name = Path(source).name
        if name == "blue-2":
            raise BundleError("bundle.json is damaged")
        return make_encoder({"colours": "a", "blue-1": "b", "second": "c"}[name] * 64)

    return open_encoder


def test_a_request_names_its_model_and_the_first_is_the_default(
    make_client: Callable[..., TestClient], opener: Any
) -> None:
    client = make_client(opener=opener, names=["colours", "second"])
    revisions = [
        client.post("/embed", json={"texts": ["red"], **body}).json()["revision"][0]
        for body in ({}, {"model": "colours"}, {"model": "second"})
    ]
    assert revisions == ["a", "a", "c"]
    assert [m["id"] for m in client.get("/v1/models").json()["data"]] == ["colours", "second"]


def test_a_model_tells_which_engine_runs_each_tower_at_each_precision(
    make_client: Callable[..., TestClient], opener: Any
) -> None:
    client = make_client(ServerSettings(precisions=("fp32", "bf16")), opener=opener)
    towers = {"image": "fake", "text": "fake"}
    assert client.get("/v1/models/colours").json()["engines"] == {"fp32": towers, "bf16": towers}


def test_bundles_do_not_share_cached_texts(
    make_client: Callable[..., TestClient], opener: Any
) -> None:
    client = make_client(opener=opener, names=["colours", "second"])
    first = client.post("/embed", json={"texts": ["red"], "model": "colours"}).json()
    second = client.post("/embed", json={"texts": ["red"], "model": "second"}).json()
    assert first["embeddings"] != second["embeddings"]


def test_a_bundle_is_loaded_and_unloaded_by_name(
    make_client: Callable[..., TestClient], opener: Any, bundles: Path
) -> None:
    client = make_client(ServerSettings(keys=KEYS, bundles=bundles), opener=opener)
    client.headers.update(ADMIN)
    answer = client.put("/v1/models/new", json={"bundle": "blue-1"})
    assert answer.status_code == 200, answer.text
    assert client.post("/embed", json={"texts": ["a"], "model": "new"}).status_code == 200
    assert client.delete("/v1/models/new").status_code == 200
    assert client.post("/embed", json={"texts": ["a"], "model": "new"}).status_code == 404
    assert client.delete("/v1/models/colours").status_code == 409
    assert client.get("/readyz").status_code == 200


def test_a_bundle_that_does_not_open_changes_nothing(
    make_client: Callable[..., TestClient], opener: Any, bundles: Path
) -> None:
    client = make_client(ServerSettings(keys=KEYS, bundles=bundles), opener=opener)
    client.headers.update(ADMIN)
    answer = client.put("/v1/models/colours", json={"bundle": "blue-2"})
    assert answer.status_code == 422
    assert client.post("/embed", json={"texts": ["a"]}).json()["revision"] == "a" * 64


def test_a_model_of_the_hub_is_loaded_only_where_the_operator_allows_it(
    make_client: Callable[..., TestClient], make_encoder: Any
) -> None:
    asked: list[str] = []

    def open_encoder(source: str, precision: str) -> Any:
        asked.append(source)
        if source == "hf:tiny/none":
            raise NotFoundError("hf:tiny/none does not exist on http://hub", field="source")
        return make_encoder("a" * 64)

    def load(client: TestClient, bundle: str) -> Any:
        return client.put("/v1/models/new", json={"bundle": bundle}, headers=ADMIN)

    refused = load(make_client(ServerSettings(keys=KEYS), opener=open_encoder), "hf:tiny/clip")
    assert refused.status_code == 403 and "--allow-pull" in refused.text
    client = make_client(ServerSettings(keys=KEYS, allow_pull=True), opener=open_encoder)
    asked.clear()
    assert load(client, "hf:tiny/clip@v1").status_code == 200
    assert asked == ["hf:tiny/clip@v1"]
    assert load(client, "hf:../etc").status_code == 400
    missing = load(client, "hf:tiny/none")
    assert missing.status_code == 404
    assert "hf:tiny/none does not exist" in missing.json()["error"]["message"]


@pytest.mark.parametrize("bundle", ["../blue-1", "/etc", "", "blue-3", ".", "blue-1/..", "a\\b"])
def test_a_client_can_name_a_bundle_but_never_give_a_path(
    make_client: Callable[..., TestClient], opener: Any, bundles: Path, bundle: str
) -> None:
    client = make_client(ServerSettings(keys=KEYS, bundles=bundles), opener=opener)
    answer = client.put("/v1/models/x", json={"bundle": bundle}, headers=ADMIN)
    assert answer.status_code in (400, 404)
    assert str(bundles) not in answer.text


def test_a_swap_under_load_fails_no_request_and_mixes_no_answer(
    run_server: Callable[..., Any], opener: Any, bundles: Path
) -> None:
    images = ["data:image/gif;base64,R0lGODdhAQABAIAAAP///////ywAAAAAAQABAAACAkQBADs="] * 3

    async def scenario(http: Any, service: Any) -> None:
        stop = asyncio.Event()
        seen: list[tuple[str, str]] = []

        async def load() -> None:
            while not stop.is_set():
                body = {"inputs": [{"image": images[0]}, {"text": "red"}, {"image": images[2]}]}
                answer = await http.post("/embed", json=body, headers=ADMIN)
                assert answer.status_code == 200, answer.text
                found = answer.json()
                first, _, last = found["embeddings"]
                assert first == last
                seen.append((found["revision"][0], str(first)))

        loads = [asyncio.create_task(load()) for _ in range(4)]
        old = service.registry.models()[0]
        for bundle in ("blue-1", None, "blue-1"):
            await asyncio.sleep(0.05)
            body = {"bundle": bundle}
            answer = await http.put("/v1/models/colours", json=body, headers=ADMIN)
            assert answer.status_code == 200, answer.text
        await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*loads)
        assert {revision for revision, _ in seen} == {"a", "b"}
        # Each revision embeds the image differently: more than two pairs mean a mixed answer.
        assert len(set(seen)) == 2
        for _ in range(100):
            if old.images.find_fault(service.settings.watch):  # its worker has ended
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the old model was not closed")

    run_server(scenario, ServerSettings(keys=KEYS, bundles=bundles), opener=opener)


def test_a_replaced_model_is_freed(
    run_server: Callable[..., Any], opener: Any, bundles: Path
) -> None:
    async def scenario(http: Any, service: Any) -> None:
        await http.post("/embed", json={"texts": ["red"]}, headers=ADMIN)
        freeze_objects()  # as a server does before it listens
        old = weakref.ref(service.registry.models()[0])
        await http.put("/v1/models/colours", json={"bundle": "blue-1"}, headers=ADMIN)
        for _ in range(200):
            if old() is None:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the old model is still in memory")

    settings = ServerSettings(keys=KEYS, bundles=bundles, watch=Watch(interval=0.05))
    run_server(scenario, settings, opener=opener)
