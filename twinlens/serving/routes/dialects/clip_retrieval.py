"""clip-retrieval: `POST /knn-service` and `GET /indices-list`, over the served collections.

Its client sends no Content-Type, so a body without one is read as JSON; browsers always send one.
Options beyond a search (safety, aesthetics) have no effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.errors import InputError
from twinlens.index.hits import Hit
from twinlens.serving.call import Call
from twinlens.serving.collections.search import SearchParams
from twinlens.serving.collections.served import ServedCollection
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.openapi.declaration import answer, declare, json_body
from twinlens.serving.openapi.request_shapes import exactly_one, open_request_object
from twinlens.serving.openapi.schemas import (
    FLAG,
    IMAGE,
    NUMBER,
    STRING,
    TEXT,
    Schema,
    array_of,
    component,
    means,
    one_of,
    open_object,
)
from twinlens.serving.requests.answers import answer_json, dump
from twinlens.serving.requests.fields import Fields, parse_object
from twinlens.serving.requests.query_terms import VECTOR, QueryTerm, read_term
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.routes.search import answer_search, show_hit
from twinlens.serving.routes.search_request import MOST_HITS, SearchRequest
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits

_DEFAULT = 40  # hits, as its own client asks for
_ALIKE = 0.95  # cosine from which a hit counts as a duplicate
_QUERIES: dict[str, Schema] = {
    "text": means(TEXT, "A text to search for"),
    "image": IMAGE,
    "image_url": means(IMAGE, "As `image`"),
    "embedding_input": VECTOR,
}
_TERMS = {"text": "text", "image": "image", "image_url": "image", "embedding_input": "vector"}
REQUEST = component(
    "KnnRequest",
    open_request_object(
        [],
        exactly_one(*_QUERIES),
        **_QUERIES,
        indice_name=means(STRING, "Name of a collection; may be left out if there is only one"),
        modality=means(one_of("image", "text"), "No effect: every item is searched"),
        num_images=means(
            {"type": "integer", "minimum": 1, "maximum": MOST_HITS},
            f"How many items to return; default {_DEFAULT}",
        ),
        deduplicate=means(
            FLAG,
            f"Leave out items with a cosine of {_ALIKE} or more to a better one; default false",
        ),
    ),
)
ANSWER = component(
    "KnnAnswer",
    array_of(
        open_object(
            ["id", "similarity", "url"],
            id=means(STRING, "Id of the item; its metadata are further fields"),
            similarity=means(NUMBER, "Cosine to the query"),
            url=means(STRING, "URL of its thumbnail, unless the metadata have a `url`"),
        )
    ),
)


@dataclass(frozen=True)
class KnnRequest:
    """A request for the most similar items."""

    term: QueryTerm
    params: SearchParams
    collection: str | None


def build_store_router(service: Service, store: CollectionStore) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["clip-retrieval"], route_class=HotRoute)

    @router.get("/indices-list", **declare({200: answer(array_of(STRING), "Their names")}))
    async def list_indices(request: Request) -> Response:
        """List the names of the collections, in clip-retrieval's shape."""
        service.authorize(request, "read")
        return answer_json([one.name for one in store.all()])

    @router.post(
        "/knn-service",
        **declare(
            {200: answer(ANSWER, "The most similar items, best first")},
            json_body(REQUEST, words={"text": "red", "indice_name": "example", "num_images": 2}),
        ),
    )
    async def search(request: Request) -> Response:
        """Search a collection, in clip-retrieval's shape."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            media = request.headers.get("content-type", "application/json")
            parsed = read_request(parse_object(body, media), service.settings.limits)
            served = store.find(parsed.collection)
            return await _search(service, served, parsed, call, str(request.base_url))

    return router


def read_request(fields: Fields, limits: Limits) -> KnnRequest:
    """Return the request; its client sends `null` for the kinds of query that it does not use."""
    given = [name for name in _QUERIES if fields.has(name)]
    if len(given) != 1:
        raise InputError(f"give exactly one of {', '.join(_QUERIES)}", field="text")
    fields.text("modality", ("image", "text"))
    term = {_TERMS[given[0]]: fields.any(given[0])}
    return KnnRequest(
        read_term(term, given[0], limits.text_characters),
        SearchParams(
            k=fields.integer("num_images", 1, MOST_HITS) or _DEFAULT,
            group=_ALIKE if fields.flag("deduplicate") else None,
        ),
        fields.text("indice_name"),
    )


async def _search(
    service: Service, served: ServedCollection, parsed: KnnRequest, call: Call, base: str
) -> Response:
    query = SearchRequest([parsed.term], parsed.params, served.name, None)
    async with answer_search(service, served, query, call) as (model, found):
        return service.reply(dump([_show(served, hit, base) for hit in found.hits]), model, call)


def _show(served: ServedCollection, hit: Hit, base: str) -> dict[str, Any]:
    """Return a hit in clip-retrieval's shape: metadata, and the URL of a thumbnail."""
    shown = show_hit(served, hit)
    url = f"{base.rstrip('/')}{shown['thumbnail']}"
    return {"url": url, **shown["metadata"], "id": hit.id, "similarity": hit.score}
