"""`twinlens tag`: words that fit image files, from an open vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twinlens.cli.bundle.classify import warn_about
from twinlens.cli.bundle.picture_files import embed_files, print_file
from twinlens.cli.options import (
    Bundle,
    DeviceOption,
    Engines,
    Json,
    PrecisionOption,
    Threads,
    open_encoder,
)
from twinlens.cli.terminal import print_json, print_note

if TYPE_CHECKING:
    from twinlens.bundle.arrays import Rows
    from twinlens.bundle.encoder import Encoder
    from twinlens.bundle.tagging.tags import TaggedPicture


def tag(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    words: Annotated[
        Path | None,
        typer.Option(help="Vocabulary file, one word per line; default: the built-in one."),
    ] = None,
    top_k: Annotated[int, typer.Option("--top-k", "-k", help="Tags to show.", min=1)] = 5,
    bundle: Bundle = "builtin",
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "auto",
    engine: Engines = "auto",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Tag images with the nearest words of a vocabulary, best first.

    [bold]Example:[/] twinlens tag photo.jpg
    """
    from twinlens.bundle.calibration.calibration import read_calibration
    from twinlens.bundle.tagging.lexicon import read_lexicon, read_words
    from twinlens.bundle.tagging.tags import rank_tags

    vocabulary = read_lexicon() if words is None else read_words(words)
    encoder = open_encoder(bundle, precision, device, threads, engine)
    calibration = read_calibration(encoder.manifest)
    bank = find_bank(encoder, vocabulary)
    found = embed_files(encoder, images, "tagging")
    cosines = encoder.classify(found.rows, bank)[1]
    levels = calibration.find_levels(found.rows) if calibration else [0.0] * len(cosines)
    pairs = zip(cosines, levels, strict=True)
    tagged = [rank_tags(vocabulary, one, calibration, top_k, level) for one, level in pairs]
    warn_about(encoder.manifest, found.rows)
    if json:
        shown = zip(found.paths, tagged, strict=True)
        data = [{"image": str(path), **tags.to_json()} for path, tags in shown]
        data += found.describe_faults()
        print_json({"model": encoder.name, "revision": encoder.revision, "data": data})
    else:
        if calibration is None:
            print_note(f"{encoder.name} is not calibrated: cosines are shown, no probabilities")
        _print_tags(found.paths, tagged)
    found.report()


def find_bank(encoder: Encoder, words: Sequence[str]) -> Rows:
    """Return a row for each word; a vocabulary is embedded once for each bundle and cached."""
    import hashlib
    import time

    from twinlens.cache import find_cache
    from twinlens.errors import NotFoundError
    from twinlens.serving.zeroshot.banks import ClassBank
    from twinlens.serving.zeroshot.classifiers import Classifier, ClassifierStore

    told = "\n".join([*words, "", *encoder.precisions.values(), *encoder.manifest.templates])
    name = f"words-{hashlib.sha256(told.encode()).hexdigest()[:24]}"
    store = ClassifierStore(find_cache() / "words")
    try:
        return store.get(name, encoder.revision).bank.rows
    except NotFoundError:
        rows = encoder.class_bank(words)
    bank = ClassBank(tuple(words), rows, rows[0])
    try:
        store.put(Classifier(name, encoder.revision, bank, time.time(), encoder.manifest.templates))
    except OSError as error:
        print_note(f"the words' embeddings cannot be cached: {error}")
    return rows


def _print_tags(images: Sequence[Path], found: Sequence[TaggedPicture]) -> None:
    for path, picture in zip(images, found, strict=True):
        none = "  none of these" if picture.none_of_these else ""
        print_file(path, none)
        width = max(len(tag.word) for tag in picture.tags)
        for tag in picture.tags:
            share = tag.probability
            worth = f"cosine {tag.similarity:.3f}" if share is None else f"{share:6.1%}"
            typer.echo(f"  {tag.word:{width}}  {worth}")
