"""What gradient checkpointing saves in memory, and costs in time, for one step of a tower.

Each way runs in its own process: the peak of its resident memory above what it held before the
step, and the CPU seconds of forward and backward pass.

    python benchmarks/gradient_checkpointing.py
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import torch
from report import Report, parse_arguments

from twinlens.training.encoders.catalogue import open_image_tower
from twinlens.training.nn.recomputation import recompute_blocks

TOWERS = {"vit-small/16": (224, 16), "resnet50": (224, 16)}
QUICK = {"vit-tiny/4": (32, 8)}
SHARE = 0.5


def main() -> None:
    """Measure each tower both ways, and print the table."""
    if len(sys.argv) > 1 and sys.argv[1] == "--one":
        encoder, side, images, choice = sys.argv[2:]
        print(json.dumps(measure(encoder, int(side), int(images), recomputes=choice == "1")))
        return
    arguments = parse_arguments(__doc__)
    report, shares = Report("gradient_checkpointing", arguments.json), []
    for name, (size, batch) in (QUICK if arguments.quick else TOWERS).items():
        usual, frugal = (start(name, size, batch, recomputes) for recomputes in ("0", "1"))
        shares.append(frugal["megabytes"] / usual["megabytes"])
        for way, numbers in (("usual", usual), ("checkpointed", frugal)):
            report.row(tower=name, size=size, batch=batch, way=way, **numbers)
    if not arguments.quick:  # small steps disappear in what Python and torch hold
        report.bar("share_of_memory", max(shares), SHARE, max(shares) <= SHARE)
    report.finish(arguments.json)


def start(name: str, size: int, batch: int, way: str) -> dict[str, float]:
    """Measure in a new process."""
    command = [sys.executable, __file__, "--one", name, str(size), str(batch), way]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(name: str, size: int, batch: int, *, recomputes: bool) -> dict[str, float]:
    """Return the megabytes that a step needs, and its CPU seconds."""
    torch.set_num_threads(1)
    tower = open_image_tower(name, size).train()
    if recomputes:
        recompute_blocks("image", tower)
    for parameter in tower.parameters():
        parameter.grad = torch.zeros_like(parameter)  # both ways hold them
    images = torch.randn(batch, 3, size, size)
    torch.autograd.backward(tower(images[:2]).square().mean())  # allocated by the first step
    before, began = peak(), time.process_time()
    torch.autograd.backward(tower(images).square().mean())
    seconds = time.process_time() - began
    return {"megabytes": round(peak() - before, 1), "cpu_seconds": round(seconds, 2)}


def peak() -> float:
    """Return the peak memory of this process, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
