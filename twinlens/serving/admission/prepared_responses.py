"""Refusals as the bytes that go over the wire.

All of it but a few headers is the same each time, so it is made once. What must stay true: a client
reads what the application would have answered.
"""

from __future__ import annotations

import math

from twinlens.serving.admission.controller import Refusal
from twinlens.serving.requests.error_responses import answer_error

HeaderLines = tuple[tuple[bytes, bytes], ...]

_MOST = 256  # prepared answers; there are as many as messages and hot paths, a dozen
_OWN = (b"retry-after", b"retry-after-ms")  # of each refusal its own


class PreparedResponses:
    """Prepared answers."""

    def __init__(self, common: HeaderLines) -> None:
        self._common = common
        self._prepared: dict[tuple[str, str], tuple[bytes, bytes]] = {}

    def write(
        self, refusal: Refusal, path: str, request_id: bytes, more: HeaderLines = ()
    ) -> bytes:
        """Return headers and body, from behind the status line and the headers of the protocol."""
        head, body = self._prepared.get((refusal.message, path)) or self._prepare(refusal, path)
        seconds = max(1, math.ceil(refusal.retry_after))
        milliseconds = max(1, math.ceil(refusal.retry_after * 1000))
        return b"retry-after: %d\r\nretry-after-ms: %d\r\n%sx-request-id: %s\r\n%s\r\n%s" % (
            seconds,
            milliseconds,
            head,
            request_id,
            _join(more),
            body,
        )

    def _prepare(self, refusal: Refusal, path: str) -> tuple[bytes, bytes]:
        response = answer_error(refusal.to_error(), path=path)
        lines = [line for line in response.raw_headers if line[0] not in _OWN]
        found = _join((*lines, *self._common)), bytes(response.body)
        if len(self._prepared) < _MOST:
            self._prepared[refusal.message, path] = found
        return found


def _join(lines: HeaderLines) -> bytes:
    return b"".join(b"%s: %s\r\n" % line for line in lines)
