"""immich, a photo library: `GET /ping`, and `POST /predict` with a form, as its server asks.

The form's `entries` name the task; an `image` or a `text` is embedded, and the embedding answered
as JSON within a string. immich keeps rows of the length that it knows for its model's name, so the
name is an alias with that width (`--alias ViT-B-32__openai=photos:512`) and rows are filled with
zeros, which changes no cosine. `/predict` with JSON is Text Embeddings Inference's.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import orjson
from fastapi import APIRouter, Request
from PIL import Image
from starlette.responses import Response

from twinlens.bundle.arrays import Row
from twinlens.errors import InputError
from twinlens.serving.call import Call
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.openapi.declaration import (
    answer,
    answer_of,
    body_of,
    declare,
    form_of,
    json_of,
)
from twinlens.serving.openapi.schemas import COUNT, STRING, component, either, means, open_object
from twinlens.serving.requests.answers import dump
from twinlens.serving.requests.fields import Fields, parse_object
from twinlens.serving.requests.items import InputItem, read_text
from twinlens.serving.requests.multipart import Form, parse_form
from twinlens.serving.routes.all_or_nothing import embed_all_or_fail
from twinlens.serving.routes.dialects import tei
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits

FORM = open_object(
    ["entries"],
    entries=means(STRING, 'JSON: {"clip": {"visual" or "textual": {"modelName": NAME}}}'),
    image=means({"type": "string", "format": "binary"}, "The image file, for `visual`"),
    text=means(STRING, "The text, for `textual`"),
)
ANSWER = component(
    "ImmichAnswer",
    open_object(
        ["clip"],
        clip=means(STRING, "The embedding: a JSON list of numbers, as text"),
        imageHeight=means(COUNT, "Height of the image in pixels; absent for a text"),
        imageWidth=means(COUNT, "Width of the image in pixels; absent for a text"),
    ),
)


@dataclass(frozen=True)
class ImmichRequest:
    """An image or a text to embed with the model of a name."""

    item: InputItem
    name: str


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["immich"], route_class=HotRoute)

    @router.get("/ping", **declare({200: answer_of("text/plain", "pong")}, is_open=True))
    async def ping() -> Response:
        """Answer immich's health check."""
        return Response("pong", media_type="text/plain")

    @router.post(
        "/predict",
        **declare(
            {200: answer(either(ANSWER, tei.PREDICTED), "An embedding within a string, or labels")},
            body_of(
                form_of(FORM),
                json_of(tei.PREDICTION, pairs={"inputs": [["a red square", "a square"]]}),
            ),
        ),
    )
    async def predict(request: Request) -> Response:
        """Embed for immich (a form), or classify texts as TEI does (JSON)."""
        call = service.begin(request)
        media = request.headers.get("content-type", "")
        async with service.receive(request, call) as body:
            if not media.startswith("multipart/form-data"):
                return await tei.predict(service, parse_object(body, media), call)
            parsed = read_request(parse_form(body, media), service.settings.limits)
            with service.registry.lease(parsed.name) as model:
                return await _answer(service, model, parsed, call)

    return router


def read_request(form: Form, limits: Limits) -> ImmichRequest:
    """Return what to embed; tasks other than CLIP's have no model here."""
    try:
        raw = orjson.loads(form.values.get("entries", [""])[-1])
    except orjson.JSONDecodeError:
        raise InputError("entries must be JSON in a form field", field="entries") from None
    entries = Fields(raw, "entries")
    others = [name for name in raw if name != "clip"]
    if others:
        raise InputError(
            f"entries asks for {others[0][:40]!r}; this server embeds images and texts, and does "
            "not detect faces or text: turn that off in immich, or use another server for it",
            field="entries",
            code="task_not_served",
        )
    clip = Fields(entries.any("clip"), "entries.clip")
    side = "visual" if clip.has("visual") else "textual"
    name = Fields(clip.any(side), f"entries.clip.{side}").text("modelName")
    if name is None:
        raise InputError("entries names no modelName", field=f"entries.clip.{side}.modelName")
    return ImmichRequest(_read_item(form, side, limits), name)


def _read_item(form: Form, side: str, limits: Limits) -> InputItem:
    if side == "textual":
        return read_text(form.values.get("text", [""])[-1], "text", limits)
    files = form.files.get("image", [])
    if not files:
        raise InputError("the form holds no file image", field="image")
    return InputItem(image=files[-1])


async def _answer(
    service: Service, model: ServedModel, parsed: ImmichRequest, call: Call
) -> Response:
    alias = service.registry.aliases.get(parsed.name)
    is_image = parsed.item.image is not None
    names = ["image" if is_image else "text"]
    call.input_type = "query"  # its texts are searches
    rows, _ = await embed_all_or_fail(service, model, [parsed.item], names, call)
    width = len(rows[0]) if alias is None or alias.width is None else alias.width
    body: dict[str, object] = {"clip": dump(fill_row(rows[0], width, parsed.name)).decode()}
    if isinstance(parsed.item.image, bytes):
        with Image.open(io.BytesIO(parsed.item.image)) as opened:  # reads its header only
            body |= {"imageHeight": opened.height, "imageWidth": opened.width}
    return service.reply(dump(body), model, call)


def fill_row(row: Row, width: int, name: str) -> Row:
    """Return a row with zeros behind it; its length and all cosines stay the same."""
    if len(row) > width:
        raise InputError(
            f"alias {name!r} promises {width} numbers, but its model has {len(row)}; choose a "
            "model with longer rows in immich, and alias its name",
            field="modelName",
        )
    return np.concatenate([row, np.zeros(width - len(row), row.dtype)])
