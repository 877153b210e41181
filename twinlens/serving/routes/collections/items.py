"""`/collections/{name}/items`: read, list, change and delete items; their thumbnails."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from twinlens.errors import ImageError, InputError, NotFoundError
from twinlens.index.collection import Collection
from twinlens.index.ingest.item_files import find_file
from twinlens.index.storage.records import Item as StoredItem
from twinlens.index.upkeep.listing import list_items
from twinlens.index.upkeep.metadata_update import update_metadata
from twinlens.index.upkeep.removal import remove_matching
from twinlens.index.writer import Writer
from twinlens.serving.background.collection_maintenance import CollectionJobs
from twinlens.serving.collections.served import ServedCollection
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.openapi.declaration import (
    ITEM_ID,
    ItemId,
    Name,
    answer,
    answer_of,
    declare,
    json_body,
)
from twinlens.serving.openapi.request_shapes import exactly_one, names_of, request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    FLAG,
    STRING,
    STRING_OR_NULL,
    array_of,
    closed_object,
    component,
    means,
)
from twinlens.serving.requests.answers import answer_json
from twinlens.serving.requests.fields import Fields, check_text, parse_object
from twinlens.serving.requests.query_terms import FILTER
from twinlens.serving.routes.search import shown_metadata
from twinlens.serving.routes.search_shapes import METADATA
from twinlens.serving.service import Service

MOST_CHANGED = 10_000
MOST_LISTED = 1000
ID_LENGTH = 1024
EVERYTHING = "100%"
ITEMS = {"const": "collection.items"}
STORED = component(
    "CollectionItem",
    closed_object(
        ["object", "id", "metadata"],
        object={"const": "item"},
        id=means(STRING, "Id of the item, unique in its collection"),
        metadata=METADATA,
        picture=means(
            STRING, "Path of its picture on this server, if there is one; absent in lists"
        ),
    ),
)
LISTED = component(
    "CollectionItemList",
    closed_object(
        ["object", "data", "next"],
        object={"const": "list"},
        data=means(array_of(STORED), "Items, oldest first"),
        next=means(STRING_OR_NULL, "`cursor` of the next page; null after the last"),
    ),
)
CHANGES = component(
    "CollectionItemChanges",
    request_object(
        ["items"],
        items=means(
            array_of(
                closed_object(
                    ["id", "metadata"],
                    id=means(ITEM_ID, "Id of the item to change"),
                    metadata=means({"type": "object"}, "Fields to set; null removes a field"),
                ),
                minItems=1,
            ),
            f"What to change; at most {MOST_CHANGED} items",
        ),
        replace=means(FLAG, "Remove all fields that are not given; default false: keep them"),
    ),
)
CHANGED = component(
    "CollectionItemsChanged",
    closed_object(
        ["object", "updated", "missing"],
        object=ITEMS,
        updated=means(COUNT, "How many items were changed"),
        missing=means(array_of(STRING), "Ids that the collection does not have"),
    ),
)
DELETION = component(
    "CollectionItemDeletion",
    request_object(
        [],
        exactly_one("ids", "filter"),
        ids=means(array_of(ITEM_ID, minItems=1), f"Ids to delete; at most {MOST_CHANGED}"),
        filter=means(STRING, "Delete all items that satisfy this metadata filter"),
        max_delete=means(
            {"type": "string", "pattern": "^((100|[0-9]{1,2})%|[0-9]{1,18})$"},
            "Delete nothing if the filter matches more items: `20%` or `500`; default: no limit",
        ),
        dry_run=means(FLAG, "Count the items and delete nothing; default false"),
    ),
)
DELETED = component(
    "CollectionItemsDeleted",
    closed_object(
        ["object", "deleted"],
        object=ITEMS,
        deleted=means(COUNT, "How many items were deleted, or would be"),
        dry_run=means(FLAG, "True if nothing was deleted; absent otherwise"),
    ),
)
Limit = Annotated[int, Query(ge=1, le=MOST_LISTED, description="Items of a page; default 100")]
Offset = Annotated[
    int, Query(ge=0, description="Skip this many items; slower than `cursor`; default 0")
]
Cursor = Annotated[
    str | None,
    Query(pattern="^[0-9]{1,18}$", description="`next` of the page before; default: first page"),
]
FilterQuery = Annotated[str | None, Query(description=f"{FILTER}; default: all items")]


def build_items_router(service: Service, store: CollectionStore, jobs: CollectionJobs) -> APIRouter:
    """Return the router that lists, changes and deletes items."""
    router = APIRouter(tags=["collections"])

    @router.get("/collections/{name}/items", **declare({200: answer(LISTED, "A page of items")}))
    async def get_items(
        name: Name,
        request: Request,
        limit: Limit = 100,
        cursor: Cursor = None,
        offset: Offset = 0,
        filter: FilterQuery = None,
    ) -> Response:
        """List items, oldest first, a page at a time; `next` is the cursor of the next page."""
        service.authorize(request, "read")
        after = int(cursor or 0)
        found = await store.find(name).read(
            lambda collection: _page(collection, filter, limit, offset, after)
        )
        after = found[-1].rid if len(found) == limit else 0
        data = [_show(item) for item in found]
        return answer_json({"object": "list", "data": data, "next": str(after) if after else None})

    @router.patch(
        "/collections/{name}/items",
        **declare(
            {200: answer(CHANGED, "How many items were changed")},
            json_body(CHANGES, one={"items": [{"id": "red", "metadata": {"year": 2024}}]}),
        ),
    )
    async def change_items(name: Name, request: Request) -> Response:
        """Change the metadata of items by id, not their embeddings; null removes a field."""
        call = service.begin(request, "write")
        async with service.receive(request, call) as body:
            fields = parse_object(body, request.headers.get("content-type", ""))
            fields.only(*names_of(CHANGES))
            changes, replace = _read_changes(fields), fields.flag("replace")
            served = store.find(name)
            missing = await served.write(
                lambda writer: update_metadata(writer, changes, replace=replace)
            )
        jobs.start_where_due(served)
        updated = len(changes) - len(missing)
        return answer_json({"object": "collection.items", "updated": updated, "missing": missing})

    @router.delete(
        "/collections/{name}/items",
        **declare(
            {200: answer(DELETED, "How many items were deleted")},
            json_body(DELETION, one={"ids": ["blue"]}, some={"filter": "year < 2021"}),
        ),
    )
    async def delete_items(name: Name, request: Request) -> Response:
        """Delete items by id, or all that satisfy a filter; unknown ids are ignored."""
        call = service.begin(request, "write")
        async with service.receive(request, call) as body:
            fields = parse_object(body, request.headers.get("content-type", ""))
            fields.only(*names_of(DELETION))
            served = store.find(name)
            dry_run = fields.flag("dry_run")
            deleted = await _delete(served, fields, dry_run)
        jobs.start_where_due(served)
        told = {"object": "collection.items", "deleted": deleted}
        return answer_json(told | ({"dry_run": True} if dry_run else {}))

    return router


def build_item_router(service: Service, store: CollectionStore) -> APIRouter:
    """Return the router of single items and thumbnails."""
    router = APIRouter(tags=["collections"])

    @router.get(
        "/collections/{name}/items/{id:path}",
        **declare({200: answer(STORED, "The item, without the path of its file")}),
    )
    async def get_item(name: Name, id: ItemId, request: Request) -> Response:
        """Return one item's metadata."""
        service.authorize(request, "read")
        served = store.find(name)
        item = await served.read(lambda collection: collection.get(id))
        previews = served.open_previews()
        has_file = find_file(item) is not None or (previews is not None and item in previews)
        picture = {"picture": f"/collections/{name}/pictures/{quote(id)}"} if has_file else {}
        return answer_json(_show(item) | picture)

    @router.get(
        "/collections/{name}/thumbnails/{id:path}",
        **declare({200: answer_of("image/webp", "A thumbnail")}),
    )
    async def get_thumbnail(name: Name, id: ItemId, request: Request) -> Response:
        """Return a small WebP of an item's image."""
        service.authorize(request, "read")
        served = store.find(name)
        item = await served.read(lambda collection: collection.get(id))
        small = await served.read(lambda _: _thumbnail(served, item))
        if small is None:
            raise NotFoundError(f"item {id[:80]!r} has no image that can be read", field="id")
        headers = {"Cache-Control": "private, max-age=86400"}
        return Response(small, media_type="image/webp", headers=headers)

    return router


def _page(
    collection: Collection, filter: str | None, limit: int, offset: int, after: int
) -> list[StoredItem]:
    if filter is not None:
        collection.require_fields(filter)
    found = list_items(collection, filter=filter, limit=limit, offset=offset, after=after)
    return list(found)


def _read_changes(fields: Fields) -> dict[str, dict[str, Any]]:
    changes: dict[str, dict[str, Any]] = {}
    values = fields.values("items", MOST_CHANGED)
    if values is None:
        raise InputError("items is missing: a list of objects with id and metadata", field="items")
    for i, raw in enumerate(values):
        one = Fields(raw, f"items[{i}]")
        one.only("id", "metadata")
        id = check_text(one.any("id"), one.path("id"), ID_LENGTH)
        metadata = one.any("metadata")
        if not isinstance(metadata, dict):
            raise InputError(
                f"{one.path('metadata')} must be an object", field=one.path("metadata")
            )
        changes[id] = {**changes.get(id, {}), **metadata}
    return changes


async def _delete(served: ServedCollection, fields: Fields, dry_run: bool) -> int:
    ids, filter = fields.texts("ids", MOST_CHANGED, ID_LENGTH), fields.text("filter")
    if (ids is None) == (filter is None):
        raise InputError("give either ids, a list of strings, or filter", field="ids")
    limit = fields.text("max_delete") or EVERYTHING

    def count(collection: Collection) -> int:
        if filter is None:
            return len(collection.catalog.by_id(ids or []))
        collection.require_fields(filter)
        return collection.count(filter)

    def delete(writer: Writer) -> int:
        if filter is None:
            return writer.delete(ids or [])
        writer.collection.require_fields(filter)
        return remove_matching(writer, filter, limit)

    return await (served.read(count) if dry_run else served.write(delete))


def _show(item: StoredItem) -> dict[str, Any]:
    return {"object": "item", "id": item.id, "metadata": shown_metadata(item.metadata)}


def _thumbnail(served: ServedCollection, item: StoredItem) -> bytes | None:
    try:
        return served.thumbnails.get(item)
    except ImageError:
        return None  # the file is no longer the image that was indexed
