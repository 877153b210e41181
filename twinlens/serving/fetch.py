"""The one place from which images are fetched by URL. Off unless the settings allow it."""

from __future__ import annotations

from twinlens.serving.call import Call
from twinlens.serving.failures import ForbiddenError
from twinlens.serving.settings import Fetching


def is_url(image: object) -> bool:
    """Return whether an image is given by an address instead of by its bytes."""
    return isinstance(image, str) and image[:8].lower().startswith(("http://", "https://"))


class Fetcher:
    """Fetches images, or says why not; an error is returned, since it is one item's alone."""

    def __init__(self, settings: Fetching) -> None:
        self._settings = settings

    async def fetch(self, url: str, call: Call) -> bytes | Exception:
        """Return the bytes behind `url`, or the error that stands in the item's place."""
        return ForbiddenError(
            "this server fetches no URLs; send the image itself, as a data URI or a file",
            code="url_not_allowed",
        )
