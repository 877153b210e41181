"""One embedding's input in the form of chat APIs: a list of content parts, texts and images.

vLLM, Cohere and Voyage write it differently; all forms are read here. Several parts become one
embedding: the mean of theirs, normalised again.
"""

from __future__ import annotations

from typing import Any

from twinlens.errors import InputError
from twinlens.serving.openapi.schemas import (
    IMAGE,
    TEXT,
    Schema,
    array_of,
    component,
    either,
    means,
    open_object,
)
from twinlens.serving.requests.fields import Fields
from twinlens.serving.requests.items import InputItem, read_image, read_text
from twinlens.serving.settings import Limits

KINDS = ("text", "image_url", "image_base64")
Parts = list[InputItem]  # of one embedding, at least one
_AN_IMAGE = f"{IMAGE['description']}; also as `url` of an object"
CONTENT: Schema = component(
    "Content",
    either(
        TEXT,
        array_of(
            either(
                open_object(
                    ["type", "text"], type={"const": "text"}, text=means(TEXT, "The text to embed")
                ),
                open_object(
                    ["type", "image_url"],
                    type={"const": "image_url"},
                    image_url=means(either(IMAGE, open_object(["url"], url=IMAGE)), _AN_IMAGE),
                ),
                open_object(
                    ["type", "image_base64"], type={"const": "image_base64"}, image_base64=IMAGE
                ),
            ),
            minItems=1,
        ),
    ),
)
INPUT: Schema = open_object(
    ["content"],
    content=means(CONTENT, "Texts and images; several become one embedding, their mean"),
)


def read_content(content: Any, where: str, limits: Limits) -> Parts:
    """Return the parts of a content: a bare string, or a list of objects with a type."""
    if isinstance(content, str):
        return [read_text(content, where, limits)]
    if not isinstance(content, list) or not content:
        raise InputError(f"{where} must be a string or a list of parts", field=where)
    return [read_part(part, f"{where}[{i}]", limits) for i, part in enumerate(content)]


def read_contents(fields: Fields, name: str, limits: Limits) -> tuple[list[Parts], list[str]]:
    """Return the parts of the `content` of each object in a list, and the objects' names."""
    values = fields.values(name, limits.texts) or []
    names = [fields.path(f"{name}[{i}]") for i in range(len(values))]
    contents = [
        read_content(Fields(value, where).any("content"), f"{where}.content", limits)
        for value, where in zip(values, names, strict=True)
    ]
    return contents, names


def read_part(part: object, where: str, limits: Limits) -> InputItem:
    """Return the text or image that one part holds."""
    fields = Fields(part, where)
    kind = fields.text("type", KINDS)
    if kind == "text":
        return read_text(fields.any("text"), f"{where}.text", limits)
    image = fields.any(kind) if kind else None
    if isinstance(image, dict):  # OpenAI's and Cohere's spelling; Voyage's is the bare string
        image = image.get("url")
    if not isinstance(image, str):
        raise InputError(f"{where} must be a text or an image_url", field=where)
    return read_image(image, where)
