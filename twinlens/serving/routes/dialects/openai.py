"""`POST /v1/embeddings` for clients of OpenAI, infinity, Jina, vLLM and Voyage.

base64 is always little-endian float32 unless the client itself names another type (vLLM's
`embed_dtype`): the SDKs request base64 by default and decode it as such.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from starlette.responses import Response

from twinlens.serving.call import Call
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.openapi.declaration import PICTURE, answer, declare, json_body
from twinlens.serving.openapi.schemas import (
    COUNT,
    INDEX,
    NUMBERS,
    STRING,
    USED_MODEL,
    array_of,
    closed_object,
    component,
    either,
    means,
)
from twinlens.serving.requests.answers import RAW, RowFormat, dump, shape_rows, to_base64
from twinlens.serving.requests.fields import parse_object
from twinlens.serving.routes.all_or_nothing import embed_groups_or_fail
from twinlens.serving.routes.dialects.openai_request import REQUEST, OpenAIRequest, read_openai
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.service import Service

ROWS = means(
    array_of(
        closed_object(
            ["object", "index", "embedding"],
            object={"const": "embedding"},
            index=INDEX,
            embedding=means(either(NUMBERS, STRING), "The row; a string if base64 was requested"),
        )
    ),
    "An embedding for each input, in order",
)
USAGE = means(
    closed_object(
        ["prompt_tokens", "total_tokens"],
        prompt_tokens=means(COUNT, "Tokens of all texts"),
        total_tokens=means(COUNT, "As `prompt_tokens`"),
    ),
    "What was embedded",
)
ANSWER = component(
    "OpenAIAnswer",
    closed_object(
        ["object", "data", "model", "usage"],
        object={"const": "list"},
        data=ROWS,
        model=USED_MODEL,
        usage=USAGE,
    ),
)
_VLLM_MESSAGES = [
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}
]


_EXAMPLES: dict[str, Any] = {
    "openai": {"input": ["a red square"], "encoding_format": "base64"},
    "infinity": {"input": [PICTURE], "modality": "image"},
    "jina": {"input": [{"text": "a red square"}, {"image": PICTURE}]},
    "vllm": {"messages": _VLLM_MESSAGES},
}


def declare_embeddings(**examples: Any) -> dict[str, Any]:
    """Return the declaration of a path that reads and answers OpenAI's shape."""
    return declare(
        {200: answer(ANSWER, "An embedding for each input", **{RAW: {"schema": STRING}})},
        json_body(REQUEST, **examples),
        message_field="detail",  # Voyage's and Jina's
    )


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["openai"], route_class=HotRoute)

    @router.post("/embeddings", include_in_schema=False, **declare_embeddings(**_EXAMPLES))
    @router.post(
        "/v1/embeddings",
        summary="Embed in OpenAI's shape, or in infinity's, Jina's or vLLM's",
        **declare_embeddings(**_EXAMPLES),
    )
    async def embeddings(request: Request) -> Response:
        """Embed in OpenAI's shape."""
        return await answer_request(service, request)

    return router


async def answer_request(service: Service, request: Request, modality: str = "text") -> Response:
    """Embed the inputs of a request; `modality` applies where the request names none."""
    call = service.begin(request)
    async with service.receive(request, call) as body:
        fields = parse_object(body, request.headers.get("content-type", ""))
        call.input_type = fields.text("input_type")
        parsed = read_openai(fields, service.settings.limits, modality)
        with service.registry.lease(parsed.model) as model:
            return await _answer(service, model, parsed, call)


async def _answer(
    service: Service, model: ServedModel, parsed: OpenAIRequest, call: Call
) -> Response:
    """Embed all items, or fail with the error of the first that fails."""
    shape = RowFormat(parsed.dimensions, parsed.output)
    shape.check(model.encoder.manifest)
    embedded, tokens = await embed_groups_or_fail(service, model, parsed.inputs, parsed.names, call)
    began = call.clock.now()
    rows, _ = shape_rows(embedded, shape)
    if parsed.output == "float32":
        rows = rows.astype(np.dtype(parsed.dtype).newbyteorder(parsed.byte_order))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    if parsed.form.startswith("bytes"):
        return _answer_bytes(service, model, parsed, rows, usage, call)
    data = [
        {"object": "embedding", "index": i, "embedding": row}
        for i, row in enumerate(_write(rows, parsed.form))
    ]
    content = dump({"object": "list", "data": data, "model": model.name, "usage": usage})
    call.add("answer", call.clock.now() - began)
    return service.reply(content, model, call)


def _write(rows: NDArray[Any], form: str) -> list[Any]:
    """Return rows as base64 or as what JSON turns into lists of numbers."""
    if form == "base64":
        return [to_base64(row) for row in rows]
    return list(rows.astype(np.float32) if rows.dtype.kind == "f" else rows)


def _answer_bytes(
    service: Service,
    model: ServedModel,
    parsed: OpenAIRequest,
    rows: NDArray[Any],
    usage: dict[str, int],
    call: Call,
) -> Response:
    """Answer in vLLM's `bytes` format: concatenated rows, and their offsets in a header."""
    size = rows.shape[1] * rows.itemsize
    order = "big" if parsed.byte_order == ">" else "little"
    data = [
        {
            "index": i,
            "embed_dtype": parsed.dtype,
            "endianness": order,
            "start": i * size,
            "end": (i + 1) * size,
            "shape": [rows.shape[1]],
        }
        for i in range(len(rows))
    ]
    metadata = dump({"model": model.name, "data": data, "usage": usage}).decode()
    headers = {"metadata": metadata} if parsed.form == "bytes" else {}
    return service.reply(rows.tobytes(), model, call, media=RAW, headers=headers)
