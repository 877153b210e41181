"""Other stores behind one interface, so that each gets the same texts for the same recall.

A store that is not installed is left out with a message. Each has one dial from cheap to thorough;
all hold float32 rows of one length and are searched by inner product, one query at a time.
"""

from __future__ import annotations

import importlib.util
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from worlds.embeddings import Rows

K = 10
PIECE = 10_000


class Store(ABC):
    """One contender: built once, then asked at each value of its dial."""

    label: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()  # modules
    params: ClassVar[tuple[Any, ...]] = (None,)
    process: int | None = None  # another process that works for it

    @classmethod
    def missing(cls) -> list[str]:
        """Return the modules that would have to be installed."""
        return [name for name in cls.needs if importlib.util.find_spec(name) is None]

    @abstractmethod
    def build(self, rows: Rows, place: Path) -> None:
        """Take in the rows; row n is item n."""

    @abstractmethod
    def ask(self, text: Rows) -> Sequence[Any]:
        """Return the `K` best items: their numbers, or what `numbers` reads those from."""

    def numbers(self, answer: Sequence[Any]) -> list[int]:
        """Return the numbers of an answer; the time that this takes is not the store's."""
        return list(answer)

    def turn(self, param: Any) -> None:
        """Set the dial."""
        return  # one without a dial has nothing to set

    def close(self) -> None:
        """Stop what was started."""
        return  # a library has started nothing

    def spent(self) -> float:
        """Return the CPU seconds of this process and of the one that works for the store."""
        own = time.process_time()
        if self.process is None:
            return own
        fields = Path(f"/proc/{self.process}/stat").read_text().rsplit(")", 1)[1].split()
        return own + sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


class Hnsw(Store):
    """FAISS's graph, as a library call."""

    label = "FAISS HNSW32"
    params = (16, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 256, 384)

    def build(self, rows: Rows, place: Path) -> None:
        faiss = import_module("faiss")
        self._index = faiss.IndexHNSWFlat(rows.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = 120
        self._index.add(rows)

    def turn(self, param: Any) -> None:
        self._index.hnsw.efSearch = param

    def ask(self, text: Rows) -> Sequence[int]:
        found: list[int] = self._index.search(text[None], K)[1][0].tolist()
        return found


class Usearch(Store):
    """A graph of half-precision rows, as a library call."""

    label = "usearch f16"
    needs = ("usearch",)
    params = (16, 32, 64, 96, 128, 192, 256, 384, 512)

    def build(self, rows: Rows, place: Path) -> None:
        usearch = import_module("usearch.index")
        self._index = usearch.Index(ndim=rows.shape[1], metric="ip", dtype="f16", connectivity=16)
        self._index.add(np.arange(len(rows)), rows, threads=1)

    def turn(self, param: Any) -> None:
        self._index.expansion_search = param

    def ask(self, text: Rows) -> Sequence[int]:
        found: list[int] = self._index.search(text, K).keys.tolist()
        return found


class Lance(Store):
    """LanceDB with its default index of `create_index`; the dial is lists and re-ranking."""

    label = "LanceDB IVF_PQ"
    needs = ("lancedb",)
    params = ((5, 5), (10, 10), (20, 10), (20, 30), (40, 30), (80, 50), (160, 100))

    def build(self, rows: Rows, place: Path) -> None:
        lancedb = import_module("lancedb")
        pyarrow = import_module("pyarrow")
        dim = rows.shape[1]
        vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.ravel()), dim)
        table = pyarrow.table({"n": np.arange(len(rows)), "vector": vectors})
        self._table = lancedb.connect(str(place / "lance")).create_table("t", table)
        self._table.create_index(metric="dot")

    def turn(self, param: Any) -> None:
        self._probes, self._refine = param

    def ask(self, text: Rows) -> Sequence[int]:
        asked = self._table.search(text).distance_type("dot").nprobes(self._probes)
        found = asked.refine_factor(self._refine).select(["n", "_distance"]).limit(K).to_arrow()
        numbers: list[int] = found["n"].to_pylist()
        return numbers


class Pgvector(Store):
    """PostgreSQL with pgvector 0.6 (the one that pgserver brings), its graph index."""

    label = "pgvector HNSW"
    needs = ("pgserver", "psycopg")
    params = (20, 40, 80, 120, 200, 400, 800)

    def build(self, rows: Rows, place: Path) -> None:
        pgserver = import_module("pgserver")
        psycopg = import_module("psycopg")
        self._server = pgserver.get_server(place / "pg")
        self._db = psycopg.connect(self._server.get_uri(), autocommit=True)
        self.process = self._db.info.backend_pid
        run = self._db.execute
        run("SET maintenance_work_mem = '2GB'; SET max_parallel_maintenance_workers = 0")
        run("CREATE EXTENSION vector")
        run(f"CREATE TABLE t (n int, v vector({rows.shape[1]}))")
        run("ALTER TABLE t ALTER COLUMN v SET STORAGE PLAIN")
        with self._db.cursor().copy("COPY t FROM STDIN WITH (FORMAT BINARY)") as copy:
            copy.set_types(["int4", "bytea"])
            for number, row in enumerate(rows):
                copy.write_row((number, _vector(row)))
        run("CREATE INDEX ON t USING hnsw (v vector_ip_ops) WITH (m = 16, ef_construction = 64)")
        run("SET enable_seqscan = off")

    def turn(self, param: Any) -> None:
        self._db.execute(f"SET hnsw.ef_search = {param}")

    def ask(self, text: Rows) -> Sequence[int]:
        literal = "[" + ",".join(map(str, text.tolist())) + "]"
        query = f"SELECT n FROM t ORDER BY v <#> %s::vector LIMIT {K}"
        return [row[0] for row in self._db.execute(query, (literal,), prepare=True).fetchall()]

    def close(self) -> None:
        self._db.close()
        self._server.cleanup()


class Milvus(Store):
    """milvus-lite, the store in a file that ships with its client."""

    label = "milvus-lite HNSW"
    needs = ("pymilvus", "milvus_lite")
    params = (16, 32, 64, 128, 256, 512)

    def build(self, rows: Rows, place: Path) -> None:
        pymilvus = import_module("pymilvus")
        self._client = pymilvus.MilvusClient(str(place / "milvus.db"))
        self._client.create_collection("t", dimension=rows.shape[1], metric_type="IP")
        for start in range(0, len(rows), PIECE):
            piece = rows[start : start + PIECE]
            told = [{"id": start + n, "vector": row} for n, row in enumerate(piece)]
            self._client.insert("t", told)
        self._client.flush("t")  # rows outside segments are scanned in Python
        self._client.release_collection("t")
        self._client.drop_index("t", "vector")
        wanted = self._client.prepare_index_params()
        graph = {"M": 16, "efConstruction": 120}
        wanted.add_index("vector", index_type="HNSW", metric_type="IP", params=graph)
        try:
            self._client.create_index("t", wanted)
        except pymilvus.MilvusException as error:
            # Its client gives up on a server after 15 s without response and retries while the
            # first call continues: the index that then "already exists" is the requested one.
            if "already exists" not in str(error):
                raise
        self._client.load_collection("t")  # returns when every segment has its graph

    def turn(self, param: Any) -> None:
        self._dial = param

    def ask(self, text: Rows) -> Sequence[int]:
        params = {"metric_type": "IP", "params": {"ef": self._dial}}
        found = self._client.search("t", [text], limit=K, search_params=params)
        return [hit["id"] for hit in found[0]]

    def close(self) -> None:
        self._client.close()


STORES: tuple[type[Store], ...] = (Hnsw, Usearch, Lance, Pgvector, Milvus)


def _vector(row: Rows) -> bytes:
    """Return a row as pgvector sends it: the length, two unused bytes, big-endian floats."""
    return len(row).to_bytes(2, "big") + b"\0\0" + row.astype(">f4").tobytes()
