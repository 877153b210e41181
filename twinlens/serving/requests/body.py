"""Receiving a body: counted while it streams, refused as soon as it is too large or too slow."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from twinlens.errors import OverloadedError, TooLargeError
from twinlens.serving.call import Call
from twinlens.serving.clock import Clock
from twinlens.serving.failures import ClientGoneError, SlowBodyError
from twinlens.serving.settings import Limits


class BodyReader:
    """Reads bodies within a limit for each and a limit for all that are held at once."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._receiving: dict[asyncio.Task[object], float] = {}  # task -> when it began
        self._late: set[asyncio.Task[object]] = set()
        self.held_bytes = 0

    async def read(self, request: Request, call: Call) -> bytes:
        """Return the whole body. `release` gives its bytes back when the request is over."""
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > self._limits.body_bytes):
            raise self._too_large()
        task = asyncio.current_task()
        assert task is not None
        self._receiving[task] = self._clock.now()
        try:
            return await self._receive(request, call)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            raise SlowBodyError(
                f"the body did not arrive within {self._limits.body_seconds:g} s"
            ) from None
        finally:
            self._late.discard(task)
            del self._receiving[task]

    def release(self, call: Call) -> None:
        """Give back what the request's body held."""
        self.held_bytes -= call.body_bytes
        call.body_bytes = 0

    def expire(self) -> None:
        """End the requests whose bodies take too long.

        Called now and then by the watchdog: a timer for each request would cost more than reading
        its body does.
        """
        limit = self._clock.now() - self._limits.body_seconds
        for task, began in self._receiving.items():
            if began < limit and task not in self._late:
                self._late.add(task)
                task.cancel()

    async def _receive(self, request: Request, call: Call) -> bytes:
        chunks: list[bytes] = []
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError("the client left while it sent the body")
            chunk = message.get("body", b"")
            more = message.get("more_body", False)
            call.body_bytes += len(chunk)
            self.held_bytes += len(chunk)
            if call.body_bytes > self._limits.body_bytes:
                raise self._too_large()
            if self.held_bytes > self._limits.bytes_in_flight:
                raise OverloadedError(
                    f"bodies of {self._limits.bytes_in_flight} bytes are held already"
                )
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"the body is larger than the limit of {self._limits.body_bytes} bytes",
            code="body_too_large",
        )
