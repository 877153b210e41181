"""The tools that `twinlens mcp` offers a language model: search, classify, embed, similar, info.

One encoder is opened for each bundle that the collections name. What must stay true: a tool writes
nothing; a caller's mistake is answered by one sentence that says what to do; files are read only
for callers on this machine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinlens.errors import InputError, TwinlensError

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from twinlens.bundle.encoder import Encoder
    from twinlens.index.collection import Collection
    from twinlens.index.hits import Hit


INSTRUCTIONS = (
    "Searches collections of images by what they show, classifies images by class names, and "
    "compares images and texts. Begin with collection_info to learn what there is."
)
_MOST_THUMBNAILS = 8
_MOST_HITS = 100
_MOST_FIELDS = 64


class Tools:
    """The tools over some collections, opened once."""

    def __init__(
        self,
        collections: Mapping[str, Collection],
        open_encoder: Callable[[str], Encoder],
        *,
        bundle: str | None = None,
        reads_files: bool = True,
    ) -> None:
        self._collections = dict(collections)
        self._open = open_encoder
        self._bundle = bundle
        self._reads_files = reads_files
        self._encoders: dict[str, Encoder] = {}
        self._lock = threading.Lock()

    def search_images(
        self,
        query: str,
        collection: str | None = None,
        k: int = 10,
        where: str | None = None,
        thumbnails: bool = True,
    ) -> list[Any]:
        """Find the images of a collection that show what `query` says.

        `where` filters by metadata, e.g. `label = "cat" and year >= 2020`.
        """
        from twinlens.index.query.query import QueryPart, embed_query

        if not query.strip():
            raise InputError("query is empty; say what the images show", field="query")
        found = self._find(collection)
        row = embed_query([QueryPart(text=query)], self._encoder_of(found), found.head.dim)
        return self._answer(found, found.search(row, _check_k(k), filter=where)[0], thumbnails)

    def similar(
        self, id: str, collection: str | None = None, k: int = 10, thumbnails: bool = True
    ) -> list[Any]:
        """Find the images that are most like one of the collection, named by its id."""
        found = self._find(collection)
        hits = found.search(found.embedding(id), _check_k(k) + 1)[0]
        return self._answer(found, [hit for hit in hits if hit.id != id][:k], thumbnails)

    def classify_image(
        self, image: str, classes: list[str], collection: str | None = None
    ) -> dict[str, float]:
        """Return the probability of each class name for an image.

        `image` is the id of an item of the collection, a path on the server's machine, or base64.
        """
        names = [name.strip() for name in classes if name.strip()]
        if not names:
            raise InputError("classes is empty; give names such as 'a cat'", field="classes")
        encoder = self._encoder_for(collection)
        scores = encoder.zero_shot([self._read_image(image, collection)], names)[0]
        return {name: round(float(s), 6) for name, s in zip(names, scores, strict=True)}

    def embed(
        self,
        texts: list[str] | None = None,
        images: list[str] | None = None,
        collection: str | None = None,
    ) -> dict[str, list[list[float]]]:
        """Return the embeddings of texts, then of images; their dot products say how alike."""
        if not texts and not images:
            raise InputError("nothing to embed; give texts, images, or both", field="texts")
        encoder = self._encoder_for(collection)
        rows: list[list[float]] = []
        if texts:
            rows += encoder.embed_texts(texts).tolist()
        if images:
            opened = [self._read_image(image, collection) for image in images]
            rows += encoder.embed_images(opened).tolist()
        return {"embeddings": rows}

    def collection_info(self) -> list[dict[str, Any]]:
        """List the collections: how many images, which encoder, which metadata fields."""
        return [
            {
                "name": name,
                "images": len(found),
                "encoder": found.head.bundle_name,
                "dimensions": found.head.dim,
                "fields": sorted(found.snapshot().fields())[:_MOST_FIELDS],
            }
            for name, found in self._collections.items()
        ]

    def close(self) -> None:
        """Close the collections."""
        for found in self._collections.values():
            found.close()

    def _find(self, name: str | None) -> Collection:
        known = ", ".join(self._collections) or "none"
        if name is None:
            if len(self._collections) == 1:
                return next(iter(self._collections.values()))
            raise InputError(f"name the collection; there are: {known}", field="collection")
        if name not in self._collections:
            raise InputError(f"there is no collection {name!r}; there are: {known}")
        return self._collections[name]

    def _encoder_for(self, name: str | None) -> Encoder:
        """Return the encoder of a collection, or the server's where there is none."""
        if name is None and len(self._collections) != 1:
            return self._encoder(self._bundle or "builtin")
        return self._encoder_of(self._find(name))

    def _encoder_of(self, found: Collection) -> Encoder:
        encoder = self._encoder(self._bundle or found.head.bundle_source or "builtin")
        found.require_bundle(encoder.revision, encoder.name)
        return encoder

    def _encoder(self, source: str) -> Encoder:
        with self._lock:
            if source not in self._encoders:
                self._encoders[source] = self._open(source)
            return self._encoders[source]

    def _read_image(self, image: str, collection: str | None) -> bytes | Path:
        """Return an image by id, by path, or from base64."""
        import base64
        import binascii

        for found in [self._find(collection)] if self._collections else []:
            raw = _read_item(found, image)
            if raw is not None:
                return raw
        if len(image) < 4096 and self._reads_files and Path(image).is_file():
            return Path(image)
        try:
            return base64.b64decode(image.rpartition("base64,")[2], validate=True)
        except (binascii.Error, ValueError):
            places = "the id of an item, a path" if self._reads_files else "the id of an item"
            raise InputError(
                f"image {image[:60]!r} is not {places}, or base64", field="image"
            ) from None

    def _answer(self, found: Collection, hits: Sequence[Hit], thumbnails: bool) -> list[Any]:
        """Return the hits, and thumbnails of the best."""
        from mcp.server.mcpserver import Image

        answer: list[Any] = [
            {"id": hit.id, "score": round(hit.score, 4), **dict(hit.metadata)} for hit in hits
        ]
        for hit in hits[:_MOST_THUMBNAILS] if thumbnails else []:
            small = _draw_thumbnail(found, hit.id)
            if small is not None:
                answer.append(Image(data=small, format="webp"))
        return answer


def build_server(tools: Tools) -> MCPServer[Any]:
    """Return a server of the protocol that offers the tools."""
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    from twinlens.version import __version__

    def guard(tool: Callable[..., Any]) -> Callable[..., Any]:
        import functools

        @functools.wraps(tool)
        def call(*arguments: Any, **named: Any) -> Any:
            try:
                return tool(*arguments, **named)
            except TwinlensError as error:
                raise ToolError(error.message) from None

        return call

    server: MCPServer[Any] = MCPServer(
        "twinlens", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING"
    )
    for tool in (
        tools.search_images,
        tools.similar,
        tools.classify_image,
        tools.embed,
        tools.collection_info,
    ):
        server.tool(structured_output=False)(guard(tool))
    return server


def _check_k(k: int) -> int:
    if not 1 <= k <= _MOST_HITS:
        raise InputError(f"k is {k}; it must be between 1 and {_MOST_HITS}", field="k")
    return k


def _read_item(found: Collection, id: str) -> bytes | None:
    """Return the file of an item; None if there is no such item or it has no file.

    Only paths from the indexer are opened: other paths were sent by clients of a server.
    """
    from twinlens.index.ingest.corpus import read_path
    from twinlens.index.ingest.item_files import find_file

    try:
        path = find_file(found.get(id))
        return None if path is None else read_path(path)
    except (TwinlensError, OSError):
        return None


def _draw_thumbnail(found: Collection, id: str) -> bytes | None:
    """Return a small WebP of an item; None where its file is gone or is no image."""
    from twinlens.bundle.image.thumbnail import make_thumbnail

    raw = _read_item(found, id)
    try:
        return None if raw is None else make_thumbnail(raw)
    except TwinlensError:
        return None
