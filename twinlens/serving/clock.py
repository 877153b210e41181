"""A clock that is passed in, so that tests control the time.

Its functions are the standard library's own, because a request reads the clock a dozen times.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Clock:
    """Monotonic seconds, and waiting on a held condition, `None` meaning without a limit."""

    now: Callable[[], float] = staticmethod(time.monotonic)
    wait: Callable[[threading.Condition, float | None], object] = staticmethod(
        threading.Condition.wait
    )
