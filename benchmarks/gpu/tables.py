"""The table of `docs/gpu.md`, made from a result file of `kernels_gpu.py`.

What must stay true: the result file is committed beside this module and a test compares the page
with it, so that no number on the page is typed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

RESULT: Final = Path(__file__).with_name("measured.json")
PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "gpu.md"
_FIRST: Final = "<!-- measured: written by `benchmarks/kernels_gpu.py --markdown` -->"
_LAST: Final = "<!-- end of measured -->"


def render(content: dict[str, Any]) -> str:
    """Return a result as Markdown: where and when, a table for each kind of row, the bars."""
    parts = [_describe(content)]
    kinds: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in content["rows"]:
        kinds.setdefault(tuple(row), []).append(row)
    for names, rows in kinds.items():
        parts.append(_make_table([n.replace("_", " ") for n in names], _read(rows, names)))
    bars = [
        [name, _show(bar["value"]), _show(bar["target"]), "yes" if bar["holds"] else "**no**"]
        for name, bar in content["bars"].items()
    ]
    parts.append(_make_table(["bar", "measured", "target", "holds"], bars))
    return "\n\n".join(parts) + "\n"


def replace_table(page: str, table: str) -> str:
    """Return the page with the table between its two marks replaced."""
    before, rest = page.split(_FIRST, 1)
    _, after = rest.split(_LAST, 1)
    return f"{before}{_FIRST}\n{table}{_LAST}{after}"


def find_table(page: str) -> str:
    """Return the table between the page's two marks."""
    return page.split(_FIRST, 1)[1].split(_LAST, 1)[0].removeprefix("\n")


def publish(result: Path, *, merge: bool = False, kept: Path = RESULT, page: Path = PAGE) -> None:
    """Store a result as the committed one and put its table on the page.

    `merge`: only some parts were measured; the other rows stay, if GPU and versions are the same.
    """
    content = json.loads(result.read_text(encoding="utf-8"))
    if merge:
        content = merge_results(json.loads(kept.read_text(encoding="utf-8")), content)
    kept.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    text = replace_table(page.read_text(encoding="utf-8"), render(content))
    page.write_text(text, encoding="utf-8")


def merge_results(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the new result with those rows and bars of the old one that it does not replace."""
    if {k: v for k, v in old["card"].items() if k != "date"} != {
        k: v for k, v in new["card"].items() if k != "date"
    }:
        raise ValueError(
            f"the kept result is of {_describe(old)} This is {_describe(new)} Measure all parts."
        )
    renewed = {_identify(row) for row in new["rows"]}
    rows = [row for row in old["rows"] if _identify(row) not in renewed]
    return {**new, "rows": [*rows, *new["rows"]], "bars": {**old["bars"], **new["bars"]}}


def _identify(row: dict[str, Any]) -> tuple[object, ...]:
    """Return the fields of a row that are not measurements."""
    return (next(iter(row.items())), row.get("contender"), row.get("n"))


def _describe(content: dict[str, Any]) -> str:
    given = content["card"]
    return (
        f"{given['name']}, torch {given['torch']}, triton {given['triton']}, "
        f"CUDA {given['cuda']}, {given['date']}."
    )


def _read(rows: list[dict[str, Any]], names: Sequence[str]) -> list[list[str]]:
    return [[_show(row[name]) for name in names] for row in rows]


def _make_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [_join(head), _join(["---"] * len(head)), *(_join(row) for row in rows)]
    return "\n".join(lines)


def _join(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _show(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)
