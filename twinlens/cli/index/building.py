"""What the commands that fill a collection share: its bundle, its creation, its index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from twinlens.cli.index.progress import BuildDisplay, warn_of_pictures
from twinlens.cli.terminal import print_json, print_note
from twinlens.errors import InputError

if TYPE_CHECKING:
    from twinlens.bundle.encoder import Encoder
    from twinlens.index.ingest.builder import BuildOptions, EmbeddingEngine
    from twinlens.index.ingest.corpus import Corpus
    from twinlens.index.maintenance import IndexPlan
    from twinlens.index.writer import Writer


def fill_collection(
    folder: Path,
    corpus: str,
    source: Corpus,
    encoder: Encoder,
    options: BuildOptions,
    plan: IndexPlan,
    queries: Path | None,
    json: bool,
    embed: EmbeddingEngine | None = None,
) -> None:
    """Index a corpus into an existing collection, and print what was done."""
    from twinlens.index.ingest.builder import build
    from twinlens.index.ingest.domain_check import check_domain
    from twinlens.index.ingest.file_names import describe_unsupported
    from twinlens.index.stats import read_stats
    from twinlens.index.writer import Writer

    with Writer(folder) as writer, BuildDisplay() as display:
        writer.collection.require_bundle(encoder.revision, encoder.name)
        progress = build(writer, source, encoder, options, display.show, embed)
        add_index(writer, encoder, queries, plan, display)
        warning = check_domain(writer, encoder.manifest)
        summary = read_stats(writer.collection) | {
            "embedded": progress.embedded,
            "unchanged": progress.unchanged,
            "removed": progress.removed,
            "failed": progress.failed,
            "left_out": dict(source.unsupported),
        }
    warn_of_pictures(warning, corpus, folder)
    if json:
        print_json(summary)
        return
    print_note(
        f"{folder}: {summary['count']} items ({progress.embedded} embedded, {progress.unchanged}"
        f" unchanged, {progress.removed} removed, {progress.failed} failed)"
    )
    if source.unsupported:
        print_note(
            f"skipped, unsupported format: {describe_unsupported(source.unsupported)}; convert them"
        )
    if progress.failed:
        reason = progress.most_common_failure
        print_note(f"failed items and reasons: {folder / 'failures.jsonl'}; most often: {reason}")


def bundle_for(folder: Path, bundle: str | None) -> str:
    """Return the named bundle, else the one that the collection was built with, else builtin."""
    from twinlens.index.storage.catalog import Catalog
    from twinlens.index.storage.database import CATALOG_NAME

    if bundle is not None or not (folder / CATALOG_NAME).exists():
        return bundle or "builtin"
    catalog = Catalog(folder)
    source = catalog.head().bundle_source
    catalog.close()
    return source or "builtin"


def ensure_collection(folder: Path, encoder: Encoder) -> None:
    """Create an empty collection for the encoder unless there is one."""
    from twinlens.index.storage.database import CATALOG_NAME
    from twinlens.index.writer import create_collection

    if (folder / CATALOG_NAME).exists():
        return
    create_collection(
        folder,
        dim=encoder.embedding_dim,
        bundle_name=encoder.name,
        bundle_revision=encoder.revision,
        bundle_source=source_of(encoder),
    )


def source_of(encoder: Encoder) -> str:
    """Return where a collection says that its bundle is found."""
    from twinlens.bundle.location import name_shipped

    return name_shipped(encoder.folder) or str(encoder.folder.resolve())


def add_index(
    writer: Writer, encoder: Encoder, queries: Path | None, plan: IndexPlan, display: BuildDisplay
) -> None:
    """Sample text queries if an index needs them, then compact and index."""
    from twinlens.index.ann.samples import choose_texts
    from twinlens.index.maintenance import needs_sample, optimise, store_sample

    if encoder.manifest.text and (queries or needs_sample(writer, plan)):
        given = queries.read_text(encoding="utf-8").split("\n") if queries else []
        if queries and not any(map(str.strip, given)):
            raise InputError(f"{queries} holds no query", field="queries")
        sample = choose_texts(
            writer.catalog, encoder.manifest.templates, [q.strip() for q in given if q.strip()]
        )
        display.stage(f"embedding {len(sample.texts)} text queries ({sample.source})")
        rows = encoder.embed_texts(list(sample.texts), input_type="query")
        store_sample(writer, "text", rows, sample.source, sample.texts)
    optimise(writer, plan, display.stage)
