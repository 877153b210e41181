"""Ctrl-C and SIGTERM take effect at the end of a step, so that only whole steps are saved.

A step interrupted halfway leaves some parameters updated and others not, and its checkpoint would
look valid. What must stay true: signal handlers installed by others are left alone, and a second
Ctrl-C interrupts at once.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PLAIN = (signal.default_int_handler, signal.SIG_DFL)


class StopRequest:
    """Whether a stop was requested."""

    def __init__(self) -> None:
        self.requested = False

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; the second one interrupts at once."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


@contextlib.contextmanager
def defer_signals() -> Iterator[StopRequest]:
    """Yield a request that signals set; only the main thread receives signals."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number, handler in before.items() if handler in PLAIN]
    for number in ours:
        signal.signal(number, stop.receive)
    try:
        yield stop
    finally:
        for number in ours:
            signal.signal(number, before[number])
