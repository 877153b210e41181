"""A connection of one model to one encoder process, made again whenever that one was replaced.

What must stay true: an answer is given to the item that it belongs to, or to none.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import orjson

from twinlens.serving.engine.ticket import QueueEntry
from twinlens.serving.workers.items.frames import (
    FrameKind,
    FrameReader,
    Ran,
    read_dropped,
    read_failure,
    read_rows,
    write_frame,
)
from twinlens.serving.workers.items.places import PlaceSizes

_RETRY_SECONDS = 0.05


@dataclass
class Parcel:
    """One item under way."""

    entry: QueueEntry[Any, Any]
    tower: int
    priority: int
    deaths: int = 0
    connection: EncoderConnection | None = None


class PlacesOwner(Protocol):
    """The owner of the items that a connection carries."""

    key: str
    width: int  # of a row
    sizes: PlaceSizes
    descriptor: int
    observers: dict[int, Callable[[Ran], None]]

    @property
    def is_closed(self) -> bool:
        """Whether the model is no longer served here."""
        ...

    def find_parcel(self, place: int) -> Parcel | None:
        """Return the item of a place."""
        ...

    def settle(self, place: int, answer: Any) -> None:
        """Answer the item of a place."""
        ...

    def refuse(self) -> None:
        """Answer what is under way if no encoder serves the model any more."""
        ...

    def send_waiting(self) -> None:
        """Send what waits for an encoder."""
        ...

    def recover(self, lost: EncoderConnection) -> None:
        """Send the items of an encoder that has ended to another one."""
        ...


class EncoderConnection(asyncio.Protocol):
    """A connection of one model to one encoder, made again whenever that one was replaced."""

    def __init__(self, link: PlacesOwner, address: str) -> None:
        self._link = link
        self._address = address
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self.is_welcome = False
        self.is_refused = False
        self.count = 0  # items that this encoder has
        self.records: list[bytes] = []  # not sent yet

    def connect(self) -> None:
        """Ask the encoder process, or its successor, for the model."""
        if self._link.is_closed or self.is_refused:
            return
        end = socket.socket(socket.AF_UNIX)
        end.setblocking(False)
        link = self._link
        sizes = link.sizes
        hello = [link.key, sizes.images, sizes.texts, sizes.height, sizes.width]
        try:
            end.connect(self._address)
            socket.send_fds(end, [orjson.dumps(hello)], [link.descriptor])
        except OSError:  # its queue is full, or it is ending
            end.close()
            self._loop.call_later(_RETRY_SECONDS, self.connect)
            return
        self._reader = FrameReader()
        task = self._loop.create_task(self._loop.create_connection(lambda: self, sock=end))
        task.add_done_callback(self._note_connected)

    def _note_connected(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._loop.call_later(_RETRY_SECONDS, self.connect)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the welcome."""
        self._transport = cast(asyncio.Transport, transport)  # not a subclass in uvloop

    def data_received(self, data: bytes) -> None:
        """Take answers."""
        for kind, payload in self._reader.feed(data):
            if kind is FrameKind.ROWS:
                self._take_rows(payload)
            elif kind is FrameKind.FAILURE:
                self._link.settle(*read_failure(payload))
            elif kind is FrameKind.DROPPED:
                for place in read_dropped(payload):
                    self._link.settle(place, None)
            elif kind is FrameKind.WELCOME:
                self.is_welcome = True
                self._link.send_waiting()
            elif kind is FrameKind.REFUSED:
                self.is_refused = True
                self._link.refuse()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the owner recover the encoder's items, and connect to its successor."""
        self.is_welcome = False
        self._transport = None
        self.records.clear()
        self._link.recover(self)
        self._loop.call_later(_RETRY_SECONDS, self.connect)

    def flush(self) -> None:
        """Send the collected records."""
        if self.records and self._transport is not None:
            self._transport.write(write_frame(FrameKind.ITEMS, b"".join(self.records)))
            self.records.clear()

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.close()

    def _take_rows(self, payload: bytes) -> None:
        link = self._link
        found = read_rows(payload, link.width)
        tower = -1
        for place, row in zip(found.places, found.rows, strict=True):
            parcel = link.find_parcel(place)
            if parcel is None:
                continue
            ticket = parcel.entry.ticket
            ticket.started = min(ticket.started, found.ran.started)
            ticket.ended = max(ticket.ended, found.ran.ended)
            tower = parcel.tower
            link.settle(place, row)
        if tower in link.observers:
            link.observers[tower](found.ran)
