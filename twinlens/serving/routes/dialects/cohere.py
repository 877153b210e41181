"""`POST /v2/embed`: Cohere's API, with several number types in one answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.bundle.arrays import Rows
from twinlens.errors import InputError
from twinlens.serving.call import Call
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.openapi.declaration import PICTURE, answer, declare, json_body
from twinlens.serving.openapi.request_shapes import exactly_one, open_request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    IMAGE,
    MODEL,
    NUMBERS,
    STRING,
    TEXT,
    Schema,
    array_of,
    closed_object,
    component,
    one_of,
    open_object,
)
from twinlens.serving.requests.answers import RowFormat, dump, shape_rows, to_base64
from twinlens.serving.requests.content_parts import CONTENT, read_content, take_one
from twinlens.serving.requests.fields import Fields, check_text, parse_object
from twinlens.serving.requests.items import InputItem
from twinlens.serving.requests.row_options import DIMENSIONS, read_dimensions
from twinlens.serving.routes.all_or_nothing import embed_all_or_fail
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits

PURPOSES = ("search_document", "search_query", "classification", "clustering", "image")
KINDS = ("float", "int8", "uint8", "binary", "ubinary", "base64")
_LISTS: dict[str, Schema] = {
    "texts": array_of(TEXT, minItems=1),
    "images": array_of(IMAGE, minItems=1),
    "inputs": array_of(open_object(["content"], content=CONTENT), minItems=1),
}
REQUEST = component(
    "CohereRequest",
    open_request_object(
        ["input_type"],
        exactly_one(*_LISTS),
        **_LISTS,
        model=MODEL,
        input_type=one_of(*PURPOSES),
        embedding_types=array_of(one_of(*KINDS), minItems=1, maxItems=len(KINDS)),
        output_dimension=DIMENSIONS,
        dimensions=DIMENSIONS,
    ),
)
ANSWER = component(
    "CohereAnswer",
    closed_object(
        ["id", "response_type", "embeddings", "meta"],
        id=STRING,
        response_type={"const": "embeddings_by_type"},
        embeddings=closed_object(
            [], **{kind: array_of(STRING if kind == "base64" else NUMBERS) for kind in KINDS}
        ),
        meta=open_object(
            ["api_version", "billed_units"],
            billed_units=open_object(["input_tokens"], input_tokens=COUNT, images=COUNT),
        ),
    ),
)
_INPUTS = [
    {"content": [{"type": "image_url", "image_url": {"url": PICTURE}}]},
    {"content": [{"type": "text", "text": "a red square"}]},
]


@dataclass(frozen=True)
class CohereRequest:
    """A request to `/v2/embed`."""

    items: Sequence[InputItem]
    names: Sequence[str]
    kinds: Sequence[str]
    dimensions: int | None
    model: str | None


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["cohere"], route_class=HotRoute)

    @router.post(
        "/v2/embed",
        summary="Embed in Cohere's shape, several kinds of numbers in one answer",
        **declare(
            {200: answer(ANSWER, "The rows, by kind of number")},
            json_body(
                REQUEST,
                texts={
                    "texts": ["a red square"],
                    "input_type": "search_query",
                    "embedding_types": ["float", "ubinary"],
                },
                image={"images": [PICTURE], "input_type": "image", "embedding_types": ["int8"]},
                content={"inputs": _INPUTS, "input_type": "search_document"},
            ),
            message_field="message",
        ),
    )
    async def embed(request: Request) -> Response:
        """Embed in Cohere's shape."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            fields = parse_object(body, request.headers.get("content-type", ""))
            parsed = read_request(fields, service.settings.limits)
            with service.registry.lease(parsed.model) as model:
                name = request.scope["state"]["request_id"]
                return await _answer(service, model, parsed, call, name)

    return router


def read_request(fields: Fields, limits: Limits) -> CohereRequest:
    """Return the request. `input_type` has no effect: these towers have no prefixes."""
    if fields.text("input_type", PURPOSES) is None:
        raise InputError(
            f"input_type is missing; it is one of {', '.join(PURPOSES)}", field="input_type"
        )
    given = [name for name in _LISTS if fields.has(name)]
    if len(given) != 1:
        raise InputError("give exactly one of texts, images, inputs", field="texts")
    values = fields.values(given[0], limits.items) or []
    names = [f"{given[0]}[{i}]" for i in range(len(values))]
    return CohereRequest(
        items=[_read_item(given[0], v, n, limits) for v, n in zip(values, names, strict=True)],
        names=names,
        kinds=_read_kinds(fields),
        dimensions=read_dimensions(fields),
        model=fields.text("model"),
    )


def _read_item(kind: str, value: object, where: str, limits: Limits) -> InputItem:
    if kind == "texts":
        return InputItem(text=check_text(value, where, limits.text_characters))
    if kind == "inputs":
        content = Fields(value, where).any("content")
        return take_one(read_content(content, f"{where}.content", limits), where)
    if not isinstance(value, str):
        raise InputError(f"{where} must be a data URI", field=where)
    return InputItem(image=value)


def _read_kinds(fields: Fields) -> Sequence[str]:
    """Return the requested number types, each once; float if none is named."""
    values = fields.values("embedding_types", len(KINDS)) or ["float"]
    for i, value in enumerate(values):
        if value not in KINDS:
            where = f"embedding_types[{i}]"
            raise InputError(f"{where} must be one of {', '.join(KINDS)}", field=where)
    return list(dict.fromkeys(values))


async def _answer(
    service: Service, model: ServedModel, parsed: CohereRequest, call: Call, name: str
) -> Response:
    """Embed once and write the rows in every requested number type."""
    for kind in parsed.kinds:
        RowFormat(parsed.dimensions, kind).check(model.encoder.manifest)
    rows, tokens = await embed_all_or_fail(service, model, parsed.items, parsed.names, call)
    began = call.clock.now()
    images = sum(item.text is None for item in parsed.items)
    counted = {"input_tokens": tokens, **({"images": images} if images else {})}
    content = dump(
        {
            "id": name,
            "response_type": "embeddings_by_type",
            "embeddings": {kind: _write(rows, kind, parsed.dimensions) for kind in parsed.kinds},
            "meta": {"api_version": {"version": "2"}, "billed_units": counted},
        }
    )
    call.add("answer", call.clock.now() - began)
    return service.reply(content, model, call)


def _write(rows: Rows, kind: str, dimensions: int | None) -> Any:
    """Return the rows in one number type."""
    output = "float32" if kind in ("float", "base64") else kind
    shaped, _ = shape_rows(rows, RowFormat(dimensions, output))
    return [to_base64(row) for row in shaped] if kind == "base64" else shaped
