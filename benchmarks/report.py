"""What every benchmark prints and writes: a table, its bars, a JSON file with both.

The JSON holds `{"name", "machine", "rows": [...], "bars": {bar: {"value", "target", "holds"}}}`.
The scripts of this folder import it as `report`, so that each runs by its path alone. What must
stay true: a benchmark exits with code 0 whether its bars hold or not: a bar is a measurement, not a
test.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path


class Report:
    """One benchmark's rows and bars; with `kept` each is written to that file at once."""

    def __init__(self, name: str, kept: Path | None = None) -> None:
        self.name = name
        self.kept = kept
        self.rows: list[dict[str, object]] = []
        self.bars: dict[str, dict[str, object]] = {}

    def row(self, **columns: object) -> None:
        """Add one line of the table."""
        self.rows.append(columns)
        self._keep()

    def bar(self, name: str, value: float, target: float, holds: bool) -> None:
        """Add one bar: the measured value, its target, and whether it holds."""
        self.bars[name] = {"value": value, "target": target, "holds": bool(holds)}
        self._keep()

    def finish(self, json_path: Path | None = None) -> None:
        """Print the table and the bars; write the JSON file if requested."""
        print(f"\n{self.name} on {describe_machine()}")
        print_table(self.rows)
        for name, bar in self.bars.items():
            verdict = "holds" if bar["holds"] else "MISSED"
            print(f"  {name}: {_show(bar['value'])} (target {_show(bar['target'])}) {verdict}")
        if json_path is not None:
            self._write(json_path)

    def _keep(self) -> None:
        if self.kept is not None:
            self._write(self.kept)

    def _write(self, path: Path) -> None:
        content = {
            "name": self.name,
            "machine": describe_machine(),
            "rows": self.rows,
            "bars": self.bars,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def parse_arguments(description: str | None) -> argparse.Namespace:
    """Return the arguments that every benchmark has: `quick` and `json`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller inputs, fewer rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and bars here")
    return parser.parse_args()


def time_interleaved(
    contenders: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, float]:
    """Return the median CPU seconds of a call of each contender, over `rounds` alternating calls.

    CPU seconds of the process, because the machine is shared; alternately, because its speed
    drifts.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def describe_machine() -> str:
    """Return the processor and its number of CPUs, as far as this system tells."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":")[1].strip() if lines else model
    return f"{model}, {os.cpu_count()} logical CPUs, Python {platform.python_version()}"


def print_table(rows: list[dict[str, object]]) -> None:
    """Print rows with their columns aligned."""
    if not rows:
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names] + [[_show(row.get(name, "")) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    for line in cells:
        print("  " + "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)))


def _show(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)
