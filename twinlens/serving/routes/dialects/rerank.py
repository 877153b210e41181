"""`POST /v1/rerank`, `/v2/rerank`, `/rerank`: documents by their similarity to a query.

Cohere, Jina, infinity and Voyage send `documents`, each a text or an image; Text Embeddings
Inference sends `texts`. Scores are cosines, or with `"score": "probability"` what the bundle's
similarity node makes of them. The answer has them in `results` and in `data`, since each client
reads one of the two; TEI's is a bare list. At `/rerank`, infinity's path, the answer's `object` is
`rerank` and a document is as it was sent; elsewhere a text is `{"text": ...}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from starlette.responses import Response

from twinlens.bundle.arrays import Rows
from twinlens.errors import InputError
from twinlens.serving.call import Call
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.openapi.declaration import PICTURE, answer, declare, json_body
from twinlens.serving.openapi.request_shapes import exactly_one, open_request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    FLAG,
    IMAGE,
    INDEX,
    MODEL,
    NULL,
    NUMBER,
    STRING,
    TEXT,
    USED_MODEL,
    Schema,
    array_of,
    component,
    either,
    means,
    one_of,
    open_object,
)
from twinlens.serving.requests.answers import dump
from twinlens.serving.requests.fields import Fields, parse_object
from twinlens.serving.requests.items import (
    ITEM_TEXT,
    InputItem,
    check_sizes,
    read_image,
    read_text,
)
from twinlens.serving.routes.all_or_nothing import embed_all_or_fail
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits

SCORES = ("cosine", "probability")
_MOST_RETURNED = 1_000_000
_DOCUMENT: Schema = either(
    TEXT,
    open_object(["text"], text=means(TEXT, ITEM_TEXT), image=NULL),
    open_object(["image"], image=IMAGE, text=NULL),
)
_TOP: Schema = means(
    {"type": "integer", "minimum": 1, "maximum": _MOST_RETURNED},
    "How many documents to return; default: all",
)
REQUEST = component(
    "RerankRequest",
    open_request_object(
        ["query"],
        exactly_one("documents", "texts"),
        query=means(_DOCUMENT, "The text or image to compare with"),
        documents=means(
            array_of(_DOCUMENT, minItems=1),
            "Texts and images to order; a string that is a data URI of an image is an image",
        ),
        texts=means(array_of(TEXT, minItems=1), "Text Embeddings Inference: texts to order"),
        model=MODEL,
        top_n=_TOP,
        top_k=means(_TOP, "Another name of `top_n`"),
        return_documents=means(FLAG, "Return each document with its score; default false"),
        return_text=means(FLAG, "Text Embeddings Inference: as `return_documents`"),
        score=means(
            one_of(*SCORES),
            "`probability`: what the similarity node makes of the cosine; default `cosine`",
        ),
    ),
)
_RESULTS = array_of(
    open_object(
        ["index", "relevance_score"],
        index=INDEX,
        relevance_score=means(NUMBER, "Cosine or probability, as `score` says"),
        document=means(
            {}, "The document, where it was asked for: a text as `text` of an object, or as sent"
        ),
    )
)
ANSWER = component(
    "RerankAnswer",
    open_object(
        ["id", "object", "model", "results", "data", "usage", "meta"],
        id=means(STRING, "Id of the request, as in the header `x-request-id`"),
        object=means(one_of("list", "rerank"), "`rerank` at `/rerank`, else `list`"),
        model=USED_MODEL,
        results=means(_RESULTS, "Documents, highest score first"),
        data=means(_RESULTS, "The same, for clients that read this field"),
        usage=means(
            open_object(
                ["total_tokens"],
                prompt_tokens=means(COUNT, "As `total_tokens`"),
                total_tokens=means(COUNT, "Tokens of the query and all documents"),
            ),
            "What was embedded",
        ),
        meta=means({"type": "object"}, "Cohere's version and units; nothing is billed"),
    ),
)
_BARE = component(
    "RerankScores",
    array_of(
        open_object(
            ["index", "score"],
            index=INDEX,
            score=means(NUMBER, "Cosine or probability, as the request's `score` says"),
            text=means(STRING, "The text, where `return_text` is true"),
        )
    ),
)


@dataclass(frozen=True)
class RerankRequest:
    """A request to rank documents."""

    query: InputItem
    documents: Sequence[InputItem]
    names: Sequence[str]  # of the documents, for errors
    values: Sequence[Any]  # as they were sent
    most: int
    returns_documents: bool
    is_tei: bool
    is_infinity: bool
    score: str
    model: str | None


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["rerank"], route_class=HotRoute)
    answers: dict[int | str, Any] = {
        200: answer(either(ANSWER, _BARE), "Documents with scores, best first")
    }
    body = json_body(
        REQUEST,
        texts={"query": "red", "documents": ["a blue square", "a red square"], "top_n": 1},
        images={"query": "red", "documents": [{"image": PICTURE}, {"text": "a blue square"}]},
        tei={"query": "red", "texts": ["a blue square", "a red square"], "return_text": True},
    )

    @router.post("/rerank", **declare(answers, body, message_field="detail"))
    @router.post("/v1/rerank", **declare(answers, body, message_field="detail"))
    @router.post("/v2/rerank", **declare(answers, body, message_field="message"))
    async def rerank(request: Request) -> Response:
        """Order texts and images by their similarity to a query."""
        call = service.begin(request)
        async with service.receive(request, call) as content:
            fields = parse_object(content, request.headers.get("content-type", ""))
            is_infinity = request.scope["path"] == "/rerank"
            parsed = read_request(fields, service.settings.limits, is_infinity)
            with service.registry.lease(parsed.model) as model:
                name = request.scope["state"]["request_id"]
                return await _answer(service, model, parsed, call, name)

    return router


def read_request(fields: Fields, limits: Limits, is_infinity: bool) -> RerankRequest:
    """Return the request; options of a dialect that change no score are ignored."""
    given = [name for name in ("documents", "texts") if fields.has(name)]
    if len(given) != 1:
        raise InputError("give either documents or texts", field="documents")
    if not fields.has("query"):
        raise InputError("query is missing: a text or an image", field="query")
    values = fields.values(given[0], limits.texts) or []
    names = [f"{given[0]}[{i}]" for i in range(len(values))]
    is_tei = given[0] == "texts"
    read = read_text if is_tei else _read_document
    documents = [read(v, n, limits) for v, n in zip(values, names, strict=True)]
    check_sizes([documents], given[0], limits)
    tops = [fields.integer(name, 1, _MOST_RETURNED) for name in ("top_n", "top_k")]
    returned = [fields.flag(name) for name in ("return_documents", "return_text")]
    return RerankRequest(
        query=_read_document(fields.any("query"), "query", limits),
        documents=documents,
        names=names,
        values=values,
        most=next((top for top in tops if top), len(values)),
        returns_documents=any(returned),
        is_tei=is_tei,
        is_infinity=is_infinity,
        score=fields.text("score", SCORES) or SCORES[0],
        model=fields.text("model"),
    )


def _read_document(value: object, where: str, limits: Limits) -> InputItem:
    """Return a document: a string is a text, or an image where it is a data URI of one."""
    if isinstance(value, dict):
        fields = Fields(value, where)
        if fields.has("text") == fields.has("image"):
            raise InputError(f"{where} must hold either text or image", field=where)
        if fields.has("image"):
            return read_image(fields.any("image"), f"{where}.image")
        return read_text(fields.any("text"), f"{where}.text", limits)
    if isinstance(value, str) and value.startswith("data:image/"):
        return InputItem(image=value)
    return read_text(value, where, limits)


async def _answer(
    service: Service, model: ServedModel, parsed: RerankRequest, call: Call, name: str
) -> Response:
    call.input_type = "query"
    query, query_tokens = await embed_all_or_fail(service, model, [parsed.query], ["query"], call)
    call.input_type = "document"
    rows, tokens = await embed_all_or_fail(service, model, parsed.documents, parsed.names, call)
    tokens += query_tokens
    scores = _score(model, query, rows, parsed.score)
    order = np.argsort(-scores, kind="stable")[: parsed.most]
    ranked = [(int(i), float(scores[i])) for i in order]
    if parsed.is_tei:
        bare = [{"index": i, "score": s, **_show(parsed, i, "text")} for i, s in ranked]
        return service.reply(dump(bare), model, call)
    found = [{"index": i, "relevance_score": s, **_show(parsed, i, "document")} for i, s in ranked]
    body = {
        "id": name,
        "object": "rerank" if parsed.is_infinity else "list",
        "model": model.name,
        "results": found,
        "data": found,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    }
    return service.reply(dump(body), model, call)


def _score(model: ServedModel, query: Rows, rows: Rows, kind: str) -> NDArray[np.float32]:
    """Return the score of each row against the query's."""
    if kind == "cosine":
        return np.asarray(rows @ query[0], np.float32)
    probabilities, _ = model.encoder.classify(query, rows)
    return np.asarray(probabilities[0], np.float32)


def _show(parsed: RerankRequest, index: int, name: str) -> dict[str, Any]:
    """Return the document under a name, where it was asked for."""
    if not parsed.returns_documents:
        return {}
    value = parsed.values[index]
    is_bare = parsed.is_tei or parsed.is_infinity or not isinstance(value, str)
    return {name: value if is_bare else {"text": value}}
