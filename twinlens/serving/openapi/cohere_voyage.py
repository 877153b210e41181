"""Cohere's and Voyage's paths for the OpenAPI document: shapes, and examples that tests replay."""

from __future__ import annotations

from twinlens.serving.openapi.operations import PICTURE, Operation, answer, body, json_of
from twinlens.serving.openapi.schemas import (
    COUNT,
    IMAGE,
    MODEL,
    NUMBERS,
    TEXT,
    Schema,
    either,
    loose,
    many,
    record,
    ref,
)
from twinlens.serving.routes.cohere import KINDS, PURPOSES

_DIMENSION: Schema = {"type": "integer", "minimum": 1}
_NAMES: Schema = many({"type": "string"})
_PARTS = many(
    either(
        loose(["type", "text"], type={"const": "text"}, text=TEXT),
        loose(
            ["type", "image_url"],
            type={"const": "image_url"},
            image_url=either(IMAGE, loose(["url"], url=IMAGE)),
        ),
        loose(["type", "image_base64"], type={"const": "image_base64"}, image_base64=IMAGE),
    ),
    minItems=1,
    maxItems=1,
)

SCHEMAS: dict[str, Schema] = {
    "ContentInput": loose(["content"], content=_PARTS),
    "CohereRequest": loose(
        ["input_type"],
        model=MODEL,
        input_type={"enum": list(PURPOSES)},
        texts=many(TEXT, minItems=1),
        images=many(IMAGE, minItems=1),
        inputs=many(ref("ContentInput"), minItems=1),
        embedding_types=many({"enum": list(KINDS)}, minItems=1, maxItems=len(KINDS)),
        output_dimension=_DIMENSION,
        truncate={"enum": ["NONE", "START", "END"]},
    ),
    "CohereAnswer": record(
        ["id", "response_type", "embeddings", "meta"],
        id={"type": "string"},
        response_type={"const": "embeddings_by_type"},
        embeddings=record(
            [], **{kind: _NAMES if kind == "base64" else many(NUMBERS) for kind in KINDS}
        ),
        meta=loose(
            ["api_version", "billed_units"],
            billed_units=loose(["input_tokens"], input_tokens=COUNT, images=COUNT),
        ),
    ),
    "VoyageRequest": loose(
        ["inputs"],
        model=MODEL,
        inputs=many(ref("ContentInput"), minItems=1),
        input_type={"type": ["string", "null"]},
        truncation={"type": "boolean"},
        output_dimension=_DIMENSION,
        output_dtype={"enum": ["float", "int8", "uint8", "binary", "ubinary"]},
        encoding_format={"enum": ["float", "base64"]},
    ),
    "VoyageAnswer": record(
        ["object", "data", "model", "usage"],
        object={"const": "list"},
        data=many(
            record(
                ["object", "index", "embedding"],
                object={"const": "embedding"},
                index=COUNT,
                embedding=either(NUMBERS, {"type": "string"}),
            )
        ),
        model={"type": "string"},
        usage=record(
            ["text_tokens", "image_pixels", "video_pixels", "total_tokens"],
            text_tokens=COUNT,
            image_pixels=COUNT,
            video_pixels=COUNT,
            total_tokens=COUNT,
        ),
    ),
}

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("post", "/v2/embed"): {
        "tags": ["cohere"],
        "summary": "Embed in Cohere's shape, several kinds of numbers in one answer",
        "requestBody": body(
            json_of(
                "CohereRequest",
                texts={
                    "texts": ["a red square"],
                    "input_type": "search_query",
                    "embedding_types": ["float", "ubinary"],
                },
                image={"images": [PICTURE], "input_type": "image", "embedding_types": ["int8"]},
                content={
                    "inputs": [
                        {"content": [{"type": "image_url", "image_url": {"url": PICTURE}}]},
                        {"content": [{"type": "text", "text": "a red square"}]},
                    ],
                    "input_type": "search_document",
                },
            )
        ),
        "responses": {"200": answer("CohereAnswer", "The rows, by kind of number")},
    },
    ("post", "/v1/multimodalembeddings"): {
        "tags": ["voyage"],
        "summary": "Embed in Voyage's shape (texts alone: /v1/embeddings)",
        "requestBody": body(
            json_of(
                "VoyageRequest",
                mixed={
                    "inputs": [
                        {"content": [{"type": "text", "text": "a red square"}]},
                        {"content": [{"type": "image_base64", "image_base64": PICTURE}]},
                    ],
                    "input_type": "document",
                },
                coded={
                    "inputs": [{"content": [{"type": "image_url", "image_url": PICTURE}]}],
                    "encoding_format": "base64",
                    "output_dtype": "int8",
                },
            )
        ),
        "responses": {"200": answer("VoyageAnswer", "An embedding for each input")},
    },
}
