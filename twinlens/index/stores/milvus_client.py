"""The client of Milvus: its import, its address, and the two collections that hold one of ours.

Items are in NAME, with the keys that filters are asked of. NAME_state has a row for the head, for
each note, for each field that items have, and for the last write; it carries a vector, since Milvus
has no collection without one.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twinlens.errors import InputError, MissingDependencyError
from twinlens.index.stores.filter_keys import MOST_TERMS, FilterKeys
from twinlens.index.stores.store import unreachable
from twinlens.index.vectors.arrays import Floats

METRIC = "IP"
LONGEST = 65_535  # bytes of a string in Milvus
TERM_LENGTH = 24
STRONG = "Strong"  # a write that returned is seen by every later read
CONNECT_SECONDS = 10


def import_pymilvus() -> Any:
    """Return the client library."""
    try:
        import pymilvus
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "a collection in Milvus needs pymilvus: pip install 'twinlens[milvus]'"
        ) from None
    return pymilvus


def connect(uri: str, place: str) -> Any:
    """Return a client of a server, or of a file by milvus-lite."""
    library = import_pymilvus()
    parts = urlsplit(uri)
    if not parts.hostname and not parts.path.endswith(".db"):
        raise InputError(
            f"{place}: give milvus://HOST:PORT, or milvus:///PATH.db for a file by milvus-lite",
            field="collection",
        )
    if parts.hostname:
        scheme = "https" if parts.scheme.endswith("+https") else "http"
        address = f"{scheme}://{parts.hostname}:{parts.port or 19530}"
        database = parts.path.strip("/")
        named: dict[str, Any] = {"user": parts.username or "", "password": parts.password or ""}
        named |= {"db_name": database} if database else {}
    else:
        Path(parts.path).parent.mkdir(parents=True, exist_ok=True)
        address, named = parts.path, {}
    try:
        client = library.MilvusClient(address, timeout=CONNECT_SECONDS, **named)
    except library.MilvusException as error:
        raise unreachable(place, "Milvus", error) from error
    return _Calls(client, place, library.MilvusException)


class _Calls:
    """A client whose failures name the store's address."""

    def __init__(self, client: Any, place: str, failure: type[Exception]) -> None:
        self._client, self._place, self._failure = client, place, failure

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)

        @functools.wraps(call)
        def guarded(*values: Any, **named: Any) -> Any:
            try:
                return call(*values, **named)
            except self._failure as error:
                raise unreachable(self._place, "Milvus", error) from error

        return guarded


def create(client: Any, name: str, dim: int) -> None:
    """Create both collections, unless they exist."""
    kinds = import_pymilvus().DataType
    if not client.has_collection(f"{name}_state"):
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("key", kinds.VARCHAR, max_length=LONGEST, is_primary=True)
        schema.add_field("body", kinds.VARCHAR, max_length=LONGEST)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=2)
        _add(client, f"{name}_state", schema, "vector")
    if not client.has_collection(name):
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", kinds.VARCHAR, max_length=LONGEST, is_primary=True)
        schema.add_field("rid", kinds.INT64)
        schema.add_field("version", kinds.VARCHAR, max_length=LONGEST)
        schema.add_field("metadata", kinds.VARCHAR, max_length=LONGEST)
        schema.add_field("bounds", kinds.JSON)
        schema.add_field(
            "terms",
            kinds.ARRAY,
            element_type=kinds.VARCHAR,
            max_capacity=MOST_TERMS,
            max_length=TERM_LENGTH,
        )
        schema.add_field("embedding", kinds.FLOAT_VECTOR, dim=dim)
        _add(client, name, schema, "embedding")


def build_graph(client: Any, name: str) -> None:
    """Replace the exact index of the embeddings by a graph."""
    client.release_collection(name)
    client.drop_index(name, "embedding")
    params = client.prepare_index_params()
    settings = {"M": 16, "efConstruction": 128}
    params.add_index("embedding", index_type="HNSW", metric_type=METRIC, params=settings)
    client.create_index(name, params)
    client.load_collection(name)


def has_graph(client: Any, name: str) -> bool:
    """Return whether searches ask a graph."""
    return bool(client.describe_index(name, "embedding")["index_type"] != "FLAT")


def _add(client: Any, name: str, schema: Any, field: str) -> None:
    params = client.prepare_index_params()
    params.add_index(field, index_type="FLAT", metric_type=METRIC)
    client.create_collection(name, schema=schema, index_params=params, consistency_level=STRONG)


def write_record(
    rid: int, name: str, row: Floats, body: str, keys: FilterKeys, version: str
) -> dict[str, Any]:
    """Return an item as Milvus takes it."""
    return {
        "rid": rid,
        "id": name,
        "version": version,
        "metadata": body,
        "bounds": keys.bounds,
        "terms": keys.terms,
        "embedding": row.tolist(),
    }
