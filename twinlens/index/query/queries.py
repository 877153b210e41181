"""Queries as they are given to a search: texts, images and vectors, mixed, as unit rows.

A string is always a text; a path to an image is a `Path`. What must stay true: rows of numbers need
no bundle, which is opened when the first text or image is asked for, and again where the collection
has moved to another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from twinlens.errors import ConflictError, InputError
from twinlens.index.vectors.arrays import Floats, unit_rows

if TYPE_CHECKING:
    from PIL.Image import Image

    from twinlens.bundle.encoder import Encoder

    Query = str | bytes | PathLike[str] | Image | npt.NDArray[Any] | Sequence[float]
    Queries = Query | Sequence[Query] | npt.ArrayLike


class QueryBundle:
    """The bundle that embeds the queries of one collection, opened once it is needed."""

    def __init__(self, find: Callable[[], str | Path], check: Callable[[str], None]) -> None:
        self._find = find
        self._check = check  # raises where the bundle's revision is not the collection's
        self._opened: Encoder | None = None
        self._opening = threading.Lock()

    def open(self) -> Encoder:
        """Return the encoder."""
        with self._opening:
            if self._opened is not None:
                try:
                    self._check(self._opened.revision)
                except ConflictError:  # the collection was moved to another bundle meanwhile
                    self._opened = None
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> Encoder:
        source = self._find()
        if not source:
            raise InputError(
                "this collection does not say where its bundle is; open it with "
                "open_collection(FOLDER, bundle=PATH), or search by vectors",
                field="bundle",
            )
        from twinlens.bundle.encoder import open_bundle

        encoder = open_bundle(source)
        self._check(encoder.revision)
        return encoder


def embed_queries(queries: Queries, dim: int, bundle: QueryBundle) -> tuple[Floats, str | None]:
    """Return a unit row (n, dim) for each query, and the revision of the bundle if it was needed.

    A query that is no list counts as a list of one.
    """
    if isinstance(queries, np.ndarray) and queries.ndim == 1:  # a lone vector, the common case
        return unit_rows(queries, dim, "query"), None
    listed: Sequence[Any] = queries if isinstance(queries, list | tuple) else [queries]
    kinds = [_find_kind(query) for query in listed]
    if set(kinds) <= {"vector"}:
        return unit_rows(queries, dim, "query"), None  # type: ignore[arg-type]
    encoder = bundle.open()
    rows = np.empty((len(listed), dim), dtype=np.float32)
    texts = [i for i, kind in enumerate(kinds) if kind == "text"]
    images = [i for i, kind in enumerate(kinds) if kind == "image"]
    if texts:
        rows[texts] = encoder.embed_texts([listed[i] for i in texts], input_type="query")
    if images:
        rows[images] = encoder.embed_images([listed[i] for i in images])
    for i, kind in enumerate(kinds):
        if kind == "vector":
            rows[i] = unit_rows(listed[i], dim, f"query[{i}]")[0]
    return rows, encoder.revision


def _find_kind(query: object) -> str:
    """Return what a query is: a text, a vector of numbers, or else an image."""
    if isinstance(query, str):
        return "text"
    if isinstance(query, np.ndarray):
        return "image" if query.dtype == np.uint8 and query.ndim == 3 else "vector"
    if isinstance(query, bytes | bytearray | memoryview | PathLike) or hasattr(query, "convert"):
        return "image"
    return "vector"
