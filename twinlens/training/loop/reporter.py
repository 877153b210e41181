"""Moves readings into the log: at once on a CPU; later, in order, from an accelerator.

A thread waits for the device and computes eigenvalues while the next steps are queued. What must
stay true: rows come out in the order of their steps, and none is lost when the run saves or ends.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from twinlens.training.devices import is_accelerator
from twinlens.training.evaluation.readings import Reading, StepNumbers


class Reporter:
    """Finishes readings of steps."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = ThreadPoolExecutor(1) if is_accelerator(device) else None
        self._rows: deque[tuple[int, Future[StepNumbers]]] = deque()

    def add(self, step: int, reading: Reading) -> None:
        """Take the reading of a step."""
        found: Future[StepNumbers]
        if self._pool is None:
            found = Future()
            found.set_result(reading.finish())
        else:
            host = reading.to_host()
            found = self._pool.submit(_finish, host, self._mark())
        self._rows.append((step, found))

    def take(self, *, wait: bool = False) -> list[tuple[int, StepNumbers]]:
        """Return the finished rows, or all of them, by step."""
        rows = []
        while self._rows and (wait or self._rows[0][1].done()):
            step, found = self._rows.popleft()
            rows.append((step, found.result()))
        return rows

    def close(self) -> None:
        """End the thread; rows that were not taken are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _mark(self) -> torch.cuda.Event | None:
        """Return an event behind everything queued so far."""
        if self._device.type != "cuda":
            return None
        event = torch.cuda.Event()
        event.record()
        return event


def _finish(reading: Reading, event: torch.cuda.Event | None) -> StepNumbers:
    if event is not None:
        event.synchronize()
    return reading.finish()
