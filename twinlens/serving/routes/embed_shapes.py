"""The bodies that `/embed` reads and the answer that it gives, as its declaration shows them."""

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
    STRING,
    TEXT,
    Schema,
    array_of,
    closed_object,
    component,
    either,
    one_of,
    open_object,
)
from twinlens.serving.requests.answers import NPY, OUTPUTS, RAW
from twinlens.serving.requests.items import ITEM

MOST_DIMENSIONS = 65_536
OPTIONS: dict[str, Schema] = {
    "model": MODEL,
    "precision": PRECISION,
    "dimensions": {"type": "integer", "minimum": 1, "maximum": MOST_DIMENSIONS},
    "output": one_of(*OUTPUTS),
    "input_type": {
        **one_of(*INPUT_TYPES),
        "description": "What texts are for, where the bundle has prompts",
    },
}
# Fields of Text Embeddings Inference: with one of them, or with `inputs` that is a string, the
# answer is a bare list of rows, as its clients read it.
TEI: dict[str, Schema] = {
    "truncate": FLAG,
    "normalize": {"const": True, "description": "Rows have length 1"},
    "truncation_direction": one_of("Right", "right"),
    "prompt_name": {"type": "string", "description": "A prompt of the bundle"},
}
LISTS: dict[str, Schema] = {
    "inputs": either(TEXT, array_of(ITEM, minItems=1)),
    "texts": array_of(TEXT, minItems=1),
    "images": array_of(IMAGE, minItems=1),
}
REQUEST = component(
    "EmbedRequest",
    request_object(
        [], exactly_one(*LISTS), not_both("prompt_name", "input_type"), **LISTS, **OPTIONS, **TEI
    ),
)
NAMES = names_of(REQUEST)
FORM: Schema = {
    **closed_object([], images=FILES, texts=array_of(TEXT, minItems=1), **OPTIONS),
    "anyOf": [{"required": ["images"]}, {"required": ["texts"]}],
}
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
BYTES = {media: {"schema": STRING} for media in (RAW, NPY)}
