"""The batcher: order, buckets, lanes, bounds and deadlines, with a clock that the test sets."""

from __future__ import annotations

import threading

import pytest

from twinlens.errors import OverloadedError
from twinlens.serving.call import Priority
from twinlens.serving.clock import Clock
from twinlens.serving.engine.batcher import Batcher, choose_bucket
from twinlens.serving.engine.throttle import Throttles
from twinlens.serving.engine.ticket import QueueEntry, Ticket
from twinlens.serving.engine.window import LatencyWindow
from twinlens.serving.failures import DeadlineError


class HandClock(Clock):
    """A clock that the test sets; waiting advances it."""

    def __init__(self) -> None:
        self.time = 100.0
        self.waits: list[float | None] = []

    def now(self) -> float:
        return self.time

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        self.waits.append(seconds)
        assert seconds is not None, "the batcher would wait forever"
        self.time += seconds


def _ignore() -> None: ...


def make(**options: object) -> tuple[Batcher[str, str], HandClock]:
    clock = HandClock()
    settings: dict[str, object] = {"capacity": 100, "max_batch": 4, **options}
    return Batcher(clock=clock, **settings), clock  # type: ignore[arg-type]


def put(
    batcher: Batcher[str, str], items: str, *, bucket: int = 0, **options: object
) -> Ticket[str]:
    ticket: Ticket[str] = Ticket(len(items), _ignore, deadline=options.pop("deadline", 1e9))  # type: ignore[arg-type]
    batcher.put(
        [QueueEntry(ticket, i, item, bucket) for i, item in enumerate(items)],
        **options,  # type: ignore[arg-type]
    )
    return ticket


def take_batch(batcher: Batcher[str, str]) -> str:
    return "".join(entry.item for entry in batcher.take())


def test_queued_items_are_taken_at_once_and_in_order() -> None:
    batcher, clock = make()
    put(batcher, "ab")
    put(batcher, "c")
    assert take_batch(batcher) == "abc"
    assert clock.waits == []


def test_a_batch_never_exceeds_its_cap() -> None:
    batcher, _ = make()
    put(batcher, "abcdef")
    assert [take_batch(batcher), take_batch(batcher)] == ["abcd", "ef"]


def test_a_batch_holds_items_of_one_bucket_and_the_oldest_goes_first() -> None:
    batcher, _ = make()
    put(batcher, "a", bucket=8)
    put(batcher, "LM", bucket=77)
    put(batcher, "bc", bucket=8)
    assert [take_batch(batcher), take_batch(batcher)] == ["abc", "LM"]


def test_background_items_wait_for_live_ones() -> None:
    batcher, _ = make()
    put(batcher, "xy", priority=Priority.BACKGROUND)
    put(batcher, "a")
    assert [take_batch(batcher), take_batch(batcher)] == ["a", "xy"]


def test_background_work_pauses_and_shrinks_while_any_live_item_waits() -> None:
    throttles = Throttles()
    batcher, clock = make(throttles=throttles)
    put(batcher, "abcdefghij", priority=Priority.BACKGROUND)
    assert take_batch(batcher) == "abcd"  # no live item waits: full batches without pauses
    batcher.observe(4, 0.5)
    assert take_batch(batcher) == "efgh"
    batcher.observe(4, 0.5)
    throttles.enter(Priority.SMALL, 1)  # such as an image in another tower
    began = clock.time
    assert take_batch(batcher) == "i"
    assert clock.time - began == pytest.approx(2.0)  # four times as long as the batch before it
    batcher.observe(1, 0.1)
    assert take_batch(batcher) == "j"
    assert clock.time - began == pytest.approx(2.4)


def test_background_work_resumes_at_once_when_the_last_live_item_is_answered() -> None:
    throttles = Throttles()
    batcher, clock = make(throttles=throttles)
    put(batcher, "ab", priority=Priority.BACKGROUND)
    throttles.enter(Priority.SMALL, 1)
    assert take_batch(batcher) == "a"
    batcher.observe(1, 100.0)
    wait = clock.wait

    def answered(condition: threading.Condition, seconds: float | None) -> None:
        wait(condition, seconds)
        throttles.enter(Priority.SMALL, -1)

    clock.wait = answered  # type: ignore[method-assign]
    began = clock.time
    assert take_batch(batcher) == "b"
    assert clock.time - began < 0.1


def test_an_abandoned_request_is_never_run() -> None:
    batcher, _ = make()
    put(batcher, "ab").abandon()
    put(batcher, "c")
    assert take_batch(batcher) == "c"


def test_an_item_past_its_deadline_is_answered_and_not_run() -> None:
    batcher, clock = make()
    late = put(batcher, "a", deadline=101.0)
    put(batcher, "b")
    clock.time = 102.0
    assert take_batch(batcher) == "b"
    assert isinstance(late.answers[0], DeadlineError)


def test_a_full_queue_refuses_all_of_a_request_and_says_when_to_retry() -> None:
    batcher, _ = make(capacity=3)
    batcher.hold(2)
    with pytest.raises(OverloadedError, match="2 of 3 places") as caught:
        batcher.hold(2)
    assert caught.value.retry_after > 0
    batcher.hold(1)
    batcher.release(3)
    assert batcher.held == 0


def test_retry_after_follows_the_measured_speed() -> None:
    batcher, _ = make(capacity=10)
    for _ in range(50):
        batcher.observe(1, 2.0)
    batcher.hold(10)
    assert 15 < batcher.backlog_seconds <= 30


def test_a_window_waits_for_more_requests_and_no_longer() -> None:
    window = LatencyWindow(0.005, full=4)
    batcher, clock = make(window=window)
    window.observe(4, 0.01)  # the last batch held several items
    put(batcher, "ab")
    assert take_batch(batcher) == "ab"
    assert clock.waits == [pytest.approx(0.005)]


def test_a_single_client_never_waits_for_the_window() -> None:
    window = LatencyWindow(0.005, full=4)
    batcher, clock = make(window=window)
    window.observe(1, 0.01)
    put(batcher, "a")
    assert take_batch(batcher) == "a"
    assert clock.waits == []


def test_a_full_batch_never_waits_for_the_window() -> None:
    window = LatencyWindow(0.005, full=4)
    batcher, clock = make(window=window)
    window.observe(4, 0.01)
    put(batcher, "abcd")
    assert take_batch(batcher) == "abcd"
    assert clock.waits == []


def test_a_window_leaves_room_for_the_batch_within_the_target() -> None:
    window = LatencyWindow(0.005, target=0.012, full=4)
    window.observe(4, 0.010)
    assert window.delay(2, 0.0) == pytest.approx(0.002)
    window.observe(4, 1.0)
    assert window.delay(2, 0.0) == 0.0


def test_a_closed_batcher_returns_no_batch() -> None:
    batcher, _ = make()
    put(batcher, "a")
    batcher.close()
    assert take_batch(batcher) == ""


def test_a_ticket_notifies_once_when_the_last_answer_is_in() -> None:
    calls: list[int] = []
    ticket: Ticket[str] = Ticket(2, lambda: calls.append(1))
    ticket.resolve(0, "a")
    ticket.resolve(0, "again")
    assert calls == []
    ticket.resolve(1, "b")
    ticket.resolve(1, "again")
    assert calls == [1]
    assert ticket.answers == ["a", "b"]


@pytest.mark.parametrize(("size", "bucket"), [(1, 8), (8, 8), (9, 16), (99, 77)])
def test_a_text_goes_to_the_smallest_bucket_that_holds_it(size: int, bucket: int) -> None:
    assert choose_bucket(size, (8, 16, 77)) == bucket
