"""Time as a value that is passed in, so that tests decide what time it is."""

from __future__ import annotations

import threading
import time


class Clock:
    """Monotonic seconds, and waiting on a condition."""

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait on an acquired condition until notified or for `seconds` (None: no limit)."""
        condition.wait(seconds)
