"""A process's connection to the keeper: questions to other processes, answers, and messages.

What must stay true: every question is answered or fails, even if the process asked has ended; a
process is told at once when the keeper has ended.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, cast

import orjson

from twinlens.errors import TwinlensError
from twinlens.serving.failures import UnavailableError
from twinlens.serving.workers.items.frames import (
    FrameKind,
    FrameReader,
    build_error,
    describe_error,
    write_frame,
)

log = logging.getLogger("twinlens.serving")

Handler = Callable[[Any], Awaitable[Any]]


class Control(asyncio.Protocol):
    """The connection of one process to the keeper."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self._handlers: dict[str, Handler] = {}
        self._asked: dict[int, asyncio.Future[list[Any]]] = {}
        self._numbers = count(1)
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    async def open(self, end: socket.socket) -> None:
        """Listen from now on."""
        end.setblocking(False)
        await self._loop.create_connection(lambda: self, sock=end)

    def handle(self, what: str, handler: Handler) -> None:
        """Set the function that answers questions of a kind."""
        self._handlers[what] = handler

    def tell(self, what: str, body: Any = None) -> None:
        """Tell the keeper something."""
        self._write({"what": what, "body": body})

    async def ask(self, to: str, what: str, body: Any = None) -> list[Any]:
        """Return the answers of every process of a kind; raise the first error."""
        number = next(self._numbers)
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._asked[number] = future
        self._write({"id": number, "to": to, "what": what, "body": body})
        return await future

    def ask_from_thread(self, to: str, what: str, body: Any = None) -> list[Any]:
        """Do the same from a thread that is not the event loop's."""
        return asyncio.run_coroutine_threadsafe(self.ask(to, what, body), self._loop).result()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready to write."""
        self._transport = cast(asyncio.Transport, transport)  # not a subclass in uvloop

    def data_received(self, data: bytes) -> None:
        """Take questions and answers."""
        for _, payload in self._reader.feed(data):
            message = orjson.loads(payload)
            if "re" in message:
                self._take_answer(message)
            else:
                task = self._loop.create_task(self._answer(message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what was asked."""
        self._transport = None
        for future in self._asked.values():
            if not future.done():
                future.set_exception(UnavailableError("the server is shutting down"))
        self._on_lost()

    def _take_answer(self, message: dict[str, Any]) -> None:
        future = self._asked.pop(message["re"], None)
        if future is None or future.done():
            return
        if message["errors"]:
            future.set_exception(build_error(message["errors"][0]))
        else:
            future.set_result(message["bodies"])

    async def _answer(self, message: dict[str, Any]) -> None:
        handler = self._handlers.get(message["what"])
        answer: dict[str, Any] = {"re": message.get("id")}
        try:
            answer["body"] = None if handler is None else await handler(message["body"])
        except TwinlensError as error:
            answer["error"] = describe_error(error)
        except Exception as error:
            log.exception("%s failed", message["what"])
            answer["error"] = describe_error(error)
        if message.get("id") is not None:
            self._write(answer)

    def _write(self, message: dict[str, Any]) -> None:
        if self._transport is not None:
            self._transport.write(write_frame(FrameKind.MESSAGE, orjson.dumps(message)))
