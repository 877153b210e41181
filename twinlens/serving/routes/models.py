"""`/v1/models`: what is served, in OpenAI's shape with Twinlens' own facts beside it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from twinlens.serving.answers import dump
from twinlens.serving.registry import Served
from twinlens.serving.service import Service


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["models"])

    @router.get("/v1/models")
    async def models() -> Response:
        """List the models, default first."""
        data = [
            describe_model(name, service.registry.find(name)) for name in service.registry.names
        ]
        return _json({"object": "list", "data": data})

    @router.get("/v1/models/{name}")
    async def model(name: str) -> Response:
        """Describe one model."""
        return _json(describe_model(name, service.registry.find(name)))

    return router


def describe_model(name: str, served: Served) -> dict[str, Any]:
    """Return what a client may know of a model."""
    manifest = served.default.encoder.manifest
    return {
        "id": name,
        "object": "model",
        "created": served.created,
        "owned_by": "twinlens",
        "bundle": manifest.name,
        "revision": manifest.revision,
        "embedding_dim": manifest.embedding_dim,
        "dimensions": [*manifest.matryoshka_dims, manifest.embedding_dim],
        "any_dimension": manifest.any_dimension,
        "modalities": [
            kind
            for kind, spec in (("image", manifest.image), ("text", manifest.text))
            if spec is not None
        ],
        "precisions": list(served.slots),
        "provider": served.default.encoder.provider,
        "similarity": manifest.similarity.kind,
        "templates": list(manifest.templates),
        "has_attention": manifest.attention is not None,
    }


def _json(body: dict[str, Any]) -> Response:
    return Response(dump(body), media_type="application/json")
