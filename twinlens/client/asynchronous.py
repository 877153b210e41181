"""The client for coroutines; the one that does the work."""

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
    """Talks to a server from coroutines. Close it, or use `async with`."""

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
        """Return embeddings (n, d) of paths or encoded bytes; `errors="nan"` keeps good ones."""
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
        """Return for each image its labels, best first, or an `error`."""
        options["classes"] = None if classes is None else list(classes)
        plan = self._plans.zero_shot(images, options)
        found: list[dict[str, Any]] = await self._run(plan, progress)
        return found

    async def put_classifier(
        self,
        name: str,
        classes: Sequence[str] = (),
        *,
        examples: Mapping[str, Sequence[Image]] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Store a classifier; one that became a job answers `{"job": ...}`."""
        plan = self._plans.put_classifier(name, classes, examples, options)
        made: dict[str, Any] = await self._run(plan, False)
        return made

    async def models(self) -> list[dict[str, Any]]:
        """Return what is served."""
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
        """Send the requests of a plan, several at once, and join the answers in order."""
        with Meter(sum(ask.count for ask in plan.asks), progress) as meter:
            answers = await asyncio.gather(*(self._send(ask, meter) for ask in plan.asks))
        return plan.join(list(answers))

    async def _send(self, ask: RequestPlan, meter: Meter) -> httpx.Response:
        async with self._turns:
            answer = await self._try(ask)
        meter.advance(ask.count)
        return answer

    async def _try(self, ask: RequestPlan) -> httpx.Response:
        """Send one request, again where the server or the network invites to."""
        import httpx

        for attempt in range(self._retries + 1):
            is_last = attempt == self._retries
            answer: httpx.Response | None = None
            try:
                answer = await self._http.request(ask.method, ask.path, **ask.options)
            except httpx.TransportError as error:
                if is_last:
                    raise ServerError(f"no answer: {error}", 0, "no_answer", None) from None
            if answer is not None and (is_last or not is_retried(answer)):
                return check(answer)
            await asyncio.sleep(choose_wait(answer, attempt))
        raise AssertionError("the last try returns or raises")


def _headers(api_key: str | None) -> dict[str, str]:
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
