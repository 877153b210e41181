"""Writes the measurements of `ten_million.py` as a page of tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from report import describe_machine

from scaling.memory import StageUsage, draw_curve
from scaling.stages import Plan

_HEAD = (
    "| stage | wall s | CPU s | held GB, most | mapped GB, most | held over the stage |\n"
    "|---|---|---|---|---|---|"
)


def write_markdown(
    path: Path,
    plan: Plan,
    usages: Sequence[StageUsage],
    files: int,
    folder_usages: Sequence[StageUsage],
) -> None:
    """Write one table of the collection and one of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = f"python benchmarks/ten_million.py --rows {plan.rows} --dim {plan.dim}"
    command += f" --kind {plan.kind} --files {files}"
    lines = [
        f"`{command}`",
        "",
        f"{describe_machine()}.",
        "",
        f"## {plan.rows:,} items of {plan.dim} dimensions",
        "",
        *_table(usages),
        "",
        f"## A folder of {files:,} files",
        "",
        *_table(folder_usages),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _table(usages: Sequence[StageUsage]) -> list[str]:
    rows = [
        f"| {one.name} | {_seconds(one.wall_s)} | {_seconds(one.cpu_s)} | {one.held_gb:.2f}"
        f" | {one.mapped_gb:.2f} | `{draw_curve(one.curve())}` |"
        for one in usages
    ]
    told = [f"- {one.name}: {_tell(one.told)}" for one in usages if one.told]
    return [_HEAD, *rows, "", *told]


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def _tell(told: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {_show(value)}" for name, value in told.items())


def _show(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(_show, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_show(one)}" for name, one in value.items())
    return str(value)
