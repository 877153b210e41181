"""A collection in use: upserts, segments that change under readers, opening."""

from __future__ import annotations

import importlib.util
import threading
import time

import numpy as np
from worlds.embeddings import Rows

from searching.stage import K, Stage
from twinlens.index.collection import Collection
from twinlens.index.writer import Writer, create_collection

ASK_EVERY = 0.02  # seconds: 50 searches a second


def rehearse_updates(stage: Stage) -> None:
    """Measure upserts, hot reload and opening, in wall time; then upserts beside LanceDB's."""
    _upsert(stage)
    _reload(stage)
    _open(stage)
    _race_lance(stage)


def _upsert(stage: Stage) -> None:
    spent = []
    for number in range(200):
        row = stage.world.image_queries[number]
        start = time.perf_counter()
        stage.writer.upsert([f"new{number}"], row[None])
        if stage.collection.search(row, 1)[0][0].id != f"new{number}":
            raise RuntimeError("an upserted row was not found at once")
        spent.append(1000 * (time.perf_counter() - start))
    middle, late = np.percentile(spent, [50, 99])
    stage.report.row(what="upsert one, durable and found (wall)", ms=middle, p99_ms=late)
    stage.report.bar("upsert_p50_ms", float(middle), 5.0, middle <= 5)


def _reload(stage: Stage) -> None:
    """Search 50 times per second in another reader while segments change under it."""
    faults: list[str] = []
    spent: list[float] = []
    done = threading.Event()
    texts = stage.world.text_queries

    def ask() -> None:
        with Collection(stage.writer.folder) as reader:
            due = time.perf_counter()
            while not done.is_set():
                start = time.perf_counter()
                try:
                    if len(reader.search(texts[len(spent) % len(texts)], K)[0]) != K:
                        faults.append("fewer hits than asked for")
                except Exception as error:  # any failure counts against us
                    faults.append(repr(error))
                spent.append(1000 * (time.perf_counter() - start))
                due += ASK_EVERY
                done.wait(max(0.0, due - time.perf_counter()))

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(1)
    quiet = len(spent)
    for turn in range(8):
        rows = stage.world.image_queries[100 * turn : 100 * turn + 100]
        stage.writer.upsert([f"turn{turn}-{n}" for n in range(len(rows))], rows)
        stage.writer.seal()
        time.sleep(0.3)
    done.set()
    thread.join()
    before, after = np.percentile(spent[1:quiet], 99), np.percentile(spent[quiet:], 99)
    stage.report.row(
        what="hot reload at 50 searches/s", rows=len(spent), faults=len(faults),
        p99_ms=float(after), p99_before_ms=float(before),
    )  # fmt: skip
    stage.report.bar("reload_faults", len(faults), 0, not faults)


def _open(stage: Stage) -> None:
    spent = []
    for _ in range(9):
        start = time.perf_counter()
        reader = Collection(stage.writer.folder)
        spent.append(time.perf_counter() - start)
        reader.close()
    middle = 1000 * float(np.median(spent))
    stage.report.row(what="open (wall)", ms=middle)
    stage.report.bar("open_ms", middle, 50.0, middle <= 50)


def _race_lance(stage: Stage) -> None:
    """Upsert alternately into a new collection and a new LanceDB table, 100 rows at a time."""
    if importlib.util.find_spec("lancedb") is None:
        stage.report.row(what="upserts beside LanceDB: lancedb is not installed")
        return
    import lancedb
    import pyarrow

    dim = stage.world.images.shape[1]
    schema = pyarrow.schema(
        [("id", pyarrow.string()), ("vector", pyarrow.list_(pyarrow.float16(), dim))]
    )
    table = lancedb.connect(str(stage.place / "upserts")).create_table("t", schema=schema)
    create_collection(stage.place / "ours", dim=dim)

    def lance(ids: list[str], rows: Rows) -> None:
        flat = pyarrow.array(rows.astype(np.float16).ravel())
        vectors = pyarrow.FixedSizeListArray.from_arrays(flat, dim)
        merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(pyarrow.table({"id": ids, "vector": vectors}))

    with Writer(stage.place / "ours") as writer:
        spent = {"lancedb": 0.0, "twinlens": 0.0}
        for turn in range(40):
            rows = stage.world.images[100 * turn : 100 * turn + 100]
            ids = [f"i{100 * turn + n}" for n in range(100)]
            for name, put in (("lancedb", lance), ("twinlens", writer.upsert)):
                start = time.perf_counter()
                put(ids, rows)
                spent[name] += time.perf_counter() - start
    rates = {name: 4000 / seconds for name, seconds in spent.items()}
    ratio = rates["twinlens"] / rates["lancedb"]
    stage.report.row(what="upserts a second, 100 at a time (wall)", ratio=ratio, **rates)
    stage.report.bar("upserts_over_lancedb", ratio, 2.0, ratio >= 2)
