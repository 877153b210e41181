"""What the shapes of requests and answers are made of, as JSON Schema."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
STRING: Schema = {"type": "string"}
STRING_OR_NULL: Schema = {"type": ["string", "null"]}
NUMBER: Schema = {"type": "number"}
NUMBERS: Schema = {"type": "array", "items": {"type": "number"}}
FLAG: Schema = {"type": "boolean"}
NULL: Schema = {"type": "null"}
COUNT: Schema = {"type": "integer", "minimum": 0}
MODEL: Schema = {"type": "string", "description": "Name of a served bundle; none: the first"}
PRECISION: Schema = {"type": "string", "description": "One of those loaded, as fp32 or int8"}
IMAGE: Schema = {
    "type": "string",
    "format": "image",
    "description": "data URI, base64, or URL where allowed",
}


def component(name: str, schema: Schema) -> Schema:
    """Return a schema with a name: it stands once in the document, among its components."""
    return {**schema, "title": name}


def closed_object(required: list[str], **properties: Schema) -> Schema:
    """Return the schema of an object that has exactly these members."""
    return {**open_object(required, **properties), "additionalProperties": False}


def open_object(required: list[str], **properties: Schema) -> Schema:
    """Return the schema of an object that may have other members too."""
    return {"type": "object", "required": required, "properties": properties}


def array_of(item: Schema, **bounds: int) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": item, **bounds}


def list_of(item: Schema) -> Schema:
    """Return the shape of a list in OpenAI's envelope."""
    return open_object(["object", "data"], object={"const": "list"}, data=array_of(item))


def either(*schemas: Schema) -> Schema:
    """Return the schema of a value that is one or the other."""
    return {"anyOf": list(schemas)}


def one_of(*values: str) -> Schema:
    """Return the schema of a string that is one of these."""
    return {"enum": list(values)}


ERROR_BODY: Schema = component(
    "ErrorBody",
    closed_object(
        ["message", "type", "param", "code"],
        message=STRING,
        type=STRING,
        param=STRING_OR_NULL,
        code=STRING_OR_NULL,
    ),
)
ERROR: Schema = component("Error", closed_object(["error"], error=ERROR_BODY))
DELETED: Schema = component("Deleted", open_object(["deleted"], deleted={"const": True}))
JOB: Schema = component(
    "Job",
    open_object(
        ["object", "id", "kind", "state", "done", "total", "progress"],
        object={"const": "job"},
        id=STRING,
        kind=STRING,
        state=one_of("queued", "running", "done", "failed"),
        done=COUNT,
        total=COUNT,
        progress=NUMBER,
        stage=STRING_OR_NULL,
        error=STRING_OR_NULL,
    ),
)
