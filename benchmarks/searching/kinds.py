"""Exact search against FAISS with its defaults; the kinds of index, tuned, and their builds."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np
from report import Report, time_interleaved
from worlds.embeddings import World

from searching.stage import BLOCK, STOCK_THRESHOLD, K, Stage, ask_each, measure_recall, searcher
from twinlens.index.ann.ann_index import _draw
from twinlens.index.ann.candidates import IndexParams
from twinlens.index.maintenance import IndexPlan, optimise
from twinlens.index.stats import read_stats
from twinlens.index.vectors.faiss_setup import load_faiss

PLANS = [("sq8", 0.95), ("projected-sq8", 0.95), ("ivf-sq8", 0.99), ("ivf-sq8", 0.95)]
PROBES = (2, 4, 8, 16, 32, 64, 128, 256)


def compare_exact(stage: Stage) -> None:
    """Time exact search, by batch, against FAISS with its own settings."""
    faiss = load_faiss()
    own = faiss.cvar.distance_compute_blas_threshold
    flat = faiss.IndexFlatIP(stage.world.images.shape[1])
    flat.add(stage.world.images)

    def stock(batch: int) -> Callable[[], object]:
        def call() -> None:
            faiss.cvar.distance_compute_blas_threshold = STOCK_THRESHOLD
            flat.search(stage.texts[:batch], K)
            faiss.cvar.distance_compute_blas_threshold = own

        return call

    for batch, target in ((1, None), (16, 4.0), (64, 8.0)):
        ours = functools.partial(stage.collection.search, stage.texts[:batch], K, exact=True)
        times = time_interleaved({"stock": stock(batch), "ours": ours}, rounds=5)
        ratio = times["stock"] / times["ours"]
        stage.report.row(
            what=f"exact, batch {batch}",
            ms=1000 * times["ours"] / batch,
            stock_ms=1000 * times["stock"] / batch,
            ratio=ratio,
        )
        if target:
            name = f"exact_batch_{batch}_over_stock_faiss"
            stage.report.bar(name, ratio, target, ratio >= target)


def compare_kinds(stage: Stage) -> None:
    """Build, tune and time the kinds; the last one built stays.

    A throughput is that of consecutive queries: `ms` and `ratio`. `alone_ms` and `alone_ratio` are
    of one query right after a scan that has emptied the caches, those of interpreter and SQLite as
    well.
    """
    faiss = load_faiss()
    flat = faiss.IndexFlatIP(stage.world.images.shape[1])
    flat.add(stage.world.images)
    for kind, target in PLANS:
        start = time.process_time()
        optimise(stage.writer, IndexPlan(kind, target))
        spent = time.process_time() - start
        told = read_stats(stage.collection)["recall"]["text"]
        turn = itertools.count()

        def ours(turn: Iterator[int] = turn) -> object:
            at = next(turn) % len(stage.texts)
            return stage.collection.search(stage.texts[at : at + 1], K)

        def many(turn: Iterator[int] = turn) -> object:
            at = next(turn) * BLOCK % (len(stage.texts) - BLOCK)
            return [stage.collection.search(text, K) for text in stage.texts[at : at + BLOCK]]

        def stock() -> object:
            own = faiss.cvar.distance_compute_blas_threshold
            faiss.cvar.distance_compute_blas_threshold = STOCK_THRESHOLD
            found = flat.search(stage.texts[:1], K)
            faiss.cvar.distance_compute_blas_threshold = own
            return found

        times = time_interleaved({"ours": many, "flat": stock, "alone": ours}, rounds=30)
        times["ours"] /= BLOCK
        recall = measure_recall(map(searcher(stage.collection), stage.texts), stage.truth)
        ratio = times["flat"] / times["ours"]
        stage.report.row(
            what=f"{kind} for {target}",
            ms=1000 * times["ours"],
            alone_ms=1000 * times["alone"],
            stock_ms=1000 * times["flat"],
            ratio=ratio,
            alone_ratio=times["flat"] / times["alone"],
            recall=recall,
            reported=told,
            cpu_s=spent,
        )
        off = abs(recall - told)
        stage.report.bar(f"{kind}_{target}_reported_recall_off_by", off, 0.01, off <= 0.01)
        if kind == "ivf-sq8":
            least = 12.0 if target == 0.99 else 25.0
            holds = ratio >= least and recall >= target - 0.005
            stage.report.bar(f"text_recall_{target}_over_flat", ratio, least, holds)
    _sweep(stage)
    _compare_builds(stage.report, stage.world)


def _sweep(stage: Stage) -> None:
    """Sweep the probe of the inverted lists, for the plot of recall against queries per second."""
    ann_index = stage.collection.snapshot().parts[0].ann_index
    if ann_index is None:
        return
    tuned = ann_index.tuning
    for probe in PROBES:
        ann_index.tuning = dataclasses.replace(
            tuned, params=IndexParams(probe, tuned.params.expansion)
        )
        found, cost = ask_each(searcher(stage.collection), stage.texts)
        recall = measure_recall(found, stage.truth)
        stage.report.row(what=f"twinlens ivf-sq8, probe {probe}", ms=cost, recall=recall)
    ann_index.tuning = tuned


def _compare_builds(report: Report, world: World) -> None:
    """Compare the CPU time of building alone: tuning is measured above."""
    faiss = load_faiss()
    images = world.images
    start = time.process_time()
    graph = faiss.IndexHNSWFlat(images.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = 120
    part = images[:60_000]
    graph.add(part)
    hnsw = (time.process_time() - start) * len(images) / len(part)
    start = time.process_time()
    lists = 1 << int(np.log2(4 * np.sqrt(len(images))))
    inverted = faiss.index_factory(images.shape[1], f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    inverted.cp.niter = 10
    inverted.cp.max_points_per_centroid = 100
    inverted.train(images[_draw(np.arange(len(images)), 100 * lists)])
    inverted.add(images)
    ratio = (time.process_time() - start) / hnsw
    report.row(what="build ivf-sq8 against hnsw32 (scaled from 60k)", ratio=ratio, cpu_s=hnsw)
    report.bar("build_cpu_share_of_hnsw32", ratio, 0.25, ratio <= 0.25)
