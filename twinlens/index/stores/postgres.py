"""A collection in PostgreSQL with pgvector: one table of items, one row that tells its state.

A write is one transaction that locks the state's row first, so writes take turns and their numbers
ascend. A filtered search compares all rows that satisfy the filter, since pgvector's graph would
return fewer than were asked for; from version 0.8 it asks the graph and goes on until there are
enough. What must stay true: names are checked before they become SQL, values are parameters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import orjson

from twinlens.errors import InputError
from twinlens.index.query.filters import Filter
from twinlens.index.storage.records import Head, Item, dump_metadata, head_from
from twinlens.index.stores.filter_keys import build_keys
from twinlens.index.stores.postgres_connections import Connections, read_vector, write_vector
from twinlens.index.stores.postgres_tables import TABLES, UPSERT
from twinlens.index.stores.sql_filter import write_condition
from twinlens.index.stores.store import Scored, StoreState, VectorStore, check_head
from twinlens.index.vectors.arrays import Floats, Rids

MOST_DIMENSIONS = 2000  # of an index on float32 rows
ITERATIVE = (0, 8)  # the version from which a graph goes on until a filter has enough

_ITEM = "rid, id, version, metadata::text"


class PostgresStore(VectorStore):
    """One collection in a PostgreSQL database."""

    label = "PostgreSQL"
    efforts = (40, 80, 120, 200, 400, 800)

    def __init__(self, uri: str, name: str, place: str, head: Head | None = None) -> None:
        """Open the collection `name`; with `head`, create it where it is missing."""
        super().__init__(place)
        self._name = f"twinlens_{name}"
        self._connections = Connections(uri, place)
        self._run = self._connections.run
        try:
            if head is not None:
                self._create(head)
            self._dim = self._run(self._read_head).dim
            self._version = self._run(_read_version)
        except BaseException:
            self.close()
            raise

    # --- reading ---------------------------------------------------------------------------

    def read_state(self) -> StoreState:
        """Return the current state."""

        def read(db: Any) -> StoreState:
            (row,) = db.execute(
                f"SELECT head, notes, count, epoch, changed, to_regclass('{self._name}_graph')"
                f" IS NOT NULL FROM {self._name}_state"
            ).fetchall()
            fields = db.execute(f"SELECT field FROM {self._name}_fields").fetchall()
            head = head_from({**row[0], "epoch": row[3]})
            names = frozenset(one for (one,) in fields)
            return StoreState(head, row[2], names, row[1], row[5], row[4])

        return self._run(read)

    def search(
        self, queries: Floats, k: int, tree: Filter | None, effort: int | None
    ) -> list[list[Scored]]:
        """Return the k best items of each query, best first; without `effort` by comparing all."""
        if effort is not None and (tree is None or self._version >= ITERATIVE):
            found = self._run(lambda db: self._ask(db, queries, k, tree, effort))
            wanted = min(k, self.count(tree)) if any(len(hits) < k for hits in found) else 0
            if all(len(hits) >= wanted for hits in found):
                return found
        return self._run(lambda db: self._ask(db, queries, k, tree, None))

    def count(self, tree: Filter | None) -> int:
        """Return how many items satisfy a filter."""
        condition, values = write_condition(tree)
        text = f"SELECT count(*) FROM {self._name} WHERE {condition}"
        if tree is None:
            text = f"SELECT count FROM {self._name}_state"
        return int(self._select(text, values)[0][0])

    def by_rid(self, rids: Sequence[int]) -> dict[int, Item]:
        """Return the items of these numbers; unknown ones are omitted."""
        text = f"SELECT {_ITEM} FROM {self._name} WHERE rid = ANY(%s)"
        return {row[0]: _item(row) for row in self._select(text, [list(rids)])}

    def by_id(self, ids: Sequence[str]) -> dict[str, Item]:
        """Return the items of these ids; unknown ones are omitted."""
        text = f"SELECT {_ITEM} FROM {self._name} WHERE id = ANY(%s)"
        known = [name for name in ids if "\0" not in name]
        return {row[1]: _item(row) for row in self._select(text, [known])}

    def embeddings(self, rids: Sequence[int]) -> dict[int, Floats]:
        """Return the embeddings of these numbers; unknown ones are omitted."""
        text = f"SELECT rid, embedding FROM {self._name} WHERE rid = ANY(%s)"
        rows = self._run(lambda db: db.cursor(binary=True).execute(text, [list(rids)]).fetchall())
        return {rid: read_vector(body) for rid, body in rows}

    def scroll(self, tree: Filter | None, after: int, limit: int) -> list[Item]:
        """Return the first `limit` items of numbers above `after`, ascending."""
        condition, values = write_condition(tree)
        text = f"SELECT {_ITEM} FROM {self._name} WHERE rid > %s AND {condition}"
        rows = self._select(f"{text} ORDER BY rid LIMIT %s", [after, *values, limit])
        return [_item(row) for row in rows]

    def rids(self, tree: Filter | None) -> Rids:
        """Return the numbers of all items that satisfy a filter, ascending."""
        condition, values = write_condition(tree)
        rows = self._select(f"SELECT rid FROM {self._name} WHERE {condition} ORDER BY rid", values)
        return np.array([row[0] for row in rows], np.int64)

    def measure_bytes(self) -> int:
        """Return the bytes of the table with its indexes."""
        return int(self._select(f"SELECT pg_total_relation_size('{self._name}')")[0][0])

    # --- writing ---------------------------------------------------------------------------

    def upsert(
        self,
        ids: Sequence[str],
        rows: Floats,
        metadata: Sequence[dict[str, Any]],
        versions: Sequence[str],
    ) -> None:
        """Insert items of different ids, replacing those that are there; one transaction."""
        bodies = [dump_metadata(one) for one in metadata]
        keys = [build_keys(orjson.loads(body)) for body in bodies]
        bounds = [orjson.dumps(one.bounds).decode() for one in keys]
        if any("\\u0000" in body for body in bounds):
            raise InputError(
                "metadata holds a string with U+0000, which PostgreSQL cannot keep; leave it out",
                field="metadata",
            )
        fields = sorted(frozenset[str]().union(*(one.fields for one in keys)))

        def write(db: Any) -> None:
            with self._writing(db, len(ids)) as first:
                before = self._count_present(db, ids)
                values = zip(ids, versions, bodies, keys, bounds, rows, strict=True)
                with db.cursor() as cursor:
                    cursor.executemany(
                        UPSERT.format(name=self._name),
                        [
                            (id, first + n, version, body, key.terms, bound, write_vector(row))
                            for n, (id, version, body, key, bound, row) in enumerate(values)
                        ],
                    )
                self._add_to_count(db, len(ids) - before)
                insert = f"INSERT INTO {self._name}_fields SELECT unnest(%s::text[])"
                db.execute(f"{insert} ON CONFLICT DO NOTHING", [fields])

        self._run(write)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items; return how many there were."""
        known = [name for name in ids if "\0" not in name]

        def write(db: Any) -> int:
            with self._writing(db, 0):
                text = f"DELETE FROM {self._name} WHERE id = ANY(%s)"
                gone = int(db.execute(text, [known]).rowcount)
                self._add_to_count(db, -gone)
                update = f"UPDATE {self._name}_state SET changed = changed + %s"
                db.execute(update, [gone])
                return gone

        return self._run(write)

    def write_note(self, key: str, value: Any) -> None:
        """Store a named value; the count of changes since `tuning` begins again with it."""

        def write(db: Any) -> None:
            with db.transaction():
                text = f"SELECT notes FROM {self._name}_state FOR UPDATE"
                notes = {**db.execute(text).fetchone()[0], key: value}
                kept = {name: one for name, one in notes.items() if one is not None}
                reset = ", changed = 0" if key == "tuning" else ""
                update = f"UPDATE {self._name}_state SET notes = %s{reset}"
                db.execute(update, [json.dumps(kept)])

        self._run(write)

    def build_index(self) -> None:
        """Build the graph of the embeddings, if there is none."""
        if self._dim > MOST_DIMENSIONS:
            raise InputError(
                f"{self.place}: pgvector indexes at most {MOST_DIMENSIONS} dimensions, and these"
                f" have {self._dim}; search without an index, or use a bundle with fewer",
                field="kind",
            )
        text = f"CREATE INDEX IF NOT EXISTS {self._name}_graph ON {self._name}"

        def build(db: Any) -> None:
            with db.transaction():
                db.execute("SET LOCAL maintenance_work_mem = '1GB'")
                db.execute(f"{text} USING hnsw (embedding vector_ip_ops)")

        self._run(build)

    def close(self) -> None:
        """Release the connections of all threads."""
        self._connections.close()

    # --- private ---------------------------------------------------------------------------

    def _create(self, head: Head) -> None:
        """Create the tables, or check that those there are of the same bundle."""

        def create(db: Any) -> Head:
            with db.transaction():
                db.execute("SELECT pg_advisory_xact_lock(7265)")  # two at once would both create
                db.execute(TABLES.format(name=self._name, dim=head.dim))
                insert = (
                    f"INSERT INTO {self._name}_state (head, notes, count, epoch, next_rid, changed)"
                )
                db.execute(
                    f"{insert} VALUES (%s, '{{}}', 0, 0, 1, 0) ON CONFLICT DO NOTHING",
                    [json.dumps(head.__dict__)],
                )
                return self._read_head(db)

        check_head(self.place, self._run(create, plain=True), head)

    def _read_head(self, db: Any) -> Head:
        if db.execute(f"SELECT to_regclass('{self._name}_state')").fetchone()[0] is None:
            name = self._name.removeprefix("twinlens_")
            raise InputError(
                f"{self.place} has no collection {name!r}; fill one with"
                " `twinlens index migrate DIR URI`",
                field="collection",
            )
        return head_from(db.execute(f"SELECT head FROM {self._name}_state").fetchone()[0])

    def _ask(
        self, db: Any, queries: Floats, k: int, tree: Filter | None, effort: int | None
    ) -> list[list[Scored]]:
        condition, values = write_condition(tree)
        order = "embedding <#> %s" if effort is not None else "(embedding <#> %s) + 0"
        text = (
            f"SELECT {_ITEM}, -(embedding <#> %s) FROM {self._name} WHERE {condition}"
            f" ORDER BY {order} LIMIT %s"
        )
        with db.transaction():
            if effort is not None:
                db.execute(f"SET LOCAL hnsw.ef_search = {min(1000, max(effort, k))}")
                if tree is not None:
                    db.execute("SET LOCAL hnsw.iterative_scan = strict_order")
            found = []
            for row in queries:
                vector = write_vector(row)
                rows = db.execute(text, [vector, *values, vector, k], prepare=True).fetchall()
                found.append([(_item(one), float(one[4])) for one in rows])
            return found

    @contextmanager
    def _writing(self, db: Any, rows: int) -> Iterator[int]:
        """Hold off other writers; yield the first of `rows` new numbers."""
        with db.transaction():
            text = (
                f"UPDATE {self._name}_state SET epoch = epoch + 1, next_rid = next_rid + %s,"
                " changed = changed + %s RETURNING next_rid - %s"
            )
            yield int(db.execute(text, [rows, rows, rows]).fetchone()[0])

    def _count_present(self, db: Any, ids: Sequence[str]) -> int:
        text = f"SELECT count(*) FROM {self._name} WHERE id = ANY(%s)"
        return int(db.execute(text, [list(ids)]).fetchone()[0])

    def _add_to_count(self, db: Any, more: int) -> None:
        db.execute(f"UPDATE {self._name}_state SET count = count + %s", [more])

    def _select(self, text: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._run(lambda db: db.execute(text, list(values)).fetchall())


def _read_version(db: Any) -> tuple[int, ...]:
    text = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
    return tuple(int(part) for part in db.execute(text).fetchone()[0].split(".")[:2])


def _item(row: Sequence[Any]) -> Item:
    return Item(row[0], row[1], row[2], orjson.loads(row[3]))
