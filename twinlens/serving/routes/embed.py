"""`POST /embed`: embeddings of images, texts and videos, as JSON or as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.bundle.prompts import INPUT_TYPES, require_prompt
from twinlens.errors import InputError, TooLargeError
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
from twinlens.serving.openapi.schemas import NUMBERS, array_of, either
from twinlens.serving.requests.answers import (
    JSON,
    OUTPUTS,
    RowFormat,
    choose_media,
    dump,
    pack_bytes,
    pack_json,
    shape_rows,
)
from twinlens.serving.requests.fields import Fields, check_text, is_json, parse_object, refuse_media
from twinlens.serving.requests.items import InputItem, check_sizes, read_item, read_text
from twinlens.serving.requests.multipart import Form, parse_form
from twinlens.serving.requests.row_options import MOST_DIMENSIONS
from twinlens.serving.requests.videos import VideoReader
from twinlens.serving.routes.all_or_nothing import embed_all_or_fail
from twinlens.serving.routes.embed_shapes import (
    ANSWER,
    BYTES,
    FORM,
    LISTS,
    NAMES,
    OPTIONS,
    REQUEST,
    TEI,
)
from twinlens.serving.routes.endpoint import HotRoute
from twinlens.serving.service import Service
from twinlens.serving.settings import Limits

_PLAIN = RowFormat()


@dataclass(frozen=True)
class EmbedRequest:
    """A request to `/embed`, from a raw body, a form or JSON."""

    items: Sequence[InputItem]
    shape: RowFormat
    model: str | None = None
    precision: str | None = None
    is_bare: bool = False  # answered by the rows alone, or by the first error
    input_type: str | None = None
    prompt_name: str | None = None  # as input_type, but refused where the bundle has no such prompt
    seconds: tuple[float, ...] | None = None  # of the frames, if the items are those of a video


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
                    either(ANSWER, array_of(NUMBERS)), "A row for each item, or its error", **BYTES
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
        """Embed one image (raw body), several (form), or images and texts (JSON)."""
        call = service.begin(request)
        async with service.receive(request, call) as body:
            parsed = (
                await _read_video(videos, body, request, call)
                if request.headers.get("content-type", "").startswith("video/")
                else read_request(body, request, service.settings.limits)
            )
            return await answer_request(service, parsed, request.headers.get("accept", ""), call)

    return router


async def answer_request(
    service: Service, parsed: EmbedRequest, accept: str, call: Call
) -> Response:
    """Embed and answer in the form that the client accepts."""
    with service.registry.lease(parsed.model, parsed.precision) as model:
        if parsed.shape is not _PLAIN:
            parsed.shape.check(model.encoder.manifest)
        if parsed.prompt_name is not None:
            require_prompt(model.encoder.manifest, parsed.prompt_name)
        call.input_type = parsed.prompt_name or parsed.input_type
        if parsed.is_bare:
            return await answer_bare(service, model, parsed, call)
        dim = model.encoder.manifest.embedding_dim
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
        call.seconds["answer"] = call.clock.now() - began
        return service.reply(content, model, call, media=media, headers=headers)


async def answer_bare(
    service: Service, model: ServedModel, parsed: EmbedRequest, call: Call
) -> Response:
    """Answer with the rows alone."""
    names = [f"inputs[{i}]" for i in range(len(parsed.items))]
    rows, _ = await embed_all_or_fail(service, model, parsed.items, names, call)
    shaped, _ = shape_rows(rows, parsed.shape)
    return service.reply(dump(shaped), model, call)


def read_request(body: bytes, request: Request, limits: Limits) -> EmbedRequest:
    """Return the request, read by its content type; a raw body has its options in the query."""
    content_type = request.headers.get("content-type", "")
    if content_type.startswith("image/") or content_type.startswith("application/octet-stream"):
        if not request.scope["query_string"]:
            return EmbedRequest([InputItem(image=body)], _PLAIN)
        fields = Fields(as_options(dict(request.query_params)))
        fields.only(*OPTIONS)
        return _read_options(fields, [InputItem(image=body)])
    if content_type.startswith("multipart/form-data"):
        return _read_form(parse_form(body, content_type), limits)
    if is_json(content_type):
        return read_json(parse_object(body, content_type), limits)
    raise refuse_media(content_type, "image/*, multipart/form-data or application/json")


async def _read_video(
    videos: VideoReader, body: bytes, request: Request, call: Call
) -> EmbedRequest:
    """Return the request for the frames of a video; its options are in the query."""
    fields = Fields(as_options(dict(request.query_params)))
    fields.only(*OPTIONS, "frames")
    parsed = _read_options(fields, [])
    frames = await videos.read(body, fields.text("frames"), call)
    items = [InputItem(image=frame.image) for frame in frames]
    return replace(parsed, items=items, seconds=tuple(frame.seconds for frame in frames))


def _check_tei(fields: Fields, name: str) -> bool:
    """Check TEI's fields, which change no row; return whether TEI's form of answer is due."""
    fields.flag("truncate")
    fields.text("truncation_direction", ("Right", "right"))
    if fields.has("normalize") and not fields.flag("normalize"):
        raise InputError(
            "normalize is false, but rows always have length 1 here; leave it out",
            field="normalize",
        )
    if fields.has("prompt_name") and fields.has("input_type"):
        raise InputError("give either prompt_name or input_type", field="prompt_name")
    return name == "inputs"


def read_json(fields: Fields, limits: Limits) -> EmbedRequest:
    """Return the request, from JSON."""
    fields.only(*NAMES)
    given = [name for name in LISTS if fields.has(name)]
    if len(given) != 1:
        raise InputError(
            "give exactly one of inputs (objects with text or image), texts or images",
            field="inputs",
        )
    name = given[0]
    is_bare = fields.has_any(TEI) and _check_tei(fields, name)
    if name == "inputs" and isinstance(fields.any(name), str):
        values, is_bare = [fields.any(name)], True
    else:
        values = fields.values(name, limits.items if name == "images" else limits.texts) or []
    if name == "images":
        values = [{"image": value} for value in values]
    read = _read_cut if is_bare else _read_one
    items = [read(value, f"{name}[{i}]", limits) for i, value in enumerate(values)]
    if len(items) > 1:  # one is within every limit
        check_sizes([items], name, limits)
    return _read_options(fields, items, is_bare=is_bare)


def _read_cut(value: object, where: str, limits: Limits) -> InputItem:
    """Return the item; a text that is too long is cut, as TEI does."""
    if isinstance(value, str):
        return read_text(value, where, limits)
    return read_item(value, where, limits.text_characters)


def _read_one(value: object, where: str, limits: Limits) -> InputItem:
    """Return the item; a text that is too long fails the item, a wrong type the request."""
    try:
        return read_item(value, where, limits.text_characters)
    except TooLargeError as error:
        return InputItem(error=error)


def _read_form(form: Form, limits: Limits) -> EmbedRequest:
    """Read files of any field as images and the values of `texts` as texts, images first."""
    files = [content for contents in form.files.values() for content in contents]
    texts = form.values.pop("texts", [])
    if not files and not texts:
        raise InputError("the form holds neither a file nor a field texts", field="images")
    if len(files) > limits.items or len(texts) > limits.texts:
        raise TooLargeError(
            f"the form holds more than {limits.items} images or {limits.texts} texts, the limits"
        )
    for i, text in enumerate(texts):
        check_text(text, f"texts[{i}]", limits.text_characters)
    fields = Fields(as_options({name: values[-1] for name, values in form.values.items()}))
    fields.only(*OPTIONS)
    return _read_options(
        fields,
        [*(InputItem(image=file) for file in files), *(InputItem(text=text) for text in texts)],
    )


def _read_options(
    fields: Fields, items: Sequence[InputItem], *, is_bare: bool = False
) -> EmbedRequest:
    """Read the options that JSON, forms and queries share."""
    shape = RowFormat(
        dimensions=fields.integer("dimensions", 1, MOST_DIMENSIONS),
        output=fields.text("output", OUTPUTS) or "float32",
    )
    return EmbedRequest(
        items,
        shape,
        fields.text("model"),
        fields.text("precision"),
        is_bare,
        fields.text("input_type", INPUT_TYPES),
        fields.text("prompt_name"),
    )


def is_integer(text: str) -> bool:
    """Return whether a text is an integer of few digits."""
    return text.isdecimal() and len(text) <= 9


def as_options(values: dict[str, str]) -> dict[str, object]:
    """Return options that came as text, converted to their types."""
    return {
        name: int(value) if name in ("dimensions", "head") and is_integer(value) else value
        for name, value in values.items()
    }
