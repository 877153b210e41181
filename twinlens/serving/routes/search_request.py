"""The body of `/search`: what is asked for, and how the hits are chosen; from JSON or an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request

from twinlens.errors import InputError
from twinlens.index.query.filter_language import parse_filter
from twinlens.serving.collections.search import SearchParams
from twinlens.serving.openapi.request_shapes import exactly_one, names_of, request_object
from twinlens.serving.openapi.schemas import (
    IMAGE,
    MODEL,
    TEXT,
    Schema,
    array_of,
    component,
    either,
)
from twinlens.serving.requests.fields import Fields, parse_object
from twinlens.serving.requests.items import InputItem
from twinlens.serving.routes.query_terms import TERM, VECTOR, QueryTerm, read_term
from twinlens.serving.settings import Limits

MOST_HITS = 1000
MOST_TERMS = 32
_KINDS = ("query", "text", "image", "vector")
_SHARE: Schema = {"type": "number", "minimum": -1, "maximum": 1}
REQUEST = component(
    "SearchRequest",
    request_object(
        [],
        exactly_one(*_KINDS),
        collection={
            "type": "string",
            "description": "Name of a collection; may be left out if there is only one",
        },
        model=MODEL,
        query=either(TERM, array_of(TERM, minItems=1, maxItems=MOST_TERMS)),
        text=TEXT,
        image=IMAGE,
        vector=VECTOR,
        k={"type": "integer", "minimum": 1, "maximum": MOST_HITS},
        filter={
            "type": "string",
            "description": 'Metadata filter, e.g. year >= 2020 and tone in ("warm", "cold")',
        },
        threshold={**_SHARE, "description": "Omit hits with a lower similarity"},
        group={
            **_SHARE,
            "description": "Hits at least this similar to a better hit become its duplicates",
        },
        exact={"type": "boolean", "description": "Compare with every item, without the index"},
    ),
)


@dataclass(frozen=True)
class SearchRequest:
    """A request to `/search`."""

    terms: list[QueryTerm]
    params: SearchParams
    collection: str | None
    model: str | None


def read_request(body: bytes, request: Request, limits: Limits) -> SearchRequest:
    """Return the request; a raw image has its options in the query string."""
    fields, terms = _read_search(body, request, limits)
    return SearchRequest(
        terms, _read_params(fields), fields.text("collection"), fields.text("model")
    )


def _read_search(body: bytes, request: Request, limits: Limits) -> tuple[Fields, list[QueryTerm]]:
    """Return the options and the terms; a raw image has its options in the query string."""
    content_type = request.headers.get("content-type", "")
    if content_type.startswith("image/"):
        raw: dict[str, Any] = dict(request.query_params)
        raw |= {name: _number(raw[name]) for name in ("k", "threshold", "group") if name in raw}
        return Fields(raw), [QueryTerm(InputItem(image=body), None, 1.0)]
    fields = parse_object(body, content_type)
    fields.only(*names_of(REQUEST))
    return fields, _read_terms(fields, limits.text_characters)


def _read_terms(fields: Fields, longest: int) -> list[QueryTerm]:
    given = [name for name in _KINDS if fields.has(name)]
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


def _number(text: str) -> Any:
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text  # Fields reports the expected type
