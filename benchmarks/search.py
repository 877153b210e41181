"""Search at 200k x 512: exact and indexed, on text queries, against stock FAISS and other stores.

    python benchmarks/search.py [--quick] --json FILE

One thread, CPU seconds, contenders in turn within one process; a query's cost is that of
`Collection.search` in full: check for commits, filter, index, re-ranking, metadata of the hits.
Queries are texts that lie off the distribution of the images, which is what makes them hard.
`--quick` takes 60k rows: ratios to a full scan are smaller there. Other stores are measured where
they are installed (usearch, lancedb).
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before NumPy is loaded

import dataclasses
import functools
import importlib.util
import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from report import Report, parse_arguments, time_interleaved
from worlds.embeddings import Rows, World, make_world

from twinlens.index.candidates import Dials
from twinlens.index.collection import Collection
from twinlens.index.derived import _draw
from twinlens.index.faiss_setup import load_faiss
from twinlens.index.stats import read_stats
from twinlens.index.upkeep import IndexPlan, optimise, store_sample
from twinlens.index.writer import Writer, create_collection

K = 10
STOCK_THRESHOLD = 128_000  # FAISS 1.15's own value
FILTERS = {0.001: 0.99, 0.01: 0.99, 0.1: 0.99, 0.5: 0.99}


def main() -> None:
    """Run all parts in turn."""
    arguments = parse_arguments(__doc__)
    report = Report("search")
    count = 60_000 if arguments.quick else 200_000
    world = make_world(count, 1000 if arguments.quick else 2000)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "c"
        create_collection(folder, dim=world.images.shape[1])
        with Writer(folder) as writer:
            _fill(report, writer, world)
            truth = _exact(report, writer.collection, world)
            _indexes(report, writer, world, truth)
            _filters(report, writer.collection, world)
            _upserts(report, writer, world)
            _reload(report, writer, world)
        _opening(report, folder)
        _usearch(report, world, truth)
        _lancedb(report, world, Path(place))
    report.finish(arguments.json)


def _fill(report: Report, writer: Writer, world: World) -> None:
    start = time.process_time()
    count = len(world.images)
    for at in range(0, count, 50_000):
        piece = range(at, min(count, at + 50_000))
        told = [{"n": n, "share": n / count} for n in piece]
        writer.upsert([f"i{n}" for n in piece], world.images[at : piece.stop], told)
    writer.compact()
    store_sample(writer, "text", world.text_queries[::2], "given")
    report.row(what="write and compact", cpu_s=time.process_time() - start, rows=count)


def _exact(report: Report, collection: Collection, world: World) -> list[set[str]]:
    """Time exact search against FAISS as it comes; return the true answers of unseen texts."""
    faiss = load_faiss()
    own = faiss.cvar.distance_compute_blas_threshold
    flat = faiss.IndexFlatIP(world.images.shape[1])
    flat.add(world.images)
    texts = world.text_queries[1::2]

    def stock(batch: int) -> Callable[[], object]:
        def call() -> None:
            faiss.cvar.distance_compute_blas_threshold = STOCK_THRESHOLD
            flat.search(texts[:batch], K)
            faiss.cvar.distance_compute_blas_threshold = own

        return call

    for batch, target in ((1, None), (16, 4.0), (64, 8.0)):
        ours = functools.partial(collection.search, texts[:batch], K, exact=True)
        times = time_interleaved({"stock": stock(batch), "ours": ours}, rounds=5)
        ratio = times["stock"] / times["ours"]
        report.row(
            what=f"exact, batch {batch}",
            ms=1000 * times["ours"] / batch,
            stock_ms=1000 * times["stock"] / batch,
            ratio=ratio,
        )
        if target:
            report.bar(f"exact_batch_{batch}_over_stock_faiss", ratio, target, ratio >= target)
    answers: list[set[str]] = []
    for at in range(0, len(texts), 64):
        found = collection.search(texts[at : at + 64], K, exact=True)
        answers += [{hit.id for hit in hits} for hits in found]
    return answers


def _indexes(report: Report, writer: Writer, world: World, truth: list[set[str]]) -> None:
    """Build, tune and time the kinds; the last one built stays."""
    faiss = load_faiss()
    texts = world.text_queries[1::2]
    flat = faiss.IndexFlatIP(world.images.shape[1])
    flat.add(world.images)
    cpu = {}
    plans = [("sq8", 0.95), ("projected-sq8", 0.95), ("ivf-sq8", 0.99), ("ivf-sq8", 0.95)]
    for kind, target in plans:
        start = time.process_time()
        optimise(writer, IndexPlan(kind, target))
        cpu[kind] = time.process_time() - start
        told = read_stats(writer.collection)
        turn = itertools.count()

        def ours(turn: Iterator[int] = turn) -> object:
            at = next(turn) % len(texts)
            return writer.collection.search(texts[at : at + 1], K)

        times = time_interleaved(
            {"ours": ours, "flat": lambda: flat.search(texts[:1], K)}, rounds=60
        )
        found = [{hit.id for hit in writer.collection.search(text, K)[0]} for text in texts]
        recall = float(np.mean([len(a & b) / K for a, b in zip(found, truth, strict=True)]))
        ratio = times["flat"] / times["ours"]
        report.row(
            what=f"{kind} for {target}",
            ms=1000 * times["ours"],
            stock_ms=1000 * times["flat"],
            ratio=ratio,
            recall=recall,
            reported=told["recall"]["text"],
            cpu_s=cpu[kind],
        )
        off = abs(recall - told["recall"]["text"])
        report.bar(f"{kind}_{target}_reported_recall_off_by", off, 0.01, off <= 0.01)
        if kind == "ivf-sq8":
            least = 12.0 if target == 0.99 else 25.0
            holds = ratio >= least and recall >= target - 0.005
            report.bar(f"text_recall_{target}_over_flat", ratio, least, holds)
    _sweep(report, writer.collection, texts, truth)
    _build_costs(report, world)


def _sweep(report: Report, collection: Collection, texts: Rows, truth: list[set[str]]) -> None:
    """Turn the dials of the inverted lists, for the plot of recall against queries a second."""
    derived = collection.snapshot().parts[0].derived
    if derived is None:
        return
    tuned = derived.tuning
    for probe in (2, 4, 8, 16, 32, 64, 128, 256):
        derived.tuning = dataclasses.replace(tuned, dials=Dials(probe, tuned.dials.expansion))
        start = time.process_time()
        found = [{hit.id for hit in collection.search(text, K)[0]} for text in texts]
        cost = (time.process_time() - start) / len(texts)
        recall = float(np.mean([len(a & b) / K for a, b in zip(found, truth, strict=True)]))
        report.row(what=f"twinlens ivf-sq8, probe {probe}", ms=1000 * cost, recall=recall)
    derived.tuning = tuned


def _build_costs(report: Report, world: World) -> None:
    """Compare the CPU of building alone: tuning is measured above."""
    faiss = load_faiss()
    images = world.images
    start = time.process_time()
    graph = faiss.IndexHNSWFlat(images.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = 120
    part = images if len(images) <= 60_000 else images[:60_000]
    graph.add(part)
    hnsw = (time.process_time() - start) * len(images) / len(part)
    start = time.process_time()
    lists = 1 << int(np.log2(4 * np.sqrt(len(images))))
    inverted = faiss.index_factory(images.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    inverted.cp.niter = 10
    inverted.cp.max_points_per_centroid = 100
    inverted.train(images[_draw(len(images), 100 * lists)])
    inverted.add(images)
    ratio = (time.process_time() - start) / hnsw
    report.row(what="build ivf-sq8 against hnsw32 (scaled from 60k)", ratio=ratio, cpu_s=hnsw)
    report.bar("build_cpu_share_of_hnsw32", ratio, 0.25, ratio <= 0.25)


def _filters(report: Report, collection: Collection, world: World) -> None:
    texts = world.text_queries[1::2][:60]
    for share, least in FILTERS.items():
        text = f"share < {share}"
        exact = collection.search(texts, K, filter=text, exact=True)
        start = time.process_time()
        found = [collection.search(one, K, filter=text)[0] for one in texts]
        cost = (time.process_time() - start) / len(texts)
        same = sum(
            len({h.id for h in a} & {h.id for h in b}) for a, b in zip(exact, found, strict=True)
        )
        recall = same / sum(len(hits) for hits in exact)
        report.row(what=f"filter keeps {share:.1%}", ms=1000 * cost, recall=recall)
        report.bar(f"filter_{share}_recall", recall, least, recall >= least)


def _upserts(report: Report, writer: Writer, world: World) -> None:
    spent = []
    for number in range(100):
        row = world.image_queries[number]
        start = time.perf_counter()
        writer.upsert([f"new{number}"], row[None])
        if writer.collection.search(row, 1)[0][0].id != f"new{number}":
            raise RuntimeError("an upserted row was not found at once")
        spent.append(time.perf_counter() - start)
    middle = 1000 * float(np.median(spent))
    report.row(what="upsert one, durable and found (wall)", ms=middle)
    report.bar("upsert_p50_ms", middle, 5.0, middle <= 5)


def _reload(report: Report, writer: Writer, world: World) -> None:
    """Search 50 times a second in another reader while segments change under it."""
    faults: list[str] = []
    spent: list[float] = []
    done = threading.Event()
    texts = world.text_queries

    def ask() -> None:
        with Collection(writer.folder) as reader:
            while not done.wait(0.02):
                start = time.perf_counter()
                try:
                    if len(reader.search(texts[len(spent) % len(texts)], K)[0]) != K:
                        faults.append("fewer hits than asked for")
                except Exception as error:  # any fault counts against us
                    faults.append(repr(error))
                spent.append(time.perf_counter() - start)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(1)
    for turn in range(4):
        rows = world.image_queries[100 * turn : 100 * turn + 100]
        writer.upsert([f"turn{turn}-{n}" for n in range(len(rows))], rows)
        writer.seal()
        time.sleep(0.3)
    done.set()
    thread.join()
    report.row(what="hot reload, faults in searches", rows=len(spent), faults=len(faults))
    report.bar("reload_faults", len(faults), 0, not faults)


def _opening(report: Report, folder: Path) -> None:
    spent = []
    for _ in range(9):
        start = time.perf_counter()
        reader = Collection(folder)
        spent.append(time.perf_counter() - start)
        reader.close()
    middle = 1000 * float(np.median(spent))
    report.row(what="open (wall)", ms=middle)
    report.bar("open_ms", middle, 50.0, middle <= 50)


def _usearch(report: Report, world: World, truth: list[set[str]]) -> None:
    if importlib.util.find_spec("usearch") is None:
        report.row(what="usearch: not installed")
        return
    from usearch.index import Index

    index = Index(ndim=world.images.shape[1], metric="ip", dtype="f16", connectivity=16)
    start = time.process_time()
    index.add(np.arange(len(world.images)), world.images, threads=1)
    built = time.process_time() - start
    texts = world.text_queries[1::2]
    for expansion in (32, 64, 128, 256, 512):
        # Not `index.expansion_search = ...`: some of its type stubs call that read-only.
        setattr(index, "expansion_search", expansion)  # noqa: B010
        start = time.process_time()
        found = [{f"i{key}" for key in index.search(text, K).keys} for text in texts]
        cost = (time.process_time() - start) / len(texts)
        recall = float(np.mean([len(a & b) / K for a, b in zip(found, truth, strict=True)]))
        report.row(what=f"usearch f16, ef {expansion}", ms=1000 * cost, recall=recall, cpu_s=built)


def _lancedb(report: Report, world: World, place: Path) -> None:
    if importlib.util.find_spec("lancedb") is None:
        report.row(what="lancedb: not installed")
        return
    import lancedb
    import pyarrow

    dim = world.images.shape[1]
    schema = pyarrow.schema(
        [("id", pyarrow.string()), ("vector", pyarrow.list_(pyarrow.float16(), dim))]
    )
    table = lancedb.connect(str(place / "lance")).create_table("t", schema=schema)
    create_collection(place / "ours", dim=dim)

    def lance(ids: list[str], rows: Rows) -> None:
        flat = pyarrow.array(rows.astype(np.float16).ravel())
        vectors = pyarrow.FixedSizeListArray.from_arrays(flat, dim)
        batch = pyarrow.table({"id": ids, "vector": vectors})
        table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(
            batch
        )

    with Writer(place / "ours") as writer:
        spent = {"lancedb": [0.0], "twinlens": [0.0]}
        for turn in range(20):
            rows = world.images[100 * turn : 100 * turn + 100]
            ids = [f"i{100 * turn + n}" for n in range(100)]
            for name, put in (("lancedb", lance), ("twinlens", writer.upsert)):
                start = time.perf_counter()
                put(ids, rows)
                spent[name].append(time.perf_counter() - start)
    rates = {name: 2000 / sum(times) for name, times in spent.items()}
    ratio = rates["twinlens"] / rates["lancedb"]
    report.row(what="upserts a second, 100 at a time (wall)", ratio=ratio, **rates)
    report.bar("upserts_over_lancedb", ratio, 2.0, ratio >= 2)


if __name__ == "__main__":
    main()
