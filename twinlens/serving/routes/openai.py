"""`POST /v1/embeddings` as OpenAI's clients speak it, and infinity's, Jina's, vLLM's and Voyage's.

base64 is always little-endian float32 unless the client itself names another type (vLLM's
`embed_dtype`): the SDKs ask for base64 when their caller asks for nothing, and decode it so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from starlette.responses import Response

from twinlens.serving.call import Call
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.requests.answers import RAW, RowFormat, dump, shape_rows, to_base64
from twinlens.serving.requests.dialects import OpenAIRequest, read_openai
from twinlens.serving.requests.fields import parse_object
from twinlens.serving.routes.all_or_nothing import embed_whole
from twinlens.serving.routes.endpoint import Endpoint
from twinlens.serving.service import Service

PATHS = (
    "/v1/embeddings",
    "/embeddings",
)


def build_endpoint(service: Service) -> Endpoint:
    """Return the handler of this file's paths."""

    async def embeddings(request: Request) -> Response:
        """Embed in OpenAI's shape."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            asked = read_openai(parse_object(body), service.settings.limits)
            with service.registry.lease(asked.model) as model:
                return await _answer(service, model, asked, call)

    return embeddings


async def _answer(
    service: Service, model: ServedModel, asked: OpenAIRequest, call: Call
) -> Response:
    """Embed all items, or fail naming the first that fails."""
    shape = RowFormat(asked.dimensions, asked.output)
    shape.check(model.encoder.manifest)
    embedded, tokens = await embed_whole(service, model, asked.items, asked.names, call)
    began = call.clock.now()
    rows, _ = shape_rows(embedded, shape)
    if asked.output == "float32":
        rows = rows.astype(np.dtype(asked.dtype).newbyteorder(asked.byte_order))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    if asked.form.startswith("bytes"):
        return _answer_bytes(service, model, asked, rows, usage, call)
    data = [
        {"object": "embedding", "index": i, "embedding": row}
        for i, row in enumerate(_write(rows, asked.form))
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
    asked: OpenAIRequest,
    rows: NDArray[Any],
    usage: dict[str, int],
    call: Call,
) -> Response:
    """Answer as vLLM's `bytes` does: rows end to end, and their places in a header."""
    size = rows.shape[1] * rows.itemsize
    order = "big" if asked.byte_order == ">" else "little"
    data = [
        {
            "index": i,
            "embed_dtype": asked.dtype,
            "endianness": order,
            "start": i * size,
            "end": (i + 1) * size,
            "shape": [rows.shape[1]],
        }
        for i in range(len(rows))
    ]
    metadata = dump({"model": model.name, "data": data, "usage": usage}).decode()
    headers = {"metadata": metadata} if asked.form == "bytes" else {}
    return service.reply(rows.tobytes(), model, call, media=RAW, headers=headers)
