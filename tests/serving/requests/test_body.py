"""Bodies: refused when too large, cancelled when too slow, bounded in total."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from twinlens.serving.settings import Limits, ServerSettings, Watch


async def post(http: Any, text: str) -> Any:
    return await http.post("/embed", json={"texts": [text]})


def test_a_stream_is_refused_as_soon_as_it_exceeds_the_limit(
    run_server: Callable[..., Any],
) -> None:
    async def scenario(http: Any, service: Any) -> None:
        sent = 0

        async def body() -> Any:
            nonlocal sent
            for _ in range(1000):
                sent += 1
                yield b"x" * 500

        answer = await http.post("/embed", content=body(), headers={"content-type": "image/png"})
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "body_too_large"
        assert sent <= 4
        assert service.bodies.held_bytes == 0

    run_server(scenario, ServerSettings(limits=Limits(body_bytes=1000)))


def test_a_body_that_does_not_arrive_is_a_408(run_server: Callable[..., Any]) -> None:
    async def scenario(http: Any, service: Any) -> None:
        async def body() -> Any:
            yield b"{"
            await asyncio.sleep(20)

        answer = await http.post("/embed", content=body())
        assert answer.status_code == 408
        assert answer.json()["error"]["code"] == "body_timeout"
        assert service.bodies.held_bytes == 0
        assert (await post(http, "next")).status_code == 200

    settings = ServerSettings(limits=Limits(body_seconds=0.1), watch=Watch(interval=0.05))
    run_server(scenario, settings)


def test_the_bytes_of_concurrent_bodies_are_bounded(
    run_server: Callable[..., Any], encoder: Any
) -> None:
    async def scenario(http: Any, service: Any) -> None:
        encoder.gate.clear()
        waiting = asyncio.create_task(post(http, "x" * 500))
        while service.bodies.held_bytes <= 500:
            await asyncio.sleep(0.005)
        assert (await post(http, "y" * 500)).status_code == 429
        encoder.gate.set()
        assert (await waiting).status_code == 200
        assert service.bodies.held_bytes == 0
        assert (await post(http, "y" * 500)).status_code == 200

    run_server(scenario, ServerSettings(limits=Limits(bytes_in_flight=800)))
