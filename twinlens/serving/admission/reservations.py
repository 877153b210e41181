"""Places for requests and, in queues, for their images, while the bodies are on their way.

A body takes a moment to arrive, so each admitted request is promised a place for a quarter of a
second, and one that brings images a place in their queue. What must stay true: a body that does not
come keeps no place from others, however many there are, and a client address that sends many of
them is promised no more until they have ended.
"""

from __future__ import annotations

from collections import Counter

from twinlens.errors import OverloadedError
from twinlens.serving.clock import Clock

_SECONDS = 0.25


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
        """Say that the body is here; False where no place is left for it."""
        return self.has_place or self._arrivals.take_place(self)

    def arrive(self) -> None:
        """Say that the body is here, or refuse it where no place is left."""
        if not (self.has_place or self._arrivals.take_place(self)):
            raise OverloadedError("the body came late, and every place was taken; try again later")

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
            since = self._clock.now() - _SECONDS
            while self._made and self._made[oldest := next(iter(self._made))] < since:
                del self._made[oldest]
        return len(self._made)


class Arrivals:
    """The places of a server: taken, promised, or free."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._share = max(4, most // 8)  # slow bodies of one address that still cost it nothing
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
        """Promise a place to a request, unless its address has too many that do not come."""
        if self._slow.get(request.address, 0) >= self._share:
            self._call_slow(request)
        else:
            self._promised[request] = self._clock.now()

    def take_place(self, request: Reservation) -> bool:
        """Give a place to a request that has arrived; False where none is left."""
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
        since = self._clock.now() - _SECONDS
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
