"""The offline indexer against the encoder: the cost of scanning, hashing, decoding and commits.

    python benchmarks/indexing.py [--quick] --json FILE

All process the same images with the same encoder, alternately. The encoder alone gets pixels that
were decoded before its clock started; the loop is the obvious hand-written one: read, decode,
embed, store nothing; the indexer reads, hashes, decodes, embeds and commits. The builtin bundle is
the hardest case: it takes about a millisecond per image, and decoding a fifth of that. So the same
is measured with it run eight times over: a quarter of a ViT-B/32.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from report import Report, parse_arguments

from twinlens.bundle.encoder import Encoder, open_bundle
from twinlens.index.ingest.builder import BuildOptions, build
from twinlens.index.ingest.corpus import Corpus, open_corpus
from twinlens.index.writer import Writer, create_collection

SIDE = 96
BATCH = 32


@dataclass(frozen=True)
class Repeated:
    """An encoder that takes `times` as long."""

    encoder: Encoder
    times: int

    @property
    def embedding_dim(self) -> int:
        """The length of an embedding."""
        return self.encoder.embedding_dim

    def preprocess(self, image: bytes) -> npt.NDArray[np.uint8]:
        """Return pixels."""
        return self.encoder.preprocess(image)

    def encode_pixels(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return embeddings, computed several times over."""
        for _ in range(self.times - 1):
            self.encoder.encode_pixels(pixels)
        return self.encoder.encode_pixels(pixels)


def main() -> None:
    """Measure a first build and a second one that finds nothing to do."""
    arguments = parse_arguments(__doc__)
    report = Report("indexing")
    count, rounds = (512, 3) if arguments.quick else (2048, 5)
    encoder = open_bundle("builtin")
    with tempfile.TemporaryDirectory() as place:
        paint_images(Path(place) / "images", count)
        for times, name in ((1, "encoder"), (8, "encoder_8_times")):
            few = count if times == 1 else count // 4
            alone, loop = _compare(report, Repeated(encoder, times), Path(place), few, rounds)
            report.bar(f"throughput_over_{name}_alone", alone, 0.95, alone >= 0.95)
            report.bar(f"cpu_of_{name}_loop_over_build", loop, 0.95, loop >= 0.95)
    report.finish(arguments.json)


def _compare(
    report: Report, encoder: Repeated, place: Path, count: int, rounds: int
) -> tuple[float, float]:
    """Return the indexer's throughput over the encoder's own, and the loop's CPU over its own."""
    ratios, loops = [], []
    paths = sorted((place / "images").iterdir())[:count]
    for turn in range(rounds):
        alone, alone_cpu = _encode_alone(encoder, paths)
        loop, loop_cpu = _decode_and_encode(encoder, paths)
        folder = place / f"c{encoder.times}-{turn}"
        first, first_cpu = _build(encoder, paths, folder)
        again, _ = _build(encoder, paths, folder)
        ratios.append(alone / first)
        loops.append(loop_cpu / first_cpu)
        report.row(
            encoder=f"builtin x {encoder.times}",
            round=turn,
            encoder_images_s=count / alone,
            loop_images_s=count / loop,
            build_images_s=count / first,
            again_images_s=count / again,
            ratio=alone / first,
            encoder_cpu_ms=1000 * alone_cpu / count,
            loop_cpu_ms=1000 * loop_cpu / count,
            build_cpu_ms=1000 * first_cpu / count,
        )
    return statistics.median(ratios), statistics.median(loops)


def paint_images(folder: Path, count: int) -> None:
    """Write JPEG files of smooth random colours: noise would make decoding slow."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg")


def _encode_alone(encoder: Repeated, paths: list[Path]) -> tuple[float, float]:
    """Return the wall and CPU seconds of the encoder on pixels that are ready."""
    pixels = np.stack([encoder.preprocess(path.read_bytes()) for path in paths])
    start, spent = time.perf_counter(), time.process_time()
    for at in range(0, len(pixels), BATCH):
        encoder.encode_pixels(pixels[at : at + BATCH])
    return time.perf_counter() - start, time.process_time() - spent


def _decode_and_encode(encoder: Repeated, paths: list[Path]) -> tuple[float, float]:
    """Return the wall and CPU seconds of a loop that reads, decodes and embeds on one thread."""
    start, spent = time.perf_counter(), time.process_time()
    for at in range(0, len(paths), BATCH):
        part = paths[at : at + BATCH]
        encoder.encode_pixels(np.stack([encoder.preprocess(path.read_bytes()) for path in part]))
    return time.perf_counter() - start, time.process_time() - spent


def _build(encoder: Repeated, paths: list[Path], folder: Path) -> tuple[float, float]:
    """Return the wall and CPU seconds of a build."""
    if not folder.exists():
        create_collection(folder, dim=encoder.embedding_dim)
    corpus = open_corpus(paths[0].parent)
    with Writer(folder) as writer:
        start, spent = time.perf_counter(), time.process_time()
        build(writer, _head(corpus, len(paths)), encoder, BuildOptions(batch=BATCH))
        return time.perf_counter() - start, time.process_time() - spent


def _head(corpus: Corpus, count: int) -> Corpus:
    entries = corpus.entries
    return replace(corpus, entries=lambda: itertools.islice(entries(), count), count=count)


if __name__ == "__main__":
    main()
