"""Ten million items with path and caption: time, memory and disk of each stage of their life.

    python benchmarks/ten_million.py [--rows N] [--dim D] [--kind KIND] [--files N]
    [--folder DIR] [--markdown FILE] [--json FILE] [--quick]

All data are synthetic. Stages run one after the other, each in its own process: writing, merging
segments, indexing, deleting one in a hundred, compacting, opening and searching, a snapshot, a full
compaction; then a folder of many files is indexed and found unchanged. Held memory is what the
system cannot drop; mapped memory is the vectors, codes and columns that it can.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from report import Report
from scaling.folders import build_folder
from scaling.memory import StageUsage, draw_curve
from scaling.stages import (
    Plan,
    compact,
    compact_in_full,
    delete,
    index,
    run_stage,
    serve,
    snapshot,
    write,
)
from scaling.table import write_markdown

BUILD_GB, SERVE_GB = 4.0, 1.5
SERVING = ("open", "first search", "searches", "filter")


def main() -> None:
    """Run the stages; write the tables if requested."""
    arguments = _parse()
    report = Report("ten_million", kept=arguments.json)
    place = Path(tempfile.mkdtemp(prefix="ten-million-", dir=arguments.folder))
    plan = Plan(place, arguments.rows, arguments.dim, arguments.kind)
    usages: list[StageUsage] = []
    try:
        stages = [write, index, delete, compact, serve, snapshot, compact_in_full]
        if plan.kind == "exact":
            stages = [stage for stage in stages if stage is not index]
        for stage in stages:
            _add(report, usages, run_stage(stage, plan))
        shutil.rmtree(plan.folder)
        files = Plan(place, arguments.files, 0, "exact")
        folder_usages = run_stage(build_folder, files)
        _add(report, [], folder_usages)
    finally:
        shutil.rmtree(place)
    _hold_bars(report, usages)
    if arguments.markdown is not None:
        write_markdown(arguments.markdown, plan, usages, files.rows, folder_usages)
    report.finish(arguments.json)


def _add(report: Report, usages: list[StageUsage], found: list[StageUsage]) -> None:
    for one in found:
        usages.append(one)
        told = {"wall_s": one.wall_s, "cpu_s": one.cpu_s}
        told |= {"held_gb": one.held_gb, "mapped_gb": one.mapped_gb}
        curve = draw_curve(one.curve())
        report.row(what=one.name, **told, curve=curve, held=_figures(one), told=one.told)
        print(f"{one.name}: {told} {curve} {one.told}", flush=True)


def _figures(one: StageUsage) -> str:
    return " ".join(f"{value:.2f}" for value in one.curve())


def _hold_bars(report: Report, usages: list[StageUsage]) -> None:
    serving = [one for one in usages if any(word in one.name for word in SERVING)]
    building = [one for one in usages if one not in serving]
    for name, group, target in (("build", building, BUILD_GB), ("serve", serving, SERVE_GB)):
        held = max(one.held_gb for one in group)
        report.bar(f"held_gb_to_{name}", held, target, held <= target)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000, help="items (10,000,000)")
    parser.add_argument("--dim", type=int, default=128, help="of an embedding (128)")
    parser.add_argument("--kind", default="auto", help="of index; `exact` builds none")
    parser.add_argument("--files", type=int, default=1_000_000, help="files of the folder")
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary one")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here")
    parser.add_argument("--quick", action="store_true", help="60,000 rows, 20,000 files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and bars here")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rows, arguments.files = 60_000, 20_000
    return arguments


if __name__ == "__main__":
    main()
