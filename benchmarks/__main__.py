"""Runs every benchmark and prints which bars hold: `python benchmarks [--quick] [NAME ...]`.

What must stay true: each runs in its own process under a time limit, so that one that hangs costs
only its own rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
_NOT_BENCHMARKS = {"__main__", "peak", "report"}
_QUICK_SECONDS, _FULL_SECONDS = 480, 3600


def main() -> int:
    """Run all; exit 1 only if one of them failed."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="smaller inputs, a few minutes in total"
    )
    parser.add_argument("names", nargs="*", help="benchmarks to run; default all")
    arguments = parser.parse_args()
    broken = []
    lines = []
    for name in arguments.names or list_benchmarks():
        content = run_benchmark(name, arguments.quick)
        if content is None:
            broken.append(name)
            continue
        for bar, result in content["bars"].items():
            verdict = "holds " if result["holds"] else "MISSED"
            target = f"target {result['target']:.4g}"
            lines.append(f"  {verdict} {name}.{bar}: {result['value']:.4g} ({target})")
    print("\nbars", *lines, sep="\n")
    if broken:
        print(f"did not finish: {', '.join(broken)}")
    return 1 if broken else 0


def list_benchmarks() -> list[str]:
    """Return the names of all benchmarks that need no GPU."""
    names = sorted(path.stem for path in _HERE.glob("*.py"))
    return [name for name in names if name not in _NOT_BENCHMARKS and not name.endswith("_gpu")]


def run_benchmark(name: str, quick: bool) -> dict[str, Any] | None:
    """Run one benchmark, passing its output through; return its JSON, or None if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, str(_HERE / f"{name}.py"), "--json", str(result)]
        cap = _QUICK_SECONDS if quick else _FULL_SECONDS
        try:
            subprocess.run(command + ["--quick"] * quick, check=True, timeout=cap)
            content: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            print(f"{name}: {error}")
            return None
        return content


if __name__ == "__main__":
    sys.exit(main())
