"""A build on Ray Data beside a build by threads of one process: images a second, start-up apart.

    python benchmarks/ray_build.py [--images N] [--rounds N] [--quick] [--json FILE]

Both index the same files in turn, with the builtin bundle, and with it run eight times over: a
quarter of a ViT-B/32. The steady rate is that of the last three quarters of the images; the seconds
until the first quarter was committed are told apart. A cluster of this machine's CPUs is started
once, before all builds; without Ray the row says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from indexing import Repeated, paint_images
from report import Report

from twinlens.bundle.encoder import open_bundle
from twinlens.index.ingest.builder import BuildOptions, EmbeddingEngine, build
from twinlens.index.ingest.corpus import open_corpus
from twinlens.index.ingest.intake import IndexingProgress
from twinlens.index.ingest.ray_engine import STORE_BYTES, RayEngine
from twinlens.index.writer import Writer, create_collection

PAINTED = 512  # images of their own; the others are links to them
LEAST = 0.85  # of the local rate


@dataclass
class Pace:
    """When how many images were stored."""

    began: float = field(default_factory=time.perf_counter)
    points: list[tuple[float, int]] = field(default_factory=list)

    def observe(self, progress: IndexingProgress) -> None:
        """Note one moment of a build."""
        self.points.append((time.perf_counter() - self.began, progress.embedded))

    def measure(self) -> tuple[float, float]:
        """Return the seconds of the first quarter, and images a second of the other three."""
        end, total = self.points[-1]
        start, before = next(point for point in self.points if point[1] >= total / 4)
        return start, (total - before) / (end - start)


def open_repeated(times: int, threads: int) -> Repeated:
    """Open the encoder of a worker."""
    return Repeated(open_bundle("builtin", threads=threads), times)


def main() -> None:
    """Build by both engines in turn; print their rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="1,000 images, one round")
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    count, rounds = (1000, 1) if chosen.quick else (chosen.images, chosen.rounds)
    report = Report("ray_build", chosen.json)
    if importlib.util.find_spec("ray") is None:
        report.row(engine="ray: not installed")
    else:
        compare(report, count, rounds)
    report.finish(chosen.json)


def compare(report: Report, count: int, rounds: int) -> None:
    """Build with a fast and a slow encoder."""
    import ray

    os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
    ray.init(object_store_memory=STORE_BYTES, include_dashboard=False, log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for times, images in ((1, count), (8, count // 4)):
                corpus = Path(folder) / f"images{times}"
                link_images(corpus, images)
                share = compare_engines(report, corpus, times, rounds)
                name = f"steady_rate_on_ray_over_local_builtin_x{times}"
                report.bar(name, share, LEAST, share >= LEAST)
    finally:
        ray.shutdown()


def compare_engines(report: Report, corpus: Path, times: int, rounds: int) -> float:
    """Return the median of the rounds' rates on Ray over the local ones."""
    shares = []
    for turn in range(rounds):
        rates = {}
        for name in ("local", "ray"):
            engine = RayEngine(partial(open_repeated, times)) if name == "ray" else None
            start, rates[name] = build_once(corpus, times, engine)
            report.row(
                encoder=f"builtin x {times}",
                round=turn,
                engine=name,
                first_quarter_s=start,
                images_s=rates[name],
            )
        shares.append(rates["ray"] / rates["local"])
    return statistics.median(shares)


def build_once(corpus: Path, times: int, engine: EmbeddingEngine | None) -> tuple[float, float]:
    """Return the seconds of the first quarter and the rate of the others."""
    encoder = open_repeated(times, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        create_collection(folder, dim=encoder.embedding_dim)
        with Writer(folder) as writer:
            pace = Pace()
            build(writer, open_corpus(corpus), encoder, BuildOptions(), pace.observe, engine)
    return pace.measure()


def link_images(folder: Path, count: int) -> None:
    """Write files of smooth random colours, of which few are drawn and the others are links."""
    paint_images(folder, min(PAINTED, count))
    drawn = sorted(folder.iterdir())
    for number in range(len(drawn), count):
        os.link(drawn[number % len(drawn)], folder / f"{number:06}.jpg")


if __name__ == "__main__":
    main()
