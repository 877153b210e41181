"""The second engine is chosen only where it is right and clearly faster, and never by noise."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlens.bundle.engine.choice import (
    CLEAR_WIN,
    LEAST_ROUNDS,
    LEAST_SPEEDUP,
    Round,
    choose_engine,
    measure_speedup,
)

FLOOR = 0.9999
seconds = st.floats(1e-6, 100.0)
rounds = st.lists(st.tuples(seconds, seconds), min_size=LEAST_ROUNDS, max_size=9)
cases = st.lists(rounds, min_size=1, max_size=3)


def steady(speedup: float, count: int = 7) -> list[Round]:
    """Rounds on a quiet machine."""
    return [(speedup, 1.0)] * count


def test_a_clear_winner_is_chosen() -> None:
    choice = choose_engine([steady(1.2), steady(1.9)], 1.0, FLOOR)
    assert (choice.engine, choice.speedups, choice.cosine) == ("openvino", (1.2, 1.9), 1.0)
    assert "has 1.51 times the speed of ONNX Runtime, 1.20 at worst" in choice.reason


@pytest.mark.parametrize("speedup", [0.5, 1.0, 1.1])
def test_what_is_slower_or_hardly_faster_is_not(speedup: float) -> None:
    assert choose_engine([steady(speedup)], 1.0, FLOOR).engine == "onnxruntime"


def test_a_faster_batch_does_not_excuse_slower_single_items() -> None:
    assert choose_engine([steady(0.9), steady(3.0)], 1.0, FLOOR).engine == "onnxruntime"


@pytest.mark.parametrize("cosine", [0.9998, 0.0, math.nan])
def test_wrong_rows_are_never_chosen_however_fast(cosine: float) -> None:
    choice = choose_engine([steady(9.0)], cosine, FLOOR)
    assert choice.engine == "onnxruntime"
    assert "cosine" in choice.reason


def test_one_slow_round_of_the_first_engine_decides_nothing() -> None:
    disturbed = [(50.0, 1.0), *steady(1.0, 6)]
    assert choose_engine([disturbed], 1.0, FLOOR).engine == "onnxruntime"


def test_one_slow_round_of_the_second_engine_hides_no_clear_win() -> None:
    disturbed = [(1.5, 90.0), *steady(1.5, 6)]
    assert choose_engine([disturbed], 1.0, FLOOR).engine == "openvino"


@pytest.mark.parametrize("count", [0, 1, LEAST_ROUNDS - 1])
def test_too_few_rounds_decide_nothing(count: int) -> None:
    assert choose_engine([steady(9.0, count)], 1.0, FLOOR).engine == "onnxruntime"
    assert choose_engine([], 1.0, FLOOR).engine == "onnxruntime"


@given(cases, st.floats(1e-3, 1e3))
def test_a_machine_of_another_speed_chooses_the_same(
    measured: list[list[Round]], factor: float
) -> None:
    scaled = [[(factor * a, factor * b) for a, b in case] for case in measured]
    first, second = choose_engine(measured, 1.0, FLOOR), choose_engine(scaled, 1.0, FLOOR)
    assert second.speedups == pytest.approx(first.speedups)
    if abs(math.prod(first.speedups) ** (1 / len(measured)) / CLEAR_WIN - 1) > 1e-6 and all(
        abs(speedup / LEAST_SPEEDUP - 1) > 1e-6 for speedup in first.speedups
    ):
        assert second.engine == first.engine


@given(cases)
def test_of_two_engines_at_most_one_wins_clearly(measured: list[list[Round]]) -> None:
    swapped = [[(b, a) for a, b in case] for case in measured]
    engines = [choose_engine(side, 1.0, FLOOR).engine for side in (measured, swapped)]
    assert engines != ["openvino", "openvino"]


@given(cases, st.floats(1.0, 10.0))
def test_a_faster_second_engine_is_chosen_no_less(
    measured: list[list[Round]], factor: float
) -> None:
    faster = [[(a, b / factor) for a, b in case] for case in measured]
    if choose_engine(measured, 1.0, FLOOR).engine == "openvino":
        assert choose_engine(faster, 1.0, FLOOR).engine == "openvino"


@given(rounds)
def test_most_rounds_reach_the_speedup_that_counts(measured: list[Round]) -> None:
    speedup = measure_speedup(measured)
    reached = sum(a / b >= speedup for a, b in measured)
    assert reached >= 0.75 * len(measured)
    assert measure_speedup(list(reversed(measured))) == speedup
