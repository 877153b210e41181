"""One step of iBOT with many prototypes: peak memory by batch and number of prototypes.

ViT-S/16 at 224 pixels with two large crops and no small ones, heads of the paper's width, forward
and backward. Each case runs in its own process, because the peak of a process's memory never falls.
`all_logits_gb` is one tensor of every patch's logits; a plain loss has several of them.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import torch
from report import Report, parse_arguments

from twinlens.training.config import Config, TrainingSettings
from twinlens.training.distributed.ranks import Ranks
from twinlens.training.loop.gradients import Differentiator
from twinlens.training.objective import Batch
from twinlens.training.objectives.ibot import IBOT
from twinlens.training.runs.assembly import build_network
from twinlens.training.runs.state import State
from twinlens.training.schedules import TrainingProgress
from twinlens.training.seeds import generator
from twinlens.training.views.crops import Crops
from twinlens.training.views.masks import draw_masks

SIDE, CELLS, BAR_GB = 224, 14, 6.0


def main() -> None:
    """Measure each case and compare with the bar."""
    arguments = parse_arguments(__doc__)
    cases = [(4, 1024), (4, 65536)] if arguments.quick else [(8, 1024), (8, 65536), (16, 65536)]
    report = Report("prototypes")
    peak = 0.0
    for batch, prototypes in cases:
        found = _measure_apart(batch, prototypes)
        logits = batch * 2 * CELLS**2 * prototypes * 4 / 1e9
        report.row(batch=batch, prototypes=prototypes, **found, all_logits_gb=round(logits, 2))
        peak = max(peak, found["peak_gb"])
    report.bar("peak GB at 65,536 prototypes", peak, BAR_GB, peak <= BAR_GB)
    report.finish(arguments.json)


def measure(batch: int, prototypes: int) -> dict[str, float]:
    """Return the peak memory before and after one backward pass, and its CPU seconds."""
    torch.set_num_threads(1)
    objective = IBOT(prototypes=prototypes, hidden=2048, narrow=256, local=Crops(0))
    settings = TrainingSettings(encoder="vit-small/16", image_size=SIDE)
    net = build_network(Config("ibot", objective, settings))
    state = State(objective.state(), net, 0)
    draws = generator(0)
    views = {"global": torch.randn(batch, 2, 3, SIDE, SIDE, generator=draws)}
    mask = draw_masks(draws, objective.masked, (batch, 2, CELLS, CELLS))
    way = Differentiator(objective, net, net, state, Ranks())
    held, began = _peak(), time.process_time()
    way.backward(Batch(views, {"mask": mask}), TrainingProgress(0, 9))
    spent = time.process_time() - began
    hidden = float(mask.float().mean())
    return {"hidden": hidden, "before_gb": held, "peak_gb": _peak(), "cpu_s": spent}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _measure_apart(batch: int, prototypes: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--case", str(batch), str(prototypes)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(printed)
    return {name: round(value, 2) for name, value in found.items()}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        print(json.dumps(measure(int(sys.argv[2]), int(sys.argv[3]))))
    else:
        main()
