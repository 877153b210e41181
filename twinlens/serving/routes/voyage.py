"""`POST /v1/multimodalembeddings`: Voyage's API for texts and images.

Its text-only calls go to `/v1/embeddings`, which reads `output_dtype` and `output_dimension` too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from twinlens.errors import InputError
from twinlens.serving.call import Call
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.requests.answers import RowFormat, dump, shape_rows, to_base64
from twinlens.serving.requests.content_parts import read_content, take_one
from twinlens.serving.requests.dialects import read_dimensions, read_voyage_type
from twinlens.serving.requests.fields import Fields, parse_object
from twinlens.serving.requests.items import InputItem
from twinlens.serving.routes.all_or_nothing import embed_all_or_fail
from twinlens.serving.routes.endpoint import Endpoint
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits

PATHS = ("/v1/multimodalembeddings",)


@dataclass(frozen=True)
class VoyageRequest:
    """A request to `/v1/multimodalembeddings`."""

    items: Sequence[InputItem]
    names: Sequence[str]
    shape: RowFormat
    is_base64: bool
    model: str | None


def build_endpoint(service: Service) -> Endpoint:
    """Return the handler of this file's paths."""

    async def embed(request: Request) -> Response:
        """Embed in Voyage's shape."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            fields = parse_object(body, request.headers.get("content-type", ""))
            parsed = read_request(fields, service.settings.limits)
            call.input_type = fields.text("input_type", ("query", "document"))
            with service.registry.lease(parsed.model) as model:
                return await _answer(service, model, parsed, call)

    return embed


def read_request(fields: Fields, limits: Limits) -> VoyageRequest:
    """Return the request; `truncation` has no effect."""
    values = fields.values("inputs", limits.items)
    if values is None:
        raise InputError("inputs is missing: a list of objects with content", field="inputs")
    names = [f"inputs[{i}]" for i in range(len(values))]
    form = "encoding_format" if fields.has("encoding_format") else "output_encoding"
    return VoyageRequest(
        items=[_read_item(v, n, limits) for v, n in zip(values, names, strict=True)],
        names=names,
        shape=RowFormat(read_dimensions(fields), read_voyage_type(fields)),
        is_base64=fields.text(form, ("float", "base64")) == "base64",
        model=fields.text("model"),
    )


def _read_item(value: object, where: str, limits: Limits) -> InputItem:
    content = Fields(value, where).any("content")
    return take_one(read_content(content, f"{where}.content", limits), where)


async def _answer(
    service: Service, model: ServedModel, parsed: VoyageRequest, call: Call
) -> Response:
    parsed.shape.check(model.encoder.manifest)
    given = call.pixels_left
    rows, tokens = await embed_all_or_fail(service, model, parsed.items, parsed.names, call)
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
