"""Everything about the kernels that only a CUDA machine can say, in one run.

    python benchmarks/kernels_gpu.py --json FILE        correctness first, then times against peers
    python benchmarks/kernels_gpu.py --json FILE --markdown      and its table into docs/gpu.md
    python benchmarks/kernels_gpu.py --tune --write     candidates' times, winners into the tables
    TRITON_INTERPRET=1 python benchmarks/kernels_gpu.py --dry-run      the same code, tiny, on a CPU

`--only PART ...` times some parts alone, and `--markdown` then renews their rows alone.
`--sanitizer` runs correctness again under compute-sanitizer. The parts lie in `gpu/`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import triton
from gpu.inference import check_inference, check_library, time_top_k, time_zero_shot
from gpu.losses import (
    check_losses,
    time_clip,
    time_huge_batch,
    time_lse,
    time_memory,
    time_prefixes,
    time_sigmoid,
)
from gpu.node import time_node
from gpu.stage import DRY, FULL, Sizes
from gpu.tables import publish
from gpu.tuning import tune, warm_up
from report import Report

Part = Callable[[Report], None]
ELSEWHERE = ("errors", "node", "memory")  # parts that a dry run covers elsewhere, or cannot have
PARTS = (
    "errors",
    "top-k",
    "zero-shot",
    "node",
    "lse",
    "clip",
    "sigmoid",
    "prefixes",
    "memory",
    "huge",
)


def main() -> int:
    """Run the requested parts; exit 1 if a result is wrong, whatever the times are."""
    arguments = _parse()
    if arguments.dry_run:
        sizes = DRY
    elif torch.cuda.is_available():
        sizes = replace(FULL, d=arguments.dim)
    else:
        print("no CUDA device here; --dry-run checks that the script works")
        return 1
    report = Report("kernels_gpu", arguments.json)
    for part in _list_parts(arguments, sizes):
        _attempt(report, part)
    report.finish(arguments.json)
    if arguments.json is not None:
        _add_card(arguments.json)
        if arguments.markdown:
            publish(arguments.json, merge=bool(arguments.only))
    return _exit_code(report)


def _list_parts(arguments: argparse.Namespace, sizes: Sizes) -> list[Part]:
    """Return the requested parts in order: correctness before speed."""
    if arguments.tune is not None:
        return [partial(tune, kernels=arguments.tune, sizes=sizes, write=arguments.write)]
    checks: list[Part] = [partial(check_losses, sizes=sizes), partial(check_inference, sizes=sizes)]
    if arguments.correctness:
        return checks
    times = _list_times(sizes, arguments.models)
    if arguments.only:
        return [times[name] for name in times if name in arguments.only]
    if sizes.device != "cuda":
        return [*checks, *(part for name, part in times.items() if name not in ELSEWHERE)]
    sanitizer: list[Part] = [check_with_sanitizer] if arguments.sanitizer else []
    return [warm_up, *checks, *sanitizer, check_library, *list(times.values())[1:]]


def _list_times(sizes: Sizes, models: Path | None) -> dict[str, Part]:
    """Return the timed parts, by the names that `--only` accepts."""
    return {
        "errors": partial(check_losses, sizes=sizes),
        "top-k": partial(time_top_k, sizes=sizes),
        "zero-shot": partial(time_zero_shot, sizes=sizes),
        "node": partial(time_node, sizes=sizes, models=models),
        "lse": partial(time_lse, sizes=sizes),
        "clip": partial(time_clip, sizes=sizes),
        "sigmoid": partial(time_sigmoid, sizes=sizes),
        "prefixes": partial(time_prefixes, sizes=sizes),
        "memory": partial(time_memory, sizes=sizes),
        "huge": partial(time_huge_batch, sizes=sizes),
    }


def _attempt(report: Report, part: Part) -> None:
    """Run one part; a failure is reported, and does not affect the others."""
    try:
        part(report)
    except Exception as error:
        traceback.print_exc()
        report.bar(f"error: {str(error)[:80]}", 1, 0, holds=False)


def _add_card(path: Path) -> None:
    """Add the GPU, the versions and the date to a result."""
    content = json.loads(path.read_text(encoding="utf-8"))
    cuda = torch.cuda.is_available()
    content["card"] = {
        "name": torch.cuda.get_device_name() if cuda else "no GPU, interpreted",
        "torch": torch.__version__.split("+")[0],
        "triton": triton.__version__,
        "cuda": torch.version.cuda or "none",
        "date": datetime.date.today().isoformat(),
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def check_with_sanitizer(report: Report) -> None:
    """Run the correctness part again under compute-sanitizer, if it is installed."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        report.row(measurement="compute-sanitizer", contender="not installed")
        return
    command = [tool, "--error-exitcode", "9", sys.executable, __file__, "--correctness"]
    code = subprocess.run(command, check=False, capture_output=True).returncode
    report.bar("compute-sanitizer exit code", code, 0, code == 0)


def _exit_code(report: Report) -> int:
    """Return 1 if something was wrong; a missed time is a result, not a failure."""
    words = ("error", "equal", "sanitizer", "library")
    wrong = [k for k, bar in report.bars.items() if not bar["holds"] and any(w in k for w in words)]
    return 1 if wrong else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="accepted without effect")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and bars here")
    parser.add_argument("--dim", type=int, default=FULL.d, help="width of the embeddings")
    parser.add_argument(
        "--tune",
        nargs="*",
        metavar="KERNEL",
        help="time candidates of these kernels (or `plans`), by default of all",
    )
    parser.add_argument(
        "--sanitizer", action="store_true", help="check errors again under NVIDIA's sanitizer"
    )
    parser.add_argument("--write", action="store_true", help="with --tune: write the winners")
    parser.add_argument("--markdown", action="store_true", help="with --json: renew docs/gpu.md")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="time only these parts")
    parser.add_argument(
        "--models", type=Path, help="folder with node.onnx, if onnx is not installed"
    )
    parser.add_argument("--correctness", action="store_true", help="check errors only")
    parser.add_argument("--dry-run", action="store_true", help="tiny, interpreted, on the CPU")
    arguments = parser.parse_args()
    if arguments.dry_run and arguments.write:
        parser.error("--dry-run measures nothing that --write could write")
    if arguments.dry_run and os.environ.get("TRITON_INTERPRET") != "1":
        parser.error("--dry-run needs TRITON_INTERPRET=1 in the environment")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
