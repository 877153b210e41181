"""The shapes of requests and answers, as JSON Schema: the components of the OpenAPI document."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
NUMBERS: Schema = {"type": "array", "items": {"type": "number"}}


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(required: list[str], **properties: Schema) -> Schema:
    """Return the schema of an object that has exactly these members."""
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


def loose(required: list[str], **properties: Schema) -> Schema:
    """Return the schema of an object that may have other members too."""
    return {"type": "object", "required": required, "properties": properties}


def many(item: Schema, **bounds: int) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": item, **bounds}


def either(*schemas: Schema) -> Schema:
    """Return the schema of a value that is one or the other."""
    return {"anyOf": list(schemas)}


MODEL: Schema = {"type": "string", "description": "Name of a served bundle; none: the first"}
PRECISION: Schema = {"type": "string", "description": "One of those loaded, as fp32 or int8"}
IMAGE: Schema = {"type": "string", "description": "data URI, base64, or URL where allowed"}
COUNT: Schema = {"type": "integer", "minimum": 0}
_TEMPLATES = either(
    {"type": "string", "description": "A template with {} or the name of a set"},
    many({"type": "string", "pattern": r"\{\}"}, minItems=1),
)
_CLASSES = many(TEXT, minItems=1)
_ITEM = either(
    TEXT,
    record(["text"], text=TEXT),
    record(["image"], image=IMAGE),
)
_EMBED_OPTIONS: dict[str, Schema] = {
    "model": MODEL,
    "precision": PRECISION,
    "dimensions": {"type": "integer", "minimum": 1},
    "output": {"enum": ["float32", "int8", "ubinary"]},
}
_ZERO_SHOT: dict[str, Schema] = {
    "model": MODEL,
    "precision": PRECISION,
    "classes": _CLASSES,
    "classifier": {"type": "string"},
    "templates": _TEMPLATES,
    "candidate_labels": _CLASSES,
    "hypothesis_template": {"type": "string"},
    "multi_label": {"type": "boolean"},
    "top_k": {"type": "integer", "minimum": 1},
    "none_of_these": either({"type": "boolean"}, {"type": "number", "minimum": -1, "maximum": 1}),
}

SCHEMAS: dict[str, Schema] = {
    "Error": record(
        ["error"],
        error=ref("ErrorBody"),
        message={"type": "string", "description": "On Cohere's path"},
        detail={"type": "string", "description": "On Voyage's paths"},
    ),
    "ErrorBody": record(
        ["message", "type", "param", "code"],
        message={"type": "string"},
        type={"type": "string"},
        param={"type": ["string", "null"]},
        code={"type": ["string", "null"]},
    ),
    "Item": _ITEM,
    "EmbedRequest": record(
        [],
        inputs=many(ref("Item"), minItems=1),
        texts=many(TEXT, minItems=1),
        images=many(IMAGE, minItems=1),
        **_EMBED_OPTIONS,
    ),
    "EmbedAnswer": record(
        ["embeddings", "model", "revision"],
        embeddings=many(either(NUMBERS, ref("Error"))),
        scales=NUMBERS,
        model={"type": "string"},
        revision={"type": "string"},
        usage=loose(["total_tokens"], total_tokens=COUNT),
    ),
    "OpenAIRequest": loose(
        [],
        model=MODEL,
        input=either(
            TEXT,
            many(
                either(
                    TEXT,
                    loose(["text"], text=TEXT),
                    loose(["image"], image=IMAGE),
                ),
                minItems=1,
            ),
        ),
        messages={"type": "array", "minItems": 1},
        modality={"enum": ["text", "image"]},
        dimensions={"type": "integer", "minimum": 1},
        encoding_format={"enum": ["float", "base64", "bytes", "bytes_only"]},
        output_dimension={"type": "integer", "minimum": 1},
        output_dtype={"enum": ["float", "int8", "uint8", "binary", "ubinary"]},
        embedding_type={"enum": ["float", "base64", "binary", "ubinary"]},
        embed_dtype={"enum": ["float32", "float16"]},
        endianness={"enum": ["native", "little", "big"]},
        user={"type": "string"},
    ),
    "OpenAIAnswer": record(
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
        usage=record(["prompt_tokens", "total_tokens"], prompt_tokens=COUNT, total_tokens=COUNT),
    ),
    "ZeroShotRequest": record(
        ["images"],
        images=many(either(IMAGE, record(["image"], image=IMAGE)), minItems=1),
        **_ZERO_SHOT,
    ),
    "Label": record(
        ["label", "index", "score", "similarity"],
        label={"type": "string"},
        index=COUNT,
        score={"type": "number"},
        similarity={"type": "number"},
    ),
    "ZeroShotAnswer": record(
        ["object", "data", "model", "revision"],
        object={"const": "list"},
        data=many(
            either(
                record(
                    ["index", "labels"],
                    index=COUNT,
                    labels=many(ref("Label")),
                    none_of_these={"type": "boolean"},
                ),
                record(["index", "error"], index=COUNT, error=ref("ErrorBody")),
            )
        ),
        model={"type": "string"},
        revision={"type": "string"},
    ),
    "ClassifierRequest": record(
        ["classes"],
        classes=many(
            either(TEXT, record(["name"], name=TEXT, examples=many(IMAGE, minItems=1))),
            minItems=1,
        ),
        model=MODEL,
        templates=_TEMPLATES,
        hypothesis_template={"type": "string"},
        text_weight={"type": "number", "minimum": 0, "maximum": 1},
        background={"type": "boolean"},
    ),
    "Classifier": loose(
        ["object", "name", "revision", "examples", "created"],
        object={"const": "classifier"},
        name={"type": "string"},
        revision={"type": "string"},
        classes=many({"type": "string"}),
        num_classes=COUNT,
        templates=many({"type": "string"}),
        examples=COUNT,
        created={"type": "number"},
    ),
    "Job": loose(
        ["object", "id", "kind", "state", "done", "total", "progress"],
        object={"const": "job"},
        id={"type": "string"},
        kind={"type": "string"},
        state={"enum": ["queued", "running", "done", "failed"]},
        done=COUNT,
        total=COUNT,
        progress={"type": "number"},
        stage={"type": ["string", "null"]},
        error={"type": ["string", "null"]},
    ),
    "SimilarityRequest": record(
        [],
        pairs=many(many(ref("Item"), minItems=2, maxItems=2), minItems=1),
        left=many(ref("Item"), minItems=1),
        right=many(ref("Item"), minItems=1),
        model=MODEL,
        precision=PRECISION,
    ),
    "SimilarityAnswer": record(
        ["similarities", "model", "revision"],
        similarities=either(NUMBERS, many(NUMBERS)),
        model={"type": "string"},
        revision={"type": "string"},
    ),
    "AttentionAnswer": loose(
        ["attention", "rows", "columns", "heads"],
        attention=many(NUMBERS),
        rows=COUNT,
        columns=COUNT,
        heads=COUNT,
        head={"type": ["integer", "null"]},
    ),
    "Model": loose(
        ["id", "object", "created", "owned_by", "revision", "embedding_dim"],
        id={"type": "string"},
        object={"const": "model"},
        created=COUNT,
        owned_by={"type": "string"},
        revision={"type": "string"},
        embedding_dim=COUNT,
        dimensions=many(COUNT),
        modalities=many({"enum": ["image", "text"]}),
        precisions=many({"type": "string"}),
    ),
    "Deleted": loose(["deleted"], deleted={"const": True}),
    "Health": loose(["status"], status={"type": "string"}),
}
