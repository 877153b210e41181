"""A worker thread dies in the middle of its work: who notices, when, and what happens next.

The server runs in this process, since a thread can be killed only from inside.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import httpx
from report import Report

from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.launch import build_opener
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings


def drill(report: Report, bundle: str, *, quick: bool) -> None:
    """Kill the text worker several times and keep sending requests."""
    threading.excepthook = lambda arguments: None  # the deaths are intended; no traceback for them
    unready, recovered, after = asyncio.run(_run(bundle, deaths=3 if quick else 20))
    report.row(drill="worker", what="slowest notice, s", value=max(unready))
    report.row(drill="worker", what="slowest recovery, s", value=max(recovered))
    report.bar("worker_unready_seconds", max(unready), 2.0, max(unready) <= 2.0)
    report.bar("worker_recovery_seconds", max(recovered), 2.0, max(recovered) <= 2.0)
    report.bar("worker_answers_after", min(after), 200, set(after) == {200})


async def _run(bundle: str, *, deaths: int) -> tuple[list[float], list[float], list[int]]:
    settings = ServerSettings()
    service = Service(settings, build_opener(settings))
    service.load("model", bundle)
    app = build_app(service)
    encoder: Any = service.registry.models()[0].encoder
    encode = encoder.encode_tokens
    unready, recovered, after = [], [], []
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(add_middleware(app)), base_url="http://s"
        ) as http,
    ):
        for i in range(deaths):

            def die(tokens: Any) -> Any:
                encoder.encode_tokens = encode
                raise SystemExit

            encoder.encode_tokens = die
            began = time.monotonic()
            killer = asyncio.create_task(http.post("/embed", json={"texts": [f"text {i}"]}))
            unready.append(await _wait_for_readiness(http, 503, began))
            recovered.append(await _wait_for_readiness(http, 200, began))
            await killer
            after.append((await http.post("/embed", json={"texts": [f"next {i}"]})).status_code)
    return unready, recovered, after


async def _wait_for_readiness(http: httpx.AsyncClient, status: int, began: float) -> float:
    """Return how long after `began` /readyz answered so; gives up after ten seconds."""
    while time.monotonic() < began + 10:
        if (await http.get("/readyz")).status_code == status:
            break
        await asyncio.sleep(0.002)
    return time.monotonic() - began
