"""Items of other processes in the queues of the encoder process.

What must stay true: an item is marked as taken before it is run, so that a death is counted against
the right ones; and an item that two encoders ended with runs while nothing else does.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from twinlens.bundle.arrays import Row
from twinlens.errors import DeviceError
from twinlens.serving.engine.ticket import QueueEntry, Ticket
from twinlens.serving.workers.items.link import DEATHS_ALONE

_LONGEST_WAIT = 2.0  # seconds; a batch that hangs blocks others no longer

_LOST = 3  # exit code
log = logging.getLogger("twinlens.serving")

RunShared = Callable[[Sequence[Any]], list[Row | Exception]]


class SharedItem:
    """The input of a tower, and the place of its item."""

    __slots__ = ("batch", "content", "deaths", "place", "taken", "units")

    def __init__(self, content: Any, place: int, taken: Any, deaths: int = 0) -> None:
        self.content = content
        self.place = place
        self.taken = taken
        self.deaths = deaths
        self.batch = 0  # items that ran together with it
        self.units = 0


class Answering(Protocol):
    """The process that an item came from."""

    def is_unwanted(self, place: int) -> bool:
        """Whether nobody waits for the item of a place."""
        ...

    def drop(self, ticket: SharedTicket) -> None:
        """Say that an item was not run since nobody waits for it."""
        ...

    def answer(self, ticket: SharedTicket, answer: Row | Exception) -> None:
        """Send an answer; from any thread."""
        ...


class SharedTicket(Ticket[Row]):
    """A ticket of one item, whose answer goes to another process."""

    __slots__ = ("client", "item", "priority")

    def __init__(self, client: Answering, item: SharedItem, deadline: float, priority: int) -> None:
        self.client = client
        self.item = item
        self.priority = priority
        self.abandoned = False
        self.deadline = deadline
        self.queued = math.inf
        self.started = math.inf
        self.ended = 0.0

    def resolve(self, index: int, answer: Row | Exception) -> None:
        """Send the answer."""
        self.client.answer(self, answer)


class SharedEntry(QueueEntry[SharedItem, Row]):
    """A queued item that its owner may give up at any time."""

    __slots__ = ()

    def is_wanted(self, now: float) -> bool:
        """Return whether to run it; its owner is told if not."""
        ticket = self.ticket
        assert isinstance(ticket, SharedTicket)
        if ticket.client.is_unwanted(self.item.place):
            ticket.client.drop(ticket)
            return False
        return super().is_wanted(now)


class Solitude:
    """Lets batches run side by side, and one batch run while no other does."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._is_alone = False

    @contextmanager
    def enter(self, *, alone: bool) -> Iterator[None]:
        """Run a batch; `alone`: once the others have ended."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_alone, _LONGEST_WAIT)
            if alone:
                self._is_alone = True
                self._changed.wait_for(lambda: not self._running, _LONGEST_WAIT)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                if alone:
                    self._is_alone = False
                self._changed.notify_all()


def end_process(error: DeviceError) -> None:
    """End this process, whose device is gone for good; the keeper starts another."""
    log.error("%s", error.message)
    os._exit(_LOST)


def wrap_run(run: RunShared, solitude: Solitude) -> RunShared:
    """Return a function that runs shared items as `run` runs their contents."""

    def run_shared(items: Sequence[SharedItem]) -> list[Row | Exception]:
        contents = [item.content for item in items]
        longest = max(len(content) if isinstance(content, list) else 1 for content in contents)
        alone = any(item.deaths >= DEATHS_ALONE for item in items)
        with solitude.enter(alone=alone):
            for item in items:
                item.taken[item.place] = 1
                item.batch = len(items)
                item.units = longest * len(items)
            try:
                return run(contents)
            except DeviceError as error:
                if error.kind == "lost":
                    end_process(error)
                raise
            finally:  # a later crash must not count against these items
                for item in items:
                    item.taken[item.place] = 0

    return run_shared
