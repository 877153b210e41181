"""Opens collections by folder or by the address of a store.

    postgresql://user@host/database?collection=NAME     PostgreSQL with pgvector
    milvus://host:19530?collection=NAME                 Milvus; milvus+https:// for TLS
    milvus:///path/to/file.db?collection=NAME           milvus-lite, a file on this machine

What must stay true: a message shows an address without its password.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from twinlens.cache import find_cache
from twinlens.errors import InputError
from twinlens.index.collection import Collection
from twinlens.index.storage.records import Head
from twinlens.index.stores.store import VectorStore
from twinlens.index.stores.store_collection import StoreCollection
from twinlens.index.stores.store_writer import StoreWriter
from twinlens.index.writer import Writer

DEFAULT_NAME = "photos"
POSTGRES, MILVUS = ("postgresql", "postgres"), ("milvus", "milvus+https")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True)
class StoreAddress:
    """The parts of a store's address."""

    scheme: str
    uri: str  # without the name of the collection
    name: str
    shown: str  # without a password
    password: str | None = None
    user: str | None = None


def parse_address(text: str) -> StoreAddress | None:
    """Return the address of a store, or None for a folder."""
    scheme, sign, _ = text.partition("://")
    if not sign:
        return None
    if scheme not in (*POSTGRES, *MILVUS):
        raise InputError(
            f"{scheme}:// is not a store of collections; use postgresql:// or milvus://",
            field="collection",
        )
    parts = urlsplit(text)
    options = parse_qsl(parts.query, keep_blank_values=True)
    name = next((value for key, value in options if key == "collection"), DEFAULT_NAME)
    if not _NAME.fullmatch(name):
        raise InputError(
            f"?collection={name[:50]} is not usable; give a small letter, then small letters,"
            " digits and _ (40 at most)",
            field="collection",
        )
    query = urlencode([(key, value) for key, value in options if key != "collection"])
    host = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}@" if parts.username else ""
    shown = f"{scheme}://{user}{host}{parts.path}"
    uri = urlunsplit((scheme, parts.netloc, parts.path, query, ""))
    return StoreAddress(
        *(scheme, uri, name, f"{shown}?collection={name}"), parts.password, parts.username
    )


def open_store(address: StoreAddress, head: Head | None = None) -> VectorStore:
    """Open a store; with `head`, the collection is created where it is missing."""
    if address.scheme in POSTGRES:
        from twinlens.index.stores.postgres import PostgresStore

        return PostgresStore(address.uri, address.name, address.shown, head)
    from twinlens.index.stores.milvus import MilvusStore
    from twinlens.index.stores.milvus_client import connect

    return MilvusStore(connect(address.uri, address.shown), address.name, address.shown, head)


def open_collection(
    source: str | Path, *, bundle: str | Path | None = None, cache: Path | None = None
) -> Collection:
    """Open a collection for search: a folder, or a store's address.

    `bundle` says where its bundle is, if it has moved. Thumbnails of a store's items are kept below
    `cache`.
    """
    address = parse_address(str(source)) if isinstance(source, str) else None
    if address is None:
        return Collection(source, bundle=bundle)
    return StoreCollection(
        open_store(address), find_folder(address, cache or find_cache()), bundle=bundle
    )


def open_writer(source: str | Path) -> Writer:
    """Open a collection for writing: a folder, or a store's address."""
    address = parse_address(str(source)) if isinstance(source, str) else None
    if address is None:
        return Writer(source)
    return StoreWriter(StoreCollection(open_store(address), find_folder(address, find_cache())))


def find_folder(address: StoreAddress, cache: Path) -> Path:
    """Return the folder on this machine for what is made of a store's items."""
    mark = hashlib.sha256(address.shown.encode()).hexdigest()[:12]
    folder = cache / "stores" / f"{address.name}-{mark}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
