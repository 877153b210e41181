"""docs/equality.md: it has every method, and what can be measured here is as equal as it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from twinlens.training.objectives import METHODS

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "equality.md"


def page_rows() -> list[list[str]]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return cells[2:]


def test_the_page_has_every_method_and_no_difference_above_rounding() -> None:
    rows = page_rows()
    assert {row[0] for row in rows} >= set(METHODS)
    for _, _, *numbers in rows:
        assert all(float(number) < 1e-6 for number in numbers if number != "-")


def test_the_comparisons_that_can_be_made_here_are_as_equal_as_the_page_says(
    tmp_path: Path,
) -> None:
    """The formulas and open_clip's losses; lightly's where it is installed."""
    found = tmp_path / "equality.json"
    command = [sys.executable, "benchmarks/equality.py", "--quick", "--json", str(found)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    content = json.loads(found.read_text())
    assert all(bar["holds"] for bar in content["bars"].values())
    known = {(row[0], row[1].partition(": ")[2]): row[2:] for row in page_rows()}
    measured = {(row["method"], row["what"]): row for row in content["rows"]}
    assert {"mocov3", "supcon", "mae", "clip", "siglip"} <= {method for method, _ in measured}
    for name in measured.keys() & known.keys():
        assert all(float(number) < 1e-6 for number in known[name] if number != "-")
    assert measured.keys() <= known.keys()
