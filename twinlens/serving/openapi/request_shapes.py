"""Shapes of requests: what may be left out, and what excludes what.

What must stay true: `null` counts as absent here as it does in the server, so that the document
allows exactly what is accepted.
"""

from __future__ import annotations

from twinlens.serving.openapi.schemas import Schema, either

NULL: Schema = {"type": "null"}
_GIVEN: Schema = {"not": NULL}

NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}
FOLDER: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"}
JOB_ID: Schema = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
ITEM_ID: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 1024,
    "pattern": r"^[^\u0000]+$",
}

# Schemas of parameters in paths, by path and name.
PATH_PARAMETERS: dict[tuple[str, str], Schema] = {
    ("/classifiers/{name}", "name"): NAME,
    ("/jobs/{id}", "id"): JOB_ID,
    ("/v1/models/{name}", "name"): NAME,
    **{
        (path, "name"): NAME
        for path in (
            "/collections/{name}",
            "/collections/{name}/build",
            "/collections/{name}/map",
            "/collections/{name}/items",
            "/collections/{name}/items/{id}",
            "/collections/{name}/thumbnails/{id}",
        )
    },
    ("/collections/{name}/items/{id}", "id"): ITEM_ID,
    ("/collections/{name}/thumbnails/{id}", "id"): ITEM_ID,
}


def request_object(required: list[str], *rules: Schema, **properties: Schema) -> Schema:
    """Return the schema of an object whose optional members may be null, under further rules."""
    shape = open_request_object(required, *rules, **properties)
    return {**shape, "additionalProperties": False}


def open_request_object(required: list[str], *rules: Schema, **properties: Schema) -> Schema:
    """Return the same for an object that may have other members too, which are ignored."""
    shape: Schema = {
        "type": "object",
        "required": required,
        "properties": {
            name: schema if name in required else either(schema, NULL)
            for name, schema in properties.items()
        },
    }
    if rules:
        shape["allOf"] = list(rules)
    return shape


def exactly_one(*names: str) -> Schema:
    """Return the rule that one of these members is given and the others are not."""
    return {"oneOf": [_given(name) for name in names]}


def not_both(*names: str) -> Schema:
    """Return the rule that these members are not all given."""
    return {"not": _given(*names)}


def either_group(*groups: tuple[str, ...]) -> Schema:
    """Return the rule that all members of one group are given, and not all of any other."""
    return {"oneOf": [_given(*group) for group in groups]}


def _given(*names: str) -> Schema:
    return {"required": list(names), "properties": dict.fromkeys(names, _GIVEN)}
