"""`POST /v2/embed`: Cohere's API, with several number types in one answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from twinlens.bundle.arrays import Rows
from twinlens.errors import InputError
from twinlens.serving.call import Call
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.requests.answers import RowFormat, dump, shape_rows, to_base64
from twinlens.serving.requests.content_parts import read_content, take_one
from twinlens.serving.requests.dialects import read_dimensions
from twinlens.serving.requests.fields import Fields, check_text, parse_object
from twinlens.serving.requests.items import InputItem
from twinlens.serving.routes.all_or_nothing import embed_all_or_fail
from twinlens.serving.routes.endpoint import Endpoint
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits

PATHS = ("/v2/embed",)
PURPOSES = ("search_document", "search_query", "classification", "clustering", "image")
KINDS = ("float", "int8", "uint8", "binary", "ubinary", "base64")


@dataclass(frozen=True)
class CohereRequest:
    """A request to `/v2/embed`."""

    items: Sequence[InputItem]
    names: Sequence[str]
    kinds: Sequence[str]
    dimensions: int | None
    model: str | None


def build_endpoint(service: Service) -> Endpoint:
    """Return the handler of this file's paths."""

    async def embed(request: Request) -> Response:
        """Embed in Cohere's shape."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            fields = parse_object(body, request.headers.get("content-type", ""))
            parsed = read_request(fields, service.settings.limits)
            call.input_type = fields.text("input_type", PURPOSES)
            with service.registry.lease(parsed.model) as model:
                name = request.scope["state"]["request_id"]
                return await _answer(service, model, parsed, call, name)

    return embed


def read_request(fields: Fields, limits: Limits) -> CohereRequest:
    """Return the request; `input_type` chooses the bundle's prompt, where it has prompts."""
    if fields.text("input_type", PURPOSES) is None:
        raise InputError(
            f"input_type is missing; it is one of {', '.join(PURPOSES)}", field="input_type"
        )
    given = [name for name in ("texts", "images", "inputs") if fields.has(name)]
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
