"""The cost of monitoring: CPU seconds of a step with and without online monitors and doctor.

    python benchmarks/monitors.py [--quick] --json monitors.json

SimCLR's default recipe on synthetic images. Three runs take ten steps alternately: one without
monitoring, one with the monitors (rank, spread, probe, kNN), one with the doctor as well. Ten steps
lie between two lines of the log, so each turn includes one measurement. The monitors' own share is
also measured directly, in CPU seconds: differences between runs are noisy.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from report import Report, parse_arguments, time_interleaved

from twinlens.training.config import apply_sets
from twinlens.training.loop.loop import take_step
from twinlens.training.loop.monitors import Monitors
from twinlens.training.loop.opening import open_session
from twinlens.training.loop.session import Session
from twinlens.training.progress import Silent
from twinlens.training.recipes import open_recipe

TARGET = 0.02
IMAGES, STEPS = 512, 10
RUNS = {
    "blind": ["monitor_share=0", "doctor=false"],
    "monitors": ["doctor=false"],
    "monitors and doctor": [],
}


def main() -> None:
    """Time the three alternately and print the cost of monitoring."""
    arguments = parse_arguments(__doc__)
    torch.set_num_threads(1)
    report = Report("monitors")
    with tempfile.TemporaryDirectory() as work, ExitStack() as ends:
        data = draw_images(Path(work) / "data")
        turns, watched = {}, {}
        for name, sets in RUNS.items():
            session = open_run(data, Path(work) / name, sets)
            ends.callback(session.close)
            share = session.config.settings.monitor_share / len(RUNS)
            watched[name] = session.monitors = Monitors(10, share, time.process_time)
            turns[name] = stepper(session)
        began = time.process_time()
        seconds = time_interleaved(turns, 2 if arguments.quick else 7)
    for name, value in seconds.items():
        added = value / seconds["blind"] - 1
        report.row(run=name, cpu_ms_per_step=round(1e3 * value / STEPS, 2), added=round(added, 4))
    share = watched["monitors"].spent / (time.process_time() - began)
    share *= len(RUNS)  # of its own run's time, a third of all
    report.bar("monitors_share", round(share, 4), TARGET, share <= TARGET)
    report.finish(arguments.json)


def open_run(data: str, out: Path, sets: list[str]) -> Session:
    """Return a fresh run that will not save while it is timed."""
    usual = ["device=cpu", "threads=1", "steps=1000000", "save_every=1000000", "stored_size=32"]
    config = apply_sets(open_recipe("simclr", "default"), [*usual, *sets])
    return open_session(config, data, out, Silent())


def stepper(session: Session) -> Callable[[], None]:
    """Return a function that takes the next ten steps of a run."""
    starts = itertools.count(0, STEPS)

    def turn() -> None:
        start = next(starts)
        for step in range(start, start + STEPS):
            take_step(session, step, Silent())

    return turn


def draw_images(folder: Path) -> str:
    """Write images of noise in ten classes."""
    draws = np.random.default_rng(0)
    for index in range(IMAGES):
        place = folder / f"class-{index % 10}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = draws.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{index:04}.png")
    return str(folder)


if __name__ == "__main__":
    main()
