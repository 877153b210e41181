"""A build on Ray Data beside a build by threads of one process: images per second without start-up.

    python benchmarks/ray_build.py [--images N] [--rounds N] [--quick] [--json FILE]

Both index the same files alternately, with the builtin bundle, and with it run eight times over: a
quarter of a ViT-B/32. The steady rate is that of the last three quarters of the images; the seconds
until the first quarter was committed are told apart. CPU seconds are those of all processes, the
cluster's own included, read every half second, so that one that ends keeps its share: on a machine
that others use too they tell more than the clock. A cluster of this machine's CPUs is started once,
before all builds; without Ray the row says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from indexing import Repeated, paint_images
from report import Report

from twinlens.bundle.encoder import open_bundle
from twinlens.index.ingest.builder import BuildOptions, EmbeddingEngine, build
from twinlens.index.ingest.corpus import open_corpus
from twinlens.index.ingest.intake import IndexingProgress
from twinlens.index.ingest.ray_engine import RayEngine, start_ray
from twinlens.index.writer import Writer, create_collection

PAINTED = 512  # distinct images; the others are links to them
LEAST = 0.85  # of the local rate


class CpuMeter:
    """The CPU seconds of this process and of all that it started, ended ones as last read."""

    def __init__(self) -> None:
        self._ticks: dict[int, int] = {}
        self._read = 0.0

    def read(self, every: float = 0.0) -> float:
        """Return the seconds, read anew unless that was done within `every` seconds."""
        if time.perf_counter() - self._read >= every:
            self._read = time.perf_counter()
            self._ticks |= read_ticks(os.getpid())
        return sum(self._ticks.values()) / os.sysconf("SC_CLK_TCK")


@dataclass
class Pace:
    """When the first quarter of so many images was stored, and the rest's time."""

    total: int
    cpu: CpuMeter = field(default_factory=CpuMeter)
    began: float = field(default_factory=time.perf_counter)
    start: tuple[float, float, int] | None = None  # seconds, CPU seconds, images

    def observe(self, progress: IndexingProgress) -> None:
        """Record the moment when a quarter is stored."""
        if self.start is None and progress.embedded >= self.total / 4:
            self.start = (time.perf_counter(), self.cpu.read(), progress.embedded)
        self.cpu.read(every=0.5)

    def measure(self) -> dict[str, float]:
        """Return the figures of a finished build."""
        if self.start is None:
            raise RuntimeError("the build embedded less than a quarter")
        seconds, cpu, images = self.start
        rest = self.total - images
        return {
            "first_quarter_s": seconds - self.began,
            "images_s": rest / (time.perf_counter() - seconds),
            "cpu_ms": 1000 * (self.cpu.read() - cpu) / rest,
        }


def read_ticks(root: int) -> dict[int, int]:
    """Return the CPU ticks of a process and of those that it started, by their numbers."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rsplit(")", 1)[1].split()
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
            ticks[int(path.parent.name)] = sum(map(int, fields[11:13]))
    todo, found = [root], {}
    while todo:
        one = todo.pop()
        found[one] = ticks.get(one, 0)
        todo += children.get(one, [])
    return found


def open_repeated(times: int, threads: int) -> Repeated:
    """Return the encoder of a worker."""
    return Repeated(open_bundle("builtin", threads=threads), times)


def main() -> None:
    """Build with both engines alternately; print their rates."""
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

    start_ray(os.cpu_count() or 1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for times, images in ((1, count), (8, count // 4)):
                corpus = Path(folder) / f"images{times}"
                link_images(corpus, images)
                rates = compare_engines(report, corpus, times, rounds)
                for name, share in zip(("clock", "cpu"), rates, strict=True):
                    bar = f"rate_on_ray_over_local_by_{name}_builtin_x{times}"
                    report.bar(bar, share, LEAST, share >= LEAST)
    finally:
        ray.shutdown()


def compare_engines(report: Report, corpus: Path, times: int, rounds: int) -> tuple[float, float]:
    """Return medians of the rounds: the rate on Ray over the local one, by clock and CPU time."""
    shares, costs = [], []
    for turn in range(rounds):
        told = {}
        for name in ("local", "ray"):
            engine = RayEngine(partial(open_repeated, times)) if name == "ray" else None
            told[name] = build_once(corpus, times, engine)
            report.row(encoder=f"builtin x {times}", round=turn, engine=name, **told[name])
        shares.append(told["ray"]["images_s"] / told["local"]["images_s"])
        costs.append(told["local"]["cpu_ms"] / told["ray"]["cpu_ms"])
    return statistics.median(shares), statistics.median(costs)


def build_once(corpus: Path, times: int, engine: EmbeddingEngine | None) -> dict[str, float]:
    """Build a collection; return what it took."""
    encoder = open_repeated(times, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        create_collection(folder, dim=encoder.embedding_dim)
        with Writer(folder) as writer:
            pace = Pace(len(list(corpus.iterdir())))
            build(writer, open_corpus(corpus), encoder, BuildOptions(), pace.observe, engine)
            return pace.measure()


def link_images(folder: Path, count: int) -> None:
    """Write files of smooth random colours; a few are drawn and the others are links."""
    paint_images(folder, min(PAINTED, count))
    drawn = sorted(folder.iterdir())
    for number in range(len(drawn), count):
        os.link(drawn[number % len(drawn)], folder / f"{number:06}.jpg")


if __name__ == "__main__":
    main()
