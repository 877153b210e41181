"""Receiving a body: counted while it streams, refused as soon as it is too large or too slow."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from twinlens.errors import OverloadedError, TooLargeError
from twinlens.serving.failures import ClientGoneError, SlowBodyError
from twinlens.serving.settings import Limits


class BodyReader:
    """Reads bodies within a limit for each and a limit for all that are held at once."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held_bytes = 0

    async def read(self, request: Request) -> bytes:
        """Return the whole body. `release` gives its bytes back when the request is over."""
        limit = self._limits.body_bytes
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
            raise self._too_large()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                return await self._receive(request, limit)
        except TimeoutError:
            raise SlowBodyError(
                f"the body did not arrive within {self._limits.body_seconds:g} s"
            ) from None
        except ClientDisconnect:
            raise ClientGoneError("the client left while it sent the body") from None

    def release(self, request: Request) -> None:
        """Give back what the request's body held."""
        self.held_bytes -= getattr(request.state, "body_bytes", 0)
        request.state.body_bytes = 0

    async def _receive(self, request: Request, limit: int) -> bytes:
        chunks: list[bytes] = []
        request.state.body_bytes = 0
        async for chunk in request.stream():
            request.state.body_bytes += len(chunk)
            self.held_bytes += len(chunk)
            if request.state.body_bytes > limit:
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
