"""Refusals as prepared response bytes.

All but a few headers are the same each time, so they are built once. What must stay true: a client
receives what the application would have answered.
"""

from __future__ import annotations

import http
import math

from twinlens.serving.admission.controller import Refusal
from twinlens.serving.requests.error_responses import answer_error, error_response, kind_of

HeaderLines = tuple[tuple[bytes, bytes], ...]

SECURITY_HEADERS: HeaderLines = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

_MOST = 256  # prepared answers; a dozen in practice: one per message and dialect
_PER_REFUSAL = (b"retry-after", b"retry-after-ms")  # differ between refusals


class PreparedResponses:
    """Builds refusals from parts that are prepared once per message and dialect."""

    def __init__(self, common: HeaderLines) -> None:
        self._common = common
        self._prepared: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        self._last: tuple[Refusal, str] | None = None
        self._parts = (b"", b"")  # of the last; many refusals in a row are the same

    def write(
        self, refusal: Refusal, also: str, request_id: bytes, more: HeaderLines = ()
    ) -> bytes:
        """Return headers and body, to follow the protocol's status line and own headers.

        `also` is the field in which clients of the path read the message.
        """
        if self._last != (refusal, also):
            self._parts = self._begin(refusal, also)
            self._last = refusal, also
        head, body = self._parts
        return b"%sx-request-id: %s\r\n%s\r\n%s" % (head, request_id, _join(more), body)

    def _begin(self, refusal: Refusal, also: str) -> tuple[bytes, bytes]:
        head, body = self._prepared.get((refusal.message, also)) or self._prepare(refusal, also)
        seconds = max(1, math.ceil(refusal.retry_after))
        milliseconds = max(1, math.ceil(refusal.retry_after * 1000))
        times = b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (seconds, milliseconds)
        return times + head, body

    def _prepare(self, refusal: Refusal, also: str) -> tuple[bytes, bytes]:
        response = answer_error(refusal.to_error(), also=also)
        lines = [line for line in response.raw_headers if line[0] not in _PER_REFUSAL]
        found = _join((*lines, *self._common)), bytes(response.body)
        if len(self._prepared) < _MOST:
            self._prepared[refusal.message, also] = found
        return found


def write_fault(status: int, message: str) -> bytes:
    """Return the last answer of a connection whose further data cannot be read as requests."""
    phrase = http.HTTPStatus(status).phrase
    body = {
        "message": message,
        "type": kind_of(status),
        "param": None,
        "code": phrase.lower().replace(" ", "_"),
    }
    response = error_response(status, body)
    lines = _join((*response.raw_headers, *SECURITY_HEADERS, (b"connection", b"close")))
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, phrase.encode(), lines, bytes(response.body))


def _join(lines: HeaderLines) -> bytes:
    return b"".join([b"%s: %s\r\n" % line for line in lines]) if lines else b""
