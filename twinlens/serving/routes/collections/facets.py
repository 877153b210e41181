"""`GET /collections/{name}/facets`: the values of metadata fields, with their numbers of items."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.index.collection import Collection
from twinlens.index.query.filter_language import parse_filter
from twinlens.index.searching.facets import MOST_FIELDS, MOST_VALUES, count_facets
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
    means,
)
from twinlens.serving.requests.answers import answer_json
from twinlens.serving.routes.collections.items import FilterQuery
from twinlens.serving.service import Service

FACETS = component(
    "Facets",
    closed_object(
        ["object", "total", "data"],
        object={"const": "facets"},
        total=means(COUNT, "Items counted: all, or those that the filter selects"),
        data=means(
            array_of(
                closed_object(
                    ["field", "distinct", "values"],
                    field=means(STRING, "Name of a metadata field"),
                    distinct=means(COUNT, "How many different values it has"),
                    values=means(
                        array_of(
                            closed_object(
                                ["value", "count"],
                                value=means(either(STRING, NUMBER, FLAG), "A value of the field"),
                                count=means(COUNT, "Items with this value"),
                            )
                        ),
                        f"Its {MOST_VALUES} most frequent values, most frequent first",
                    ),
                )
            ),
            f"Up to {MOST_FIELDS} fields whose values repeat, those of most items first",
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
        filter: FilterQuery = None,
    ) -> Response:
        """Count items by the values of each field: all, or those that a filter selects."""
        service.authorize(request, "read")
        told = await store.find(name).read(lambda collection: _count(collection, filter))
        return answer_json(told)

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
