"""The data of a run: its source and labels, decoded images, their order, and its tokenizer.

What must stay true: missing data are reported before the run's folder is written, and a folder that
holds another run is refused before anything is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from twinlens.errors import InputError
from twinlens.training.config import Config
from twinlens.training.data.decoding import WholePicture
from twinlens.training.data.mixture import MixedSource
from twinlens.training.data.needs import check_needs
from twinlens.training.data.order import Blocks, Mixture, SampleOrder
from twinlens.training.data.picture_cache import name_cache
from twinlens.training.data.pixels import PixelStore
from twinlens.training.data.records import DataSource, fingerprint
from twinlens.training.data.sources import open_source
from twinlens.training.data.tars import TarSource
from twinlens.training.data.tokens import RunTokenizer, check_tokenizer, provide_tokenizer
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.evaluation.held_out import check_held_out
from twinlens.training.loop.row_store import KeptRows
from twinlens.training.loop.teaching import TaughtRows, picture_side
from twinlens.training.progress import Display
from twinlens.training.runs.run import BAD, prepare_folder


@dataclass(frozen=True)
class RunRecords:
    """What is known of the data before an image is decoded; `config` is fitted to their classes."""

    config: Config
    source: DataSource
    classes: list[str]
    tokenizer: RunTokenizer | None
    held_out: DataSource | None = None


@dataclass(frozen=True)
class RunData:
    """What a run trains on."""

    classes: list[str]
    store: PixelStore
    order: SampleOrder
    tokenizer: RunTokenizer | None
    locked: KeptRows | None = None
    taught: TaughtRows | None = None


def open_records(config: Config, where: str, folder: Path, ranks: Ranks) -> RunRecords:
    """List the data at `where`, and write or check the run's folder; nothing is decoded."""
    source = open_source(where)
    classes = check_needs(source, config)
    config = replace(config, objective=config.objective.fit(len(classes)))
    held_out = open_source(config.settings.eval) if config.settings.eval else None
    if held_out is not None:
        check_held_out(config, held_out, source)
    SampleOrder(len(source.records), config.settings.batch, config.settings.seed)  # enough?
    has_text = "text" in config.objective.paths
    if ranks.first:
        if has_text:
            check_tokenizer(config.settings, folder)
        _write_cards(config, where, folder, source, classes, held_out)
        if has_text:
            captions = (text for record in source.records for text in record.captions)
            provide_tokenizer(config.settings, captions, folder)
    ranks.wait()
    tokenizer = RunTokenizer(config.settings, folder) if has_text else None
    return RunRecords(config, source, classes, tokenizer, held_out)


def load_run_data(
    config: Config,
    records: RunRecords,
    display: Display,
    ranks: Ranks,
    locked: KeptRows | None = None,
    taught: TaughtRows | None = None,
) -> RunData:
    """Decode the images that fit in memory, and order the decodable ones.

    With the embeddings of a `locked` tower nothing is decoded.
    """
    store = PixelStore(
        records.source,
        WholePicture(picture_side(config)),
        memory_bytes=config.settings.memory_gb * 1e9,
    )
    seen = locked if taught is None else taught.images
    if seen is not None:
        store.know(seen.records, seen.bad)
    if locked is None:
        _load_pixels(config, store, display, ranks)
    _tell_bad(store, display)
    _tell_damage(store.source, display)
    return RunData(
        records.classes, store, _open_order(config, store), records.tokenizer, locked, taught
    )


def _write_cards(
    config: Config,
    where: str,
    folder: Path,
    source: DataSource,
    classes: list[str],
    held_out: DataSource | None,
) -> None:
    """Write the run's settings and data card, or compare them with those of the existing run."""
    card: dict[str, Any] = {
        "where": where,
        "count": len(source.records),
        "fingerprint": fingerprint(source.records),
        "classes": classes,
    }
    if held_out is not None:
        count, mark = len(held_out.records), fingerprint(held_out.records)
        card["held_out"] = {"where": config.settings.eval, "count": count, "fingerprint": mark}
    prepare_folder(folder, config, card)


def _load_pixels(config: Config, store: PixelStore, display: Display, ranks: Ranks) -> None:
    count = len(store.source.records)

    def tick(done: int) -> None:
        display.advance("decoding", done, count, {})

    if not config.settings.cache:
        store.load(tick)
        return
    name = name_cache(Path(config.settings.cache), store.source, picture_side(config))
    if ranks.first:
        store.load_cached(name, tick)
    ranks.wait()
    if not ranks.first:
        store.load_cached(name)


def _open_order(config: Config, store: PixelStore) -> SampleOrder:
    """Return the order of the images: one by one, in blocks of shards, or mixed by weight."""
    settings, source = config.settings, store.source
    plain = SampleOrder(len(store), settings.batch, settings.seed)
    if isinstance(source, MixedSource):
        ends = np.cumsum(source.counts)
        counts = np.diff(np.searchsorted(store.indices, ends), prepend=0)
        return replace(plain, mixture=Mixture(counts.tolist(), source.weights))
    if settings.shuffle_block and isinstance(source, TarSource) and not store.is_resident:
        return replace(plain, blocks=Blocks(settings.shuffle_block, source.starts))
    return plain


def _tell_damage(source: DataSource, display: Display) -> None:
    if isinstance(source, TarSource) and source.damage:
        path, why = next(iter(source.damage.items()))
        display.say(
            f"{len(source.damage)} of {len(source.paths)} shards are damaged; what follows the"
            f" damage is left out. The first is {path}: {why}"
        )


def _tell_bad(store: PixelStore, display: Display) -> None:
    if store.bad:
        count = len(store.source.records)
        display.say(
            f"{len(store.bad)} of {count} images cannot be read and are left out; see {BAD}"
        )


def check_division(config: Config, ranks: Ranks) -> None:
    """Refuse a batch that the ranks and micro-batches cannot share evenly."""
    settings = config.settings
    parts = ranks.world * settings.accumulate
    if settings.batch % parts:
        raise InputError(
            f"batch {settings.batch} does not divide into {ranks.world} ranks x"
            f" {settings.accumulate} micro-batches",
            field="batch",
        )
