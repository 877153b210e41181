"""`twinlens embed`: rows in the order given, to a file, as JSON, or a line an input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

Run = Callable[..., tuple[int, str, str]]


def test_embed_writes_rows_in_the_order_given(
    cli: Run, toy_bundle: Path, pictures: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "rows.npy"
    code, _, err = cli(
        "embed", pictures["red"], pictures["blue"], "-t", "blue", "-o", out, "-b", toy_bundle
    )
    assert code == 0
    assert "3 x 16" in err
    rows = np.load(out)
    assert rows[1] @ rows[2] > 0.99 > rows[0] @ rows[2]


def test_embed_answers_json_and_shorter_rows(cli: Run, toy_bundle: Path) -> None:
    code, out, _ = cli("embed", "-t", "red", "--json", "--dimensions", 4, "-b", toy_bundle)
    assert code == 0
    assert np.shape(json.loads(out)["embeddings"]) == (1, 4)


def test_embed_prints_a_line_an_input(cli: Run, toy_bundle: Path) -> None:
    _, out, _ = cli("embed", "-t", "red", "-t", "green", "-b", toy_bundle)
    assert [line.split()[0] for line in out.splitlines()] == ["red", "green"]
