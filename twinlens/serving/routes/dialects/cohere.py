"""`POST /v2/embed`, `/v1/embed`: Cohere's API, with several number types in one answer.

The first version has no `inputs` and may leave out `input_type`; where no `embedding_types` are
named, its answer is a plain list of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.bundle.arrays import Rows
from twinlens.errors import InputError
from twinlens.serving.call import Call
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.openapi.declaration import PICTURE, answer, declare, json_body
from twinlens.serving.requests.answers import RowFormat, dump, shape_rows, to_base64
from twinlens.serving.requests.content_parts import Parts, read_contents
from twinlens.serving.requests.fields import Fields, parse_object
from twinlens.serving.requests.items import (
    InputItem,
    check_sizes,
    read_image,
    read_text,
)
from twinlens.serving.requests.row_options import read_dimensions
from twinlens.serving.routes.all_or_nothing import embed_groups_or_fail
from twinlens.serving.routes.dialects.cohere_shapes import (
    ANSWER,
    ANSWER_1,
    KINDS,
    LISTS,
    PURPOSES,
    REQUEST,
    REQUEST_1,
)
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits

_INPUTS = [
    {"content": [{"type": "image_url", "image_url": {"url": PICTURE}}]},
    {
        "content": [
            {"type": "text", "text": "a red square"},
            {"type": "image_url", "image_url": {"url": PICTURE}},
        ]
    },
]


@dataclass(frozen=True)
class CohereRequest:
    """A request to `/v2/embed`."""

    inputs: Sequence[Parts]
    names: Sequence[str]
    texts: Sequence[str]  # where the request is a list of texts
    kinds: Sequence[str]
    dimensions: int | None
    model: str | None
    version: str = "2"
    is_plain: bool = False  # rows alone, as the first version answers


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["cohere"], route_class=HotRoute)
    texts = {"texts": ["a red square"], "input_type": "search_query"}

    @router.post(
        "/v2/embed",
        summary="Embed in Cohere's shape, several kinds of numbers in one answer",
        **declare(
            {200: answer(ANSWER, "The rows, by kind of number")},
            json_body(
                REQUEST,
                texts={**texts, "embedding_types": ["float", "ubinary"]},
                image={"images": [PICTURE], "input_type": "image", "embedding_types": ["int8"]},
                content={"inputs": _INPUTS, "input_type": "search_document"},
            ),
            message_field="message",
        ),
    )
    async def embed(request: Request) -> Response:
        """Embed in Cohere's shape; a text and an image in one input become one embedding."""
        return await _embed(service, request, read_request)

    @router.post(
        "/v1/embed",
        summary="Embed in the shape of Cohere's first version",
        **declare(
            {200: answer(ANSWER_1, "The rows, or the rows by kind of number")},
            json_body(REQUEST_1, texts=texts, kinds={**texts, "embedding_types": ["int8"]}),
            message_field="message",
        ),
    )
    async def embed_1(request: Request) -> Response:
        """Embed in the shape of Cohere's first version, which LangChain uses."""
        return await _embed(service, request, read_request_1)

    return router


async def _embed(
    service: Service, request: Request, read: Callable[[Fields, Limits], CohereRequest]
) -> Response:
    call = service.begin(request)
    async with service.receive(request, call) as body:
        fields = parse_object(body, request.headers.get("content-type", ""))
        parsed = read(fields, service.settings.limits)
        call.input_type = fields.text("input_type", PURPOSES)
        with service.registry.lease(parsed.model) as model:
            name = request.scope["state"]["request_id"]
            return await _answer(service, model, parsed, call, name)


def read_request(fields: Fields, limits: Limits) -> CohereRequest:
    """Return the request; `input_type` chooses the bundle's prompt, where it has prompts."""
    if fields.text("input_type", PURPOSES) is None:
        raise InputError(
            f"input_type is missing; it is one of {', '.join(PURPOSES)}", field="input_type"
        )
    return _read(fields, tuple(LISTS), limits)


def read_request_1(fields: Fields, limits: Limits) -> CohereRequest:
    """Return the request of the first version."""
    fields.text("input_type", PURPOSES)
    parsed = _read(fields, ("texts", "images"), limits)
    return replace(parsed, version="1", is_plain=not fields.has("embedding_types"))


def _read(fields: Fields, lists: Sequence[str], limits: Limits) -> CohereRequest:
    given = [name for name in lists if fields.has(name)]
    if len(given) != 1:
        raise InputError(f"give exactly one of {', '.join(lists)}", field="texts")
    if given[0] == "inputs":
        inputs, names = read_contents(fields, "inputs", limits)
    else:
        most = limits.texts if given[0] == "texts" else limits.items
        values = fields.values(given[0], most) or []
        names = [f"{given[0]}[{i}]" for i in range(len(values))]
        read = _read_text if given[0] == "texts" else _read_image
        inputs = [[read(v, n, limits)] for v, n in zip(values, names, strict=True)]
    check_sizes(inputs, given[0], limits)
    return CohereRequest(
        inputs=inputs,
        names=names,
        texts=fields.any("texts") or [],
        kinds=_read_kinds(fields),
        dimensions=read_dimensions(fields),
        model=fields.text("model"),
    )


def _read_text(value: object, where: str, limits: Limits) -> InputItem:
    return read_text(value, where, limits)


def _read_image(value: object, where: str, _: Limits) -> InputItem:
    return read_image(value, where)


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
    rows, tokens = await embed_groups_or_fail(service, model, parsed.inputs, parsed.names, call)
    began = call.clock.now()
    images = sum(item.text is None for parts in parsed.inputs for item in parts)
    counted = {"input_tokens": tokens, **({"images": images} if images else {})}
    written = {kind: _write(rows, kind, parsed.dimensions) for kind in parsed.kinds}
    body: dict[str, Any] = {
        "id": name,
        "response_type": "embeddings_floats" if parsed.is_plain else "embeddings_by_type",
        "embeddings": written["float"] if parsed.is_plain else written,
        "meta": {"api_version": {"version": parsed.version}, "billed_units": counted},
    }
    content = dump({**body, "texts": parsed.texts} if parsed.version == "1" else body)
    call.add("answer", call.clock.now() - began)
    return service.reply(content, model, call)


def _write(rows: Rows, kind: str, dimensions: int | None) -> Any:
    """Return the rows in one number type."""
    output = "float32" if kind in ("float", "base64") else kind
    shaped, _ = shape_rows(rows, RowFormat(dimensions, output))
    return [to_base64(row) for row in shaped] if kind == "base64" else shaped
