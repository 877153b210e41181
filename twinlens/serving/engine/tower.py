"""A tower as the server runs it: its batcher, its workers, and the workers' health checks.

One worker on a CPU; two for each GPU, so that one batch is gathered while the other is computed.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic

from twinlens.errors import OverloadedError, TooLargeError
from twinlens.serving.call import Call, Priority
from twinlens.serving.clock import Clock
from twinlens.serving.engine.batcher import Batcher
from twinlens.serving.engine.large_share import LargeShare
from twinlens.serving.engine.ticket import AnswerT, ItemT
from twinlens.serving.engine.worker import Run, Worker
from twinlens.serving.settings import Watch

log = logging.getLogger("twinlens.serving")


class ServedTower(Generic[ItemT, AnswerT]):
    """One tower of one bundle."""

    def __init__(
        self,
        name: str,
        batcher: Batcher[ItemT, AnswerT],
        run: Run[ItemT, AnswerT],
        *,
        clock: Clock,
        observe: Callable[[int, float], None] | None = None,
        workers: int = 1,
    ) -> None:
        self.name = name
        self.batcher = batcher
        self.share = LargeShare(batcher)
        self.restarts = 0
        self._run = run
        self._clock = clock
        self._observe = observe
        self._workers = [self._start() for _ in range(workers)]

    @asynccontextmanager
    async def hold(self, count: int, call: Call) -> AsyncIterator[None]:
        """Hold places in the queue until the items are answered or the request fails."""
        throttles = self.batcher.throttles
        if call.priority is Priority.LARGE:
            call.settle()
            async with self.share.hold(count, call):
                throttles.enter(Priority.LARGE, count)
                try:
                    yield
                finally:
                    throttles.enter(Priority.LARGE, -count)
            return
        self._hold_now(count, call)
        throttles.enter(call.priority, count)
        try:
            yield
        finally:
            throttles.enter(call.priority, -count)
            self.batcher.release(count)
            if self.share.waiting:
                self.share.wake()

    def _hold_now(self, count: int, call: Call) -> None:
        """Hold places, or refuse the request."""
        batcher = self.batcher
        if count > batcher.capacity:
            raise TooLargeError(
                f"the request has {count} {batcher.name}; the queue holds {batcher.capacity}"
            )
        try:
            batcher.hold(count)
        except OverloadedError:
            call.refused_at = (self.name.rsplit("/", 1)[0], batcher.name)
            raise
        finally:
            if call.reservation is not None:
                call.reservation.settle()

    def find_fault(self, watch: Watch) -> str | None:
        """Return what is wrong with a worker, or None."""
        for worker in self._workers:
            if not worker.is_alive:
                return f"{self.name}: the worker is dead"
            if worker.busy_seconds > watch.stall_seconds:
                return f"{self.name}: the worker hangs"
            if worker.lost_device is not None:
                return f"{self.name}: {worker.lost_device}"
            if worker.failures_in_a_row >= watch.failures_in_a_row:
                return f"{self.name}: {worker.failures_in_a_row} batches in a row failed"
        return None

    def restart_workers(self, watch: Watch) -> None:
        """Replace each worker that is dead or hangs."""
        if self.batcher.is_closed:
            return
        for place, worker in enumerate(self._workers):
            if worker.is_alive and worker.busy_seconds <= watch.stall_seconds:
                continue
            log.error("%s: worker replaced", self.name)
            self.restarts += 1
            self._workers[place] = self._start()
            worker.retire()

    def close(self) -> None:
        """Stop the workers after their current batches."""
        self.batcher.close()
        for worker in self._workers:
            worker.join(5.0)

    def _start(self) -> Worker[ItemT, AnswerT]:
        worker = Worker(
            self.name, self.batcher, self._run, clock=self._clock, observe=self._observe
        )
        worker.start()
        return worker
