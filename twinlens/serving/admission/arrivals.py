"""Places for requests: given to bodies that have arrived, and promised for a moment to the others.

A body takes a moment to arrive, so each admitted request is promised a place for a quarter of a
second. What must stay true: a body that does not come keeps no place from others, however many
there are, and a client address that sends many of them is promised no more until they have ended.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from twinlens.serving.clock import Clock

_SECONDS = 0.25


class Arriving(Protocol):
    """A request on its way, as far as its place goes."""

    address: str
    has_place: bool
    is_slow: bool


class Arrivals:
    """The places of a server: taken, promised, or free."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._share = max(4, most // 8)  # slow bodies of one address that still cost it nothing
        self._clock = clock
        self._taken = 0
        self._promised: dict[Arriving, float] = {}
        self._slow: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        """Whether every place is taken or promised."""
        promised = self._count_promised() if self._promised else 0
        return self._taken + promised >= self._most

    def begin(self, request: Arriving) -> None:
        """Promise a place to a request, unless its address has too many that do not come."""
        if self._slow.get(request.address, 0) >= self._share:
            self._call_slow(request)
        else:
            self._promised[request] = self._clock.now()

    def take_place(self, request: Arriving) -> bool:
        """Give a place to a request that has arrived; False where none is left."""
        if self._promised.pop(request, None) is None:
            if self.is_full:
                return False
            self._call_quick(request)
        request.has_place = True
        self._taken += 1
        return True

    def end(self, request: Arriving) -> None:
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

    def _call_slow(self, request: Arriving) -> None:
        request.is_slow = True
        self._slow[request.address] += 1

    def _call_quick(self, request: Arriving) -> None:
        if request.is_slow:
            request.is_slow = False
            self._slow[request.address] -= 1
            if not self._slow[request.address]:
                del self._slow[request.address]
