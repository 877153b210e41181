"""The offline indexer against the encoder alone: what scanning, hashing, decoding and commits cost.

    python benchmarks/indexing.py [--quick] --json FILE

Both take the same images through the builtin bundle, in turn. The loop holds pixels that were
decoded before its clock started; the indexer reads, hashes, decodes, embeds and commits.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from report import Report, parse_arguments

from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.index.builder import BuildOptions, build
from twinlens.index.corpus import open_corpus
from twinlens.index.writer import Writer, create_collection

SIDE = 96
BATCH = 32


def main() -> None:
    """Measure a first build and a second one that finds nothing to do."""
    arguments = parse_arguments(__doc__)
    report = Report("indexing")
    count, rounds = (512, 3) if arguments.quick else (2048, 5)
    encoder = open_bundle("builtin")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _paint(folder / "images", count)
        ratios = []
        for turn in range(rounds):
            alone = _encode_alone(encoder, folder / "images")
            first = _build(encoder, folder / "images", folder / f"c{turn}")
            again = _build(encoder, folder / "images", folder / f"c{turn}")
            ratios.append(alone / first)
            report.row(
                round=turn,
                encoder_images_s=count / alone,
                build_images_s=count / first,
                again_images_s=count / again,
                ratio=alone / first,
            )
    middle = statistics.median(ratios)
    report.bar("throughput_over_encoder_alone", middle, 0.95, middle >= 0.95)
    report.finish(arguments.json)


def _paint(folder: Path, count: int) -> None:
    """Write JPEG files of smooth random colours: noise would make decoding dear."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg")


def _encode_alone(encoder: Encoder, folder: Path) -> float:
    """Return the wall seconds of the encoder on pixels that are ready."""
    pixels = np.stack([encoder.preprocess(path)
                       for path in sorted(folder.iterdir())])  # fmt: skip
    start = time.perf_counter()
    for at in range(0, len(pixels), BATCH):
        encoder.encode_pixels(pixels[at : at + BATCH])
    return time.perf_counter() - start


def _build(encoder: Encoder, images: Path, folder: Path) -> float:
    """Return the wall seconds of a build."""
    if not folder.exists():
        create_collection(folder, dim=encoder.embedding_dim)
    with Writer(folder) as writer:
        start = time.perf_counter()
        build(writer, open_corpus(images), encoder, BuildOptions(batch=BATCH))
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
