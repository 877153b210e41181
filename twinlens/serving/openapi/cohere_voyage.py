"""Cohere's and Voyage's paths for the OpenAPI document: shapes, and examples that tests replay."""

from __future__ import annotations

from twinlens.serving.openapi.operations import PICTURE, Operation, answer, body, json_of
from twinlens.serving.openapi.request_shapes import exactly_one, open_request_object
from twinlens.serving.openapi.requests import DIMENSIONS, PARTS
from twinlens.serving.openapi.schemas import (
    COUNT,
    IMAGE,
    MODEL,
    NUMBERS,
    TEXT,
    Schema,
    array_of,
    closed_object,
    either,
    open_object,
    ref,
)
from twinlens.serving.routes.cohere import KINDS, PURPOSES

_NAMES: Schema = array_of({"type": "string"})
SCHEMAS: dict[str, Schema] = {
    "ContentInput": open_object(["content"], content=either(TEXT, PARTS)),
    "CohereRequest": open_request_object(
        ["input_type"],
        exactly_one("texts", "images", "inputs"),
        model=MODEL,
        input_type={"enum": list(PURPOSES)},
        texts=array_of(TEXT, minItems=1),
        images=array_of(IMAGE, minItems=1),
        inputs=array_of(ref("ContentInput"), minItems=1),
        embedding_types=array_of({"enum": list(KINDS)}, minItems=1, maxItems=len(KINDS)),
        output_dimension=DIMENSIONS,
    ),
    "CohereAnswer": closed_object(
        ["id", "response_type", "embeddings", "meta"],
        id={"type": "string"},
        response_type={"const": "embeddings_by_type"},
        embeddings=closed_object(
            [], **{kind: _NAMES if kind == "base64" else array_of(NUMBERS) for kind in KINDS}
        ),
        meta=open_object(
            ["api_version", "billed_units"],
            billed_units=open_object(["input_tokens"], input_tokens=COUNT, images=COUNT),
        ),
    ),
    "VoyageRequest": open_request_object(
        ["inputs"],
        model=MODEL,
        inputs=array_of(ref("ContentInput"), minItems=1),
        output_dimension=DIMENSIONS,
        output_dtype={"enum": ["float", "int8", "uint8", "binary", "ubinary"]},
        encoding_format={"enum": ["float", "base64"]},
    ),
    "VoyageAnswer": closed_object(
        ["object", "data", "model", "usage"],
        object={"const": "list"},
        data=array_of(
            closed_object(
                ["object", "index", "embedding"],
                object={"const": "embedding"},
                index=COUNT,
                embedding=either(NUMBERS, {"type": "string"}),
            )
        ),
        model={"type": "string"},
        usage=closed_object(
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
