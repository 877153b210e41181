"""`GET /collections/{name}/facets`: the values of metadata fields, with their numbers of items."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from twinlens.index.collection import Collection
from twinlens.index.query.filter_language import parse_filter
from twinlens.index.searching.facets import count_facets
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.openapi.declaration import Name, answer, declare
from twinlens.serving.openapi.schemas import (
    COUNT,
    FLAG,
    NUMBER,
    STRING,
    array_of,
    closed_object,
    component,
    either,
)
from twinlens.serving.requests.answers import dump
from twinlens.serving.service import Service

FACETS = component(
    "Facets",
    closed_object(
        ["object", "total", "data"],
        object={"const": "facets"},
        total=COUNT,
        data=array_of(
            closed_object(
                ["field", "distinct", "values"],
                field=STRING,
                distinct=COUNT,
                values=array_of(
                    closed_object(
                        ["value", "count"], value=either(STRING, NUMBER, FLAG), count=COUNT
                    )
                ),
            )
        ),
    ),
)


def build_store_router(service: Service, store: CollectionStore) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["collections"])

    @router.get(
        "/collections/{name}/facets", **declare({200: answer(FACETS, "Fields and their values")})
    )
    async def get_facets(
        name: Name,
        request: Request,
        filter: Annotated[str | None, Query(description="Metadata filter")] = None,
    ) -> Response:
        """Count items by the values of each field: all, or those that a filter selects."""
        service.authorize(request, "read")
        told = await store.find(name).read(lambda collection: _count(collection, filter))
        return Response(dump(told), media_type="application/json")

    return router


def _count(collection: Collection, filter: str | None) -> dict[str, Any]:
    tree = None if filter is None else parse_filter(filter)
    if filter is not None:
        collection.require_fields(filter)
    hidden = ("path",)  # of the server's files
    data = [
        {
            "field": one.field,
            "distinct": one.distinct,
            "values": [{"value": value, "count": count} for value, count in one.values],
        }
        for one in count_facets(collection.snapshot(), tree)
        if one.field not in hidden
    ]
    return {"object": "facets", "total": collection.count(filter), "data": data}
