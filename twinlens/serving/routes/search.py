"""`POST /search`: items by similarity to a text, an image, a vector, or a weighted sum of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from starlette.responses import Response

from twinlens.errors import ConflictError, InputError
from twinlens.index.collection import Collection, Hit
from twinlens.index.query.filter_language import parse_filter
from twinlens.index.query.query import QueryPart, embed_query
from twinlens.index.stats import report_recall
from twinlens.serving.call import Call
from twinlens.serving.collections.search import SearchParams
from twinlens.serving.collections.served import ServedCollection
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.embedding import embed_items
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.requests.answers import dump
from twinlens.serving.requests.fields import Fields, check_text, parse_object
from twinlens.serving.requests.items import InputItem
from twinlens.serving.service import Service

MOST_HITS = 1000
MOST_TERMS = 32


@dataclass(frozen=True)
class QueryTerm:
    """One term of a query as the client sent it."""

    item: InputItem | None
    vector: tuple[float, ...] | None
    weight: float
    stored: str | None = None  # the id of an item of the collection


def build_router(service: Service, store: CollectionStore) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["collections"])

    @router.post("/search")
    async def search(request: Request) -> Response:
        """Search a collection by text, image, vector, or a weighted sum; JSON, or a raw image."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            fields, terms = _read_search(body, request, service)
            return await _search(service, store, fields, terms, call)

    return router


def read_term(raw: object, where: str, longest: int, *, stored: bool = False) -> QueryTerm:
    """Return one term: a bare text, or an object with text, image or vector, and a weight.

    `stored` allows an `item` too: the id of one of the collection.
    """
    if isinstance(raw, str):
        return QueryTerm(InputItem(text=check_text(raw, where, longest)), None, 1.0)
    fields = Fields(raw, where)
    kinds = ("text", "image", "vector", *(("item",) if stored else ()))
    fields.only(*kinds, "weight")
    weight = fields.number("weight", -100.0, 100.0)
    weight = 1.0 if weight is None else weight
    given = [name for name in kinds if fields.has(name)]
    if len(given) != 1:
        raise InputError(f"{where} must hold one of {', '.join(kinds)}", field=where)
    if given[0] == "item":
        return QueryTerm(
            None, None, weight, check_text(fields.any("item"), f"{where}.item", longest)
        )
    if given[0] == "vector":
        return QueryTerm(None, _read_vector(fields, where), weight)
    if given[0] == "text":
        text = check_text(fields.any("text"), f"{where}.text", longest)
        return QueryTerm(InputItem(text=text), None, weight)
    return QueryTerm(InputItem(image=fields.text("image")), None, weight)


def model_for(service: Service, served: ServedCollection, requested: str | None) -> str:
    """Return the served model that made the collection's embeddings; refuse any other."""
    head = served.snapshot().head
    matching = [m.name for m in service.registry.models() if m.revision == head.bundle_revision]
    if requested is not None:
        service.registry.find(requested)  # an unknown name is 404
    chosen = (
        requested
        if requested in matching
        else next(iter(matching), None)
        if requested is None
        else None
    )
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
    service: Service, store: CollectionStore, fields: Fields, terms: list[QueryTerm], call: Call
) -> Response:
    served = store.find(fields.text("collection"))
    params = _read_params(fields)
    model_name = model_for(service, served, fields.text("model"))
    with service.registry.lease(model_name) as model:
        row = await _embed_terms(service, served, model, terms, call)
        began = call.clock.now()
        hits = await served.search(row, params)
        call.add("search", call.clock.now() - began)
        recall = report_recall(served.snapshot())
        content = dump(
            {
                "object": "list",
                "collection": served.name,
                "model": model.name,
                "revision": model.revision,
                "recall": {modality: one.value for modality, one in recall.items()},
                "recall_state": {modality: one.state for modality, one in recall.items()},
                "data": [_show_hit(served, hit) for hit in hits],
            }
        )
        return service.reply(content, model, call)


def _read_search(body: bytes, request: Request, service: Service) -> tuple[Fields, list[QueryTerm]]:
    """Return the options and the terms; a raw image has its options in the query string."""
    content_type = request.headers.get("content-type", "")
    if content_type.startswith("image/"):
        raw: dict[str, Any] = dict(request.query_params)
        raw |= {name: _number(raw[name]) for name in ("k", "threshold", "group") if name in raw}
        return Fields(raw), [QueryTerm(InputItem(image=body), None, 1.0)]
    fields = parse_object(body, content_type)
    fields.only(
        "collection", "model", "query", "text", "image", "vector",
        "k", "filter", "threshold", "group", "exact",
    )  # fmt: skip
    return fields, _read_terms(fields, service.settings.limits.text_characters)


def _read_terms(fields: Fields, longest: int) -> list[QueryTerm]:
    given = [name for name in ("query", "text", "image", "vector") if fields.has(name)]
    if len(given) != 1:
        raise InputError(
            "give exactly one of query (a text, or a list of weighted terms), text, image, vector",
            field="query",
        )
    name = given[0]
    if name != "query":
        return [read_term({name: fields.any(name)}, name, longest)]
    value = fields.any("query")
    if not isinstance(value, list):
        return [read_term(value, "query", longest, stored=True)]
    values = fields.values("query", MOST_TERMS) or []
    return [read_term(one, f"query[{i}]", longest, stored=True) for i, one in enumerate(values)]


def _read_vector(fields: Fields, where: str) -> tuple[float, ...]:
    values = fields.values("vector", 65_536) or []
    if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in values):
        raise InputError(f"{where}.vector must be numbers", field=f"{where}.vector")
    with np.errstate(over="ignore"):
        length = np.linalg.norm(np.asarray(values, np.float32))
    if not np.isfinite(length):
        raise InputError(
            f"{where}.vector is too long for 32-bit numbers; scale it to length 1",
            field=f"{where}.vector",
            code="vector_mismatch",
        )
    return tuple(map(float, values))


def _read_params(fields: Fields) -> SearchParams:
    text = fields.text("filter")
    if text is not None:
        parse_filter(text)  # refuse a bad filter before any work
    return SearchParams(
        k=fields.integer("k", 1, MOST_HITS) or 10,
        filter=text,
        threshold=fields.number("threshold", -1.0, 1.0),
        group=fields.number("group", -1.0, 1.0),
        exact=fields.flag("exact"),
    )


async def _embed_terms(
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
    return embed_query(weighted, None, served.snapshot().head.dim)


def _show_hit(served: ServedCollection, hit: Hit) -> dict[str, Any]:
    name = quote(hit.id)
    shown = {
        "id": hit.id,
        "score": hit.score,
        "metadata": shown_metadata(hit.metadata),
        "thumbnail": f"/collections/{served.name}/thumbnails/{name}",
    }
    return shown | ({"duplicates": list(hit.duplicates)} if hit.duplicates else {})


def _number(text: str) -> Any:
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text  # Fields reports the expected type
