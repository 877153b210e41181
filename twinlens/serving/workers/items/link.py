"""An HTTP process's side of a model: its items on their way to the encoders, and their answers.

An item has a place in the shared memory until it is answered. If an encoder ends, whatever it had
not answered is handed to the next one; an item that was being run counts that death. What must stay
true: each item is answered once; one that two encoders ended with is run alone, and is refused if
that one ends too.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twinlens.serving.call import Priority
from twinlens.serving.engine.ticket import QueueEntry
from twinlens.serving.failures import EncodeError, UnavailableError
from twinlens.serving.workers.items.encoder_connection import EncoderConnection, Parcel
from twinlens.serving.workers.items.frames import IMAGE, ItemRecord, Ran, write_record
from twinlens.serving.workers.items.places import PlaceSizes, SharedPlaces, create_memory

log = logging.getLogger("twinlens.serving")

DEATHS_ALONE = 2  # encoders that ended with an item before it is run alone
_DEATHS_REFUSED = 3
_REQUEST_BITS = 48  # of a request's number; above them stands its process
_HELD_SECONDS = 0.005  # for which items wait for others of the same turn of the event loop


class EncoderLink:
    """The places of one model in this process, and its connections to the encoders."""

    def __init__(
        self,
        key: str,
        width: int,
        sizes: PlaceSizes,
        addresses: Sequence[str],
        *,
        process: int = 0,
    ) -> None:
        self.key = key
        self.width = width  # of a row
        self.sizes = sizes
        self.observers: dict[int, Callable[[Ran], None]] = {}  # by tower
        self.descriptor = create_memory(sizes)
        self.places = SharedPlaces(self.descriptor, sizes)
        self._process = process << _REQUEST_BITS
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._parcels: dict[int, Parcel] = {}  # by place
        self._free = (
            list(range(sizes.images, sizes.count)),
            list(range(sizes.images)),
        )
        self._waiting: tuple[deque[Parcel], deque[Parcel]] = (deque(), deque())
        self._unsent_since = math.inf
        self._is_closed = False
        self._is_refused = False  # no encoder will ever serve the model again
        self._gone = UnavailableError("the encoder no longer has this model; try again")
        self._connections = [EncoderConnection(self, address) for address in addresses]
        for connection in self._connections:
            connection.connect()

    @property
    def is_up(self) -> bool:
        """Whether every encoder has said that it serves the model."""
        return all(connection.is_welcome for connection in self._connections)

    def put(self, tower: int, entries: Iterable[QueueEntry[Any, Any]], priority: Priority) -> None:
        """Hand items to an encoder; from any thread."""
        parcels = [Parcel(entry, tower, int(priority)) for entry in entries]
        if threading.get_ident() == self._thread:
            self._put(parcels)
        else:
            self._loop.call_soon_threadsafe(self._put, parcels)

    def _put(self, parcels: Iterable[Parcel]) -> None:
        for parcel in parcels:
            if self._is_refused:
                parcel.entry.ticket.resolve(parcel.entry.index, self._gone)
                continue
            free = self._free[parcel.tower == IMAGE]
            if not free:
                self._waiting[parcel.tower == IMAGE].append(parcel)
                continue
            self._occupy(free.pop(), parcel)
        self._flush_soon()

    def _occupy(self, place: int, parcel: Parcel) -> None:
        """Write an item into its place, and send it with the next flush."""
        self._parcels[place] = parcel
        self.places.taken[place] = self.places.unwanted[place] = 0
        if parcel.tower == IMAGE:
            self.places.pixels[place] = parcel.entry.item
            parcel.entry.item = None  # its memory is not needed twice
        self._send(place, parcel)

    def _send(self, place: int, parcel: Parcel) -> None:
        """Give an item to the encoder with the fewest; without one it waits in its place."""
        up = [connection for connection in self._connections if connection.is_welcome]
        if not up:
            return
        chosen = min(up, key=lambda one: one.count)
        entry = parcel.entry
        tokens = () if parcel.tower == IMAGE else entry.item
        record = ItemRecord(
            place,
            parcel.tower,
            parcel.priority,
            parcel.deaths,
            entry.bucket,
            tokens,
            self._process | entry.request,
            entry.ticket.deadline,
        )
        parcel.connection = chosen
        chosen.count += 1
        chosen.records.append(write_record(record))

    def _flush_soon(self) -> None:
        """Send items together with others of the same turn of the event loop, but within 5 ms.

        Each message wakes the encoder, which costs as much as some of the items in it.
        """
        now = self._loop.time()
        if self._unsent_since == math.inf:
            self._unsent_since = now
            self._loop.call_soon(self.flush)
        elif now - self._unsent_since > _HELD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send what was put."""
        self._unsent_since = math.inf
        for connection in self._connections:
            connection.flush()

    def settle(self, place: int, answer: Any) -> None:
        """Answer the item of a place, and use the place again."""
        parcel = self._parcels.pop(place, None)
        if parcel is None:
            return
        if parcel.connection is not None:
            parcel.connection.count -= 1
        if answer is not None:
            parcel.entry.ticket.resolve(parcel.entry.index, answer)
        is_image = parcel.tower == IMAGE
        waiting = self._waiting[is_image]
        while waiting:
            following = waiting.popleft()
            if not following.entry.ticket.abandoned:
                self._occupy(place, following)
                self._flush_soon()
                return
        self._free[is_image].append(place)

    def find_parcel(self, place: int) -> Parcel | None:
        """Return the item of a place."""
        return self._parcels.get(place)

    def mark_unwanted(self) -> None:
        """Tell encoders which items nobody waits for any more."""
        for place, parcel in list(self._parcels.items()):
            if parcel.entry.ticket.abandoned:
                self.places.unwanted[place] = 1
                if parcel.connection is None:  # no encoder knows of it
                    self.settle(place, None)

    def send_waiting(self) -> None:
        """Send what waits for an encoder."""
        for place, parcel in list(self._parcels.items()):
            if parcel.connection is None:
                self._send(place, parcel)
        self.flush()

    def recover(self, lost: EncoderConnection) -> None:
        """Send the items of an encoder that has ended to another one, or to its successor."""
        for place, parcel in list(self._parcels.items()):
            if parcel.connection is not lost:
                continue
            lost.count -= 1
            parcel.connection = None
            parcel.deaths += self.places.taken[place]
            self.places.taken[place] = 0
            if parcel.entry.ticket.abandoned:
                self.settle(place, None)
            elif parcel.deaths >= _DEATHS_REFUSED:
                log.error("%s: an item ended the encoder process; it is refused", self.key)
                self.settle(place, EncodeError("the encoder failed on this item"))
        self.send_waiting()

    def refuse(self) -> None:
        """Answer what is under way if no encoder serves the model any more."""
        self._is_refused = all(connection.is_refused for connection in self._connections)
        if self._is_refused:
            for place in list(self._parcels):
                self.settle(place, self._gone)

    @property
    def is_closed(self) -> bool:
        """Whether the model is no longer served here."""
        return self._is_closed

    def close(self) -> None:
        """End the connections; from any thread."""
        if threading.get_ident() == self._thread:
            self._close()
        else:
            self._loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            for connection in self._connections:
                connection.close()
            os.close(self.descriptor)
