"""Receiving a body: counted while it arrives, refused as soon as it is too large or too slow."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from twinlens.errors import OverloadedError, TooLargeError
from twinlens.serving.call import Call
from twinlens.serving.clock import Clock
from twinlens.serving.failures import ClientGoneError, SlowBodyError
from twinlens.serving.requests.fields import is_json
from twinlens.serving.requests.long_strings import GiveWay, parse_apart
from twinlens.serving.settings import Limits

_WINDOW = 5.0  # seconds over which a rate is taken
_LARGE_BODY = 256 * 1024  # bytes; parsing a larger body at once would delay other requests


class FloorRate:
    """Checks, window by window, that bytes arrive at a minimum rate."""

    __slots__ = ("_bytes", "_rate", "_since")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._since = now
        self._bytes = 0

    def is_missed(self, now: float, received: int) -> bool:
        """Return whether too few bytes came in the window that has ended."""
        seconds = now - self._since
        if seconds < _WINDOW:
            return False
        came, self._bytes, self._since = received - self._bytes, received, now
        return came < self._rate * seconds


class BodyReader:
    """Reads bodies within a limit per body and a limit for all bodies in memory."""

    def __init__(self, limits: Limits, clock: Clock, give_way: GiveWay) -> None:
        self._limits = limits
        self._give_way = give_way
        self._clock = clock
        self._receiving: dict[asyncio.Task[object], tuple[float, Call]] = {}  # since when
        self._floors: dict[asyncio.Task[object], FloorRate] = {}  # of slow bodies
        self._late: dict[asyncio.Task[object], str] = {}  # why each is cancelled
        self.held_bytes = 0
        self._share = max(limits.bytes_in_flight // 2, limits.body_bytes)  # of one client
        self._held_by: dict[str, int] = {}  # client -> bytes
        self._turn = asyncio.Lock()  # large bodies are parsed one at a time

    async def read(self, request: Request, call: Call) -> bytes:
        """Return the whole body; call `release` when the request has ended."""
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > self._limits.body_bytes):
            raise self._too_large()
        task = asyncio.current_task()
        assert task is not None
        self._receiving[task] = (self._clock.now(), call)
        try:
            body = await self._receive(request, call)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            raise SlowBodyError(self._late[task]) from None
        finally:
            self._late.pop(task, None)
            self._floors.pop(task, None)
            del self._receiving[task]
        if len(body) > _LARGE_BODY:
            async with self._turn:
                await asyncio.sleep(0)
                if is_json(request.headers.get("content-type", "")):
                    return await parse_apart(body, self._give_way)
        return body

    def release(self, call: Call) -> None:
        """Return the bytes of the request's body to the shared limit."""
        self.held_bytes -= call.body_bytes
        left = self._held_by.pop(call.client, 0) - call.body_bytes
        if left:
            self._held_by[call.client] = left
        call.received_bytes += call.body_bytes
        call.body_bytes = 0

    def expire(self) -> None:
        """Cancel requests whose bodies take too long or arrive too slowly.

        Called regularly by the watchdog: a timer for each request would cost more than reading its
        body.
        """
        now = self._clock.now()
        for task, (began, call) in self._receiving.items():
            reason = "" if task in self._late else self._find_delay(task, began, call, now)
            if reason:
                self._late[task] = reason
                task.cancel()

    def _find_delay(self, task: asyncio.Task[object], began: float, call: Call, now: float) -> str:
        """Return why a body is too slow, or nothing."""
        if now - began > self._limits.body_seconds:
            return f"the body did not arrive within {self._limits.body_seconds:g} s"
        floor = self._floors.setdefault(task, FloorRate(self._limits.body_rate, began))
        if floor.is_missed(now, call.body_bytes):
            return f"the body arrived at less than {self._limits.body_rate:g} bytes a second"
        return ""

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
            held_by_client = self._held_by.get(call.client, 0) + len(chunk)
            self._held_by[call.client] = held_by_client
            if call.body_bytes > self._limits.body_bytes:
                raise self._too_large()
            if self.held_bytes > self._limits.bytes_in_flight:
                raise OverloadedError(
                    f"request bodies already hold {self._limits.bytes_in_flight} bytes, the limit"
                )
            if more and held_by_client > self._share:
                raise OverloadedError(
                    f"this client's request bodies already hold {self._share} bytes, its share"
                )
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"the body is larger than the limit of {self._limits.body_bytes} bytes",
            code="body_too_large",
        )
