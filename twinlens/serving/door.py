"""Who is turned away at the door: work that has no room, told before a byte of its body is read.

A flood of refusals is paid for by the requests that are let in, so this looks at headers as they
came and builds nothing that an answer of ours would need. What must stay true: nothing is refused
here that would have found room.
"""

from __future__ import annotations

from collections.abc import Iterable

from twinlens.errors import OverloadedError
from twinlens.serving.model import ServedModel
from twinlens.serving.registry import Registry

_FREE = ("GET", "HEAD", "OPTIONS")  # cheap to answer, and what tells an operator about the load
_TELL_SECONDS = 1.0
_IMAGES = (b"image/", b"multipart/")


class Door:
    """Counts requests in, and knows when to say that there is no room."""

    def __init__(self, registry: Registry, most_requests: int) -> None:
        self._registry = registry
        self._most = most_requests
        self.in_flight = 0
        self._untold = 0
        self._tell_at = 0.0

    def is_free(self, method: str) -> bool:
        """Whether a request is let in whatever the load, and not counted."""
        return method in _FREE

    def count_untold(self, now: float) -> int:
        """Count a refusal; return how many there were since they were last told of, if it is time.

        A line for each would cost as much as the refusal does.
        """
        self._untold += 1
        if now < self._tell_at:
            return 0
        count, self._untold, self._tell_at = self._untold, 0, now + _TELL_SECONDS
        return count

    def refuse(self, headers: Iterable[tuple[bytes, bytes]]) -> OverloadedError | None:
        """Return why a request with these headers may not come in, or None."""
        if self.in_flight >= self._most:
            return OverloadedError(
                f"{self._most} requests are being answered, the limit; try again later",
                retry_after=_backlog(self._registry.models()),
            )
        if not _brings_images(headers):
            return None
        models = [model for model in self._registry.models() if model.images is not None]
        if not models or not all(m.images and m.images.batcher.is_full for m in models):
            return None
        return OverloadedError(
            "every place for images is taken; try again later", retry_after=_backlog(models)
        )


def _brings_images(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the body is images, as far as its type says."""
    return any(name == b"content-type" and value.startswith(_IMAGES) for name, value in headers)


def _backlog(models: Iterable[ServedModel]) -> float:
    """Return how long the longest queue will take."""
    towers = [tower for model in models for tower in model.towers]
    return max((tower.batcher.backlog_seconds for tower in towers), default=1.0)
