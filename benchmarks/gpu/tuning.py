"""Tuning: candidates are compiled by many processes into one cache, timed, winners written.

Compiling takes most of the time and needs only CPUs, so each candidate is first launched once, on
small inputs, in one of many processes; its code goes to Triton's cache (TRITON_CACHE_DIR). Then
this process times them alternately and finds everything compiled. First the tiles of each kernel,
including the table's own; then the plans of inference, size by size, with those tiles. What must
stay true: nothing begins after the deadline, and a wrong candidate cannot win.
"""

from __future__ import annotations

import datetime
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Final
from unittest import mock

import torch
import triton
from report import Report

from gpu.inference import TYPES as ALL_TYPES
from gpu.inference import find_plan_error, prepare_similarity, prepare_topk
from gpu.losses import (
    SCALE,
    SIGMOID_BIAS,
    SIGMOID_SCALE,
    compute_clip,
    compute_sigmoid,
    make_problem,
    prepare_step,
)
from gpu.stage import FULL, Sizes, capture, measure
from gpu.winners import write_plans, write_tile, write_topk_reading
from twinlens.kernels.gpu import tile_table
from twinlens.kernels.gpu.engine import TritonEngine
from twinlens.kernels.gpu.plan_table import CLASSES, ROWS, PlanName
from twinlens.kernels.gpu.plans import PLANS
from twinlens.kernels.gpu.tile_table import KernelName, Tile
from twinlens.kernels.loss import matryoshka_loss

SECONDS: Final = 200.0  # seconds that tuning may take in all
SMALL: Final = replace(FULL, batch=4096, classes=100_000)  # large enough to use the same code
TYPES: Final = {2: torch.bfloat16, 4: torch.float32}

Action = Callable[[], object]


@dataclass(frozen=True)
class Subject:
    """A kernel, its element's bytes, the action that measures it, and the tiles to try."""

    kernel: KernelName
    element_bytes: int
    prepare: Callable[[Sizes], Action]
    tiles: tuple[Tile, ...]

    @property
    def key(self) -> tuple[KernelName, int, int]:
        """Return the entry of the table: always Hopper's, the architecture of the tuning."""
        return self.kernel, 90, self.element_bytes


def list_subjects() -> list[Subject]:
    """Return all kernels whose tiles are tuned, with their candidates."""
    wide = _make_tiles(
        "128 256 64 8 3 1, 256 128 64 8 3 1, 256 128 64 8 4 1, 128 128 64 4 3 2, 128 256 32 8 6 1"
    )
    parted = _make_tiles(
        "128 256 64 8 3 1, 128 256 64 8 3 1 2, 128 256 64 8 3 1 4, 256 128 64 8 3 1 2,"
        "128 128 64 4 3 2 4, 128 128 64 4 3 2 2"
    )
    prefixes = _make_tiles("128 128 64 8 3 1, 128 64 64 4 3 2, 128 64 64 8 3 2, 64 128 64 4 3 2")
    few = "16 32 128 4 3 8, 16 32 64 4 4 8, 16 32 64 4 8 4, 16 16 128 4 4 8, 16 64 128 4 4 4"
    single = "16 32 64 4 3 8, 16 32 32 4 8 8, 16 16 64 4 4 8, 16 16 128 4 4 4, 16 32 64 8 4 8"
    bank = (
        "32 256 64 8 3 2, 32 256 64 8 5 1, 32 128 128 4 3 2, 32 128 64 4 4 3, 32 128 64 4 6 2,"
        "32 64 512 4 3 1, 32 64 512 8 3 1, 32 128 256 8 3 1, 32 64 128 4 4 3, 32 128 128 8 4 1"
    )
    return [
        Subject("softmax", 2, partial(_prepare_zero_shot, 2), _make_tiles(few)),
        Subject("softmax", 4, partial(_prepare_zero_shot, 4), _make_tiles(single)),
        Subject("topk", 2, partial(prepare_topk, tma=False), _make_tiles(bank)),
        Subject("topk_tma", 2, partial(prepare_topk, tma=True), _make_tiles(bank)),
        Subject("sweep_tma", 2, partial(_prepare_sweep, keep=False), wide),
        Subject("kept_tma", 2, partial(_prepare_sweep, keep=True), parted),
        Subject("gradient_tma", 2, _prepare_step, parted),
        Subject("sigmoid_tma", 2, _prepare_sigmoid_step, parted),
        Subject("prefix_sweep", 2, _prepare_prefixes, prefixes),
        Subject("prefix_gradient", 2, _prepare_prefixes, prefixes),
    ]


def tune(report: Report, kernels: Sequence[str], sizes: Sizes, *, write: bool) -> None:
    """Time all candidates of these kernels (default: all, and the plans); write the winners."""
    race = Race(sizes, time.monotonic() + SECONDS, write)
    subjects = [s for s in list_subjects() if not kernels or s.kernel in kernels]
    with_plans = not kernels or "plans" in kernels
    if race.on_gpu:
        _compile([(s, tile) for s in subjects for tile in _candidates(s)], with_plans=with_plans)
        print(f"  compiled, {race.left:.0f} s left", flush=True)
    best = {s.key: _tune_tiles(report, s, race) for s in subjects}
    if write and {"topk", "topk_tma"} <= {kernel for kernel, _, _ in best}:
        write_topk_reading(tma=best["topk_tma", 90, 2] < best["topk", 90, 2])
    if with_plans:
        _tune_plans(report, race)


@dataclass(frozen=True)
class Race:
    """What all candidates share: input sizes, the deadline, whether winners are kept."""

    sizes: Sizes
    deadline: float
    write: bool

    @property
    def on_gpu(self) -> bool:
        """Tell whether this is a real run."""
        return self.sizes.device == "cuda"

    @property
    def left(self) -> float:
        """Return the seconds that are left."""
        return self.deadline - time.monotonic()

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the numbers of embeddings and of classes at which plans are compared."""
        return (ROWS, CLASSES) if self.on_gpu else ((2,), (2, 40))

    def list_plans(self) -> list[PlanName]:
        """Return the plans that run here."""
        return [name for name in PLANS if self.on_gpu or not PLANS[name].needs_hopper]


def _tune_tiles(report: Report, subject: Subject, race: Race) -> float:
    """Return the seconds of the best tile."""
    try:
        action = subject.prepare(race.sizes)
    except Exception as error:
        print(f"  {subject.kernel}: {str(error)[:80]}", flush=True)
        return math.inf
    times = {tile: _time_tile(subject, tile, action, race) for tile in _candidates(subject)}
    for tile, seconds in sorted(times.items(), key=lambda pair: pair[1]):
        name = f"{subject.kernel}, {subject.element_bytes} bytes"
        report.row(kernel=name, tile=_show(tile), ms=seconds * 1e3)
    best = min(times, key=lambda tile: times[tile])
    if math.isfinite(times[best]) and race.write:
        tile_table._TABLE[subject.key] = best  # the plans are timed with it
        write_tile(subject.key, best, f"{times[best] * 1e3:.3g} ms, {_describe()}")
    return times[best]


def _tune_plans(report: Report, race: Race) -> None:
    """Time every plan that could win at each size, and keep the choice if there was enough time."""
    chosen: dict[int, list[list[PlanName]]] = {}
    for element_bytes, dtype in TYPES.items():
        right = [n for n in race.list_plans() if find_plan_error(n, dtype, race.sizes) <= 1e-5]
        report.row(plans=str(dtype), right=", ".join(right))
        rows, classes = race.shapes
        chosen[element_bytes] = [
            [_find_best_plan(report, right, n, m, dtype, race) for m in classes] for n in rows
        ]
    if race.write and race.left > 0:
        write_plans(chosen, _describe())


def _find_best_plan(
    report: Report, names: list[PlanName], n: int, m: int, dtype: torch.dtype, race: Race
) -> PlanName:
    times = {name: _time_plan(name, n, m, dtype, race) for name in names if suits(name, n, m)}
    best = min(times, key=lambda name: times[name])
    shown = ", ".join(f"{name} {seconds * 1e6:.1f}" for name, seconds in times.items())
    report.row(type=str(dtype), n=n, m=m, best=best, microseconds=shown)
    return best


def suits(name: PlanName, n: int, m: int) -> bool:
    """Tell whether a plan could be the best at a size; others would only take time."""
    plan, size = PLANS[name], n * m
    if plan.partial and m < 4096:
        return False
    if plan.tile == "softmax" and not plan.library:
        return size <= 3e7 or n <= 16
    least = {"softmax": 1e4, "softmax_middle": 1e4, "softmax_large": 1e5}.get(plan.tile, 1e6)
    return least <= size <= (1e9 if plan.tile == "softmax_middle" else math.inf)


def warm_up(report: Report) -> None:
    """Compile what the table has now, one process per kernel: a run then only measures."""
    start = time.monotonic()
    _compile([(s, tile_table._TABLE[s.key]) for s in list_subjects()], with_plans=True)
    report.row(warm_up="all kernels", seconds=time.monotonic() - start)


def _compile(candidates: Sequence[tuple[Subject, Tile]], *, with_plans: bool) -> None:
    """Launch every candidate once in one of many processes, so that its code is in the cache."""
    places = {subject.key: place for place, subject in enumerate(list_subjects())}
    jobs: list[Action] = [partial(_compile_tile, places[s.key], tile) for s, tile in candidates]
    if with_plans:
        jobs += [partial(_compile_plan, name, dtype) for dtype in ALL_TYPES for name in PLANS]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for answer in pool.map(_call, jobs):
            if answer:
                print(f"  {answer}", flush=True)


def _call(job: Action) -> object:
    return job()


def _compile_tile(place: int, tile: Tile) -> str:
    """Launch one candidate on small inputs; return an error message, if any."""
    subject = list_subjects()[place]
    with _tile(subject, tile):
        try:
            subject.prepare(SMALL)()
            torch.cuda.synchronize()
        except Exception as error:  # a tile that does not fit is a result, not a failure
            return f"{subject.kernel} {_show(tile)}: {str(error)[:80]}"
    return ""


def _compile_plan(name: PlanName, dtype: torch.dtype) -> str:
    """Launch one plan at all sizes but the largest."""
    try:
        for n in ROWS:
            for m in (*CLASSES[:-1], 4096):
                if suits(name, n, m):
                    prepare_similarity(n, m, dtype, FULL, name)()
        torch.cuda.synchronize()
    except Exception as error:
        return f"{name} {dtype}: {str(error)[:80]}"
    return ""


def _time_tile(subject: Subject, tile: Tile, action: Action, race: Race) -> float:
    if race.left < 0:
        return math.inf
    with _tile(subject, tile):
        try:
            if subject.kernel == "softmax":
                return measure(capture(action, race.sizes), race.sizes)
            return measure(action, replace(race.sizes, rounds=5 if race.on_gpu else 1))
        except Exception as error:
            print(f"  {subject.kernel} {_show(tile)}: {str(error)[:80]}", flush=True)
            return math.inf


def _time_plan(name: PlanName, n: int, m: int, dtype: torch.dtype, race: Race) -> float:
    if race.left < 0:
        return math.inf
    rounds = 1 if not race.on_gpu else 4 if n * m > 1e8 else 15
    try:
        action = capture(prepare_similarity(n, m, dtype, race.sizes, name), race.sizes)
        return measure(action, replace(race.sizes, rounds=rounds))
    except Exception as error:
        print(f"  {name} {n} x {m} {dtype}: {str(error)[:80]}", flush=True)
        return math.inf


@contextmanager
def _tile(subject: Subject, tile: Tile) -> Iterator[None]:
    """Use this tile in the table for a while."""
    with mock.patch.dict(tile_table._TABLE, {subject.key: tile}):
        yield


def _candidates(subject: Subject) -> list[Tile]:
    return list(dict.fromkeys((tile_table._TABLE[subject.key], *subject.tiles)))


def _prepare_zero_shot(element_bytes: int, sizes: Sizes) -> Action:
    return prepare_similarity(64, 1000, TYPES[element_bytes], sizes, "small")


def _prepare_sweep(sizes: Sizes, *, keep: bool) -> Action:
    problem, shares = make_problem(sizes, sizes.batch)
    engine = TritonEngine(use_tma=True)
    return lambda: engine.softmax_sums(problem, shares, keep=keep)


def _prepare_step(sizes: Sizes) -> Action:
    problem, _ = make_problem(sizes, sizes.batch)
    return prepare_step(compute_clip, problem.x.raw, problem.y.raw, [SCALE])


def _prepare_prefixes(sizes: Sizes) -> Action:
    problem, _ = make_problem(sizes, sizes.batch // 2)
    widths = (sizes.d // 4, sizes.d // 2, sizes.d)
    return prepare_step(
        lambda x, y, s: matryoshka_loss(x, y, s, widths, engine="triton"),
        problem.x.raw, problem.y.raw, [SCALE],
    )  # fmt: skip


def _prepare_sigmoid_step(sizes: Sizes) -> Action:
    problem, _ = make_problem(sizes, sizes.batch, sigmoid=True)
    given = [SIGMOID_SCALE, SIGMOID_BIAS]
    return prepare_step(compute_sigmoid, problem.x.raw, problem.y.raw, given)


def _make_tiles(text: str) -> tuple[Tile, ...]:
    return tuple(Tile(*map(int, entry.split())) for entry in text.split(","))


def _show(tile: Tile) -> str:
    sizes = f"{tile.BM}, {tile.BN}, {tile.BK}, {tile.warps}, {tile.stages}"
    return f"{sizes}, blocks={tile.blocks}, parts={tile.parts}"


def _describe() -> str:
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = f"torch {torch.__version__.split('+')[0]}, triton {triton.__version__}"
    return f"{card}, {versions}, {datetime.date.today().isoformat()}"
