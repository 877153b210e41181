"""The body of `/v1/embeddings` in each dialect, read into one request.

OpenAI sends `input` of strings, infinity `modality: image`, Jina objects, vLLM `messages`, Voyage
`output_dimension` and `output_dtype`. Fields that Twinlens does not need are ignored, as those
servers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from twinlens.errors import InputError
from twinlens.serving.openapi.request_shapes import exactly_one, open_request_object
from twinlens.serving.openapi.schemas import (
    IMAGE,
    MODEL,
    NULL,
    STRING,
    TEXT,
    array_of,
    component,
    either,
    means,
    one_of,
    open_object,
)
from twinlens.serving.requests.content_parts import INPUT, Parts, read_content
from twinlens.serving.requests.fields import Fields
from twinlens.serving.requests.items import ITEM_TEXT, InputItem, check_sizes, read_text
from twinlens.serving.requests.row_options import (
    DIMENSIONS,
    NUMBER_TYPE,
    read_dimensions,
    read_voyage_type,
)
from twinlens.serving.requests.token_ids import decode_ids, is_ids
from twinlens.serving.settings import Limits

_FORMATS = ("float", "base64", "bytes", "bytes_only")
_JINA_FORMATS = ("float", "base64", "binary", "ubinary")
_DTYPES = ("float32", "float16")
_ORDERS = ("native", "little", "big")
_MODALITIES = ("text", "image")

_CONVERSATION = array_of(INPUT, minItems=1)
_IDS = array_of({"type": "integer", "minimum": 0}, minItems=1)
REQUEST = component(
    "OpenAIRequest",
    open_request_object(
        [],
        exactly_one("input", "messages"),
        model=MODEL,
        input=means(
            either(
                TEXT,
                array_of(
                    either(
                        TEXT,
                        open_object(["text"], text=means(TEXT, ITEM_TEXT), image=NULL),
                        open_object(["image"], image=IMAGE, text=NULL),
                    ),
                    minItems=1,
                ),
                _IDS,
                array_of(_IDS, minItems=1),
            ),
            "One text or several, Jina's objects, or token ids of OpenAI's cl100k_base; at most "
            "`limits.texts`",
        ),
        messages=means(
            either(_CONVERSATION, array_of(_CONVERSATION, minItems=1)),
            "vLLM: a conversation, or several; each becomes one embedding",
        ),
        modality=means(one_of(*_MODALITIES), "infinity: what the strings of `input` are"),
        input_type=means(
            STRING,
            "Purpose of the texts, e.g. `query`: chooses the bundle's prompt; no effect where it "
            "has no prompts",
        ),
        dimensions=means({**DIMENSIONS, "minimum": 0}, f"{DIMENSIONS['description']}, as 0 is"),
        encoding_format=means(
            one_of(*_FORMATS),
            "`base64`: rows in base64; vLLM's `bytes`, `bytes_only`: rows one after another, with "
            "or without the header `metadata`; default `float`",
        ),
        output_dimension=means(DIMENSIONS, "Voyage: as `dimensions`"),
        output_dtype=NUMBER_TYPE,
        embedding_type=means(
            one_of(*_JINA_FORMATS), "Jina: instead of `encoding_format` and `output_dtype`"
        ),
        embed_dtype=means(
            one_of(*_DTYPES), "vLLM: number type in base64 and bytes; default `float32`"
        ),
        endianness=means(
            one_of(*_ORDERS), "vLLM: byte order in base64 and bytes; default `little`"
        ),
    ),
)


@dataclass(frozen=True)
class OpenAIRequest:
    """An embedding request in any dialect."""

    inputs: Sequence[Parts]
    names: Sequence[str]  # of the inputs, for errors
    dimensions: int | None
    form: str  # how embeddings are written
    output: str = "float32"  # or int8, uint8, binary, ubinary
    dtype: str = "float32"
    byte_order: Literal["<", ">"] = "<"
    model: str | None = None


def read_openai(fields: Fields, limits: Limits, modality: str = "text") -> OpenAIRequest:
    """Return the request; `modality` applies where it names none."""
    is_image = (fields.text("modality", _MODALITIES) or modality) == "image"
    inputs, names = _read_inputs(fields, is_image, limits)
    check_sizes(inputs, names[0].partition("[")[0], limits)
    form, output = _read_format(fields)
    order = fields.text("endianness", _ORDERS) or "little"
    return OpenAIRequest(
        inputs=inputs,
        names=names,
        dimensions=read_dimensions(fields),
        form=form,
        output=output,
        dtype=fields.text("embed_dtype", _DTYPES) or "float32",
        byte_order=">" if order == "big" else "<",
        model=fields.text("model"),
    )


def _read_inputs(fields: Fields, is_image: bool, limits: Limits) -> tuple[list[Parts], list[str]]:
    if fields.has("messages"):
        if fields.has("input"):
            raise InputError("give either input or messages", field="messages")
        return _read_conversations(fields, limits)
    value = fields.any("input")
    if isinstance(value, str):
        return [[_read_input(value, "input", is_image, limits)]], ["input"]
    if is_ids(value):
        return [[read_text(decode_ids(value, "input"), "input", limits)]], ["input"]
    values = fields.values("input", limits.texts)
    if values is None:
        raise InputError("input is missing", field="input")
    names = [f"input[{i}]" for i in range(len(values))]
    if isinstance(values[0], list):
        texts = [decode_ids(v, n) for v, n in zip(values, names, strict=True)]
        return [[read_text(t, n, limits)] for t, n in zip(texts, names, strict=True)], names
    inputs = [[_read_input(v, n, is_image, limits)] for v, n in zip(values, names, strict=True)]
    return inputs, names


def _read_input(value: object, where: str, is_image: bool, limits: Limits) -> InputItem:
    """Return a string (text, or image by infinity's modality) or Jina's object."""
    if isinstance(value, dict):
        fields = Fields(value, where)
        if fields.has("text") == fields.has("image"):
            raise InputError(f"{where} must hold either text or image", field=where)
        if fields.has("image"):
            return InputItem(image=fields.text("image"))
        value = fields.any("text")
    if is_image and isinstance(value, str) and value:
        return InputItem(image=value)
    return read_text(value, where, limits)


def _read_format(fields: Fields) -> tuple[str, str]:
    """Return the encoding of rows and their number type."""
    jina = fields.text("embedding_type", _JINA_FORMATS)
    encoding = fields.text("encoding_format", _FORMATS) or "float"
    number_type = read_voyage_type(fields)
    if jina is None:
        return encoding, number_type
    return ("float", jina) if jina in ("binary", "ubinary") else (jina, "float32")


def _read_conversations(fields: Fields, limits: Limits) -> tuple[list[Parts], list[str]]:
    """Return the parts of each conversation; `messages` is one or a list of them."""
    values = fields.values("messages", limits.texts) or []
    if isinstance(values[0], dict):
        return [_read_conversation(values, "messages", limits)], ["messages"]
    names = [f"messages[{i}]" for i in range(len(values))]
    return [_read_conversation(v, n, limits) for v, n in zip(values, names, strict=True)], names


def _read_conversation(messages: Any, where: str, limits: Limits) -> Parts:
    """Return the texts and images that a conversation holds."""
    if not isinstance(messages, list) or not messages:
        raise InputError(f"{where} must be a list of messages", field=where)
    parts: Parts = []
    for i, message in enumerate(messages):
        content = Fields(message, f"{where}[{i}]").any("content")
        parts += read_content(content, f"{where}[{i}].content", limits)
    return parts
