"""Builds the towers of one bundle, each with its queue, its workers and its measured speed.

What must stay true: a row that is not finite is the error of its item alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Pixels, Row, Rows
from twinlens.serving.clock import Clock
from twinlens.serving.contracts import StagedEncoder
from twinlens.serving.engine.batcher import Batcher
from twinlens.serving.engine.speed import ImageSpeed, MeasuredSpeed
from twinlens.serving.engine.throttle import Throttles
from twinlens.serving.engine.tower import ServedTower
from twinlens.serving.engine.window import LatencyWindow
from twinlens.serving.failures import EncodeError
from twinlens.serving.settings import ServerSettings

Observe = Callable[[str, str, int, float], None]  # model, tower, items, seconds


class TowerSource(Protocol):
    """Builds the towers of one model."""

    def build_image_tower(self, speed: ImageSpeed) -> ServedTower[Pixels, Row] | None:
        """Return the image tower, or None where the bundle has none."""
        ...

    def build_text_tower(self, speed: MeasuredSpeed) -> ServedTower[list[int], Row] | None:
        """Return the text tower, or None where the bundle has none."""
        ...


@dataclass(frozen=True)
class TowerBuilder:
    """What both towers of a model share."""

    name: str
    encoder: StagedEncoder
    settings: ServerSettings
    throttles: Throttles
    clock: Clock
    observe: Observe
    wrap: Callable[[Any], Any] = lambda run: run  # wraps the function that runs a batch

    def build_image_tower(self, speed: ImageSpeed) -> ServedTower[Pixels, Row] | None:
        """Return the image tower, or None where the bundle has none."""
        if self.encoder.manifest.image is None:
            return None
        limits = self.settings.limits
        size = self.settings.batching.image_batch or self.encoder.batch_size("image")
        batcher: Batcher[Pixels, Row] = Batcher(
            capacity=limits.image_queue,
            max_batch=size,
            name="images",
            window=self._window(size),
            clock=self.clock,
            throttles=self.throttles,
        )

        def run(items: Sequence[Pixels]) -> list[Row | Exception]:
            began = self.clock.now()
            rows = check_rows(self.encoder.encode_pixels(items))
            speed.encoding.observe(len(items), self.clock.now() - began)
            return rows

        return ServedTower(
            f"{self.name}/image",
            batcher,
            self.wrap(run),
            clock=self.clock,
            observe=partial(self.observe, self.name, "image"),
            workers=self.encoder.in_flight("image"),
        )

    def build_text_tower(self, speed: MeasuredSpeed) -> ServedTower[list[int], Row] | None:
        """Return the text tower, or None where the bundle has none."""
        if self.encoder.manifest.text is None:
            return None
        limits = self.settings.limits
        size = self.settings.batching.text_batch or self.encoder.batch_size("text")
        batcher: Batcher[list[int], Row] = Batcher(
            capacity=limits.text_queue,
            max_batch=size,
            name="texts",
            window=self._window(size),
            clock=self.clock,
            throttles=self.throttles,
        )

        def run(items: Sequence[list[int]]) -> list[Row | Exception]:
            began = self.clock.now()
            rows = check_rows(self.encoder.encode_tokens(list(items)))
            padded = len(items) * max(map(len, items))
            speed.observe(padded, self.clock.now() - began)
            return rows

        return ServedTower(
            f"{self.name}/text",
            batcher,
            self.wrap(run),
            clock=self.clock,
            observe=partial(self.observe, self.name, "text"),
            workers=self.encoder.in_flight("text"),
        )

    def _window(self, full: int) -> LatencyWindow | None:
        batching = self.settings.batching
        if batching.window_seconds <= 0:
            return None
        return LatencyWindow(batching.window_seconds, target=batching.target_seconds, full=full)


def check_rows(rows: Rows) -> list[Row | Exception]:
    """Split rows into answers; a row that is not finite becomes its item's error."""
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(rows).all(axis=1))
    if finite.all():
        return list(rows)
    return [
        row if ok else EncodeError("the encoder's output for this item is not finite")
        for row, ok in zip(rows, finite, strict=True)
    ]
