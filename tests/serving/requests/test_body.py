"""Bodies: refused when too large, cancelled when too slow, bounded in total."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx

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


def test_one_client_holds_no_more_than_half_of_the_bytes_while_its_bodies_arrive(
    listen: Callable[[ServerSettings], Any],
) -> None:
    server = listen(ServerSettings(limits=Limits(bytes_in_flight=1_000_000, body_bytes=400_000)))
    lines = ["POST /embed HTTP/1.1", "Host: x", "Content-Type: application/json"]
    head = "\r\n".join([*lines, "Content-Length: 390000", "", ""]).encode()
    greedy = [server.connect() for _ in range(4)]
    for sock in greedy:
        sock.sendall(head + b" " * 300_000)
    time.sleep(0.2)
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(transport=transport) as http:
        body = b" " * 300_000 + b'{"texts": ["red"]}'
        headers = {"content-type": "application/json"}
        answer = http.post(f"{server.url}/embed", content=body, headers=headers)
    assert answer.status_code == 200
    for sock in greedy:
        sock.close()
