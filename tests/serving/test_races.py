"""Many clients at one name: each is told that it exists or does not, and none where it lies."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

Ask = Callable[[httpx.AsyncClient], Coroutine[Any, Any, httpx.Response]]
VECTOR = [1.0] * 16


@pytest.fixture(autouse=True)
def quick_switches() -> Iterator[None]:
    """Let threads take turns often, so that what can collide does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def race(encoder: Any, folder: Path, asks: list[Ask], rounds: int) -> Counter[int]:
    """Ask in random order, eight at a time, and return how often each status came back."""
    rng = random.Random(7)
    told: Counter[int] = Counter()

    async def main() -> None:
        service = Service(ServerSettings(data=folder), lambda source, precision: encoder)
        service.load("colours", "colours")
        store = CollectionStore(folder / "collections")
        app = build_app(service, build_routers(service, store))
        transport = httpx.ASGITransport(add_middleware(app), raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://server") as http,
        ):
            for _ in range(rounds):
                some = [rng.choice(asks)(http) for _ in range(8)]
                for answer in await asyncio.gather(*some):
                    told[answer.status_code] += 1
                    assert str(folder) not in answer.text
                    assert answer.status_code < 500, answer.text
                    if answer.status_code == 400:
                        raise AssertionError(answer.text)
        store.close()

    asyncio.run(asyncio.wait_for(main(), 100))
    return told


def test_clients_that_race_for_one_classifier_are_told_404(encoder: Any, tmp_path: Path) -> None:
    path = "/classifiers/pets"
    asks: list[Ask] = [
        lambda http: http.put(path, json={"classes": ["red", "green"]}),
        lambda http: http.delete(path),
        lambda http: http.delete(path),
        lambda http: http.get(path),
        lambda http: http.get("/classifiers"),
    ]
    told = race(encoder, tmp_path, asks, rounds=60)
    assert set(told) == {200, 201, 404}


def test_clients_that_race_for_one_collection_are_told_404_or_409(
    encoder: Any, tmp_path: Path
) -> None:
    path = "/collections/photos"
    items = {"items": [{"id": f"i{i}", "vector": VECTOR} for i in range(4)]}
    asks: list[Ask] = [
        lambda http: http.put(path, json={}),
        lambda http: http.put(path, json={}),
        lambda http: http.delete(path),
        lambda http: http.delete(path),
        lambda http: http.get(path),
        lambda http: http.get("/collections"),
        lambda http: http.get("/metrics"),
        lambda http: http.get(f"{path}/map"),
        lambda http: http.post(f"{path}/items", json=items),
        lambda http: http.post(f"{path}/build", json={}),
        lambda http: http.request("DELETE", f"{path}/items", json={"ids": ["i1"]}),
        lambda http: http.post("/search", json={"collection": "photos", "vector": VECTOR}),
    ]
    told = race(encoder, tmp_path, asks, rounds=60)
    assert set(told) <= {200, 201, 202, 404, 409, 429}
    assert min(told[200], told[201], told[404], told[409]) > 0


def test_a_folder_that_stands_in_the_way_is_a_409_without_its_path(
    encoder: Any, tmp_path: Path
) -> None:
    (tmp_path / "collections" / "photos").mkdir(parents=True)
    (tmp_path / "collections" / "photos" / "notes.txt").write_text("mine")
    asks: list[Ask] = [lambda http: http.put("/collections/photos", json={})]
    assert set(race(encoder, tmp_path, asks, rounds=1)) == {409}
