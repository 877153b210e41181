"""`POST /v1/multimodalembeddings`: Voyage's API for texts and images.

Its text-only calls go to `/v1/embeddings`, which reads `output_dtype` and `output_dimension` too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.errors import InputError
from twinlens.serving.call import Call
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.openapi.declaration import PICTURE, answer, declare, json_body
from twinlens.serving.openapi.request_shapes import open_request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    MODEL,
    USED_MODEL,
    array_of,
    closed_object,
    component,
    means,
    one_of,
)
from twinlens.serving.requests.answers import RowFormat, dump, shape_rows, to_base64
from twinlens.serving.requests.content_parts import INPUT, Parts, read_contents
from twinlens.serving.requests.fields import Fields, parse_object
from twinlens.serving.requests.items import check_sizes
from twinlens.serving.requests.row_options import (
    DIMENSIONS,
    NUMBER_TYPE,
    read_dimensions,
    read_voyage_type,
)
from twinlens.serving.routes.all_or_nothing import embed_groups_or_fail
from twinlens.serving.routes.dialects.openai import ROWS
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits

_ENCODINGS = ("float", "base64")
_INPUT_TYPES = ("query", "document")
REQUEST = component(
    "VoyageRequest",
    open_request_object(
        ["inputs"],
        model=MODEL,
        input_type=means(
            one_of(*_INPUT_TYPES),
            "Purpose of the texts: chooses the bundle's prompt; no effect where it has no prompts",
        ),
        inputs=means(array_of(INPUT, minItems=1), "One embedding for each"),
        output_dimension=DIMENSIONS,
        output_dtype=NUMBER_TYPE,
        encoding_format=means(
            one_of(*_ENCODINGS), "`base64`: each row as bytes in base64; default `float`"
        ),
        output_encoding=means(one_of(*_ENCODINGS), "Another name of `encoding_format`"),
    ),
)
_USAGE = {
    "text_tokens": "Tokens of all texts",
    "image_pixels": "Pixels of all images",
    "video_pixels": "Always 0: no videos are read here",
    "total_tokens": "As `text_tokens`",
}
ANSWER = component(
    "VoyageAnswer",
    closed_object(
        ["object", "data", "model", "usage"],
        object={"const": "list"},
        data=ROWS,
        model=USED_MODEL,
        usage=means(
            closed_object([*_USAGE], **{name: means(COUNT, _USAGE[name]) for name in _USAGE}),
            "What was embedded",
        ),
    ),
)
_MIXED = [
    {"content": [{"type": "text", "text": "a red square"}]},
    {"content": [{"type": "image_base64", "image_base64": PICTURE}]},
]


@dataclass(frozen=True)
class VoyageRequest:
    """A request to `/v1/multimodalembeddings`."""

    inputs: Sequence[Parts]
    names: Sequence[str]
    shape: RowFormat
    is_base64: bool
    model: str | None


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["voyage"], route_class=HotRoute)

    @router.post(
        "/v1/multimodalembeddings",
        summary="Embed in Voyage's shape (texts alone: /v1/embeddings)",
        **declare(
            {200: answer(ANSWER, "An embedding for each input")},
            json_body(
                REQUEST,
                mixed={"inputs": _MIXED, "input_type": "document"},
                coded={
                    "inputs": [{"content": [{"type": "image_url", "image_url": PICTURE}]}],
                    "encoding_format": "base64",
                    "output_dtype": "int8",
                },
            ),
            message_field="detail",
        ),
    )
    async def embed(request: Request) -> Response:
        """Embed in Voyage's shape."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            fields = parse_object(body, request.headers.get("content-type", ""))
            parsed = read_request(fields, service.settings.limits)
            call.input_type = fields.text("input_type", _INPUT_TYPES)
            with service.registry.lease(parsed.model) as model:
                return await _answer(service, model, parsed, call)

    return router


def read_request(fields: Fields, limits: Limits) -> VoyageRequest:
    """Return the request; `truncation` has no effect."""
    if not fields.has("inputs"):
        raise InputError("inputs is missing: a list of objects with content", field="inputs")
    inputs, names = read_contents(fields, "inputs", limits)
    check_sizes(inputs, "inputs", limits)
    form = "encoding_format" if fields.has("encoding_format") else "output_encoding"
    return VoyageRequest(
        inputs=inputs,
        names=names,
        shape=RowFormat(read_dimensions(fields), read_voyage_type(fields)),
        is_base64=fields.text(form, _ENCODINGS) == "base64",
        model=fields.text("model"),
    )


async def _answer(
    service: Service, model: ServedModel, parsed: VoyageRequest, call: Call
) -> Response:
    parsed.shape.check(model.encoder.manifest)
    given = call.pixels_left
    rows, tokens = await embed_groups_or_fail(service, model, parsed.inputs, parsed.names, call)
    began = call.clock.now()
    shaped, _ = shape_rows(rows, parsed.shape)
    usage = {
        "text_tokens": tokens,
        "image_pixels": given - call.pixels_left,
        "video_pixels": 0,
        "total_tokens": tokens,
    }
    data = [
        {"object": "embedding", "index": i, "embedding": to_base64(r) if parsed.is_base64 else r}
        for i, r in enumerate(shaped)
    ]
    content = dump({"object": "list", "data": data, "model": model.name, "usage": usage})
    call.add("answer", call.clock.now() - began)
    return service.reply(content, model, call)
