"""The asynchronous client, which `Client` wraps."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from twinlens.client.meter import Meter, ProgressOption
from twinlens.client.plans import (
    CallPlan,
    CallPlanner,
    Image,
    RequestPlan,
    Rows,
    ServerError,
    check,
    choose_wait,
    is_retried,
    items_path,
)

if TYPE_CHECKING:
    import httpx


class AsyncClient:
    """An asynchronous client of a server. Close it, or use `async with`."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        model: str | None = None,
        timeout: float = 60.0,
        retries: int = 4,
        part: int = 16,
        at_once: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        import httpx

        self._plans = CallPlanner(model, part)
        self._retries = retries
        self._turns = asyncio.Semaphore(at_once)
        self._http = httpx.AsyncClient(
            base_url=url, timeout=timeout, headers=_headers(api_key), transport=transport
        )

    async def embed_images(
        self,
        images: Sequence[Image],
        *,
        errors: str = "raise",
        progress: ProgressOption = False,
        **options: Any,
    ) -> Rows:
        """Return embeddings (n, d) of paths or encoded bytes; `errors="nan"` marks failed rows."""
        rows: Rows = await self._run(self._plans.embed_images(images, errors, options), progress)
        return rows

    async def embed_video(self, video: Image, **options: Any) -> tuple[list[float], Rows]:
        """Return the seconds of a video's frames, and their embeddings (n, d).

        `frames` is the seconds between frames, 2 by default, or `"scenes"`.
        """
        found: tuple[list[float], Rows] = await self._run(
            self._plans.embed_video(video, options), False
        )
        return found

    async def embed_texts(
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
        rows: Rows = await self._run(self._plans.embed_texts(texts, errors, options), progress)
        return rows

    async def zero_shot(
        self,
        images: Sequence[Image],
        classes: Sequence[str] | None = None,
        *,
        progress: ProgressOption = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Return each image's labels, best first, or its `error`."""
        options["classes"] = None if classes is None else list(classes)
        plan = self._plans.zero_shot(images, options)
        found: list[dict[str, Any]] = await self._run(plan, progress)
        return found

    async def tag(
        self, images: Sequence[Image], *, progress: ProgressOption = False, **options: Any
    ) -> list[dict[str, Any]]:
        """Return each image's tags, best first, or its `error`; `classifier` names other words."""
        found: list[dict[str, Any]] = await self._run(self._plans.tag(images, options), progress)
        return found

    async def put_classifier(
        self,
        name: str,
        classes: Sequence[str] = (),
        *,
        examples: Mapping[str, Sequence[Image]] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Store a classifier; a large one is built as a job and returns `{"job": ...}`."""
        plan = self._plans.put_classifier(name, classes, examples, options)
        made: dict[str, Any] = await self._run(plan, False)
        return made

    async def search(
        self, query: str | None = None, *, image: Image | None = None, **options: Any
    ) -> dict[str, Any]:
        """Return the answer of `/search`: the hits are its `data`.

        Every field of the API is a keyword: collection, k, filter, words, offset and the others.
        """
        answer: dict[str, Any] = await self._run(self._plans.search(query, image, options), False)
        return answer

    async def upsert(
        self,
        collection: str,
        items: Sequence[Mapping[str, Any]],
        *,
        progress: ProgressOption = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Insert or replace items; return the result of each, with an `error` if it failed.

        An item is a mapping with `id`, one of `image` (a path or encoded bytes), `text` and
        `vector`, and perhaps `metadata`.
        """
        plan = self._plans.upsert(collection, items, options)
        data: list[dict[str, Any]] = await self._run(plan, progress)
        return data

    async def list_items(
        self,
        collection: str,
        *,
        filter: str | None = None,
        limit: int = 100,
        offset: int = 0,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """Return a page of items, oldest first: `data`, and `next`, the cursor of the next page."""
        options = {"filter": filter, "limit": limit, "offset": offset, "cursor": cursor}
        page: dict[str, Any] = await self._run(self._plans.list_page(collection, options), False)
        return page

    async def update_metadata(
        self, collection: str, changes: Mapping[str, Mapping[str, Any]], *, replace: bool = False
    ) -> dict[str, Any]:
        """Merge metadata into items by id (None: remove it); return `updated` and `missing`."""
        items = [{"id": id, "metadata": dict(change)} for id, change in changes.items()]
        body = {"items": items, "replace": replace}
        plan = self._plans.send("PATCH", items_path(collection), body)
        answer: dict[str, Any] = await self._run(plan, False)
        return answer

    async def delete_items(
        self,
        collection: str,
        ids: Sequence[str] | None = None,
        *,
        filter: str | None = None,
        max_delete: str | None = None,
        dry_run: bool = False,
    ) -> int:
        """Delete items by id, or all that satisfy a filter; return how many."""
        body: dict[str, Any] = {"filter": filter, "max_delete": max_delete, "dry_run": dry_run}
        body["ids"] = None if ids is None else list(ids)
        plan = self._plans.send("DELETE", items_path(collection), body)
        return int((await self._run(plan, False))["deleted"])

    async def report(self, collection: str, find: str, **options: Any) -> dict[str, Any]:
        """Return the job that finds `copies`, `clusters`, a `subset` or `outliers`."""
        path = f"/collections/{quote(collection, safe='')}/report"
        answer = await self._run(self._plans.send("POST", path, {"find": find, **options}), False)
        job: dict[str, Any] = answer["job"]
        return job

    async def job(self, id: str) -> dict[str, Any]:
        """Return a job: its `state`, `progress`, and in the end its `result`."""
        found: dict[str, Any] = await self._run(self._plans.get(f"/jobs/{quote(id)}"), False)
        return found

    async def models(self) -> list[dict[str, Any]]:
        """Return the served models."""
        found: list[dict[str, Any]] = (await self._run(self._plans.get("/v1/models"), False))[
            "data"
        ]
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _run(self, plan: CallPlan, progress: ProgressOption) -> Any:
        """Send the requests of a plan concurrently, and join the answers in order."""
        with Meter(sum(request.count for request in plan.requests), progress) as meter:
            answers = await asyncio.gather(*(self._send(one, meter) for one in plan.requests))
        return plan.join(list(answers))

    async def _send(self, request: RequestPlan, meter: Meter) -> httpx.Response:
        async with self._turns:
            answer = await self._try(request)
        meter.advance(request.count)
        return answer

    async def _try(self, request: RequestPlan) -> httpx.Response:
        """Send one request; retry it on retryable answers and network errors."""
        import httpx

        for attempt in range(self._retries + 1):
            is_last = attempt == self._retries
            answer: httpx.Response | None = None
            try:
                answer = await self._http.request(request.method, request.path, **request.options)
            except httpx.TransportError as error:
                if is_last:
                    raise ServerError(f"no answer: {error}", 0, "no_answer", None) from None
            if answer is not None and (is_last or not is_retried(answer)):
                return check(answer)
            await asyncio.sleep(choose_wait(answer, attempt))
        raise AssertionError("the last try returns or raises")


def _headers(api_key: str | None) -> dict[str, str]:
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
