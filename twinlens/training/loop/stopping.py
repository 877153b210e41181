"""Ctrl-C and SIGTERM wait for the end of a step, so that what is saved is a whole step.

A step that is cut in the middle leaves some parameters moved and others not; saved, it would pass
for a good checkpoint. What must stay true: handlers of others are left alone, and a second Ctrl-C
does not wait.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PLAIN = (signal.default_int_handler, signal.SIG_DFL)


class Wish:
    """Whether somebody asked to stop."""

    def __init__(self) -> None:
        self.heard = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Take a signal; the second one interrupts at once."""
        if self.heard:
            raise KeyboardInterrupt
        self.heard = True


@contextlib.contextmanager
def hear_signals() -> Iterator[Wish]:
    """Yield a wish that signals set; outside the main thread, which alone gets them, none does."""
    wish = Wish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number, handler in before.items() if handler in PLAIN]
    for number in ours:
        signal.signal(number, wish.hear)
    try:
        yield wish
    finally:
        for number in ours:
            signal.signal(number, before[number])
