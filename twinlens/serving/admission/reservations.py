"""Places that requests were let in for and have not asked a queue for yet, as bodies take a moment.

What must stay true: a promise is over when its request has asked, has ended, or has taken too long,
so that a slow body keeps no place from others.
"""

from __future__ import annotations

from twinlens.serving.clock import Clock

_SECONDS = 0.25


class Place:
    """What a request holds that was let in; it may have been promised room for an image."""

    __slots__ = ("_promises",)

    def __init__(self, promises: Promises) -> None:
        self._promises = promises

    def settle(self) -> None:
        """Say that the request has asked a queue for its places, or never will."""
        self._promises.end(self)


class Promises:
    """The promises that stand, oldest first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: dict[Place, float] = {}

    def make(self, place: Place) -> None:
        """Promise room for one image."""
        self._made[place] = self._clock.now()

    def end(self, place: Place) -> None:
        """End a promise, if there was one and it still stands."""
        self._made.pop(place, None)

    def count(self) -> int:
        """Return how many stand."""
        if self._made:
            since = self._clock.now() - _SECONDS
            while self._made and self._made[oldest := next(iter(self._made))] < since:
                del self._made[oldest]
        return len(self._made)
