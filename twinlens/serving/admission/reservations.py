"""Queue places of images, reserved for requests that have not reached a queue yet.

A body takes a moment to arrive. What must stay true: a reservation ends when its request reaches a
queue, when it ends, or after a quarter of a second, so a slow body blocks no other request.
"""

from __future__ import annotations

from twinlens.errors import OverloadedError
from twinlens.serving.admission.arrivals import Arrivals
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
