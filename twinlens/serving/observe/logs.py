"""Log lines on standard error: text for people, or one JSON object per line for machines."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import orjson

_FIELDS = ("request_id", "method", "path", "status", "milliseconds", "model", "stages")


class JsonFormatter(logging.Formatter):
    """Formats a record with its fields as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure_logs(form: str, *, requests: bool = True) -> None:
    """Send Twinlens' and uvicorn's records to standard error, as text or as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("twinlens", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO)
    # uvicorn would log each start and stop a second time.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("twinlens.access").setLevel(logging.INFO if requests else logging.WARNING)
