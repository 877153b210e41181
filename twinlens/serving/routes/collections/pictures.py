"""`GET /collections/{name}/pictures/{id}`: the picture of an item, as large as it is.

What must stay true: only files that the indexer wrote down are opened, and only what is an image by
its first bytes is sent; no answer names a folder of the server.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from twinlens.bundle.image.image_source import find_format
from twinlens.bundle.image.thumbnail import make_thumbnail
from twinlens.errors import ImageError, NotFoundError
from twinlens.index.ingest.corpus import read_path
from twinlens.index.ingest.item_files import find_file
from twinlens.index.storage.records import Item
from twinlens.serving.collections.served import ServedCollection
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.openapi.declaration import ItemId, Name, answer_of, declare
from twinlens.serving.service import Service

SHOWN = ("JPEG", "PNG", "WebP", "GIF", "BMP")  # formats that every browser shows
SIDE = 2048  # of a picture of another format, which is sent as WebP
_POLICY = "default-src 'none'; sandbox"  # the bytes never run as a page or a script


def build_store_router(service: Service, store: CollectionStore) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["collections"])

    @router.get(
        "/collections/{name}/pictures/{id:path}",
        **declare({200: answer_of("image/*", "The picture")}),
    )
    async def get_picture(
        name: Name,
        id: ItemId,
        request: Request,
        download: Annotated[
            bool, Query(description="Send the file itself to be saved; default false")
        ] = False,
    ) -> Response:
        """Return an item's picture from its file; formats that browsers lack become WebP."""
        service.authorize(request, "read")
        served = store.find(name)
        item = await served.read(lambda collection: collection.get(id))
        raw, format = await served.read(lambda _: _read(served, item, as_is=download))
        headers = {"Cache-Control": "private, max-age=86400", "Content-Security-Policy": _POLICY}
        if download:
            file = quote(id.rpartition("/")[2], safe="")
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{file}"
        return Response(raw, media_type=f"image/{format.lower()}", headers=headers)

    return router


def _read(served: ServedCollection, item: Item, as_is: bool) -> tuple[bytes, str]:
    """Return the bytes of an item's picture and their format."""
    place, previews = find_file(item), served.open_previews()
    if place is None and previews is not None and (kept := previews.find(item)) is not None:
        return kept, "WebP"
    try:
        raw = b"" if place is None else read_path(place)
        format = find_format(raw)
        if format is None:
            raise OSError("the file is gone, or another")
        if as_is or format in SHOWN:
            return raw, format
        return make_thumbnail(raw, SIDE), "WebP"
    except (OSError, ImageError):
        raise NotFoundError(
            f"the picture of item {item.id[:80]!r} is not on this server any more, or was sent by"
            " a client; its thumbnail may still exist",
            field="id",
            code="picture_not_found",
        ) from None
