"""Decoded images of a source: kept in memory if they fit, else decoded ahead by threads.

An image that cannot be decoded is left out and listed. When streaming, the next decodable image
takes its place. What must stay true: the same step sees the same images, whatever was decoded
before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Pixels
from twinlens.bundle.manifest import ImageSpec
from twinlens.errors import InputError, TwinlensError
from twinlens.training.data.picture_cache import open_cache, write_cache
from twinlens.training.data.records import DataSource

PixelBatch = NDArray[np.uint8]  # (n, h, w, 3)
SAMPLE = 64  # images whose mean size decides whether all of them fit in memory


def count_decoders() -> int:
    """Return the number of decoding threads: the cores, divided by the ranks of a machine."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, (os.cpu_count() or 1) // ranks)


def square_spec(side: int) -> ImageSpec:
    """Return the spec that makes an image a square: shortest side to `side`, then the centre."""
    zeros, ones = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return ImageSpec("", side, side, "shortest", side, "bicubic", zeros, ones)


class PixelStore:
    """The images of a source as uint8 (h, w, 3), by position among the decodable ones."""

    def __init__(
        self, source: DataSource, decode: Callable[[bytes], Pixels], *, memory_bytes: float
    ) -> None:
        self.source = source
        self.bad: dict[int, str] = {}  # record -> why
        self._decode = decode
        self._pool = ThreadPoolExecutor(max_workers=count_decoders())
        self._room = memory_bytes
        self._resident: Sequence[Pixels] | None = None
        self.indices = list(range(len(source.records)))  # position -> record

    def __len__(self) -> int:
        return len(self.indices)

    def know(self, good: Sequence[int], bad: Mapping[int, str]) -> None:
        """Set which records can be decoded, without decoding any."""
        self.indices, self.bad = list(good), dict(bad)

    def load(self, tick: Callable[[int], None] = lambda done: None) -> None:
        """Decode everything now if it fits in memory; `tick` receives the number done."""
        kept: list[Pixels] = []
        good: list[int] = []
        held = 0
        for start in range(0, len(self.indices), SAMPLE):
            if not self._fits(held, start):
                return
            some = self.indices[start : start + SAMPLE]
            for index, pixels in zip(some, self._pool.map(self._try, some), strict=True):
                if pixels is not None:
                    kept.append(pixels)
                    good.append(index)
                    held += pixels.nbytes
                tick(index + 1)
        if self._fits(held, len(self.indices)):
            self._resident, self.indices = kept, good
            self._check_any()

    @property
    def is_resident(self) -> bool:
        """Whether pictures are in memory or mapped, so that reading one is free."""
        return self._resident is not None

    def load_cached(self, name: Path, tick: Callable[[int], None] = lambda done: None) -> None:
        """Read the pictures of a cache; if there is no cache, decode all of them into it first."""
        found = open_cache(name)
        if found is None:
            write_cache(name, self._decode_all(tick), lambda: self.bad)
            found = open_cache(name)
        assert found is not None, "a cache was written and is not there. This is a bug"
        self._resident = found
        self.know(found.records.tolist(), found.bad)
        self._check_any()

    def _decode_all(self, tick: Callable[[int], None]) -> Iterator[tuple[int, Pixels | None]]:
        for start in range(0, len(self.indices), SAMPLE):
            some = self.indices[start : start + SAMPLE]
            yield from zip(some, self._pool.map(self._try, some), strict=True)
            tick(start + len(some))

    def expect(self, start: int, stop: int) -> None:
        """Announce that a block of images will be read soon, to sources that read ahead."""
        told = getattr(self.source, "expect", None)
        if told is not None:
            self._pool.submit(told, start, stop)

    def _fits(self, held: int, done: int) -> bool:
        """Estimate from the decoded images whether all of them would fit."""
        return self._room > 0 and held / max(1, done) * len(self.indices) <= self._room

    def fetch(self, positions: Sequence[int]) -> tuple[list[Pixels], list[int]]:
        """Return images and the numbers of their records."""
        if self._resident is not None:
            return [self._resident[p] for p in positions], [self.indices[p] for p in positions]
        found = list(self._pool.map(self._nearest, positions))
        return [pixels for pixels, _ in found], [record for _, record in found]

    def fetch_good(self, positions: Sequence[int]) -> tuple[list[Pixels], list[int]]:
        """Return those of the images that can be decoded (at most n), and their records."""
        records = [self.indices[position] for position in positions]
        found = list(zip(self._pool.map(self._try, records), records, strict=True))
        kept = [(pixels, record) for pixels, record in found if pixels is not None]
        return [pixels for pixels, _ in kept], [record for _, record in kept]

    def close(self) -> None:
        """End the decoding threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _nearest(self, position: int) -> tuple[Pixels, int]:
        """Return the image at `position`, or the next decodable one."""
        for record in self._following(position):
            pixels = self._try(record)
            if pixels is not None:
                return pixels, record
        self._check_any()
        raise RuntimeError("an image was decoded and then was not. This is a bug")

    def _following(self, position: int) -> Iterator[int]:
        count = len(self.indices)
        return (self.indices[(position + step) % count] for step in range(count))

    def _try(self, record: int) -> Pixels | None:
        try:
            return self._decode(self.source.read(record))
        except (TwinlensError, OSError, KeyError) as error:
            self.bad[record] = str(error)
            return None

    def _check_any(self) -> None:
        if len(self.bad) == len(self.source.records):
            record = min(self.bad)  # threads found them in any order
            key, why = self.source.records[record].key, self.bad[record]
            raise InputError(f"none of the {len(self.bad)} images can be decoded; {key}: {why}")
