"""The client for ordinary code: the asynchronous one, in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Self, TypeVar

from twinlens.client.asynchronous import AsyncClient
from twinlens.client.meter import ProgressOption
from twinlens.client.plans import Image, Rows

ValueT = TypeVar("ValueT")


class Client:
    """Talks to a server; may be shared between threads. Close it, or use `with`.

    Options are `AsyncClient`'s: api_key, model, timeout, retries, part (images a request), at_once.
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
        """Return embeddings (n, d) of paths or encoded bytes; `errors="nan"` keeps good ones."""
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
        """Return for each image its labels, best first, or an `error`."""
        return self._wait(self._client.zero_shot(images, classes, progress=progress, **options))

    def put_classifier(
        self,
        name: str,
        classes: Sequence[str] = (),
        *,
        examples: Mapping[str, Sequence[Image]] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Store a classifier; one that became a job answers `{"job": ...}`."""
        return self._wait(self._client.put_classifier(name, classes, examples=examples, **options))

    def models(self) -> list[dict[str, Any]]:
        """Return what is served."""
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

    def _wait(self, work: Coroutine[Any, Any, ValueT]) -> ValueT:
        """Run `work` in the client's thread and return what it returns."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:  # an interrupted caller no longer wants the work
            future.cancel()
            raise


async def _open(url: str, options: dict[str, Any]) -> AsyncClient:
    return AsyncClient(url, **options)
