"""The synchronous client: the asynchronous one in its own thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Self, TypeVar

from twinlens.client.asynchronous import AsyncClient
from twinlens.client.meter import ProgressOption
from twinlens.client.plans import Image, Rows

CallResultT = TypeVar("CallResultT")


class Client:
    """A thread-safe client of a server. Close it, or use `with`.

    Options are `AsyncClient`'s: api_key, model, timeout, retries, part (images per request) and
    at_once.
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="twinlens-client", daemon=True
        )
        self._thread.start()
        self._client = self._wait(_open(url, options))

    def embed_images(
        self,
        images: Sequence[Image],
        *,
        errors: str = "raise",
        progress: ProgressOption = False,
        **options: Any,
    ) -> Rows:
        """Return embeddings (n, d) of paths or encoded bytes; `errors="nan"` marks failed rows."""
        return self._wait(
            self._client.embed_images(images, errors=errors, progress=progress, **options)
        )

    def embed_texts(
        self,
        texts: Sequence[str],
        *,
        errors: str = "raise",
        progress: ProgressOption = False,
        **options: Any,
    ) -> Rows:
        """Return embeddings (n, d) of strings."""
        return self._wait(
            self._client.embed_texts(texts, errors=errors, progress=progress, **options)
        )

    def zero_shot(
        self,
        images: Sequence[Image],
        classes: Sequence[str] | None = None,
        *,
        progress: ProgressOption = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Return each image's labels, best first, or its `error`."""
        return self._wait(self._client.zero_shot(images, classes, progress=progress, **options))

    def tag(
        self, images: Sequence[Image], *, progress: ProgressOption = False, **options: Any
    ) -> list[dict[str, Any]]:
        """Return each image's tags, best first, or its `error`; `classifier` names other words."""
        return self._wait(self._client.tag(images, progress=progress, **options))

    def put_classifier(
        self,
        name: str,
        classes: Sequence[str] = (),
        *,
        examples: Mapping[str, Sequence[Image]] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Store a classifier; a large one is built as a job and returns `{"job": ...}`."""
        return self._wait(self._client.put_classifier(name, classes, examples=examples, **options))

    def models(self) -> list[dict[str, Any]]:
        """Return the served models."""
        return self._wait(self._client.models())

    def close(self) -> None:
        """Close the connections and end the thread."""
        if self._loop.is_closed():
            return
        self._wait(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _wait(self, work: Coroutine[Any, Any, CallResultT]) -> CallResultT:
        """Run `work` in the client's thread and return its result."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # cancel the work of an interrupted caller
            future.cancel()
            raise


async def _open(url: str, options: dict[str, Any]) -> AsyncClient:
    return AsyncClient(url, **options)
