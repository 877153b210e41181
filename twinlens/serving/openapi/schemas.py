"""The shapes of answers, as JSON Schema, and what all shapes are made of."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
NUMBERS: Schema = {"type": "array", "items": {"type": "number"}}


def ref(name: str) -> Schema:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def closed_object(required: list[str], **properties: Schema) -> Schema:
    """Return the schema of an object that has exactly these members."""
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


def open_object(required: list[str], **properties: Schema) -> Schema:
    """Return the schema of an object that may have other members too."""
    return {"type": "object", "required": required, "properties": properties}


def array_of(item: Schema, **bounds: int) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": item, **bounds}


def either(*schemas: Schema) -> Schema:
    """Return the schema of a value that is one or the other."""
    return {"anyOf": list(schemas)}


MODEL: Schema = {"type": "string", "description": "Name of a served bundle; none: the first"}
PRECISION: Schema = {"type": "string", "description": "One of those loaded, as fp32 or int8"}
IMAGE: Schema = {
    "type": "string",
    "format": "image",
    "description": "data URI, base64, or URL where allowed",
}
COUNT: Schema = {"type": "integer", "minimum": 0}
SCHEMAS: dict[str, Schema] = {
    "Error": closed_object(
        ["error"],
        error=ref("ErrorBody"),
        message={"type": "string", "description": "On Cohere's path"},
        detail={"type": "string", "description": "On Voyage's paths"},
    ),
    "ErrorBody": closed_object(
        ["message", "type", "param", "code"],
        message={"type": "string"},
        type={"type": "string"},
        param={"type": ["string", "null"]},
        code={"type": ["string", "null"]},
    ),
    "EmbedAnswer": closed_object(
        ["embeddings", "model", "revision"],
        embeddings=array_of(either(NUMBERS, ref("Error"))),
        scales=NUMBERS,
        model={"type": "string"},
        revision={"type": "string"},
        usage=open_object(["total_tokens"], total_tokens=COUNT),
    ),
    "OpenAIAnswer": closed_object(
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
            ["prompt_tokens", "total_tokens"], prompt_tokens=COUNT, total_tokens=COUNT
        ),
    ),
    "Label": closed_object(
        ["label", "index", "score", "similarity"],
        label={"type": "string"},
        index=COUNT,
        score={"type": "number"},
        similarity={"type": "number"},
    ),
    "ZeroShotAnswer": closed_object(
        ["object", "data", "model", "revision"],
        object={"const": "list"},
        data=array_of(
            either(
                closed_object(
                    ["index", "labels"],
                    index=COUNT,
                    labels=array_of(ref("Label")),
                    none_of_these={"type": "boolean"},
                ),
                closed_object(["index", "error"], index=COUNT, error=ref("ErrorBody")),
            )
        ),
        model={"type": "string"},
        revision={"type": "string"},
        warnings=array_of(
            {"type": "string"}, minItems=1
        ),  # only where there are any: images far from what the model knows
    ),
    "Classifier": open_object(
        ["object", "name", "revision", "examples", "created"],
        object={"const": "classifier"},
        name={"type": "string"},
        revision={"type": "string"},
        classes=array_of({"type": "string"}),
        num_classes=COUNT,
        templates=array_of({"type": "string"}),
        examples=COUNT,
        created={"type": "number"},
    ),
    "Job": open_object(
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
    "SimilarityAnswer": closed_object(
        ["similarities", "model", "revision"],
        similarities=either(NUMBERS, array_of(NUMBERS)),
        model={"type": "string"},
        revision={"type": "string"},
    ),
    "AttentionAnswer": open_object(
        ["attention", "rows", "columns", "heads"],
        attention=array_of(NUMBERS),
        rows=COUNT,
        columns=COUNT,
        heads=COUNT,
        head={"type": ["integer", "null"]},
    ),
    "Model": open_object(
        ["id", "object", "created", "owned_by", "revision", "embedding_dim"],
        id={"type": "string"},
        object={"const": "model"},
        created=COUNT,
        owned_by={"type": "string"},
        revision={"type": "string"},
        embedding_dim=COUNT,
        dimensions=array_of(COUNT),
        modalities=array_of({"enum": ["image", "text"]}),
        precisions=array_of({"type": "string"}),
        provider={"type": "string"},
        engines={"type": "object", "additionalProperties": {"type": "object"}},
        card={"type": ["object", "null"], "description": "What the model is for and not for"},
    ),
    "Deleted": open_object(["deleted"], deleted={"const": True}),
    "Health": open_object(["status"], status={"type": "string"}),
}
