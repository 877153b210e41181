"""The offline indexer: builds a collection from a corpus, and updates it when run again.

An item's version tells what it was made from, so a second run embeds only new and changed items and
deletes missing ones, and does not read files of the same size and time of change; items that could
not be read are kept. Embeddings are committed in
batches: after a kill at any moment, the next run repeats one batch. The encoder, decoding and
commits run in separate threads, so that the encoder never waits; there are no processes that could
be orphaned.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from twinlens.bundle.image.exif import read_photo
from twinlens.bundle.image.video import FrameSampling
from twinlens.errors import InputError
from twinlens.index.ingest.corpus import Corpus
from twinlens.index.ingest.deletions import check_deletions, most_deleted
from twinlens.index.ingest.entries import CorpusEntry
from twinlens.index.ingest.intake import (
    Decoded,
    IndexingProgress,
    Intake,
    IntakeBatch,
    write_failures,
)
from twinlens.index.ingest.reading import (
    Describe,
    ImageEncoder,
    ReadingPlan,
    decode_group,
    say_nothing,
)
from twinlens.index.ingest.videos import VideoFrames
from twinlens.index.storage.catalog import Catalog
from twinlens.index.vectors.arrays import Floats
from twinlens.index.writer import Writer

CORPUS_NOTE = "corpus"
SEVERAL = b"several corpora"
Embedding = tuple[IntakeBatch, Future[Floats]]  # a batch, and its rows once they are there
DECODED_TOGETHER = 8  # single tasks would cost a fifth of decoding a small image


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build.

    With `keep`, items missing from the corpus are not deleted; otherwise at most `max_delete` are,
    a share ("20%") or a number ("500"). With `exif`, fields of the photographs' EXIF are added to
    the metadata (None: unless the corpus is a table), with `place` also where they were taken. With
    `checksum`, all files are read, those too that look unchanged. `frames` tells which frames of
    videos become items; None: videos are left out.
    """

    batch: int = 32
    workers: int = max(2, os.cpu_count() or 2)
    keep: bool = False
    max_delete: str | None = None
    exif: bool | None = None
    place: bool = True
    checksum: bool = False
    frames: FrameSampling | None = field(default_factory=FrameSampling)


EmbeddingEngine = Callable[
    [Iterator[CorpusEntry], ReadingPlan, BuildOptions, Intake], Iterator[Embedding]
]


def build(
    writer: Writer,
    corpus: Corpus,
    encoder: ImageEncoder,
    options: BuildOptions | None = None,
    observe: Callable[[IndexingProgress], None] = lambda progress: None,
    embed: EmbeddingEngine | None = None,
) -> IndexingProgress:
    """Update the collection to match the corpus; return the counts.

    `embed` runs the stages of reading, decoding and encoding; default: threads of this process.
    """
    embed = embed or embed_here
    options = options or BuildOptions()
    _claim(writer, corpus, options)
    first_new, known = writer.catalog.head().next_rid, writer.catalog.count()
    most_deleted(options.max_delete, known)  # refuse what it cannot mean
    if corpus.count is not None and not options.keep:  # so many at least: say so before the work
        check_deletions(corpus.name, known - corpus.count, known, options.max_delete)
    reading = _plan_reading(corpus, encoder, options)
    videos = VideoFrames(writer.catalog, options.frames, reading.options, options.checksum)
    intake = Intake(writer, IndexingProgress(corpus.count))
    entries = videos.expand(corpus.entries())
    before: Embedding | None = None
    for embedding in embed(entries, reading, options, intake):
        if before is not None:  # stored while the next batch is being embedded
            intake.store(*before)
            observe(intake.progress)
        before = embedding
    if before is not None:
        intake.store(*before)
    intake.pending.commit()
    progress = intake.progress
    progress.most_common_failure = intake.most_common_failure
    write_failures(writer.folder, intake.failures)
    # What cannot be decoded now is not what was indexed: its row would answer for another image.
    gone: list[str] = []
    for page in writer.catalog.ids(before=first_new):
        gone += intake.find_gone(page, keep=options.keep)
    check_deletions(corpus.name, len(gone), known, options.max_delete)
    gone = list(dict.fromkeys([*gone, *videos.stale]))
    progress.removed = writer.delete(gone) if gone else 0
    observe(progress)
    return progress


def embed_here(
    entries: Iterator[CorpusEntry], reading: ReadingPlan, options: BuildOptions, intake: Intake
) -> Iterator[Embedding]:
    """Yield batches being embedded, in the corpus's order, by threads of this process."""
    with (
        ThreadPoolExecutor(options.workers, thread_name_prefix="decode") as decoding,
        ThreadPoolExecutor(1, thread_name_prefix="encode") as encoding,
    ):
        catalog = intake.pending.writer.catalog
        ahead = _decode_ahead(decoding, entries, reading, catalog, options)
        for batch in _batches(ahead, options.batch):
            group = intake.sort(batch)
            yield group, encoding.submit(_encode, reading.encoder, group.fresh)


def _plan_reading(corpus: Corpus, encoder: ImageEncoder, options: BuildOptions) -> ReadingPlan:
    with_exif = corpus.kind != "table" if options.exif is None else options.exif
    describe: Describe = partial(read_photo, place=options.place) if with_exif else say_nothing
    chosen = f"exif={with_exif} place={with_exif and options.place}"
    return ReadingPlan(encoder, describe, chosen, options.checksum)


def _claim(writer: Writer, corpus: Corpus, options: BuildOptions) -> None:
    """Record the corpus; raise if the collection was built from another one."""
    name, has_items = corpus.name.encode(), writer.catalog.count() > 0
    before = writer.catalog.note(CORPUS_NOTE)
    if before is None and has_items:
        before = b"an import or upserts"
    if before not in (None, name) and not options.keep:
        raise InputError(
            f"{writer.folder} was built from {before.decode()}; building it from {corpus.name}"
            " would delete those items: add --keep to keep both, or choose another folder",
            field="corpus",
        )
    # A build from one of several corpora would delete the items of the others.
    source = name if before is None else SEVERAL
    if before not in (name, SEVERAL):
        with writer.catalog.writing() as transaction:
            transaction.write_note(CORPUS_NOTE, source)


def _decode_ahead(
    pool: ThreadPoolExecutor,
    entries: Iterator[CorpusEntry],
    reading: ReadingPlan,
    catalog: Catalog,
    options: BuildOptions,
) -> Iterator[Decoded]:
    """Yield decoded entries in order, decoding far enough ahead that the encoder never waits."""
    ahead: deque[Future[list[Decoded]]] = deque()
    most = 2 * (options.batch // DECODED_TOGETHER + options.workers)
    try:
        while group := list(itertools.islice(entries, DECODED_TOGETHER)):
            ahead.append(pool.submit(decode_group, group, reading, catalog))
            if len(ahead) >= most:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()


def _encode(encoder: ImageEncoder, fresh: list[Decoded]) -> Floats:
    """Embed the pixels of a batch."""
    pixels = [one.pixels for one in fresh if one.pixels is not None]
    return encoder.encode_pixels(np.stack(pixels)) if pixels else np.empty((0, 0), np.float32)


def _batches(items: Iterable[Decoded], size: int) -> Iterator[list[Decoded]]:
    """Group items so that each batch has about `size` to embed, or enough to report progress."""
    batch: list[Decoded] = []
    pixels = 0
    for one in items:
        batch.append(one)
        pixels += one.pixels is not None
        if pixels == size or len(batch) == 8 * size:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
