"""`/collections/{name}/map`: items as points in a plane, with values, scores and clusters."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from twinlens.bundle.tagging.lexicon import NAME as LEXICON
from twinlens.errors import TwinlensError
from twinlens.index.gallery.projection_2d import MOST_POINTS
from twinlens.serving.call import Call, Priority
from twinlens.serving.collections.maps import (
    FEWEST,
    NEIGHBOURS,
    PCA,
    CollectionMap,
    Namer,
    namer_of,
    read_values,
    score_points,
)
from twinlens.serving.collections.served import ServedCollection
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.openapi.declaration import Name, answer, declare, json_body
from twinlens.serving.openapi.request_shapes import names_of, request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    FLAG,
    NULL,
    NUMBER,
    STRING,
    array_of,
    closed_object,
    component,
    either,
    means,
    one_of,
)
from twinlens.serving.requests.answers import answer_json
from twinlens.serving.requests.fields import parse_object
from twinlens.serving.requests.query_terms import COLLECTION_MODEL, TERM, read_term
from twinlens.serving.routes.search import embed_terms, model_for
from twinlens.serving.routes.tag import find_vocabulary
from twinlens.serving.service import Service

log = logging.getLogger("twinlens.serving")

LAYOUTS = (PCA, NEIGHBOURS)
_POINTS = 2000  # of a map, where the client names no number
MAP = component(
    "CollectionMap",
    closed_object(
        ["object", "collection", "method", "variance_share", "total", "ids", "points"],
        object={"const": "map"},
        collection=means(STRING, "Name of the collection"),
        method=means(one_of(*LAYOUTS), "How these points were computed"),
        refining=means(FLAG, "Whether the layout by neighbours is being computed: ask again later"),
        variance_share=means(NUMBER, "Variance that the two components explain, 0 to 1"),
        total=means(
            COUNT, "Items of the collection; if more than `points`, a random sample is shown"
        ),
        ids=means(array_of(STRING), "Id of the item at each point"),
        points=means(
            array_of(array_of(NUMBER, minItems=2, maxItems=2)), "x and y of each point, -1 to 1"
        ),
        clusters=means(
            array_of(
                closed_object(
                    ["names", "count", "at"],
                    names=means(array_of(STRING), "Words that describe it; empty if unknown"),
                    count=means(COUNT, "Points in it"),
                    at=means(array_of(NUMBER), "x and y of its centre"),
                )
            ),
            f"Groups of similar items, from {FEWEST} points on; of the layout by neighbours only",
        ),
        labels=means(array_of(COUNT), "Number of each point's cluster, from 0"),
    ),
)
VALUES = component(
    "MapValues",
    closed_object(
        ["object", "values"],
        object={"const": "map.values"},
        values=means(
            {"type": "array", "items": {}},
            "Value of the field at each point; null where it has none",
        ),
    ),
)
QUERY = component(
    "MapQuery",
    request_object(
        ["query"],
        query=means(TERM, "What to compare each point with: a text or a term"),
        points=means(
            {"type": "integer", "minimum": 1, "maximum": MOST_POINTS},
            f"`points` of the map; default {_POINTS}",
        ),
        layout=means(one_of(*LAYOUTS), f"`layout` of the map; default `{PCA}`"),
        model=COLLECTION_MODEL,
    ),
)
SCORES = component(
    "MapScores",
    closed_object(
        ["object", "scores"],
        object={"const": "map.scores"},
        scores=means(array_of(either(NUMBER, NULL)), "Cosine at each point; null: deleted since"),
    ),
)
PointLimit = Annotated[
    int, Query(description=f"How many points at most, up to {MOST_POINTS}; default {_POINTS}")
]
MapLayout = Annotated[
    str,
    Query(
        pattern=f"^({'|'.join(LAYOUTS)})$",
        description=f"`{PCA}`, the default: principal components; `{NEIGHBOURS}`: similar items "
        "together, computed in the background",
    ),
]
FieldQuery = Annotated[str, Query(description="Name of a metadata field")]


def build_store_router(service: Service, store: CollectionStore) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["collections"])
    tasks: set[asyncio.Task[None]] = set()

    @router.get("/collections/{name}/map", **declare({200: answer(MAP, "The map")}))
    async def get_map(
        name: Name, request: Request, points: PointLimit = _POINTS, layout: MapLayout = PCA
    ) -> Response:
        """Return items as points in a plane: principal components, or neighbours when ready."""
        service.authorize(request, "read")
        served, most = store.find(name), _clamp(points)
        shown = await _find(served, most, layout)
        if layout == NEIGHBOURS and shown.method == PCA and most not in served.map_cache.refining:
            served.map_cache.refining.add(most)
            task = asyncio.create_task(_refine(service, served, most))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        told = _show(served, shown) | {"refining": most in served.map_cache.refining}
        return answer_json(told)

    @router.get("/collections/{name}/map/values", **declare({200: answer(VALUES, "The values")}))
    async def get_values(
        name: Name,
        request: Request,
        field: FieldQuery,
        points: PointLimit = _POINTS,
        layout: MapLayout = PCA,
    ) -> Response:
        """Return the value of a metadata field for each point of a map, in the map's order."""
        service.authorize(request, "read")
        served = store.find(name)
        shown = await _find(served, _clamp(points), layout)
        hidden = field == "path"  # of the server's files
        values = await served.read(lambda one: [] if hidden else read_values(one, shown, field))
        return answer_json({"object": "map.values", "values": values})

    @router.post(
        "/collections/{name}/map/scores",
        **declare({200: answer(SCORES, "The cosines")}, json_body(QUERY, text={"query": "red"})),
    )
    async def get_scores(name: Name, request: Request) -> Response:
        """Return the cosine of each point of a map to a query, in the map's order."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            fields = parse_object(body, request.headers.get("content-type", ""))
            fields.only(*names_of(QUERY))
            term = read_term(
                fields.any("query"), "query", service.settings.limits.text_characters, stored=True
            )
            layout = fields.text("layout", LAYOUTS) or PCA
            most = _clamp(fields.integer("points", 1, MOST_POINTS) or _POINTS)
            served = store.find(name)
            with service.registry.lease(model_for(service, served, fields.text("model"))) as model:
                row = await embed_terms(service, served, model, [term], call)
            shown = await _find(served, most, layout)
            scores = await served.read(lambda one: score_points(one, shown, row))
        return answer_json({"object": "map.scores", "scores": scores})

    return router


async def _find(served: ServedCollection, most: int, layout: str) -> CollectionMap:
    """Return the best map that is ready."""
    return await served.read(lambda _: _find_now(served, most, layout))


def _find_now(served: ServedCollection, most: int, layout: str) -> CollectionMap:
    if layout == NEIGHBOURS:
        refined = served.map_cache.find_refined(served.collection, most)
        if refined is not None:
            return refined
    if not served.map_cache.has_projected(served.collection, most):
        began = time.perf_counter()
        served.map_cache.project(served.collection, most)
        served.maps.add(time.perf_counter() - began)
    return served.map_cache.project(served.collection, most)


async def _refine(service: Service, served: ServedCollection, most: int) -> None:
    """Compute the layout of neighbours in the background; a failure keeps the old map."""
    try:
        has_groups = min(served.snapshot().live_count, most) >= FEWEST
        name = await _read_namer(service, served) if has_groups else None
        await served.examine(
            lambda one: served.map_cache.refine(one, most, name, lambda: not served.is_closing)
        )
    except Exception:
        log.exception("the map of collection %s was not refined", served.name)
    finally:
        served.map_cache.refining.discard(most)


async def _read_namer(service: Service, served: ServedCollection) -> Namer | None:
    """Return a function that names clusters by words of the lexicon; None without a text tower."""
    try:
        name = model_for(service, served, None)
    except TwinlensError:  # its bundle is not served: there are no words to compare with
        return None
    with service.registry.lease(name) as model:
        if model.texts is None:
            return None
        call = Call(model.clock, float("inf"), pixels_left=0, priority=Priority.BACKGROUND)
        words = (await find_vocabulary(service, model, LEXICON, call)).bank
        return namer_of(words.names, words.rows)


def _show(served: ServedCollection, shown: CollectionMap) -> dict[str, Any]:
    plane = shown.plane
    clusters = [
        {"names": one.names, "count": one.count, "at": [round(part, 4) for part in one.at]}
        for one in shown.clusters
    ]
    told: dict[str, Any] = {
        "object": "map",
        "collection": served.name,
        "method": shown.method,
        "variance_share": round(plane.share, 4),
        "total": plane.total,
        "ids": plane.ids,
        "points": plane.points.round(4),
    }
    return told | ({"clusters": clusters, "labels": shown.labels} if clusters else {})


def _clamp(points: int) -> int:
    return max(1, min(points, MOST_POINTS))
