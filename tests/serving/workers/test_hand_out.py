"""Connections, each passed to the HTTP process that has the fewest."""

from __future__ import annotations

import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from twinlens.serving.workers.hand_out import ConnectionDealer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="descriptors are passed on Linux")


@dataclass
class CountedFamily:
    """What the dealer knows of a family."""

    workers: int
    closed: Counter[int] = field(default_factory=Counter)

    def read_closed(self, index: int) -> int:
        return self.closed[index]

    def write_closed(self, index: int, count: int) -> None:
        self.closed[index] = count


class Dealing:
    """A dealer, its clients and its processes' ends."""

    def __init__(self, workers: int, stack: ExitStack) -> None:
        self.family = CountedFamily(workers)
        self._stack = stack
        self._listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.dealer = ConnectionDealer(self.family, self._listener)  # type: ignore[arg-type]
        for pair in self.dealer.inboxes:
            for end in pair:
                stack.enter_context(end)
        self.dealer.listen()

    def connect(self, count: int, ready: set[int]) -> list[int]:
        """Return how many of so many new connections each process was passed."""
        for _ in range(count):
            self._stack.enter_context(socket.create_connection(self._listener.getsockname()))
        self.dealer.deal(ready)
        return [self._take(theirs) for _, theirs in self.dealer.inboxes]

    def _take(self, inbox: socket.socket) -> int:
        inbox.setblocking(False)
        taken = 0
        while True:
            try:
                _, descriptors, _, _ = socket.recv_fds(inbox, 1, 1)
            except BlockingIOError:
                return taken
            for descriptor in descriptors:
                self._stack.enter_context(socket.socket(fileno=descriptor))
                taken += 1


@pytest.fixture
def dealing() -> Iterator[Dealing]:
    with ExitStack() as stack:
        yield Dealing(3, stack)


def test_connections_are_spread_evenly(dealing: Dealing) -> None:
    assert dealing.connect(9, {0, 1, 2}) == [3, 3, 3]
    assert sorted(dealing.connect(2, {0, 1, 2})) == [0, 1, 1]


def test_a_process_whose_connections_have_ended_is_passed_the_next(dealing: Dealing) -> None:
    dealing.connect(9, {0, 1, 2})
    dealing.family.write_closed(1, 3)
    assert dealing.connect(3, {0, 1, 2}) == [0, 3, 0]


def test_a_process_that_is_not_ready_is_passed_one_only_if_none_is(dealing: Dealing) -> None:
    assert dealing.connect(4, {2}) == [0, 0, 4]
    assert sum(dealing.connect(3, set())) == 3, "its successor takes them"


def test_a_process_that_has_ended_counts_as_empty(dealing: Dealing) -> None:
    dealing.connect(6, {0, 1, 2})
    dealing.dealer.forget(0)
    assert dealing.connect(2, {0, 1, 2}) == [2, 0, 0]
