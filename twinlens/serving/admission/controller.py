"""Admission control: work that has no room is refused before a byte of its body is read.

Refusals take time from admitted requests, so this reads raw headers and builds no request object.
What must stay true: nothing is refused here that would have found room, except while a place is
reserved for another request.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from twinlens.errors import OverloadedError
from twinlens.serving.admission.reservations import Reservation, Reservations
from twinlens.serving.clock import Clock
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.engine.registry import Registry

_FREE = ("GET", "HEAD", "OPTIONS")  # cheap to answer, and what tells an operator about the load
_LOG_SECONDS = 1.0
_IMAGES = (b"image/", b"multipart/")

Headers = Iterable[tuple[bytes, bytes]]


class Refusal(NamedTuple):
    """Why there is no room, and after how many seconds to come again."""

    message: str
    retry_after: float

    def to_error(self) -> OverloadedError:
        """Return it as the error that it is."""
        return OverloadedError(self.message, retry_after=self.retry_after)


class AdmissionController:
    """Counts requests in, and knows when to say that there is no room.

    When several places become free, waiting clients arrive at once: each admitted request reserves
    one until it reaches the queue. Otherwise the rest would be refused later, where that costs
    several times as much.
    """

    def __init__(self, registry: Registry, most_requests: int, clock: Clock) -> None:
        self._registry = registry
        self._most = most_requests
        self._clock = clock
        self._reservations = Reservations(clock)
        self.in_flight = 0
        self._unlogged = 0
        self._log_at = 0.0

    def is_free(self, method: str) -> bool:
        """Whether a request is always admitted, and not counted."""
        return method in _FREE

    def acquire(self, headers: Headers) -> Reservation:
        """Count a request in; `release` has to follow."""
        self.in_flight += 1
        reservation = Reservation(self._reservations)
        if _brings_images(headers):
            self._reservations.make(reservation)
        return reservation

    def release(self, reservation: Reservation) -> None:
        """Count a request out again."""
        self.in_flight -= 1
        reservation.settle()

    def count_unlogged(self) -> int:
        """Count a refusal; return how many there were since the last log line, if one is due.

        A line for each would cost as much as the refusal does.
        """
        self._unlogged += 1
        now = self._clock.now()
        if now < self._log_at:
            return 0
        count, self._unlogged, self._log_at = self._unlogged, 0, now + _LOG_SECONDS
        return count

    def refuse(self, headers: Headers) -> Refusal | None:
        """Return why a request with these headers is refused, or None."""
        if self.in_flight >= self._most:
            return Refusal(
                f"{self._most} requests are being answered, the limit; try again later",
                _backlog(self._registry.models()),
            )
        if not _brings_images(headers):
            return None
        queues = [m.images.batcher for m in self._registry.models() if m.images is not None]
        if not queues or sum(queue.room for queue in queues) > self._reservations.count():
            return None
        return Refusal(
            "every place for images is taken; try again later",
            max(queue.backlog_seconds for queue in queues),
        )


def _brings_images(headers: Headers) -> bool:
    """Whether the body is images, as far as its type says."""
    for name, value in headers:
        if name == b"content-type":
            return value.startswith(_IMAGES)
    return False


def _backlog(models: Iterable[ServedModel]) -> float:
    """Return how long the longest queue will take."""
    towers = [tower for model in models for tower in model.towers]
    return max((tower.batcher.backlog_seconds for tower in towers), default=1.0)
