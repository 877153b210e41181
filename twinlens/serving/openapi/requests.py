"""The shapes of requests, as JSON Schema; those of collections, Cohere and Voyage lie beside."""

from __future__ import annotations

from twinlens.serving.openapi.request_shapes import (
    NULL,
    either_group,
    exactly_one,
    not_both,
    open_request_object,
    request_object,
)
from twinlens.serving.openapi.schemas import (
    IMAGE,
    MODEL,
    PRECISION,
    TEXT,
    Schema,
    array_of,
    closed_object,
    either,
    open_object,
    ref,
)
from twinlens.serving.zeroshot.templates import SETS

DIMENSIONS: Schema = {"type": "integer", "minimum": 1, "maximum": 65_536}
PARTS = array_of(
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
TEMPLATE: Schema = {"type": "string", "pattern": r"^[^{}]*\{\}[^{}]*$"}
_SET: Schema = {"enum": list(SETS), "description": "A named set of templates"}
_TEMPLATES = either(TEMPLATE, _SET, array_of(TEMPLATE, minItems=1))
_CLASSES = array_of(TEXT, minItems=1)
_ONE_TEMPLATE = not_both("templates", "hypothesis_template")
EMBED_OPTIONS: dict[str, Schema] = {
    "model": MODEL,
    "precision": PRECISION,
    "dimensions": DIMENSIONS,
    "output": {"enum": ["float32", "int8", "ubinary"]},
}
_MESSAGES = array_of(
    open_object(["content"], role={"type": "string"}, content=either(TEXT, PARTS)),
    minItems=1,
    maxItems=1,
)

SCHEMAS: dict[str, Schema] = {
    "Item": either(
        TEXT,
        closed_object(["text"], text=TEXT, image=NULL),
        closed_object(["image"], image=IMAGE, text=NULL),
    ),
    "EmbedRequest": request_object(
        [],
        exactly_one("inputs", "texts", "images"),
        inputs=array_of(ref("Item"), minItems=1),
        texts=array_of(TEXT, minItems=1),
        images=array_of(IMAGE, minItems=1),
        **EMBED_OPTIONS,
    ),
    "OpenAIRequest": open_request_object(
        [],
        exactly_one("input", "messages"),
        model=MODEL,
        input=either(
            TEXT,
            array_of(
                either(
                    TEXT,
                    open_object(["text"], text=TEXT, image=NULL),
                    open_object(["image"], image=IMAGE, text=NULL),
                ),
                minItems=1,
            ),
        ),
        messages=_MESSAGES,
        modality={"enum": ["text", "image"]},
        dimensions=DIMENSIONS,
        encoding_format={"enum": ["float", "base64", "bytes", "bytes_only"]},
        output_dimension=DIMENSIONS,
        output_dtype={"enum": ["float", "int8", "uint8", "binary", "ubinary"]},
        embedding_type={"enum": ["float", "base64", "binary", "ubinary"]},
        embed_dtype={"enum": ["float32", "float16"]},
        endianness={"enum": ["native", "little", "big"]},
    ),
    "ZeroShotRequest": request_object(
        ["images"],
        exactly_one("classes", "candidate_labels", "labels", "classifier"),
        _ONE_TEMPLATE,
        images=array_of(either(IMAGE, closed_object(["image"], image=IMAGE)), minItems=1),
        model=MODEL,
        precision=PRECISION,
        classes=_CLASSES,
        candidate_labels=_CLASSES,
        labels=_CLASSES,
        classifier={"type": "string"},
        templates=_TEMPLATES,
        hypothesis_template=_TEMPLATES,
        multi_label={"type": "boolean"},
        top_k={"type": "integer", "minimum": 1, "maximum": 1_000_000},
        none_of_these=either({"type": "boolean"}, {"type": "number", "minimum": -1, "maximum": 1}),
    ),
    "ClassifierRequest": request_object(
        ["classes"],
        _ONE_TEMPLATE,
        classes=array_of(
            either(TEXT, request_object(["name"], name=TEXT, examples=array_of(IMAGE, minItems=1))),
            minItems=1,
        ),
        model=MODEL,
        templates=_TEMPLATES,
        hypothesis_template=_TEMPLATES,
        text_weight={"type": "number", "minimum": 0, "maximum": 1},
        background={"type": "boolean"},
    ),
    "SimilarityRequest": request_object(
        [],
        either_group(("pairs",), ("left", "right")),
        not_both("pairs", "left"),
        not_both("pairs", "right"),
        pairs=array_of(array_of(ref("Item"), minItems=2, maxItems=2), minItems=1),
        left=array_of(ref("Item"), minItems=1),
        right=array_of(ref("Item"), minItems=1),
        model=MODEL,
        precision=PRECISION,
    ),
    "AttentionRequest": request_object(
        ["image"],
        image=IMAGE,
        head={"type": "integer", "minimum": 0, "maximum": 4096},
        model=MODEL,
    ),
}
