"""Declares the answers, body and examples of a route, as arguments of FastAPI's decorators.

    @router.post("/embed", **declare({200: answer(ANSWER, "The rows")}, json_body(REQUEST)))

What must stay true: all that the document says of a route is in its declaration.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Path
from starlette.responses import Response

from twinlens.serving.openapi.schemas import ERROR, STRING, Schema, means

# A red square of 2x2 pixels, for examples.
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR42mP4z8AARAwQCg"
    "Af7gP9Y167WwAAAABJRU5ErkJggg=="
)
MESSAGE_FIELD = "x-message-field"
_ANYONE: list[dict[str, list[str]]] = [{}, {"bearer": []}, {"key": []}]

ID = {"minLength": 1, "maxLength": 1024, "pattern": r"^[^\u0000]+$"}
ITEM_ID: Schema = {"type": "string", **ID}
# Parameters in paths. Their patterns are documented here and checked where the names are used, so
# that an error names the remedy.
Name = Annotated[
    str,
    Path(
        description="1 to 64 letters, digits, `.`, `_` or `-`; the first is a letter or digit",
        json_schema_extra={"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"},
    ),
]
JobId = Annotated[
    str,
    Path(description="The job's `id`", json_schema_extra={"pattern": "^[0-9a-f]{16}$"}),
]
ItemId = Annotated[
    str, Path(description="The item's id, percent-encoded; `/` may stay", json_schema_extra=ID)
]

MediaContent = dict[str, Any]  # by media type


def declare(
    answers: dict[int | str, Any],
    body: Mapping[str, Any] | None = None,
    *,
    is_open: bool = False,
    message_field: str = "",
) -> dict[str, Any]:
    """Return the arguments of a FastAPI decorator for a route; the first answer is the default.

    `is_open`: no key is needed. `message_field`: where SDKs that do not read OpenAI's `error`
    read an error's message; one that finds none there reports an unreadable answer.
    """
    error = answer(_error(message_field), "An error, in OpenAI's shape")
    extra: dict[str, Any] = {} if is_open else {"security": _ANYONE}
    if body is not None:
        extra["requestBody"] = dict(body)
    if message_field:
        extra[MESSAGE_FIELD] = message_field
    return {
        "responses": {**answers, "default": error},
        "status_code": next(iter(answers)),
        "response_class": Response,
        "openapi_extra": extra,
    }


def json_of(schema: Schema, **examples: Any) -> MediaContent:
    """Return JSON content with examples."""
    content: dict[str, Any] = {"schema": schema}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"application/json": content}


def form_of(schema: Schema) -> MediaContent:
    """Return the content of a form: images as files, everything else as text fields."""
    return {"multipart/form-data": {"schema": schema}}


def raw_of(media: str, text: str) -> MediaContent:
    """Return the content of a body that is a file."""
    return {media: {"schema": {"type": "string", "contentMediaType": media, "description": text}}}


def body_of(*contents: MediaContent, required: bool = True) -> dict[str, Any]:
    """Return a request body that may be any of these contents."""
    joined = {media: shown for content in contents for media, shown in content.items()}
    return {"required": True, "content": joined} if required else {"content": joined}


def json_body(schema: Schema, **examples: Any) -> dict[str, Any]:
    """Return a request body of JSON, with examples that tests replay."""
    return body_of(json_of(schema, **examples))


def answer(schema: Schema, text: str, **others: MediaContent) -> dict[str, Any]:
    """Return a response: JSON of a schema, or other types if the client accepts them."""
    return {"description": text, "content": {**json_of(schema), **others}}


def answer_of(media: str, text: str) -> dict[str, Any]:
    """Return a response that is never JSON."""
    return {"description": text, "content": {media: {"schema": {"type": "string"}}}}


RAW_IMAGE: MediaContent = raw_of("image/*", "An image file; options go into the query string")
RAW_VIDEO: MediaContent = raw_of(
    "video/*",
    "A video file; options go into the query string, with `frames`: the seconds between two "
    "frames, 2 by default, or `scenes`",
)
FILES: Schema = {
    "type": "array",
    "items": {"type": "string", "format": "binary"},
    "minItems": 1,
    "description": "Image files; a file field of any name counts",
}


def _error(message_field: str) -> Schema:
    """Return the shape of errors, with the field that a dialect's clients read beside it."""
    if not message_field:
        return ERROR
    message = means(STRING, "The same message, where this dialect's clients read it")
    members = {**ERROR["properties"], message_field: message}
    shape = {**ERROR, "properties": members, "required": ["error", message_field]}
    return {name: value for name, value in shape.items() if name != "title"}
