"""`twinlens embed`: rows in the order given, to a file, as JSON, or a line an input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

Make = Callable[..., Path]
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


def test_the_engine_can_be_named(cli: Run, make_toy: Make, openvino: Path) -> None:
    folder = make_toy()
    rows = [
        json.loads(cli("embed", "-t", "red", "-b", folder, "--engine", engine, "--json")[1])
        for engine in ("onnxruntime", "openvino")
    ]
    np.testing.assert_allclose(rows[0]["embeddings"], rows[1]["embeddings"], atol=1e-6)
    code, _, err = cli("embed", "-t", "red", "-b", folder, "--engine", "tpu")
    assert code == 2
    assert "choose one of auto, onnxruntime, openvino" in err
