"""`/healthz` (liveness), `/readyz` (readiness), `/metrics`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from twinlens.serving.openapi.declaration import answer, answer_of, declare
from twinlens.serving.openapi.schemas import STRING, array_of, component, means, open_object
from twinlens.serving.requests.answers import answer_json
from twinlens.serving.service import Service

HEALTH = component(
    "Health",
    open_object(
        ["status"],
        status=means(STRING, "`alive`, `ready` or `not ready`"),
        faults=means(array_of(STRING), "Why the server is not ready; with status 503 only"),
        models=means(
            {"type": "object", "additionalProperties": STRING},
            "The revision of each served model, by name; of `/readyz` only",
        ),
    ),
)


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz", **declare({200: answer(HEALTH, "The process answers")}, is_open=True))
    async def healthz() -> Response:
        """Answer 200 as long as the event loop runs."""
        return answer_json({"status": "alive"})

    @router.get(
        "/readyz",
        **declare(
            {200: answer(HEALTH, "Ready"), 503: answer(HEALTH, "Not ready, and why")}, is_open=True
        ),
    )
    async def readyz() -> Response:
        """Answer 200 when every worker is healthy, else 503 with the faults."""
        faults = service.find_faults()
        if faults:
            return answer_json({"status": "not ready", "faults": faults}, 503)
        models = {m.name: m.revision for m in service.registry.models()}
        return answer_json({"status": "ready", "models": models})

    @router.get("/metrics", **declare({200: answer_of("text/plain", "Prometheus' text format")}))
    async def metrics(request: Request) -> Response:
        """Return the metrics in Prometheus' text format."""
        service.authorize(request, "read")
        return Response(await service.render_metrics(), media_type=CONTENT_TYPE_LATEST)

    return router
