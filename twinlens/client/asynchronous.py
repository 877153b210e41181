"""The asynchronous client, which `Client` wraps."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

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

    async def embed_texts(
        self,
        texts: Sequence[str],
        *,
        errors: str = "raise",
        progress: ProgressOption = False,
        **options: Any,
    ) -> Rows:
        """Return embeddings (n, d) of strings."""
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
