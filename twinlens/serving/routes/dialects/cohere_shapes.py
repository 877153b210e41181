"""Request and answer shapes of Cohere's API, for OpenAPI."""

from __future__ import annotations

from twinlens.serving.openapi.request_shapes import exactly_one, open_request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    IMAGE,
    MODEL,
    NUMBERS,
    STRING,
    TEXT,
    Schema,
    array_of,
    closed_object,
    component,
    either,
    means,
    one_of,
    open_object,
)
from twinlens.serving.requests.content_parts import INPUT
from twinlens.serving.requests.row_options import DIMENSIONS

PURPOSES = ("search_document", "search_query", "classification", "clustering", "image")
KINDS = ("float", "int8", "uint8", "binary", "ubinary", "base64")
LISTS: dict[str, Schema] = {
    "texts": means(array_of(TEXT, minItems=1), "Texts to embed; at most `limits.texts`"),
    "images": means(array_of(IMAGE, minItems=1), "Images to embed; at most `limits.items`"),
    "inputs": means(array_of(INPUT, minItems=1), "One embedding for each"),
}
_TYPES = means(
    array_of(one_of(*KINDS), minItems=1, maxItems=len(KINDS)),
    "Number types to return; default: `float` (version 1: a plain list of rows)",
)
_PURPOSE = means(
    one_of(*PURPOSES),
    "Purpose of the texts: chooses the bundle's prompt; no effect where it has no prompts",
)
REQUEST = component(
    "CohereRequest",
    open_request_object(
        ["input_type"],
        exactly_one(*LISTS),
        **LISTS,
        model=MODEL,
        input_type=_PURPOSE,
        embedding_types=_TYPES,
        output_dimension=DIMENSIONS,
    ),
)
REQUEST_1 = component(
    "CohereRequest1",
    open_request_object(
        [],
        exactly_one("texts", "images"),
        **{name: LISTS[name] for name in ("texts", "images")},
        model=MODEL,
        input_type=_PURPOSE,
        embedding_types=_TYPES,
        output_dimension=DIMENSIONS,
    ),
)
_MEANINGS = {
    "float": "Rows of length 1",
    "int8": "Rows scaled to -127..127, each by its own largest number",
    "uint8": "`int8` + 128",
    "binary": "`ubinary` - 128",
    "ubinary": "Signs of the rows, 8 in a byte, first number in the highest bit",
    "base64": "Rows as little-endian float32 in base64",
}
_BY_KIND = closed_object(
    [],
    **{
        kind: means(array_of(STRING if kind == "base64" else NUMBERS), _MEANINGS[kind])
        for kind in KINDS
    },
)
META = means(
    open_object(
        ["api_version", "billed_units"],
        api_version=means(
            open_object(["version"], version=means(STRING, "`1` or `2`")), "Version of the path"
        ),
        billed_units=means(
            open_object(
                ["input_tokens"],
                input_tokens=means(COUNT, "Tokens of all texts"),
                images=means(COUNT, "Number of images; absent without images"),
            ),
            "What was embedded; nothing is billed",
        ),
    ),
    "What the answer was made by and of",
)
_ID = means(STRING, "Id of the request, as in the header `x-request-id`")
ANSWER = component(
    "CohereAnswer",
    closed_object(
        ["id", "response_type", "embeddings", "meta"],
        id=_ID,
        response_type={"const": "embeddings_by_type"},
        embeddings=means(_BY_KIND, "Rows by number type, in the order of the request"),
        meta=META,
    ),
)
ANSWER_1 = component(
    "CohereAnswer1",
    closed_object(
        ["id", "response_type", "embeddings", "texts", "meta"],
        id=_ID,
        response_type=means(
            one_of("embeddings_by_type", "embeddings_floats"), "Which form `embeddings` has"
        ),
        embeddings=means(
            either(array_of(NUMBERS), _BY_KIND),
            "Rows, or rows by number type where `embedding_types` was given",
        ),
        texts=means(array_of(STRING), "The texts of the request; empty for images"),
        meta=META,
    ),
)
