"""A tower that runs in another process: the queue's bound is kept here, its items wait there.

What must stay true: a place in the queue is held from acceptance to answer, as it is where the
tower runs in the same process.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twinlens.bundle.arrays import Pixels, Row
from twinlens.serving.call import Priority
from twinlens.serving.clock import Clock
from twinlens.serving.contracts import StagedEncoder
from twinlens.serving.engine.batcher import Batcher
from twinlens.serving.engine.large_share import LargeShare
from twinlens.serving.engine.speed import ImageSpeed, MeasuredSpeed
from twinlens.serving.engine.throttle import Throttles
from twinlens.serving.engine.ticket import QueueEntry
from twinlens.serving.engine.tower import ServedTower
from twinlens.serving.settings import ServerSettings, Watch
from twinlens.serving.workers.items.frames import IMAGE, TEXT, Ran
from twinlens.serving.workers.items.link import EncoderLink


class DistantBatcher(Batcher[Any, Any]):
    """Counts items as a batcher does, and hands them over at once."""

    def __init__(
        self,
        link: EncoderLink,
        tower: int,
        *,
        capacity: int,
        max_batch: int,
        name: str,
        clock: Clock,
        throttles: Throttles,
    ) -> None:
        super().__init__(
            capacity=capacity, max_batch=max_batch, name=name, clock=clock, throttles=throttles
        )
        self._link = link
        self._tower = tower

    def put(
        self, entries: Iterable[QueueEntry[Any, Any]], priority: Priority = Priority.SMALL
    ) -> None:
        """Hand entries to an encoder process."""
        now = self._clock.now()
        entries = list(entries)
        for entry in entries:
            entry.ticket.queued = min(entry.ticket.queued, now)
        self._link.put(self._tower, entries, priority)


class DistantTower(ServedTower[Any, Any]):
    """One tower of one bundle, in other processes."""

    def __init__(self, name: str, batcher: DistantBatcher, link: EncoderLink) -> None:
        self.name = name
        self.batcher = batcher
        self.share = LargeShare(batcher)
        self.restarts = 0
        self._link = link

    def find_fault(self, watch: Watch) -> str | None:
        """Return what is wrong, or None."""
        return None if self._link.is_up else f"{self.name}: an encoder process is starting"

    def restart_workers(self, watch: Watch) -> None:
        """Do nothing: the keeper restarts processes."""

    def close(self) -> None:
        """End the connection."""
        self.batcher.close()
        self._link.close()


class DistantTowers:
    """The towers of one model in an HTTP process."""

    def __init__(
        self,
        name: str,
        encoder: StagedEncoder,
        link: EncoderLink,
        settings: ServerSettings,
        throttles: Throttles,
        clock: Clock,
    ) -> None:
        self._name = name
        self._encoder = encoder
        self._link = link
        self._settings = settings
        self._throttles = throttles
        self._clock = clock

    def build_image_tower(self, speed: ImageSpeed) -> ServedTower[Pixels, Row] | None:
        """Return the image tower, or None where the bundle has none."""
        if not self._link.sizes.images:
            return None
        capacity = self._settings.limits.image_queue
        most = self._settings.batching.image_batch or self._encoder.batch_size("image")
        return self._build("image", IMAGE, capacity, most, speed.encoding)

    def build_text_tower(self, speed: MeasuredSpeed) -> ServedTower[list[int], Row] | None:
        """Return the text tower, or None where the bundle has none."""
        if not self._link.sizes.texts:
            return None
        capacity = self._settings.limits.text_queue
        most = self._settings.batching.text_batch or self._encoder.batch_size("text")
        return self._build("text", TEXT, capacity, most, speed)

    def _build(
        self, tower: str, number: int, capacity: int, most: int, speed: MeasuredSpeed
    ) -> DistantTower:
        batcher = DistantBatcher(
            self._link,
            number,
            capacity=capacity,
            max_batch=most,
            name=f"{tower}s",
            clock=self._clock,
            throttles=self._throttles,
        )

        def observe(ran: Ran) -> None:
            seconds = ran.ended - ran.started
            speed.observe(ran.units, seconds)
            batcher.observe(ran.items, seconds)

        self._link.observers[number] = observe
        return DistantTower(f"{self._name}/{tower}", batcher, self._link)
