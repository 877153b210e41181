"""Measuring a ratio of speeds ends once the rounds agree on it."""

from __future__ import annotations

import time

import pytest

from twinlens.training.export import measurement


class Clock:
    """Processor time that only the measured actions spend."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.runs = 0.0, 0
        monkeypatch.setattr(time, "process_time", lambda: self.now)

    def action(self, *costs: float) -> None:
        self.now += costs[self.runs // 2 % len(costs)]
        self.runs += 1


def test_a_steady_ratio_takes_three_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    ratio = measurement.compare_speed(lambda: clock.action(0.03), lambda: clock.action(0.01))
    assert ratio == pytest.approx(3)
    assert clock.runs == 2 * (1 + 3)


def test_an_unsteady_ratio_is_measured_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    ratio = measurement.compare_speed(
        lambda: clock.action(0.03, 0.06, 0.045), lambda: clock.action(0.01)
    )
    assert ratio == pytest.approx(3)  # the best of each
    assert clock.runs == 2 * (1 + 9)


def test_a_slow_tower_is_measured_for_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    measurement.compare_speed(lambda: clock.action(2.5), lambda: clock.action(1.0))
    assert clock.runs == 2 * (1 + 1)
