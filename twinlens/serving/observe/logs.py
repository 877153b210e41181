"""Log lines on standard error: text for people, or one JSON object per line for machines.

Every request writes one, so formatting must be cheap: callers pass numbers as they are, and only
the format that shows a number rounds it.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any

import orjson

from twinlens.serving.call import Call

_FIELDS = ("url", "models")


class JsonFormatter(logging.Formatter):
    """Formats a record with its fields as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if "exchange" in record.__dict__:
            line |= _describe(*record.__dict__["exchange"])
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextFormatter(logging.Formatter):
    """Formats a record as a line of text, with the date of a second written once."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self._second = (-1, "")  # the last one, and how it is written; replaced as a whole

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return the local time, to milliseconds."""
        now = int(record.created)
        second, written = self._second
        if second != now:
            written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
            self._second = (now, written)
        return f"{written},{int(record.msecs):03d}"


def _describe(
    request_id: bytes,
    scope: MutableMapping[str, Any],
    path: str,
    status: int,
    seconds: float,
    call: Call | None,
) -> dict[str, object]:
    """Return the fields of a request: who asked, of what, how much, and for how long."""
    line: dict[str, object] = {
        "request_id": request_id.decode(),
        "method": scope["method"],
        "path": path,
        "status": status,
        "milliseconds": round(seconds * 1000, 2),
        "client": (scope.get("client") or ("",))[0],
        "key": scope["state"].get("key", ""),
    }
    if call is not None:
        line["model"] = call.model
        line["items"] = call.items
        line["failed_items"] = call.failed_items
        line["bytes"] = call.received_bytes
        line["stages"] = {name: round(spent * 1000, 2) for name, spent in call.seconds.items()}
    return {name: value for name, value in line.items() if value != ""}


def configure_logs(form: str, *, requests: bool = True) -> None:
    """Send Twinlens' and uvicorn's records to standard error, as text or as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    if form == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter())
    # No line shows these; logging's documentation names them as what may be left out for speed.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    for name in ("twinlens", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO)
    # uvicorn would log each start and stop a second time.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    logging.getLogger("twinlens.access").setLevel(logging.INFO if requests else logging.WARNING)
