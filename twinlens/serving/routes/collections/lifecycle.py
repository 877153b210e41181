"""`/collections`: list, create, describe, delete and build collections."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.errors import NotFoundError
from twinlens.index.ann.kinds import list_kinds
from twinlens.index.ann.tuner import DEFAULT_TARGET
from twinlens.index.maintenance import IndexPlan
from twinlens.index.stats import read_stats
from twinlens.serving.background.collection_maintenance import CollectionJobs
from twinlens.serving.collections.metrics import read_metrics
from twinlens.serving.collections.served import ServedCollection
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.jobs import Job
from twinlens.serving.openapi.declaration import Name, answer, body_of, declare, json_of
from twinlens.serving.openapi.request_shapes import names_of, request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    DELETED,
    FLAG,
    MODEL,
    STRING,
    STRING_OR_NULL,
    TEXT,
    array_of,
    closed_object,
    component,
    list_of,
    means,
    one_of,
)
from twinlens.serving.requests.answers import answer_json
from twinlens.serving.requests.fields import Fields, parse_optional_object
from twinlens.serving.routes.classifier_shapes import JOB_STARTED
from twinlens.serving.routes.collections.items import build_item_router, build_items_router
from twinlens.serving.routes.collections.upserts import build_upserts_router
from twinlens.serving.routes.endpoint import find_routers
from twinlens.serving.routes.search import build_search_router
from twinlens.serving.routes.search_shapes import RECALL, RECALL_STATE
from twinlens.serving.service import Service

MOST_QUERIES = 2000  # sent by a client for tuning
COLLECTION = component(
    "Collection",
    closed_object(
        [
            *("object", "name", "count", "dim", "bundle"),
            *("recall", "recall_interval", "recall_state", "exact", "bytes", "epoch"),
        ],
        object={"const": "collection"},
        name=means(STRING, "The name to give as `collection`"),
        count=means(COUNT, "How many items it holds"),
        dim=means(COUNT, "Numbers in each of its embeddings"),
        bundle=means(
            closed_object(
                ["name", "revision"],
                name=means(STRING, "Name of the model that it was created for"),
                revision=means(STRING, "Revision of the bundle; searches need a model of it"),
            ),
            "The bundle that its embeddings were made with",
        ),
        recall=RECALL,
        recall_interval=means(
            {
                "type": "object",
                "additionalProperties": array_of(
                    {"type": ["number", "null"]}, minItems=2, maxItems=2
                ),
            },
            "Lower and upper end of the 99 % interval of each recall; nulls: as in `recall`",
        ),
        recall_state=RECALL_STATE,
        exact=means(FLAG, "Whether every search compares all items, without an index"),
        warning=means(
            STRING_OR_NULL,
            "Says that its pictures look unlike those that its model knows, or that an index "
            "cannot be opened, so that searches are exact and slower",
        ),
        bytes=means(COUNT, "Bytes of its files on disk"),
        epoch=means(COUNT, "Number of its last change; each change raises it"),
    ),
)
COLLECTIONS = list_of("CollectionList", COLLECTION, "The collections, by name")
NEW_COLLECTION = request_object(
    [], model=means(MODEL, "Model whose embeddings it will hold; default: the server's first")
)
BUILD = component(
    "CollectionBuild",
    request_object(
        [],
        kind=means(
            one_of(*list_kinds().split(", ")),
            "Kind of index; default `auto`: by the number of items and the memory",
        ),
        target=means(
            {"type": "number", "minimum": 0.5, "maximum": 0.999},
            f"Recall@10 that the index is tuned to; default {DEFAULT_TARGET}",
        ),
        compact=means(
            FLAG,
            "First rewrite segments with many deleted items and join small ones; default false",
        ),
        queries=means(
            array_of(TEXT, minItems=1, maxItems=MOST_QUERIES),
            "Typical queries to tune the index on; default: captions, or words of the metadata",
        ),
    ),
)


def build_routers(service: Service, store: CollectionStore) -> list[APIRouter]:
    """Return all routers of collections."""
    jobs = CollectionJobs(service, store)
    service.metrics.watch(lambda: read_metrics(store))
    return [
        build_search_router(service, store),
        build_collections_router(service, store),
        build_work_router(service, store, jobs),
        build_upserts_router(service, store, jobs),
        build_items_router(service, store, jobs),
        build_item_router(service, store),
        *find_routers("build_store_router", service, store),
    ]


def build_collections_router(service: Service, store: CollectionStore) -> APIRouter:
    """Return the router that lists, creates, describes and deletes collections."""
    router = APIRouter(tags=["collections"])

    @router.get("/collections", **declare({200: answer(COLLECTIONS, "The collections")}))
    async def get_all(request: Request) -> Response:
        """List the collections."""
        service.authorize(request, "read")
        data = []
        for one in store.all():
            with suppress(NotFoundError):  # it is being removed
                data.append(await _describe(one))
        return answer_json({"object": "list", "data": data})

    @router.put(
        "/collections/{name}",
        **declare(
            {201: answer(COLLECTION, "The new collection")},
            body_of(json_of(NEW_COLLECTION, empty={}), required=False),
        ),
    )
    async def put(name: Name, request: Request) -> Response:
        """Create an empty collection for a model's embeddings."""
        call = service.begin(request, "write")
        async with service.receive(request, call) as body:
            fields = parse_optional_object(body, request.headers.get("content-type", ""))
            fields.only(*names_of(NEW_COLLECTION))
            with service.registry.lease(fields.text("model")) as model:
                encoder = model.encoder
                served = await asyncio.to_thread(
                    store.create,
                    name,
                    dim=encoder.embedding_dim,
                    bundle=model.name,
                    revision=model.revision,
                    source=service.registry.find(model.name).source,
                )
        return answer_json(await _describe(served), 201)

    @router.get("/collections/{name}", **declare({200: answer(COLLECTION, "The collection")}))
    async def get(name: Name, request: Request) -> Response:
        """Describe a collection: its size and its measured recall."""
        service.authorize(request, "read")
        return answer_json(await _describe(store.find(name)))

    @router.delete("/collections/{name}", **declare({200: answer(DELETED, "No longer served")}))
    async def delete(name: Name, request: Request) -> Response:
        """Delete a collection that was created here; stop serving one given by folder."""
        service.authorize(request, "write")
        store.find(name)
        await asyncio.to_thread(store.remove, name)
        return answer_json({"object": "collection", "name": name, "deleted": True})

    return router


def build_work_router(service: Service, store: CollectionStore, jobs: CollectionJobs) -> APIRouter:
    """Return the router that builds indexes."""
    router = APIRouter(tags=["collections"])

    @router.post(
        "/collections/{name}/build",
        **declare(
            {202: answer(JOB_STARTED, "A job that builds it")},
            body_of(
                json_of(BUILD, default={}, graph={"kind": "hnsw", "target": 0.9}), required=False
            ),
        ),
    )
    async def build(name: Name, request: Request) -> Response:
        """Compact, index and tune a collection as a job (202); searches and upserts continue."""
        call = service.begin(request, "write")
        served = store.find(name)
        async with service.receive(request, call) as body:
            fields = parse_optional_object(body, request.headers.get("content-type", ""))
            job = _start(jobs, served, fields, service)
        return answer_json({"job": job.describe()}, 202)

    return router


def _start(jobs: CollectionJobs, served: ServedCollection, fields: Fields, service: Service) -> Job:
    fields.only(*names_of(BUILD))
    target = fields.number("target", 0.5, 0.999)
    plan = IndexPlan(fields.text("kind") or "auto", DEFAULT_TARGET if target is None else target)
    longest = service.settings.limits.text_characters
    queries = fields.texts("queries", MOST_QUERIES, longest) or []
    return jobs.start(served, plan, queries, compact=fields.flag("compact"))


async def _describe(served: ServedCollection) -> dict[str, Any]:
    stats = await served.read(read_stats)
    head = stats["bundle"]
    return {
        "object": "collection",
        "name": served.name,
        "count": stats["count"],
        "dim": stats["dim"],
        "bundle": {"name": head["name"], "revision": head["revision"]},
        "recall": stats["recall"],
        "recall_interval": stats["recall_interval"],
        "recall_state": stats["recall_state"],
        "exact": stats["exact"],
        "warning": _warn(stats),
        "bytes": stats["bytes"],
        "epoch": stats["epoch"],
    }


def _warn(stats: dict[str, Any]) -> str | None:
    """Return a warning: pictures unlike those the model knows, an index that cannot be opened."""
    obstacles = {part["obstacle"] for part in stats["segments"] if part.get("obstacle")}
    told = [f"searched exactly, since an index cannot be opened: {one}" for one in obstacles]
    domain = (stats["domain"] or {}).get("warning")
    return "; ".join([*([domain] if domain else []), *sorted(told)]) or None
