"""Opens a tower in the best engine here: the named one, or the winner of a trial.

The trial runs the bundle's golden inputs in both engines, one by one and in batches: first to check
OpenVINO's rows, then to compare speeds, alternately. What must stay true: bf16 is offered only if
it stayed within its tolerance of the golden vectors; without OpenVINO installed, `auto` costs
nothing.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinlens.bundle.engine import openvino_session
from twinlens.bundle.engine.choice import LEAST_ROUNDS, Choice, Round, choose_engine
from twinlens.bundle.engine.onnxruntime_session import runs_on_cuda
from twinlens.bundle.engine.record import read_choice, write_choice
from twinlens.bundle.golden import find_floor
from twinlens.bundle.session import Runtime
from twinlens.bundle.tower import Tower, TowerFile
from twinlens.errors import InputError

_ROUNDS: Final = 7
_SECONDS: Final = 2.0  # per case, unless so few rounds would decide nothing
_BATCH: Final = 8  # items of the larger case, if they take
_BATCH_SECONDS: Final = 0.5  # at most this long
_ALONE: Final = 4  # golden inputs that are also embedded one by one
_TICK: Final = 0.02  # seconds of work that a clock measures well
_WORTH: Final = 1e-3  # seconds per batch below which loading a second engine gains nothing


@dataclass(frozen=True)
class GoldenSample:
    """The preprocessed golden inputs of a tower, and the expected rows."""

    items: Any
    rows: NDArray[np.float32]

    def repeat(self, count: int) -> Any:
        """Return `count` items, repeated as often as needed."""
        cycled = list(itertools.islice(itertools.cycle(self.items), count))
        return np.stack(cycled) if isinstance(self.items, np.ndarray) else cycled

    def measure_cosine(self, tower: Tower) -> float:
        """Return the smallest cosine to the golden rows, in batches and one by one."""
        if not len(self.rows):
            return float("nan")
        count = min(_ALONE, len(self.rows))
        alone = [tower.encode_batch(self.items[i : i + 1]) for i in range(count)]
        found = np.concatenate([tower.encode_batch(self.items), *alone]).astype(np.float64)
        expected = np.concatenate([self.rows, self.rows[: len(alone)]])
        return float((found * expected).sum(axis=1).min())


def open_tower(file: TowerFile, runtime: Runtime, read_sample: Callable[[], GoldenSample]) -> Tower:
    """Open a tower; with `auto`, in the engine that was measured to be better here."""
    if file.in_bf16:
        return _open_in_bf16(file, runtime, read_sample)
    if runtime.engine != "auto" or not can_choose(runtime):
        return file.open(runtime)
    subject = file.describe(runtime)
    choice = read_choice(subject)
    if choice is None:
        choice = _try_both(file, runtime, read_sample())
        write_choice(subject, choice)
    return file.open(replace(runtime, engine=choice.engine))


def recall_choice(file: TowerFile, runtime: Runtime) -> Choice | None:
    """Return the choice of an earlier start on this machine for a tower, or None."""
    return read_choice(file.describe(runtime))


def can_choose(runtime: Runtime) -> bool:
    """Return whether there is a second engine to choose."""
    return openvino_session.is_installed() and not runs_on_cuda(runtime.device)


def _try_both(file: TowerFile, runtime: Runtime, sample: GoldenSample) -> Choice:
    """Return the choice between the engines, measured now."""
    if not len(sample.rows):
        return Choice("onnxruntime", "the bundle has no golden vectors for this tower")
    first = file.open(replace(runtime, engine="onnxruntime"))
    one = sample.repeat(1)
    seconds = min(_time(first, one, min(_time(first, one))))
    if _BATCH * seconds < _WORTH:
        return Choice("onnxruntime", "too quick for a second engine to matter")
    try:
        second = file.open(replace(runtime, engine="openvino"))
        cosine = sample.measure_cosine(second)
    except (InputError, RuntimeError) as error:  # it does not import, or read or run the graph
        return Choice("onnxruntime", f"not in OpenVINO: {str(error)[:200]}")
    floor = find_floor(file.manifest, file.tower, file.precision)
    if not cosine >= floor:
        return choose_engine([], cosine, floor)
    batch = sample.repeat(max(2, min(_BATCH, int(_BATCH_SECONDS / seconds))))
    cases = [_time_in_turn(first, second, items) for items in (one, batch)]
    return choose_engine(cases, cosine, floor)


def _time_in_turn(first: Tower, second: Tower, items: Any) -> list[Round]:
    """Time both towers alternately on the same items; the first one alternates too.

    Each round is measured in seconds and in CPU seconds, and counts by the measure that favours the
    second engine less. Other work on the machine disturbs the seconds, and an engine must not win
    by using more CPU.
    """
    expected = min(*_time(first, items), *_time(second, items))
    pairs: list[tuple[tuple[float, float], tuple[float, float]]] = []
    ends = time.perf_counter() + _SECONDS
    while len(pairs) < _ROUNDS and (len(pairs) < LEAST_ROUNDS or time.perf_counter() < ends):
        if len(pairs) % 2:
            later = _time(second, items, expected)
            pairs.append((_time(first, items, expected), later))
        else:
            pairs.append((_time(first, items, expected), _time(second, items, expected)))
    return [min(zip(a, b, strict=True), key=lambda r: r[0] / max(r[1], 1e-9)) for a, b in pairs]


def _time(tower: Tower, items: Any, expected: float = _TICK) -> tuple[float, float]:
    """Return the seconds and CPU seconds of one run; a quick one is repeated.

    A first run is dropped: the other engine's threads spin for a while before they sleep.
    """
    repeats = max(1, int(_TICK / max(expected, 1e-6)))
    if repeats > 1:
        tower.encode_batch(items)
    began, spent = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        tower.encode_batch(items)
    return (
        (time.perf_counter() - began) / repeats,
        (time.process_time() - spent) / repeats,
    )


def _open_in_bf16(
    file: TowerFile, runtime: Runtime, read_sample: Callable[[], GoldenSample]
) -> Tower:
    """Open a tower of fp32 weights in bf16, which was verified on this machine."""
    _require_bf16(file, runtime)
    tower = file.open(replace(runtime, engine="openvino"))
    subject = file.describe(runtime)
    choice = read_choice(subject)
    floor = find_floor(file.manifest, file.tower, "bf16")
    if choice is None or choice.cosine is None:
        cosine = read_sample().measure_cosine(tower)
        choice = Choice("openvino", "the only engine with bf16", cosine)
        write_choice(subject, choice)
    assert choice.cosine is not None
    if not choice.cosine >= floor:
        raise InputError(
            f"precision 'bf16' changes the {file.tower} embeddings of bundle "
            f"{file.manifest.name!r} to cosine {choice.cosine:.6f} of the exported ones, under "
            f"{floor}; use --precision fp32",
            field="precision",
        )
    return tower


def _require_bf16(file: TowerFile, runtime: Runtime) -> None:
    """Raise unless fp32 weights can be computed in bf16."""
    have = ", ".join(sorted({v.precision for v in file.manifest.variants} | {"fp32"}))
    start = f"precision 'bf16' is not stored in bundle {file.manifest.name!r} (it has {have})"
    if runtime.engine == "onnxruntime":
        reason = "ONNX Runtime does not compute in it; use --engine openvino"
    elif runs_on_cuda(runtime.device) or runtime.devices[0].startswith("cuda"):
        reason = "it is computed on CPUs only; use --device cpu"
    elif not openvino_session.is_installed():
        reason = "OpenVINO would compute in it; run: pip install 'twinlens[openvino]'"
    elif not openvino_session.has_bf16():
        reason = "this CPU has no instructions for it; use --precision fp32"
    else:
        return
    raise InputError(f"{start}, and {reason}", field="precision")
