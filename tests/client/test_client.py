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

from twinlens.bundle.encoder import open_bundle
from twinlens.client import AsyncClient, Client, ServerError
from twinlens.client.plans import Image
from twinlens.errors import InputError
from twinlens.serving.app import add_middleware, build_app
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
