"""`POST /collections/{name}/items`: insert or replace items by image, text or vector."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from twinlens.bundle.image.exif import read_photo
from twinlens.errors import InputError
from twinlens.serving.background.collection_maintenance import CollectionJobs
from twinlens.serving.call import Call
from twinlens.serving.collections.served import ServedCollection
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.embedding import embed_items
from twinlens.serving.engine.decode import unwrap
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.openapi.declaration import (
    ITEM_ID,
    PICTURE,
    Name,
    answer,
    declare,
    json_body,
)
from twinlens.serving.openapi.request_shapes import names_of, request_object
from twinlens.serving.openapi.schemas import (
    COUNT,
    ERROR_BODY,
    FLAG,
    INDEX,
    STRING,
    array_of,
    closed_object,
    component,
    either,
    means,
)
from twinlens.serving.requests.answers import dump
from twinlens.serving.requests.error_responses import describe
from twinlens.serving.requests.fields import Fields, check_text, parse_object
from twinlens.serving.requests.items import InputItem, fetch_items
from twinlens.serving.requests.query_terms import (
    COLLECTION_MODEL,
    QueryTerm,
    list_shapes,
    read_term,
)
from twinlens.serving.routes.collections.items import ID_LENGTH, ITEMS
from twinlens.serving.routes.search import model_for
from twinlens.serving.routes.search_shapes import METADATA
from twinlens.serving.service import Service

UPSERTED = "api:"  # prefix of the version of an item that a client wrote
_ITEM = either(
    *list_shapes(
        id=means(ITEM_ID, "Id of the item; an item with this id is replaced"), metadata=METADATA
    )
)
REQUEST = component(
    "CollectionItems",
    request_object(
        ["items"],
        items=means(
            array_of(_ITEM, minItems=1), "Items to insert or replace; at most `limits.items`"
        ),
        model=COLLECTION_MODEL,
        keep=means(
            FLAG,
            "Store images at up to 1600 pixels, so that the server can show them; default false",
        ),
        exif=means(
            FLAG, "Add the metadata `taken`, `camera` and `lens` of images from EXIF; default true"
        ),
        place=means(FLAG, "Add `latitude` and `longitude` from EXIF too; default false"),
    ),
)
ANSWER = component(
    "CollectionItemsAnswer",
    closed_object(
        ["object", "upserted", "data"],
        object=ITEMS,
        upserted=means(COUNT, "How many items were written"),
        data=means(
            array_of(
                closed_object(
                    ["index", "id"],
                    index=INDEX,
                    id=means(STRING, "Id of the item"),
                    error=means(ERROR_BODY, "Why it was not written; absent if it was"),
                )
            ),
            "One entry for each item, in order",
        ),
    ),
)
_EXAMPLES: list[dict[str, Any]] = [
    {"id": "red", "image": PICTURE, "metadata": {"tone": "warm", "year": 2020}},
    {"id": "blue", "text": "a blue square", "metadata": {"tone": "cold", "year": 2021}},
]


@dataclass(frozen=True)
class Upsert:
    """One item to write."""

    id: str
    term: QueryTerm
    metadata: dict[str, Any]


def build_upserts_router(
    service: Service, store: CollectionStore, jobs: CollectionJobs
) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["collections"])

    @router.post(
        "/collections/{name}/items",
        **declare(
            {200: answer(ANSWER, "The result of each item")},
            json_body(REQUEST, two={"items": _EXAMPLES}),
        ),
    )
    async def upsert(name: Name, request: Request) -> Response:
        """Insert or replace items by image, text or vector; a bad item fails alone."""
        call = service.begin(request, "write")
        async with service.receive(request, call) as body:
            served = store.find(name)
            fields = parse_object(body, request.headers.get("content-type", ""))
            response = await _upsert(service, served, fields, call)
        jobs.start_where_due(served)
        return response

    return router


async def _upsert(
    service: Service, served: ServedCollection, fields: Fields, call: Call
) -> Response:
    fields.only(*names_of(REQUEST))
    limits = service.settings.limits
    raws = fields.values("items", limits.items) or []
    if not raws:
        raise InputError("items is missing: a list of objects", field="items")
    model_name = model_for(service, served, fields.text("model"))
    upserts = [
        _read_upsert(raw, f"items[{i}]", limits.text_characters) for i, raw in enumerate(raws)
    ]
    with service.registry.lease(model_name) as model:
        rows, images = await _embed_upserts(service, model, served, upserts, call)
        service.check_items(model, rows, call, "items")
        good = [i for i, row in enumerate(rows) if not isinstance(row, Exception)]
        await _write(
            served,
            model.revision,
            [upserts[i] for i in good],
            [rows[i] for i in good],
            [images[i] for i in good],
            fields,
        )
        data = [_show_result(i, one, rows[i]) for i, one in enumerate(upserts)]
        told = {"object": "collection.items", "upserted": len(good), "data": data}
        return service.reply(dump(told), model, call)


async def _write(
    served: ServedCollection,
    revision: str,
    upserts: Sequence[Upsert],
    rows: Sequence[Any],
    images: list[bytes | None],
    fields: Fields,
) -> None:
    """Write embedded items, with the metadata of their images, and then their thumbnails."""
    ids = [one.id for one in upserts]
    versions = [_version(id, image) for id, image in zip(ids, images, strict=True)]
    matrix = np.stack([np.asarray(row, np.float32) for row in rows])
    metadata = await served.read(
        lambda _: [
            {**_read_photo(image, fields), **one.metadata}
            for one, image in zip(upserts, images, strict=True)
        ]
    )
    await served.write(
        lambda writer: writer.upsert(ids, matrix, metadata, versions, revision=revision)
    )
    keeps = fields.flag("keep")
    await served.read(lambda _: _keep_thumbnails(served, ids, versions, images, keeps))


def _show_result(index: int, one: Upsert, row: Any) -> dict[str, Any]:
    """Return the result of one item."""
    shown: dict[str, Any] = {"index": index, "id": one.id}
    return shown | {"error": _describe(row, index)} if isinstance(row, Exception) else shown


def _read_photo(image: bytes | None, fields: Fields) -> dict[str, str | float]:
    """Return the metadata in an image's EXIF; the client's own metadata override it."""
    if image is None or not fields.flag("exif", True):
        return {}
    return read_photo(image, place=fields.flag("place"))


def _read_upsert(raw: object, where: str, longest: int) -> Upsert:
    fields = Fields(raw, where)
    fields.only("id", "text", "image", "vector", "metadata")
    body = {name: fields.any(name) for name in ("text", "image", "vector") if fields.has(name)}
    metadata = fields.any("metadata") if fields.has("metadata") else {}
    if not isinstance(metadata, dict):
        raise InputError(f"{where}.metadata must be an object", field=f"{where}.metadata")
    name = check_text(fields.any("id"), f"{where}.id", ID_LENGTH)
    return Upsert(name, read_term(body, where, longest), metadata)


async def _embed_upserts(
    service: Service,
    model: ServedModel,
    served: ServedCollection,
    upserts: Sequence[Upsert],
    call: Call,
) -> tuple[list[Any], list[bytes | None]]:
    """Return a row or an error for each item, and the bytes of its image, if it is one."""
    places = [i for i, one in enumerate(upserts) if one.term.item is not None]
    items = await fetch_items(
        [upserts[i].term.item or InputItem() for i in places], call, service.fetcher
    )
    call.input_type = "document"
    embedded = await embed_items(model, items, call, service.fetcher) if items else None
    rows: list[Any] = [one.term.vector for one in upserts]
    images: list[bytes | None] = [None] * len(upserts)
    for n, i in enumerate(places):
        assert embedded is not None
        rows[i] = embedded.answers[n]
        image = items[n].image
        if image is not None and not isinstance(rows[i], Exception):
            images[i] = unwrap(image, service.settings.limits) if isinstance(image, str) else image
    dim = served.snapshot().head.dim
    for i, one in enumerate(upserts):
        vector = one.term.vector
        if vector is not None and (
            len(vector) != dim or not np.linalg.norm(np.asarray(vector, np.float32)) > 0
        ):
            rows[i] = InputError(
                f"vector must have {dim} numbers and a length above 0", code="vector_mismatch"
            )
    return rows, images


def _version(id: str, image: bytes | None) -> str:
    return UPSERTED + hashlib.sha256(image or id.encode()).hexdigest()[:24]


def _keep_thumbnails(
    served: ServedCollection,
    ids: list[str],
    versions: list[str],
    images: list[bytes | None],
    keeps: bool,
) -> None:
    previews = served.open_previews(is_writing=True) if keeps else None
    for name, version, image in zip(ids, versions, images, strict=True):
        if image is not None:
            with suppress(sqlite3.Error):  # a full disk, say; thumbnails are made again on demand
                served.thumbnails.put(name, version, image)
                if previews is not None:
                    previews.put(name, version, image)


def _describe(error: Exception, index: int) -> dict[str, str | None]:
    """Return the error with its item named, if it does not name the item already."""
    item, field = f"items[{index}]", getattr(error, "field", None) or ""
    where = field if field.startswith(item) else f"{item}.{field}" if field else item
    return describe(error, where=where)
