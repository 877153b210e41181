"""Items on their way to an encoder: sent together, answered once, recovered from one that ends."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from twinlens.serving.call import Priority
from twinlens.serving.engine.ticket import QueueEntry, Ticket
from twinlens.serving.failures import EncodeError, UnavailableError
from twinlens.serving.workers.items import link as link_module
from twinlens.serving.workers.items.frames import (
    IMAGE,
    FrameKind,
    FrameReader,
    ItemRecord,
    Ran,
    read_records,
    write_frame,
    write_rows,
)
from twinlens.serving.workers.items.link import EncoderLink
from twinlens.serving.workers.items.places import PlaceSizes, SharedPlaces

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory files are Linux's")
SIZES = PlaceSizes(images=4, texts=0, height=2, width=2)
WIDTH = 3


class FakeEncoder:
    """Accepts the link's connection and notes its messages."""

    def __init__(self, address: str, first: FrameKind) -> None:
        self.messages: list[list[ItemRecord]] = []
        self.hello: list[Any] = []
        self._first = first
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen()
        self._listener.setblocking(False)
        self._end: socket.socket | None = None
        self._reader = FrameReader()
        self.places: SharedPlaces | None = None

    async def greet(self) -> None:
        loop = asyncio.get_running_loop()
        self._end, _ = await loop.sock_accept(self._listener)
        self._end.setblocking(True)
        hello, descriptors, _, _ = socket.recv_fds(self._end, 4096, 1)
        self.hello = orjson.loads(hello)
        self.places = SharedPlaces(descriptors[0], SIZES)
        os.close(descriptors[0])
        self._end.setblocking(False)
        await loop.sock_sendall(self._end, write_frame(self._first))

    async def receive(self, items: int) -> None:
        """Read messages until so many items have come."""
        assert self._end is not None
        while sum(map(len, self.messages)) < items:
            data = await asyncio.get_running_loop().sock_recv(self._end, 1 << 16)
            assert data, "the link closed the connection"
            for kind, payload in self._reader.feed(data):
                assert kind is FrameKind.ITEMS
                self.messages.append(list(read_records(payload)))

    async def answer(self, places: list[int]) -> None:
        assert self._end is not None
        rows = [np.full(WIDTH, place, np.float32) for place in places]
        frame = write_rows(Ran(1.0, 2.0, len(places), len(places)), places, rows)
        await asyncio.get_running_loop().sock_sendall(self._end, frame)

    def die(self) -> None:
        assert self._end is not None
        self._end.close()
        self._reader = FrameReader()
        self.messages.clear()

    def close(self) -> None:
        if self._end is not None:
            self._end.close()
        self._listener.close()


def make_entry(value: int) -> QueueEntry[Any, Any]:
    pixels = np.full((2, 2, 3), value, np.uint8)
    return QueueEntry(Ticket(1, lambda: None), 0, pixels)


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def run(
    tmp_path: Path,
    scenario: Callable[[EncoderLink, FakeEncoder], Awaitable[None]],
    first: FrameKind = FrameKind.WELCOME,
) -> None:
    async def main() -> None:
        encoder = FakeEncoder(str(tmp_path / "encoder"), first)
        link = EncoderLink("key", WIDTH, SIZES, [str(tmp_path / "encoder")])
        await encoder.greet()
        try:
            async with asyncio.timeout(30):
                await scenario(link, encoder)
        finally:
            link.close()
            await asyncio.sleep(0.01)  # the end of its connection is noticed
            encoder.close()

    asyncio.run(main())


def test_items_of_one_turn_of_the_loop_go_in_one_message_and_come_back_by_place(
    tmp_path: Path,
) -> None:
    async def scenario(link: EncoderLink, encoder: FakeEncoder) -> None:
        await wait_until(lambda: link.is_up)
        entries = [make_entry(value) for value in (7, 8, 9)]
        for entry in entries:
            link.put(IMAGE, [entry], Priority.SMALL)
        await encoder.receive(3)
        (message,) = encoder.messages
        assert encoder.places is not None
        assert [int(encoder.places.pixels[r.place].max()) for r in message] == [7, 8, 9]
        await encoder.answer([record.place for record in message])
        await wait_until(lambda: all(e.ticket.answers[0] is not None for e in entries))
        rows: list[Any] = [entry.ticket.answers[0] for entry in entries]
        assert [int(row[0]) for row in rows] == [record.place for record in message]

    run(tmp_path, scenario)


def test_a_turn_that_takes_long_sends_what_has_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "_HELD_SECONDS", 0.0)

    async def scenario(link: EncoderLink, encoder: FakeEncoder) -> None:
        await wait_until(lambda: link.is_up)
        for value in (1, 2, 3):  # the first waits, the second sends both
            link.put(IMAGE, [make_entry(value)], Priority.SMALL)
        await encoder.receive(3)
        assert [len(message) for message in encoder.messages] == [2, 1]

    run(tmp_path, scenario)


def test_more_items_than_places_wait_for_a_place(tmp_path: Path) -> None:
    async def scenario(link: EncoderLink, encoder: FakeEncoder) -> None:
        await wait_until(lambda: link.is_up)
        entries = [make_entry(value) for value in range(6)]
        link.put(IMAGE, entries, Priority.SMALL)
        await encoder.receive(4)
        await encoder.answer([record.place for record in encoder.messages[0]])
        await encoder.receive(6)
        await encoder.answer([record.place for record in encoder.messages[1]])
        await wait_until(lambda: all(e.ticket.answers[0] is not None for e in entries))

    run(tmp_path, scenario)


def test_an_item_that_three_encoders_ended_with_is_refused_and_its_neighbour_is_not(
    tmp_path: Path,
) -> None:
    async def scenario(link: EncoderLink, encoder: FakeEncoder) -> None:
        await wait_until(lambda: link.is_up)
        guilty, innocent = make_entry(1), make_entry(2)
        link.put(IMAGE, [guilty, innocent], Priority.SMALL)
        for deaths in range(3):
            await encoder.receive(2)
            (records,) = encoder.messages
            assert {r.deaths for r in records if r.place == records[0].place} <= {0, deaths}
            assert encoder.places is not None
            place = next(r.place for r in records if encoder.places.pixels[r.place].max() == 1)
            encoder.places.taken[place] = 1
            encoder.die()
            await encoder.greet()
        await encoder.receive(1)
        ((left,),) = encoder.messages
        assert isinstance(guilty.ticket.answers[0], EncodeError)
        await encoder.answer([left.place])
        await wait_until(lambda: innocent.ticket.answers[0] is not None)
        assert not isinstance(innocent.ticket.answers[0], Exception)

    run(tmp_path, scenario)


def test_items_of_a_model_that_no_encoder_has_are_refused(tmp_path: Path) -> None:
    async def scenario(link: EncoderLink, encoder: FakeEncoder) -> None:
        entry = make_entry(1)
        link.put(IMAGE, [entry], Priority.SMALL)
        await wait_until(lambda: entry.ticket.answers[0] is not None)
        assert isinstance(entry.ticket.answers[0], UnavailableError)
        assert not link.is_up

    run(tmp_path, scenario, FrameKind.REFUSED)
