"""Time as a value that is passed in, so that tests decide what time it is.

Each function is the library's own, since a request asks for the time a dozen times.
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
