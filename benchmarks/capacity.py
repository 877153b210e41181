"""Machines, hours, bytes and the cost of a query for collections of any size, by arithmetic.

    python benchmarks/capacity.py [--images-per-core N] [--hours H] [--core-hour PRICE]
                                  [--page FILE] [--json FILE]

Nothing is measured here: the figures come from docs/benchmarks, each with its
source beside it, and every result is proportional to them. With --page, the table of docs/scale.md
is written anew.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from report import Report

SIZES = (10_000_000, 1_000_000_000, 100_000_000_000)
START, END = "<!-- capacity: made by", "<!-- end of capacity -->"


@dataclass(frozen=True)
class Figures:
    """The measured figures, per core or per item, and the machine."""

    images_per_core: float = 945.0  # builtin, two quiet cores, 1,890/s (docs/benchmarks/search.md)
    rows_written: float = 80_000.0  # a CPU second of the one writer (docs/benchmarks/scale.md)
    index_cpu: float = 202.0 / 1e6  # CPU s an item, ivf-sq8 at 512 (docs/benchmarks/search.md)
    query_cpu: float = 0.41e-3  # CPU seconds at 1,000,000 x 512 (docs/benchmarks/search.md)
    query_rows: float = 1e6
    dim: int = 512
    catalog_bytes: float = 160.0  # an item with a short path and caption (docs/scale.md)
    memory: float = 64e9  # of a machine
    cores: int = 16
    core_hour: float = 0.04  # price of a core hour


@dataclass(frozen=True)
class Estimate:
    """What a collection of `items` needs."""

    items: int
    encode_core_hours: float
    disk_bytes: float
    code_bytes: float
    machines: int
    hours: float
    query_ms: float
    queries_cost: float  # price of a million queries


def estimate(items: int, figures: Figures, hours: float) -> Estimate:
    """Return what a collection needs if it must be encoded within so many hours."""
    seconds = items / figures.images_per_core
    work = seconds + items * figures.index_cpu + items / figures.rows_written
    core_hours = work / 3600
    disk = items * (2 * figures.dim + figures.dim + figures.catalog_bytes)
    codes = items * figures.dim  # one byte per dimension, which must be in memory
    held = math.ceil(codes / (0.5 * figures.memory))
    for_encoding = math.ceil(core_hours / hours / figures.cores)
    machines = max(1, held, for_encoding)
    shards = max(1.0, items / figures.query_rows)
    query = figures.query_cpu * math.sqrt(shards)  # lists grow with the square root of the rows
    spread = query * math.sqrt(machines)  # each machine searches its own part
    return Estimate(
        *(items, core_hours, disk, codes, machines),
        core_hours / (machines * figures.cores),
        1000 * spread,
        1e6 * spread / 3600 * figures.core_hour,
    )


def make_rows(figures: Figures, hours: float) -> list[dict[str, object]]:
    """Return the table: one row per size."""
    rows: list[dict[str, object]] = []
    for items in SIZES:
        one = estimate(items, figures, hours)
        rows.append(
            {
                "items": f"{items:,}",
                "core hours": f"{one.encode_core_hours:,.0f}",
                "disk": show_bytes(one.disk_bytes),
                "codes in memory": show_bytes(one.code_bytes),
                "machines": f"{one.machines:,}",
                "hours": f"{one.hours:,.1f}",
                "CPU ms a query": f"{one.query_ms:,.1f}",
                "a million queries": f"{one.queries_cost:,.2f}",
            }
        )
    return rows


def show_bytes(count: float) -> str:
    """Return bytes in readable units."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} PB"


def write_page(page: Path, rows: list[dict[str, object]]) -> None:
    """Replace the table of a page."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    mark, _, rest = rest.partition("\n")
    after = rest.partition(END)[2]
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows]
    table = "\n".join(lines)
    page.write_text(f"{before}{START}{mark}\n\n{table}\n\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Print the table; write it into a page if one is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Figures()
    parser.add_argument("--images-per-core", type=float, default=default.images_per_core)
    parser.add_argument("--core-hour", type=float, default=default.core_hour)
    parser.add_argument("--hours", type=float, default=24.0, help="to encode all within")
    parser.add_argument("--page", type=Path, metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="no effect: this is arithmetic")
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    figures = Figures(images_per_core=chosen.images_per_core, core_hour=chosen.core_hour)
    rows = make_rows(figures, chosen.hours)
    report = Report("capacity")
    for row in rows:
        report.row(**row)
    report.finish(chosen.json)
    if chosen.page:
        write_page(chosen.page, rows)


if __name__ == "__main__":
    main()
