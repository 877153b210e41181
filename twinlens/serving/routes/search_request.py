"""The body of `/search`: what is asked for, and how the hits are chosen; from JSON or an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request

from twinlens.errors import InputError
from twinlens.index.collection import MAX_K
from twinlens.index.query.filter_language import parse_filter
from twinlens.index.searching.fusion import RANKS, WEIGHTS
from twinlens.serving.collections.search import SearchParams
from twinlens.serving.openapi.request_shapes import exactly_one, names_of, not_both, request_object
from twinlens.serving.openapi.schemas import (
    FLAG,
    IMAGE,
    STRING,
    TEXT,
    Schema,
    array_of,
    component,
    either,
    means,
    one_of,
)
from twinlens.serving.requests.fields import Fields, check_text, parse_object
from twinlens.serving.requests.items import InputItem
from twinlens.serving.requests.query_terms import (
    COLLECTION_MODEL,
    FILTER,
    TERM,
    VECTOR,
    QueryTerm,
    read_term,
)
from twinlens.serving.settings import Limits

MOST_HITS = 1000
MOST_SKIPPED = MAX_K - MOST_HITS
MOST_TERMS = 32
_KINDS = ("query", "text", "image", "vector")
_PART: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_NOT_GROUPED = ("words", "offset", "diversity", "one_per", "explain")
_NUMBERS = ("k", "threshold", "group", "balance", "offset", "diversity")
_SHARE: Schema = {"type": "number", "minimum": -1, "maximum": 1}
REQUEST = component(
    "SearchRequest",
    request_object(
        [],
        exactly_one(*_KINDS),
        *(not_both("group", name) for name in _NOT_GROUPED),
        collection=means(STRING, "Name of a collection; may be left out if there is only one"),
        model=COLLECTION_MODEL,
        query=means(
            either(TERM, array_of(TERM, minItems=1, maxItems=MOST_TERMS)),
            "What to search for: a text, a term, or several terms whose weighted sum is searched",
        ),
        text=means(TEXT, "A text to search for; short for `query`"),
        image=means(IMAGE, "An image to search for, as data URI, base64 or URL"),
        vector=VECTOR,
        k=means(
            {"type": "integer", "minimum": 1, "maximum": MOST_HITS},
            "How many hits to return; default 10",
        ),
        filter=means(STRING, f"{FILTER}; default: all items"),
        threshold=means(_SHARE, "Omit hits with a lower cosine; default: none is omitted"),
        group=means(
            _SHARE,
            "Hits with at least this cosine to a better hit become its `duplicates`; default: off",
        ),
        exact=means(FLAG, "Compare with every item instead of using the index; default false"),
        words=means(TEXT, "Search captions for these words too, and join both lists; default: off"),
        fusion=means(
            one_of(RANKS, WEIGHTS),
            "Join the lists by reciprocal ranks or by scaled scores; default `ranks`",
        ),
        balance=means(_PART, "Weight of the words; the rest is the similarity's; default 0.5"),
        offset=means(
            {"type": "integer", "minimum": 0, "maximum": MOST_SKIPPED},
            "Skip this many hits, for further pages; default 0",
        ),
        diversity=means(
            _PART, "0, the default: the most similar hits; towards 1: hits unlike each other"
        ),
        one_per=means(TEXT, "Return only the best item for each value of this metadata field"),
        explain=means(FLAG, "Return the ranks of each hit, and `path`; default false"),
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
        terms,
        _read_params(fields, limits.text_characters),
        fields.text("collection"),
        fields.text("model"),
    )


def _read_search(body: bytes, request: Request, limits: Limits) -> tuple[Fields, list[QueryTerm]]:
    """Return the options and the terms; a raw image has its options in the query string."""
    content_type = request.headers.get("content-type", "")
    if content_type.startswith("image/"):
        raw: dict[str, Any] = dict(request.query_params)
        raw |= {name: _number(raw[name]) for name in _NUMBERS if name in raw}
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


def _read_params(fields: Fields, longest: int) -> SearchParams:
    text = fields.text("filter")
    if text is not None:
        parse_filter(text)  # refuse a bad filter before any work
    if fields.has("group") and (other := next(filter(fields.has, _NOT_GROUPED), None)):
        raise InputError(f"group cannot be combined with {other}; leave one out", field="group")
    balance = fields.number("balance", 0.0, 1.0)
    return SearchParams(
        k=fields.integer("k", 1, MOST_HITS) or 10,
        filter=text,
        threshold=fields.number("threshold", -1.0, 1.0),
        group=fields.number("group", -1.0, 1.0),
        exact=fields.flag("exact"),
        words=_read_words(fields, "words", longest),
        fusion=fields.text("fusion", (RANKS, WEIGHTS)) or RANKS,
        balance=0.5 if balance is None else balance,
        offset=fields.integer("offset", 0, MOST_SKIPPED) or 0,
        diversity=fields.number("diversity", 0.0, 1.0) or 0.0,
        one_per=_read_words(fields, "one_per", longest),
        explain=fields.flag("explain"),
    )


def _read_words(fields: Fields, name: str, longest: int) -> str | None:
    return check_text(fields.any(name), name, longest) if fields.has(name) else None


def _number(text: str) -> Any:
    try:
        return int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:
        return text  # Fields reports the expected type
