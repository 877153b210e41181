"""Writes the winners of a tuning into the two static tables, with their measurements.

What must stay true: only text of the expected form is replaced; a table of another form is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from twinlens.kernels.gpu import plan_table, tile_table
from twinlens.kernels.gpu.tile_table import Tile

TILES = Path(str(tile_table.__file__))
PLANS = Path(str(plan_table.__file__))


def write_tile(
    key: tuple[str, int, int], tile: Tile, description: str, *, path: Path = TILES
) -> None:
    """Replace a tile of aligned embeddings; its measurement is the comment above it."""
    name = f'("{key[0]}", {key[1]}, {key[2]})'
    entry = re.compile(
        rf"^(?:    # measured: .*\n)?    {re.escape(name)}: Tile\(.*\),(?:  #.*)?\n", re.MULTILINE
    )
    text = path.read_text(encoding="utf-8")
    fresh = f"    # measured: {description}\n    {name}: {_show(tile)},\n"
    # The first entry of a name is that of aligned embeddings.
    replaced, count = entry.subn(lambda _: fresh, text, count=1)
    if count != 1:
        raise ValueError(f"{path} has no entry {name} of the form that is replaced")
    path.write_text(replaced, encoding="utf-8")


def write_plans(
    chosen: Mapping[int, Sequence[Sequence[str]]], description: str, *, path: Path = PLANS
) -> None:
    """Replace the table of plans, by bytes of an element."""
    text = path.read_text(encoding="utf-8")
    table = re.compile(
        r"^# [^\n]*By bytes of an element[^\n]*\n(PLAN_TABLE: [^\n]*\{\n).*?^\}\n",
        re.MULTILINE | re.DOTALL,
    )
    lines = []
    for element_bytes, rows in chosen.items():
        lines.append(f"    {element_bytes}: (")
        lines += [f"        ({', '.join(_quote(name) for name in row)})," for row in rows]
        lines.append("    ),")
    head = (
        f"# Measured on {description}.\n"
        "# By bytes of an element; a line for each of ROWS, a plan for each of CLASSES.\n"
    )
    body = "\n".join(lines)
    found = table.search(text)
    if found is None:
        raise ValueError(f"{path} has no table of the form that is replaced")
    start = re.search(r"^# Measured on [^\n]*\n\Z", text[: found.start()], re.MULTILINE)
    before = text[: start.start() if start else found.start()]
    fresh = f"{before}{head}{found[1]}{body}\n}}\n{text[found.end() :]}"
    path.write_text(fresh, encoding="utf-8")


def write_topk_reading(*, tma: bool, path: Path = PLANS) -> None:
    """Replace the choice of how the top k reads its classes."""
    text, line = path.read_text(encoding="utf-8"), re.compile(r"^TOPK_BY_TMA = \w+$", re.MULTILINE)
    replaced, count = line.subn(f"TOPK_BY_TMA = {tma}", text)
    if count != 1:
        raise ValueError(f"{path} does not say how the top k reads its classes")
    path.write_text(replaced, encoding="utf-8")


def _show(tile: Tile) -> str:
    blocks = f", blocks={tile.blocks}" if tile.blocks != 1 else ""
    parts = f", parts={tile.parts}" if tile.parts != 1 else ""
    return f"Tile({tile.BM}, {tile.BN}, {tile.BK}, {tile.warps}, {tile.stages}{blocks}{parts})"


def _quote(name: str) -> str:
    return f'"{name}"'
