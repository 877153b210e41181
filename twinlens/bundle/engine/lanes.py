"""Batches on a GPU: two at a time, through reused page-locked memory, as captured graphs.

A lane is the memory of one batch on both sides. While the GPU computes one lane's batch, the other
lane's is gathered and copied. One thread starts all runs of a session, as captured graphs require.
What must stay true: rows are copies of their own, in the order of the items; a batch is padded to a
size that has a graph, and no row depends on the padding.
"""

from __future__ import annotations

import math
import queue
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.arrays import Rows
from twinlens.bundle.engine.cuda_driver import CardMemory, view_as

LANES: Final = 2
# Captured sizes; padding to the next one adds a third at most.
SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_GRAPHS: Final = 64  # per lane; further shapes run without a graph
_NO_GRAPH: Final = -1

Start = Callable[[Any, int], None]  # run a binding under a graph's number
Bind = Callable[[int, tuple[int, ...], int, tuple[int, ...]], Any]  # addresses and shapes


class _Lane:
    """The memory of one batch, and its bindings."""

    def __init__(self, memory: CardMemory, number: int) -> None:
        self._memory = memory
        self._number = number
        self._room = (0, 0)
        self._graphs = 0  # numbers in use, over all memory that this lane ever had
        self.uploaded, self.finished = memory.create_event(), memory.create_event()
        self.bindings: dict[tuple[int, ...], tuple[Any, int]] = {}
        self.host_in = self.host_out = np.zeros(0, np.uint8)
        self.card_in = self.card_out = 0

    def reserve(self, bytes_in: int, bytes_out: int) -> None:
        """Reserve at least so much memory; bindings to a smaller buffer are dropped."""
        if bytes_in <= self._room[0] and bytes_out <= self._room[1]:
            return
        room = (max(bytes_in, self._room[0]), max(bytes_out, self._room[1]))
        self.card_in, self.card_out = map(self._memory.allocate_device, room)
        self.host_in, self.host_out = map(self._memory.allocate_host, room)
        self._room = room
        self.bindings.clear()

    def number_graph(self) -> int:
        """Return the number of a new graph, or of none."""
        if self._graphs == _GRAPHS:
            return _NO_GRAPH
        self._graphs += 1
        return self._number * _GRAPHS + self._graphs - 1


class Lanes:
    """Runs the batches of one session on one device."""

    def __init__(
        self,
        memory: CardMemory,
        bind: Bind,
        start: Start,
        *,
        dtype: np.dtype[Any],
        width: int,
        captures: bool,
    ) -> None:
        self._memory = memory
        self._bind = bind
        self._start = start
        self.dtype = dtype
        self._width = width
        self.captures = captures
        self._free: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
        self._starter = ThreadPoolExecutor(1, "card")
        for number in range(LANES):
            self._free.put(_Lane(memory, number))

    def embed(self, items: NDArray[Any] | Sequence[NDArray[Any]]) -> Rows:
        """Return a row for each item; waits for a lane if both are in use."""
        lane = self._free.get()
        try:
            return self._embed_in(lane, items)
        finally:
            self._free.put(lane)

    def _embed_in(self, lane: _Lane, items: NDArray[Any] | Sequence[NDArray[Any]]) -> Rows:
        count, one = len(items), np.shape(items[0])
        size = pad_size(count) if self.captures else count
        bytes_in = math.prod(one) * self.dtype.itemsize
        lane.reserve(size * bytes_in, size * self._width * 4)
        fill(view_as(lane.host_in, (count, *one), self.dtype), items)
        self._memory.upload(lane.card_in, lane.host_in[: count * bytes_in], lane.uploaded)
        self._starter.submit(self._run, lane, (size, *one), count).result()
        self._memory.wait(lane.finished)
        return view_as(lane.host_out, (count, self._width), np.float32).copy()

    def _run(self, lane: _Lane, shape: tuple[int, ...], count: int) -> None:
        """Start a batch that was copied, and the copy of its rows."""
        found = lane.bindings.get(shape)
        if found is None:
            binding = self._bind(lane.card_in, shape, lane.card_out, (shape[0], self._width))
            found = (binding, lane.number_graph() if self.captures else _NO_GRAPH)
            lane.bindings[shape] = found
        self._memory.follow(lane.uploaded)
        self._start(*found)
        rows = lane.host_out[: count * self._width * 4]
        self._memory.download(rows, lane.card_out, lane.finished)


def pad_size(count: int) -> int:
    """Return the smallest size with a graph that holds `count`; larger counts are unchanged."""
    return SIZES[bisect_left(SIZES, count)] if count <= SIZES[-1] else count


def fill(target: NDArray[Any], items: NDArray[Any] | Sequence[NDArray[Any]]) -> None:
    """Copy items next to each other."""
    if isinstance(items, np.ndarray):
        target[...] = items
        return
    for place, item in zip(target, items, strict=True):
        place[...] = item
