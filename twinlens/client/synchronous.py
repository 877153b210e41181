"""The synchronous client: the asynchronous one in its own thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar

from twinlens.client.asynchronous import AsyncClient
from twinlens.client.meter import ProgressOption
from twinlens.client.plans import Image, Rows, ServerError

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

    def embed_video(self, video: Image, **options: Any) -> tuple[list[float], Rows]:
        """Return the seconds of a video's frames, and their embeddings (n, d)."""
        return self._wait(self._client.embed_video(video, **options))

    def embed_texts(
        self,
        texts: Sequence[str],
        *,
        input_type: str | None = None,
        errors: str = "raise",
        progress: ProgressOption = False,
        **options: Any,
    ) -> Rows:
        """Return embeddings (n, d) of strings; `input_type` is query, document, ..."""
        options["input_type"] = input_type
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

    def search(
        self, query: str | None = None, *, image: Image | None = None, **options: Any
    ) -> dict[str, Any]:
        """Return the answer of `/search`: the hits are its `data`."""
        return self._wait(self._client.search(query, image=image, **options))

    def upsert(
        self,
        collection: str,
        items: Sequence[Mapping[str, Any]],
        *,
        progress: ProgressOption = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Insert or replace items; return the result of each, with an `error` if it failed."""
        return self._wait(self._client.upsert(collection, items, progress=progress, **options))

    def list_items(
        self, collection: str, *, filter: str | None = None, limit: int = 1000
    ) -> Iterator[dict[str, Any]]:
        """Yield all items, oldest first, fetched `limit` at a time."""
        cursor: str | None = None
        while True:
            page = self._wait(
                self._client.list_items(collection, filter=filter, limit=limit, cursor=cursor)
            )
            yield from page["data"]
            cursor = page["next"]
            if cursor is None:
                return

    def update_metadata(
        self, collection: str, changes: Mapping[str, Mapping[str, Any]], *, replace: bool = False
    ) -> dict[str, Any]:
        """Merge metadata into items by id (None: remove it); return `updated` and `missing`."""
        return self._wait(self._client.update_metadata(collection, changes, replace=replace))

    def delete_items(
        self, collection: str, ids: Sequence[str] | None = None, **options: Any
    ) -> int:
        """Delete items by id, or by `filter`; return how many. Also `max_delete`, `dry_run`."""
        return self._wait(self._client.delete_items(collection, ids, **options))

    def report(
        self, collection: str, find: str, *, poll: float = 0.5, **options: Any
    ) -> dict[str, Any]:
        """Find `copies`, `clusters`, a `subset` or `outliers`; wait, and return the result."""
        job = self._wait(self._client.report(collection, find, **options))
        while job["finished"] is None:
            time.sleep(poll)
            job = self._wait(self._client.job(job["id"]))
        if job["error"] is not None:
            raise ServerError(job["error"], 200, "job_failed", None)
        result: dict[str, Any] = job["result"]
        return result

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
