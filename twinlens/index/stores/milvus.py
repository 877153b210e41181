"""A collection in Milvus: a cluster by its address, or a file by milvus-lite.

The index is exact until `build_index`. Milvus orders rows by id alone, so a page of items reads the
numbers of all that match. What must stay true: reads are strongly consistent, and a search that
found fewer than there are compares all rows.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson

from twinlens.errors import InputError
from twinlens.index.query.filters import Filter, matches
from twinlens.index.storage.records import Head, Item, dump_metadata, head_from
from twinlens.index.stores.filter_keys import FilterKeys, build_keys
from twinlens.index.stores.milvus_client import (
    LONGEST,
    METRIC,
    STRONG,
    build_graph,
    create,
    has_graph,
    write_record,
)
from twinlens.index.stores.milvus_filter import write_expression
from twinlens.index.stores.store import Scored, StoreState, VectorStore, check_head
from twinlens.index.vectors.arrays import Floats, Rids
from twinlens.index.vectors.exact import top_k

PAGE = 1000  # rows a call
ITEM = ["rid", "id", "version", "metadata"]
MARK = "tuning mark"  # the note of what there was when the index was measured


class MilvusStore(VectorStore):
    """One collection in Milvus."""

    label = "Milvus"
    efforts = (16, 32, 64, 128, 256, 512)

    def __init__(self, client: Any, name: str, place: str, head: Head | None = None) -> None:
        """Open the collection `name`; with `head`, create it where it is missing."""
        super().__init__(place)
        self._client = client
        self._name, self._states = f"twinlens_{name}", f"twinlens_{name}_state"
        self._writing = threading.Lock()
        self._last_rid = 0
        self._known_fields: set[str] = set()
        if head is not None:
            create(client, self._name, head.dim)
            if "head" not in self._read_rows():
                self._write_rows({"head": json.dumps(head.__dict__)})
        elif not client.has_collection(self._states):
            raise InputError(
                f"{place} has no collection {name!r}; fill one with"
                " `twinlens index migrate DIR URI`",
                field="collection",
            )
        self._graph = has_graph(client, self._name)
        if head is not None:
            check_head(place, self.read_state().head, head)

    # --- reading ---------------------------------------------------------------------------

    def read_state(self) -> StoreState:
        """Return the current state."""
        rows = self._read_rows()
        notes = {key[5:]: json.loads(body) for key, body in rows.items() if key[:5] == "note:"}
        fields = frozenset(key[6:] for key in rows if key[:6] == "field:")
        head = head_from({**json.loads(rows["head"]), "epoch": int(rows.get("epoch", 0))})
        count, mark = self.count(None), notes.pop(MARK, None)
        changed = 0
        if mark is not None:
            written = self._count(f"rid > {mark['rid']}")
            changed = written + max(0, mark["count"] - (count - written))
        self._graph = has_graph(self._client, self._name)
        return StoreState(head, count, fields, notes, self._graph, changed)

    def search(
        self, queries: Floats, k: int, tree: Filter | None, effort: int | None
    ) -> list[list[Scored]]:
        """Return the k best items of each query, best first; without `effort` by comparing all."""
        expression = self._write(tree)
        if effort is None and self._graph:
            return self._compare_all(queries, k, expression)
        params = {} if effort is None else {"ef": max(effort, k)}
        answer = self._client.search(
            self._name,
            queries.tolist(),
            filter="" if tree is None else expression,
            limit=k,
            output_fields=ITEM,
            search_params={"metric_type": METRIC, "params": params},
            consistency_level=STRONG,
        )
        found = [
            [(_item(hit["entity"]), float(hit["distance"])) for hit in hits] for hits in answer
        ]
        if self._graph and any(len(hits) < k for hits in found):
            wanted = min(k, self._count(expression))
            if any(len(hits) < wanted for hits in found):
                return self._compare_all(queries, k, expression)
        return found

    def count(self, tree: Filter | None) -> int:
        """Return how many items satisfy a filter."""
        return self._count(self._write(tree))

    def by_rid(self, rids: Sequence[int]) -> dict[int, Item]:
        """Return the items of these numbers; unknown ones are omitted."""
        return {row["rid"]: _item(row) for row in self._pick("rid", rids, ITEM)}

    def by_id(self, ids: Sequence[str]) -> dict[str, Item]:
        """Return the items of these ids; unknown ones are omitted."""
        return {row["id"]: _item(row) for row in self._pick("id", ids, ITEM)}

    def embeddings(self, rids: Sequence[int]) -> dict[int, Floats]:
        """Return the embeddings of these numbers; unknown ones are omitted."""
        rows = self._pick("rid", rids, ["rid", "embedding"])
        return {row["rid"]: np.asarray(row["embedding"], np.float32) for row in rows}

    def scroll(self, tree: Filter | None, after: int, limit: int) -> list[Item]:
        """Return the first `limit` items of numbers above `after`, ascending."""
        rids = self._rids(f"rid > {after} and {self._write(tree)}")
        found = self.by_rid(rids[:limit].tolist())
        return [found[rid] for rid in sorted(found)]

    def rids(self, tree: Filter | None) -> Rids:
        """Return the numbers of all items that satisfy a filter, ascending."""
        return self._rids(self._write(tree))

    def measure_bytes(self) -> int:
        """Return 0: Milvus does not tell the size of a collection."""
        return 0

    # --- writing ---------------------------------------------------------------------------

    def upsert(
        self,
        ids: Sequence[str],
        rows: Floats,
        metadata: Sequence[dict[str, Any]],
        versions: Sequence[str],
    ) -> None:
        """Insert items of different ids, replacing those that are there; whole by `PAGE`."""
        bodies = [dump_metadata(one) for one in metadata]
        keys = [build_keys(orjson.loads(body)) for body in bodies]
        for name, body in zip(ids, bodies, strict=True):
            if len(body.encode()) > LONGEST:
                raise InputError(
                    f"metadata of {name[:80]!r} is longer than the {LONGEST} bytes that Milvus"
                    " keeps; shorten it",
                    field="metadata",
                )
        with self._writing:
            first = self._take_rids(len(ids))
            self._add_fields(keys)
            values = zip(ids, rows, bodies, keys, versions, strict=True)
            records = [
                write_record(first + n, name, row, body, key, version)
                for n, (name, row, body, key, version) in enumerate(values)
            ]
            for start in range(0, len(records), PAGE):
                self._client.upsert(self._name, records[start : start + PAGE])
            self._write_rows({"epoch": str(self._last_rid)})

    def delete(self, ids: Sequence[str]) -> int:
        """Delete items; return how many there were."""
        known = sorted(self.by_id(ids))
        with self._writing:
            for start in range(0, len(known), PAGE):
                chosen = json.dumps(known[start : start + PAGE], ensure_ascii=False)
                self._client.delete(self._name, filter=f"id in {chosen}")
            self._write_rows({"epoch": str(self._take_rids(1))})
        return len(known)

    def write_note(self, key: str, value: Any) -> None:
        """Store a named value; the count of changes since `tuning` begins again with it."""
        if value is None:
            self._client.delete(self._states, filter=f"key in {json.dumps([f'note:{key}'])}")
            return
        rows = {f"note:{key}": json.dumps(value)}
        if key == "tuning":
            mark = {"rid": self._take_rids(1), "count": self.count(None)}
            rows[f"note:{MARK}"] = json.dumps(mark)
        self._write_rows(rows)

    def build_index(self) -> None:
        """Build the graph of the embeddings, if there is none."""
        if not has_graph(self._client, self._name):
            build_graph(self._client, self._name)
        self._graph = True

    def close(self) -> None:
        """Release the connection."""
        self._client.close()

    # --- private ---------------------------------------------------------------------------

    def _write(self, tree: Filter | None) -> str:
        return write_expression(tree, self._resolve)

    def _resolve(self, narrowed: str, leaf: Filter) -> list[int]:
        """Return the numbers of the rows that satisfy a leaf, judged by their metadata."""
        return [
            int(row["rid"])
            for row in self._walk(narrowed, ["rid", "metadata"])
            if matches(leaf, orjson.loads(row["metadata"]))
        ]

    def _compare_all(self, queries: Floats, k: int, expression: str) -> list[list[Scored]]:
        rids, rows = [], []
        for row in self._walk(expression, ["rid", "embedding"]):
            rids.append(row["rid"])
            rows.append(np.asarray(row["embedding"], np.float32))
        if not rows:
            return [[] for _ in queries]
        scores, places = top_k(queries, np.stack(rows), min(k, len(rows)))
        numbers = np.asarray(rids, np.int64)[places]
        items = self.by_rid(np.unique(numbers).tolist())
        return [
            [(items[rid], score) for rid, score in zip(*pair, strict=True) if rid in items]
            for pair in zip(numbers.tolist(), scores.tolist(), strict=True)
        ]

    def _walk(self, expression: str, fields: list[str]) -> Iterator[dict[str, Any]]:
        """Yield all rows that satisfy an expression, in no order that means anything."""
        pages = self._client.query_iterator(
            self._name,
            batch_size=PAGE,
            filter=expression,
            output_fields=fields,
            consistency_level=STRONG,
        )
        try:
            while page := pages.next():
                yield from page
        finally:
            pages.close()

    def _rids(self, expression: str) -> Rids:
        found = [row["rid"] for row in self._walk(expression, ["rid"])]
        return np.sort(np.array(found, np.int64))

    def _count(self, expression: str) -> int:
        answer = self._query(self._name, expression, ["count(*)"])
        return int(answer[0]["count(*)"])

    def _pick(self, field: str, values: Sequence[Any], fields: list[str]) -> Iterator[Any]:
        for start in range(0, len(values), PAGE):
            chosen = json.dumps(list(values[start : start + PAGE]), ensure_ascii=False)
            yield from self._query(self._name, f"{field} in {chosen}", fields)

    def _query(self, name: str, expression: str, fields: list[str]) -> Any:
        return self._client.query(
            name, filter=expression, output_fields=fields, consistency_level=STRONG
        )

    def _read_rows(self) -> dict[str, str]:
        rows = self._query(self._states, 'key != ""', ["key", "body"])
        return {row["key"]: row["body"] for row in rows}

    def _write_rows(self, rows: dict[str, str]) -> None:
        self._client.upsert(
            self._states,
            [{"key": key, "body": body, "vector": [0.0, 1.0]} for key, body in rows.items()],
        )

    def _take_rids(self, count: int) -> int:
        """Return the first of `count` numbers: microseconds, so that writers need not agree."""
        first = max(self._last_rid + 1, time.time_ns() // 1000)
        self._last_rid = first + count - 1
        return first

    def _add_fields(self, keys: Sequence[FilterKeys]) -> None:
        fields = frozenset[str]().union(*(one.fields for one in keys)) - self._known_fields
        if fields:
            self._write_rows({f"field:{name}": "" for name in fields})
            self._known_fields |= fields


def _item(row: Any) -> Item:
    return Item(row["rid"], row["id"], row["version"], orjson.loads(row["metadata"]))
