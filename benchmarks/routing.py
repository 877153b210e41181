"""The cost of routing: `/embed` with a cached text, in three ways, inside one process.

    python benchmarks/routing.py [--quick] [--json FILE]

Without sockets and the layers around every request, so that only the routing differs: the function
itself as hot paths have it, the same function through FastAPI's layers, and FastAPI with a pydantic
model for the body and one for the answer. CPU time of one request, alternating, medians.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from report import Report, parse_arguments, time_interleaved
from starlette.types import ASGIApp

import twinlens
from twinlens.serving.app import build_app
from twinlens.serving.routes.endpoint import Dispatch
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

BODY = json.dumps({"texts": ["a red heart"]}).encode()
BATCH = 50  # requests per measured call


class Texts(BaseModel):
    """The body, as a pydantic model."""

    texts: list[str]
    model: str | None = None
    dimensions: int | None = None


class Rows(BaseModel):
    """The answer, as a pydantic model."""

    embeddings: list[list[float]]
    model: str
    revision: str
    usage: dict[str, int]


def main() -> None:
    """Measure each way and report it."""
    arguments = parse_arguments(__doc__)
    service = Service(ServerSettings(), lambda source, _: twinlens.open_bundle(source))
    service.load("builtin", "builtin")
    app = build_app(service, [build_typed_router(service)])
    loop = asyncio.new_event_loop()
    ways: dict[str, Callable[[], object]] = {
        "its function alone": _ask(loop, Dispatch(app, app.state.hot_routes), "/embed"),
        "through FastAPI": _ask(loop, Dispatch(app, {}), "/embed"),
        "FastAPI, pydantic in and out": _ask(loop, Dispatch(app, {}), "/typed"),
    }
    seconds = time_interleaved(ways, 40 if arguments.quick else 400)
    report = Report("routing")
    for way, spent in seconds.items():
        report.row(way=way, microseconds=round(spent / BATCH * 1e6, 1))
    alone, framework = seconds["its function alone"], seconds["through FastAPI"]
    report.bar("times_cheaper_alone", framework / alone, 1.25, framework >= 1.25 * alone)
    report.finish(arguments.json)
    service.close()
    loop.close()


def build_typed_router(service: Service) -> APIRouter:
    """Return a route for the same answer that leaves body and answer to pydantic."""
    router = APIRouter()

    @router.post("/typed")
    async def embed(body: Texts) -> Rows:
        with service.registry.lease(body.model) as model:
            known = [service.cache.get(model.space, text) for text in body.texts]
            rows = [found[0].tolist() for found in known if found is not None]
            return Rows(
                embeddings=rows, model=model.name, revision=model.revision, usage={"tokens": 4}
            )

    return router


def _ask(loop: asyncio.AbstractEventLoop, app: ASGIApp, path: str) -> Callable[[], object]:
    """Return a function that sends a batch of requests, after a warm-up."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": BODY}

    async def send(message: Any) -> None:
        assert message.get("status", 200) == 200, message

    async def run() -> None:
        for _ in range(BATCH):
            headers = [(b"content-type", b"application/json"), (b"host", b"x")]
            scope: dict[str, Any] = {
                "type": "http",
                "method": "POST",
                "path": path,
                "raw_path": path.encode(),
                "query_string": b"",
                "headers": headers,
                "state": {},
            }
            await app(scope, receive, send)

    def ask() -> None:
        loop.run_until_complete(run())

    ask()
    return ask


if __name__ == "__main__":
    main()
