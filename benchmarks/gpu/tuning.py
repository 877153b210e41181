"""Candidate tiles: compiled by many processes into one cache, timed one by one, winners written.

Compiling is most of the time that tuning takes and needs only processors, so each candidate is
first launched once, on small inputs, by a process of its own choosing; the code lands in Triton's
cache (TRITON_CACHE_DIR). Then this process times them in turn and finds everything compiled. A
kernel's first candidate is the tile that the table has now. No candidate is begun after the deadline.
"""

from __future__ import annotations

import datetime
import math
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final
from unittest import mock

import torch
import triton
from report import Report

from gpu.inference import prepare_similarity, prepare_topk
from gpu.losses import compute_clip, make_problem, step
from gpu.stage import FULL, Sizes, capture, measure
from twinlens.kernels.gpu import tile_table
from twinlens.kernels.gpu.engine import TritonEngine
from twinlens.kernels.gpu.tile_table import KernelName, Tile

SECONDS: Final = 200.0  # that tuning may take in all
SMALL: Final = replace(FULL, batch=4096, classes=100_000)  # large enough to take the same code

Action = Callable[[], object]
Prepare = Callable[[Sizes], Action]


@dataclass(frozen=True)
class Subject:
    """A kernel of 16-bit embeddings, the action that shows its time, and the tiles to try."""

    kernel: KernelName
    prepare: Prepare
    tiles: tuple[Tile, ...]


def list_subjects() -> list[Subject]:
    """Return all kernels that are tuned, with their candidates."""
    wide = _make_tiles(
        "128 256 64 8 3, 128 256 32 8 4, 256 128 64 8 3, 128 128 64 8 3, 128 128 64 8 4,"
        "128 128 64 4 3, 64 256 64 4 3"
    )
    return [
        Subject("sweep", lambda sizes: _prepare_sweep(sizes, use_tma=False), wide),
        Subject("sweep_tma", lambda sizes: _prepare_sweep(sizes, use_tma=True), wide),
        Subject("gradient", _prepare_step, wide),
        Subject(
            "softmax",
            prepare_similarity,
            _make_tiles("16 32 64 4 4, 16 32 128 4 3, 16 32 256 4 2, 16 32 512 4 1, 16 16 512 4 1"),
        ),
        Subject(
            "topk",
            prepare_topk,
            _make_tiles(
                "32 256 64 8 4, 32 256 64 8 3, 32 128 128 4 3, 32 128 64 4 4, 32 128 64 4 6,"
                "32 64 512 4 3"
            ),
        ),
    ]


def tune(report: Report, *, write: bool) -> None:
    """Time all candidates, one row each; with `write` put the winners into the table."""
    deadline = time.monotonic() + SECONDS
    subjects = list_subjects()
    compile_all(subjects)
    for subject in subjects:
        times = {tile: _time(subject, tile, deadline) for tile in _order(subject)}
        for tile, seconds in sorted(times.items(), key=lambda pair: pair[1]):
            report.row(kernel=subject.kernel, tile=_show(tile), ms=seconds * 1e3)
        best = min(times, key=lambda tile: times[tile])
        if write and math.isfinite(times[best]):
            write_winner(_find_table(), (subject.kernel, 90, 2), best, _describe(times[best]))


def compile_all(subjects: list[Subject]) -> None:
    """Launch every candidate once in one of many processes, so that its code is in the cache."""
    jobs = [(place, tile) for place, subject in enumerate(subjects) for tile in subject.tiles]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for answer in pool.map(_compile, *zip(*jobs, strict=True)):
            if answer:
                print(f"  {answer}")


def write_winner(
    table: Path, key: tuple[KernelName, int, int], tile: Tile, description: str
) -> None:
    """Replace a tile in the source of the table, the measurement as a comment above it."""
    name = f'("{key[0]}", {key[1]}, {key[2]})'
    line = re.compile(
        rf"^(    # measured: .*\n)?    {re.escape(name)}: Tile\(.*\),\n", re.MULTILINE
    )
    text = table.read_text(encoding="utf-8")
    entry = f"    # measured: {description}\n    {name}: Tile({_show(tile)}),\n"
    # The first is that of aligned embeddings, which are the ones measured.
    replaced, count = line.subn(lambda _: entry, text, count=1)
    if count != 1:
        raise ValueError(f"{table} has no entry {name}")
    table.write_text(replaced, encoding="utf-8")


def _compile(place: int, tile: Tile) -> str:
    """Launch one candidate on small inputs; return what went wrong, if anything did."""
    subject = list_subjects()[place]
    with mock.patch.dict(tile_table._TABLE, {(subject.kernel, 90, 2): tile}):
        try:
            subject.prepare(SMALL)()
            torch.cuda.synchronize()
        except Exception as error:  # a tile that does not fit is an answer, not a failure
            return f"{subject.kernel} {_show(tile)}: {str(error)[:80]}"
    return ""


def _time(subject: Subject, tile: Tile, deadline: float) -> float:
    if time.monotonic() > deadline:
        return math.inf
    with mock.patch.dict(tile_table._TABLE, {(subject.kernel, 90, 2): tile}):
        try:
            action = subject.prepare(FULL)
            if subject.kernel == "softmax":
                action = capture(action, FULL)
            return measure(action, replace(FULL, rounds=5))
        except Exception as error:
            print(f"  {subject.kernel} {_show(tile)}: {str(error)[:80]}")
            return math.inf


def _order(subject: Subject) -> list[Tile]:
    present = tile_table._TABLE[subject.kernel, 90, 2]
    return list(dict.fromkeys((present, *subject.tiles)))


def _prepare_sweep(sizes: Sizes, *, use_tma: bool) -> Action:
    problem, shares = make_problem(sizes, sizes.batch)
    engine = TritonEngine(use_tma=use_tma)
    return lambda: engine.softmax_lse(problem, shares)


def _prepare_step(sizes: Sizes) -> Action:
    problem, _ = make_problem(sizes, sizes.batch)
    return lambda: step(compute_clip, problem.x.raw, problem.y.raw)


def _make_tiles(text: str) -> tuple[Tile, ...]:
    return tuple(Tile(*map(int, entry.split())) for entry in text.split(","))


def _show(tile: Tile) -> str:
    return f"{tile.BM}, {tile.BN}, {tile.BK}, {tile.warps}, {tile.stages}"


def _describe(seconds: float) -> str:
    card, day = torch.cuda.get_device_name(), datetime.date.today().isoformat()
    versions = f"torch {torch.__version__.split('+')[0]}, triton {triton.__version__}"
    return f"{seconds * 1e3:.3g} ms, {card}, {versions}, {day}"


def _find_table() -> Path:
    return Path(str(tile_table.__file__))
