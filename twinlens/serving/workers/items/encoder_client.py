"""An encoder process's side of a connection: one model, asked for by one HTTP process.

What must stay true: an item's pixels are read only while its connection is open, and every item is
answered or dropped, once, as long as it is.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast

from twinlens.bundle.arrays import Row
from twinlens.serving.call import Priority
from twinlens.serving.engine.throttle import Throttles
from twinlens.serving.workers.items.frames import (
    IMAGE,
    FrameKind,
    FrameReader,
    ItemRecord,
    Ran,
    read_records,
    write_dropped,
    write_failure,
    write_frame,
    write_rows,
)
from twinlens.serving.workers.items.link import DEATHS_ALONE
from twinlens.serving.workers.items.places import SharedPlaces
from twinlens.serving.workers.items.shared_items import SharedEntry, SharedItem, SharedTicket


class ClientModel(Protocol):
    """The opened model that a connection is for."""

    throttles: Throttles
    clients: set[EncoderClient]

    def put(self, tower: int, entries: Sequence[SharedEntry], priority: Priority) -> None:
        """Queue items for a tower."""
        ...

    def next_lone_bucket(self) -> int:
        """Return a bucket that no other item is in."""
        ...

    def leave(self, client: EncoderClient) -> None:
        """Forget a connection that has ended."""
        ...


class EncoderClient(asyncio.Protocol):
    """One HTTP process that uses one model."""

    def __init__(self, model: ClientModel, places: SharedPlaces) -> None:
        self._model = model
        self._places = places
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._answered: list[tuple[SharedTicket, Row | Exception]] = []
        self._dropped: list[SharedTicket] = []
        self._lock = threading.Lock()
        self._is_gone = False
        self._held: dict[int, int] = {}  # by priority

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Welcome the process."""
        self._transport = cast(asyncio.Transport, transport)  # not a subclass in uvloop
        self._model.clients.add(self)
        self._transport.write(write_frame(FrameKind.WELCOME))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what it waited for."""
        self._is_gone = True
        for priority, count in self._held.items():
            self._model.throttles.enter(Priority(priority), -count)
        self._model.leave(self)

    def data_received(self, data: bytes) -> None:
        """Queue items."""
        for kind, payload in self._reader.feed(data):
            if kind is FrameKind.ITEMS:
                self._queue(read_records(payload))

    def _queue(self, records: Iterable[ItemRecord]) -> None:
        """Put items into the queues of their towers, those of one kind together."""
        groups: dict[tuple[int, int], list[SharedEntry]] = {}
        for record in records:
            groups.setdefault((record.tower, record.priority), []).append(self._read(record))
        for (tower, priority), entries in groups.items():
            self._count(priority, len(entries))
            self._model.put(tower, entries, Priority(priority))

    def _read(self, record: ItemRecord) -> SharedEntry:
        """Return an item for the queue; one that ended encoders gets a bucket of its own."""
        place, bucket = record.place, record.bucket
        is_image = record.tower == IMAGE
        content: Any = self._places.pixels[place] if is_image else record.tokens
        item = SharedItem(content, place, self._places.taken, record.deaths)
        if record.deaths >= DEATHS_ALONE:
            bucket = self._model.next_lone_bucket()
        ticket = SharedTicket(self, item, record.deadline, record.priority)
        return SharedEntry(ticket, 0, item, bucket, record.request)

    def _count(self, priority: int, count: int) -> None:
        self._held[priority] = self._held.get(priority, 0) + count
        self._model.throttles.enter(Priority(priority), count)

    def is_unwanted(self, place: int) -> bool:
        """Whether nobody waits for the item of a place."""
        return self._is_gone or self._places.unwanted[place] == 1

    def drop(self, ticket: SharedTicket) -> None:
        """Say that an item was not run since nobody waits for it."""
        with self._lock:
            self._dropped.append(ticket)
            is_first = len(self._dropped) == 1 and not self._answered
        if is_first:
            self._loop.call_soon_threadsafe(self._flush)

    def answer(self, ticket: SharedTicket, answer: Row | Exception) -> None:
        """Send an answer, with the others of its batch; from any thread."""
        with self._lock:
            self._answered.append((ticket, answer))
            is_first = len(self._answered) == 1 and not self._dropped
        if is_first:
            self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        """Write what is answered, the rows of one batch in one frame."""
        with self._lock:
            answered, self._answered = self._answered, []
            dropped, self._dropped = self._dropped, []
        if self._is_gone or self._transport is None:
            return
        batches: dict[Ran, tuple[list[int], list[Row]]] = {}
        for ticket, answer in answered:
            item = ticket.item
            self._count(ticket.priority, -1)
            if isinstance(answer, Exception):
                self._transport.write(write_failure(item.place, answer))
                continue
            ran = Ran(ticket.started, ticket.ended, item.batch, item.units)
            places, rows = batches.setdefault(ran, ([], []))
            places.append(item.place)
            rows.append(answer)
        for ran, (places, rows) in batches.items():
            self._transport.write(write_rows(ran, places, rows))
        if dropped:
            self._transport.write(write_dropped([ticket.item.place for ticket in dropped]))
            for ticket in dropped:
                self._count(ticket.priority, -1)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()
