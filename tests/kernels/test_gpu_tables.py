"""What a run on a GPU writes: winners into the tables' sources, a result onto the docs' page."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from twinlens.kernels.gpu import plan_table, tile_table
from twinlens.kernels.gpu.tile_table import Tile

_BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
DESCRIPTION = "11 ms, NVIDIA H200, torch 2.11.0, triton 3.6.0, 2026-11-27"


@pytest.fixture(scope="module", autouse=True)
def _scripts() -> Iterator[None]:
    sys.path.insert(0, str(_BENCHMARKS))
    yield
    sys.path.remove(str(_BENCHMARKS))


def _import(name: str) -> Any:
    return importlib.import_module(name)


def _read_table(path: Path, name: str) -> Any:
    content: dict[str, Any] = {"__name__": "copied"}
    exec(compile(path.read_text(), str(path), "exec"), content)
    return content[name]


def test_a_winner_replaces_its_entry_alone(tmp_path: Path) -> None:
    copied = Path(shutil.copy(str(tile_table.__file__), tmp_path / "tile_table.py"))
    sys.modules["copied"] = sys.modules[tile_table.__name__]  # where its dataclass looks
    winner = Tile(64, 256, 32, 8, 5, blocks=2)
    for _ in range(2):  # the second time over its own comment
        _import("gpu.winners").write_tile(("sweep_tma", 90, 2), winner, DESCRIPTION, path=copied)
    table = _read_table(copied, "_TABLE")
    now = {key: repr(tile) for key, tile in table.items()}
    before = {key: repr(tile) for key, tile in tile_table._TABLE.items()}
    assert now == before | {("sweep_tma", 90, 2): repr(winner)}
    assert copied.read_text().count(DESCRIPTION) == 1
    del sys.modules["copied"]


def test_an_entry_that_is_not_there_is_refused(tmp_path: Path) -> None:
    copied = Path(shutil.copy(str(tile_table.__file__), tmp_path / "tile_table.py"))
    with pytest.raises(ValueError, match="no entry"):
        _import("gpu.winners").write_tile(
            ("sweep_tma", 70, 2), Tile(64, 64, 32, 4, 2), DESCRIPTION, path=copied
        )


def test_chosen_plans_replace_the_whole_table(tmp_path: Path) -> None:
    copied = Path(shutil.copy(str(plan_table.__file__), tmp_path / "plan_table.py"))
    chosen = {2: [["small"] * 6] * 6, 4: [["library"] * 6] * 6}
    winners = _import("gpu.winners")
    for _ in range(2):
        winners.write_plans(chosen, DESCRIPTION, path=copied)
    winners.write_topk_reading(tma=True, path=copied)
    table = _read_table(copied, "PLAN_TABLE")
    assert {k: [list(row) for row in rows] for k, rows in table.items()} == chosen
    assert _read_table(copied, "TOPK_BY_TMA") is True
    assert copied.read_text().count(DESCRIPTION) == 1


def test_the_page_shows_the_committed_result() -> None:
    tables = _import("gpu.tables")
    content = json.loads(tables.RESULT.read_text())
    page = tables.PAGE.read_text()
    assert tables.find_table(page) == tables.render(content)
    assert tables.replace_table(page, tables.render(content)) == page


def test_some_parts_renew_their_rows_and_leave_the_others() -> None:
    card = {"name": "A", "torch": "2", "triton": "3", "cuda": "13", "date": "2026-11-27"}
    old: dict[str, Any] = {
        "card": card,
        "rows": [
            {"measurement": "x", "contender": "ours", "ms": 1.0},
            {"measurement": "x", "contender": "theirs", "ms": 2.0},
            {"memory": "flat", "n": 3, "ms": 4.0},
        ],
        "bars": {"fast": {"value": 1.0}, "right": {"value": 2.0}},
    }
    fresh = {"measurement": "x", "contender": "ours", "ms": 0.5, "captured_ms": 0.25}
    new = {"card": card | {"date": "2026-11-28"}, "rows": [fresh], "bars": {"fast": {"value": 3.0}}}
    merge = _import("gpu.tables").merge_results
    merged = merge(old, new)
    assert merged["rows"] == [*old["rows"][1:], fresh]
    assert merged["bars"] == {"fast": {"value": 3.0}, "right": {"value": 2.0}}
    assert merged["card"]["date"] == "2026-11-28"
    with pytest.raises(ValueError, match="Measure all parts"):
        merge(old, new | {"card": card | {"name": "B"}})


def test_a_result_is_rendered_by_kinds_of_row() -> None:
    content = {
        "card": {"name": "A", "torch": "2", "triton": "3", "cuda": "13", "date": "2026-11-27"},
        "rows": [{"what": "x", "ms": 1.5}, {"n": 3, "best": "y"}, {"what": "z", "ms": 2000.0}],
        "bars": {"fast": {"value": 3.0, "target": 2.0, "holds": False}},
    }
    assert _import("gpu.tables").render(content) == (
        "A, torch 2, triton 3, CUDA 13, 2026-11-27.\n\n"
        "| what | ms |\n| --- | --- |\n| x | 1.5 |\n| z | 2,000 |\n\n"
        "| n | best |\n| --- | --- |\n| 3 | y |\n\n"
        "| bar | measured | target | holds |\n| --- | --- | --- | --- |\n"
        "| fast | 3 | 2 | **no** |\n"
    )
