"""Large requests: small ones pass them, they take turns among themselves, and all of them end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from twinlens.serving.call import Call, Priority
from twinlens.serving.clock import Clock
from twinlens.serving.engine.batcher import Batcher, FairLane
from twinlens.serving.engine.decode import DecodePool
from twinlens.serving.engine.large_share import LargeShare
from twinlens.serving.engine.throttle import Throttles
from twinlens.serving.engine.ticket import QueueEntry, Ticket
from twinlens.serving.failures import DeadlineError
from twinlens.serving.settings import Batching, Limits, ServerSettings

COST = 0.002  # seconds of an image, or of a text
IMAGES = 64
SETTINGS = ServerSettings(batching=Batching(image_batch=8, large_seconds=0.05))


def put(lane: FairLane[str, str], items: str, request: int) -> None:
    ticket: Ticket[str] = Ticket(len(items), lambda: None)
    for i, item in enumerate(items):
        lane.put(QueueEntry(ticket, i, item, request=request), 0.0)


def take(lane: FairLane[str, str], most: int = 2) -> str:
    return "".join(entry.item for entry in lane.take(most, 0.0))


def test_large_requests_take_turns_batch_by_batch() -> None:
    lane: FairLane[str, str] = FairLane()
    put(lane, "aaaa", 1)
    put(lane, "bbbb", 2)
    assert [take(lane) for _ in range(4)] == ["aa", "bb", "aa", "bb"]
    assert lane.count == 0


def test_a_later_request_does_not_overtake_those_that_waited() -> None:
    lane: FairLane[str, str] = FairLane()
    put(lane, "aaaaaaaa", 1)
    assert [take(lane), take(lane)] == ["aa", "aa"]
    put(lane, "bbbb", 2)
    assert sorted([take(lane), take(lane)]) == ["aa", "bb"]
    assert sorted([take(lane), take(lane)]) == ["aa", "bb"]


def test_one_batch_at_a_time_runs_while_small_requests_are_in_progress() -> None:
    throttles = Throttles(at_once=1)
    assert throttles.begin(Priority.LARGE, 8, 10.0) == 8
    assert throttles.delay(Priority.LARGE, 10.0) == 0.0
    throttles.enter(Priority.SMALL, 1)
    throttles.enter(Priority.SMALL, -1)
    assert throttles.delay(Priority.LARGE, 10.1) > 0.0  # one is running, a small one was here
    throttles.end(Priority.LARGE, 10.2, 0.2)
    assert throttles.delay(Priority.LARGE, 10.2) == 0.0
    assert throttles.begin(Priority.LARGE, 8, 10.3) == 2
    assert throttles.begin(Priority.LARGE, 8, 12.0) == 8  # no small one for a second


def test_beside_small_requests_a_batch_ends_within_four_milliseconds_or_is_one_item() -> None:
    throttles = Throttles(at_once=1)
    throttles.enter(Priority.SMALL, 1)
    sizes = [throttles.begin(Priority.LARGE, 64, 10.0, each) for each in (1e-5, 1e-3, 2e-3, 0.3)]
    assert sizes == [16, 4, 2, 1]
    throttles.enter(Priority.SMALL, -1)
    assert throttles.begin(Priority.LARGE, 64, 12.0, 0.3) == 64


def test_work_on_the_event_loop_pauses_four_times_as_long_while_a_small_request_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    throttles, rests = Throttles(at_once=1), []

    async def note(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    asyncio.run(throttles.give_way(Priority.LARGE, 0.01))
    throttles.enter(Priority.SMALL, 1)
    asyncio.run(throttles.give_way(Priority.LARGE, 0.01))
    asyncio.run(throttles.give_way(Priority.SMALL, 0.01))
    assert rests == [0.0, 0.04, 0.0]


def test_a_hanging_batch_delays_others_by_a_second_at_most() -> None:
    throttles = Throttles(at_once=1)
    throttles.begin(Priority.LARGE, 8, 10.0)
    throttles.enter(Priority.SMALL, 1)
    assert throttles.delay(Priority.LARGE, 10.5) > 0.0
    assert throttles.delay(Priority.LARGE, 11.5) == 0.0


def _call(rank: float, seconds: float = 30.0) -> Call:
    clock = Clock()
    call = Call(clock, clock.now() + seconds, pixels_left=0, priority=Priority.LARGE)
    call.rank = rank
    return call


def test_large_requests_hold_half_of_a_queue_and_wait_for_it_cheapest_first() -> None:
    batcher: Batcher[str, str] = Batcher(capacity=16, max_batch=4)
    share = LargeShare(batcher)
    order: list[str] = []

    async def ask(name: str, rank: float) -> None:
        async with share.hold(4, _call(rank)):
            order.append(name)
            assert batcher.held <= 8
            await asyncio.sleep(0.01)

    async def run() -> None:
        asking = [ask("first", 1.0), ask("second", 1.0), ask("dear", 9.0), ask("cheap", 2.0)]
        await asyncio.gather(*asking)

    asyncio.run(run())
    assert order == ["first", "second", "cheap", "dear"]
    assert batcher.held == 0


def test_a_request_that_stops_waiting_holds_no_place() -> None:
    batcher: Batcher[str, str] = Batcher(capacity=8, max_batch=4)
    share = LargeShare(batcher)

    async def run() -> None:
        async with share.hold(4, _call(1.0)):
            with pytest.raises(DeadlineError):
                async with share.hold(4, _call(2.0, seconds=0.02)):
                    pass
        async with share.hold(4, _call(3.0)):
            assert batcher.held == 4

    asyncio.run(run())
    assert batcher.held == 0


@pytest.mark.parametrize(("capacity", "sizes"), [(256, [32, 32, 6]), (16, [2] * 35), (4, [1] * 70)])
def test_a_large_request_is_held_in_parts_of_an_eighth_of_the_queue(
    capacity: int, sizes: list[int]
) -> None:
    share = LargeShare(Batcher(capacity=capacity, max_batch=8))
    parts = list(share.split("x" * 70))
    assert [len(part) for part in parts] == sizes


def test_images_of_small_requests_are_decoded_before_those_of_large_ones() -> None:
    order: list[str] = []
    pool = DecodePool(1)
    pool.submit(time.sleep, 0.05)
    for i in range(3):
        pool.submit_as(Priority.LARGE, partial(order.append, f"large {i}"))
    pool.submit(order.append, "small")
    pool.shutdown()
    assert order == ["small", "large 0", "large 1", "large 2"]


def test_a_pool_gives_back_errors_and_cancels_what_waits() -> None:
    pool = DecodePool(1)
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 / 0).result(5)
    pool.submit(time.sleep, 0.05)
    waiting = pool.submit(time.sleep, 0)
    pool.shutdown(cancel_futures=True)
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(print)


@pytest.fixture
def slow(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An encoder whose every item takes two milliseconds; it notes the size of every batch."""

    def slow_down(quick: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def encode(items: Any) -> Any:
            time.sleep(COST * len(items))
            return quick(items)

        return encode

    for name in ("encode_pixels", "encode_tokens"):
        monkeypatch.setattr(encoder, name, slow_down(getattr(encoder, name)))
    return encoder


async def ask_large(http: Any, uri: Any, number: int) -> int:
    classes = [f"class {i} of {number}" for i in range(250)]
    body = {"images": [uri((number, i, 0)) for i in range(IMAGES)], "classes": classes}
    return int((await http.post("/zeroshot", json={**body, "templates": ["{}"]})).status_code)


def test_small_requests_pass_four_large_ones_and_all_are_answered(
    run_server: Callable[..., Any], slow: Any, uri: Callable[..., str]
) -> None:
    """A small request waits for a few items of others, not for the hundreds that came before."""

    async def scenario(http: Any, service: Any) -> None:
        large = [asyncio.ensure_future(ask_large(http, uri, n)) for n in range(4)]
        while sum(slow.batches) < 64:
            await asyncio.sleep(0.005)
        waited: list[int] = []
        while not all(one.done() for one in large):
            before = sum(slow.batches)
            new = {"inputs": [{"text": f"new {before}"}, {"image": uri((before % 256, 1, 1))}]}
            assert (await http.post("/embed", json=new)).status_code == 200
            waited.append(sum(slow.batches) - before - 2)
            await asyncio.sleep(0.02)
        assert len(waited) >= 10  # they were beside the large ones
        assert sorted(waited)[len(waited) // 2] <= 24
        assert max(waited[1:]) <= 80  # the first may meet full batches
        assert await asyncio.gather(*large) == [200] * 4
        assert service.promised_work.seconds == pytest.approx(0.0)

    run_server(scenario, SETTINGS)


def test_large_requests_finish_although_small_ones_never_stop(
    run_server: Callable[..., Any], slow: Any, uri: Callable[..., str], image: Callable[..., bytes]
) -> None:
    async def scenario(http: Any, service: Any) -> None:
        large = asyncio.ensure_future(ask_large(http, uri, 0))

        async def keep_asking() -> None:
            while not large.done():
                await http.post("/embed", content=image(), headers={"content-type": "image/png"})

        await asyncio.gather(*(keep_asking() for _ in range(3)))
        assert await large == 200

    run_server(scenario, SETTINGS)


def test_images_that_cannot_finish_in_time_are_refused_before_the_work(
    run_server: Callable[..., Any], slow: Any, uri: Callable[..., str]
) -> None:
    settings = ServerSettings(limits=Limits(request_seconds=0.4), batching=SETTINGS.batching)

    async def scenario(http: Any, service: Any) -> None:
        for i in range(6):  # until the speed is known
            few = {"images": [uri((i, n, 1)) for n in range(8)]}
            assert (await http.post("/embed", json=few)).status_code == 200
        ran = sum(slow.batches)
        many = {"images": [uri((9, n % 256, n // 256)) for n in range(256)]}
        told = await http.post("/embed", json=many)
        assert (told.status_code, told.json()["error"]["code"]) == (413, "too_costly")
        assert "send fewer in one request" in told.json()["error"]["message"]
        assert sum(slow.batches) == ran

    run_server(scenario, settings)


def test_a_large_request_is_answered_as_a_small_one_would_be(
    run_server: Callable[..., Any], slow: Any, uri: Callable[..., str]
) -> None:
    async def scenario(http: Any, service: Any) -> None:
        colours = [(i, 2 * i, 255 - i) for i in range(70)]
        whole = await http.post("/embed", json={"images": [uri(c) for c in colours]})
        rows = whole.json()["embeddings"]
        for start, end in pairwise(range(0, 71, 7)):
            part = {"images": [uri(c) for c in colours[start:end]]}
            found = (await http.post("/embed", json=part)).json()["embeddings"]
            assert found == [pytest.approx(row, abs=1e-6) for row in rows[start:end]]

    run_server(scenario, SETTINGS)
