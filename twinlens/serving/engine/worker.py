"""The thread that runs the batches of one tower, and isolates items that make a batch fail.

A worker is replaced, never repaired: when its thread dies or hangs, the watchdog answers its batch,
retires it and starts another. What must stay true: an exception of `run` fails only the item that
causes it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Generic

from twinlens.errors import DeviceError, TwinlensError
from twinlens.serving.clock import Clock
from twinlens.serving.engine.batcher import Batcher
from twinlens.serving.engine.ticket import AnswerT, ItemT, QueueEntry
from twinlens.serving.failures import EncodeError, UnavailableError

log = logging.getLogger("twinlens.serving")

Run = Callable[[Sequence[ItemT]], Sequence[AnswerT | Exception]]


class Worker(Generic[ItemT, AnswerT]):
    """Takes batches from a batcher and answers their entries; others may take from it too."""

    def __init__(
        self,
        name: str,
        batcher: Batcher[ItemT, AnswerT],
        run: Run[ItemT, AnswerT],
        *,
        clock: Clock | None = None,
        observe: Callable[[int, float], None] | None = None,
    ) -> None:
        self.name = name
        self.failures_in_a_row = 0
        self.lost_device: str | None = None  # the message of the error that lost the device
        self._batcher = batcher
        self._run = run
        self._clock = clock or Clock()
        self._observe = observe or (lambda items, seconds: None)
        self._current: tuple[float, list[QueueEntry[ItemT, AnswerT]]] | None = None
        self.is_retired = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Start taking batches."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    @property
    def busy_seconds(self) -> float:
        """The seconds that the current batch has been running; zero when idle."""
        current = self._current
        return 0.0 if current is None else self._clock.now() - current[0]

    def retire(self) -> None:
        """Take no more batches, and answer the running one with `UnavailableError`."""
        self.is_retired = True
        current = self._current
        for entry in current[1] if current else ():
            entry.ticket.resolve(
                entry.index, UnavailableError("the worker was restarted while it ran; try again")
            )
        self._batcher.wake()

    def join(self, seconds: float) -> None:
        """Wait for the thread to end."""
        self._thread.join(seconds)

    def _loop(self) -> None:
        while not self.is_retired:
            batch = self._batcher.take(self)
            if not batch:
                return
            self._serve(batch)

    def _serve(self, batch: list[QueueEntry[ItemT, AnswerT]]) -> None:
        """Run one batch and answer its entries."""
        started = self._clock.now()
        self._current = (started, batch)
        for entry in batch:
            entry.ticket.started = min(entry.ticket.started, started)
        answers = self._isolate([entry.item for entry in batch])
        ended = self._clock.now()
        self._note(answers)
        self._batcher.observe(len(batch), ended - started)
        self._observe(len(batch), ended - started)
        self._current = None
        for entry, answer in zip(batch, answers, strict=True):
            entry.ticket.ended = max(entry.ticket.ended, ended)
            entry.ticket.resolve(entry.index, answer)

    def _isolate(self, items: list[ItemT]) -> list[AnswerT | Exception]:
        """Run `items`; when that fails, halve them until only the failing items are isolated."""
        try:
            answers = list(self._run(items))
            if len(answers) != len(items):
                raise RuntimeError(f"{len(answers)} answers to {len(items)} items; this is a bug")
            return answers
        except Exception as error:
            if isinstance(error, DeviceError) and error.kind == "lost":
                self.lost_device = error.message
                return [error] * len(items)
            if len(items) == 1:
                return [_report_failure(error, self.name)]
            log.warning("%s: a batch of %d failed; halving it", self.name, len(items))
        middle = len(items) // 2
        return self._isolate(items[:middle]) + self._isolate(items[middle:])

    def _note(self, answers: list[AnswerT | Exception]) -> None:
        """Count consecutive batches in which no item succeeded: the worker may be faulty."""
        has_failed = all(isinstance(answer, EncodeError | DeviceError) for answer in answers)
        self.failures_in_a_row = self.failures_in_a_row + 1 if has_failed else 0


def _report_failure(error: Exception, name: str) -> Exception:
    """Return the error to show the client, and log the details."""
    if isinstance(error, TwinlensError):
        return error
    log.error("%s: an item failed", name, exc_info=error)
    return EncodeError("the encoder failed on this item")
