"""Threads that decode images and tokenize long texts: small requests first.

A large request brings hundreds of images at once; in one line they would hold up everybody behind
them. What must stay true: what large requests bring is decoded in the time that small ones leave,
and at least in their share of it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from twinlens.serving.call import Priority
from twinlens.serving.clock import Clock
from twinlens.serving.engine.throttle import CHECK_SECONDS, SHORTEST_WAIT, Throttles

P = ParamSpec("P")
T = TypeVar("T")


class DecodePool(Executor):
    """Some threads and a line for each priority."""

    def __init__(
        self, threads: int, throttles: Throttles | None = None, clock: Clock | None = None
    ) -> None:
        self.threads = threads
        self._throttles = throttles or Throttles()
        self._clock = clock or Clock()
        self._lines: dict[Priority, deque[tuple[Future[Any], Callable[[], object]]]] = {
            priority: deque() for priority in Priority
        }
        self._changed = threading.Condition()
        self._closed = False
        self._started = [
            threading.Thread(target=self._loop, name=f"decode_{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._started:
            thread.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function for a small request."""
        return self.submit_as(Priority.SMALL, lambda: fn(*args, **kwargs))

    def submit_as(self, priority: Priority, action: Callable[[], T]) -> Future[T]:
        """Run a function for a request of some priority."""
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the pool is closed")
            self._lines[priority].append((future, action))
            self._changed.notify()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads, once what waits is done or at once."""
        with self._changed:
            self._closed = True
            if cancel_futures:
                for line in self._lines.values():
                    while line:
                        line.popleft()[0].cancel()
            self._changed.notify_all()
        if wait:
            for thread in self._started:
                thread.join()

    def _loop(self) -> None:
        while (found := self._take()) is not None:
            priority, future, action = found
            began = self._clock.now()
            if future.set_running_or_notify_cancel():
                _run(future, action)
            now = self._clock.now()
            self._throttles.end(priority, now, now - began)

    def _take(self) -> tuple[Priority, Future[Any], Callable[[], object]] | None:
        """Return what to run next, waiting for it; None once closed and empty."""
        with self._changed:
            while True:
                priority = next((one for one, line in self._lines.items() if line), None)
                if priority is None:
                    if self._closed:
                        return None
                    self._changed.wait()
                    continue
                now = self._clock.now()
                pause = self._throttles.delay(priority, now)
                if pause <= SHORTEST_WAIT or self._closed:
                    self._throttles.begin(priority, 1, now)
                    return (priority, *self._lines[priority].popleft())
                self._changed.wait(min(CHECK_SECONDS, pause))


def _run(future: Future[Any], action: Callable[[], object]) -> None:
    """Run an action; its error is the future's."""
    try:
        result = action()
    except BaseException as error:
        with suppress(Exception):  # cancelled meanwhile
            future.set_exception(error)
    else:
        with suppress(Exception):
            future.set_result(result)
