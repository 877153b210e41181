"""Items of other processes in the encoder's queues."""

from __future__ import annotations

import threading
import time
from typing import Any, Literal

import numpy as np
import pytest

from twinlens.errors import DeviceError
from twinlens.serving.workers.items import shared_items
from twinlens.serving.workers.items.link import DEATHS_ALONE
from twinlens.serving.workers.items.shared_items import (
    SharedEntry,
    SharedItem,
    SharedTicket,
    Solitude,
    wrap_run,
)


class FakeClient:
    """The process that items came from."""

    def __init__(self) -> None:
        self.unwanted: set[int] = set()
        self.dropped: list[int] = []
        self.answers: dict[int, Any] = {}

    def is_unwanted(self, place: int) -> bool:
        return place in self.unwanted

    def drop(self, ticket: SharedTicket) -> None:
        self.dropped.append(ticket.item.place)

    def answer(self, ticket: SharedTicket, answer: Any) -> None:
        self.answers[ticket.item.place] = answer


def test_an_item_is_marked_while_it_runs_and_knows_its_batch() -> None:
    taken = bytearray(4)
    items = [SharedItem([1, 2, 3], 1, taken), SharedItem([1], 3, taken)]

    def run(contents: Any) -> Any:
        assert bytes(taken) == b"\x00\x01\x00\x01"
        return [np.zeros(2, np.float32)] * len(contents)

    assert len(wrap_run(run, Solitude())(items)) == 2
    assert not any(taken)
    assert [(item.batch, item.units) for item in items] == [(2, 6), (2, 6)]


def test_a_failed_item_is_no_longer_marked() -> None:
    taken = bytearray(1)

    def run(_: Any) -> Any:
        raise ValueError("a bad item")

    with pytest.raises(ValueError, match="bad"):
        wrap_run(run, Solitude())([SharedItem([1], 0, taken)])
    assert not any(taken)


@pytest.mark.parametrize(("kind", "ends"), [("lost", True), ("full", False)])
def test_a_lost_device_ends_the_process_with_its_items_marked(
    monkeypatch: pytest.MonkeyPatch, kind: Literal["full", "lost"], ends: bool
) -> None:
    taken = bytearray(1)
    ended: list[bytes] = []
    monkeypatch.setattr(shared_items, "end_process", lambda error: ended.append(bytes(taken)))

    def run(_: Any) -> Any:
        raise DeviceError("the card is gone", kind=kind)

    with pytest.raises(DeviceError):
        wrap_run(run, Solitude())([SharedItem([1], 0, taken)])
    assert ended == ([b"\x01"] if ends else [])


def test_an_item_that_ended_encoders_runs_while_nothing_else_does() -> None:
    solitude, running, most = Solitude(), [0], [0]
    lock = threading.Lock()

    def run(contents: Any) -> Any:
        with lock:
            running[0] += 1
            if contents[0] == ["alone"]:
                most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            if contents[0] == ["alone"]:
                most[0] = max(most[0], running[0])
            running[0] -= 1
        return [np.zeros(1, np.float32)]

    shared = wrap_run(run, solitude)
    others = [SharedItem(["with others"], 0, bytearray(1)) for _ in range(8)]
    alone = SharedItem(["alone"], 0, bytearray(1), DEATHS_ALONE)
    threads = [threading.Thread(target=shared, args=([item],)) for item in [*others, alone]]
    for thread in threads[:4] + threads[-1:] + threads[4:-1]:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1


def test_an_item_that_nobody_waits_for_is_dropped_and_its_owner_told() -> None:
    client = FakeClient()
    entries = []
    for place in range(2):
        item = SharedItem([1], place, bytearray(2))
        ticket = SharedTicket(client, item, deadline=10.0, priority=0)
        entries.append(SharedEntry(ticket, 0, item))
    client.unwanted.add(1)
    assert [entry.is_wanted(5.0) for entry in entries] == [True, False]
    assert client.dropped == [1]
    assert not entries[0].is_wanted(11.0)
    assert "deadline" in str(client.answers[0])
