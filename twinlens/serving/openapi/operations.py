"""What each path reads and answers, with examples; tests replay them."""

from __future__ import annotations

from typing import Any

from twinlens.serving.openapi.forms import FORMS
from twinlens.serving.openapi.request_shapes import FOLDER, request_object
from twinlens.serving.openapi.schemas import (
    Schema,
    array_of,
    closed_object,
    open_object,
    ref,
)

# A red square of 2x2 pixels.
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR42mP4z8AARAwQCg"
    "Af7gP9Y167WwAAAABJRU5ErkJggg=="
)
Operation = dict[str, Any]


def json_of(schema: str, **examples: Any) -> Operation:
    """Return JSON content with examples."""
    content: Operation = {"schema": ref(schema)}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"application/json": content}


def body(*contents: Operation) -> Operation:
    """Return a request body that may be any of these contents."""
    joined: Operation = {}
    for content in contents:
        joined |= content
    return {"required": True, "content": joined}


def answer(schema: str | Schema, text: str, **others: Operation) -> Operation:
    """Return a response: JSON of a schema, or other types if the client accepts them."""
    shown = ref(schema) if isinstance(schema, str) else schema
    return {"description": text, "content": {"application/json": {"schema": shown}, **others}}


def list_of(schema: str) -> Schema:
    """Return the shape of a list in OpenAI's envelope."""
    return open_object(["object", "data"], object={"const": "list"}, data=array_of(ref(schema)))


_RAW_IMAGE: Operation = {"image/*": {"schema": {"type": "string", "contentMediaType": "image/*"}}}
_BYTES: Operation = {
    "application/octet-stream": {"schema": {"type": "string"}},
    "application/x-npy": {"schema": {"type": "string"}},
}
_CLASSIFIER_MADE = {
    "200": answer("Classifier", "Replaced"),
    "201": answer("Classifier", "Stored"),
    "202": answer(closed_object(["job"], job=ref("Job")), "Large: being built as a job"),
}

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("post", "/embed"): {
        "tags": ["embeddings"],
        "summary": "Embed images and texts",
        "requestBody": body(
            json_of(
                "EmbedRequest",
                texts={"texts": ["a red square", "a blue square"]},
                mixed={"inputs": [{"text": "a red square"}, {"image": PICTURE}]},
                whole_numbers={"images": [PICTURE], "output": "int8"},
            ),
            _RAW_IMAGE,
            {"multipart/form-data": {"schema": FORMS["embed"]}},
        ),
        "responses": {"200": answer("EmbedAnswer", "A row for each item, or its error", **_BYTES)},
    },
    ("post", "/v1/embeddings"): {
        "tags": ["openai"],
        "summary": "Embed in OpenAI's shape, or in infinity's, Jina's or vLLM's",
        "requestBody": body(
            json_of(
                "OpenAIRequest",
                openai={"input": ["a red square"], "encoding_format": "base64"},
                infinity={"input": [PICTURE], "modality": "image"},
                jina={"input": [{"text": "a red square"}, {"image": PICTURE}]},
                vllm={
                    "messages": [
                        {
                            "role": "user",
                            "content": [{"type": "image_url", "image_url": {"url": PICTURE}}],
                        }
                    ]
                },
            )
        ),
        "responses": {
            "200": answer(
                "OpenAIAnswer",
                "An embedding for each input",
                **{"application/octet-stream": {"schema": {"type": "string"}}},
            )
        },
    },
    ("post", "/zeroshot"): {
        "tags": ["zero-shot"],
        "summary": "Score images against class names or a stored classifier",
        "requestBody": body(
            json_of(
                "ZeroShotRequest",
                names={"images": [PICTURE], "classes": ["red", "green", "blue"]},
                one_by_one={
                    "images": [PICTURE],
                    "classes": ["red", "blue"],
                    "templates": ["a photo of a {}", "{}"],
                    "multi_label": True,
                    "none_of_these": True,
                },
                aliases={
                    "images": [PICTURE],
                    "candidate_labels": ["red", "green"],
                    "hypothesis_template": "a photo of a {}",
                    "top_k": 1,
                },
            ),
            {"multipart/form-data": {"schema": FORMS["zeroshot"]}},
        ),
        "responses": {"200": answer("ZeroShotAnswer", "Labels for each image, best first")},
    },
    ("put", "/classifiers/{name}"): {
        "requestBody": body(
            json_of(
                "ClassifierRequest",
                names={"classes": ["red", "green"], "templates": "plain"},
                examples={
                    "classes": [{"name": "red", "examples": [PICTURE]}, "green"],
                    "text_weight": 0.3,
                },
                job={"classes": ["red", "green"], "background": True},
            ),
            {"multipart/form-data": {"schema": FORMS["classifier"]}},
        ),
        "responses": _CLASSIFIER_MADE,
    },
    ("get", "/classifiers"): {"responses": {"200": answer(list_of("Classifier"), "All")}},
    ("get", "/classifiers/{name}"): {"responses": {"200": answer("Classifier", "It")}},
    ("delete", "/classifiers/{name}"): {"responses": {"200": answer("Deleted", "Gone")}},
    ("get", "/jobs"): {"responses": {"200": answer(list_of("Job"), "Newest first")}},
    ("get", "/jobs/{id}"): {"responses": {"200": answer("Job", "The job's progress")}},
    ("post", "/similarity"): {
        "tags": ["similarity"],
        "summary": "Compare texts and images in any combination",
        "requestBody": body(
            json_of(
                "SimilarityRequest",
                pairs={"pairs": [["red", {"image": PICTURE}]]},
                matrix={"left": ["red", "green"], "right": [{"image": PICTURE}, "blue"]},
            )
        ),
        "responses": {"200": answer("SimilarityAnswer", "Cosines")},
    },
    ("post", "/attention"): {
        "requestBody": body(
            {
                **json_of("AttentionRequest", one_head={"image": PICTURE, "head": 0}),
            },
            _RAW_IMAGE,
        ),
        "responses": {
            "200": answer(
                "AttentionAnswer",
                "The attention map",
                **{"image/png": {"schema": {"type": "string"}}},
            )
        },
    },
    ("get", "/v1/models"): {"responses": {"200": answer(list_of("Model"), "Default first")}},
    ("get", "/v1/models/{name}"): {"responses": {"200": answer("Model", "It")}},
    ("put", "/v1/models/{name}"): {
        "requestBody": {
            "content": {"application/json": {"schema": request_object([], bundle=FOLDER)}}
        },
        "responses": {"200": answer("Model", "Loaded")},
    },
    ("delete", "/v1/models/{name}"): {"responses": {"200": answer("Deleted", "Unloaded")}},
    ("get", "/healthz"): {"responses": {"200": answer("Health", "The process answers")}},
    ("get", "/readyz"): {
        "responses": {
            "200": answer("Health", "Ready"),
            "503": answer("Health", "Not ready, and why"),
        }
    },
    ("get", "/metrics"): {
        "responses": {
            "200": {
                "description": "Prometheus' text format",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            }
        }
    },
}
