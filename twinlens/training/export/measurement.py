"""What a variant of a tower costs and gains: cosines to its fp32 graph, and the ratio of speeds.

What must stay true: the two graphs run alternately on one thread and CPU time is measured, so that
other work on the machine cancels out. Measuring ends once the ratio is certain, or after two
seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from twinlens.training.export.gate import EmbeddingRows, open_graph
from twinlens.training.export.towers import ExportTower

_ROWS: Final = 4  # of the golden inputs in a timed batch
_SECONDS: Final = 2.0  # CPU seconds for one speed ratio
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 9
_CERTAIN: Final = 1.06  # the middle half of the rounds' ratios lies within this factor
_AT_ONCE: Final = 8  # pictures in a batch of `compare`


class Yardstick:
    """A tower's fp32 graph, opened once, as the reference for its variants."""

    def __init__(self, tower: ExportTower, folder: Path) -> None:
        self._session = open_graph(folder / tower.file, threads=1)
        self._name = tower.input_name
        self._all = tower.batch(0, len(tower.reference))
        self._few = tower.batch(0, _ROWS)
        self._exact = self._run(self._session, self._all)

    def open(self, path: Path) -> onnxruntime.InferenceSession:
        """Open a variant on one thread, as it is measured."""
        return open_graph(path, threads=1)

    def measure_cosine(self, variant: onnxruntime.InferenceSession) -> float:
        """Return the variant's smallest cosine to fp32 over the golden inputs."""
        rows = self._run(variant, self._all)
        return round(float(_cosines(self._exact, rows).min()), 6)

    def compare(self, variant: onnxruntime.InferenceSession, inputs: NDArray[Any]) -> float:
        """Return the variant's mean cosine to fp32 over other `inputs`."""
        found = []
        for start in range(0, len(inputs), _AT_ONCE):
            batch = inputs[start : start + _AT_ONCE]
            found.append(_cosines(self._run(self._session, batch), self._run(variant, batch)))
        return float(np.concatenate(found).mean())

    def measure_speed(self, variant: onnxruntime.InferenceSession) -> float:
        """Return the variant's speed as a ratio to fp32."""
        return compare_speed(
            lambda: self._run(self._session, self._few), lambda: self._run(variant, self._few)
        )

    def _run(
        self, session: onnxruntime.InferenceSession, inputs: NDArray[Any]
    ) -> NDArray[np.float64]:
        rows: EmbeddingRows = session.run(None, {self._name: inputs})[0]
        return rows.astype(np.float64)


def compare_speed(plain: Callable[[], object], variant: Callable[[], object]) -> float:
    """Return how many times faster `variant` runs than `plain`, each after one run to warm up."""
    actions = (plain, variant)
    for action in actions:
        action()
    ratios: list[float] = []
    best = [float("inf"), float("inf")]
    begun = time.process_time()
    while len(ratios) < _MOST_ROUNDS and time.process_time() - begun < _SECONDS:
        spent = [_spend(action) for action in actions]
        best = [min(pair) for pair in zip(best, spent, strict=True)]
        ratios.append(spent[0] / spent[1])
        if _is_certain(ratios):
            break
    return round(best[0] / best[1], 3)


def _is_certain(ratios: list[float]) -> bool:
    """Return whether the rounds agree on the ratio."""
    if len(ratios) < _LEAST_ROUNDS:
        return False
    low, high = np.quantile(ratios, [0.25, 0.75])
    return bool(high <= _CERTAIN * low)


def _spend(action: Callable[[], object]) -> float:
    """Return the CPU seconds that `action` takes, never 0."""
    started = time.process_time()
    action()
    return max(time.process_time() - started, 1e-9)


def _cosines(exact: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows; rows of `exact` have unit length."""
    cosines: NDArray[np.float64] = (exact * rows).sum(1) / np.linalg.norm(rows, axis=1)
    return cosines
