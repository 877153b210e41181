"""Estimates the cost of large requests, and refuses those that cannot finish before their deadline.

Such a request would take time from all others and answer nothing. What must stay true: it is
refused before its work starts, or as soon as the speed is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from twinlens.errors import OverloadedError, TooLargeError
from twinlens.serving.call import Call
from twinlens.serving.engine.speed import Speed


@dataclass(frozen=True)
class WorkKind:
    """A kind of work, as errors name it."""

    what: str
    remedy: str
    field: str | None = None


IMAGES = WorkKind("images", "send fewer in one request")
TEXTS = WorkKind("texts", "send fewer in one request")


class PromisedWork:
    """The seconds of work that a server has promised to large requests under way."""

    def __init__(self) -> None:
        self.seconds = 0.0


class Budget:
    """The work that a request has still to run; the time for it is promised."""

    def __init__(self, load: PromisedWork, speed: Speed, units: int, work: WorkKind) -> None:
        self._load = load
        self._speed = speed
        self._work = work
        self._seconds = 0.0
        self._units = 0
        self._change(units)

    def spend(self, units: int, call: Call) -> None:
        """Count finished units; raise if the rest cannot finish in time."""
        self._change(-units)
        _check(self._seconds, call, self._work)

    def close(self) -> None:
        """End the promise."""
        self._change(-self._units)

    def _change(self, units: int) -> None:
        self._units += units
        seconds = self._speed.seconds_for(self._units)
        self._load.seconds += seconds - self._seconds
        self._seconds = seconds


@contextmanager
def plan(
    load: PromisedWork, speed: Speed, units: int, call: Call, work: WorkKind, more: float = 0.0
) -> Iterator[Budget | None]:
    """Promise a request the time for its work, or refuse it; yield None if it has a promise.

    `more` are the seconds of the request's other work.
    """
    if call.is_planned:
        yield None
        return
    seconds = speed.seconds_for(units)
    _check(seconds + more, call, work)
    if seconds and load.seconds + seconds > call.remaining:
        raise OverloadedError(
            f"the {work.what} of other requests take the time that these would need; try again "
            f"later, or {work.remedy}",
            retry_after=load.seconds,
        )
    budget = Budget(load, speed, units, work)
    call.is_planned = True
    try:
        yield budget
    finally:
        call.is_planned = False
        budget.close()


def _check(seconds: float, call: Call, work: WorkKind) -> None:
    if seconds > call.remaining:
        raise TooLargeError(
            f"these {work.what} take about {seconds:.0f} s here, and the request has "
            f"{call.remaining:.0f} s: {work.remedy}",
            field=work.field,
            code="too_costly",
        )
