"""Request and answer shapes of `/embed`, for OpenAPI."""

from __future__ import annotations

from twinlens.bundle.prompts import INPUT_TYPES
from twinlens.serving.openapi.declaration import FILES
from twinlens.serving.openapi.request_shapes import exactly_one, names_of, not_both, request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    ERROR,
    FLAG,
    IMAGE,
    MODEL,
    NUMBERS,
    PRECISION,
    REVISION,
    STRING,
    TEXT,
    USED_MODEL,
    Schema,
    array_of,
    closed_object,
    component,
    either,
    means,
    one_of,
    open_object,
)
from twinlens.serving.requests.answers import NPY, OUTPUTS, RAW
from twinlens.serving.requests.items import ITEM
from twinlens.serving.requests.row_options import DIMENSIONS

OPTIONS: dict[str, Schema] = {
    "model": MODEL,
    "precision": PRECISION,
    "dimensions": DIMENSIONS,
    "output": means(
        one_of(*OUTPUTS),
        "Number type of the rows: `int8` comes with `scales`, `ubinary` is the signs, 8 in a byte; "
        "default `float32`",
    ),
    "input_type": means(
        one_of(*INPUT_TYPES),
        "Purpose of the texts: chooses the bundle's prompt; no effect where it has no prompts",
    ),
}
# Fields of Text Embeddings Inference: with one of them, or with `inputs` that is a string, the
# answer is a bare list of rows, as its clients read it.
TEI: dict[str, Schema] = {
    "truncate": means(FLAG, "No effect: texts beyond the model's context are always cut off"),
    "normalize": means({"const": True}, "No effect: rows always have length 1"),
    "truncation_direction": means(
        one_of("Right", "right"), "No effect: texts are always cut at their end"
    ),
    "prompt_name": means(
        STRING, "As `input_type`, but refused where the bundle has no such prompt"
    ),
}
LISTS: dict[str, Schema] = {
    "inputs": means(
        either(TEXT, array_of(ITEM, minItems=1)),
        "Texts and images mixed; at most `limits.texts`, of them `limits.items` images",
    ),
    "texts": means(array_of(TEXT, minItems=1), "Texts to embed; at most `limits.texts`"),
    "images": means(array_of(IMAGE, minItems=1), "Images to embed; at most `limits.items`"),
}
REQUEST = component(
    "EmbedRequest",
    request_object(
        [], exactly_one(*LISTS), not_both("prompt_name", "input_type"), **LISTS, **OPTIONS, **TEI
    ),
)
NAMES = names_of(REQUEST)
FORM: Schema = {
    **closed_object([], images=FILES, texts=LISTS["texts"], **OPTIONS),
    "anyOf": [{"required": ["images"]}, {"required": ["texts"]}],
}
ANSWER = component(
    "EmbedAnswer",
    closed_object(
        ["embeddings", "model", "revision"],
        embeddings=means(
            array_of(either(NUMBERS, ERROR)), "A row of length 1 for each item, or its error"
        ),
        scales=means(NUMBERS, "With `int8`: a row is its int8 numbers times its scale"),
        seconds=means(NUMBERS, "Of a video: the time of each row's frame, in seconds"),
        model=USED_MODEL,
        revision=REVISION,
        usage=means(
            open_object(["total_tokens"], total_tokens=means(COUNT, "Tokens of all texts")),
            "What was embedded",
        ),
    ),
)
BYTES = {media: {"schema": STRING} for media in (RAW, NPY)}
