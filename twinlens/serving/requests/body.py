"""Receiving a body: counted while it arrives, refused as soon as it is too large or too slow."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from twinlens.errors import OverloadedError, TooLargeError
from twinlens.serving.call import Call
from twinlens.serving.clock import Clock
from twinlens.serving.failures import ClientGoneError, SlowBodyError
from twinlens.serving.settings import Limits


class BodyReader:
    """Reads bodies within a limit per body and a limit for all bodies in memory."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._receiving: dict[asyncio.Task[object], float] = {}  # task -> when it began
        self._late: set[asyncio.Task[object]] = set()
        self.held_bytes = 0

    async def read(self, request: Request, call: Call) -> bytes:
        """Return the whole body; call `release` when the request has ended."""
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
        """Return the bytes of the request's body to the shared limit."""
        self.held_bytes -= call.body_bytes
        call.body_bytes = 0

    def expire(self) -> None:
        """Cancel requests whose bodies take too long.

        Called regularly by the watchdog: a timer for each request would cost more than reading its
        body.
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
                raise ClientGoneError("the client disconnected while sending the body")
            chunk = message.get("body", b"")
            more = message.get("more_body", False)
            call.body_bytes += len(chunk)
            self.held_bytes += len(chunk)
            if call.body_bytes > self._limits.body_bytes:
                raise self._too_large()
            if self.held_bytes > self._limits.bytes_in_flight:
                raise OverloadedError(
                    f"request bodies already hold {self._limits.bytes_in_flight} bytes, the limit"
                )
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"the body is larger than the limit of {self._limits.body_bytes} bytes",
            code="body_too_large",
        )
