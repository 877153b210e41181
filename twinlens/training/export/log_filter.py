"""Drops one known log message of a library while its code runs; all others pass."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def drop_log_message(text: str) -> Iterator[None]:
    """Drop messages that the root logger itself receives and that contain `text`."""

    def is_other(record: logging.LogRecord) -> bool:
        return text not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(is_other)
    try:
        yield
    finally:
        root.removeFilter(is_other)
