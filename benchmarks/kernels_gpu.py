"""Everything about the kernels that only a CUDA machine can say, in one run.

    python benchmarks/kernels_gpu.py --json FILE        correctness first, then times against peers
    python benchmarks/kernels_gpu.py --tune             times of candidate tiles, as table entries
    TRITON_INTERPRET=1 python benchmarks/kernels_gpu.py --dry-run      the same code, tiny, on a CPU

Correctness runs again under compute-sanitizer where it is installed. The parts lie in `gpu/`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from gpu.inference import check_inference, check_library, time_inference
from gpu.losses import check_losses, time_losses
from gpu.stage import DRY, FULL, Sizes
from gpu.tuning import tune
from report import Report


def main() -> int:
    """Run what was asked for; exit 1 if a result is wrong, whatever the times are."""
    arguments = _parse()
    if arguments.dry_run:
        sizes = DRY
    elif torch.cuda.is_available():
        sizes = replace(FULL, d=arguments.dim)
    else:
        print("no CUDA device here; --dry-run shows that the script works")
        return 1
    report = Report("kernels_gpu")
    check_losses(report, sizes)
    check_inference(report, sizes)
    if arguments.correctness:
        report.finish(None)
        return _exit_code(report)
    if sizes.device == "cuda":
        check_with_sanitizer(report)
        check_library(report)
    if arguments.tune:
        tune(sizes)
        return _exit_code(report)
    _time_all(report, sizes)
    report.finish(arguments.json)
    return _exit_code(report)


def check_with_sanitizer(report: Report) -> None:
    """Run the correctness part again under compute-sanitizer, if it is installed."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        report.row(measurement="compute-sanitizer", contender="not installed")
        return
    command = [tool, "--error-exitcode", "9", sys.executable, __file__, "--correctness"]
    code = subprocess.run(command, check=False, capture_output=True).returncode
    report.bar("compute-sanitizer exit code", code, 0, code == 0)


def _time_all(report: Report, sizes: Sizes) -> None:
    time_losses(report, sizes)
    time_inference(report, sizes)


def _exit_code(report: Report) -> int:
    """Return 1 if something was wrong; a missed time is a result, not a failure."""
    words = ("error", "equal", "sanitizer", "library")
    wrong = [k for k, bar in report.bars.items() if not bar["holds"] and any(w in k for w in words)]
    return 1 if wrong else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="accepted, and the same run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and bars here")
    parser.add_argument("--dim", type=int, default=FULL.d, help="width of the embeddings")
    parser.add_argument("--tune", action="store_true", help="time candidate tiles instead")
    parser.add_argument("--correctness", action="store_true", help="stop after the errors")
    parser.add_argument("--dry-run", action="store_true", help="tiny, interpreted, on the CPU")
    arguments = parser.parse_args()
    if arguments.dry_run and os.environ.get("TRITON_INTERPRET") != "1":
        parser.error("--dry-run needs TRITON_INTERPRET=1 in the environment")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
