"""The knee of measured batches: nearly the best rate at the least latency."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from twinlens.bundle.engine.batch_curve import LARGEST, BatchCurve, measure_curve


class Device:
    """Takes a fixed time a batch and one an item; its clock is its own."""

    def __init__(self, fixed: float, item: Callable[[int], float]) -> None:
        self.fixed, self.item = fixed, item
        self.now = 0.0
        self.sizes: list[int] = []

    def run(self, size: int) -> None:
        self.sizes.append(size)
        self.now += self.fixed + size * self.item(size)

    def measure(self, seconds: float = 4.0) -> BatchCurve:
        return measure_curve(self.run, seconds=seconds, clock=lambda: self.now)


def test_a_card_wants_large_batches() -> None:
    curve = Device(1.8e-3, lambda _: 3.4e-5).measure()
    assert curve.knee == LARGEST


def test_a_cpu_that_gains_nothing_takes_items_alone() -> None:
    device = Device(0.0, lambda _: 0.05)
    assert device.measure().knee == 1
    assert max(device.sizes) <= 8  # and soon gives up


def test_a_cpu_that_gains_a_little_takes_as_many_as_give_it() -> None:
    """The builtin's images: 538 a second alone, 858 at 8, 941 at 32, 953 at 64."""
    curve = BatchCurve(((1, 1 / 538), (8, 8 / 858), (32, 32 / 941), (64, 64 / 953)))
    assert curve.knee == 32


def test_a_device_that_slows_down_is_asked_for_less() -> None:
    curve = Device(1e-3, lambda size: 1e-3 if size <= 16 else 2e-3).measure()
    assert curve.knee == 16


def test_scaling_all_times_does_not_move_the_knee() -> None:
    points = ((1, 0.3), (2, 0.35), (4, 0.4), (8, 0.76))
    knee = BatchCurve(points).knee
    assert knee == BatchCurve(tuple((n, 1000 * s) for n, s in points)).knee


def test_a_slow_model_is_measured_within_its_time() -> None:
    device = Device(0.1, lambda _: 1.0)
    curve = device.measure(seconds=4.0)
    assert device.now < 6.0 and curve.points[0][0] == 1


def test_the_first_run_of_a_size_does_not_count() -> None:
    taken = iter([9.0, 1.0, 1.1])
    now = [0.0]

    def run(size: int) -> None:
        now[0] += next(taken)

    assert measure_curve(run, largest=1, seconds=100, clock=lambda: now[0]).points == ((1, 1.0),)


def test_batches_are_compared_by_what_they_cost_not_by_interruptions() -> None:
    """A busy machine that stops every batch of more than one for a second."""
    now, spent = [0.0], [0.0]

    def run(size: int) -> None:
        spent[0] += 1e-3 + size * 1e-3
        now[0] += (1e-3 + size * 1e-3) + (0.05 if size > 1 else 0)

    clock, cost = lambda: now[0], lambda: spent[0]
    assert measure_curve(run, seconds=100, clock=clock, cost=cost).knee == 32
    assert measure_curve(run, seconds=100, clock=clock).knee == 1


@pytest.mark.parametrize("points", [(), ((2, 0.1), (1, 0.1)), ((1, 0.0),), ((0, 1.0),)])
def test_what_cannot_have_been_measured_is_refused(points: tuple[tuple[int, float], ...]) -> None:
    with pytest.raises(ValueError, match="batch"):
        BatchCurve(points)
