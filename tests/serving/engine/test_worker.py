"""The worker: failing items fail alone, and a dead or hanging worker is replaced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from twinlens.errors import DeviceError, ImageError
from twinlens.serving.clock import Clock
from twinlens.serving.engine.batcher import Batcher
from twinlens.serving.engine.ticket import QueueEntry, Ticket
from twinlens.serving.engine.tower import ServedTower
from twinlens.serving.failures import EncodeError, UnavailableError
from twinlens.serving.settings import Watch

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def double(items: Sequence[int]) -> list[int | Exception]:
    """Double the items; a negative item fails its whole batch, 666 ends the thread."""
    if 666 in items:
        raise SystemExit
    if any(item < 0 for item in items):
        raise RuntimeError("the batch is poisoned")
    return [2 * item for item in items]


@pytest.fixture
def start() -> Iterator[Callable[..., ServedTower[int, int]]]:
    towers: list[ServedTower[int, int]] = []

    def make(
        run: Callable[[Sequence[int]], Sequence[int | Exception]] = double,
    ) -> ServedTower[int, int]:
        batcher: Batcher[int, int] = Batcher(capacity=100, max_batch=16)
        towers.append(ServedTower("numbers", batcher, run, clock=Clock()))
        return towers[-1]

    yield make
    for tower in towers:
        tower.close()


def ask(tower: ServedTower[int, int], items: list[int], seconds: float = 5.0) -> list[object]:
    done = threading.Event()
    ticket: Ticket[int] = Ticket(len(items), done.set)
    tower.batcher.put([QueueEntry(ticket, i, item) for i, item in enumerate(items)])
    assert done.wait(seconds), "not answered"
    return list(ticket.answers)


def wait_for(claim: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "did not become true"
        time.sleep(0.005)


@pytest.mark.parametrize("position", range(7))
def test_one_failing_item_fails_alone_at_every_position(
    start: Callable[..., ServedTower[int, int]], position: int
) -> None:
    items = list(range(7))
    items[position] = -1
    answers = ask(start(), items)
    assert isinstance(answers.pop(position), EncodeError)
    assert answers == [2 * i for i in range(7) if i != position]


def test_several_failing_items_fail_and_all_others_succeed(
    start: Callable[..., ServedTower[int, int]],
) -> None:
    answers = ask(start(), [1, -1, 2, 3, -1, -1, 4])
    assert [a for a in answers if not isinstance(a, Exception)] == [2, 4, 6, 8]
    assert [i for i, a in enumerate(answers) if isinstance(a, EncodeError)] == [1, 4, 5]


def test_an_internal_error_shows_no_internals(start: Callable[..., ServedTower[int, int]]) -> None:
    (answer,) = ask(start(), [-1])
    assert "poisoned" not in str(answer)


def test_a_twinlens_error_reaches_the_client_unchanged(
    start: Callable[..., ServedTower[int, int]],
) -> None:
    def refuse(items: Sequence[int]) -> list[int | Exception]:
        raise ImageError("too dark")

    (answer,) = ask(start(refuse), [1])
    assert isinstance(answer, ImageError)


def test_a_wrong_number_of_answers_is_an_error(
    start: Callable[..., ServedTower[int, int]],
) -> None:
    answers = ask(start(lambda items: [0] * (len(items) + 1)), [1, 2])
    assert all(isinstance(answer, EncodeError) for answer in answers)


def test_a_dead_worker_is_detected_and_replaced_and_its_batch_is_answered(
    start: Callable[..., ServedTower[int, int]],
) -> None:
    tower, watch = start(), Watch()
    done = threading.Event()
    ticket: Ticket[int] = Ticket(1, done.set)
    tower.batcher.put([QueueEntry(ticket, 0, 666)])
    wait_for(lambda: tower.find_fault(watch) is not None)
    assert "dead" in str(tower.find_fault(watch))
    tower.restart_workers(watch)
    assert done.wait(5)
    assert isinstance(ticket.answers[0], UnavailableError)
    assert tower.find_fault(watch) is None
    assert tower.restarts == 1
    assert ask(tower, [4]) == [8]


def test_a_hanging_worker_is_replaced_and_its_late_answer_is_dropped(
    start: Callable[..., ServedTower[int, int]],
) -> None:
    release, begun = threading.Event(), threading.Event()

    def hang_on_zero(items: Sequence[int]) -> list[int | Exception]:
        if 0 in items:
            begun.set()
            release.wait(10)
        return double(items)

    tower, watch = start(hang_on_zero), Watch(stall_seconds=0.02)
    ticket: Ticket[int] = Ticket(1, lambda: None)
    tower.batcher.put([QueueEntry(ticket, 0, 0)])
    assert begun.wait(5)
    wait_for(lambda: "hangs" in str(tower.find_fault(watch)))
    tower.restart_workers(watch)
    assert isinstance(ticket.answers[0], UnavailableError)
    assert ask(tower, [4]) == [8]
    release.set()
    assert ask(tower, [5]) == [10]
    assert isinstance(ticket.answers[0], UnavailableError)


def test_consecutive_failing_batches_are_a_fault_until_one_succeeds(
    start: Callable[..., ServedTower[int, int]],
) -> None:
    tower, watch = start(), Watch(failures_in_a_row=3)
    for _ in range(2):
        ask(tower, [-1])
    assert tower.find_fault(watch) is None
    ask(tower, [-1])
    wait_for(lambda: "in a row" in str(tower.find_fault(watch)))
    ask(tower, [1])
    wait_for(lambda: tower.find_fault(watch) is None)


def test_a_lost_device_fails_its_batch_once_and_is_reported(
    start: Callable[..., ServedTower[int, int]],
) -> None:
    """Halving a batch is for bad items; the card is gone for all of them."""
    runs: list[int] = []

    def run(items: Sequence[int]) -> list[int | Exception]:
        runs.append(len(items))
        raise DeviceError("device cuda:0 failed", kind="lost")

    tower = start(run)
    assert [type(answer) for answer in ask(tower, [1, 2, 3, 4])] == [DeviceError] * 4
    assert runs == [4]
    wait_for(lambda: tower.find_fault(Watch()) == "numbers: device cuda:0 failed")


def test_a_full_device_is_asked_for_smaller_batches(
    start: Callable[..., ServedTower[int, int]],
) -> None:
    def run(items: Sequence[int]) -> list[int | Exception]:
        if len(items) > 2:
            raise DeviceError("device cuda:0 has no memory left", kind="full")
        return list(items)

    tower = start(run)
    assert ask(tower, list(range(8))) == list(range(8))
    assert tower.find_fault(Watch()) is None


def test_several_workers_run_batches_at_once() -> None:
    """As many as the devices work on; all items are answered by whoever is free."""
    together = threading.Barrier(2, timeout=20)

    def run(items: Sequence[int]) -> list[int | Exception]:
        together.wait()  # one worker alone would wait for ever
        return list(items)

    batcher: Batcher[int, int] = Batcher(capacity=100, max_batch=2)
    tower = ServedTower("numbers", batcher, run, clock=Clock(), workers=2)
    try:
        assert ask(tower, list(range(8)), 30.0) == list(range(8))
    finally:
        tower.close()
