"""Queue places reserved for requests that were admitted and have not reached a queue yet.

A body takes a moment to arrive. What must stay true: a reservation ends when its request reaches a
queue, when it ends, or after a quarter of a second, so a slow body keeps no place from others.
"""

from __future__ import annotations

from twinlens.serving.clock import Clock

_SECONDS = 0.25


class Reservation:
    """What an admitted request holds; for an image, a place in the queue."""

    __slots__ = ("_reservations",)

    def __init__(self, reservations: Reservations) -> None:
        self._reservations = reservations

    def settle(self) -> None:
        """Say that the request has asked a queue for its places, or never will."""
        self._reservations.end(self)


class Reservations:
    """The reservations that stand, oldest first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: dict[Reservation, float] = {}

    def make(self, reservation: Reservation) -> None:
        """Reserve a place for one image."""
        self._made[reservation] = self._clock.now()

    def end(self, reservation: Reservation) -> None:
        """End a reservation, if it still stands."""
        self._made.pop(reservation, None)

    def count(self) -> int:
        """Return how many stand."""
        if self._made:
            since = self._clock.now() - _SECONDS
            while self._made and self._made[oldest := next(iter(self._made))] < since:
                del self._made[oldest]
        return len(self._made)
