"""When a process is started again."""

from __future__ import annotations

import pytest

from twinlens.serving.workers.restarts import Restarts


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("twinlens.serving.workers.restarts.time.monotonic", lambda: now[0])
    return now


def test_a_process_that_ran_long_is_restarted_at_once(clock: list[float]) -> None:
    restarts = Restarts(("http", "head"))
    restarts.plan(("http", 1), began=clock[0] - 60)
    assert restarts.take_due(()) == [("http", 1)]
    assert restarts.take_due(()) == []
    assert restarts.counts == {"http": 1, "head": 0}


def test_one_that_keeps_ending_soon_waits_longer_each_time_but_never_over_five_seconds(
    clock: list[float],
) -> None:
    restarts, pauses = Restarts(("http",)), []
    for _ in range(9):
        restarts.plan(("http", 0), began=clock[0])
        began = clock[0]
        while not restarts.take_due(()):
            clock[0] += 0.05
        pauses.append(clock[0] - began)
    assert pauses[0] < pauses[2] < pauses[4]
    assert max(pauses) <= 5.06


def test_a_process_of_an_ending_kind_is_not_restarted(clock: list[float]) -> None:
    restarts = Restarts(("http",))
    restarts.plan(("http", 0), began=0.0)
    assert restarts.take_due({"http"}) == []
    assert restarts.take_due(()) == []
