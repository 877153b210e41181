"""The body of `/embed`: a raw image or video, a form, or JSON; its items and its options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastapi import Request

from twinlens.errors import InputError, TooLargeError
from twinlens.serving.call import Call
from twinlens.serving.failures import MediaTypeError
from twinlens.serving.openapi.declaration import (
    FILES,
)
from twinlens.serving.openapi.request_shapes import exactly_one, names_of, request_object
from twinlens.serving.openapi.schemas import (
    FLAG,
    IMAGE,
    MODEL,
    PRECISION,
    TEXT,
    Schema,
    array_of,
    closed_object,
    component,
    either,
    one_of,
)
from twinlens.serving.requests.answers import (
    OUTPUTS,
    RowFormat,
)
from twinlens.serving.requests.fields import Fields, check_text, is_json, parse_object
from twinlens.serving.requests.items import ITEM, InputItem, check_sizes, read_item, read_text
from twinlens.serving.requests.multipart import Form, parse_form
from twinlens.serving.requests.videos import VideoReader
from twinlens.serving.settings import Limits

_MOST_DIMENSIONS = 65_536
_OPTIONS: dict[str, Schema] = {
    "model": MODEL,
    "precision": PRECISION,
    "dimensions": {"type": "integer", "minimum": 1, "maximum": _MOST_DIMENSIONS},
    "output": one_of(*OUTPUTS),
}
# Fields of Text Embeddings Inference: with one of them, or with `inputs` that is a string, the
# answer is a bare list of rows, as its clients read it.
_TEI: dict[str, Schema] = {
    "truncate": FLAG,
    "normalize": {"const": True, "description": "Rows have length 1"},
    "truncation_direction": one_of("Right", "right"),
}
_LISTS: dict[str, Schema] = {
    "inputs": either(TEXT, array_of(ITEM, minItems=1)),
    "texts": array_of(TEXT, minItems=1),
    "images": array_of(IMAGE, minItems=1),
}
REQUEST = component(
    "EmbedRequest", request_object([], exactly_one(*_LISTS), **_LISTS, **_OPTIONS, **_TEI)
)
_NAMES = names_of(REQUEST)
FORM: Schema = {
    **closed_object([], images=FILES, texts=array_of(TEXT, minItems=1), **_OPTIONS),
    "anyOf": [{"required": ["images"]}, {"required": ["texts"]}],
}


@dataclass(frozen=True)
class EmbedRequest:
    """A request to `/embed`, from a raw body, a form or JSON."""

    items: Sequence[InputItem]
    shape: RowFormat
    model: str | None = None
    precision: str | None = None
    is_bare: bool = False  # answered by the rows alone, or by the first error
    seconds: tuple[float, ...] | None = None  # of the frames, if the items are those of a video


def read_request(body: bytes, request: Request, limits: Limits) -> EmbedRequest:
    """Return the request, read by its content type; a raw body has its options in the query."""
    content_type = request.headers.get("content-type", "")
    if content_type.startswith("image/") or content_type.startswith("application/octet-stream"):
        fields = Fields(as_options(dict(request.query_params)))
        fields.only(*_OPTIONS)
        return _read_options(fields, [InputItem(image=body)])
    if content_type.startswith("multipart/form-data"):
        return _read_form(parse_form(body, content_type), limits)
    if is_json(content_type):
        return read_json(parse_object(body, content_type), limits)
    raise MediaTypeError(
        f"a body of type {content_type[:80]!r} is not accepted here; send image/*, "
        "multipart/form-data or application/json"
    )


def is_video(request: Request) -> bool:
    """Return whether a body is a video, as its type says."""
    return request.headers.get("content-type", "").startswith("video/")


async def read_video(
    videos: VideoReader, body: bytes, request: Request, call: Call
) -> EmbedRequest:
    """Return the request for the frames of a video; its options are in the query."""
    fields = Fields(as_options(dict(request.query_params)))
    fields.only(*_OPTIONS, "frames")
    parsed = _read_options(fields, [])
    frames = await videos.read(body, fields.text("frames"), call)
    items = [InputItem(image=frame.image) for frame in frames]
    return replace(parsed, items=items, seconds=tuple(frame.seconds for frame in frames))


def _check_tei(fields: Fields, name: str) -> bool:
    """Check TEI's fields, which change no row; return whether they stand beside `inputs`."""
    fields.flag("truncate")
    fields.text("truncation_direction", ("Right", "right"))
    if fields.has("normalize") and not fields.flag("normalize"):
        raise InputError(
            "normalize is false; rows have length 1 here, leave it out", field="normalize"
        )
    return name == "inputs"


def read_json(fields: Fields, limits: Limits) -> EmbedRequest:
    """Return the request, from JSON."""
    fields.only(*_NAMES)
    given = [name for name in _LISTS if fields.has(name)]
    if len(given) != 1:
        raise InputError(
            "give exactly one of inputs (objects with text or image), texts or images",
            field="inputs",
        )
    name = given[0]
    is_bare = fields.has_any(_TEI) and _check_tei(fields, name)
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
    fields.only(*_OPTIONS)
    return _read_options(
        fields,
        [*(InputItem(image=file) for file in files), *(InputItem(text=text) for text in texts)],
    )


def _read_options(
    fields: Fields, items: Sequence[InputItem], *, is_bare: bool = False
) -> EmbedRequest:
    """Read the options that JSON, forms and queries share."""
    shape = RowFormat(
        dimensions=fields.integer("dimensions", 1, _MOST_DIMENSIONS),
        output=fields.text("output", OUTPUTS) or "float32",
    )
    return EmbedRequest(items, shape, fields.text("model"), fields.text("precision"), is_bare)


def is_integer(text: str) -> bool:
    """Return whether a text is an integer of few digits."""
    return text.isdecimal() and len(text) <= 9


def as_options(values: dict[str, str]) -> dict[str, object]:
    """Return options that came as text, converted to their types."""
    return {
        name: int(value) if name in ("dimensions", "head") and is_integer(value) else value
        for name, value in values.items()
    }
