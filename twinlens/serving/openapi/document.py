"""Builds the OpenAPI document from the declarations; each named shape becomes a component."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from twinlens.serving.openapi.schemas import Schema


def describe_api(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application; built once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        components = document.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        for operation in list_operations(document).values():
            for told in (operation.get("requestBody", {}), *operation["responses"].values()):
                for content in told.get("content", {}).values():
                    content["schema"] = _lift(content["schema"], schemas)
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        }
        app.openapi_schema = document
    return app.openapi_schema


def list_operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the operations of a document by method and path."""
    return {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def _lift(node: Any, schemas: dict[str, Schema]) -> Any:
    """Move the named schemas within a schema among the components; return it with references."""
    if isinstance(node, list):
        return [_lift(one, schemas) for one in node]
    if not isinstance(node, dict):
        return node
    inner = {key: _lift(value, schemas) for key, value in node.items()}
    name = inner.get("title")
    if not isinstance(name, str):  # a property may be called so
        return inner
    del inner["title"]
    if schemas.setdefault(name, inner) != inner:
        raise ValueError(f"two shapes are called {name!r}")
    return {"$ref": f"#/components/schemas/{name}"}
