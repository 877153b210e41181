"""Admission control: requests beyond capacity are refused before a byte of their body is read.

Refusals take time from admitted requests, so this reads raw headers and builds no request object.
What must stay true: no request is refused here that the queues would accept, except while a place
is reserved for another request.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from twinlens.errors import OverloadedError
from twinlens.serving.admission.reservations import Arrivals, Reservation, Reservations
from twinlens.serving.clock import Clock
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.engine.registry import Registry

_FREE = ("GET", "HEAD", "OPTIONS")  # cheap to answer, and operators need them under load
_LOG_SECONDS = 1.0
_IMAGES = (b"image/", b"multipart/")

Headers = Iterable[tuple[bytes, bytes]]


class Refusal(NamedTuple):
    """Why a request is refused, and after how many seconds to retry."""

    message: str
    retry_after: float

    def to_error(self) -> OverloadedError:
        """Return the refusal as an error."""
        return OverloadedError(self.message, retry_after=self.retry_after)


class AdmissionController:
    """Counts requests in flight and refuses those beyond capacity.

    When several places become free, waiting clients arrive at once: each admitted request reserves
    one until it reaches the queue. Otherwise the excess would be refused at the queue, after its
    body was read, which costs several times as much.
    """

    def __init__(self, registry: Registry, most_requests: int, clock: Clock) -> None:
        self._registry = registry
        self._most = most_requests
        self._clock = clock
        self._arrivals = Arrivals(most_requests, clock)
        self._reservations = Reservations(clock)
        self.in_flight = 0
        self._unlogged = 0
        self._log_at = 0.0

    def is_free(self, method: str) -> bool:
        """Whether a request is always admitted, and not counted."""
        return method in _FREE

    def acquire(self, headers: Headers, address: str = "") -> Reservation:
        """Count a client's request as in flight; every `acquire` needs a `release`."""
        self.in_flight += 1
        reservation = Reservation(self._reservations, self._arrivals, address)
        self._arrivals.begin(reservation)
        if not reservation.is_slow and _brings_images(headers):
            self._reservations.make(reservation)
        return reservation

    def release(self, reservation: Reservation) -> None:
        """Count a request as finished."""
        self.in_flight -= 1
        self._arrivals.end(reservation)
        reservation.settle()

    def count_unlogged(self) -> int:
        """Count a refusal; return how many are to be logged now, zero if none are due.

        Logging each refusal would cost as much as refusing does.
        """
        self._unlogged += 1
        now = self._clock.now()
        if now < self._log_at:
            return 0
        count, self._unlogged, self._log_at = self._unlogged, 0, now + _LOG_SECONDS
        return count

    def refuse(self, headers: Headers) -> Refusal | None:
        """Return why a request with these headers is refused, or None."""
        if self._arrivals.is_full:
            return Refusal(
                f"{self._most} requests are in flight, the limit; try again later",
                _backlog(self._registry.models()),
            )
        if not _brings_images(headers):
            return None
        queues = [m.images.batcher for m in self._registry.models() if m.images is not None]
        if not queues or sum(queue.room for queue in queues) > self._reservations.count():
            return None
        return Refusal(
            "the image queue is full; try again later",
            max(queue.backlog_seconds for queue in queues),
        )


def _brings_images(headers: Headers) -> bool:
    """Whether the content type says that the body holds images."""
    for name, value in headers:
        if name == b"content-type":
            return value.startswith(_IMAGES)
    return False


def _backlog(models: Iterable[ServedModel]) -> float:
    """Return the seconds that the longest queue will take."""
    towers = [tower for model in models for tower in model.towers]
    return max((tower.batcher.backlog_seconds for tower in towers), default=1.0)
