"""Connections to PostgreSQL, one for each thread, and embeddings as pgvector sends and takes them.

A connection that broke is opened once more and its action repeated, since every action here is one
transaction that may run twice: the server may be restarted under its readers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np

from twinlens.errors import MissingDependencyError
from twinlens.index.stores.store import unreachable
from twinlens.index.vectors.arrays import Floats

CONNECT_SECONDS = 10
ResultT = TypeVar("ResultT")


class Connections:
    """The connections of one process to one database."""

    def __init__(self, uri: str, place: str) -> None:
        self._uri, self._place = uri, place
        self._psycopg = import_psycopg()
        self._local = threading.local()
        self._open: list[Any] = []
        self._lock = threading.Lock()

    def run(self, action: Callable[[Any], ResultT], *, plain: bool = False) -> ResultT:
        """Run `action` with this thread's connection; `plain`: before vectors are known there."""
        for attempt in range(2):
            try:
                return action(self._connect(plain))
            except self._psycopg.OperationalError as error:
                self._forget()
                if attempt:
                    raise unreachable(self._place, "PostgreSQL", error) from error
        raise RuntimeError("unreachable: the last attempt returns or raises")

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for db in self._open:
                db.close()
            self._open.clear()
        self._local = threading.local()

    def _connect(self, plain: bool) -> Any:
        db = getattr(self._local, "db", None)
        if db is None:
            db = self._psycopg.connect(self._uri, autocommit=True, connect_timeout=CONNECT_SECONDS)
            with self._lock:
                self._open.append(db)
            self._local.db, self._local.has_vectors = db, False
        if not plain and not self._local.has_vectors:
            self._local.has_vectors = register_vectors(db)
        return db

    def _forget(self) -> None:
        """Drop this thread's connection."""
        db = getattr(self._local, "db", None)
        if db is not None:
            with self._lock, suppress(ValueError):
                self._open.remove(db)
            db.close()
            self._local.db = None


def import_psycopg() -> Any:
    """Return the driver of PostgreSQL."""
    try:
        import psycopg
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "a collection in PostgreSQL needs psycopg: pip install 'twinlens[pgvector]'"
        ) from None
    return psycopg


class StoredVector:
    """The bytes of one embedding, which psycopg sends as a `vector`."""

    def __init__(self, body: bytes) -> None:
        self.body = body


def write_vector(row: Floats) -> StoredVector:
    """Return a row as pgvector reads it: its length, two unused bytes, big-endian floats."""
    return StoredVector(len(row).to_bytes(2, "big") + b"\0\0" + row.astype(">f4").tobytes())


def read_vector(body: bytes) -> Floats:
    """Return the row of these bytes."""
    return np.frombuffer(body, ">f4", offset=4).astype(np.float32)


def register_vectors(db: Any) -> bool:
    """Teach a connection the type `vector`, whose number differs between databases.

    Where the extension is not installed there is none yet, and False is returned.
    """
    from psycopg.adapt import Dumper
    from psycopg.pq import Format

    found = db.execute("SELECT to_regtype('vector')::oid").fetchone()[0]
    if found is None:
        return False
    number = int(found)

    traits = {"oid": number, "format": Format.BINARY, "dump": lambda _, vector: vector.body}
    db.adapters.register_dumper(StoredVector, type("VectorDumper", (Dumper,), traits))
    return True
