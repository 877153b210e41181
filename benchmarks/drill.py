"""Drills: bad input, overload, drain, swap, dead worker, long job, large requests, with verdicts.

python benchmarks/drill.py [--quick] [--workers N] [--bundle PATH] [--json FILE] [NAME ...]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from drills import drain, job, large, overload, poison, swap, worker
from drills.stage import Server
from report import Report

DRILLS = {
    "poison": poison.drill,
    "overload": overload.drill,
    "drain": drain.drill,
    "swap": swap.drill,
    "worker": worker.drill,
    "job": job.drill,
    "large": large.drill,
}


def main() -> None:
    """Run the named drills, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    parser.add_argument(
        "--workers", default="1", metavar="N", help="HTTP processes; 1: a single process"
    )
    parser.add_argument("--bundle", default="builtin", help="what to serve")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and bars here")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(DRILLS)}")
    arguments = parser.parse_args()
    Server.workers = arguments.workers
    report = Report("drill")
    for name in arguments.names or DRILLS:
        if name not in DRILLS:
            parser.error(f"there is no drill {name!r}; there are {', '.join(DRILLS)}")
        before = set(report.bars)
        DRILLS[name](report, arguments.bundle, quick=arguments.quick)
        has_passed = all(report.bars[bar]["holds"] for bar in set(report.bars) - before)
        print(f"{name}: {'passed' if has_passed else 'FAILED'}", flush=True)
    report.finish(arguments.json)


if __name__ == "__main__":
    main()
