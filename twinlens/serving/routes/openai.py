"""`POST /v1/embeddings` as OpenAI's clients speak it: base64 is always little-endian float32."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.errors import InputError
from twinlens.serving.answers import Shape, dump, shape_rows, stack, to_base64
from twinlens.serving.call import Call
from twinlens.serving.fields import Fields, check_text, parse_object
from twinlens.serving.items import Item, embed_items
from twinlens.serving.service import Service, first_failure, place
from twinlens.serving.settings import Limits

_MOST_DIMENSIONS = 65_536


def build_router(service: Service) -> APIRouter:
    """Return the router of this file, with and without the /v1 prefix."""
    router = APIRouter(tags=["openai"])

    async def embeddings(request: Request) -> Response:
        """Embed in OpenAI's shape."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            return await _answer(service, parse_object(body), call)

    router.add_api_route("/v1/embeddings", embeddings, methods=["POST"])
    router.add_api_route("/embeddings", embeddings, methods=["POST"], include_in_schema=False)
    return router


async def _answer(service: Service, fields: Fields, call: Call) -> Response:
    items = _read_input(fields, service.settings.limits)
    dimensions = fields.integer("dimensions", 1, _MOST_DIMENSIONS)
    form = fields.text("encoding_format", ("float", "base64")) or "float"
    with service.registry.lease(fields.text("model")) as model:
        model.check_dimensions(dimensions)
        embedded = await embed_items(model, items, call, service.fetcher)
        failed = first_failure(embedded.answers)
        if failed is not None:
            raise place(*failed, "input")
        began = call.clock.now()
        rows, _ = shape_rows(
            stack(embedded.answers, model.encoder.embedding_dim), Shape(dimensions)
        )
        data = [
            {
                "object": "embedding",
                "index": i,
                "embedding": to_base64(row) if form == "base64" else row,
            }
            for i, row in enumerate(rows)
        ]
        content = dump(
            {
                "object": "list",
                "data": data,
                "model": model.name,
                "usage": {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens},
            }
        )
        call.add("answer", call.clock.now() - began)
        return service.reply(content, model, call)


def _read_input(fields: Fields, limits: Limits) -> list[Item]:
    value = fields.any("input")
    if isinstance(value, str):
        return [Item(text=check_text(value, "input", limits.text_characters))]
    values = fields.values("input", limits.items)
    if values is None:
        raise InputError("input is missing", field="input")
    if isinstance(values[0], int | list):
        raise InputError(
            "input holds token ids, which belong to another tokenizer; send strings (LangChain: "
            "check_embedding_ctx_length=False)",
            field="input",
        )
    return [
        Item(text=check_text(value, f"input[{i}]", limits.text_characters))
        for i, value in enumerate(values)
    ]
