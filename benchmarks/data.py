"""Reading data: what a decoded picture costs, which part of it threads cannot share, and opening.

    python benchmarks/data.py [--quick] --json data.json

Pictures of 500 x 375 as JPEG (drawn, with noise: 105 kB, about what photographs of ImageNet have)
are decoded as a run at 224 pixels stores them, on one thread. CPU seconds are counted, the least of
several tries for each picture, so that other work on the machine hardly shows. "Serial" is what is
not spent inside the JPEG decoder and the resampler, which release the interpreter's lock. From both
follows what threads on eight cores decode, by the queue before the lock: each thread decodes, waits
for its turn, and holds the lock. Handing pictures over from another process is what processes would
add. A listing of a million records, half a thousand to a folder, is kept and opened again.
"""

from __future__ import annotations

import io
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import mean
from unittest import mock

import numpy as np
from PIL import Image, ImageFile
from report import Report, parse_arguments

from twinlens.bundle.image.resampling import resample as resample_picture
from twinlens.training.data import decoding
from twinlens.training.data.decoding import WholePicture, stored_side
from twinlens.training.data.listing.columns import RecordColumns, gather_columns
from twinlens.training.data.listing.kept import keep_listing
from twinlens.training.data.records import Record

SIDE, CORES, WANTED, OPENING = 224, 8, 2_500, 3.0
NOISE = 22.0  # grey levels
SIZES = ((500, 375), (640, 480))


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments(__doc__)
    report = Report("data", kept=arguments.json)
    for size in SIZES:
        measure_decoding(report, size, 20 if arguments.quick else 60)
    measure_opening(report, 100_000 if arguments.quick else 1_000_000)
    report.finish(arguments.json)


def measure_decoding(report: Report, size: tuple[int, int], count: int) -> None:
    """Add a row for pictures of one size."""
    files = [draw_jpeg(seed, size) for seed in range(8)]
    decode = WholePicture(stored_side(0, SIDE))
    shared = Shared()
    with shared.watch():
        costs = [
            best([take(partial(decode, file), shared) for _ in range(count)]) for file in files
        ]
    cost, serial = (mean(column) for column in zip(*costs, strict=True))
    pixels = decode(files[0])
    moved = min(take(lambda: hand_over(pixels), shared)[0] for _ in range(count))
    rate = throughput(cost, serial, CORES)
    report.row(
        picture=f"{size[0]} x {size[1]}",
        file_kB=round(len(files[0]) / 1e3),
        cpu_ms=round(1e3 * cost, 2),
        images_a_core_second=round(1 / cost),
        serial_ms=round(1e3 * serial, 3),
        serial_share=round(serial / cost, 3),
        eight_cores=round(rate),
        processes_add_ms=round(1e3 * moved, 2),
    )
    if size == SIZES[0]:
        report.bar("images_a_second_on_8_cores", round(rate), WANTED, rate >= WANTED)


def throughput(cost: float, serial: float, threads: int) -> float:
    """Return pictures per second of threads that take turns in the serial part of each.

    Mean value analysis of a closed queue (Reiser and Lavenberg 1980): a new arrival sees the queue
    of a system with one thread less.
    """
    waiting = rate = 0.0
    for count in range(1, threads + 1):
        turn = serial * (1 + waiting)
        rate = count / (cost - serial + turn)
        waiting = rate * turn
    return rate


class Shared:
    """Counts the CPU seconds inside calls that release the interpreter's lock."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self) -> mock._patch[object]:
        """Watch the decoder's own loop; the resampler is watched with it."""
        plain = ImageFile.ImageFile.load

        def load(image: ImageFile.ImageFile) -> object:
            return self._count(lambda: plain(image))

        def shrink(*args: object, **kwargs: object) -> object:
            return self._count(lambda: resample_picture(*args, **kwargs))  # type: ignore[arg-type]

        self._resampling = mock.patch.object(decoding, "resample", shrink)
        self._resampling.start()
        return mock.patch.object(ImageFile.ImageFile, "load", load)

    def _count(self, call: Callable[[], object]) -> object:
        began = time.thread_time()
        try:
            return call()
        finally:
            self.seconds += time.thread_time() - began


def best(costs: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the minimum of each column: other work on the machine only adds."""
    return min(cost for cost, _ in costs), min(serial for _, serial in costs)


def take(call: Callable[[], object], shared: Shared) -> tuple[float, float]:
    """Return the CPU seconds of a call, and its serial part."""
    before, began = shared.seconds, time.thread_time()
    call()
    cost = time.thread_time() - began
    return cost, max(1e-6, cost - (shared.seconds - before))


def hand_over(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    """Do what a queue between processes does with a picture: pickle, write, read, unpickle."""
    content = pickle.dumps(pixels, protocol=5)
    read, write = os.pipe()
    parts = []
    for start in range(0, len(content), 2**15):
        piece = content[start : start + 2**15]
        os.write(write, piece)
        parts.append(os.read(read, len(piece)))
    os.close(read)
    os.close(write)
    pickle.loads(b"".join(parts))


def measure_opening(report: Report, count: int) -> None:
    """Add a row for a kept listing."""
    seconds = []
    with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, TWINLENS_CACHE=cache):
        for _ in range(2):
            began = time.process_time()
            found = keep_listing("pictures", [count], lambda: list_pictures(count))
            seconds.append(time.process_time() - began)
            assert len(found) == count
        size = next(Path(cache).rglob("*.npz")).stat().st_size
    report.row(
        records=count,
        first_s=round(seconds[0], 2),
        again_s=round(seconds[1], 2),
        file_MB=round(size / 1e6),
    )
    report.bar("opening_again_s", round(seconds[1], 2), OPENING, seconds[1] <= OPENING)


def list_pictures(count: int) -> RecordColumns:
    """Return records of a thousand classes and their places."""

    def records() -> Iterator[Record]:
        for index in range(count):
            label = f"n{index // 500:08}"
            yield Record(f"{label}/{label}_{index:07}.JPEG", 100_000 + index % 999, label)

    return gather_columns(records(), ((index, index) for index in range(count)))


def draw_jpeg(seed: int, size: tuple[int, int]) -> bytes:
    """Return a smooth picture with noise, as a JPEG at quality 90."""
    draws = np.random.default_rng(seed)
    coarse = draws.integers(0, 256, (8, 10, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(smooth + draws.normal(0, NOISE, smooth.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=90)
    return file.getvalue()


if __name__ == "__main__":
    main()
