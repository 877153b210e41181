"""Which of two engines runs a tower, decided from measurements alone.

What must stay true: the second engine is chosen only if it is right and clearly faster, so that a
noisy measurement changes nothing; the unit of time does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Final, Literal

Contender = Literal["onnxruntime", "openvino"]
# Seconds of ONNX Runtime and of OpenVINO for the same work, in direct succession.
Round = tuple[float, float]

CLEAR_WIN: Final = 1.15  # mean speedup over the cases
LEAST_SPEEDUP: Final = 0.95  # of every case: faster batches do not justify slower single items
LEAST_ROUNDS: Final = 3
_WORST: Final = 4  # one round in so many may be slower than the reported speedup


@dataclass(frozen=True)
class Choice:
    """The engine of one tower at one precision on one machine, and why."""

    engine: Contender
    reason: str
    cosine: float | None = None  # smallest cosine of OpenVINO's rows to the golden ones
    speedups: tuple[float, ...] = ()  # of OpenVINO over ONNX Runtime, by case


def choose_engine(cases: Sequence[Sequence[Round]], cosine: float, floor: float) -> Choice:
    """Return the engine for a tower with timed `cases`; a cosine of at least `floor` is right."""
    if not cosine >= floor:  # NaN fails too
        reason = f"OpenVINO's cosine to the golden vectors is {cosine:.6f}, under {floor:.6f}"
        return Choice("onnxruntime", reason, None if math.isnan(cosine) else cosine)
    speedups = tuple(measure_speedup(rounds) for rounds in cases)
    if not speedups or 0.0 in speedups:
        return Choice("onnxruntime", "too few measurements", cosine)
    mean, worst = geometric_mean(speedups), min(speedups)
    reason = f"OpenVINO has {mean:.2f} times the speed of ONNX Runtime, {worst:.2f} at worst"
    wins = worst >= LEAST_SPEEDUP and mean >= CLEAR_WIN
    return Choice("openvino" if wins else "onnxruntime", reason, cosine, speedups)


def measure_speedup(rounds: Sequence[Round]) -> float:
    """Return the speedup that three quarters of the rounds reach; 0 if too few were timed.

    Not the median: on a busy machine the rounds differ too much for it to be reliable.
    """
    valid = [first / second for first, second in rounds if first > 0 and second > 0]
    return sorted(valid)[len(valid) // _WORST] if len(valid) >= LEAST_ROUNDS else 0.0
