"""Real images from end to end: indexed by the builtin bundle, searched by words.

The recall of the index and the quality of the model are reported separately: whether the model's
own ten best were found, and whether they match the words. Needs the variable TWINLENS_DATA. The
queries are the captions of images that the model was not trained on: half of them tune, the other
half are measured. Captions of the training data are nearer to their images, and an index tuned on
them would promise too much.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from report import Report
from worlds.embeddings import World

from searching.peers import compare_stores
from searching.stage import K, Stage, ask_each, measure_recall, searcher
from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.index.ingest.builder import BuildOptions, build
from twinlens.index.ingest.corpus import Corpus, open_corpus
from twinlens.index.ingest.entries import CorpusEntry
from twinlens.index.maintenance import IndexPlan, optimise, store_sample
from twinlens.index.stats import read_stats
from twinlens.index.writer import Writer, create_collection

SETS = {"emoji64": "label", "icons64": "caption", "clothing96": "cls"}
QUICK_IMAGES = 700  # of each file
KINDS = ("sq8", "ivf-sq8", "hnsw")


@dataclass(frozen=True)
class Question:
    """Words, and the ids of the held-out images that they describe."""

    text: str
    ids: frozenset[str]


def measure_real(report: Report, place: Path, *, quick: bool) -> None:
    """Index, search, compare; skip with a message if the data are missing."""
    root = os.environ.get("TWINLENS_DATA")
    if not root:
        report.row(what="real images: TWINLENS_DATA is not set")
        return
    encoder = open_bundle("builtin")
    create_collection(
        place / "real",
        dim=encoder.embedding_dim,
        bundle_name=encoder.name,
        bundle_revision=encoder.revision,
        bundle_source="builtin",
    )
    with Writer(place / "real") as writer:
        _index(report, writer, encoder, Path(root), QUICK_IMAGES if quick else None)
        questions = _questions(writer)
        tuning, questions = questions[::2], questions[1::2]
        store_sample(writer, "text", encoder.embed_texts([one.text for one in tuning]), "given")
        texts = encoder.embed_texts([one.text for one in questions])
        numbers = {item.id: n for n, item in enumerate(writer.catalog.items())}
        images = np.asarray(writer.collection.snapshot().parts[0].segment.embeddings, np.float32)
        world = World(images, images[:1], texts)
        stage = Stage(report, world, texts, writer, place)
        _tell_quality(stage, questions)
        _report_recall(stage)
        compare_stores(stage, numbers)


def _index(report: Report, writer: Writer, encoder: Encoder, root: Path, most: int | None) -> None:
    start, wall, count = time.process_time(), time.perf_counter(), 0
    for name, half in itertools.product(SETS, ("train", "test")):
        corpus = _part(open_corpus(root / name / f"{half}.zip"), f"{name}/{half}/", most)
        count += build(writer, corpus, encoder, BuildOptions(keep=True)).embedded
    writer.compact()
    spent, wall = time.process_time() - start, time.perf_counter() - wall
    report.row(what="real images indexed", rows=count, cpu_s=spent, images_s=count / wall)
    report.bar("real_images", count, 10_000, count >= 10_000)


def _part(corpus: Corpus, prefix: str, most: int | None) -> Corpus:
    """Return the first entries of a corpus, with ids that name their source."""

    def entries() -> Iterator[CorpusEntry]:
        for entry in itertools.islice(corpus.entries(), most):
            yield replace(entry, id=prefix + entry.id)

    return replace(corpus, entries=entries)


def _questions(writer: Writer) -> list[Question]:
    """Return the distinct captions of the held-out images."""
    described: dict[str, set[str]] = {}
    for item in writer.catalog.items():
        name, half, _ = item.id.split("/", 2)
        text = item.metadata.get(SETS[name])
        if half == "test" and isinstance(text, str):
            described.setdefault(text, set()).add(item.id)
    return [Question(text, frozenset(ids)) for text, ids in sorted(described.items())]


def _tell_quality(stage: Stage, questions: list[Question]) -> None:
    """Exact search: errors here are the model's."""
    first = among = 0
    for question, query in zip(questions, stage.texts, strict=True):
        hits = [hit.id for hit in stage.collection.search(query, K, exact=True)[0]]
        first += hits[0] in question.ids
        among += bool(question.ids & set(hits))
    stage.report.row(
        what=f"the model: a described, held-out image of {len(stage.world.images):,}",
        rows=len(questions),
        at_1=first / len(questions),
        at_10=among / len(questions),
    )


def _report_recall(stage: Stage) -> None:
    """Each kind: what is missing here is the index's loss."""
    for kind in KINDS:
        optimise(stage.writer, IndexPlan(kind))
        told = read_stats(stage.collection)
        found, cost = ask_each(searcher(stage.collection), stage.texts)
        recall = measure_recall(found, stage.truth)
        reported = told["recall"]["text"]
        stage.report.row(what=f"real {kind} for 0.95", ms=cost, recall=recall, reported=reported)
        off = abs(recall - reported)
        stage.report.bar(f"real_{kind}_reported_recall_off_by", off, 0.01, off <= 0.01)
