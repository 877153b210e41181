"""The JSON Schema of requests: optional members, and rules between members.

What must stay true: `null` counts as absent here as it does in the server, so that the document
allows exactly what is accepted.
"""

from __future__ import annotations

from twinlens.serving.openapi.schemas import NULL, Schema, either, means

_GIVEN: Schema = {"not": NULL}


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
            name: schema if name in required else _or_null(schema)
            for name, schema in properties.items()
        },
    }
    if rules:
        shape["allOf"] = list(rules)
    return shape


def names_of(shape: Schema) -> list[str]:
    """Return the names of the members that a shape declares."""
    return list(shape["properties"])


def exactly_one(*names: str) -> Schema:
    """Return the rule that one of these members is given and the others are not."""
    return {"oneOf": [_given(name) for name in names]}


def not_both(*names: str) -> Schema:
    """Return the rule that these members are not all given."""
    return {"not": _given(*names)}


def either_group(*groups: tuple[str, ...]) -> Schema:
    """Return the rule that all members of one group are given, and not all of any other."""
    return {"oneOf": [_given(*group) for group in groups]}


def _or_null(schema: Schema) -> Schema:
    """Return the schema of an optional member; its meaning moves to the outside."""
    if "title" in schema or "description" not in schema:
        return either(schema, NULL)
    bare = {key: value for key, value in schema.items() if key != "description"}
    return means(either(bare, NULL), schema["description"])


def _given(*names: str) -> Schema:
    return {"required": list(names), "properties": dict.fromkeys(names, _GIVEN)}
