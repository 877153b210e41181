"""What infinity's client asks beside `/embeddings`: `/models`, `/health`, `/embeddings_image`."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.serving.openapi.declaration import PICTURE, answer, declare
from twinlens.serving.openapi.schemas import (
    COUNT,
    NUMBER,
    STRING,
    array_of,
    component,
    list_of,
    open_object,
)
from twinlens.serving.requests.answers import dump
from twinlens.serving.routes.dialects import openai
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.service import Service

_STATS = ("queue_fraction", "queue_absolute", "results_pending", "batch_size")
MODEL_SHAPE = component(
    "InfinityModel",
    open_object(
        ["id", "object", "owned_by", "stats", "capabilities"],
        id=STRING,
        object={"const": "model"},
        owned_by={"const": "infinity"},
        created=COUNT,
        backend=STRING,
        capabilities=array_of(STRING),
        stats=open_object([*_STATS], **dict.fromkeys(_STATS, NUMBER)),
    ),
)
ALIVE = component("Alive", open_object(["unix"], unix=NUMBER))


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["infinity"], route_class=HotRoute)

    @router.post("/embeddings_image", **openai.declare_embeddings(one={"input": [PICTURE]}))
    async def embed_images(request: Request) -> Response:
        """Embed images at infinity's former path for them."""
        return await openai.answer_request(service, request, "image")

    @router.get("/models", **declare({200: answer(list_of(MODEL_SHAPE), "Default first")}))
    async def models(request: Request) -> Response:
        """List the models in infinity's shape, with how full their queues are."""
        service.authorize(request, "read")
        data = [_describe(service, name) for name in service.registry.names]
        return _json({"object": "list", "data": data})

    @router.get("/health", **declare({200: answer(ALIVE, "The process answers")}, is_open=True))
    async def health() -> Response:
        """Answer 200 as long as the event loop runs; /readyz says more."""
        return _json({"unix": time.time()})

    return router


def _describe(service: Service, name: str) -> dict[str, object]:
    served = service.registry.find(name)
    queues = [tower.batcher for tower in served.default.towers]
    held, room = (sum(q.held for q in queues), sum(q.capacity for q in queues))
    return {
        "id": name,
        "object": "model",
        "owned_by": "infinity",  # its client accepts no other
        "created": served.created,
        "backend": "onnx",
        "capabilities": ["embed", "rerank"],
        "stats": {
            "queue_fraction": held / room,
            "queue_absolute": held,
            "results_pending": held,
            "batch_size": service.settings.batching.text_batch,
        },
    }


def _json(body: dict[str, object]) -> Response:
    return Response(dump(body), media_type="application/json")
