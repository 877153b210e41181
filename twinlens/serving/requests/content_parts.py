"""One embedding's input in the form of chat APIs: a list of content parts, here exactly one.

vLLM, Cohere and Voyage each spell it differently; all of them are read here.
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
    open_object,
)
from twinlens.serving.requests.fields import Fields, check_text
from twinlens.serving.requests.items import InputItem
from twinlens.serving.settings import Limits

KINDS = ("text", "image_url", "image_base64")
# What `read_content` and `take_one` read together.
PARTS: Schema = array_of(
    either(
        open_object(["type", "text"], type={"const": "text"}, text=TEXT),
        open_object(
            ["type", "image_url"],
            type={"const": "image_url"},
            image_url=either(IMAGE, open_object(["url"], url=IMAGE)),
        ),
        open_object(["type", "image_base64"], type={"const": "image_base64"}, image_base64=IMAGE),
    ),
    minItems=1,
    maxItems=1,
)
CONTENT: Schema = component("Content", either(TEXT, PARTS))


def read_content(content: Any, where: str, limits: Limits) -> list[InputItem]:
    """Return the parts of a content: a bare string, or a list of objects with a type."""
    if isinstance(content, str):
        return [InputItem(text=check_text(content, where, limits.text_characters))]
    if not isinstance(content, list):
        raise InputError(f"{where} must be a string or a list of parts", field=where)
    return [read_part(part, f"{where}[{i}]", limits) for i, part in enumerate(content)]


def read_part(part: object, where: str, limits: Limits) -> InputItem:
    """Return the text or image that one part holds."""
    fields = Fields(part, where)
    kind = fields.text("type", KINDS)
    if kind == "text":
        return InputItem(
            text=check_text(fields.any("text"), f"{where}.text", limits.text_characters)
        )
    image = fields.any(kind) if kind else None
    if isinstance(image, dict):  # OpenAI's and Cohere's spelling; Voyage's is the bare string
        image = image.get("url")
    if not isinstance(image, str):
        raise InputError(f"{where} must be a text or an image_url", field=where)
    return InputItem(image=image)


def take_one(parts: list[InputItem], where: str) -> InputItem:
    """Return the only part: these encoders embed one text or one image, not several together."""
    if len(parts) != 1:
        raise InputError(
            f"{where} holds {len(parts)} texts and images; send exactly one per embedding",
            field=where,
        )
    return parts[0]
