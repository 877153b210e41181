"""The clients against the real application around a toy bundle, without a socket."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.bundle.image.videos import BLUE, RED, make_video
from twinlens.bundle.encoder import open_bundle
from twinlens.client import AsyncClient, Client, ServerError
from twinlens.client.plans import Image
from twinlens.errors import InputError
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

Scenario = Callable[[AsyncClient], Awaitable[Any]]


@pytest.fixture
def run(toy_bundle: Path) -> Callable[..., Any]:
    """Run a scenario with a client and a server in the same event loop."""

    def start(
        scenario: Scenario, wrap: Callable[[Any], Any] = lambda app: app, **options: Any
    ) -> Any:
        async def main() -> Any:
            service = Service(ServerSettings(), lambda source, precision: open_bundle(toy_bundle))
            service.load("toy", "toy")
            app = build_app(service)
            transport = httpx.ASGITransport(wrap(add_middleware(app)))
            async with (
                app.router.lifespan_context(app),
                AsyncClient("http://server", transport=transport, **options) as client,
            ):
                return await scenario(client)

        return asyncio.run(main())

    return start


@pytest.fixture
def shelf(toy_bundle: Path, tmp_path: Path) -> Callable[..., Any]:
    """Run a scenario against a server with a data folder and an empty collection `photos`."""

    def start(scenario: Scenario) -> Any:
        async def main() -> Any:
            service = Service(ServerSettings(), lambda source, precision: open_bundle(toy_bundle))
            service.load("toy", "toy")
            store = CollectionStore(tmp_path / "data")
            app = build_app(service, build_routers(service, store))
            transport = httpx.ASGITransport(add_middleware(app))
            async with (
                app.router.lifespan_context(app),
                AsyncClient("http://server", transport=transport, part=2) as client,
            ):
                await client._http.put("/collections/photos", json={})
                try:
                    return await scenario(client)
                finally:
                    store.close()

        return asyncio.run(main())

    return start


def test_a_collection_is_filled_searched_changed_and_emptied(
    shelf: Callable[..., Any], squares: dict[str, bytes]
) -> None:
    items = [
        {"id": name, "image": image, "metadata": {"n": n}}
        for n, (name, image) in enumerate(squares.items())
    ]

    async def scenario(client: AsyncClient) -> None:
        told = await client.upsert("photos", [*items, {"id": "bad", "image": b"no"}])
        assert [one["index"] for one in told] == [0, 1, 2, 3]
        assert "error" in told[3] and "error" not in told[0]
        hits = (await client.search("blue", collection="photos", k=2))["data"]
        assert hits[0]["id"] == "blue"
        hits = (await client.search(image=squares["red"], k=1, explain=True))["data"]
        assert (hits[0]["id"], hits[0]["explain"]["vector"]["rank"]) == ("red", 1)
        changed = await client.update_metadata("photos", {"red": {"tone": "warm"}, "x": {}})
        assert changed == {"object": "collection.items", "updated": 1, "missing": ["x"]}
        page = await client.list_items("photos", limit=2)
        assert {one["id"] for one in page["data"]} == {"green", "blue"}  # parts overtake each other
        rest = await client.list_items("photos", limit=2, cursor=page["next"])
        assert rest["data"][0]["metadata"] == {"n": 0, "tone": "warm"}
        assert rest["next"] is None
        assert await client.delete_items("photos", filter="n >= 1", dry_run=True) == 2
        assert await client.delete_items("photos", filter="n >= 1") == 2
        assert await client.delete_items("photos", ["red"]) == 1
        with pytest.raises(ServerError, match="either ids"):
            await client.delete_items("photos")

    shelf(scenario)


def test_a_report_is_a_job_whose_result_is_read(
    shelf: Callable[..., Any], squares: dict[str, bytes]
) -> None:
    async def scenario(client: AsyncClient) -> None:
        items = [{"id": f"{n}{i}", "image": squares[n]} for n in squares for i in range(2)]
        await client.upsert("photos", items)
        job = await client.report("photos", "copies")
        while job["finished"] is None:
            await asyncio.sleep(0.02)
            job = await client.job(job["id"])
        groups = {one["keep"]: [c["id"] for c in one["copies"]] for one in job["result"]["groups"]}
        assert groups == {f"{name}0": [f"{name}1"] for name in squares}

    shelf(scenario)


def test_many_images_are_sent_in_parts_and_returned_in_order(
    run: Callable[..., Any], squares: dict[str, bytes], toy_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "blue.png"
    path.write_bytes(squares["blue"])
    images: list[Image] = [squares["red"], path, squares["green"], str(path)] * 3
    seen: list[tuple[int, int]] = []

    async def scenario(client: AsyncClient) -> Any:
        return await client.embed_images(
            images, progress=lambda done, all_: seen.append((done, all_))
        )

    rows = run(scenario, part=5)
    assert np.allclose(rows, open_bundle(toy_bundle).embed_images(images), atol=1e-6)
    assert seen[-1] == (12, 12)
    assert len(seen) == 3


def test_the_frames_of_a_video_come_with_their_seconds(
    run: Callable[..., Any], toy_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(make_video([(RED, 1.0), (BLUE, 1.0)]))

    async def scenario(client: AsyncClient) -> None:
        seconds, rows = await client.embed_video(path, frames="scenes")
        assert seconds == [0.0, 1.0]
        assert rows.shape == (2, 16)
        words = await client.embed_texts(["red", "blue"])
        assert (rows @ words.T).argmax(axis=1).tolist() == [0, 1]
        assert len((await client.embed_video(path, frames=0.5))[0]) == 4

    run(scenario)


def test_texts_and_labels_are_returned(run: Callable[..., Any], squares: dict[str, bytes]) -> None:
    async def scenario(client: AsyncClient) -> None:
        rows = await client.embed_texts(["red", "blue"] * 50)
        assert rows.shape == (100, 16)
        entries = await client.zero_shot(list(squares.values()), ["red", "green", "blue"])
        assert [e["labels"][0]["label"] for e in entries] == list(squares)
        assert [e["index"] for e in entries] == [0, 1, 2]
        made = await client.put_classifier("c", examples={k: [v] for k, v in squares.items()})
        assert made["examples"] == 3
        entries = await client.zero_shot([squares["blue"]], classifier="c")
        assert entries[0]["labels"][0]["label"] == "blue"
        tags = await client.tag(list(squares.values()), classifier="c", top_k=1)
        assert [entry["tags"][0]["tag"] for entry in tags] == list(squares)
        assert [model["id"] for model in await client.models()] == ["toy"]

    run(scenario, part=2)


def test_a_bad_item_raises_or_becomes_nan(
    run: Callable[..., Any], squares: dict[str, bytes]
) -> None:
    images = [squares["red"], b"no image", squares["blue"]]

    async def scenario(client: AsyncClient) -> None:
        with pytest.raises(InputError, match="items 1 "):
            await client.embed_images(images)
        rows = await client.embed_images(images, errors="nan")
        assert np.isnan(rows).any(axis=1).tolist() == [False, True, False]
        with pytest.raises(InputError, match="wrap"):
            await client.embed_texts("red")

    run(scenario)


def test_an_error_has_the_server_s_message(run: Callable[..., Any]) -> None:
    async def scenario(client: AsyncClient) -> None:
        with pytest.raises(ServerError, match="model: model 'x' is not served") as caught:
            await client.embed_texts(["a"], model="x")
        assert (caught.value.status, caught.value.code) == (404, "model_not_found")
        assert caught.value.request_id

    run(scenario)


class Moody:
    """Answers with the given statuses before it passes a request on."""

    def __init__(self, app: Any, statuses: list[int], header: tuple[bytes, bytes]) -> None:
        self.app = app
        self.statuses = statuses
        self.header = header
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        if not self.statuses:
            await self.app(scope, receive, send)
            return
        start = {"status": self.statuses.pop(0), "headers": [self.header]}
        await send({"type": "http.response.start", **start})
        await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("status", [408, 429, 503])
def test_retryable_requests_are_retried_after_the_given_delay(
    run: Callable[..., Any], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float, *rest: Any) -> None:
        if seconds:
            waited.append(seconds)
        await real(0)

    async def scenario(client: AsyncClient) -> Any:
        monkeypatch.setattr("twinlens.client.asynchronous.asyncio.sleep", sleep)
        return await client.embed_texts(["a"])

    rows = run(scenario, lambda app: Moody(app, [status, status], (b"retry-after-ms", b"2000")))
    assert rows.shape == (1, 16)
    assert len([s for s in waited if 2.0 <= s <= 2.5]) == 2


@pytest.mark.parametrize(
    ("status", "header"),
    [
        (400, (b"x", b"y")),
        (500, (b"x-should-retry", b"false")),
        (503, (b"x-should-retry", b"false")),
    ],
)
def test_other_requests_are_not_retried(
    run: Callable[..., Any], status: int, header: tuple[bytes, bytes]
) -> None:
    moody: list[Moody] = []

    def wrap(app: Any) -> Moody:
        moody.append(Moody(app, [status] * 9, header))
        return moody[0]

    async def scenario(client: AsyncClient) -> None:
        with pytest.raises(ServerError) as caught:
            await client.embed_texts(["a"])
        assert caught.value.status == status

    run(scenario, wrap)
    assert moody[0].asked == 1


def test_the_synchronous_client_reports_an_unreachable_server() -> None:
    with Client("http://127.0.0.1:9", retries=0) as client, pytest.raises(ServerError) as caught:
        client.embed_texts(["a"])
    assert caught.value.code == "no_answer"
    client.close()  # closing twice is harmless


def test_importing_the_client_is_cheap() -> None:
    code = "import sys, twinlens; twinlens.Client; assert 'httpx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_query_is_embedded_behind_the_bundles_prompt(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def prefix(manifest: object, texts: list[str], purpose: str | None) -> list[str]:
        return [f"blue {text}" for text in texts] if purpose == "query" else texts

    monkeypatch.setattr("twinlens.serving.engine.model.add_prompt", prefix)

    async def scenario(client: AsyncClient) -> Any:
        asked = await client.embed_texts(["red"], input_type="query")
        return asked, await client.embed_texts(["blue red"]), await client.embed_texts(["red"])

    asked, prompted, plain = run(scenario)
    np.testing.assert_allclose(asked, prompted, atol=1e-6)
    assert not np.allclose(asked, plain, atol=1e-3)


def test_a_purpose_that_is_unknown_is_named(run: Callable[..., Any]) -> None:
    async def scenario(client: AsyncClient) -> Any:
        with pytest.raises(ServerError, match="input_type"):
            await client.embed_texts(["red"], input_type="question")

    run(scenario)
