"""`POST /attention`: attention maps of the image tower, as numbers or, on request, as a PNG."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.bundle.arrays import Pixels, Rows
from twinlens.errors import InputError, OverloadedError
from twinlens.serving.call import Call
from twinlens.serving.engine.attention import choose_head, compute_attention, draw_overlay
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.failures import DeadlineError
from twinlens.serving.openapi.declaration import (
    PICTURE,
    RAW_IMAGE,
    answer,
    body_of,
    declare,
    json_of,
)
from twinlens.serving.openapi.request_shapes import names_of, request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    IMAGE,
    MODEL,
    NUMBERS,
    REVISION,
    STRING,
    USED_MODEL,
    array_of,
    component,
    means,
    open_object,
)
from twinlens.serving.requests.answers import dump
from twinlens.serving.requests.fields import Fields, parse_object
from twinlens.serving.requests.items import InputItem, fetch_items
from twinlens.serving.requests.multipart import parse_form
from twinlens.serving.routes.embed import as_options
from twinlens.serving.service import Service

_WAITING = 16  # slow and rarely used: one at a time, with a short queue
_MOST_HEADS = 4096
REQUEST = component(
    "AttentionRequest",
    request_object(
        ["image"],
        image=IMAGE,
        head=means(
            {"type": "integer", "minimum": 0, "maximum": _MOST_HEADS},
            "Number of one head, from 0; default: the mean over all heads",
        ),
        model=MODEL,
    ),
)
ANSWER = component(
    "AttentionAnswer",
    open_object(
        ["attention", "rows", "columns", "heads"],
        attention=means(
            array_of(NUMBERS), "Attention to each patch of the last layer, `rows` x `columns`"
        ),
        rows=means(COUNT, "Patches from top to bottom"),
        columns=means(COUNT, "Patches from left to right"),
        heads=means(COUNT, "Heads that the model has"),
        head=means({"type": ["integer", "null"]}, "The head shown; null: the mean over all"),
        model=USED_MODEL,
        revision=REVISION,
    ),
)


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["attention"])
    turns = asyncio.Semaphore(1)
    waiting = 0

    @router.post(
        "/attention",
        **declare(
            {200: answer(ANSWER, "The attention map", **{"image/png": {"schema": STRING}})},
            body_of(json_of(REQUEST, one_head={"image": PICTURE, "head": 0}), RAW_IMAGE),
        ),
    )
    async def attention(request: Request) -> Response:
        """Return the last layer's attention map of one image."""
        nonlocal waiting
        call = service.begin(request)
        async with service.receive(request, call) as body:
            image, fields = read_image_request(body, request)
            if waiting >= _WAITING:
                raise OverloadedError(f"{_WAITING} attention maps are waiting already")
            waiting += 1
            try:
                with service.registry.lease(fields.text("model")) as model:
                    return await _answer(service, model, image, fields, request, call, turns)
            finally:
                waiting -= 1

    return router


async def _answer(
    service: Service,
    model: ServedModel,
    image: InputItem,
    fields: Fields,
    request: Request,
    call: Call,
    turns: asyncio.Semaphore,
) -> Response:
    fields.only(*names_of(REQUEST))
    head = fields.integer("head", 0, _MOST_HEADS)
    (item,) = await fetch_items([image], call, service.fetcher)
    if item.error is not None:
        raise item.error
    if model.encoder.manifest.attention is None:
        raise InputError(f"{model.name!r} was exported without attention", field="model")
    try:
        async with asyncio.timeout(call.remaining), turns:
            pixels, maps = await asyncio.get_running_loop().run_in_executor(
                service.pool, _run, model, item, call
            )
    except TimeoutError:
        raise DeadlineError("the request's deadline has passed") from None
    chosen = choose_head(maps, head)
    if "image/png" in request.headers.get("accept", ""):
        return service.reply(draw_overlay(pixels, chosen), model, call, media="image/png")
    body = {
        "attention": chosen,
        "rows": maps.shape[1],
        "columns": maps.shape[2],
        "heads": maps.shape[0],
        "head": head,
        "model": model.name,
        "revision": model.revision,
    }
    return service.reply(dump(body), model, call)


def _run(model: ServedModel, item: InputItem, call: Call) -> tuple[Pixels, Rows]:
    """Decode the image and compute its attention; runs in the decode pool."""
    pixels = model.decode(item.image or b"", call)
    began = call.clock.now()
    maps = compute_attention(model, pixels)
    call.add("encode", call.clock.now() - began)
    return pixels, maps


def read_image_request(body: bytes, request: Request) -> tuple[InputItem, Fields]:
    """Return the one image of a request, and its options."""
    content_type = request.headers.get("content-type", "")
    if content_type.startswith("image/"):
        return InputItem(image=body), Fields(as_options(dict(request.query_params)))
    if content_type.startswith("multipart/form-data"):
        form = parse_form(body, content_type)
        files = [content for contents in form.files.values() for content in contents]
        if len(files) != 1:
            raise InputError(f"the form holds {len(files)} files; send one", field="image")
        values = {name: values[-1] for name, values in form.values.items()}
        return InputItem(image=files[0]), Fields(as_options(values))
    fields = parse_object(body, content_type)
    image = fields.text("image")
    if image is None:
        raise InputError("image is missing: a data URI or base64", field="image")
    return InputItem(image=image), fields
