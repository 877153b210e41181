"""`/search` and `/collections` for the OpenAPI document: shapes, and examples that tests replay.

They are described only if a server has them. The examples use a collection called `example` that
contains the items of the upsert example.
"""

from __future__ import annotations

from typing import Any

from twinlens.index.ann.kinds import list_kinds
from twinlens.index.stats import MEASURED, NOT_MEASURED, STALE
from twinlens.serving.openapi.operations import PICTURE, Operation, answer, body, json_of, list_of
from twinlens.serving.openapi.request_shapes import ITEM_ID, NULL, exactly_one, request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    IMAGE,
    MODEL,
    TEXT,
    Schema,
    array_of,
    closed_object,
    either,
    ref,
)

_NAME: Schema = {
    "type": "string",
    "description": "Name of a collection; may be left out if there is only one",
}
_SHARE: Schema = {"type": "number", "minimum": -1, "maximum": 1}
_VECTOR: Schema = array_of({"type": "number"}, minItems=1)
_WEIGHT: Schema = {"type": "number", "minimum": -100, "maximum": 100}
_METADATA: Schema = {"type": "object"}
_RECALL: Schema = {
    "type": "object",
    "description": "Measured recall@10 by the modality of a query; null: stale or not measured",
    "additionalProperties": {"type": ["number", "null"]},
}
_RECALL_INTERVAL: Schema = {
    "type": "object",
    "description": "The 99 % interval of each recall; nulls: stale or not measured",
    "additionalProperties": array_of({"type": ["number", "null"]}, minItems=2, maxItems=2),
}
_RECALL_STATE: Schema = {
    "type": "object",
    "description": "By modality; stale: deletions changed the answers, it is being measured anew",
    "additionalProperties": {"enum": [MEASURED, STALE, NOT_MEASURED]},
}
_IMAGE_TYPES = {"image/*": {"schema": {"type": "string", "contentMediaType": "image/*"}}}


def _terms(**more: Schema) -> list[Schema]:
    """Return the schemas of one term of a query or of one item: a text, an image or a vector."""
    kinds: dict[str, Schema] = {"text": TEXT, "image": IMAGE, "vector": _VECTOR}
    absent = dict.fromkeys(kinds, NULL)
    required = ["id"] if "id" in more else []
    return [
        request_object([*required, name], **{**absent, name: kind}, **more)
        for name, kind in kinds.items()
    ]


_TERM = either(TEXT, *_terms(weight=_WEIGHT), request_object(["item"], item=TEXT, weight=_WEIGHT))

SCHEMAS: dict[str, Schema] = {
    "SearchRequest": request_object(
        [],
        exactly_one("query", "text", "image", "vector"),
        collection=_NAME,
        model=MODEL,
        query=either(_TERM, array_of(_TERM, minItems=1, maxItems=32)),
        text=TEXT,
        image=IMAGE,
        vector=_VECTOR,
        k={"type": "integer", "minimum": 1, "maximum": 1000},
        filter={
            "type": "string",
            "description": 'Metadata filter, e.g. year >= 2020 and tone in ("warm", "cold")',
        },
        threshold={**_SHARE, "description": "Omit hits with a lower similarity"},
        group={
            **_SHARE,
            "description": "Hits at least this similar to a better hit become its duplicates",
        },
        exact={"type": "boolean", "description": "Compare with every item, without the index"},
    ),
    "Hit": closed_object(
        ["id", "score", "metadata", "thumbnail"],
        id={"type": "string"},
        score={"type": "number"},
        metadata=_METADATA,
        thumbnail={"type": "string"},
        duplicates=array_of({"type": "string"}),
    ),
    "SearchAnswer": closed_object(
        ["object", "collection", "model", "revision", "recall", "recall_state", "data"],
        object={"const": "list"},
        collection={"type": "string"},
        model={"type": "string"},
        revision={"type": "string"},
        recall=_RECALL,
        recall_state=_RECALL_STATE,
        data=array_of(ref("Hit")),
    ),
    "Collection": closed_object(
        [
            *("object", "name", "count", "dim", "bundle"),
            *("recall", "recall_interval", "recall_state", "exact", "bytes", "epoch"),
        ],
        object={"const": "collection"},
        name={"type": "string"},
        count=COUNT,
        dim=COUNT,
        bundle=closed_object(
            ["name", "revision"], name={"type": "string"}, revision={"type": "string"}
        ),
        recall=_RECALL,
        recall_interval=_RECALL_INTERVAL,
        recall_state=_RECALL_STATE,
        exact={"type": "boolean"},
        warning={
            "type": ["string", "null"],
            "description": "Set if its pictures look unlike what its model knows",
        },
        bytes=COUNT,
        epoch=COUNT,
    ),
    "CollectionBuild": request_object(
        [],
        kind={"enum": list_kinds().split(", ")},
        target={"type": "number", "minimum": 0.5, "maximum": 0.999},
        compact={
            "type": "boolean",
            "description": "Remove deleted items and merge segments into one",
        },
        queries=array_of(TEXT, minItems=1, maxItems=2000),
    ),
    "CollectionItems": request_object(
        ["items"],
        items=array_of(either(*_terms(id=ITEM_ID, metadata=_METADATA)), minItems=1),
        model=MODEL,
    ),
    "CollectionItemsAnswer": closed_object(
        ["object", "upserted", "data"],
        object={"const": "collection.items"},
        upserted=COUNT,
        data=array_of(
            closed_object(
                ["index", "id"], index=COUNT, id={"type": "string"}, error=ref("ErrorBody")
            )
        ),
    ),
    "CollectionItem": closed_object(
        ["object", "id", "metadata"],
        object={"const": "item"},
        id={"type": "string"},
        metadata=_METADATA,
    ),
    "CollectionMap": closed_object(
        ["object", "collection", "method", "variance_share", "total", "ids", "points"],
        object={"const": "map"},
        collection={"type": "string"},
        method={"const": "pca"},
        variance_share={"type": "number"},
        total=COUNT,
        ids=array_of({"type": "string"}),
        points=array_of(array_of({"type": "number"}, minItems=2, maxItems=2)),
    ),
}

_ITEMS: list[dict[str, Any]] = [
    {"id": "red", "image": PICTURE, "metadata": {"tone": "warm", "year": 2020}},
    {"id": "blue", "text": "a blue square", "metadata": {"tone": "cold", "year": 2021}},
]

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("get", "/collections"): {"responses": {"200": answer(list_of("Collection"), "All")}},
    ("put", "/collections/{name}"): {
        "requestBody": {
            "content": {
                "application/json": {
                    "schema": request_object([], model=MODEL),
                    "examples": {"empty": {"value": {}}},
                }
            }
        },
        "responses": {"201": answer("Collection", "Created")},
    },
    ("get", "/collections/{name}"): {"responses": {"200": answer("Collection", "It")}},
    ("delete", "/collections/{name}"): {"responses": {"200": answer("Deleted", "Gone")}},
    ("post", "/collections/{name}/build"): {
        "requestBody": {
            "content": json_of("CollectionBuild", default={}, graph={"kind": "hnsw", "target": 0.9})
        },
        "responses": {
            "202": answer(closed_object(["job"], job=ref("Job")), "Being built as a job")
        },
    },
    ("get", "/collections/{name}/map"): {"responses": {"200": answer("CollectionMap", "Points")}},
    ("post", "/collections/{name}/items"): {
        "requestBody": body(json_of("CollectionItems", two={"items": _ITEMS})),
        "responses": {"200": answer("CollectionItemsAnswer", "The result of each item")},
    },
    ("delete", "/collections/{name}/items"): {
        "requestBody": body(
            {
                "application/json": {
                    "schema": closed_object(["ids"], ids=array_of(ITEM_ID, minItems=1)),
                    "examples": {"one": {"value": {"ids": ["blue"]}}},
                }
            }
        ),
        "responses": {
            "200": answer(
                closed_object(
                    ["object", "deleted"], object={"const": "collection.items"}, deleted=COUNT
                ),
                "The number of deleted items",
            )
        },
    },
    ("get", "/collections/{name}/items/{id}"): {
        "responses": {"200": answer("CollectionItem", "The item, without the path of its file")}
    },
    ("get", "/collections/{name}/thumbnails/{id}"): {
        "responses": {
            "200": {
                "description": "A thumbnail",
                "content": {"image/webp": {"schema": {"type": "string"}}},
            }
        }
    },
    ("post", "/search"): {
        "requestBody": body(
            json_of(
                "SearchRequest",
                words={"collection": "example", "query": "red", "k": 1},
                image={"collection": "example", "image": PICTURE, "filter": 'tone = "warm"'},
                vector={"collection": "example", "vector": [1.0, *[0.0] * 15], "exact": True},
                sum={
                    "collection": "example",
                    "query": ["red", {"item": "blue", "weight": -0.5}],
                    "threshold": 0.0,
                    "group": 0.95,
                },
            ),
            _IMAGE_TYPES,
        ),
        "responses": {"200": answer("SearchAnswer", "The most similar items, best first")},
    },
}
