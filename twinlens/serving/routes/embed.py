"""`POST /embed`: images, texts and videos to embeddings, as JSON or as bytes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.serving.call import Call
from twinlens.serving.embedding import embed_items
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.openapi.declaration import (
    PICTURE,
    RAW_IMAGE,
    RAW_VIDEO,
    answer,
    body_of,
    declare,
    form_of,
    json_of,
)
from twinlens.serving.openapi.schemas import (
    COUNT,
    ERROR,
    NUMBERS,
    STRING,
    array_of,
    closed_object,
    component,
    either,
    open_object,
)
from twinlens.serving.requests.answers import (
    JSON,
    NPY,
    RAW,
    choose_media,
    dump,
    pack_bytes,
    pack_json,
    shape_rows,
)
from twinlens.serving.requests.videos import VideoReader
from twinlens.serving.routes.all_or_nothing import embed_all_or_fail
from twinlens.serving.routes.embed_request import (
    FORM,
    REQUEST,
    EmbedRequest,
    is_video,
    read_request,
    read_video,
)
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.service import Service

ANSWER = component(
    "EmbedAnswer",
    closed_object(
        ["embeddings", "model", "revision"],
        embeddings=array_of(either(NUMBERS, ERROR)),
        scales=NUMBERS,
        seconds={**NUMBERS, "description": "Of a video: where each row's frame is"},
        model=STRING,
        revision=STRING,
        usage=open_object(["total_tokens"], total_tokens=COUNT),
    ),
)
_BYTES = {media: {"schema": STRING} for media in (RAW, NPY)}


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["embeddings"], route_class=HotRoute)
    videos = VideoReader(service.settings.limits)

    @router.post(
        "/embed",
        summary="Embed images and texts",
        **declare(
            {
                200: answer(
                    either(ANSWER, array_of(NUMBERS)), "A row for each item, or its error", **_BYTES
                )
            },
            body_of(
                json_of(
                    REQUEST,
                    texts={"texts": ["a red square", "a blue square"]},
                    mixed={"inputs": [{"text": "a red square"}, {"image": PICTURE}]},
                    whole_numbers={"images": [PICTURE], "output": "int8"},
                    tei={"inputs": ["a red square"], "truncate": True},
                ),
                RAW_IMAGE,
                RAW_VIDEO,
                form_of(FORM),
            ),
        ),
    )
    async def embed(request: Request) -> Response:
        """Embed one image or the frames of a video (raw body), several (form), or items (JSON)."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            parsed = (
                await read_video(videos, body, request, call)
                if is_video(request)
                else read_request(body, request, service.settings.limits)
            )
            return await answer_request(service, parsed, request.headers.get("accept", ""), call)

    return router


async def answer_request(
    service: Service, parsed: EmbedRequest, accept: str, call: Call
) -> Response:
    """Embed and answer in the form that the client accepts."""
    with service.registry.lease(parsed.model, parsed.precision) as model:
        parsed.shape.check(model.encoder.manifest)
        if parsed.is_bare:
            return await answer_bare(service, model, parsed, call)
        dim = model.encoder.embedding_dim
        embedded = await embed_items(model, parsed.items, call, service.fetcher)
        service.check_items(model, embedded.answers, call, "inputs")
        media = choose_media(accept)
        began = call.clock.now()
        headers: dict[str, str] = {}
        if media == JSON:
            extra: dict[str, Any] = {
                "model": model.name,
                "revision": model.revision,
                "usage": {"total_tokens": embedded.tokens},
            }
            if parsed.seconds is not None:
                extra["seconds"] = parsed.seconds
            content = pack_json(embedded.answers, parsed.shape, dim, extra)
        else:
            content, headers = pack_bytes(embedded.answers, parsed.shape, dim, media)
            if parsed.seconds is not None:
                headers["Twinlens-Seconds"] = ",".join(map(str, parsed.seconds))
        call.add("answer", call.clock.now() - began)
        return service.reply(content, model, call, media=media, headers=headers)


async def answer_bare(
    service: Service, model: ServedModel, parsed: EmbedRequest, call: Call
) -> Response:
    """Answer with the rows alone."""
    names = [f"inputs[{i}]" for i in range(len(parsed.items))]
    rows, _ = await embed_all_or_fail(service, model, parsed.items, names, call)
    shaped, _ = shape_rows(rows, parsed.shape)
    return service.reply(dump(shaped), model, call)
