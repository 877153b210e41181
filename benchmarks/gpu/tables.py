"""The table of `docs/gpu.md`, made from a result file of `kernels_gpu.py` and put where it stands.

The result file is committed beside this one; a test holds the page to it, so no number on the page
was typed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

RESULT: Final = Path(__file__).with_name("measured.json")
PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "gpu.md"
_FIRST: Final = "<!-- measured: written by `benchmarks/kernels_gpu.py --markdown` -->"
_LAST: Final = "<!-- end of measured -->"


def render(content: dict[str, Any]) -> str:
    """Return a result as Markdown: where and when, the times, the bars."""
    lines = [_describe(content), ""]
    names = list(dict.fromkeys(name for row in content["rows"] for name in row))
    lines += _make_table([name.replace("_", " ") for name in names], _read(content["rows"], names))
    bars = [
        [name, _show(bar["value"]), _show(bar["target"]), "yes" if bar["holds"] else "**no**"]
        for name, bar in content["bars"].items()
    ]
    lines += ["", *_make_table(["bar", "measured", "target", "holds"], bars)]
    return "\n".join(lines) + "\n"


def replace_table(page: str, table: str) -> str:
    """Return the page with the table between its two marks replaced."""
    before, rest = page.split(_FIRST, 1)
    _, after = rest.split(_LAST, 1)
    return f"{before}{_FIRST}\n{table}{_LAST}{after}"


def find_table(page: str) -> str:
    """Return the table that stands between the page's two marks."""
    return page.split(_FIRST, 1)[1].split(_LAST, 1)[0].removeprefix("\n")


def publish(result: Path, *, kept: Path = RESULT, page: Path = PAGE) -> None:
    """Keep a result as the committed one and put its table on the page."""
    content = json.loads(result.read_text(encoding="utf-8"))
    kept.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    text = replace_table(page.read_text(encoding="utf-8"), render(content))
    page.write_text(text, encoding="utf-8")


def _describe(content: dict[str, Any]) -> str:
    given = content["card"]
    return (
        f"{given['name']}, torch {given['torch']}, triton {given['triton']}, "
        f"CUDA {given['cuda']}, {given['date']}."
    )


def _read(rows: list[dict[str, Any]], names: list[str]) -> list[list[str]]:
    return [[_show(row.get(name, "")) for name in names] for row in rows]


def _make_table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [_join(head), _join(["---"] * len(head)), *(_join(row) for row in rows)]


def _join(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _show(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)
