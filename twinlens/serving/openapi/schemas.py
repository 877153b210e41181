"""Building blocks of the JSON Schema of requests and answers."""

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


def means(schema: Schema, text: str) -> Schema:
    """Return the schema of a field with its meaning, which the documentation shows."""
    inner = {"anyOf": [schema]} if "title" in schema else schema  # a named schema has its own
    return {**inner, "description": text}


MODEL = means(STRING, "Name or alias of a served model; default: the server's first")
PRECISION = means(STRING, "A precision that the server has loaded, e.g. `int8`; default: its first")
IMAGE = means(
    {"type": "string", "format": "image"},
    "Data URI or base64 of an image file; a URL too, where `fetching.enabled` is set",
)
USED_MODEL = means(STRING, "Name of the model that answered")
REVISION = means(STRING, "Revision of its bundle: do not compare embeddings of two revisions")
INDEX = means(COUNT, "Position in the request's list, from 0")


def component(name: str, schema: Schema) -> Schema:
    """Return a named schema, which becomes a component of the document."""
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


def list_of(name: str, item: Schema, text: str, **more: Schema) -> Schema:
    """Return the named shape of a list in OpenAI's envelope; `text` is the meaning of its data."""
    data = means(array_of(item), text)
    shape = open_object(["object", "data"], object={"const": "list"}, data=data, **more)
    return component(name, shape)


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
        message=means(STRING, "What is wrong and what to do, for people"),
        type=means(STRING, "OpenAI's error type, e.g. `invalid_request_error`"),
        param=means(STRING_OR_NULL, "The field or item at fault, e.g. `inputs[1]`"),
        code=means(STRING_OR_NULL, "The kind of error, for programs, e.g. `image_decode_failed`"),
    ),
)
ERROR: Schema = component(
    "Error", closed_object(["error"], error=means(ERROR_BODY, "What went wrong"))
)
ITEM_ERROR = means(ERROR_BODY, "Why this item failed, instead of a result")
DELETED: Schema = component(
    "Deleted",
    open_object(
        ["deleted"],
        deleted={"const": True},
        object=means(STRING, "What was deleted: `classifier`, `collection` or `model`"),
        name=means(STRING, "Name of the classifier or collection"),
        id=means(STRING, "Name of the model"),
    ),
)
_SECONDS = "in seconds since 1970"
JOB: Schema = component(
    "Job",
    open_object(
        ["object", "id", "kind", "state", "done", "total", "progress"],
        object={"const": "job"},
        id=means(STRING, "Id for `GET /jobs/{id}`: 16 hexadecimal digits"),
        kind=means(STRING, "What it does: `classifier`, `collection`, `folder` or `report`"),
        state=means(
            one_of("queued", "running", "done", "failed"), "One job runs at a time, in order"
        ),
        done=means(COUNT, "Finished units of work: classes, stages or files"),
        total=means(COUNT, "Units of work in all"),
        progress=means(NUMBER, "`done` / `total`, 0 to 1"),
        stage=means(STRING_OR_NULL, "The current step, if it has a name"),
        error=means(STRING_OR_NULL, "Why it failed; null unless `state` is `failed`"),
        result=means(
            {"type": ["object", "null"]}, "What it returned; null unless `state` is `done`"
        ),
        created=means(NUMBER, f"When it was started, {_SECONDS}"),
        finished=means(
            {"type": ["number", "null"]}, f"When it ended, {_SECONDS}; null before that"
        ),
    ),
)
