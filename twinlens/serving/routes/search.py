"""`POST /search`: items by similarity to a text, an image, a vector, or a weighted sum of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from starlette.responses import Response

from twinlens.bundle.calibration.calibration import CosineVerdict
from twinlens.errors import ConflictError, InputError
from twinlens.index.collection import Collection
from twinlens.index.hits import Hit
from twinlens.index.query.query import QueryPart, embed_query
from twinlens.index.searching.doubt import judge_hits
from twinlens.index.searching.request import SearchAnswer
from twinlens.index.stats import report_recall
from twinlens.serving.call import Call
from twinlens.serving.collections.served import ServedCollection
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.embedding import embed_items
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.openapi.declaration import (
    PICTURE,
    RAW_IMAGE,
    answer,
    body_of,
    declare,
    json_of,
)
from twinlens.serving.requests.answers import dump
from twinlens.serving.requests.query_terms import QueryTerm
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.routes.search_request import REQUEST, SearchRequest, read_request
from twinlens.serving.routes.search_shapes import ANSWER
from twinlens.serving.service import Service

BUNDLE_ATTEMPTS = 3  # a collection changes its bundle rarely


def build_search_router(service: Service, store: CollectionStore) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["collections"], route_class=HotRoute)

    @router.post(
        "/search",
        **declare(
            {200: answer(ANSWER, "The most similar items, best first")},
            body_of(
                json_of(
                    REQUEST,
                    words={"collection": "example", "query": "red", "k": 1},
                    image={"collection": "example", "image": PICTURE, "filter": 'tone = "warm"'},
                    vector={"collection": "example", "vector": [1.0, *[0.0] * 15], "exact": True},
                    sum={
                        "collection": "example",
                        "query": ["red", {"item": "blue", "weight": -0.5}],
                        "threshold": 0.0,
                        "group": 0.95,
                    },
                    hybrid={
                        "collection": "example",
                        "query": "red",
                        "words": "square",
                        "fusion": "weights",
                        "offset": 1,
                        "explain": True,
                    },
                    various={
                        "collection": "example",
                        "query": "red",
                        "one_per": "tone",
                        "diversity": 0.3,
                    },
                ),
                RAW_IMAGE,
            ),
        ),
    )
    async def search(request: Request) -> Response:
        """Search a collection by text, image, vector, or a weighted sum; JSON, or a raw image."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            parsed = read_request(body, request, service.settings.limits)
            return await _search(service, store, parsed, call)

    return router


def model_for(service: Service, served: ServedCollection, requested: str | None) -> str:
    """Return the served model that made the collection's embeddings; refuse any other."""
    head = served.snapshot().head
    matching = [m.name for m in service.registry.models() if m.revision == head.bundle_revision]
    if requested is None:
        chosen = next(iter(matching), None)
    else:  # an unknown name is 404; an alias stands for its model
        served_as = service.registry.find(requested).default
        chosen = requested if served_as.revision == head.bundle_revision else None
    if chosen is None:
        raise ConflictError(
            f"collection {served.name!r} was built with bundle {head.bundle_name!r} revision"
            f" {head.bundle_revision[:12]}, which {requested or 'no model served here'} is not;"
            " serve that bundle as well",
            field="model",
            code="bundle_mismatch",
        )
    return chosen


def shown_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata without the file's path on this machine."""
    return {key: value for key, value in metadata.items() if key != "path"}


async def _search(
    service: Service, store: CollectionStore, parsed: SearchRequest, call: Call
) -> Response:
    served = store.find(parsed.collection)
    async with answer_search(service, served, parsed, call) as (model, found):
        snapshot = served.snapshot()
        recall = report_recall(snapshot)
        verdict = None
        if is_lone_text(parsed.terms) and parsed.params.is_by_cosine:
            width = model.encoder.embedding_dim
            verdict = judge_hits(model.calibration, found.hits, snapshot, width)
        told: dict[str, Any] = {
            "object": "list",
            "collection": served.name,
            "model": model.name,
            "revision": model.revision,
            "recall": {modality: one.value for modality, one in recall.items()},
            "recall_state": {modality: one.state for modality, one in recall.items()},
            **({} if verdict is None else {"none_of_these": verdict.none_of_these}),
            "data": _show_hits(served, found, verdict, explain=parsed.params.explain),
        }
        if parsed.params.explain:
            told["path"] = found.path
        return service.reply(dump(told), model, call)


@asynccontextmanager
async def answer_search(
    service: Service, served: ServedCollection, parsed: SearchRequest, call: Call
) -> AsyncIterator[tuple[ServedModel, SearchAnswer]]:
    """Yield the model and the answer: embedded and searched by one bundle.

    If the collection takes another bundle's embeddings in between, the query is embedded again.
    """
    for attempt in range(BUNDLE_ATTEMPTS):
        with service.registry.lease(model_for(service, served, parsed.model)) as model:
            try:
                row = await embed_terms(service, served, model, parsed.terms, call)
                began = call.clock.now()
                found = await served.search(row, replace(parsed.params, revision=model.revision))
            except (ConflictError, InputError):
                is_same = served.snapshot().head.bundle_revision == model.revision
                if is_same or attempt == BUNDLE_ATTEMPTS - 1:
                    raise
                continue
            call.add("search", call.clock.now() - began)
            yield model, found
            return


def is_lone_text(terms: list[QueryTerm]) -> bool:
    """Return whether a query is one text: only their cosines are calibrated."""
    (first, *others) = terms
    item = first.item
    return not others and item is not None and item.text is not None and first.weight > 0


def _show_hits(
    served: ServedCollection, found: SearchAnswer, verdict: CosineVerdict | None, *, explain: bool
) -> list[dict[str, Any]]:
    shown = [show_hit(served, hit) for hit in found.hits]
    if verdict is not None:
        for hit, probability in zip(shown, verdict.probabilities.tolist(), strict=True):
            hit["calibrated"] = probability
    if explain:
        for hit, reason in zip(shown, found.reasons, strict=True):
            hit["explain"] = reason
    return shown


async def embed_terms(
    service: Service,
    served: ServedCollection,
    model: ServedModel,
    terms: list[QueryTerm],
    call: Call,
) -> NDArray[np.float32]:
    """Embed the terms through the model's batches and add them up."""
    items = [term.item for term in terms if term.item is not None]
    rows: Iterator[Any] = iter(())
    if items:
        call.input_type = "query"
        embedded = await embed_items(model, items, call, service.fetcher)
        service.check_items(model, embedded.answers, call, "query")
        failed = [answer for answer in embedded.answers if isinstance(answer, Exception)]
        if failed:
            raise failed[0]  # a sum without one of its terms would be a different query
        rows = iter(embedded.answers)
    weighted = []
    for term in terms:
        row: Iterable[float] = term.vector or ()
        if term.stored is not None:
            row = await served.read(partial(Collection.embedding, id=term.stored))
        elif term.item is not None:
            row = next(rows)
        weighted.append(QueryPart(vector=tuple(map(float, row)), weight=term.weight))
    return embed_query(weighted, None, model.encoder.embedding_dim)


def show_hit(served: ServedCollection, hit: Hit) -> dict[str, Any]:
    """Return a hit as clients read it."""
    name = quote(hit.id)
    shown = {
        "id": hit.id,
        "score": hit.score,
        "metadata": shown_metadata(hit.metadata),
        "thumbnail": f"/collections/{served.name}/thumbnails/{name}",
    }
    return shown | ({"duplicates": list(hit.duplicates)} if hit.duplicates else {})
