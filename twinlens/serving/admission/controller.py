"""Admission control: requests beyond capacity are refused before a byte of their body is read.

Refusals must be cheap, so this reads raw headers and builds no request object. A body takes a
moment to arrive, so an admitted request is promised a place for a quarter of a second, and one with
images a place in their queue. What must stay true: a request that the queues would accept is
refused only while places are promised to others; a body that does not arrive blocks no place after
that time; an address with many such bodies is promised no more until they have ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from twinlens.errors import OverloadedError
from twinlens.serving.clock import Clock
from twinlens.serving.engine.model import ServedModel
from twinlens.serving.engine.registry import Registry

FREE_METHODS = ("GET", "HEAD", "OPTIONS")  # cheap to answer, and operators need them under load
_LOG_SECONDS = 1.0
_PROMISE_SECONDS = 0.25
_IMAGES = (b"image/", b"multipart/")

Headers = Iterable[tuple[bytes, bytes]]


class Refusal(NamedTuple):
    """Why a request is refused, and after how many seconds to retry."""

    message: str
    retry_after: float

    def to_error(self) -> OverloadedError:
        """Return the refusal as an error."""
        return OverloadedError(self.message, retry_after=self.retry_after)


class Reservation:
    """An admitted request's reservation: a place, and for an image one in the queue too."""

    __slots__ = ("_arrivals", "_reservations", "address", "has_place", "is_slow")

    def __init__(self, reservations: Reservations, arrivals: Arrivals, address: str = "") -> None:
        self._reservations = reservations
        self._arrivals = arrivals
        self.address = address
        self.has_place = False
        self.is_slow = False  # its body is late, and it is promised nothing

    def try_arrive(self) -> bool:
        """Note that the body has arrived; return False if no place is left."""
        return self.has_place or self._arrivals.take_place(self)

    def arrive(self) -> None:
        """Note that the body has arrived; raise if no place is left."""
        if not (self.has_place or self._arrivals.take_place(self)):
            raise OverloadedError("the body arrived late and the server was full; try again later")

    def settle(self) -> None:
        """End it: the request has taken its places in the queue, or never will."""
        self._reservations.end(self)


class Reservations:
    """The reservations in force, oldest first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: dict[Reservation, float] = {}

    def make(self, reservation: Reservation) -> None:
        """Reserve a place for one image."""
        self._made[reservation] = self._clock.now()

    def end(self, reservation: Reservation) -> None:
        """End a reservation, if it is still in force."""
        self._made.pop(reservation, None)

    def count(self) -> int:
        """Return how many are in force."""
        if self._made:
            since = self._clock.now() - _PROMISE_SECONDS
            while self._made and self._made[oldest := next(iter(self._made))] < since:
                del self._made[oldest]
        return len(self._made)


class Arrivals:
    """The places of a server: taken, promised, or free."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._share = max(
            4, most // 8
        )  # late bodies of an address, after which it is promised no place
        self._clock = clock
        self._taken = 0
        self._promised: dict[Reservation, float] = {}
        self._slow: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether every place is taken or promised."""
        promised = self._count_promised() if self._promised else 0
        return self._taken + promised >= self._most

    def begin(self, request: Reservation) -> None:
        """Promise a place to a request, unless its address has too many late bodies."""
        if self._slow.get(request.address, 0) >= self._share:
            self._call_slow(request)
        else:
            self._promised[request] = self._clock.now()

    def take_place(self, request: Reservation) -> bool:
        """Give a place to a request that has arrived; return False if none is left."""
        if self._promised.pop(request, None) is None:
            if self.is_full:
                return False
            self._call_quick(request)
        request.has_place = True
        self._taken += 1
        return True

    def end(self, request: Reservation) -> None:
        """Take the place or the promise back."""
        if request.has_place:
            request.has_place = False
            self._taken -= 1
        elif self._promised.pop(request, None) is None:
            self._call_quick(request)

    def _count_promised(self) -> int:
        since = self._clock.now() - _PROMISE_SECONDS
        while self._promised and self._promised[oldest := next(iter(self._promised))] < since:
            del self._promised[oldest]
            self._call_slow(oldest)
        return len(self._promised)

    def _call_slow(self, request: Reservation) -> None:
        request.is_slow = True
        self._slow[request.address] += 1

    def _call_quick(self, request: Reservation) -> None:
        if request.is_slow:
            request.is_slow = False
            self._slow[request.address] -= 1
            if not self._slow[request.address]:
                del self._slow[request.address]


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
        room, backlog = 0, 0.0
        queues = self._registry.image_queues
        for queue in queues:
            room += queue.room
            backlog = max(backlog, queue.backlog_seconds)
        if not queues or room > self._reservations.count():
            return None
        return Refusal("the image queue is full; try again later", backlog)


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
