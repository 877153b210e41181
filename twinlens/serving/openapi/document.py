"""The OpenAPI document: FastAPI's skeleton of paths, completed with bodies and answers.

Hot routes parse by hand, so their bodies are described here. Tests replay every
example below against a server and check the answers against these schemas.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from twinlens.serving.openapi import cohere_voyage, collections, operations, requests, schemas
from twinlens.serving.openapi.request_shapes import PATH_PARAMETERS
from twinlens.serving.openapi.schemas import ref

_OPEN = ("/healthz", "/readyz")
ALWAYS = operations.OPERATIONS | cohere_voyage.OPERATIONS
# Operations of routers that only some servers have.
OPTIONAL = collections.OPERATIONS
SCHEMAS = schemas.SCHEMAS | requests.SCHEMAS | cohere_voyage.SCHEMAS | collections.SCHEMAS


def describe_api(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application; built once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        for method, path in ALWAYS:  # the hot paths are not FastAPI's
            document["paths"].setdefault(path, {}).setdefault(method, {})
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                _complete(operation, path, (ALWAYS | OPTIONAL).get((method, path)))
        components = document.setdefault("components", {})
        # FastAPI describes its own validation errors, which this server never sends.
        components["schemas"] = {
            **{
                name: schema
                for name, schema in components.get("schemas", {}).items()
                if name not in ("HTTPValidationError", "ValidationError")
            },
            **SCHEMAS,
        }
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        }
        app.openapi_schema = document
    return app.openapi_schema


def _complete(operation: dict[str, Any], path: str, known: dict[str, Any] | None) -> None:
    """Complete an operation with its known parameters, body and answers."""
    responses = operation.setdefault("responses", {})
    responses.pop("422", None)
    responses["default"] = {
        "description": "An error, in OpenAI's shape",
        "content": {"application/json": {"schema": ref("Error")}},
    }
    if path not in _OPEN:
        operation["security"] = [{}, {"bearer": []}, {"key": []}]
    if known is None:
        return
    known = dict(known)
    answers = known.pop("responses")
    for code in [code for code in responses if code != "default" and code not in answers]:
        del responses[code]
    responses |= answers
    operation["parameters"] = [*operation.get("parameters", []), *known.pop("parameters", [])]
    operation |= known
    for parameter in operation["parameters"]:
        shape = PATH_PARAMETERS.get((path, parameter["name"]))
        if shape is not None:
            parameter["schema"] = shape
