"""CLIP's loss, forward and backward on the CPU, over the batch size: memory, CPU time, exactness.

Contenders: ours; `plain`, the same formula with one logits matrix in torch; `vanilla`, with both
matrices, as in the paper's pseudo-code; and open_clip's own loss if it is installed. Each contender
runs in its own process over growing n, because the peak of a process's memory never falls. They
alternate, because the machine's speed drifts; the minimum of CPU time counts, because other work
only adds to it.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from report import Report, parse_arguments
from torch import Tensor

from twinlens.kernels import loss, reference

DIM = 512
BAR_N, EXTRA_MB = 8192, 260.0
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "img" / "loss.svg"


def main() -> None:
    """Measure all contenders over n, print the table, draw the curves, compare with the bars."""
    arguments = parse_arguments(__doc__)
    sizes = [512, 2048] if arguments.quick else [512, 1024, 2048, 4096, BAR_N]
    rounds = 1 if arguments.quick else 2
    names = [name for name in CONTENDERS if name != "open_clip" or find_spec("open_clip")]
    report = Report("loss")
    found: dict[tuple[str, int], dict[str, float]] = {}
    turns = [{name: _measure_apart(name, sizes) for name in names} for _ in range(rounds)]
    for place, n in enumerate(sizes):
        for name in names:
            found[name, n] = _least([turn[name][place] for turn in turns])
            report.row(n=n, contender=name, **found[name, n])
    largest = sizes[-1]
    ours, plain = found["twinlens", largest], found["plain", largest]
    if largest == BAR_N:
        report.bar("extra MB at n=8192", ours["extra_mb"], EXTRA_MB, ours["extra_mb"] <= EXTRA_MB)
    for name in names[2:]:
        ratio = ours["cpu_s"] / found[name, largest]["cpu_s"]
        report.bar(f"CPU time / {name}'s at n={largest}", ratio, 1.0, ratio <= 1.0)
    off = abs(ours["loss"] - plain["loss"]) / plain["loss"]
    report.bar("relative difference of the loss", off, 1e-6, off <= 1e-6)
    off = abs(ours["grad_norm"] - plain["grad_norm"]) / plain["grad_norm"]
    report.bar("relative difference of the gradient's norm", off, 1e-5, off <= 1e-5)
    if not arguments.quick:
        draw(found, names, sizes, PICTURE)
    report.finish(arguments.json)


def measure(contender: str, n: int) -> dict[str, float]:
    """Return the cost of one symmetric forward and backward in this process."""
    torch.manual_seed(0)
    run = CONTENDERS[contender]
    warm = [torch.randn(64, DIM, requires_grad=True) for _ in range(2)]
    torch.autograd.backward(run(*warm, torch.tensor(100.0, requires_grad=True)))
    x, y = (torch.randn(n, DIM, requires_grad=True) for _ in range(2))
    scale = torch.tensor(100.0, requires_grad=True)
    before, start = _resident_mb(), time.process_time()
    value = run(x, y, scale)
    torch.autograd.backward(value)
    seconds = time.process_time() - start
    assert x.grad is not None
    return {
        "extra_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before,
        "cpu_s": seconds,
        "loss": value.item(),
        "grad_norm": x.grad.norm().item(),
    }


def draw(
    found: dict[tuple[str, int], dict[str, float]], names: list[str], sizes: list[int], path: Path
) -> None:
    """Write two plots over n as one SVG: extra memory and CPU seconds, both axes logarithmic."""
    colours = ["#0b6e4f", "#999999", "#c44536", "#3d5a80"]
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="760" height="330" font-size="12"']
    parts.append(' font-family="sans-serif"><rect width="760" height="330" fill="white"/>')
    plots = (("extra_mb", "extra memory (MB)", 60), ("cpu_s", "CPU seconds", 430))
    for key, title, left in plots:
        values = [max(found[name, n][key], 1e-3) for name in names for n in sizes]
        x_of = _axis(float(min(sizes)), float(max(sizes)), left, left + 300)
        y_of = _axis(min(values), max(values), 280, 40)
        parts.append(f'<text x="{left}" y="22">{title}, forward and backward (log scales)</text>')
        parts += [f'<text x="{x_of(n):.0f}" y="300" text-anchor="middle">{n}</text>' for n in sizes]
        for value in (min(values), max(values)):
            at = f'x="{left - 6}" y="{y_of(value):.0f}" text-anchor="end"'
            words = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
            parts.append(f"<text {at}>{words}</text>")
        for name, colour in zip(names, colours, strict=False):
            points = [(x_of(n), y_of(max(found[name, n][key], 1e-3))) for n in sizes]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(
                f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
    for place, (name, colour) in enumerate(zip(names, colours, strict=False)):
        parts.append(f'<text x="{60 + 120 * place}" y="322" fill="{colour}">{name}</text>')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")


def _axis(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Return the map from a value to its place on a logarithmic axis."""
    span = math.log(high / low) or 1.0
    return lambda value: start + (end - start) * math.log(value / low) / span


def _measure_apart(contender: str, sizes: list[int]) -> list[dict[str, float]]:
    command = [sys.executable, __file__, "--contender", contender, *map(str, sizes)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    content: list[dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return content


def _least(turns: list[dict[str, float]]) -> dict[str, float]:
    """Return the minimum of CPU time over the rounds, with the maximum of memory."""
    best = min(turns, key=lambda turn: turn["cpu_s"])
    return best | {"extra_mb": max(turn["extra_mb"] for turn in turns)}


def _vanilla(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    u, v = F.normalize(x, dim=1), F.normalize(y, dim=1)
    labels = torch.arange(len(u))
    to_y, to_x = scale * u @ v.T, scale * v @ u.T
    return (F.cross_entropy(to_y, labels) + F.cross_entropy(to_x, labels)) / 2


def _plain(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    logits = scale * reference.similarity(x, y)
    labels = torch.arange(len(x))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def _open_clip(x: Tensor, y: Tensor, scale: Tensor) -> Tensor:
    from open_clip import ClipLoss

    value: Tensor = ClipLoss()(F.normalize(x, dim=1), F.normalize(y, dim=1), scale)
    return value


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


CONTENDERS: dict[str, Callable[..., Tensor]] = {
    "twinlens": loss.clip_loss,
    "plain": _plain,
    "vanilla": _vanilla,
    "open_clip": _open_clip,
}


def _child() -> None:
    parser: Any = argparse.ArgumentParser()
    parser.add_argument("--contender", choices=list(CONTENDERS))
    parser.add_argument("sizes", type=int, nargs="+")
    arguments = parser.parse_args()
    print(json.dumps([measure(arguments.contender, n) for n in arguments.sizes]))


if __name__ == "__main__":
    _child() if "--contender" in sys.argv else main()
